//! `CONNECT` (RFC 9110 §9.3.6).
use super::super::target::Target;
use super::Wire;
use crate::error::Result;

pub(super) fn connect(_wire: &Wire<'_>, _target: &Target) -> Result<()> {
    Ok(())
}
