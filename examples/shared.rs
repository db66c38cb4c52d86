//! Many threads share one connection; each waits for the answer to its own question: `cargo run --example shared`.

use std::collections::HashMap;
use std::error::Error;
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use wsync::{CloseCode, Event, ReaderThread, WebSocket};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("ws://{}/", listener.local_addr()?);
    thread::spawn(move || serve_one(&listener));

    let client = Client::connect(&url)?;
    thread::scope(|scope| {
        let askers: Vec<_> = (0..50)
            .map(|asker| {
                let client = &client;
                scope.spawn(move || {
                    for number in 0..20 {
                        let question = format!("question {number} of thread {asker}");
                        let answer = client.ask(&question)?;
                        assert_eq!(answer, question.to_uppercase());
                    }
                    Ok::<(), Box<dyn Error + Send + Sync>>(())
                })
            })
            .collect();
        askers.into_iter().try_for_each(|asker| asker.join().expect("it does not panic"))
    })?;
    println!("50 threads got the answers to their 1000 questions");

    client.ws.close(CloseCode::NORMAL, "")?;
    println!("then: {}", client.ask("still there?").unwrap_err());
    client.reader.join().expect("it does not panic");
    Ok(())
}

/// Questions and answers over one connection, matched by a number in front of each.
struct Client {
    ws: WebSocket,
    reader: ReaderThread,
    waiting: Waiting,
    asked: AtomicU64,
}

/// Who waits for which answer; `None` after the end of the connection.
type Waiting = Arc<Mutex<Option<HashMap<String, Sender<String>>>>>;

impl Client {
    fn connect(url: &str) -> wsync::Result<Client> {
        let ws = WebSocket::connect(url)?;
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let answered = Arc::clone(&waiting);
        let reader = ws.spawn_reader(move |event| {
            let mut waiting = answered.lock().unwrap();
            match event {
                Event::Message(message) => {
                    let (id, answer) = message.as_text().and_then(|text| text.split_once(' ')).unwrap_or_default();
                    if let Some(asker) = waiting.as_mut().and_then(|waiting| waiting.remove(id)) {
                        // Fails if the asker has given up.
                        let _ = asker.send(answer.into());
                    }
                }
                // Dropping the senders wakes all who wait.
                _ => *waiting = None,
            }
            ControlFlow::Continue(())
        })?;
        Ok(Client { ws, reader, waiting, asked: AtomicU64::new(0) })
    }

    /// From any thread: sends a question and waits for its answer.
    fn ask(&self, question: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, answer) = channel();
        match self.waiting.lock().unwrap().as_mut() {
            Some(waiting) => waiting.insert(id.clone(), sender),
            None => return Err("the connection has ended".into()),
        };
        self.ws.send(format!("{id} {question}"))?;
        answer.recv().map_err(|_| "the connection ended before the answer came".into())
    }
}

/// A server that answers each question on a thread of its own, in whatever order they are done.
fn serve_one(listener: &TcpListener) -> std::io::Result<()> {
    let ws = WebSocket::accept(listener.accept()?.0)?;
    for message in ws.messages() {
        let (ws, message) = (ws.clone(), message?);
        thread::spawn(move || ws.send(message.as_text().unwrap_or_default().to_uppercase()));
    }
    Ok(())
}
