//! The message that is being received, as it comes from the decoder.

use crate::copy;
use crate::message::Message;
use crate::protocol::{MessageKind, Sink};

/// Puts a message together.
pub(crate) struct MessageAssembler {
    message: Message,
    /// An allocation to assemble the next message in.
    spare: Vec<u8>,
    delivery: Delivery,
    /// How large a message that is handed out whole may become, and how large without being counted.
    allowed: usize,
    uncounted: usize,
}

/// How messages are handed to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// When they are complete.
    Whole,
    /// In parts of about so many bytes.
    Parts { limit: usize },
    /// Not at all: the rest of a message in parts that the program has stopped reading.
    Discard,
}

impl MessageAssembler {
    pub fn new() -> MessageAssembler {
        MessageAssembler {
            message: Message::Binary(Vec::new()),
            spare: Vec::new(),
            delivery: Delivery::Whole,
            allowed: usize::MAX,
            uncounted: usize::MAX,
        }
    }

    /// What is held beyond so many bytes of a message is counted: it needs [`allow`](MessageAssembler::allow).
    pub fn count_beyond(&mut self, uncounted: usize) {
        (self.allowed, self.uncounted) = (uncounted, uncounted);
    }

    /// Lets the message under way become so large.
    pub fn allow(&mut self, bytes: usize) {
        self.allowed = bytes;
        match &mut self.message {
            Message::Text(text) => text.reserve_exact(bytes.saturating_sub(text.len())),
            Message::Binary(binary) => binary.reserve_exact(bytes.saturating_sub(binary.len())),
        }
    }

    /// Whether the message under way needs to become larger than is allowed.
    pub fn needs_more(&self) -> bool {
        self.delivery == Delivery::Whole && self.room() == 0
    }

    /// Bytes of the message under way that are allowed and count.
    pub fn counted(&self) -> usize {
        self.allowed - self.uncounted
    }

    /// Throws away what has come of the message, and its allocation.
    pub fn clear(&mut self) {
        self.take();
        self.spare = Vec::new();
    }

    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    pub fn set_delivery(&mut self, delivery: Delivery) {
        self.delivery = delivery;
    }

    /// Assembles the next message in this allocation.
    pub fn reuse(&mut self, spare: Vec<u8>) {
        self.spare = spare;
    }

    /// Bytes of the message that have come and are not taken.
    pub fn len(&self) -> usize {
        self.message.len()
    }

    /// Whether there is a part to hand out.
    pub fn has_part(&self) -> bool {
        match self.delivery {
            Delivery::Parts { .. } => !self.message.is_empty(),
            Delivery::Whole | Delivery::Discard => false,
        }
    }

    /// Takes what has come as a part; the kind of the message stays.
    pub fn take_part(&mut self) -> Message {
        match &mut self.message {
            Message::Text(text) => Message::Text(std::mem::take(text)),
            Message::Binary(bytes) => Message::Binary(std::mem::take(bytes)),
        }
    }

    /// Takes the complete message.
    pub fn take(&mut self) -> Message {
        self.allowed = self.uncounted;
        std::mem::replace(&mut self.message, Message::Binary(Vec::new()))
    }

    /// Where the bytes of a binary message go, if they are wanted.
    pub fn binary_mut(&mut self) -> Option<&mut Vec<u8>> {
        match (&mut self.message, self.delivery) {
            (Message::Binary(bytes), Delivery::Whole | Delivery::Parts { .. }) => Some(bytes),
            (Message::Binary(_), Delivery::Discard) | (Message::Text(_), _) => None,
        }
    }
}

impl Sink for MessageAssembler {
    #[inline]
    fn begin(&mut self, kind: MessageKind, likely: usize) {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve_exact(likely.min(self.room_for_any()));
        self.message = match kind {
            // Empty, so that there is nothing to validate.
            MessageKind::Text => Message::Text(String::from_utf8(bytes).unwrap_or_default()),
            MessageKind::Binary => Message::Binary(bytes),
        };
    }

