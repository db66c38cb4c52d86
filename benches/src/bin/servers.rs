//! An echo server with a thread for each connection, on this crate and on tungstenite: message rate, processor time and
//! memory with many connections at once.
//!
//! ```sh
//! cargo run --release -p wsync-benches --bin servers                # 1,000 connections, 5 rounds; needs `ulimit -n` above 2,100
//! cargo run --release -p wsync-benches --bin servers -- 4000 9      # 4,000 connections, 9 rounds
//! ```
//!
//! Each round starts both servers, each in a process of its own, and loads them in turns of a quarter of a second, so that
//! both see the same machine. The load comes from this process, over bare sockets without compression; every connection has
//! one message under way at a time. Printed are the medians of the rounds, also of the ratios. Needs Linux's `/proc`.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

type Server = (&'static str, fn(TcpStream));

const SERVERS: [Server; 2] = [("wsync", with_wsync), ("tungstenite", with_tungstenite)];
const SIZES: [usize; 2] = [64, 16 * 1024];
/// The length of one server's turn.
const SLICE: Duration = Duration::from_millis(250);
/// Turns of each server in a round.
const SLICES: usize = 8;
/// One thread for each processor.
const LOADERS: usize = 2;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some((_, serve_one)) = SERVERS.iter().find(|(name, _)| arguments.first().is_some_and(|given| given == name))
    {
        return serve(*serve_one);
    }
    let mut numbers = arguments.iter().map(|argument| argument.parse().expect("give it: CONNECTIONS ROUNDS"));
    let (connections, rounds) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(5));

    let mut rows: Vec<Row> = Vec::new();
    for round in 0..rounds {
        for (at, (name, values)) in measure(connections, round)?.into_iter().enumerate() {
            if round == 0 {
                rows.push(Row { name, samples: Vec::new() });
            }
            rows[at].samples.push(values);
        }
    }
    println!("{connections} connections, medians of {rounds} rounds:");
    println!("{:<34} {:>12} {:>12} {:>7}", "", SERVERS[0].0, SERVERS[1].0, "ratio");
    for Row { name, samples } in rows {
        let of = |value: fn(&[f64; 2]) -> f64| median(samples.iter().map(value).collect());
        let (ours, theirs, ratio) = (of(|both| both[0]), of(|both| both[1]), of(|both| both[0] / both[1]));
        println!("{name:<34} {ours:>12.1} {theirs:>12.1} {ratio:>7.2}");
    }
    Ok(())
}

/// One measured value of both servers, for each round.
struct Row {
    name: String,
    samples: Vec<[f64; 2]>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server and all its clients.
struct Running {
    server: Child,
    connections: Vec<TcpStream>,
    /// The server's memory without connections.
    before: f64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// One round: each row's name, and its value for both servers.
fn measure(count: usize, round: usize) -> Result<Vec<(String, [f64; 2])>> {
    let mut both = [Running::start(0, count)?, Running::start(1, count)?];
    let mut rows = Vec::new();
    for running in &mut both {
        // Each thread has run its loop once.
        load(&mut running.connections, SIZES[0], Duration::ZERO)?;
    }
    rows.push(("KiB a connection, one message each".into(), [both[0].memory()?, both[1].memory()?]));
    for size in SIZES {
        let (mut messages, mut took, mut used) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        for turn in 0..2 * SLICES {
            let which = (turn + round) % 2;
            let (start, before) = (Instant::now(), processor_time(&both[which].server)?);
            messages[which] += load(&mut both[which].connections, size, SLICE)? as f64;
            took[which] += start.elapsed().as_secs_f64();
            used[which] += processor_time(&both[which].server)? - before;
        }
        rows.push((format!("messages of {size} bytes a second"), [0, 1].map(|which| messages[which] / took[which])));
        rows.push(("  processor time a message, µs".into(), [0, 1].map(|which| used[which] * 1e6 / messages[which])));
    }
    rows.push(("KiB a connection, after that".into(), [both[0].memory()?, both[1].memory()?]));
    Ok(rows)
}

impl Running {
    fn start(which: usize, count: usize) -> Result<Running> {
        let server = Command::new(env::current_exe()?).arg(SERVERS[which].0).stdout(Stdio::piped()).spawn()?;
        let mut running = Running { server, connections: Vec::new(), before: 0.0 };
        let mut address = String::new();
        BufReader::new(running.server.stdout.take().expect("it is piped")).read_line(&mut address)?;
        running.before = memory(&running.server)?;
        running.connections = (0..count).map(|_| connect(address.trim())).collect::<Result<_>>()?;
        Ok(running)
    }

    /// KiB for each connection.
    fn memory(&self) -> Result<f64> {
        Ok((memory(&self.server)? - self.before) / self.connections.len() as f64)
    }
}

fn connect(address: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    Ok(stream)
}

/// Repeats for a time: sends a message on each connection and waits for the answers. Returns the number of answers.
fn load(connections: &mut [TcpStream], size: usize, time: Duration) -> Result<usize> {
    let payload: Vec<u8> = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
    let mask = [1, 2, 3, 4];
    let mut message = header(size, 0x80);
    message.extend(mask);
    message.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    let answer = [header(size, 0), payload].concat();

    let share = connections.len().div_ceil(LOADERS);
    let start = Instant::now();
    let run = |connections: &mut [TcpStream]| -> Result<usize> {
        let mut seen = vec![0; answer.len()];
        let mut answered = 0;
        loop {
            connections.iter_mut().try_for_each(|stream| stream.write_all(&message))?;
            for stream in connections.iter_mut() {
                stream.read_exact(&mut seen)?;
                assert!(seen == answer);
            }
            answered += connections.len();
            if start.elapsed() >= time {
                return Ok(answered);
            }
        }
    };
    thread::scope(|scope| {
        let (run, shares) = (&run, connections.chunks_mut(share));
        let loaders: Vec<_> = shares.map(|share| scope.spawn(move || run(share))).collect();
        loaders.into_iter().map(|loader| loader.join().expect("the answer is right")).sum()
    })
}

/// The payload of a text message.
fn header(size: usize, mask_bit: u8) -> Vec<u8> {
    match u8::try_from(size) {
        Ok(size @ 0..=125) => vec![0x81, mask_bit | size],
        _ => [&[0x81, mask_bit | 126], &(size as u16).to_be_bytes()[..]].concat(),
    }
}

/// Resident memory in KiB.
fn memory(server: &Child) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
    Ok(line.trim().trim_end_matches(" kB").parse().expect("a number"))
}

/// Processor time, user and system, in seconds.
fn processor_time(server: &Child) -> Result<f64> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.id()))?;
    threads.map(|thread| Ok(nanoseconds(&fs::read_to_string(thread?.path().join("schedstat"))?) * 1e-9)).sum()
}

fn nanoseconds(schedstat: &str) -> f64 {
    schedstat.split_whitespace().next().and_then(|number| number.parse().ok()).expect("Linux tells")
}

fn serve(serve_one: fn(TcpStream)) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || serve_one(stream));
    }
    Ok(())
}

fn with_wsync(stream: TcpStream) {
    let ws = wsync::WebSocket::accept(stream).unwrap();
    while let Ok(Some(message)) = ws.recv() {
        ws.send(&message).unwrap();
    }
}

fn with_tungstenite(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut ws = tungstenite::accept(stream).unwrap();
    while let Ok(message) = ws.read() {
        if message.is_text() || message.is_binary() {
            ws.send(message).unwrap();
        }
    }
}
