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

use crate::job::{Act, Contestant, Job, Sample};
use crate::peers::{CHUNK, REQUEST, TLS, frame, serve, start, upgrade};

/// Does the job once; those that measure memory are done by `memory`.
pub fn measure(contestant: Contestant, job: &Job) -> io::Result<Sample> {
    if job.act == Act::Connect {
        return connect(contestant, job);
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
