//! Bytes to messages: frame, unmask, inflate, validate, assemble.

use std::str::Utf8Error;

use super::frame::{Header, MAX_HEADER, Opcode, Rsv1};
use super::inflate::Inflater;
use super::utf8::{Broken, Utf8};
use super::{
    BYTES_PER_FRAGMENT, DecoderLimits, DeflateParameters, FrameEvent, Mask, MessageKind, Role, Sink, Violation, mask,
};
use crate::close_code::CloseCode;

/// Unmask at most this much per inflate call: what the inflater leaves must be masked again. Without a mask there is no
/// such limit, as each call of the inflater copies its window.
const INFLATE_BLOCK: usize = 32 * 1024;
/// Preallocate at most this multiple of what has arrived.
const PREALLOCATION_FACTOR: usize = 4;

/// The receiving side of a connection. It buffers only what can arrive incomplete: a header, a character, a control frame.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    limits: DecoderLimits,
    deflate: Option<DeflateParameters>,
    inflater: Option<Box<Inflater>>,
    state: State,
    /// The first bytes of a header that is not complete.
    stash: [u8; MAX_HEADER],
    stashed: u8,
    frame: Frame,
    message: Option<MessageProgress>,
    utf8: Utf8,
    /// The payload so far of a control frame.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Payload,
    /// After a close frame or a violation: everything that follows is ignored.
    Over,
}

/// The frame whose payload comes next.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    /// Rotated to the next byte.
    mask: Option<Mask>,
    /// Bytes of the payload that have not arrived.
    left: u64,
}

/// The message that has begun and not ended.
#[derive(Clone, Copy, Debug)]
struct MessageProgress {
    kind: MessageKind,
    compressed: bool,
    fragments: u64,
    /// Bytes given to the sink, and those of an incomplete character.
    size: u64,
}

impl Decoder {
    /// `role` is our own.
    pub fn new(role: Role, limits: DecoderLimits, deflate: Option<DeflateParameters>) -> Decoder {
        Decoder {
            role,
            limits,
            deflate,
            inflater: None,
            state: State::Header,
            stash: [0; MAX_HEADER],
            stashed: 0,
            frame: Frame { opcode: Opcode::Continuation, fin: true, mask: None, left: 0 },
            message: None,
            utf8: Utf8::default(),
            control: Vec::new(),
        }
    }

    /// Takes bytes from the front of `input` until an event is complete, the input is used up or the sink is full.
    /// Returns how many were taken, and the event. `input` is mutable because masked payload is unmasked in place.
    /// After a violation or a close frame every call takes everything and returns no event.
    ///
    /// Inflated output can wait for room when all the input is taken: with a sink that limits its room, call again with
    /// empty input once there is some.
    #[inline]
    pub fn next(&mut self, input: &mut [u8], sink: &mut impl Sink) -> (usize, Result<Option<FrameEvent>, Violation>) {
        let mut taken = 0;
        let result = loop {
            let rest = &mut input[taken..];
            let step = match self.state {
                State::Header => self.header(rest, sink),
                State::Payload => self.payload(rest, sink),
                State::Over => return (input.len(), Ok(None)),
            };
            match step {
                Ok((n, Step::Continue)) => taken += n,
                Ok((n, Step::Wait)) => {
                    taken += n;
                    break Ok(None);
                }
                Ok((n, Step::Event(event))) => {
                    taken += n;
                    break Ok(Some(event));
                }
                Err(violation) => {
                    self.end();
                    taken = input.len();
                    break Err(violation);
                }
            }
        };
        (taken, result)
    }

    /// Changes the limit of a message's size. It counts for the message under way, too.
    pub fn set_max_message_size(&mut self, bytes: u64) {
        self.limits.max_message_size = bytes;
    }

    /// The short way for the most common input: an uncompressed message in one frame that lies completely at the front of
    /// `input`. Anything else is [`WholeMessage::Absent`] and goes through [`next`](Decoder::next).
    ///
    /// `take` gets the payload and, of text, checks that it is UTF-8. If it is not, the outcome is the same violation as
    /// that of `next`.
    #[inline]
    pub fn take_whole<T>(
        &mut self,
        input: &mut [u8],
        take: impl FnOnce(MessageKind, &[u8]) -> Result<T, Utf8Error>,
    ) -> WholeMessage<T> {
        let Some((kind, header)) = self.whole_header(input) else { return WholeMessage::Absent };
        let end = header.size + header.length as usize;
        let payload = &mut input[header.size..end];
        if let Some(mask) = header.mask {
            mask::apply(payload, mask);
        }
        match take(kind, payload) {
            Ok(value) => WholeMessage::Taken(end, header.length as usize, value),
            Err(error) => {
                self.end();
                WholeMessage::Violation(not_utf8(payload, error))
            }
        }
    }

