//! Explores schedules of connections in memory: `tests/schedules/run --help`.
//!
//! The crate is built with a scheduler behind `src/sync.rs` that decides at each lock, wait and atomic which thread goes on
//! (`src/sync/explored.rs`). Each scenario (`scenarios.rs`) runs many times, half of the schedules at random, half by PCT
//! with one to four points at which the thread of the highest priority gives way.
//!
//! # Waits with a bound
//!
//! A connection bounds waits that something else should end long before: a receiver looks at its keepalive once a second, a
//! write is cut into slices of 50 ms. Were these waits endless here, what relies on them would look like a deadlock; could
//! they end at any time, they would hide each lost wake. So time stands still while any thread can go on. What happens when
//! none can is up to the scenario:
//!
//! - `Time::Stands`: the schedule fails. Nothing in these scenarios has to wait for time, so a thread was not woken. Their
//!   connections have no timeouts.
//! - `Time::Passes`: the clock moves to the end of the next wait. For the timeouts themselves.
//!
//! In every second schedule some time passes early, while threads could go on, by the scheduler's choice: up to 0.9 s in all.
//! Then slices of writes end, and messages go uncompressed as another thread compresses for more than 50 ms. The bounds from
//! one second on, which decide how a connection ends, never end early.
//!
//! Some sizes are small in this build (`sync::bound`), so that few bytes fill a queue.

mod scenarios;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use wsync_explored::internals::explored::{CLOCK_TASK, elapsed, may_hurry, set_clock_alone};

use scenarios::{SCENARIOS, Scenario};

const HELP: &str = "\
schedules [OPTIONS] [SCENARIO…]     runs all scenarios, or those with one of these texts in their names
  --schedules N     how many in all (default 100000)
  --seed N          where they begin (default 1)
  --threads N       how many to run at once (default: as many as there are processors)
  --fail-fast       stops when one scenario has failed
  --list            the names
A schedule that fails is written to a file. WSYNC_SCHEDULE=FILE schedules SCENARIO runs it again, with the crate's log.";

/// A schedule of more steps does not end.
const MAX_STEPS: usize = 200_000;
/// Deflate needs more than the scheduler's default.
const STACK: usize = 512 * 1024;
/// In a hurried schedule, time passes early in about one of so many steps.
const STEPS_BETWEEN_HASTE: u64 = 40;
/// Points at which PCT changes its mind, plus one.
const PCT_DEPTHS: [usize; 4] = [2, 3, 4, 5];

struct Arguments {
    schedules: usize,
    seed: u64,
    threads: usize,
    is_failing_fast: bool,
    scenarios: Vec<&'static Scenario>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match std::env::var("WSYNC_SCHEDULE") {
        Ok(file) => replay(&arguments, &file),
        Err(_) => explore(&arguments),
    }
}

fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::prelude::*;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = Arguments { schedules: 100_000, seed: 1, threads, is_failing_fast: false, scenarios: vec![] };
    let mut names = vec![];
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("schedules") => arguments.schedules = parser.value()?.parse()?,
            Long("seed") => arguments.seed = parser.value()?.parse()?,
            Long("threads") => arguments.threads = parser.value()?.parse()?,
            Long("fail-fast") => arguments.is_failing_fast = true,
            Long("list") => {
                SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
                return Ok(None);
            }
            Long("help") => {
                println!("{HELP}");
                return Ok(None);
            }
            Value(name) => names.push(name.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    let is_asked_for = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| scenario.name.contains(name));
    arguments.scenarios = SCENARIOS.iter().filter(is_asked_for).collect();
    if arguments.scenarios.is_empty() {
        return Err(format!("no scenario has a name with {names:?}").into());
    }
    Ok(Some(arguments))
}

/// One scenario under one scheduler.
struct Job {
    scenario: &'static Scenario,
    /// `None`: random.
    pct_depth: Option<usize>,
    schedules: usize,
    seed: u64,
}

