//! What the threads of each scenario do, and what must hold in every schedule.
//!
//! Everywhere: no deadlock, no panic, and every thread that the crate has started ends. Messages say who sent them and in
//! which order, so that each scenario can check that every message arrived exactly once, and each thread's in order.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use shuttle::thread::{JoinHandle, spawn};
use wsync_explored::internals::explored::{
    self, Memory, Time, elapsed, sleep, start_clock, stop_clock, wait_for_threads,
};
use wsync_explored::{
    Background, BackgroundOptions, CloseCode, Compression, ConnectionEnd, ErrorKind, Event, Group, Message,
    MessageKind, Prepared, ReadyState, Reconnect, Role, Stream, Upgraded, WebSocket,
};

pub struct Scenario {
    pub name: &'static str,
    time: Time,
    run: fn(),
}

impl Scenario {
    /// One schedule of it.
    pub fn body(&self) -> impl Fn() + Send + Sync + 'static {
        let (time, run) = (self.time, self.run);
        move || {
            start_clock(time);
            run();
            wait_for_threads();
            stop_clock();
        }
    }
}

macro_rules! scenarios {
    ($($time:ident: $($name:ident)*;)*) => {
        pub const SCENARIOS: &[Scenario] =
            &[$($(Scenario { name: stringify!($name), time: Time::$time, run: $name },)*)*];
    };
}

scenarios! {
    Stands: senders both_directions full_queue direct_sends direct_sends_behind_a_rest batches pings parts part_writer_dropped compressed
        both_close several_close close_while_sending close_and_abort close_and_drop close_without_time group_close_behind_unsent_messages violation abort
        abort_behind_idle_holders
        peer_is_dropped last_handle_is_dropped try_sends_without_a_receiver sends_beside_a_polling_receiver
        several_receivers group group_is_closed_by_several events events_dropped events_held reader_thread background_loses_nothing background_closes
        background_is_dropped background_hooks background_reconnects_now
        background_is_dropped_with_a_silent_peer background_with_a_sender_of_its_own background_closed_with_a_group
        the_largest_is_evicted connections_share_memory;
    Passes: send_timeout send_timeout_behind_parts close_timeout closes_with_different_bounds
        keepalive_of_a_dead_line keepalive_of_a_live_line group_with_a_stuck_member;
}

const SECOND: Duration = Duration::from_secs(1);

// Helpers

fn pick<T: Copy>(values: &[T]) -> T {
    values[thread_rng().gen_range(0..values.len())]
}

fn flip() -> bool {
    pick(&[false, true])
}

/// How both ends of a pair are opened.
#[derive(Clone)]
struct Settings {
    compression: Compression,
    send_timeout: Option<Duration>,
    close_timeout: Option<Duration>,
    ping_interval: Option<Duration>,
    max_message_size: usize,
}

impl Settings {
    fn send_timeout(self, timeout: Option<Duration>) -> Settings {
        Settings { send_timeout: timeout, ..self }
    }

    fn close_timeout(self, timeout: Option<Duration>) -> Settings {
        Settings { close_timeout: timeout, ..self }
    }

    fn ping_interval(self, interval: Option<Duration>) -> Settings {
        Settings { ping_interval: interval, ..self }
    }

    fn max_message_size(self, bytes: usize) -> Settings {
        Settings { max_message_size: bytes, ..self }
    }

    fn open(&self, stream: Stream, role: Role) -> WebSocket {
        self.upgraded(stream, role).open().unwrap()
    }

    fn upgraded(&self, stream: Stream, role: Role) -> Upgraded {
        WebSocket::upgraded(stream, role)
            .compression(self.compression.clone())
            .send_timeout(self.send_timeout)
            .close_timeout(self.close_timeout)
            .ping_interval(self.ping_interval)
            .max_message_size(self.max_message_size)
    }
}

/// Without timeouts.
fn endless() -> Settings {
    Settings {
        compression: Compression::off(),
        send_timeout: None,
        close_timeout: None,
        ping_interval: None,
        max_message_size: 1 << 20,
    }
}

/// Compresses everything, with little memory.
fn compressing() -> Settings {
    let compression = Compression::default().client_max_window_bits(9).server_max_window_bits(9);
    Settings { compression: compression.threshold(1).level(1), ..endless() }
}

/// Two ends over `capacity` bytes of buffer. Either may be the client.
fn pair_of(settings: &Settings, capacity: usize) -> (WebSocket, WebSocket) {
    let (one, other) = explored::pair(capacity);
    let (role, other_role) = pick(&[(Role::Client, Role::Server), (Role::Server, Role::Client)]);
    (settings.open(one, role), settings.open(other, other_role))
}

fn pair(settings: &Settings) -> (WebSocket, WebSocket) {
    pair_of(settings, pick(&[5, 30, 90, 1000]))
}

/// The message `number` of a sender, of at least `length` bytes.
fn text(sender: usize, number: usize, length: usize) -> String {
    format!("{sender} {number} {}", "x".repeat(length))
}

/// Who sent a message, and which of its messages it is.
fn parse(message: &[u8]) -> (usize, usize) {
    let text = std::str::from_utf8(message).unwrap();
    let mut words = text.split(' ').map(|word| word.parse().ok());
    (words.next().flatten().expect(text), words.next().flatten().expect(text))
}

/// Which messages a sender was told are accepted.
type Accepted = (usize, Vec<usize>);

/// Checks that what was received is what was accepted: once, and each sender's in order.
#[track_caller]
fn check_all(received: &[(usize, usize)], accepted: &[Accepted]) {
    let count: usize = accepted.iter().map(|(_, numbers)| numbers.len()).sum();
    for (sender, numbers) in accepted {
        let of_sender: Vec<usize> =
            received.iter().filter(|(from, _)| from == sender).map(|(_, number)| *number).collect();
        assert_eq!(&of_sender, numbers, "of sender {sender}: received, accepted");
    }
    assert_eq!(received.len(), count, "{received:?} of {accepted:?}");
}

/// Checks that what was received is the beginning of what was accepted.
#[track_caller]
fn check_beginning(received: &[(usize, usize)], accepted: &[Accepted]) {
    for (sender, numbers) in accepted {
        let of_sender: Vec<usize> =
            received.iter().filter(|(from, _)| from == sender).map(|(_, number)| *number).collect();
        assert!(numbers.starts_with(&of_sender), "of sender {sender}: received {of_sender:?}, accepted {numbers:?}");
    }
}

/// A thread that sends `count` messages.
fn sender(ws: &WebSocket, sender: usize, count: usize, length: usize) -> JoinHandle<Accepted> {
    let ws = ws.clone();
    spawn(move || {
        (0..count).for_each(|number| ws.send(text(sender, number, length)).unwrap());
        (sender, (0..count).collect())
    })
}

/// A thread that sends until it cannot; returns what was accepted.
fn sender_until_closed(ws: &WebSocket, sender: usize, count: usize, length: usize) -> JoinHandle<Accepted> {
    let ws = ws.clone();
    spawn(move || {
        let send = |number: &usize| {
            ws.send(text(sender, *number, length)).map_err(|error| {
                assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Io), "{error:?}");
            })
        };
        (sender, (0..count).take_while(|number| send(number).is_ok()).collect())
    })
}

/// Receives until the peer's close frame.
fn receive_all(ws: &WebSocket) -> Vec<(usize, usize)> {
    let mut received = Vec::new();
    while let Some(message) = ws.recv().unwrap() {
        received.push(parse(message.as_bytes()));
    }
    received
}

