//! What `sync.rs` names, on a scheduler that decides at each lock, wait and atomic which thread goes on (the crate
//! `shuttle`), and on a clock of its own.
//!
//! All threads of one schedule run on one thread of the system, in turns. Time stands still while any of them can go on.
//! When none can, the clock's thread moves the time to the end of the wait that ends first ([`Time::Passes`]), or stops
//! itself, so that shuttle reports a deadlock ([`Time::Stands`]): a thread that only the end of its wait wakes was not woken
//! when it should have been. So a lost wake is found also behind waits that are bounded for safety.
//!
//! The scheduler may also choose to let a little time pass early ([`HASTE`]): then short waits end although others could
//! go on.

use std::cell::RefCell;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

pub use shuttle::sync::atomic::{AtomicBool, AtomicU64};
pub use shuttle::sync::{Mutex, MutexGuard};
pub use shuttle::thread::ThreadId;
use shuttle::thread::{self, Result as ThreadResult};

/// The task that moves the time. The program's main thread is task 0, and starts it first.
pub const CLOCK_TASK: usize = 1;

/// How far time may pass while threads can go on: less than the bounds that decide an outcome (a second for a close frame).
pub const HASTE: Duration = Duration::from_millis(900);

/// How far time may pass in all: a schedule that needs more does not end.
const LONGEST: Duration = Duration::from_secs(600);

/// Whether time may pass when no thread can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Everything must be done without: each thread is woken by another one.
    Stands,
    Passes,
}

struct Clock {
    now: Duration,
    time: Time,
    timers: Vec<Timer>,
    next_timer: u64,
    is_stopped: bool,
    /// Whether no other thread could go on when the clock's was chosen last.
    is_alone: bool,
    /// How many threads of this crate run.
    threads: usize,
    /// Notified when one of them ends.
    ended: Option<Arc<Ended>>,
}

#[derive(Default)]
struct Ended {
    lock: Mutex<()>,
    changed: Condvar,
}

/// A bounded wait.
struct Timer {
    number: u64,
    end: Duration,
    changed: Arc<shuttle::sync::Condvar>,
    /// Nobody else wakes it.
    is_sleep: bool,
    /// It was notified that it is over, when it could not have missed that.
    is_notified: bool,
}

std::thread_local! {
    // One for each thread of the system: it runs all threads of a schedule.
    static CLOCK: RefCell<Clock> = const {
        RefCell::new(Clock {
            now: Duration::ZERO,
            time: Time::Stands,
            timers: Vec::new(),
            next_timer: 0,
            is_stopped: false,
            is_alone: false,
            threads: 0,
            ended: None,
        })
    };
}

fn with_clock<T>(body: impl FnOnce(&mut Clock) -> T) -> T {
    CLOCK.with(|clock| body(&mut clock.borrow_mut()))
}

/// Starts the clock of one schedule. The first thing that its main thread does.
pub fn start_clock(time: Time) {
    let before = with_clock(|clock| {
        clock.now = Duration::ZERO;
        clock.time = time;
        clock.is_stopped = false;
        clock.threads = 0;
        (std::mem::take(&mut clock.timers), clock.ended.replace(Arc::default()))
    });
    drop(before);
    let clock = thread::spawn(run_clock);
    assert_eq!(usize::from(clock.thread().id()), CLOCK_TASK, "the clock is the first thread of a schedule");
}

/// Ends the clock's thread. The last thing that the main thread of a schedule does, when every other one has ended.
pub fn stop_clock() {
    with_clock(|clock| clock.is_stopped = true);
}

/// Says whether no other thread can go on: the scheduler calls it when it chooses the clock's thread.
pub fn set_clock_alone(is_alone: bool) {
    with_clock(|clock| clock.is_alone = is_alone);
}

/// Whether the next wait that ends does so within [`HASTE`].
pub fn may_hurry() -> bool {
    with_clock(|clock| clock.next_end().is_some_and(|end| end <= HASTE))
}

