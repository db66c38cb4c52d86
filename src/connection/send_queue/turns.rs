//! The line of senders that wait: what each waits for, and who goes first.

use std::collections::VecDeque;

/// A place in the line.
pub(crate) type Ticket = u64;

/// What a sender waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// To queue a message of so many bytes.
    Message(usize),
    /// To queue a frame of so many bytes that may stand inside a message in parts.
    Frame(usize),
    /// To write a message directly.
    Writer,
    /// To compress a message.
    Compressor,
    /// To begin a message in parts.
    Start,
    /// The same, with the compressor.
    CompressedStart,
}

impl Need {
    /// Whether who waits for it writes what is queued, when its turn comes.
    pub fn is_for_writing(self) -> bool {
        match self {
            Need::Message(_) | Need::Frame(_) | Need::Writer => true,
            Need::Compressor | Need::Start | Need::CompressedStart => false,
        }
    }

    /// Whether a sender with this need keeps `later` from what it waits for, and so goes first.
    pub fn goes_before(self, later: Need) -> bool {
        match later {
            Need::Message(_) | Need::Frame(_) | Need::Writer => self.is_for_writing(),
            Need::Compressor => matches!(self, Need::Compressor | Need::CompressedStart),
            // During a message in parts nobody else can go on.
            Need::Start | Need::CompressedStart => true,
        }
    }
}

/// Senders that wait, in the order in which they came.
#[derive(Default)]
pub(crate) struct Turns {
    line: VecDeque<(Ticket, Need)>,
    last_ticket: Ticket,
}

impl Turns {
    /// Takes the last place in the line.
    pub fn take(&mut self, need: Need) -> Ticket {
        self.last_ticket += 1;
        self.line.push_back((self.last_ticket, need));
        self.last_ticket
    }

    pub fn leave(&mut self, ticket: Ticket) {
        self.line.retain(|(waiting, _)| *waiting != ticket);
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// What the senders in front of this ticket wait for; without a ticket, what all wait for.
    pub fn before(&self, ticket: Option<Ticket>) -> impl Iterator<Item = Need> {
        self.line.iter().take_while(move |(waiting, _)| Some(*waiting) != ticket).map(|(_, need)| *need)
    }
}
