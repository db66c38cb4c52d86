//! What the crate logs. A process has one logger, so all tests of a binary share this one.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, Once};

/// Strings that stand for secrets in the tests. None of them may ever be logged.
pub const SECRETS: [&str; 10] = [
    "hunter2",
    "aHVudGVy",         // hunter in Base64
    "dXNlcjpodW50ZXIy", // user:hunter2 in Base64
    "s3cr3t-token",
    "s3cr3t-cookie",
    "s3cr3t-query",
    "s3cr3t-payload",
    "pr0xy-pass",
    "pr0xy@pass",
    "pr0xy%40pass",
];

thread_local! {
    static CAPTURE: RefCell<Capture> = const { RefCell::new(Capture(None)) };
}

/// Lines that any thread logged although they have a secret in them.
static LEAKS: Mutex<String> = Mutex::new(String::new());

/// What the threads of one test log: the thread that called [`Capture::start`], and all threads that
/// [`spawn`](super::spawn) started from it.
#[derive(Clone, Default)]
pub struct Capture(Option<Arc<Mutex<String>>>);

impl Capture {
    pub fn start() -> Capture {
        static LOGGER: Once = Once::new();
        LOGGER.call_once(|| {
            log::set_logger(&Logger).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
        });
        let capture = Capture(Some(Arc::default()));
        capture.clone().enter();
        capture
    }

    /// The one that this thread belongs to; it may be none.
    pub fn current() -> Capture {
        CAPTURE.with_borrow(Capture::clone)
    }

    /// From now on this thread belongs to it.
    pub fn enter(self) {
        CAPTURE.set(self);
    }

    /// What was logged so far. Fails if a secret was logged, by whatever thread of the process.
    pub fn lines(&self) -> String {
        let leaks = LEAKS.lock().unwrap();
        assert_eq!(*leaks, "", "secrets in the log");
        self.0.as_ref().unwrap().lock().unwrap().clone()
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}\n", record.level(), record.target(), record.args());
        if SECRETS.iter().any(|secret| line.contains(secret)) {
            *LEAKS.lock().unwrap() += &line;
        }
        if let Some(lines) = Capture::current().0 {
            *lines.lock().unwrap() += &line;
        }
    }

    fn flush(&self) {}
}
