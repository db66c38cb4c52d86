//! The messages that wait to be sent in the background, and what the sender does with them. A plain value: the supervisor
//! guards it.

use std::collections::VecDeque;
use std::mem;

use crate::error::Error;
use crate::message::Message;
use crate::outgoing::Outgoing;

/// What [`Background::send`](crate::Background::send) does when the queue is full, which is when
/// [`send_capacity`](crate::BackgroundOptions::send_capacity) messages wait.
///
/// ```
/// use wsync::{Background, Message, WhenFull};
///
/// let options = Background::options().send_capacity(2).when_full(WhenFull::DropOldest);
/// let position = options.connect("ws://127.0.0.1:1/", || {})?; // nobody listens there
/// for metre in ["1", "2", "3"] {
///     position.send(metre)?;
/// }
/// assert_eq!((position.dropped(), position.unsent()), (1, vec![Message::from("2"), Message::from("3")]));
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It refuses the message: for messages of which none may be lost.
    #[default]
    Refuse,
    /// It takes the message, and drops the oldest one that waits: for states of which the newest counts.
    DropOldest,
    /// It takes the message and drops it: for a log, of which the beginning counts.
    DropNewest,
}

/// A message that waits to be sent.
pub(super) struct QueuedMessage {
    pub message: Message,
    pub may_compress: bool,
}

impl QueuedMessage {
    pub fn as_outgoing(&self) -> Outgoing<'_> {
        let outgoing = Outgoing::from(&self.message);
        if self.may_compress { outgoing } else { outgoing.uncompressed() }
    }
}

pub(super) struct Outbox {
    /// The message that the sender holds is not in here.
    waiting: VecDeque<QueuedMessage>,
    /// The bytes of the messages, the sender's included.
    bytes: usize,
    delivery: Delivery,
    capacity: usize,
    when_full: WhenFull,
    dropped: u64,
}

/// What the sender does.
enum Delivery {
    /// It waits for a connection. The error is why the last one was dropped, if a send was the reason.
    Paused(Option<Error>),
    /// It sends the next message as soon as there is one.
    Ready,
    /// It sends a message. If that fails, the message goes back to the front.
    Sending,
    /// The same, on a connection that has ended.
    Failing,
}

/// What became of a message.
pub(super) enum Queued {
    /// It waits to be sent. The caller drops the other one, if there is one, where it holds no lock.
    Taken { dropped: Option<QueuedMessage> },
    /// There is no room.
    Refused(QueuedMessage),
}

impl Outbox {
    /// `capacity`: how many messages may wait, the sender's included; at least one.
    pub fn new(capacity: usize, when_full: WhenFull) -> Outbox {
        Outbox {
            waiting: VecDeque::new(),
            bytes: 0,
            delivery: Delivery::Paused(None),
            capacity: capacity.max(1),
            when_full,
            dropped: 0,
        }
    }

    pub fn push(&mut self, queued: QueuedMessage) -> Queued {
        let is_full = self.waiting.len() + usize::from(self.holds_message()) >= self.capacity;
        if !is_full {
            self.push_back(queued);
            return Queued::Taken { dropped: None };
        }
        match self.when_full {
            WhenFull::Refuse => Queued::Refused(queued),
            WhenFull::DropNewest => {
                self.dropped += 1;
                Queued::Taken { dropped: Some(queued) }
            }
            WhenFull::DropOldest => {
                // The one that is being sent stays: some of it may be out. With room for one alone, one more waits.
                let dropped = self.waiting.pop_front();
                if let Some(dropped) = &dropped {
                    self.dropped += 1;
                    self.bytes -= dropped.message.len();
                }
                self.push_back(queued);
                Queued::Taken { dropped }
            }
        }
    }

    fn push_back(&mut self, queued: QueuedMessage) {
        self.bytes += queued.message.len();
        self.waiting.push_back(queued);
    }

    /// The bytes of all messages that are not sent.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages were dropped because there was no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes all that waits.
    pub fn take_all(&mut self) -> VecDeque<QueuedMessage> {
        let waiting = mem::take(&mut self.waiting);
        self.bytes -= waiting.iter().map(|queued| queued.message.len()).sum::<usize>();
        waiting
    }

    // A connection comes and goes.

    /// There is a connection: the sender may begin.
    pub fn resume(&mut self) {
        self.delivery = Delivery::Ready;
    }

    /// The connection has ended: the sender begins no more messages. Returns whether it holds one.
    pub fn pause(&mut self) -> bool {
        match self.delivery {
            Delivery::Sending => self.delivery = Delivery::Failing,
            Delivery::Ready => self.delivery = Delivery::Paused(None),
            Delivery::Failing | Delivery::Paused(_) => {}
        }
        self.holds_message()
    }

    /// After `pause`, once the sender holds no message any more: why the connection was dropped, if a send was the reason.
    pub fn failure_once_paused(&mut self) -> Option<Option<Error>> {
        match &mut self.delivery {
            Delivery::Paused(failure) => Some(failure.take()),
            Delivery::Ready | Delivery::Sending | Delivery::Failing => None,
        }
    }

