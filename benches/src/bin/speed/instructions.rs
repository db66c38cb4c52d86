//! Instructions in user code, counted by valgrind: they do not depend on other load.

use std::env;
use std::error::Error;
use std::process::Command;

use crate::clients;
use crate::job::{Act, Contestant, Job};
use crate::rows::{ROWS, Row};

/// Runs a row's job `count` times.
pub fn once(contestant: Contestant, row: &str, count: usize) {
    let row = ROWS.iter().find(|known| known.name == row).expect("a row");
    let sample = clients::measure(contestant, &Job { count, ..row.job.clone() }).expect("it works");
    println!("{:.0} ns of processor time a message, {:.0} ns on the wall", sample.cpu * 1e9, sample.wall * 1e9);
}

/// Prints the instructions per message: the difference that twice as many messages make, so that opening the connection is
/// not counted. The peer's few instructions are included.
pub fn count<'a>(rows: impl Iterator<Item = &'a Row>) -> Result<(), Box<dyn Error>> {
    println!(
        "| | {} |\n|---|{}",
        Contestant::ALL.map(Contestant::name).join(" | "),
        "---|".repeat(Contestant::ALL.len())
    );
    for row in rows {
        let messages = match row.job.act {
            Act::Hold | Act::Burst | Act::Connect | Act::Threads(_) => continue,
            Act::Batch(messages) => messages,
            _ => 1,
        };
        // Precise to a thousandth, and still bearable under valgrind.
        let count = (row.job.count / 20).max(4);
        print!("| {} |", row.name);
        for contestant in Contestant::ALL {
            if !contestant.can(&row.job) {
                print!(" |");
                continue;
            }
            let fewer = instructions(contestant, row.name, count)?;
            let more = instructions(contestant, row.name, 2 * count)?;
            // The warm-up grows too.
            let each = (more - fewer) / ((count + count / 10) * messages) as f64;
            print!(" {each:.0} |");
        }
        println!();
    }
    Ok(())
}

fn instructions(contestant: Contestant, row: &str, count: usize) -> Result<f64, Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe()?);
    valgrind.args(["--once", contestant.name(), row, &count.to_string()]);
    let output = valgrind.output().map_err(|error| format!("valgrind does not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).ok_or(said.clone())?;
    Ok(collected.1.trim().parse()?)
}
