//! The table, and the chart that the README shows.

use std::error::Error;
use std::fmt::Write;
use std::fs;

use plotters::prelude::*;

use crate::Measured;
use crate::clients::Contestant::{self, Bare, Fastwebsockets, Tungstenite, Wsync};
use crate::rows::Metric;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/speed.md");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/speed.svg");

/// A row of the table.
pub fn line(measured: &Measured) -> String {
    let row = measured.row;
    let absolute = |contestant| measured.median(contestant).map_or(String::new(), |value| unit(value, row.metric));
    let ratio = |to, target: Option<f64>| {
        let Some(ratio) = measured.ratio(Wsync, to) else { return " | ".to_string() };
        let verdict = match target {
            Some(target) if ratio <= target => format!("≤ {target}"),
            Some(target) => format!("**≤ {target}**"),
            None => String::new(),
        };
        format!("{ratio:.2} | {verdict}")
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |",
        row.name,
        absolute(Bare),
        absolute(Wsync),
        absolute(Tungstenite),
        absolute(Fastwebsockets),
        ratio(Tungstenite, row.of_tungstenite),
        ratio(Bare, row.of_bare)
    )
}

fn unit(value: f64, metric: Metric) -> String {
    match value {
        _ if metric == Metric::Memory => format!("{value:.1} KiB"),
        0.0..1e-6 => format!("{:.0} ns", value * 1e9),
        1e-6..1e-3 => format!("{:.1} µs", value * 1e6),
        _ => format!("{:.2} ms", value * 1e3),
    }
}

pub fn write(results: &[Measured], rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut text = format!(
        "Written by `cargo run --release -p wsync-benches --bin speed`: medians of {rounds} rounds, in each of which every \
         contestant has its turn. Processor time (user and system) of a message; for echoes, threads and connecting the time \
         on the wall; for memory, KiB of a connection. The columns of ratios are wsync's, with what is to be reached, \
         in bold where it is not.\n\n\
         | | bare socket | wsync | tungstenite | fastwebsockets | of tungstenite | to reach | of the bare socket | to reach |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    results.iter().try_for_each(|measured| writeln!(text, "{}", line(measured)))?;
    fs::write(TABLE, text)?;
    draw(results)?;
    println!("written: {TABLE}, {CHART}");
    Ok(())
}

/// A line for each row, on it a dot for each contestant: how much of tungstenite's it takes.
fn draw(results: &[Measured]) -> Result<(), Box<dyn Error>> {
    let rows = results.len() as f64;
    let area = SVGBackend::new(CHART, (900, 60 + 26 * results.len() as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(34)
        .y_label_area_size(230)
        .build_cartesian_2d((0.0625..2.0).log_scale().base(2.0), 0.0..rows)?;
    let names = |at: &f64| {
        let row = results.len().checked_sub(1 + *at as usize);
        row.and_then(|row| results.get(row)).map_or(String::new(), |measured| measured.row.name.to_string())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("of what tungstenite takes (left is better)")
        .x_label_formatter(&|x| format!("{x}"))
        .y_labels(0)
        .draw()?;
    let _ = names;
    for (contestant, color) in [
        (Bare, RGBColor(150, 150, 150)),
        (Fastwebsockets, RGBColor(214, 120, 30)),
        (Tungstenite, RGBColor(60, 60, 60)),
        (Wsync, RGBColor(20, 110, 200)),
    ] {
        let dots = results.iter().enumerate().filter_map(|(at, measured)| {
            let ratio = measured.ratio(contestant, Tungstenite)?;
            Some(Circle::new((ratio.clamp(0.0625, 2.0), rows - at as f64 - 0.5), 5, color.filled()))
        });
        let dots: Vec<_> = dots.collect();
        chart.draw_series(dots)?.label(contestant.name()).legend(move |at| Circle::new(at, 5, color.filled()));
    }
    chart.configure_series_labels().border_style(BLACK.mix(0.3)).background_style(WHITE).draw()?;
    area.present()?;
    Ok(())
}

#[allow(dead_code)]
fn _unused(_: Contestant) {}