    /// Whether there is something to send on this connection, or a message is being sent.
    pub fn has_more(&self) -> bool {
        match self.delivery {
            Delivery::Sending => true,
            Delivery::Ready => !self.waiting.is_empty(),
            Delivery::Paused(_) | Delivery::Failing => false,
        }
    }

    // The sender

    /// The next message to send, if the sender may begin one.
    pub fn begin(&mut self) -> Option<QueuedMessage> {
        match self.delivery {
            Delivery::Ready => {
                let queued = self.waiting.pop_front()?;
                self.delivery = Delivery::Sending;
                Some(queued)
            }
            Delivery::Paused(_) | Delivery::Sending | Delivery::Failing => None,
        }
    }

    /// The message of the sender is sent.
    pub fn sent(&mut self, length: usize) {
        self.bytes -= length;
        self.delivery = match self.delivery {
            Delivery::Failing => Delivery::Paused(None),
            Delivery::Sending | Delivery::Ready | Delivery::Paused(_) => Delivery::Ready,
        };
    }

    /// The message of the sender is not sent: it goes back to the front. `failure`: the connection was dropped because of it.
    pub fn not_sent(&mut self, queued: QueuedMessage, failure: Option<Error>) {
        self.waiting.push_front(queued);
        self.delivery = Delivery::Paused(failure);
    }

    fn holds_message(&self) -> bool {
        matches!(self.delivery, Delivery::Sending | Delivery::Failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn queued(text: &str) -> QueuedMessage {
        QueuedMessage { message: text.into(), may_compress: true }
    }

    fn texts(messages: impl IntoIterator<Item = QueuedMessage>) -> Vec<String> {
        messages.into_iter().map(|queued| queued.message.as_text().unwrap().to_string()).collect()
    }

    /// Whether each was taken, and what was dropped.
    fn push_all(outbox: &mut Outbox, messages: &[&str]) -> (Vec<bool>, Vec<String>) {
        let mut dropped = Vec::new();
        let taken = messages.iter().map(|text| match outbox.push(queued(text)) {
            Queued::Taken { dropped: one } => {
                dropped.extend(texts(one));
                true
            }
            Queued::Refused(_) => false,
        });
        (taken.collect(), dropped)
    }

    #[test]
    fn a_full_outbox_does_as_was_chosen_and_counts() {
        for (when_full, taken, dropped, kept) in [
            (WhenFull::Refuse, [true, true, false], &[] as &[&str], ["a", "bb"]),
            (WhenFull::DropOldest, [true; 3], &["a"], ["bb", "ccc"]),
            (WhenFull::DropNewest, [true; 3], &["ccc"], ["a", "bb"]),
        ] {
            let mut outbox = Outbox::new(2, when_full);
            assert_eq!(
                push_all(&mut outbox, &["a", "bb", "ccc"]),
                (taken.to_vec(), texts(dropped.iter().map(|text| queued(text))))
            );
            assert_eq!(outbox.dropped(), dropped.len() as u64);
            assert_eq!(outbox.bytes(), kept.concat().len());
            assert_eq!(texts(outbox.take_all()), kept);
            assert_eq!(outbox.bytes(), 0);
        }
    }

    #[test]
    fn the_message_that_is_being_sent_counts_and_is_never_dropped() {
        let mut outbox = Outbox::new(1, WhenFull::Refuse);
        push_all(&mut outbox, &["first"]);
        outbox.resume();
        let first = outbox.begin().unwrap();
        assert_eq!(push_all(&mut outbox, &["second"]).0, [false]);
        outbox.when_full = WhenFull::DropOldest;
        assert_eq!(push_all(&mut outbox, &["second", "third"]).1, ["second"]);
        outbox.not_sent(first, None);
        assert_eq!(texts(outbox.take_all()), ["first", "third"]);
    }

    #[test]
    fn the_sender_begins_only_while_there_is_a_connection_and_a_message_that_failed_goes_first() {
        let mut outbox = Outbox::new(10, WhenFull::Refuse);
        push_all(&mut outbox, &["a", "b"]);
        assert!(outbox.begin().is_none() && !outbox.has_more(), "no connection");
        outbox.resume();
        let message = outbox.begin().unwrap();
        assert!(outbox.begin().is_none() && outbox.has_more(), "one at a time");
        assert!(outbox.pause(), "it holds one");
        assert!(outbox.failure_once_paused().is_none() && !outbox.has_more());
        outbox.not_sent(message, Some(Error::new(ErrorKind::Timeout, "stuck")));
        assert_eq!(outbox.failure_once_paused().unwrap().unwrap().to_string(), "stuck");
        assert!(outbox.failure_once_paused().unwrap().is_none(), "told once");
        outbox.resume();
        let message = outbox.begin().unwrap();
        assert!(outbox.pause());
        outbox.sent(message.message.len());
        assert!(outbox.failure_once_paused().unwrap().is_none());
        assert_eq!((outbox.bytes(), texts(outbox.take_all())), (1, vec!["b".to_string()]));
    }
}
