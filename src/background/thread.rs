//! Starting threads, and panics of functions that the program has passed.

use std::any::Any;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{self, JoinHandle};

/// Starts a thread. If the system gives none, `run` is dropped.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    sync::spawn(name, run)
        .map_err(|error| Error::caused(ErrorKind::Io, format_args!("the system gives no thread for the {name}"), error))
}

/// The error for a panic of the program's own function.
pub(super) fn panicked(function: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Closed, format!("{function} panicked: {}", text.unwrap_or("no text")))
}
