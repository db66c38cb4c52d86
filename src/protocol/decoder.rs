//! Bytes to messages: frame, unmask, inflate, validate, assemble.

use super::frame::{Header, MAX_HEADER, Opcode};
use super::inflate::Inflater;
use super::utf8::{Broken, Utf8};
use super::{DecoderLimits, DeflateParameters, FrameEvent, Kind, Role, Sink, Violation, mask};
use crate::close_code::CloseCode;

/// How much compressed payload is unmasked before the inflater is seen to take it; what it leaves is masked again. Where
/// nothing is masked it gets all at once, as each call of the decoder costs it its window.
const INFLATE_BLOCK: usize = 32 * 1024;
/// How many times as much as has come of a frame its header is trusted to say.
const PREALLOCATION_FACTOR: usize = 4;

/// The receiving side of a connection. Has no buffers but for what is cut: a header, a character, a control frame.
#[derive(Debug)]
pub(crate) struct Decoder {
    role: Role,
    limits: DecoderLimits,
    deflate: Option<DeflateParameters>,
    inflater: Option<Box<Inflater>>,
    state: State,
    /// The beginning of a header whose rest is to come.
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
    /// After a close frame or a violation: what comes is ignored.
    Over,
}

/// The frame whose payload is coming.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    /// Rotated to the byte that comes next.
    mask: Option<[u8; 4]>,
    /// What is still to come of the payload.
    left: u64,
}

/// The message whose frames are coming.
#[derive(Clone, Copy, Debug)]
struct MessageProgress {
    kind: Kind,
    compressed: bool,
    fragments: usize,
    /// Bytes that the sink has (or, in a cut character, will have).
    size: usize,
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
    /// Returns how many were taken, and the event. `input` is mutable because masked payload is unmasked in place
    /// before it is looked at. After a violation or a close frame every call takes everything and returns no event.
    ///
    /// What is inflated can still be waiting for room when all the input is taken: with a sink that limits its room,
    /// call again with empty input once there is some.
    #[inline]
    pub fn next(&mut self, input: &mut [u8], sink: &mut impl Sink) -> (usize, Result<Option<FrameEvent>, Violation>) {
        let room = sink.room();
        let whole = self.whole_message(input, room, |kind, payload| {
            match kind {
                Kind::Binary => {
                    sink.begin(kind, payload.len());
                    sink.binary(payload);
                }
                Kind::Text => {
                    let text = std::str::from_utf8(payload).ok()?;
                    sink.begin(kind, payload.len());
                    sink.text(text);
                }
            }
            Some(kind)
        });
        if let Some((taken, kind)) = whole {
            return (taken, Ok(Some(FrameEvent::Message(kind))));
        }
        let mut taken = 0;
        let result = loop {
            let rest = &mut input[taken..];
            let step = match self.state {
                State::Header => self.header(rest, sink),
                State::Payload => self.payload(rest, sink),
                State::Over => return (input.len(), Ok(None)),
            };
            match step {
                Ok((n, Step::Go)) => taken += n,
                Ok((n, Step::Wait)) => {
                    taken += n;
                    break Ok(None);
                }
                Ok((n, Step::Event(event))) => {
                    taken += n;
                    break Ok(Some(event));
                }
                Err(violation) => {
                    self.state = State::Over;
                    self.inflater = None;
                    taken = input.len();
                    break Err(violation);
                }
            }
        };
        (taken, result)
    }

    /// Changes the limit of a message's size. Not below what has come of the message under way.
    pub fn set_max_message_size(&mut self, bytes: usize) {
        self.limits.max_message_size = bytes;
    }