/// Receives until the end, whatever it is.
fn receive_until_end(ws: &WebSocket) -> Vec<(usize, usize)> {
    let mut received = Vec::new();
    while let Ok(Some(message)) = ws.recv() {
        received.push(parse(message.as_bytes()));
    }
    received
}

/// A thread that receives until the peer's close frame; returns the handle, too, so that it is dropped after the checks.
fn receiver(ws: WebSocket) -> JoinHandle<(Vec<(usize, usize)>, WebSocket)> {
    spawn(move || (receive_all(&ws), ws))
}

fn close(ws: &WebSocket) {
    ws.close(CloseCode::NORMAL, "done").unwrap();
    assert_eq!((ws.ready_state(), ws.close_code()), (ReadyState::Closed, Some(CloseCode::NORMAL)));
}

fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

// Sending

fn senders() {
    let (ours, theirs) = pair(&endless());
    let receiver = receiver(theirs);
    let accepted = join((0..3).map(|number| sender(&ours, number, 2, 10)).collect());
    close(&ours);
    let (received, theirs) = receiver.join().unwrap();
    check_all(&received, &accepted);
    assert_eq!((theirs.close_code(), theirs.close_reason()), (Some(CloseCode::NORMAL), Some("done")));
}

fn both_directions() {
    let (ours, theirs) = pair(&endless());
    let receivers = [receiver(ours.clone()), receiver(theirs.clone())];
    let (to_theirs, to_ours) = (sender(&ours, 0, 3, 20), sender(&theirs, 1, 3, 20));
    let accepted = [to_ours.join().unwrap(), to_theirs.join().unwrap()];
    close(&ours);
    drop((ours, theirs));
    for (receiver, accepted) in receivers.into_iter().zip(accepted) {
        check_all(&receiver.join().unwrap().0, &[accepted]);
    }
}

/// Senders wait for room in turn, and a writer that has written much for others gives way.
fn full_queue() {
    let (ours, theirs) = pair(&endless());
    let receiver = receiver(theirs);
    let accepted = join((0..4).map(|number| sender(&ours, number, 3, 45)).collect());
    close(&ours);
    check_all(&receiver.join().unwrap().0, &accepted);
}

/// Large messages go past the queue, and small ones queue up meanwhile.
fn direct_sends() {
    let (ours, theirs) = pair(&endless());
    let receiver = receiver(theirs);
    let senders = [(0, 120), (1, 70), (2, 5)].map(|(number, length)| sender(&ours, number, 2, length));
    let accepted = join(senders.into());
    close(&ours);
    check_all(&receiver.join().unwrap().0, &accepted);
}

/// A call that never waits leaves a rest of what it writes. A large message comes behind it as a whole: not inside another
/// thread's message in parts, and not behind the close frame.
fn direct_sends_behind_a_rest() {
    let (ours, theirs) = pair_of(&endless(), pick(&[5, 30]));
    let receiver = receiver(theirs);
    let ws = ours.clone();
    let direct = spawn(move || {
        let is_accepted = |number: &usize| match number {
            0 => ws.try_send(text(0, 0, 20)).is_ok(),
            number => ws.send(text(0, *number, 80)).is_ok(),
        };
        (0, (0..2).filter(is_accepted).collect())
    });
    let ws = ours.clone();
    let in_parts = spawn(move || {
        let send = || -> std::io::Result<()> {
            let mut message = ws.send_writer(MessageKind::Text)?;
            message.write_all(text(1, 0, 5).as_bytes())?;
            message.flush()?;
            Ok(message.finish()?)
        };
        (1, if send().is_ok() { vec![0] } else { vec![] })
    });
    let mut senders = vec![direct, in_parts];
    let mut accepted = if flip() { join(std::mem::take(&mut senders)) } else { vec![] };
    close(&ours);
    accepted.extend(join(senders));
    check_all(&receiver.join().unwrap().0, &accepted);
}

fn batches() {
    let (ours, theirs) = pair(&endless());
    let receiver = receiver(theirs);
    let batches = (0..2).map(|sender| {
        let ws = ours.clone();
        spawn(move || {
            let messages: Vec<String> =
                (0..4).map(|number| text(sender, number, if number == 2 { 70 } else { 20 })).collect();
            ws.send_all(&messages).unwrap();
            (sender, (0..4).collect::<Vec<_>>())
        })
    });
    let mut accepted = join(batches.collect());
    accepted.push(sender(&ours, 2, 2, 30).join().unwrap());
    close(&ours);
    check_all(&receiver.join().unwrap().0, &accepted);
}

fn pings() {
    let (ours, theirs) = pair(&endless());
    let receivers = [receiver(ours.clone()), receiver(theirs.clone())];
    let pingers = [&ours, &theirs].map(|ws| {
        let ws = ws.clone();
        spawn(move || (0..3).for_each(|number: u8| ws.ping(&[number; 40]).unwrap()))
    });
    let accepted = [sender(&theirs, 1, 2, 30), sender(&ours, 0, 2, 30)].map(|sender| sender.join().unwrap());
    join(pingers.into());
    close(&ours);
    drop((ours, theirs));
    for (receiver, accepted) in receivers.into_iter().zip(accepted) {
        check_all(&receiver.join().unwrap().0, &[accepted]);
    }
}

/// Messages in parts, with other senders' messages and pings beside them, received whole or in parts.
fn parts() {
    let (ours, theirs) = pair(&if flip() { compressing() } else { endless() });
    let receiver = spawn(move || {
        let mut received = Vec::new();
        loop {
            if flip() {
                let Some(message) = theirs.recv().unwrap() else { return received };
                received.push(parse(message.as_bytes()));
            } else {
                let Some(mut message) = theirs.recv_reader().unwrap() else { return received };
                let mut bytes = Vec::new();
                message.read_to_end(&mut bytes).unwrap();
                received.push(parse(&bytes));
            }
        }
    });
    let writers = (0..2).map(|sender| {
        let ws = ours.clone();
        spawn(move || {
            for number in 0..2 {
                let mut message = ws.send_writer(MessageKind::Text).unwrap();
                message.write_all(text(sender, number, 10).as_bytes()).unwrap();
                message.flush().unwrap();
                message.write_all(&[b'y'; 30]).unwrap();
                message.finish().unwrap();
            }
            (sender, vec![0, 1])
        })
    });
    let mut writers: Vec<_> = writers.collect();
    writers.push(sender(&ours, 2, 2, pick(&[20, 70])));
    ours.ping(b"between the parts").unwrap();
    let accepted = join(writers);
    close(&ours);
    check_all(&receiver.join().unwrap(), &accepted);
}

/// A message that was begun and not finished ends the connection with 1011, and all who wait for its end with it.
fn part_writer_dropped() {
    let (ours, theirs) = pair(&if flip() { compressing() } else { endless() });
    let receivers = [ours.clone(), theirs].map(|ws| spawn(move || (receive_all(&ws), ws)));
    let writer = spawn({
        let ws = ours.clone();
        move || {
            let mut message = ws.send_writer(MessageKind::Text).unwrap();
            message.write_all(b"unfinished").unwrap();
            message.flush().unwrap();
        }
    });
    let senders = (0..2).map(|number| sender_until_closed(&ours, number, 2, 20)).collect();
    writer.join().unwrap();
    let accepted = join(senders);
    let [ours_received, theirs_received] = receivers.map(|receiver| receiver.join().unwrap());
    check_all(&theirs_received.0, &accepted);
    assert_eq!(theirs_received.1.close_code(), Some(CloseCode::INTERNAL_ERROR));
    assert_eq!(ours_received.1.close_code(), Some(CloseCode::INTERNAL_ERROR));
    drop(ours);
}

