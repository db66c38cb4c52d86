//! Reads a feed to its end and misses nothing: connects again by itself, with a fresh token and from the last position, until
//! the server closes or Ctrl-C: `cargo run --example feed ws://localhost:9001/feed`
//!
//! The server sends lines such as `17 text`, and after a reconnect those behind the number in `?after=`. The environment
//! variable `TOKEN_FILE` names a file with the token, which may change at any time.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, fs};

use wsync::{Background, CloseCode, ConnectionEnd, ErrorKind, Event, WebSocket};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("usage: feed URL")?;
    let last = Arc::new(AtomicU64::new(0));

    let feed = Background::options()
        .connect_options(WebSocket::options().close_timeout(Duration::from_millis(500)))
        .before_connect({
            let (url, last) = (url.clone(), Arc::clone(&last));
            move |attempt| {
                attempt.set_url(format!("{url}?after={}", last.load(Ordering::Relaxed)));
                if let Ok(file) = env::var("TOKEN_FILE") {
                    let token = fs::read_to_string(file).map_err(wsync::Error::other)?;
                    attempt.options_mut().set_header("Authorization", format!("Bearer {}", token.trim()));
                }
                Ok(())
            }
        })
        .on_open(|ws| ws.send("subscribe"))
        .connect(&url, || {})?;

    // Ends the loop below at once, also while it waits to connect again.
    let stop = feed.clone();
    ctrlc::set_handler(move || drop(stop.close(CloseCode::NORMAL, "")))?;

    for event in feed.events() {
        match event {
            Event::Message(message) => {
                let text = message.as_text().ok_or("a message that is not text")?;
                let (number, line) = text.split_once(' ').ok_or("a line without a number")?;
                println!("{line}");
                last.store(number.parse()?, Ordering::Relaxed);
            }
            Event::Reconnecting { delay, cause, .. } => eprintln!("{cause}; again in {delay:.1?}"),
            Event::End(ConnectionEnd::Closed { code: CloseCode::NORMAL, .. }) => return Ok(ExitCode::SUCCESS),
            // Ctrl-C, while there was no connection.
            Event::End(ConnectionEnd::Failed(error)) if error.kind() == ErrorKind::Closed => {
                return Ok(ExitCode::SUCCESS);
            }
            Event::End(end) => eprintln!("{end}"),
            _ => {}
        }
    }
    Ok(ExitCode::FAILURE)
}
