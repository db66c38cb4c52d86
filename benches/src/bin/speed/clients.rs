//! The contestants; each does the same jobs.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use cpu_time::ThreadTime;
use fastwebsockets::{FragmentCollector, Frame, Payload as FastPayload, Role};
use tungstenite::{Bytes, Message, Utf8Bytes};
use wsync::{Compression, WebSocket};

use crate::memory;
use crate::peers::{CHUNK, REQUEST, TLS, frame, serve, start, upgrade};

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

/// Does the job once.
pub fn measure(contestant: Contestant, job: &Job) -> io::Result<Sample> {
    match job.act {
        Act::Hold | Act::Burst => return memory::measure(contestant, job),
        Act::Connect => return connect(contestant, job),
        _ => {}
    }
    let (stream, peer) = start(job)?;
    let sample = match (contestant, job.act) {
        (_, Act::Threads(threads)) => {
            let clock = Clock::start();
            let cpu = match contestant {
                Contestant::Wsync => {
                    let ws = wsync(job, stream);
                    share(job, threads, |message| ws.send(message).unwrap())
                }
                _ => {
                    let ws = Mutex::new(tungstenite(stream));
                    let message = tungstenite_message(job);
                    share(job, threads, |_| ws.lock().unwrap().send(message.clone()).unwrap())
                }
            };
            // Until the peer has received everything.
            peer.join().expect("it reads on");
            return Ok(Sample { cpu, ..clock.stop(job.count) });
        }
        (Contestant::Bare, _) if job.tls => with_bare(job, TLS.1.connect("localhost", stream).unwrap()),
        (Contestant::Bare, _) => with_bare(job, stream),
        (Contestant::Wsync, _) => with_wsync(job, wsync(job, stream)),
        (Contestant::Tungstenite, _) if job.tls => {
            with_tungstenite(job, tungstenite(TLS.1.connect("localhost", stream).unwrap()))
        }
        (Contestant::Tungstenite, _) => with_tungstenite(job, tungstenite(stream)),
        (Contestant::Fastwebsockets, _) => with_fastwebsockets(job, stream),
    };
    peer.join().expect("it ends with the connection");
    Ok(sample)
}

struct Clock {
    cpu: ThreadTime,
    wall: Instant,
}

impl Clock {
    fn start() -> Clock {
        Clock { cpu: ThreadTime::now(), wall: Instant::now() }
    }

    fn stop(self, count: usize) -> Sample {
        let count = count as f64;
        let (cpu, wall) = (self.cpu.elapsed().as_secs_f64(), self.wall.elapsed().as_secs_f64());
        Sample { cpu: cpu / count, wall: wall / count, memory: 0.0 }
    }
}

/// Runs `step` to warm up, and then as often as the job says.
fn repeat(job: &Job, mut step: impl FnMut()) -> Sample {
    for _ in 0..warm_up(job) {
        step();
    }
    let clock = Clock::start();
    for _ in 0..job.count {
        step();
    }
    clock.stop(match job.act {
        Act::Batch(messages) => job.count * messages,
        _ => job.count,
    })
}

fn warm_up(job: &Job) -> usize {
    job.count / 10
}

/// Calls `send` from many threads; returns the time per message.
fn share(job: &Job, threads: usize, send: impl Fn(&[u8]) + Sync) -> f64 {
    let message = job.message();
    let each = || {
        let cpu = ThreadTime::now();
        (0..job.count / threads).for_each(|_| send(&message));
        cpu.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
        all.into_iter().map(|one| one.join().expect("it sends")).sum::<f64>() / job.count as f64
    })
}

fn with_bare(job: &Job, mut stream: impl Read + Write) -> Sample {
    upgrade(&mut stream).unwrap();
    let (outgoing, incoming) = (frame(job, true), frame(job, false));
    let mut bytes = vec![0; CHUNK];
    let mut there = 0;
    let mut receive = |stream: &mut dyn Read| {
        while there < incoming.len() {
            there += stream.read(&mut bytes).unwrap();
        }
        there -= incoming.len();
    };
    match job.act {
        Act::Receive => repeat(job, || receive(&mut stream)),
        Act::Echo => repeat(job, || {
            stream.write_all(&outgoing).unwrap();
            receive(&mut stream);
        }),
        Act::Batch(messages) => {
            let outgoing = outgoing.repeat(messages);
            repeat(job, || stream.write_all(&outgoing).unwrap())
        }
        _ => repeat(job, || stream.write_all(&outgoing).unwrap()),
    }
}