/// Frames go out in the order in which they were compressed: the peer could not inflate them otherwise.
fn compressed() {
    let (ours, theirs) = pair(&compressing());
    let receiver = receiver(theirs);
    let mut senders: Vec<_> = (0..2).map(|number| sender(&ours, number, 2, 30)).collect();
    let prepared = Prepared::new(text(2, 0, 30));
    let ws = ours.clone();
    senders.push(spawn(move || {
        ws.send(&prepared).unwrap();
        let is_accepted = ws.try_send(text(2, 1, 10)).is_ok();
        (2, if is_accepted { vec![0, 1] } else { vec![0] })
    }));
    let accepted = join(senders);
    close(&ours);
    check_all(&receiver.join().unwrap().0, &accepted);
}

/// Nobody receives on the side that sends: what does not fit now goes out all the same.
fn try_sends_without_a_receiver() {
    let (ours, theirs) = pair(&if flip() { compressing() } else { endless() });
    let (arrived, arrivals) = channel();
    let receiver = spawn(move || {
        while let Some(message) = theirs.recv().unwrap() {
            arrived.send(parse(message.as_bytes())).unwrap();
        }
    });
    let senders = (0..2).map(|sender| {
        let ws = ours.clone();
        spawn(move || {
            let is_accepted = |number: &usize| match ws.try_send(text(sender, *number, 15)) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error:?}");
                    false
                }
            };
            (sender, (0..3).filter(is_accepted).collect::<Vec<_>>())
        })
    });
    let accepted = join(senders.collect());
    let count: usize = accepted.iter().map(|(_, numbers)| numbers.len()).sum();
    let received: Vec<_> = arrivals.iter().take(count).collect();
    check_all(&received, &accepted);
    close(&ours);
    receiver.join().unwrap();
    assert_eq!(arrivals.iter().count(), 0);
}

/// A receiver that never waits writes pongs as far as the peer takes them, and then stops. What another thread sends meanwhile
/// arrives although no thread receives any more.
fn sends_beside_a_polling_receiver() {
    let (ours, theirs) = pair_of(&endless(), pick(&[5, 30, 90]));
    let (is_pinging, pinged) = channel::<()>();
    let pinger = spawn_with(&theirs, move |ws| {
        (0..2).for_each(|number| ws.ping(&[number; 20]).unwrap());
        drop(is_pinging);
    });
    let poller = spawn_with(&ours, move |ws| {
        // Until the peer has sent its pings: nobody reads them otherwise.
        while pinged.try_recv() == Err(TryRecvError::Empty) {
            assert_eq!(ws.try_recv().unwrap_err().kind(), ErrorKind::WouldBlock);
            shuttle::thread::yield_now();
        }
    });
    let sender = sender(&ours, 0, 1, 10);
    poller.join().unwrap();
    pinger.join().unwrap();
    let (arrived, arrivals) = channel();
    let receiver = spawn(move || {
        while let Some(message) = theirs.recv().unwrap() {
            arrived.send(parse(message.as_bytes())).unwrap();
        }
    });
    assert_eq!(arrivals.recv().unwrap(), (0, 0));
    sender.join().unwrap();
    close(&ours);
    receiver.join().unwrap();
}

// Receiving

