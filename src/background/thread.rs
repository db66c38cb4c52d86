//! Starting threads, and panics of functions that the program has passed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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

/// Calls a function of the program. If it panics, the panic that goes on is the error that names the function.
pub(super) fn naming<T>(function: &str, call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| resume_unwind(Box::new(panicked(function, &*panic))))
}

/// The error of a panic that went through [`naming`].
pub(super) fn named(panic: &(dyn Any + Send)) -> Error {
    panic.downcast_ref::<Error>().cloned().unwrap_or_else(|| panicked("a thread of the connection", panic))
}