    /// The header of an uncompressed message in one frame, if all of it lies at the front of `input`, within the limit.
    #[inline]
    fn whole_header(&self, input: &[u8]) -> Option<(MessageKind, Header)> {
        let kind = match input.first()? {
            0x81 => MessageKind::Text,
            0x82 => MessageKind::Binary,
            _ => return None,
        };
        if self.state != State::Header || self.stashed > 0 || self.message.is_some() {
            return None;
        }
        let header = Header::read(input, self.role, Rsv1::Reserved).ok()??;
        let is_whole = header.length <= (input.len() - header.size) as u64;
        (is_whole && header.length <= self.limits.max_message_size).then_some((kind, header))
    }

    /// How many bytes of the current frame's payload may be read from the socket straight into the sink, without
    /// [`next`](Decoder::next); 0 unless the message is binary and not compressed. Each such read is followed by
    /// [`finish_direct_read`](Decoder::finish_direct_read).
    pub fn direct_read_len(&self) -> usize {
        match self.message {
            Some(MessageProgress { kind: MessageKind::Binary, compressed: false, size, .. })
                if self.state == State::Payload
                    && !self.frame.opcode.is_control()
                    && self.check_size(size.saturating_add(self.frame.left)).is_ok() =>
            {
                usize::try_from(self.frame.left).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }

    /// Unmasks and counts the bytes of a direct read, at most [`direct_read_len`](Decoder::direct_read_len), which lie in
    /// the sink already. Returns the message's end, if this was it.
    pub fn finish_direct_read(&mut self, bytes: &mut [u8]) -> Option<FrameEvent> {
        debug_assert!(bytes.len() <= self.direct_read_len());
        self.unmask(bytes);
        let mut message = self.message?;
        message.size += bytes.len() as u64;
        self.message = Some(message);
        if self.frame.left > 0 {
            return None;
        }
        match self.end_of_frame(message) {
            Ok(Step::Event(event)) => Some(event),
            // No other outcome ends a binary message.
            _ => None,
        }
    }

    /// Ends decoding: what follows is ignored.
    pub fn end(&mut self) {
        self.state = State::Over;
        self.inflater = None;
    }

    /// Whether compressed messages may come, and there is no inflater for them yet.
    pub fn lacks_inflater(&self) -> bool {
        self.deflate.is_some() && self.inflater.is_none() && self.state != State::Over
    }

    /// How many bytes an inflater takes.
    pub fn inflater_size(&self) -> usize {
        self.deflate.map_or(0, |agreed| Inflater::size(self.role, agreed))
    }

    /// Whether a frame has begun and not ended, its header included.
    pub fn is_mid_frame(&self) -> bool {
        match self.state {
            State::Header => self.stashed > 0,
            State::Payload => true,
            State::Over => false,
        }
    }

    /// Whether a frame or a message has begun and not ended.
    pub fn is_mid_message(&self) -> bool {
        self.state != State::Over && (self.message.is_some() || self.state == State::Payload || self.stashed > 0)
    }
}

/// The outcome of [`Decoder::take_whole`].
pub enum WholeMessage<T> {
    /// No such message: nothing was taken.
    Absent,
    /// So many bytes of the input were taken, and so many of them are payload.
    Taken(usize, usize, T),
    /// Text that is not UTF-8. Nothing more can be decoded.
    Violation(Violation),
}

/// The outcome of one step of [`Decoder::next`].
enum Step {
    Continue,
    /// More input is needed, or more room in the sink.
    Wait,
    Event(FrameEvent),
}

type StepResult = Result<(usize, Step), Violation>;

impl Decoder {
    fn rsv1(&self) -> Rsv1 {
        if self.deflate.is_some() { Rsv1::Compressed } else { Rsv1::Reserved }
    }

    #[inline]
    fn header(&mut self, input: &mut [u8], sink: &mut impl Sink) -> StepResult {
        if self.stashed > 0 {
            return self.cut_header(input, sink);
        }
        match Header::read(input, self.role, self.rsv1())? {
            Some(header) => {
                self.begin(&header, input.len(), sink)?;
                Ok((header.size, Step::Continue))
            }
            None => {
                self.stash[..input.len()].copy_from_slice(input);
                self.stashed = input.len() as u8;
                Ok((input.len(), Step::Wait))
            }
        }
    }

    /// A header that began in an earlier input.
    #[cold]
    fn cut_header(&mut self, input: &mut [u8], sink: &mut impl Sink) -> StepResult {
        let before = usize::from(self.stashed);
        let n = input.len().min(MAX_HEADER - before);
        self.stash[before..before + n].copy_from_slice(&input[..n]);
        match Header::read(&self.stash[..before + n], self.role, self.rsv1())? {
            Some(header) => {
                self.stashed = 0;
                self.begin(&header, n, sink)?;
                Ok((header.size - before, Step::Continue))
            }
            None => {
                self.stashed += n as u8;
                Ok((n, Step::Wait))
            }
        }
    }

    /// Begins a frame of which `here` bytes lie in the input, its header included.
    #[inline]
    fn begin(&mut self, header: &Header, here: usize, sink: &mut impl Sink) -> Result<(), Violation> {
        if !header.opcode.is_control() {
            let message = self.begin_data(header, here, sink)?;
            self.message = Some(message);
        }
        self.frame = Frame { opcode: header.opcode, fin: header.fin, mask: header.mask, left: header.length };
        self.state = State::Payload;
        Ok(())
    }

    /// Checks a data frame against the message that it belongs to, and the limits.
    #[inline]
    fn begin_data(&self, header: &Header, here: usize, sink: &mut impl Sink) -> Result<MessageProgress, Violation> {
        let mut message = match (self.message, header.opcode) {
            (None, Opcode::Continuation) => return Err(Violation::StrayContinuation),
            (Some(message), Opcode::Continuation) => message,
            (Some(_), opcode) => return Err(Violation::Interleaved(opcode)),
            (None, opcode) => {
                let kind = if opcode == Opcode::Text { MessageKind::Text } else { MessageKind::Binary };
                let likely = if header.compressed { 0 } else { at_most(header.length, PREALLOCATION_FACTOR * here) };
                sink.begin(kind, likely);
                MessageProgress { kind, compressed: header.compressed, fragments: 0, size: 0 }
            }
        };
        message.fragments += 1;
        let allowed = self.limits.max_fragments.saturating_add(message.size / BYTES_PER_FRAGMENT);
        if message.fragments > allowed {
            return Err(Violation::TooManyFragments { fragments: message.fragments, bytes: message.size });
        }
        if !message.compressed {
            self.check_size(message.size.saturating_add(header.length))?;
        }
        Ok(message)
    }

    #[inline]
    fn check_size(&self, size: u64) -> Result<(), Violation> {
        let limit = self.limits.max_message_size;
        if size > limit { Err(Violation::TooBig { size, limit }) } else { Ok(()) }
    }

    #[inline]
    fn payload(&mut self, input: &mut [u8], sink: &mut impl Sink) -> StepResult {
        match self.message {
            _ if self.frame.opcode.is_control() => self.control(input),
            Some(message) if message.compressed => self.compressed(message, input, sink),
            Some(message) => self.plain(message, input, sink),
            None => Ok((0, Step::Wait)),
        }
    }

    #[inline]
    fn plain(&mut self, mut message: MessageProgress, input: &mut [u8], sink: &mut impl Sink) -> StepResult {
        // The limit may have been lowered since the frame began.
        self.check_size(message.size.saturating_add(self.frame.left))?;
        let here = at_most(self.frame.left, input.len());
        let n = here.min(sink.room());
        let chunk = self.unmask(&mut input[..n]);
        deliver(&mut self.utf8, &mut message, chunk, sink)?;
        if self.frame.left > 0 {
            self.message = Some(message);
            // An incomplete character takes no room, so some may be left.
            return Ok((n, if 0 < n && n < here { Step::Continue } else { Step::Wait }));
        }
        Ok((n, self.end_of_frame(message)?))
    }

    fn compressed(&mut self, mut message: MessageProgress, input: &mut [u8], sink: &mut impl Sink) -> StepResult {
        let Some(agreed) = self.deflate else { return Ok((0, Step::Wait)) };
        let inflater = self.inflater.take();
        let mut inflater = inflater.unwrap_or_else(|| Box::new(Inflater::new(self.role, agreed)));
        let mut taken = 0;
        let step = loop {
            let block = self.next_block(&mut input[taken..]);
            if block.is_empty() && !inflater.output_pending() {
                break self.end_of_input(&mut inflater, message)?;
            }
            if sink.room() == 0 {
                break Step::Wait;
            }
            taken += self.inflate(&mut inflater, &mut message, block, sink)?;
        };
        self.inflater = Some(inflater);
        if self.message.is_some() {
            self.message = Some(message);
        }
        Ok((taken, step))
    }

    /// The part of the frame's payload at the front of `input` that the inflater gets at once.
    fn next_block<'a>(&self, input: &'a mut [u8]) -> &'a mut [u8] {
        let block = if self.frame.mask.is_some() { INFLATE_BLOCK } else { usize::MAX };
        let length = at_most(self.frame.left, input.len().min(block));
        &mut input[..length]
    }