fn several_receivers() {
    let (ours, theirs) = pair(&endless());
    let receivers = (0..3).map(|number| {
        let ws = theirs.clone();
        spawn(move || match number {
            0 => receive_all(&ws),
            1 => {
                let mut received = Vec::new();
                let mut buffer = Vec::new();
                while ws.recv_into(&mut buffer).unwrap().is_some() {
                    received.push(parse(&buffer));
                }
                received
            }
            _ => {
                let mut received = Vec::new();
                loop {
                    // Longer than time can pass early: the timeout would bound the answer to the peer's close, too.
                    match ws.recv_timeout(2 * SECOND) {
                        Ok(Some(message)) => received.push(parse(message.as_bytes())),
                        Ok(None) => return received,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    let receivers: Vec<_> = receivers.collect();
    let accepted = sender(&ours, 0, 5, 20).join().unwrap();
    close(&ours);
    let mut received: Vec<(usize, usize)> = join(receivers)
        .into_iter()
        .flat_map(|received| {
            assert!(received.is_sorted(), "{received:?}");
            received
        })
        .collect();
    received.sort_unstable();
    check_all(&received, &[accepted]);
}

fn events() {
    let (ours, theirs) = pair(&endless());
    let wakes = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let events = theirs
        .events(pick(&[1, 3]), move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        })
        .unwrap();
    drop(theirs);
    let taker = spawn(move || events.iter().collect::<Vec<Event>>());
    let accepted = sender(&ours, 0, 4, 20).join().unwrap();
    close(&ours);
    let mut events = taker.join().unwrap();
    wait_for_threads();
    assert_eq!(wakes.load(std::sync::atomic::Ordering::Relaxed), events.len());
    let Some(Event::End(ConnectionEnd::Closed { code: CloseCode::NORMAL, .. })) = events.pop() else {
        panic!("{events:?}")
    };
    check_all(&events.iter().map(message_of).collect::<Vec<_>>(), &[accepted]);
}

fn message_of(event: &Event) -> (usize, usize) {
    let Event::Message(message) = event else { panic!("{event:?}") };
    parse(message.as_bytes())
}

/// Dropping the events while the thread waits for room, for the socket, or delivers ends the connection.
fn events_dropped() {
    let (ours, theirs) = pair(&endless());
    let events = theirs.events(1, || {}).unwrap();
    let sender = sender_until_closed(&ours, 0, 3, 20);
    let dropping = spawn(move || {
        if flip() {
            events.recv();
        }
        drop(events);
    });
    let ours_received = receive_until_end(&ours);
    assert!(ours_received.is_empty());
    dropping.join().unwrap();
    sender.join().unwrap();
    assert!(matches!(theirs.recv(), Err(error) if error.kind() == ErrorKind::Closed) || theirs.close_code().is_some());
}

/// The end of the connection ends the wait for room of a thread whose events nobody takes.
fn events_held() {
    let (ours, theirs) = pair(&endless());
    let events = theirs.events(1, || {}).unwrap();
    let sender = sender_until_closed(&ours, 0, 3, 20);
    let receiver = spawn_with(&ours, |ws| drop(receive_until_end(&ws)));
    theirs.abort();
    sender.join().unwrap();
    receiver.join().unwrap();
    wait_for_threads();
    let mut events: Vec<Event> = events.iter().collect();
    assert!(matches!(events.pop(), Some(Event::End(ConnectionEnd::Failed(_)))));
    check_beginning(&events.iter().map(message_of).collect::<Vec<_>>(), &[(0, vec![0, 1, 2])]);
}

fn reader_thread() {
    let (ours, theirs) = pair(&endless());
    let (sent, received) = channel();
    let stops = flip();
    let reader = theirs
        .spawn_reader(move |event| match event {
            Event::Message(message) => {
                let (_, number) = parse(message.as_bytes());
                let _ = sent.send(number);
                if number == 1 && !stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    let sender = sender_until_closed(&ours, 0, 3, 20);
    let ours_receiver = spawn({
        let ws = ours.clone();
        move || receive_until_end(&ws)
    });
    if stops {
        reader.stop();
        reader.join().unwrap();
        let received: Vec<usize> = received.iter().collect();
        assert_eq!(received, (0..received.len()).collect::<Vec<_>>());
        sender.join().unwrap();
    } else {
        reader.join().unwrap();
        assert_eq!(received.iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(theirs.recv().unwrap().map(|message| parse(message.as_bytes())), Some((0, 2)));
        assert_eq!(sender.join().unwrap().1.len(), 3);
        close(&theirs);
    }
    ours_receiver.join().unwrap();
}

// The end

fn both_close() {
    let (ours, theirs) = pair(&endless());
    let receivers = flip().then(|| [receiver(ours.clone()), receiver(theirs.clone())]);
    let accepted = sender_until_closed(&ours, 0, 2, 30);
    let closers = [(&ours, 4001), (&theirs, 4002)].map(|(ws, code)| {
        let ws = ws.clone();
        spawn(move || ws.close(CloseCode::from(code), "").unwrap())
    });
    join(closers.into());
    accepted.join().unwrap();
    let code = |ws: &WebSocket| ws.close_code().map(u16::from);
    // Each has the other's code, or the echo of its own.
    assert!(matches!(code(&ours), Some(4001 | 4002)) && matches!(code(&theirs), Some(4001 | 4002)));
    assert!(code(&ours) == Some(4002) || code(&theirs) == Some(4001));
    assert_eq!((ours.ready_state(), theirs.ready_state()), (ReadyState::Closed, ReadyState::Closed));
    for receiver in receivers.into_iter().flatten() {
        receiver.join().unwrap();
    }
}

/// Several threads close, while one receives in parts and others send.
fn several_close() {
    let (ours, theirs) = pair(&endless());
    let receiver = receiver(theirs.clone());
    let their_sender = sender_until_closed(&theirs, 0, 2, 40);
    let reading = spawn({
        let ws = ours.clone();
        move || {
            while let Ok(Some(mut message)) = ws.recv_reader() {
                let mut bytes = Vec::new();
                message.read_to_end(&mut bytes).unwrap();
                assert_eq!(parse(&bytes).0, 0);
            }
        }
    });
    let closers = (0..2).map(|_| {
        let ws = ours.clone();
        spawn(move || close(&ws))
    });
    join(closers.collect());
    their_sender.join().unwrap();
    reading.join().unwrap();
    assert_eq!(receiver.join().unwrap().1.close_code(), Some(CloseCode::NORMAL));
    drop((ours, theirs));
}

/// How a connection has ended, as its receiving calls say.
fn is_closed(ws: &WebSocket) -> bool {
    loop {
        match ws.recv() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Threads that close one connection, by itself and with its group: each returns whether it was told that the connection was closed.
fn closers(ws: &WebSocket, group_timeout: Duration) -> Vec<JoinHandle<bool>> {
    let group = Group::new();
    group.add(ws);
    let ws = ws.clone();
    let by_itself = spawn(move || ws.close(CloseCode::NORMAL, "").is_ok());
    let with_group = spawn(move || group.close(CloseCode::NORMAL, "", group_timeout).unwrap() == 0);
    vec![by_itself, with_group]
}

/// An abort at any time: whoever closes is told how the connection has ended.
fn close_and_abort() {
    let (ours, theirs) = pair(&endless());
    let peer = spawn(move || receive_until_end(&theirs));
    let receiver = flip().then(|| spawn_with(&ours, |ws| drop(receive_until_end(&ws))));
    let sender = sender_until_closed(&ours, 0, 1, 20);
    let closers = closers(&ours, 60 * SECOND);
    ours.abort();
    let told = join(closers);
    let is_closed = is_closed(&ours);
    // `close` is `Ok` also where the connection had ended before.
    assert!((told[0] || !is_closed) && told[1] == is_closed, "{told:?}, {is_closed}");
    let code = if is_closed { CloseCode::NORMAL } else { CloseCode::ABNORMAL_CLOSURE };
    assert_eq!((ours.ready_state(), ours.close_code()), (ReadyState::Closed, Some(code)));
    sender.join().unwrap();
    peer.join().unwrap();
    if let Some(receiver) = receiver {
        receiver.join().unwrap();
    }
}

/// A group is closed without any time to wait: that drops the connection, or finds that it has been closed.
fn close_without_time() {
    let (ours, theirs) = pair(&endless());
    let receiver = flip().then(|| spawn_with(&ours, |ws| drop(receive_until_end(&ws))));
    let peer = spawn(move || receive_until_end(&theirs));
    let told = join(closers(&ours, Duration::ZERO));
    let is_closed = is_closed(&ours);
    assert!((told[0] || !is_closed) && told[1] == is_closed, "{told:?}, {is_closed}");
    let code = if is_closed { CloseCode::NORMAL } else { CloseCode::ABNORMAL_CLOSURE };
    assert_eq!((ours.ready_state(), ours.close_code()), (ReadyState::Closed, Some(code)));
    peer.join().unwrap();
    if let Some(receiver) = receiver {
        receiver.join().unwrap();
    }
}

/// A drop of the events or of the peer's last handle, which ends the connection, at any time.
fn close_and_drop() {
    let (ours, theirs) = pair(&endless());
    let drops_events = flip();
    let events = drops_events.then(|| ours.events(1, || {}).unwrap());
    let peer = spawn(move || {
        if drops_events {
            receive_until_end(&theirs);
        }
        drop(theirs);
    });
    let closers = closers(&ours, 60 * SECOND);
    drop(events);
    let told = join(closers);
    let is_closed = is_closed(&ours);
    assert!((told[0] || !is_closed) && told[1] == is_closed, "{told:?}, {is_closed}");
    assert_eq!(ours.ready_state(), ReadyState::Closed);
    peer.join().unwrap();
}

/// The peer closes by itself, before it has taken what was sent to it: that arrives all the same.
fn group_close_behind_unsent_messages() {
    let (ours, theirs) = pair_of(&endless(), pick(&[5, 30]));
    let group = Group::new();
    group.add(&ours);
    let sent = text(0, 0, 40);
    ours.try_send(&sent).unwrap();
    let peer = spawn(move || {
        close(&theirs);
        receive_all(&theirs)
    });
    let closers = (0..pick(&[1, 2])).map(|_| {
        let group = group.clone();
        spawn(move || group.close(CloseCode::NORMAL, "done", 60 * SECOND).unwrap())
    });
    let dropped = join(closers.collect());
    assert!(dropped.iter().all(|count| *count == 0), "{dropped:?}");
    assert_eq!(peer.join().unwrap(), [(0, 0)]);
}

/// A message that is too large ends the connection with 1009, at both ends and for all who wait.
fn violation() {
    let (ours, theirs) = pair(&endless().max_message_size(60));
    let refusing = [&theirs, &theirs].map(|ws| {
        let ws = ws.clone();
        spawn(move || {
            loop {
                match ws.recv() {
                    Ok(Some(_)) => {}
                    other => return other.unwrap_err().kind(),
                }
            }
        })
    });
    let their_sender = sender_until_closed(&theirs, 1, 3, 30);
    // It takes no more: our writers end with its last handle.
    drop(theirs);
    let receiver_of_ours = receiver(ours.clone());
    let senders = [(0, 10), (2, 100)].map(|(number, length)| sender_until_closed(&ours, number, 2, length));
    assert_eq!(join(refusing.into()), [ErrorKind::TooBig; 2]);
    join(senders.into());
    let accepted = their_sender.join().unwrap();
    let (received, ours) = receiver_of_ours.join().unwrap();
    check_all(&received, &[accepted]);
    assert_eq!(ours.close_code().map(u16::from), Some(1009));
}

/// What was accepted before the close arrives, whoever receives on the closing side.
fn close_while_sending() {
    let (ours, theirs) = pair(&if flip() { compressing() } else { endless() });
    let receiver_of_theirs = receiver(theirs.clone());
    let receiver_of_ours = flip().then(|| receiver(ours.clone()));
    let senders = (0..2).map(|number| sender_until_closed(&ours, number, 3, pick(&[30, 70]))).collect();
    let their_sender = sender_until_closed(&theirs, 2, 3, 30);
    close(&ours);
    let accepted = join(senders);
    let (received, theirs) = receiver_of_theirs.join().unwrap();
    check_all(&received, &accepted);
    assert_eq!(theirs.close_code(), Some(CloseCode::NORMAL));
    // What came meanwhile can still be received.
    let accepted = their_sender.join().unwrap();
    let received = match receiver_of_ours {
        Some(receiver) => receiver.join().unwrap().0,
        None => receive_all(&ours),
    };
    check_beginning(&received, &[accepted]);
}

/// An abort wakes whoever is blocked, wherever that is.
fn abort() {
    let (ours, theirs) = pair_of(&if flip() { compressing() } else { endless() }, pick(&[5, 30]));
    let receivers: Vec<_> = [&ours, &ours, &theirs]
        .into_iter()
        .map(|ws| {
            let ws = ws.clone();
            spawn(move || while let Ok(Some(_)) = ws.recv() {})
        })
        .collect();
    let mut senders: Vec<_> = [10, 50, 80]
        .into_iter()
        .enumerate()
        .map(|(number, length)| sender_until_closed(&ours, number, 3, length))
        .collect();
    senders.push(sender_until_closed(&theirs, 3, 3, 30));
    ours.abort();
    join(senders);
    join(receivers);
    assert_eq!(ours.recv().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!((ours.ready_state(), ours.close_code()), (ReadyState::Closed, Some(CloseCode::ABNORMAL_CLOSURE)));
    assert_eq!(theirs.ready_state(), ReadyState::Closed);
}

/// Who waits behind a message in parts, of which the thread that has begun it does nothing, is woken by the end alone.
fn abort_behind_idle_holders() {
    let (ours, theirs) = pair_of(&endless(), 1000);
    theirs.send(text(0, 0, 20)).unwrap();
    theirs.send(text(0, 1, 20)).unwrap();
    let hold = |hold: fn(&WebSocket, &Receiver<()>)| {
        let ws = ours.clone();
        let (go_on, held) = channel();
        let thread = spawn(move || hold(&ws, &held));
        (go_on, thread)
    };
    let (reader, reading) = hold(|ws, held| {
        let message = ws.recv_reader();
        let _ = held.recv();
        drop(message);
    });
    let (writer, writing) = hold(|ws, held| {
        let message = ws.send_writer(MessageKind::Text);
        let _ = held.recv();
        drop(message);
    });
    let waiting = [
        spawn_with(&ours, |ws| while ws.recv().is_ok() {}),
        spawn_with(&ours, |ws| (0..3).for_each(|_| drop(ws.send("a")))),
    ];
    let peer = spawn(move || while let Ok(Some(_)) = theirs.recv() {});
    ours.abort();
    join(waiting.into());
    drop((reader, writer));
    join(vec![reading, writing, peer]);
}

fn spawn_with(ws: &WebSocket, body: impl FnOnce(WebSocket) + Send + 'static) -> JoinHandle<()> {
    let ws = ws.clone();
    spawn(move || body(ws))
}

fn peer_is_dropped() {
    let (ours, theirs) = pair(&endless());
    let receiver = spawn({
        let ws = ours.clone();
        move || receive_until_end(&ws)
    });
    let senders = (0..2).map(|number| sender_until_closed(&ours, number, 3, 50)).collect();
    let peer = spawn(move || {
        theirs.send(text(9, 0, 10)).unwrap();
        if flip() {
            theirs.recv().unwrap();
        }
    });
    peer.join().unwrap();
    join(senders);
    check_beginning(&receiver.join().unwrap(), &[(9, vec![0])]);
    assert_eq!(ours.ready_state(), ReadyState::Closed);
}

fn last_handle_is_dropped() {
    let (ours, theirs) = pair(&endless());
    let receiver = spawn(move || {
        let received = receive_until_end(&theirs);
        assert_eq!(theirs.ready_state(), ReadyState::Closed);
        received
    });
    let mut accepted = Vec::new();
    for number in 0..3 {
        let message = text(0, number, 20);
        let result = if flip() { ours.send(&message) } else { ours.try_send(&message) };
        if result.is_ok() {
            accepted.push(number);
        }
    }
    drop(ours);
    check_beginning(&receiver.join().unwrap(), &[(0, accepted)]);
}

// Groups

fn group() {
    let group = Group::new();
    let (members, peers): (Vec<_>, Vec<_>) = (0..2).map(|_| pair(&endless())).unzip();
    members.iter().for_each(|ws| group.add(ws));
    let receivers: Vec<_> = peers.into_iter().map(receiver).collect();
    let senders = (0..2).map(|sender| {
        let (group, members) = (group.clone(), members.clone());
        spawn(move || {
            // For each member, what it was sent.
            let mut accepted = vec![vec![]; members.len()];
            for number in 0..2 {
                let missed = group.send(&Prepared::new(text(sender, number, 15)));
                let missed: Vec<String> = missed.iter().map(|ws| format!("{ws:p}")).collect();
                assert!(missed.len() <= members.len());
                accepted.iter_mut().for_each(|accepted| accepted.push((number, missed.len())));
            }
            accepted
        })
    });
    let accepted = join(senders.collect());
    assert_eq!(group.close(CloseCode::GOING_AWAY, "", 60 * SECOND).unwrap(), 0);
    let received: Vec<Vec<(usize, usize)>> = join(receivers)
        .into_iter()
        .map(|(received, ws)| {
            assert_eq!(ws.close_code(), Some(CloseCode::GOING_AWAY));
            received
        })
        .collect();
    // Each send was refused for as many members as did not get it.
    for (sender, accepted) in accepted.iter().enumerate() {
        for (number, missed) in &accepted[0] {
            let count = received.iter().filter(|received| received.contains(&(sender, *number))).count();
            assert_eq!(count + missed, members.len(), "message {number} of {sender}");
        }
    }
    for received in &received {
        for sender in 0..2 {
            let numbers: Vec<_> =
                received.iter().filter(|(from, _)| *from == sender).map(|(_, number)| number).collect();
            assert!(numbers.is_sorted_by(|one, other| one < other), "{received:?}");
        }
    }
}

/// Each thread that closes the group learns what became of the members, whichever thread has read their answers.
fn group_is_closed_by_several() {
    let group = Group::new();
    let (members, peers): (Vec<_>, Vec<_>) = (0..2).map(|_| pair(&endless())).unzip();
    members.iter().for_each(|ws| group.add(ws));
    let receivers: Vec<_> = peers.into_iter().chain([members[0].clone()]).map(receiver).collect();
    let closers = (0..pick(&[2, 3])).map(|_| {
        let group = group.clone();
        spawn(move || group.close(CloseCode::GOING_AWAY, "", 60 * SECOND).unwrap())
    });
    let dropped = join(closers.collect());
    assert!(dropped.iter().all(|count| *count == 0), "{dropped:?}");
    let peers = join(receivers).into_iter().map(|(_, ws)| ws);
    for ws in peers.chain(members) {
        assert_eq!((ws.ready_state(), ws.close_code()), (ReadyState::Closed, Some(CloseCode::GOING_AWAY)));
    }
}

fn group_with_a_stuck_member() {
    let group = Group::new();
    let options = endless().send_timeout(Some(SECOND)).close_timeout(Some(SECOND));
    let (member, peer) = pair(&options);
    let (stuck, _silent) = pair(&options);
    [&member, &stuck].into_iter().for_each(|ws| group.add(ws));
    let receiver = receiver(peer);
    for number in 0..3 {
        // A full member misses it.
        let _ = group.send(&Prepared::new(text(0, number, 40)));
    }
    assert_eq!(group.close(CloseCode::GOING_AWAY, "", SECOND).unwrap(), 1);
    assert_eq!(receiver.join().unwrap().1.close_code(), Some(CloseCode::GOING_AWAY));
    assert!(elapsed() < 2 * SECOND, "{:?}", elapsed());
}

// Background

/// Makes `count` connections, and then fails for good. The other ends go to the channel.
fn connections(
    count: usize,
    capacity: usize,
) -> (impl FnMut() -> wsync_explored::Result<WebSocket> + Send, Receiver<WebSocket>) {
    let (made, connections): (Sender<WebSocket>, _) = channel();
    let mut left = count;
    let connect = move || {
        if left == 0 {
            return WebSocket::connect("not a URL");
        }
        left -= 1;
        let (ours, theirs) = pair_of(&endless(), capacity);
        let _ = made.send(theirs);
        Ok(ours)
    };
    (connect, connections)
}

fn in_background() -> BackgroundOptions {
    let connect = WebSocket::options().close_timeout(None);
    let reconnect = Reconnect::new().first_delay(Duration::ZERO).max_delay(Duration::ZERO);
    Background::options()
        .connect_options(connect)
        .reconnect(reconnect)
        .event_capacity(pick(&[1, 2, 100]))
        .send_capacity(pick(&[1, 100]))
}

/// Sends `count` messages, in turn with taking events; returns what was accepted.
fn send_in_background(background: &Background, count: usize) -> Vec<usize> {
    (0..count).filter(|number| background.send(text(0, *number, 25)).is_ok()).collect()
}

fn take_until_end(background: &Background) -> Vec<Event> {
    let events: Vec<Event> = background.events().iter().collect();
    assert!(matches!(events.last(), Some(Event::End(_))), "{events:?}");
    assert_eq!(background.ready_state(), ReadyState::Closed);
    events
}

fn numbers(messages: &[Message]) -> Vec<usize> {
    messages.iter().map(|message| parse(message.as_bytes()).1).collect()
}

/// The server closes after some messages, and reads on until the client has answered. What was accepted is delivered, on
/// whichever connection, or unsent.
fn background_loses_nothing() {
    let (connect, connections) = connections(2, pick(&[5, 40, 1000]));
    let background = explored::background(&in_background(), connect, || {}).unwrap();
    let server = spawn(move || {
        let mut received = Vec::new();
        for ws in connections {
            for _ in 0..pick(&[0, 1, 2]) {
                let Some(message) = ws.recv().unwrap() else { break };
                received.push(message);
            }
            ws.close(CloseCode::SERVICE_RESTART, "").unwrap();
            while let Some(message) = ws.recv().unwrap() {
                received.push(message);
            }
        }
        received
    });
    // The server may wait for two messages on each connection.
    let sending = Arc::new(background);
    let sender = spawn({
        let background = Arc::clone(&sending);
        move || {
            let mut accepted = Vec::new();
            let mut number = 0;
            while background.ready_state() != ReadyState::Closed && number < 400 {
                if background.send(text(0, number, 25)).is_ok() {
                    accepted.push(number);
                }
                number += 1;
                shuttle::thread::yield_now();
            }
            accepted
        }
    });
    take_until_end(&sending);
    let accepted = sender.join().unwrap();
    let unsent = sending.unsent();
    drop(sending);
    let delivered = server.join().unwrap();
    assert_eq!([numbers(&delivered), numbers(&unsent)].concat(), accepted);
}

/// `close` at any time: what was accepted is delivered or unsent, and the end comes.
fn background_closes() {
    let (connect, connections) = connections(1, pick(&[5, 40, 1000]));
    let background = explored::background(&in_background(), connect, || {}).unwrap();
    let server = spawn(move || {
        let received = connections.iter().next().map(|ws| receive_until_end(&ws)).unwrap_or_default();
        received.into_iter().map(|(_, number)| number).collect::<Vec<_>>()
    });
    let mut accepted = send_in_background(&background, 3);
    if flip() {
        assert!(matches!(background.events().recv(), Some(Event::Open(_))));
        accepted.extend(background.send(text(0, 3, 25)).is_ok().then_some(3));
    }
    background.close(CloseCode::NORMAL, "").unwrap();
    assert!(background.send("too late").is_err());
    take_until_end(&background);
    let unsent = background.unsent();
    drop(background);
    assert_eq!([server.join().unwrap(), numbers(&unsent)].concat(), accepted);
}

/// Dropping at any time, also while the peer takes nothing or ends: every thread ends.
fn background_is_dropped() {
    let (connect, connections) = connections(2, pick(&[5, 40, 1000]));
    let background = explored::background(&in_background(), connect, || {}).unwrap();
    let server = spawn(move || {
        for ws in connections {
            let _ = ws.recv();
            match pick(&[0, 1, 2]) {
                0 => drop(ws),
                1 => ws.abort(),
                _ => {
                    let _ = ws.send("an event");
                    let _ = ws.recv();
                }
            }
        }
    });
    send_in_background(&background, 3);
    for _ in 0..pick(&[0, 1, 2]) {
        background.events().recv();
    }
    drop(background);
    server.join().unwrap();
}

/// Dropping at any time ends the connection, also while the sender is blocked on a peer that takes nothing.
fn background_is_dropped_with_a_silent_peer() {
    let (connect, connections) = connections(1, 5);
    let background = explored::background(&in_background(), connect, || {}).unwrap();
    send_in_background(&background, 2);
    drop(background);
    wait_for_threads();
    drop(connections);
}

/// `on_open` waits for an answer, and meanwhile the program closes, or asks for another attempt, or nothing. What `on_open`
/// sends is first on each connection.
fn background_hooks() {
    let (connect, connections) = connections(2, pick(&[5, 40, 1000]));
    let options = in_background().on_open(|ws| {
        ws.send("login")?;
        ws.recv()?.map(drop).ok_or_else(|| wsync_explored::Error::other("no welcome"))
    });
    let background = explored::background(&options, connect, || {}).unwrap();
    let server = spawn(move || {
        let mut received = Vec::new();
        for ws in connections {
            match ws.recv() {
                Ok(Some(first)) => assert_eq!(first.as_text(), Some("login")),
                _ => continue,
            }
            let _ = ws.send("welcome");
            received.extend(receive_until_end(&ws).into_iter().map(|(_, number)| number));
        }
        received
    });
    let accepted = send_in_background(&background, 2);
    let closing = background.clone();
    let closer = spawn(move || {
        if flip() {
            closing.reconnect_now();
        }
        closing.close_and_wait(CloseCode::NORMAL, "", None).unwrap()
    });
    take_until_end(&background);
    closer.join().unwrap();
    let unsent = numbers(&background.unsent());
    drop(background);
    let known = [server.join().unwrap(), unsent.clone()].concat();
    assert!(known.is_sorted_by(|one, other| one < other), "{known:?}");
    assert!(accepted.ends_with(&unsent), "unsent {unsent:?} of {accepted:?}");
}

/// `reconnect_now` at any time gives another connection, as long as there are any.
fn background_reconnects_now() {
    let (connect, connections) = connections(3, 1000);
    let background = explored::background(&in_background(), connect, || {}).unwrap();
    let server = spawn(move || connections.iter().map(|ws| receive_until_end(&ws)).collect::<Vec<_>>().concat());
    let asking = (0..2).map(|_| {
        let background = background.clone();
        spawn(move || background.reconnect_now())
    });
    let asking: Vec<_> = asking.collect();
    let accepted = send_in_background(&background, 2);
    join(asking);
    background.reconnect_now();
    let closing = background.clone();
    let closer = spawn(move || drop(closing.close(CloseCode::NORMAL, "")));
    take_until_end(&background);
    closer.join().unwrap();
    let unsent = numbers(&background.unsent());
    drop(background);
    let received = server.join().unwrap().into_iter().map(|(_, number)| number).collect();
    let known = [received, unsent.clone()].concat();
    assert!(known.is_sorted_by(|one, other| one < other), "{known:?}");
    assert!(accepted.ends_with(&unsent), "unsent {unsent:?} of {accepted:?}");
}

/// The program sends on the handle of the event, too, and a lost connection takes neither more nor less than it should.
fn background_with_a_sender_of_its_own() {
    let (connect, connections) = connections(2, pick(&[5, 40]));
    let background = explored::background(&in_background(), connect, || {}).unwrap();
    let server = spawn(move || {
        let mut received = Vec::new();
        for ws in connections {
            for _ in 0..2 {
                let Ok(Some(message)) = ws.recv() else { break };
                received.push(parse(message.as_bytes()));
            }
            ws.abort();
        }
        received
    });
    let accepted = send_in_background(&background, 4);
    let mut own = Vec::new();
    while let Some(event) = background.events().recv() {
        if let Event::Open(ws) = event {
            own.push(spawn(move || {
                let sender = sender_until_closed(&ws, 1, 3, 30);
                let _ = sender.join();
            }));
        }
    }
    join(own);
    let unsent = numbers(&background.unsent());
    drop(background);
    let received = server.join().unwrap();
    let delivered: Vec<usize> = received.iter().filter(|(from, _)| *from == 0).map(|(_, number)| *number).collect();
    // What the system had taken when the connection was lost is lost; nothing comes twice or out of order.
    let known = [delivered, unsent.clone()].concat();
    assert!(known.is_sorted_by(|one, other| one < other), "{known:?}");
    assert!(accepted.ends_with(&unsent), "unsent {unsent:?} of {accepted:?}");
}

/// The connection is closed by its `Background` and by a group at once: what was accepted is delivered or unsent.
fn background_closed_with_a_group() {
    let (connect, connections) = connections(1, pick(&[5, 40, 1000]));
    let background = explored::background(&in_background(), connect, || {}).unwrap();
    let server = spawn(move || {
        let received = connections.iter().next().map(|ws| receive_until_end(&ws)).unwrap_or_default();
        received.into_iter().map(|(_, number)| number).collect::<Vec<_>>()
    });
    let accepted = send_in_background(&background, 3);
    let Some(Event::Open(ws)) = background.events().recv() else { panic!("it connects") };
    let group = Group::new();
    group.add(&ws);
    let closer = spawn(move || group.close(CloseCode::from(4001), "", 60 * SECOND).unwrap());
    background.close(CloseCode::from(4002), "").unwrap();
    assert_eq!(closer.join().unwrap(), 0);
    assert!(matches!(ws.close_code().map(u16::from), Some(4001 | 4002)), "{:?}", ws.close_code());
    take_until_end(&background);
    let unsent = background.unsent();
    drop((background, ws));
    assert_eq!([server.join().unwrap(), numbers(&unsent)].concat(), accepted);
}

// Timeouts

fn send_timeout() {
    let (ours, theirs) = pair_of(&endless().send_timeout(Some(SECOND)).close_timeout(Some(SECOND)), 30);
    let senders: Vec<_> = [10, 50, 80]
        .into_iter()
        .enumerate()
        .map(|(number, length)| {
            let ws = ours.clone();
            spawn(move || {
                loop {
                    if let Err(error) = ws.send(text(number, 0, length)) {
                        return error.kind();
                    }
                }
            })
        })
        .collect();
    let kinds = join(senders);
    assert!(kinds.iter().all(|kind| matches!(kind, ErrorKind::Timeout | ErrorKind::Closed)), "{kinds:?}");
    // A message that was left to another thread's write is accepted: the next call tells that this failed.
    assert!(elapsed() < 4 * SECOND, "{:?}", elapsed());
    assert_eq!(ours.close(CloseCode::NORMAL, "").unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(ours.ready_state(), ReadyState::Closed);
    drop(theirs);
}

/// Who has waited too long leaves no trace in the line of those who wait.
fn send_timeout_behind_parts() {
    let (ours, theirs) = pair(&endless().send_timeout(Some(SECOND)));
    let receiver = receiver(theirs);
    let waiting = {
        let mut message = ours.send_writer(MessageKind::Text).unwrap();
        message.write_all(text(0, 0, 10).as_bytes()).unwrap();
        message.flush().unwrap();
        let waiting = [10, 80].map(|length| {
            let ws = ours.clone();
            spawn(move || ws.send(text(1, 0, length)).unwrap_err().kind())
        });
        sleep(3 * SECOND);
        message.finish().unwrap();
        waiting
    };
    assert_eq!(join(waiting.into()), [ErrorKind::Timeout; 2]);
    let senders = [(2, 10), (3, 80)].map(|(number, length)| sender(&ours, number, 2, length));
    let mut accepted = join(senders.into());
    accepted.push((0, vec![0]));
    close(&ours);
    check_all(&receiver.join().unwrap().0, &accepted);
    assert!(elapsed() < 4 * SECOND, "{:?}", elapsed());
}

fn close_timeout() {
    let (ours, theirs) = pair(&endless().send_timeout(Some(SECOND)).close_timeout(Some(SECOND)));
    let receiver = flip().then(|| {
        let ws = ours.clone();
        spawn(move || ws.recv().unwrap_err())
    });
    let sender = sender_until_closed(&ours, 0, 1, 10);
    assert!(ours.close(CloseCode::NORMAL, "").is_err());
    assert_eq!(ours.ready_state(), ReadyState::Closed);
    sender.join().unwrap();
    if let Some(receiver) = receiver {
        receiver.join().unwrap();
    }
    assert!(elapsed() < 4 * SECOND, "{:?}", elapsed());
    drop(theirs);
}

/// The peer answers at about the time at which the bounds end: every thread is told how the connection has ended.
fn closes_with_different_bounds() {
    let (ours, theirs) = pair(&endless().close_timeout(Some(pick(&[1, 2]) * SECOND)));
    let peer = spawn(move || {
        sleep(pick(&[0, 1, 2]) * SECOND);
        receive_until_end(&theirs);
    });
    let receiver = flip().then(|| spawn_with(&ours, |ws| drop(receive_until_end(&ws))));
    let told = join(closers(&ours, pick(&[1, 2]) * SECOND));
    let is_closed = is_closed(&ours);
    assert_eq!(told, [is_closed; 2]);
    let code = if is_closed { CloseCode::NORMAL } else { CloseCode::ABNORMAL_CLOSURE };
    assert_eq!((ours.ready_state(), ours.close_code()), (ReadyState::Closed, Some(code)));
    if let Some(receiver) = receiver {
        receiver.join().unwrap();
    }
    drop(ours);
    peer.join().unwrap();
    assert!(elapsed() < 4 * SECOND, "{:?}", elapsed());
}

fn keepalive_of_a_dead_line() {
    let (ours, theirs) = pair(&endless().ping_interval(Some(SECOND)));
    let receivers = (0..2).map(|_| {
        let ws = ours.clone();
        spawn(move || ws.recv().unwrap_err().kind())
    });
    let receivers: Vec<_> = receivers.collect();
    let sender = sender_until_closed(&ours, 0, 2, 20);
    for kind in join(receivers) {
        assert_eq!(kind, ErrorKind::Unresponsive);
    }
    sender.join().unwrap();
    assert_eq!(ours.close_code(), Some(CloseCode::GOING_AWAY));
    // The interval, the wait for the pong, and a look once a second.
    assert!(elapsed() < 5 * SECOND, "{:?}", elapsed());
    drop(theirs);
}

fn keepalive_of_a_live_line() {
    let (ours, theirs) = pair(&endless());
    let receivers = [receiver(ours.clone()), receiver(theirs.clone())];
    let setter = spawn({
        let ws = ours.clone();
        move || {
            ws.set_ping_interval(2 * SECOND);
            ws.set_ping_interval(SECOND);
        }
    });
    let accepted = [sender(&theirs, 1, 2, 20).join().unwrap(), sender(&ours, 0, 2, 20).join().unwrap()];
    setter.join().unwrap();
    sleep(5 * SECOND);
    assert_eq!((ours.ready_state(), theirs.ready_state()), (ReadyState::Open, ReadyState::Open));
    assert!(ours.latency().is_some_and(|latency| latency < SECOND));
    close(&ours);
    drop((ours, theirs));
    for (receiver, accepted) in receivers.into_iter().zip(accepted) {
        check_all(&receiver.join().unwrap().0, &[accepted]);
    }
}

// Memory

/// How a connection comes to hold much.
#[derive(Clone, Copy)]
enum Holding {
    /// Frames that its peer does not take: the flush thread waits.
    Queued,
    /// A message that is not complete, while no thread receives.
    Idle,
    /// A message that grows while a thread receives it.
    Growing,
}

/// A server's connection, which has a share of its memory, and the client.
fn sharing(memory: &Memory, settings: &Settings, capacity: usize) -> (WebSocket, WebSocket) {
    let (server, client) = explored::pair(capacity);
    (memory.open(settings.upgraded(server, Role::Server)).unwrap(), settings.open(client, Role::Client))
}

/// The connection that holds most ends as soon as another one needs memory, and gives back what it holds although the program
/// keeps its handle. The other one goes on.
fn the_largest_is_evicted() {
    // The large one fits alone, and not beside a message of the small one, of which 44 bytes count.
    let memory = Memory::new(395);
    let (small, small_client) = sharing(&memory, &endless().max_message_size(60), pick(&[5, 30]));
    let receiver = receiver(small);
    let holding = pick(&[Holding::Queued, Holding::Idle, Holding::Growing]);
    let capacity = match holding {
        Holding::Queued => 5,
        Holding::Idle => 1000,
        Holding::Growing => pick(&[30, 1000]),
    };
    let (large, large_client) = sharing(&memory, &endless(), capacity);
    let (mut threads, mut unfinished) = (vec![], None);
    match holding {
        Holding::Queued => large.try_send(text(1, 0, 350)).unwrap(),
        Holding::Idle => {
            let mut message = large_client.send_writer(MessageKind::Text).unwrap();
            message.write_all(text(1, 0, 300).as_bytes()).unwrap();
            message.flush().unwrap();
            unfinished = Some(message);
            while memory.held() < 300 {
                assert_eq!(large.try_recv().unwrap_err().kind(), ErrorKind::WouldBlock);
            }
        }
        Holding::Growing => {
            threads.push(spawn_with(&large, |ws| {
                assert_eq!(ws.recv().unwrap_err().kind(), ErrorKind::TooBig);
                // Or the sender waits until the last handle is dropped.
                ws.abort();
            }));
            threads.push(spawn_with(&large_client, |ws| drop(ws.send(text(1, 0, 800)))));
            threads.push(spawn_with(&large_client, |ws| drop(receive_until_end(&ws))));
        }
    }
    let accepted = sender(&small_client, 0, 2, 45).join().unwrap();
    close(&small_client);
    let (received, small) = receiver.join().unwrap();
    check_all(&received, &[accepted]);
    join(threads);
    assert_eq!(large.recv().unwrap_err().kind(), ErrorKind::TooBig);
    drop(unfinished);
    wait_for_threads();
    assert_eq!((memory.held(), memory.evicted()), (0, 1));
    drop((small, large));
}

/// Connections take and give back memory at once, in both directions, and whoever holds most ends. Nothing hangs, and nothing is
/// held in the end.
fn connections_share_memory() {
    let memory = Memory::new(pick(&[100, 200, 400]));
    let settings = if flip() { endless() } else { endless().max_message_size(100) };
    let pairs = [(); 2].map(|()| sharing(&memory, &settings, pick(&[30, 1000])));
    let (mut servers, mut receivers, mut senders) = (vec![], vec![], vec![]);
    for (number, (server, client)) in pairs.iter().enumerate() {
        servers.push(spawn_with(server, |ws| {
            let echo = || ws.recv().and_then(|message| message.map(|message| ws.send(message)).transpose());
            let end = loop {
                match echo() {
                    Ok(Some(())) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            if let Err(error) = end {
                assert!(matches!(error.kind(), ErrorKind::TooBig | ErrorKind::Closed | ErrorKind::Io), "{error:?}");
                ws.abort();
            }
        }));
        let ws = client.clone();
        receivers.push(spawn(move || receive_until_end(&ws)));
        let ws = client.clone();
        senders.push(spawn(move || {
            let lengths = [20, pick(&[60, 90]), pick(&[20, 150])];
            let send = |at: &usize| ws.send(text(number, *at, lengths[*at])).is_ok();
            let accepted = (number, (0..3).take_while(send).collect());
            // It may have been evicted.
            let _ = ws.close(CloseCode::NORMAL, "");
            accepted
        }));
    }
    join(servers);
    for (receiver, sender) in receivers.into_iter().zip(senders) {
        check_beginning(&receiver.join().unwrap(), &[sender.join().unwrap()]);
    }
    wait_for_threads();
    assert_eq!(memory.held(), 0);
    drop(pairs);
}