fn explore(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    // Short jobs, so that all threads are busy to the end, and each scenario has its turn early. Half of them are random.
    let schedulers = PCT_DEPTHS.iter().flat_map(|depth| [None, Some(*depth)]);
    let jobs: Vec<(&'static Scenario, Option<usize>)> =
        schedulers.flat_map(|depth| arguments.scenarios.iter().map(move |scenario| (*scenario, depth))).collect();
    let schedules = arguments.schedules.div_ceil(jobs.len());
    let jobs: Vec<Job> = jobs
        .into_iter()
        .enumerate()
        .map(|(number, (scenario, pct_depth))| {
            let seed = arguments.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
            Job { scenario, pct_depth, schedules, seed }
        })
        .collect();
    let next = AtomicUsize::new(0);
    let (failed, times) = (Mutex::new(Vec::new()), Mutex::new(vec![0.0; SCENARIOS.len()]));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let is_skipped = {
                        let failed = failed.lock().unwrap();
                        failed.contains(&job.scenario.name) || arguments.is_failing_fast && !failed.is_empty()
                    };
                    if !is_skipped && !job.run() {
                        failed.lock().unwrap().push(job.scenario.name);
                    }
                    let index = SCENARIOS.iter().position(|scenario| scenario.name == job.scenario.name).unwrap();
                    times.lock().unwrap()[index] += start.elapsed().as_secs_f64();
                }
            });
        }
    });
    let (mut failed, times) = (failed.into_inner().unwrap(), times.into_inner().unwrap());
    failed.sort_unstable();
    failed.dedup();
    let schedules_each = schedules * PCT_DEPTHS.len() * 2;
    for (scenario, seconds) in SCENARIOS.iter().zip(times).filter(|(_, seconds)| *seconds > 0.0) {
        let outcome = if failed.contains(&scenario.name) { "FAILED" } else { "passed" };
        println!("{outcome} {:<40} {:>7.0} schedules/s", scenario.name, schedules_each as f64 / seconds);
    }
    let (total, seconds) = (schedules * jobs.len(), start.elapsed().as_secs_f64());
    println!(
        "{total} schedules of {} scenarios in {seconds:.0} s ({:.0} a second), seed {}: {} scenarios failed",
        arguments.scenarios.len(),
        total as f64 / seconds,
        arguments.seed,
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Job {
    /// Whether no schedule failed.
    fn run(&self) -> bool {
        let scheduler: Box<dyn Scheduler + Send> = match self.pct_depth {
            None => Box::new(RandomScheduler::new_from_seed(self.seed, self.schedules)),
            Some(depth) => Box::new(PctScheduler::new_from_seed(self.seed, depth, self.schedules)),
        };
        let mut explorer = Explorer::new(scheduler, Haste::EverySecond);
        explorer.random = self.seed;
        let body = self.scenario.body();
        // On a thread of its own: the panics of a schedule that failed may leave the thread as one that is panicking.
        let result = std::thread::scope(|scope| scope.spawn(|| Runner::new(explorer, config()).run(body)).join());
        if result.is_err() {
            let scheduler = self.pct_depth.map_or("random".to_string(), |depth| format!("PCT, depth {depth}"));
            eprintln!("FAILED {} ({scheduler}, seed {})", self.scenario.name, self.seed);
        }
        result.is_ok()
    }
}

fn replay(arguments: &Arguments, file: &str) -> ExitCode {
    let [scenario] = arguments.scenarios[..] else {
        eprintln!("name the scenario of the schedule, and no other");
        return ExitCode::from(2);
    };
    log::set_logger(&Logger).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let scheduler = Box::new(ReplayScheduler::new_from_file(file).expect("the file of a schedule"));
    let mut config = config();
    config.failure_persistence = FailurePersistence::None;
    Runner::new(Explorer::new(scheduler, Haste::AsRecorded), config).run(scenario.body());
    println!("passed {}", scenario.name);
    ExitCode::SUCCESS
}

/// Shows which thread did what.
struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let thread = usize::from(shuttle::thread::current().id());
        eprintln!("{:>8.3?} thread {thread} {}: {}", elapsed(), record.target(), record.args());
    }

    fn flush(&self) {}
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.failure_persistence = FailurePersistence::File(Some(std::env::temp_dir()));
    config.silence_warnings = true;
    config
}

/// When time passes although threads can go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    EverySecond,
    /// The schedule that is replayed says so.
    AsRecorded,
}

/// A scheduler that chooses among all threads but the clock's, and the clock's when there is no other.
struct Explorer {
    inner: Box<dyn Scheduler + Send>,
    haste: Haste,
    executions: u64,
    random: u64,
}

impl Explorer {
    fn new(inner: Box<dyn Scheduler + Send>, haste: Haste) -> Explorer {
        Explorer { inner, haste, executions: 0, random: 0 }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn hurries(&mut self) -> bool {
        self.executions % 2 == 0 && self.random() % STEPS_BETWEEN_HASTE == 0 && may_hurry()
    }
}

impl Scheduler for Explorer {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.executions += 1;
        self.inner.new_execution()
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, is_yielding: bool) -> Option<TaskId> {
        let clock = TaskId::from(CLOCK_TASK);
        let chosen = if self.haste == Haste::AsRecorded {
            self.inner.next_task(runnable, current, is_yielding)
        } else if runnable.len() > 1 && runnable.iter().any(|task| task.id() == clock) {
            if self.hurries() {
                Some(clock)
            } else {
                let others: Vec<&Task> = runnable.iter().copied().filter(|task| task.id() != clock).collect();
                self.inner.next_task(&others, current, is_yielding)
            }
        } else {
            self.inner.next_task(runnable, current, is_yielding)
        };
        if chosen == Some(clock) {
            set_clock_alone(runnable.len() == 1);
        }
        chosen
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}