/// Waits until every thread that this crate has started has ended.
pub fn wait_for_threads() {
    let ended = with_clock(|clock| clock.ended.clone()).expect("set when the clock starts");
    let mut guard = ended.lock.lock().unwrap_or_else(PoisonError::into_inner);
    while with_clock(|clock| clock.threads > 0) {
        guard = ended.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

/// The time since the schedule began.
pub fn elapsed() -> Duration {
    with_clock(|clock| clock.now)
}

/// The clock's thread.
fn run_clock() {
    loop {
        thread::yield_now();
        if with_clock(|clock| clock.is_stopped) {
            return;
        }
        let Some(due) = with_clock(Clock::next_due) else {
            if with_clock(|clock| clock.is_alone) {
                // Nothing can go on, and no wait ends, or none should have to: shuttle reports the deadlock.
                thread::park();
            }
            continue;
        };
        due.iter().for_each(|changed| changed.notify_all());
    }
}

impl Clock {
    fn next_end(&self) -> Option<Duration> {
        self.timers.iter().filter(|timer| !timer.is_notified).map(|timer| timer.end).min()
    }

    /// Moves the time to the end of the next wait; returns what the waits that are over wait for.
    fn next_due(&mut self) -> Option<Vec<Arc<shuttle::sync::Condvar>>> {
        let end = self.next_end()?;
        if end > self.now {
            let is_allowed = match self.time {
                Time::Stands => !self.is_alone || self.timers.iter().any(|timer| timer.is_sleep),
                Time::Passes => end < LONGEST,
            };
            if !is_allowed {
                eprintln!("no thread goes on before {end:?}: one was not woken, and only its bound would end its wait");
                return None;
            }
            self.now = end;
        }
        let (now, is_alone) = (self.now, self.is_alone);
        let due = self.timers.iter_mut().filter(|timer| timer.end <= now && !timer.is_notified);
        Some(
            due.map(|timer| {
                // If other threads can go on, it may be about to wait.
                timer.is_notified = is_alone;
                Arc::clone(&timer.changed)
            })
            .collect(),
        )
    }
}

/// `std::sync::Condvar`, of which bounded waits end by the clock.
#[derive(Debug, Default)]
pub struct Condvar(Arc<shuttle::sync::Condvar>);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    /// The second value is nobody's concern here: who waits looks at the clock.
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, left: Duration) -> LockResult<(MutexGuard<'a, T>, ())> {
        self.wait_by_clock(guard, left, false)
    }

    fn wait_by_clock<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        left: Duration,
        is_sleep: bool,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        let number = with_clock(|clock| {
            clock.next_timer += 1;
            let (number, end) = (clock.next_timer, clock.now + left);
            clock.timers.push(Timer { number, end, changed: Arc::clone(&self.0), is_sleep, is_notified: false });
            number
        });
        let waited = self.0.wait(guard);
        with_clock(|clock| clock.timers.retain(|timer| timer.number != number));
        waited.map(|guard| (guard, ())).map_err(|error| PoisonError::new((error.into_inner(), ())))
    }
}

/// `std::time::Instant`, by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Instant {
        Instant(elapsed())
    }

    pub fn elapsed(&self) -> Duration {
        elapsed() - self.0
    }

    pub fn checked_add(&self, length: Duration) -> Option<Instant> {
        self.0.checked_add(length).map(Instant)
    }

    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, length: Duration) -> Instant {
        Instant(self.0 + length)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.0 - earlier.0
    }
}

/// `std::sync::OnceLock`, at each use of which another thread may go on.
#[derive(Debug)]
pub struct OnceLock<T>(std::sync::OnceLock<T>);

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

impl<T> OnceLock<T> {
    pub const fn new() -> OnceLock<T> {
        OnceLock(std::sync::OnceLock::new())
    }

    pub fn get(&self) -> Option<&T> {
        switch();
        self.0.get()
    }

    pub fn set(&self, value: T) -> Result<(), T> {
        switch();
        self.0.set(value)
    }

    /// `init` does not wait.
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        switch();
        self.0.get_or_init(init)
    }
}

/// Another thread may go on.
fn switch() {
    AtomicBool::new(false).load(std::sync::atomic::Ordering::SeqCst);
}

/// `std::thread::JoinHandle`.
pub struct JoinHandle<T> {
    handle: thread::JoinHandle<T>,
    is_finished: Arc<AtomicBool>,
}

impl<T> JoinHandle<T> {
    pub fn join(self) -> ThreadResult<T> {
        self.handle.join()
    }

    pub fn is_finished(&self) -> bool {
        self.is_finished.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// A thread that is running, until it is dropped.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        let ended = with_clock(|clock| {
            clock.threads = clock.threads.saturating_sub(1);
            clock.ended.clone()
        });
        if let Some(ended) = ended {
            drop(ended.lock.lock());
            ended.changed.notify_all();
        }
    }
}

pub fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let is_finished = Arc::new(AtomicBool::new(false));
    let running = Running(Arc::clone(&is_finished));
    with_clock(|clock| clock.threads += 1);
    let body = move || {
        let _running = running;
        body()
    };
    let handle = thread::Builder::new().name(name.to_string()).spawn(body).expect("shuttle has threads");
    JoinHandle { handle, is_finished }
}

pub fn this_thread() -> ThreadId {
    thread::current().id()
}

/// Waits by the clock.
pub fn sleep(length: Duration) {
    let (state, changed) = (Mutex::new(()), Condvar::new());
    let deadline = Instant::now() + length;
    let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        guard = changed.wait_by_clock(guard, left, true).unwrap_or_else(PoisonError::into_inner).0;
        if Instant::now() >= deadline {
            return;
        }
    }
}