    #[inline]
    fn text(&mut self, chunk: &str) {
        match &mut self.message {
            _ if self.delivery == Delivery::Discard => {}
            Message::Text(text) => copy::append_text(text, chunk),
            Message::Binary(_) => {}
        }
    }

    #[inline]
    fn binary(&mut self, chunk: &[u8]) {
        if let Some(bytes) = self.binary_mut() {
            copy::append(bytes, chunk);
        }
    }

    fn room(&self) -> usize {
        self.room_for_any().saturating_sub(self.message.len())
    }
}

impl MessageAssembler {
    fn room_for_any(&self) -> usize {
        match self.delivery {
            Delivery::Whole => self.allowed,
            Delivery::Discard => usize::MAX,
            Delivery::Parts { limit } => limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_message_has_room_for_all_and_no_parts() {
        let mut assembler = MessageAssembler::new();
        assembler.begin(MessageKind::Binary, 3);
        assembler.binary(&[1, 2]);
        assert!(!assembler.has_part() && assembler.room() == usize::MAX - 2 && assembler.len() == 2);
        assembler.binary(&[3]);
        assert_eq!(assembler.take(), Message::Binary(vec![1, 2, 3]));
    }

    #[test]
    fn parts_are_bounded_and_keep_the_kind() {
        let mut assembler = MessageAssembler::new();
        assembler.set_delivery(Delivery::Parts { limit: 4 });
        assembler.begin(MessageKind::Text, 100);
        assembler.text("abc");
        assert!(assembler.has_part() && assembler.room() == 1);
        assert_eq!(assembler.take_part(), Message::Text("abc".into()));
        assert!(!assembler.has_part() && assembler.room() == 4);
        assembler.text("d");
        assert_eq!(assembler.take_part(), Message::Text("d".into()));
    }

    #[test]
    fn beyond_what_is_not_counted_a_message_needs_permission() {
        let mut assembler = MessageAssembler::new();
        assembler.count_beyond(4);
        assert!(!assembler.needs_more());
        assembler.begin(MessageKind::Binary, 100);
        assembler.binary(&[1; 4]);
        assert!(assembler.needs_more() && assembler.room() == 0 && assembler.counted() == 0);
        assembler.allow(10);
        assert!(!assembler.needs_more() && assembler.room() == 6 && assembler.counted() == 6);
        assembler.binary(&[1; 6]);
        assert!(matches!(assembler.take(), Message::Binary(bytes) if bytes.len() == 10 && bytes.capacity() == 10));
        assert!(assembler.counted() == 0, "the message is the program's");
        assembler.begin(MessageKind::Text, 0);
        assembler.text("abcd");
        assembler.set_delivery(Delivery::Parts { limit: 5 });
        assert!(!assembler.needs_more(), "parts are small");
    }

    #[test]
    fn what_is_discarded_takes_no_memory() {
        let mut assembler = MessageAssembler::new();
        assembler.begin(MessageKind::Binary, 0);
        assembler.set_delivery(Delivery::Discard);
        assembler.binary(&[1; 100]);
        assert!(assembler.binary_mut().is_none() && !assembler.has_part());
        assert_eq!(assembler.take(), Message::Binary(vec![]));
        assembler.begin(MessageKind::Text, 0);
        assembler.text("abc");
        assert_eq!((assembler.len(), assembler.take()), (0, Message::Text(String::new())));
    }

    #[test]
    fn the_spare_allocation_is_used_once() {
        let mut assembler = MessageAssembler::new();
        assembler.reuse(Vec::with_capacity(500));
        assembler.begin(MessageKind::Text, 1);
        assert!(matches!(assembler.take(), Message::Text(text) if text.capacity() == 500 && text.is_empty()));
        assembler.begin(MessageKind::Binary, 0);
        assert!(matches!(assembler.take(), Message::Binary(bytes) if bytes.capacity() == 0));
    }
}
