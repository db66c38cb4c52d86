//! A chat window: `cargo run --example server -- --chat`, then `cargo run -p chat-window`, several times.
//!
//! The window never waits for the network: a [`Background`] connection connects, sends, receives and connects again on
//! threads of its own, and asks for a repaint when something happened.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use eframe::egui::{self, CentralPanel, Context, Key, ScrollArea, TextEdit, TopBottomPanel, ViewportCommand};
use wsync::{Background, BackgroundOptions, CloseCode, ErrorKind, Event, Message, ReadyState, WebSocket};

const HELP: &str = "\
A chat window.

Usage: chat-window [--hello FILE] [--frame-times FILE] [URL]

  URL                 what to connect to (default: ws://127.0.0.1:9001/)
  --hello FILE        send this file whenever a connection opens
  --frame-times FILE  write, for each frame: ms since the start, µs in this program's code, µs in all";

fn main() -> eframe::Result {
    let mut window = Window::new();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--hello" => window.hello = Some(fs::read(value(&mut arguments)).unwrap_or_else(|error| usage(&error))),
            "--frame-times" => {
                let file = File::create(value(&mut arguments)).unwrap_or_else(|error| usage(&error));
                window.frame_times = Some(BufWriter::new(file));
            }
            url if url.starts_with("ws://") || url.starts_with("wss://") => window.url = argument,
            _ => usage(&HELP),
        }
    }
    let viewport = egui::ViewportBuilder::default().with_inner_size([640.0, 480.0]);
    let options = eframe::NativeOptions { viewport, ..Default::default() };
    eframe::run_native("chat-window", options, Box::new(|_| Ok(Box::new(window))))
}

fn value(arguments: &mut impl Iterator<Item = String>) -> String {
    arguments.next().unwrap_or_else(|| usage(&HELP))
}

fn usage(text: &dyn std::fmt::Display) -> ! {
    eprintln!("{text}");
    process::exit(2)
}

struct Window {
    url: String,
    input: String,
    lines: Vec<String>,
    received: usize,
    title: String,
    /// What the connection is doing, in words.
    state: String,
    connection: Option<Background>,
    is_open: bool,
    hello: Option<Vec<u8>>,
    frame_times: Option<BufWriter<File>>,
    start: Instant,
}

impl Window {
    fn new() -> Window {
        Window {
            url: "ws://127.0.0.1:9001/".into(),
            input: String::new(),
            lines: Vec::new(),
            received: 0,
            title: String::new(),
            state: "not connected".into(),
            connection: None,
            is_open: false,
            hello: None,
            frame_times: None,
            start: Instant::now(),
        }
    }

    fn connect(&mut self, context: &Context) {
        let context = context.clone();
        let connect_options = WebSocket::options().ping_interval(Duration::from_secs(10));
        match BackgroundOptions::new()
            .connect_options(connect_options)
            .connect(&self.url, move || context.request_repaint())
        {
            Ok(connection) => {
                self.connection = Some(connection);
                self.state = "connecting".into();
            }
            Err(error) => self.state = error.to_string(),
        }
    }

    fn disconnect(&mut self) {
        if let Some(connection) = &self.connection {
            match connection.close(CloseCode::NORMAL, "") {
                Ok(()) => self.state = "closing".into(),
                Err(error) => self.state = error.to_string(),
            }
        }
    }

    /// Takes what has come since the last frame.
    fn take_events(&mut self) {
        while let Some(event) = self.connection.as_ref().and_then(|connection| connection.events().try_recv()) {
            match event {
                Event::Open(_) => {
                    self.state = "open".into();
                    self.is_open = true;
                    if let Some(hello) = &self.hello {
                        self.send(Message::from(&hello[..]));
                    }
                }
                Event::Message(message) => {
                    self.received += 1;
                    self.lines.push(match message {
                        Message::Text(text) => text,
                        Message::Binary(bytes) => format!("[{} bytes]", bytes.len()),
                    });
                }
                Event::Reconnecting { attempt, delay, cause, .. } => {
                    self.is_open = false;
                    self.state = format!("reconnecting (attempt {attempt} in {delay:.1?}): {cause}");
                }
                Event::End(end) => {
                    self.is_open = false;
                    self.state = end.to_string();
                    let connection = self.connection.take().expect("it had an event");
                    for message in connection.unsent() {
                        self.lines.push(format!("(not sent) {} bytes", message.len()));
                    }
                }
                _ => {}
            }
        }
    }

    /// Says whether it was taken.
    fn send(&mut self, message: Message) -> bool {
        let Some(connection) = &self.connection else { return false };
        match connection.send(message) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.state = "the peer does not take what was sent; try again later".into();
                false
            }
            Err(_) => false,
        }
    }

    fn show(&mut self, context: &Context) {
        TopBottomPanel::top("connection").show(context, |ui| {
            ui.horizontal(|ui| {
                let is_closing = self.connection.as_ref().is_some_and(|it| it.ready_state() == ReadyState::Closing);
                let (label, is_up) = if self.connection.is_some() { ("Disconnect", true) } else { ("Connect", false) };
                let button = egui::Button::new(label).min_size([90.0, 0.0].into());
                if ui.add_enabled(!is_closing, button).clicked() {
                    if is_up { self.disconnect() } else { self.connect(context) }
                }
                if let Some(connection) = self.connection.as_ref().filter(|_| !self.is_open) {
                    if ui.add_enabled(!is_closing, egui::Button::new("Now")).clicked() {
                        connection.reconnect_now();
                    }
                }
                ui.add_enabled(!is_up, TextEdit::singleline(&mut self.url).desired_width(f32::INFINITY));
            });
            let latency = self.connection.as_ref().and_then(Background::latency);
            ui.label(match latency {
                Some(latency) => format!("{} ({latency:.1?})", self.state),
                None => self.state.clone(),
            });
        });
        TopBottomPanel::bottom("input").show(context, |ui| {
            let input = ui.add(TextEdit::singleline(&mut self.input).desired_width(f32::INFINITY));
            let has_entered = input.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            if has_entered && self.send(self.input.as_str().into()) {
                let line = std::mem::take(&mut self.input);
                self.lines.push(format!("> {line}"));
            }
            if has_entered || ui.memory(|memory| memory.focused().is_none()) {
                input.request_focus();
            }
        });
        CentralPanel::default().show(context, |ui| {
            let height = ui.text_style_height(&egui::TextStyle::Body);
            ScrollArea::vertical().auto_shrink(false).stick_to_bottom(true).show_rows(
                ui,
                height,
                self.lines.len(),
                |ui, rows| {
                    for line in &self.lines[rows] {
                        ui.label(line);
                    }
                },
            );
        });
        let title = format!("Chat: {}, {} received", self.state, self.received);
        if title != self.title {
            self.title = title.clone();
            context.send_viewport_cmd(ViewportCommand::Title(title));
        }
    }
}

impl eframe::App for Window {
    fn update(&mut self, context: &Context, frame: &mut eframe::Frame) {
        let begin = Instant::now();
        self.take_events();
        self.show(context);
        if let Some(file) = &mut self.frame_times {
            let whole = frame.info().cpu_usage.unwrap_or_default() * 1e6;
            let at = self.start.elapsed().as_millis();
            let _ = writeln!(file, "{at} {} {whole:.0}", begin.elapsed().as_micros());
            let _ = file.flush();
        }
    }
}