pub fn wsync(job: &Job, stream: TcpStream) -> WebSocket {
    let options = WebSocket::options().compression(Compression::off());
    let opened = if job.tls {
        options.tls(TLS.1.clone()).connect_over("wss://localhost/", stream)
    } else {
        options.connect_over("ws://localhost/", stream)
    };
    opened.unwrap()
}

fn with_wsync(job: &Job, ws: WebSocket) -> Sample {
    let bytes = job.message();
    let messages = match job.act {
        Act::Batch(messages) => vec![&bytes[..]; messages],
        _ => Vec::new(),
    };
    let mut buffer = Vec::new();
    match job.act {
        Act::Receive => repeat(job, || {
            black_box(ws.recv().unwrap().unwrap());
        }),
        Act::ReceiveInto => repeat(job, || {
            ws.recv_into(&mut buffer).unwrap();
            black_box(&mut buffer);
        }),
        Act::Echo => repeat(job, || {
            ws.send(&bytes).unwrap();
            black_box(ws.recv().unwrap().unwrap());
        }),
        Act::Batch(_) => repeat(job, || ws.send_all(messages.iter().copied()).unwrap()),
        _ => repeat(job, || ws.send(&bytes).unwrap()),
    }
}

pub fn tungstenite<S: Read + Write>(stream: S) -> tungstenite::WebSocket<S> {
    tungstenite::client("ws://localhost/", stream).unwrap_or_else(|_| panic!("the peer answers")).0
}

/// A message that can be cloned without a copy.
fn tungstenite_message(job: &Job) -> Message {
    match Bytes::from(job.message()) {
        bytes if job.is_text() => Message::Text(Utf8Bytes::try_from(bytes).unwrap()),
        bytes => Message::Binary(bytes),
    }
}

fn with_tungstenite(job: &Job, mut ws: tungstenite::WebSocket<impl Read + Write>) -> Sample {
    let message = tungstenite_message(job);
    match job.act {
        Act::Receive | Act::ReceiveInto => repeat(job, || {
            black_box(ws.read().unwrap());
        }),
        Act::Echo => repeat(job, || {
            ws.send(message.clone()).unwrap();
            black_box(ws.read().unwrap());
        }),
        Act::Batch(messages) => repeat(job, || {
            for _ in 0..messages {
                ws.write(message.clone()).unwrap();
            }
            ws.flush().unwrap();
        }),
        _ => repeat(job, || ws.send(message.clone()).unwrap()),
    }
}

fn with_fastwebsockets(job: &Job, mut stream: TcpStream) -> Sample {
    upgrade(&mut stream).unwrap();
    stream.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let message = job.message();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let mut ws = FragmentCollector::new(fastwebsockets::WebSocket::after_handshake(stream, Role::Client));
        let mut clock = Clock::start();
        for step in 0..warm_up(job) + job.count {
            if step == warm_up(job) {
                clock = Clock::start();
            }
            if job.act != Act::Receive {
                let payload = FastPayload::Borrowed(&message);
                ws.write_frame(Frame::binary(payload)).await.unwrap();
            }
            if job.act != Act::Send {
                black_box(ws.read_frame().await.unwrap());
            }
        }
        clock.stop(job.count)
    })
}

fn connect(contestant: Contestant, job: &Job) -> io::Result<Sample> {
    let address = serve()?;
    let url = format!("ws://{address}/");
    // Kept open: closing is not measured.
    let (mut bare, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let options = WebSocket::options().compression(Compression::off());
    Ok(repeat(job, || match contestant {
        Contestant::Wsync => ours.push(options.connect(&url).unwrap()),
        Contestant::Tungstenite => theirs.push(tungstenite::connect(&url).unwrap()),
        _ => {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(REQUEST).unwrap();
            // The answer is one segment.
            assert!(stream.read(&mut [0; 1024]).unwrap() > 100);
            bare.push(stream);
        }
    }))
}