    /// All of the input is inflated: ends the frame, and the message with it, if nothing more of it is to come.
    fn end_of_input(&mut self, inflater: &mut Inflater, message: MessageProgress) -> Result<Step, Violation> {
        if self.frame.left > 0 {
            return Ok(Step::Wait);
        }
        if self.frame.fin {
            inflater.finish()?;
        }
        self.end_of_frame(message)
    }

    /// Inflates some of `block` into the sink, up to the limit of a message's size; returns how much of it.
    fn inflate(
        &mut self,
        inflater: &mut Inflater,
        message: &mut MessageProgress,
        block: &mut [u8],
        sink: &mut impl Sink,
    ) -> Result<usize, Violation> {
        let limit = self.limits.max_message_size;
        let allowed = usize::try_from(limit.saturating_sub(message.size)).unwrap_or(usize::MAX);
        let before = self.frame;
        self.unmask(block);
        // One byte more than allowed shows that there is more.
        let (fed, output) = inflater.feed(block, sink.room().min(allowed.saturating_add(1)))?;
        if fed < block.len() {
            self.frame = before;
            self.give_back(block, fed);
        }
        deliver(&mut self.utf8, message, &output[..output.len().min(allowed)], sink)?;
        if output.len() > allowed {
            return Err(Violation::TooBig { size: limit + 1, limit });
        }
        Ok(fed)
    }

