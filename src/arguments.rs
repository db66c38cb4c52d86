//! Checks of what a program passes, before any I/O.

use std::time::Duration;

use crate::close_code::CloseCode;
use crate::error::{Error, ErrorKind, Result};

/// Refuses a code or reason that must not stand in a close frame (RFC 6455 §5.5.1), before anything is sent.
pub(crate) fn check_close(code: CloseCode, reason: &str) -> Result<()> {
    if !code.is_sendable() {
        let hint = "use 1000 to 1003, 1007 to 1014, or 3000 to 4999 for codes of your own";
        return Err(Error::new(ErrorKind::InvalidInput, format!("close code {code} must not be sent: {hint}")));
    }
    if reason.len() > 123 {
        let text = format!("a close reason may have at most 123 bytes, this one has {}: shorten it", reason.len());
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// Refuses a bound that nothing can meet.
pub(crate) fn check_timeout(name: &str, timeout: Option<Duration>) -> Result<()> {
    if timeout == Some(Duration::ZERO) {
        let text = format!("{name} is zero, and no call is that fast: use a longer time, or None for no bound");
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_reasons_that_may_be_sent() {
        for code in [1005, 1006, 999, 1015, 5000] {
            assert_eq!(check_close(code.into(), "").unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(check_close(CloseCode::NORMAL, &"x".repeat(123)).is_ok());
        assert!(check_close(CloseCode::NORMAL, &"x".repeat(124)).is_err());
    }
}
