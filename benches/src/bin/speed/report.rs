//! The table, and the chart that the README shows.

use std::error::Error;
use std::fmt::Write;
use std::fs;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Measured;
use crate::job::Contestant::{Bare, Fastwebsockets, Tungstenite, Wsync};
use crate::rows::Metric;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/speed.md");
/// Values outside are drawn at the edge.
const LEAST: f64 = 1.0 / 32.0;
const MOST: f64 = 2.0;
const GREY: RGBColor = RGBColor(160, 160, 160);
const ORANGE: RGBColor = RGBColor(220, 130, 40);
const BLUE: RGBColor = RGBColor(20, 110, 210);
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

/// A line for each row, with a dot for each contestant's ratio to tungstenite.
fn draw(results: &[Measured]) -> Result<(), Box<dyn Error>> {
    let (rows, height) = (results.len() as f64, 90 + 24 * results.len() as u32);
    let area = SVGBackend::new(CHART, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .margin_right(30)
        .x_label_area_size(44)
        .y_label_area_size(220)
        .build_cartesian_2d((LEAST..MOST).log_scale().base(2.0), 0.0..rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("of what tungstenite takes: processor time, time or memory, less is better")
        .x_label_formatter(&|x| format!("{x}"))
        .x_labels(7)
        .y_labels(0)
        .draw()?;
    let line = |at: usize| rows - at as f64 - 0.5;
    let names = results.iter().enumerate().map(|(at, measured)| {
        let style = ("sans-serif", 14).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
        EmptyElement::at((LEAST, line(at))) + Text::new(measured.row.name, (-8, 0), style)
    });
    chart.draw_series(names)?;
    let colors = [(Bare, GREY), (Fastwebsockets, ORANGE), (Tungstenite, BLACK), (Wsync, BLUE)];
    for (contestant, color) in colors {
        let dots = results.iter().enumerate().filter_map(|(at, measured)| {
            let ratio = measured.ratio(contestant, Tungstenite)?;
            Some(Circle::new((ratio.clamp(LEAST, MOST), line(at)), 5, color.filled()))
        });
        let series = chart.draw_series(dots)?;
        series.label(contestant.name()).legend(move |at| Circle::new(at, 5, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleLeft)
        .border_style(GREY)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}
