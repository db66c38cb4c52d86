//! A logger that sends each line through a connection in the background: no lock is held while a line is written. In a
//! process of its own, which has one logger.

use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::Duration;

use wsync::{Background, CloseCode, Compression, Event, Message, MessageKind, Reconnect, WebSocket};

/// Turns a hang into a failure.
const LONG: Duration = Duration::from_secs(30);

static CHAT: OnceLock<Background> = OnceLock::new();

struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(chat) = CHAT.get() {
            let _ = chat.send(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn next(chat: &Background) -> Event {
    chat.events().recv_timeout(LONG).expect("an event: is a thread stuck in the logger?")
}

#[test]
fn a_logger_may_send_through_the_connection_that_it_reports_on() {
    log::set_logger(&Forward).unwrap();
    // Not the level of single messages, or each line would cause the next.
    log::set_max_level(log::LevelFilter::Debug);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let options = Background::options()
        .connect_options(WebSocket::options().no_proxy().compression(Compression::off()))
        .reconnect(Reconnect::new().first_delay(Duration::ZERO))
        .send_capacity(1000);
    let chat = CHAT.get_or_init(|| options.connect(&url, || {}).unwrap());
    let accept = || WebSocket::accept(listener.accept().unwrap().0).unwrap();

    let server = accept();
    assert!(matches!(next(chat), Event::Open(_)));
    let large = vec![7; 12 << 20];
    chat.send(large.clone()).unwrap();
    // Until the large message has begun: all of it cannot be in the buffers of the system.
    loop {
        let mut reader = server.recv_reader().unwrap().unwrap();
        if reader.kind() == MessageKind::Binary {
            break;
        }
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    }
    server.abort();
    assert!(matches!(next(chat), Event::Reconnecting { .. }));

    let server = accept();
    let (mut has_line, mut large_messages) = (false, 0);
    while !has_line || large_messages == 0 {
        match server.recv().unwrap().unwrap() {
            Message::Text(line) => has_line |= line.starts_with("kept a message that was not sent"),
            Message::Binary(bytes) => {
                assert!(bytes == large);
                large_messages += 1;
            }
        }
    }
    assert!(matches!(next(chat), Event::Open(_)));
    chat.close(CloseCode::NORMAL, "").unwrap();
    while let Some(message) = server.recv().unwrap() {
        large_messages += usize::from(message.as_text().is_none());
    }
    assert_eq!(large_messages, 1, "nothing is sent twice");
    assert!(matches!(next(chat), Event::End(_)));
}
