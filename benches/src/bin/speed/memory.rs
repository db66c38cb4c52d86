//! Memory of open connections, measured in a process of its own for each contestant.

use std::env;
use std::fs;
use std::io::{self, Error};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use wsync::ErrorKind;

use crate::clients::{tungstenite, wsync};
use crate::job::{Act, Contestant, Job, Sample};
use crate::peers::serve;
use crate::rows::ROWS;

/// Large messages in a burst.
const BURST: usize = 20;
/// Idle time after a burst.
const REST: Duration = Duration::from_millis(150);

pub fn measure(contestant: Contestant, job: &Job) -> io::Result<Sample> {
    let row = ROWS.iter().find(|row| row.job.act == job.act).expect("it is one of them");
    let mut holder = Command::new(env::current_exe()?);
    holder.args(["--holds-connections", contestant.name(), row.name]).stderr(Stdio::inherit());
    let output = holder.env("PEER", serve()?.to_string()).output()?;
    let memory = String::from_utf8_lossy(&output.stdout).trim().parse().map_err(Error::other)?;
    Ok(Sample { memory, ..Sample::default() })
}

/// Prints the KiB per connection.
pub fn hold(contestant: Contestant, row: &str) -> io::Result<()> {
    let job = &ROWS.iter().find(|known| known.name == row).expect("a row").job;
    let address = env::var("PEER").map_err(Error::other)?;
    let echoes = if job.act == Act::Burst { BURST } else { 1 };
    let message = job.message();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let open = || {
        let stream = TcpStream::connect(&address)?;
        stream.set_nodelay(true)?;
        io::Result::Ok(stream)
    };
    let mut before = 0.0;
    // The first connection is not counted: it loads what all of them share.
    for number in 0..=job.count {
        if number == 1 {
            before = resident()?;
        }
        if contestant == Contestant::Wsync {
            let ws = wsync(job, open()?);
            for _ in 0..echoes {
                ws.send(&message).map_err(Error::other)?;
                ws.recv().map_err(Error::other)?;
            }
            if job.act == Act::Burst {
                assert!(ws.recv_timeout(REST).is_err_and(|error| error.kind() == ErrorKind::Timeout));
            }
            ours.push(ws);
        } else {
            let stream = open()?;
            stream.set_read_timeout((job.act == Act::Burst).then_some(REST))?;
            let mut ws = tungstenite(stream);
            for _ in 0..echoes {
                ws.send(message.clone().into()).map_err(Error::other)?;
                ws.read().map_err(Error::other)?;
            }
            if job.act == Act::Burst {
                assert!(ws.read().is_err());
            }
            theirs.push(ws);
        }
    }
    println!("{}", (resident()? - before) / job.count as f64);
    Ok(())
}

/// Resident memory of this process in KiB.
fn resident() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse().map_err(Error::other)
}
