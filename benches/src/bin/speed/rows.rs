//! The measurements and their aims.

use crate::job::{Act, Contestant, Job, Payload, Sample};

/// A row of the table.
pub struct Row {
    pub name: &'static str,
    pub job: Job,
    pub metric: Metric,
    /// The aim as a ratio to tungstenite.
    pub of_tungstenite: Option<f64>,
    /// The aim as a ratio to the bare socket.
    pub of_bare: Option<f64>,
}

/// The measured value that counts.
#[derive(Clone, Copy, PartialEq)]
pub enum Metric {
    /// Processor time, user and system, of the threads under measurement.
    Cpu,
    /// Wall time.
    Wall,
    /// Memory per connection.
    Memory,
}

impl Metric {
    pub fn of(self, sample: &Sample) -> f64 {
        match self {
            Metric::Cpu => sample.cpu,
            Metric::Wall => sample.wall,
            Metric::Memory => sample.memory,
        }
    }
}

impl Row {
    pub fn contestants(&self) -> impl Iterator<Item = Contestant> {
        Contestant::ALL.into_iter().filter(|contestant| contestant.can(&self.job))
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const fn job(act: Act, size: usize, payload: Payload, count: usize) -> Job {
    Job { act, size, payload, count, tls: false }
}

const fn over_tls(act: Act, size: usize, count: usize) -> Job {
    Job { tls: true, ..job(act, size, Payload::Binary, count) }
}

const fn row(name: &'static str, job: Job, metric: Metric, of_tungstenite: Option<f64>, of_bare: Option<f64>) -> Row {
    Row { name, job, metric, of_tungstenite, of_bare }
}

use Act::{Batch, Burst, Connect, Echo, Hold, Receive, ReceiveInto, Send, Threads};
use Metric::{Cpu, Memory, Wall};
use Payload::{Ascii, Binary, Greek};

pub const ROWS: [Row; 21] = [
    row("receive 16 B text", job(Receive, 16, Ascii, 1_000_000), Cpu, Some(0.8), None),
    row("receive 16 B binary", job(Receive, 16, Binary, 1_000_000), Cpu, Some(0.8), None),
    row("receive 16 B into a buffer", job(ReceiveInto, 16, Binary, 1_000_000), Cpu, Some(0.4), None),
    row("receive 1 KiB", job(Receive, KIB, Binary, 200_000), Cpu, Some(0.9), None),
    row("receive 64 KiB", job(Receive, 64 * KIB, Binary, 5000), Cpu, Some(0.9), Some(1.2)),
    row("receive 4 MiB", job(Receive, 4 * MIB, Binary, 80), Cpu, Some(1.0), Some(1.2)),
    row("receive 64 KiB of Greek text", job(Receive, 64 * KIB, Greek, 3000), Cpu, Some(0.9), None),
    row("send 16 B", job(Send, 16, Binary, 40_000), Cpu, Some(1.0), Some(1.1)),
    row("send 1 KiB", job(Send, KIB, Binary, 40_000), Cpu, Some(1.0), Some(1.1)),
    row("send 16 B, 1000 in a batch", job(Batch(1000), 16, Binary, 1000), Cpu, Some(0.7), None),
    row("send 64 KiB", job(Send, 64 * KIB, Binary, 5000), Cpu, Some(1.0), Some(1.15)),
    row("send 4 MiB", job(Send, 4 * MIB, Binary, 80), Cpu, Some(0.85), Some(1.2)),
    row("8 threads send 64 B each", job(Threads(8), 64, Binary, 200_000), Wall, Some(0.25), None),
    row("echo 16 B", job(Echo, 16, Binary, 5000), Wall, Some(1.0), Some(1.05)),
    row("echo 16 B, TLS", over_tls(Echo, 16, 5000), Wall, Some(1.0), Some(1.05)),
    row("receive 64 KiB, TLS", over_tls(Receive, 64 * KIB, 1500), Cpu, Some(1.0), Some(1.15)),
    row("send 64 KiB, TLS", over_tls(Send, 64 * KIB, 1500), Cpu, Some(1.0), Some(1.15)),
    row("memory after an echo", job(Hold, 16, Binary, 500), Memory, Some(0.1), None),
    row("memory after a burst", job(Burst, 64 * KIB, Binary, 50), Memory, Some(0.1), None),
    row("connect", job(Connect, 0, Binary, 100), Wall, Some(1.0), None),
    row("connect, processor time", job(Connect, 0, Binary, 100), Cpu, Some(1.0), None),
];