    /// The short way for what nearly everything is: an uncompressed message in one frame, all of it at the front of `input`,
    /// with nothing wrong with it. Hands its payload to `take`, which looks whether text is UTF-8; returns how many bytes of
    /// `input` that was, and what `take` made of it. `None`: nothing was taken, as `take` said so or as it is anything else.
    /// That goes the long way, by [`next`](Decoder::next).
    #[inline]
    pub fn whole_message<T>(
        &self,
        input: &mut [u8],
        room: usize,
        take: impl FnOnce(Kind, &[u8]) -> Option<T>,
    ) -> Option<(usize, T)> {
        let kind = match input.first()? {
            0x81 => Kind::Text,
            0x82 => Kind::Binary,
            _ => return None,
        };
        if self.state != State::Header || self.stashed > 0 || self.message.is_some() {
            return None;
        }
        let header = Header::read(input, self.role, false).ok()??;
        let length = usize::try_from(header.length).ok()?;
        let payload = input[header.size..].get_mut(..length)?;
        if length > self.limits.max_message_size.min(room) {
            return None;
        }
        let Some(mask) = header.mask else { return Some((header.size + length, take(kind, payload)?)) };
        mask::apply(payload, mask);
        let taken = take(kind, payload);
        if taken.is_none() {
            // As it came, for the long way, which says what is wrong with it.
            mask::apply(payload, mask);
        }
        Some((header.size + length, taken?))
    }

