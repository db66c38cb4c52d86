//! What is measured: who does what.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contestant {
    /// Only reads and writes the same bytes.
    Bare,
    Wsync,
    Tungstenite,
    Fastwebsockets,
}

/// What a client does repeatedly.
#[derive(Clone, Debug)]
pub struct Job {
    pub act: Act,
    /// A message's size in bytes.
    pub size: usize,
    pub payload: Payload,
    /// Repetitions in one measurement.
    pub count: usize,
    pub tls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// Receives a message as an owned value.
    Receive,
    /// Receives a message into a buffer that is used again.
    ReceiveInto,
    Send,
    /// Sends this many messages together.
    Batch(usize),
    /// Sends a message and receives one.
    Echo,
    /// This many threads send on one connection.
    Threads(usize),
    Connect,
    /// Holds open connections after one echo on each.
    Hold,
    /// Holds open connections after many echoes of large messages on each and an idle time.
    Burst,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Payload {
    Binary,
    Ascii,
    /// Text with two bytes per character, except spaces.
    Greek,
}

/// Seconds per message, or KiB per connection.
#[derive(Default)]
pub struct Sample {
    pub cpu: f64,
    pub wall: f64,
    pub memory: f64,
}

impl Job {
    pub fn is_text(&self) -> bool {
        self.payload != Payload::Binary
    }

    pub fn message(&self) -> Vec<u8> {
        match self.payload {
            Payload::Binary => (0..self.size).map(|at| at as u8).collect(),
            Payload::Ascii => (0..self.size).map(|at| b'a' + (at % 26) as u8).collect(),
            Payload::Greek => {
                let mut bytes = "πάντα ῥεῖ καὶ οὐδὲν μένει ".repeat(self.size / 8).into_bytes();
                bytes.truncate(self.size);
                let whole = bytes.utf8_chunks().map(|chunk| chunk.valid().len()).next().unwrap_or(0);
                bytes[whole..].fill(b'.');
                bytes
            }
        }
    }
}

impl Contestant {
    pub const ALL: [Contestant; 4] =
        [Contestant::Bare, Contestant::Wsync, Contestant::Tungstenite, Contestant::Fastwebsockets];

    pub fn named(name: &str) -> Contestant {
        Contestant::ALL.into_iter().find(|one| one.name() == name).expect("a contestant's name")
    }

    pub fn name(self) -> &'static str {
        match self {
            Contestant::Bare => "bare socket",
            Contestant::Wsync => "wsync",
            Contestant::Tungstenite => "tungstenite",
            Contestant::Fastwebsockets => "fastwebsockets",
        }
    }

    /// Whether it can do the job. fastwebsockets is for tokio: only jobs of one task.
    pub fn can(self, job: &Job) -> bool {
        match self {
            Contestant::Bare => !matches!(job.act, Act::ReceiveInto | Act::Threads(_) | Act::Hold | Act::Burst),
            Contestant::Wsync | Contestant::Tungstenite => true,
            Contestant::Fastwebsockets => !job.tls && matches!(job.act, Act::Receive | Act::Send | Act::Echo),
        }
    }
}