    /// Counts the first `fed` bytes of a block that was unmasked, and masks the rest of it again.
    fn give_back(&mut self, block: &mut [u8], fed: usize) {
        self.frame.left -= fed as u64;
        if let Some(mask) = &mut self.frame.mask {
            *mask = mask.rotate(fed);
            mask::apply(&mut block[fed..], *mask);
        }
    }

    fn control(&mut self, input: &mut [u8]) -> StepResult {
        let n = at_most(self.frame.left, input.len());
        let chunk = self.unmask(&mut input[..n]);
        self.control.extend_from_slice(chunk);
        if self.frame.left > 0 {
            return Ok((n, Step::Wait));
        }
        self.state = State::Header;
        let payload = std::mem::take(&mut self.control);
        let event = match self.frame.opcode {
            Opcode::Ping => FrameEvent::Ping(payload),
            Opcode::Pong => FrameEvent::Pong(payload),
            _ => {
                let reason = close(payload)?;
                self.end();
                FrameEvent::Close(reason)
            }
        };
        Ok((n, Step::Event(event)))
    }

    /// Unmasks and counts the next bytes of the frame's payload.
    #[inline]
    fn unmask<'a>(&mut self, bytes: &'a mut [u8]) -> &'a [u8] {
        if let Some(mask) = &mut self.frame.mask {
            mask::apply(bytes, *mask);
            *mask = mask.rotate(bytes.len());
        }
        self.frame.left -= bytes.len() as u64;
        bytes
    }

    #[inline]
    fn end_of_frame(&mut self, message: MessageProgress) -> Result<Step, Violation> {
        self.state = State::Header;
        if !self.frame.fin {
            self.message = Some(message);
            return Ok(Step::Continue);
        }
        if !self.utf8.is_whole() {
            return Err(Violation::CutCharacter);
        }
        self.message = None;
        Ok(Step::Event(FrameEvent::Message(message.kind)))
    }
}

#[inline]
fn at_most(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

/// Hands a piece of a message to the sink; of text, after validating it.
#[inline]
fn deliver(
    utf8: &mut Utf8,
    message: &mut MessageProgress,
    chunk: &[u8],
    sink: &mut impl Sink,
) -> Result<(), Violation> {
    if chunk.is_empty() {
        return Ok(());
    }
    match message.kind {
        MessageKind::Binary => sink.binary(chunk),
        MessageKind::Text => utf8.feed(chunk, |text| sink.text(text)).map_err(|Broken { byte, at }| {
            Violation::NotUtf8 { byte, at: message.size.wrapping_add_signed(at as i64) }
        })?,
    }
    message.size += chunk.len() as u64;
    Ok(())
}

/// The violation of a whole text message.
#[cold]
fn not_utf8(payload: &[u8], error: Utf8Error) -> Violation {
    let at = error.valid_up_to();
    match error.error_len() {
        Some(_) => Violation::NotUtf8 { byte: payload[at], at: at as u64 },
        None => Violation::CutCharacter,
    }
}

/// Code and reason of a close frame (RFC 6455 §5.5.1); `None` for an empty one.
fn close(payload: Vec<u8>) -> Result<Option<(CloseCode, String)>, Violation> {
    let (code, reason) = match payload[..] {
        [] => return Ok(None),
        [byte] => return Err(Violation::HalfCloseCode(byte)),
        [a, b, ref reason @ ..] => (u16::from_be_bytes([a, b]), reason),
    };
    if !CloseCode::from(code).is_sendable() {
        return Err(Violation::BadCloseCode(code));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code.into(), reason.to_string()))),
        Err(error) => {
            let at = error.valid_up_to();
            Err(Violation::BadCloseReason { byte: reason[at], at })
        }
    }
}