    /// How many bytes of the current frame's payload the caller may put straight in the sink, past
    /// [`next`](Decoder::next): binary and not compressed. 0 otherwise.
    pub fn direct(&self) -> usize {
        match self.message {
            Some(MessageProgress { kind: Kind::Binary, compressed: false, .. })
                if self.state == State::Payload && !self.frame.opcode.is_control() =>
            {
                usize::try_from(self.frame.left).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }

    /// The caller has put these bytes, at most [`direct`](Decoder::direct), in the sink. Unmasks them there.
    pub fn took_directly(&mut self, bytes: &mut [u8]) -> Option<FrameEvent> {
        debug_assert!(bytes.len() <= self.direct());
        self.unmask(bytes);
        let mut message = self.message?;
        message.size += bytes.len();
        self.message = Some(message);
        if self.frame.left > 0 {
            return None;
        }
        match self.end_of_frame(message) {
            Ok(Step::Event(event)) => Some(event),
            // Binary has no characters to be cut.
            _ => None,
        }
    }

    /// Whether it stands inside a frame or an unfinished message.
    pub fn is_mid_message(&self) -> bool {
        self.state != State::Over && (self.message.is_some() || self.state == State::Payload || self.stashed > 0)
    }
}

/// What a step of [`Decoder::next`] came to.
enum Step {
    Go,
    /// For input, or for room in the sink.
    Wait,
    Event(FrameEvent),
}

type StepResult = Result<(usize, Step), Violation>;

impl Decoder {
    #[inline]
    fn header(&mut self, input: &mut [u8], sink: &mut impl Sink) -> StepResult {
        if self.stashed > 0 {
            return self.cut_header(input, sink);
        }
        match Header::read(input, self.role, self.deflate.is_some())? {
            Some(header) => {
                self.begin(&header, input.len(), sink)?;
                Ok((header.size, Step::Go))
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
        match Header::read(&self.stash[..before + n], self.role, self.deflate.is_some())? {
            Some(header) => {
                self.stashed = 0;
                self.begin(&header, n, sink)?;
                Ok((header.size - before, Step::Go))
            }
            None => {
                self.stashed += n as u8;
                Ok((n, Step::Wait))
            }
        }
    }

    /// Checks a frame against the message that it belongs to, and the limits. `here` is how much of it has come.
    #[inline]
    fn begin(&mut self, header: &Header, here: usize, sink: &mut impl Sink) -> Result<(), Violation> {
        if !header.opcode.is_control() {
            let message = match (&mut self.message, header.opcode) {
                (None, Opcode::Continuation) => return Err(Violation::StrayContinuation),
                (Some(message), Opcode::Continuation) => message,
                (Some(_), opcode) => return Err(Violation::Interleaved(opcode)),
                (message @ None, opcode) => {
                    let kind = if opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
                    let likely =
                        if header.compressed { 0 } else { at_most(header.length, PREALLOCATION_FACTOR * here) };
                    sink.begin(kind, likely);
                    message.insert(MessageProgress { kind, compressed: header.compressed, fragments: 0, size: 0 })
                }
            };
            message.fragments += 1;
            if message.fragments > self.limits.max_fragments {
                return Err(Violation::TooManyFragments { limit: self.limits.max_fragments });
            }
            let limit = self.limits.max_message_size;
            let size = header.length + message.size as u64;
            if !message.compressed && size > limit as u64 {
                return Err(Violation::TooBig { size, limit });
            }
        }
        self.frame = Frame { opcode: header.opcode, fin: header.fin, mask: header.mask, left: header.length };
        self.state = State::Payload;
        Ok(())
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
        let here = at_most(self.frame.left, input.len());
        let n = here.min(sink.room());
        let chunk = self.unmask(&mut input[..n]);
        deliver(&mut self.utf8, &mut message, chunk, sink)?;
        if self.frame.left > 0 {
            self.message = Some(message);
            // A cut character takes no room, so that there may be some left.
            return Ok((n, if 0 < n && n < here { Step::Go } else { Step::Wait }));
        }
        Ok((n, self.end_of_frame(message)?))
    }

    fn compressed(&mut self, mut message: MessageProgress, input: &mut [u8], sink: &mut impl Sink) -> StepResult {
        let (Some(agreed), limit) = (self.deflate, self.limits.max_message_size) else { return Ok((0, Step::Wait)) };
        let mut inflater = match self.inflater.take() {
            Some(inflater) => inflater,
            None => Box::new(Inflater::new(self.role, agreed)),
        };
        let mut taken = 0;
        let step = loop {
            let block = if self.frame.mask.is_some() { INFLATE_BLOCK } else { usize::MAX };
            let n = at_most(self.frame.left, (input.len() - taken).min(block));
            if n == 0 && !inflater.output_pending() {
                if self.frame.left > 0 {
                    break Step::Wait;
                }
                if self.frame.fin {
                    inflater.finish()?;
                }
                break self.end_of_frame(message)?;
            }
            let room = sink.room();
            if room == 0 {
                break Step::Wait;
            }
            let block = &mut input[taken..taken + n];
            let mask = self.frame.mask;
            let block_left = self.frame.left;
            self.unmask(block);
            // One more than is allowed, to see whether there is more.
            let allowed = limit - message.size;
            let (fed, output) = inflater.feed(block, room.min(allowed.saturating_add(1)))?;
            if fed < n {
                self.frame.left = block_left - fed as u64;
                if let Some(mask) = mask {
                    let mask = mask::rotate(mask, fed);
                    mask::apply(&mut block[fed..], mask);
                    self.frame.mask = Some(mask);
                }
            }
            taken += fed;
            deliver(&mut self.utf8, &mut message, &output[..output.len().min(allowed)], sink)?;
            if output.len() > allowed {
                return Err(Violation::TooBig { size: limit as u64 + 1, limit });
            }
        };
        self.inflater = Some(inflater);
        if self.message.is_some() {
            self.message = Some(message);
        }
        Ok((taken, step))
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
                self.state = State::Over;
                self.inflater = None;
                FrameEvent::Close(reason)
            }
        };
        Ok((n, Step::Event(event)))
    }

    /// Unmasks what is the next of the frame's payload, and counts it.
    #[inline]
    fn unmask<'a>(&mut self, bytes: &'a mut [u8]) -> &'a [u8] {
        if let Some(mask) = &mut self.frame.mask {
            mask::apply(bytes, *mask);
            *mask = mask::rotate(*mask, bytes.len());
        }
        self.frame.left -= bytes.len() as u64;
        bytes
    }

    #[inline]
    fn end_of_frame(&mut self, message: MessageProgress) -> Result<Step, Violation> {
        self.state = State::Header;
        if !self.frame.fin {
            self.message = Some(message);
            return Ok(Step::Go);
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

/// Hands a piece of a message to the sink; text is validated first.
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
        Kind::Binary => sink.binary(chunk),
        Kind::Text => utf8
            .feed(chunk, |text| sink.text(text))
            .map_err(|Broken { byte, at }| Violation::NotUtf8 { byte, at: message.size.wrapping_add_signed(at) })?,
    }
    message.size += chunk.len();
    Ok(())
}

/// What a close frame says (RFC 6455 §5.5.1).
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
