//! CPU and memory per message, compared with a bare socket, tungstenite and fastwebsockets.
//!
//! ```sh
//! cargo run --release -p wsync-benches --bin speed                    # the table, into benches/speed.md, and the chart
//! cargo run --release -p wsync-benches --bin speed -- --rounds 21 16  # more rounds, of the rows with "16" in their name
//! cargo run --release -p wsync-benches --bin speed -- --instructions  # instructions per message, counted by valgrind
//! ```
//!
//! Each row is measured in rounds, and each round measures every contestant, so that all see the same machine. The other end
//! is always a thread on a bare socket, whose work is not counted. Ratios are medians of the rounds' ratios.

mod clients;
mod instructions;
mod job;
mod memory;
mod peers;
mod report;
mod rows;

use std::error::Error;

use job::{Act, Contestant, Sample};
use lexopt::prelude::*;
use rows::{ROWS, Row};

/// The results of a row's rounds, for each contestant.
struct Measured {
    row: &'static Row,
    samples: Vec<(Contestant, Vec<Sample>)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut rounds, mut only, mut counting) = (9, String::new(), false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("rounds") => rounds = arguments.value()?.parse()?,
            Long("instructions") => counting = true,
            Long("holds-connections") => {
                return Ok(memory::hold(
                    Contestant::named(&arguments.value()?.string()?),
                    &arguments.value()?.string()?,
                )?);
            }
            Long("once") => {
                let contestant = Contestant::named(&arguments.value()?.string()?);
                instructions::once(contestant, &arguments.value()?.string()?, arguments.value()?.parse()?);
                return Ok(());
            }
            Value(part) => only = part.string()?,
            _ => return Err(argument.unexpected().into()),
        }
    }
    let rows = ROWS.iter().filter(|row| row.name.contains(&only));
    if counting {
        return instructions::count(rows);
    }
    let mut results = Vec::new();
    for row in rows {
        let measured = measure(row, rounds)?;
        println!("{}", report::line(&measured));
        results.push(measured);
    }
    if only.is_empty() {
        report::write(&results, rounds)?;
    }
    Ok(())
}

fn measure(row: &'static Row, rounds: usize) -> Result<Measured, Box<dyn Error>> {
    let mut samples: Vec<(Contestant, Vec<Sample>)> = row.contestants().map(|one| (one, Vec::new())).collect();
    for round in 0..rounds {
        for turn in 0..samples.len() {
            let (contestant, samples) = &mut samples[(turn + round) % row.contestants().count()];
            samples.push(match row.job.act {
                Act::Hold | Act::Burst => memory::measure(*contestant, &row.job)?,
                _ => clients::measure(*contestant, &row.job)?,
            });
        }
    }
    Ok(Measured { row, samples })
}

impl Measured {
    /// One contestant's median.
    fn median(&self, contestant: Contestant) -> Option<f64> {
        let value = |sample: &Sample| self.row.metric.of(sample);
        self.of(contestant).map(|samples| median(samples.iter().map(value).collect()))
    }

    /// The median of the rounds' ratios.
    fn ratio(&self, contestant: Contestant, to: Contestant) -> Option<f64> {
        let (ones, others) = (self.of(contestant)?, self.of(to)?);
        let value = |sample: &Sample| self.row.metric.of(sample);
        Some(median(ones.iter().zip(others).map(|(one, other)| value(one) / value(other)).collect()))
    }

    fn of(&self, contestant: Contestant) -> Option<&[Sample]> {
        self.samples.iter().find(|(one, _)| *one == contestant).map(|(_, samples)| &samples[..])
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
