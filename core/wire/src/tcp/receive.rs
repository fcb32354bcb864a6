//! One direction's incoming frames: bytes in, messages and filled payloads out.

use super::frame::{FRAME_HEADER_BYTES, FrameHeader, TRAILER_BYTES};
use crate::error::{DecodeError, ServiceError};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::memory::{Payload, WriteBuf};
use crate::message::{Direction, HEAD_BYTES, MessageHead};
use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// Bytes read at once where the destination is not known yet. Small enough that the beginning of a large payload, which
/// is then copied into its destination, costs little; large enough for a batch of small requests.
const STAGING_BYTES: usize = 16 << 10;
/// A staging buffer that grew beyond this for a large archive is given back.
const STAGING_KEEP_BYTES: usize = 64 << 10;
const FIXED_BYTES: usize = FRAME_HEADER_BYTES + HEAD_BYTES;

/// Where the next bytes of the stream belong.
pub type ReadInto<'a> = Limit<&'a mut dyn BufMut>;

/// What came in.
#[derive(Debug)]
pub enum Received {
    /// Read more bytes into `read_into()`.
    NeedBytes,
    /// A message begins. Call `expect`, then `fill` or `discard`, before the next `poll`.
    Message { head: MessageHead, archive: Bytes },
    /// A message with a long archive begins. Call `read_archive` with a destination of `len` bytes, or `skip_archive`,
    /// before the next `poll`.
    LongArchive { len: u32 },
    /// A message begins in a sound frame, and is over a limit or was refused. It is being skipped; say so to whoever sent
    /// it.
    Refused { head: MessageHead, error: ServiceError },
    /// The payloads of a message that was accepted are there. `intact` is the verdict of their checksum.
    Body { id: u64, payloads: Vec<Payload>, intact: Result<(), DecodeError> },
}

/// Payloads on their way into their destinations.
struct Filling {
    id: u64,
    op: u8,
    /// `None` where the payloads are thrown away.
    buffers: Option<Vec<Box<dyn WriteBuf>>>,
    at: usize,
    /// Payload bytes that later frames still have to bring; `None` where nobody knows.
    left: Option<u64>,
    /// Payload bytes of the whole message; 0 where nobody knows.
    total: u64,
}

/// A frame whose head and archive are known to be sound.
#[derive(Clone, Copy)]
struct Sound {
    head: MessageHead,
    payload_len: u64,
    trailer: bool,
}

/// A frame whose archive is still to come.
#[derive(Clone, Copy)]
struct Begun {
    sound: Sound,
    frame: FrameHeader,
    crc: u32,
}

/// Where an archive goes.
enum ArchiveInto {
    Staging,
    /// Nobody has said yet.
    Unknown,
    Room {
        buf: Box<dyn WriteBuf>,
        left: u64,
    },
    /// It is thrown away as it comes.
    Nowhere {
        left: u64,
        error: ServiceError,
    },
}

enum State {
    Head,
    /// The archive is awaited.
    Archive {
        begun: Begun,
        into: ArchiveInto,
    },
    /// The message is with the caller, who has to say where its payloads go.
    Verdict {
        sound: Sound,
        expected: Option<u64>,
    },
    Payload {
        filling: Filling,
        remaining: u64,
        sound: Sound,
    },
    Trailer {
        filling: Filling,
    },
    Broken,
}

/// Reads frames. After an error it stays broken: nobody knows where the next frame begins.
pub struct Receiver {
    direction: Direction,
    frame_bytes_max: u32,
    /// Messages that may be under way in several frames at once.
    unfinished_max: usize,
    payload_crc_required: bool,
    archive_bytes_max: u32,
    /// Longest archive that needs no `read_archive`.
    archive_bytes_free: u32,
    staging: BytesMut,
    state: State,
    unfinished: BTreeMap<u64, Filling>,
}

impl Receiver {
    pub fn new(direction: Direction, frame_bytes_max: u32, unfinished_max: usize) -> Self {
        Self {
            direction,
            frame_bytes_max,
            unfinished_max,
            payload_crc_required: false,
            archive_bytes_max: MESSAGE_BYTES_MAX,
            archive_bytes_free: MESSAGE_BYTES_MAX,
            staging: BytesMut::new(),
            state: State::Head,
            unfinished: BTreeMap::new(),
        }
    }

    /// From now on, payloads without a checksum are refused.
    pub fn require_payload_crc(&mut self) {
        self.payload_crc_required = true;
    }

    /// From the next message on, longer archives are over the limit, and those over `free` are asked room for.
    pub fn limit_archives(&mut self, max: u32, free: u32) {
        (self.archive_bytes_max, self.archive_bytes_free) = (max, free);
    }

    /// Whether the stream may end here without cutting a message short.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Head) && self.staging.is_empty() && self.unfinished.is_empty()
    }

    /// Bytes that the peer has announced, for which room is held here, and that have not come.
    pub fn owed_bytes(&self) -> u64 {
        let held = |filling: &Filling| if filling.buffers.is_some() { filling.left.unwrap_or(0) } else { 0 };
        let begun = match &self.state {
            State::Archive { begun, into: ArchiveInto::Staging } => {
                u64::from(begun.sound.head.archive_len).saturating_sub(self.staging.len() as u64)
            }
            State::Archive { into: ArchiveInto::Room { left, .. }, .. } => *left,
            State::Payload { filling, remaining, .. } if filling.buffers.is_some() => {
                held(filling).saturating_add(*remaining)
            }
            _ => 0,
        };
        self.unfinished.values().map(held).fold(begun, u64::saturating_add)
    }

    /// Where the next bytes go: straight into a payload's destination where one is known and much is missing. Tell
    /// `advance` how many bytes came.
    pub fn read_into(&mut self) -> ReadInto<'_> {
        let known = match &mut self.state {
            State::Payload { filling, remaining, .. }
                if *remaining > STAGING_BYTES as u64 && self.staging.is_empty() =>
            {
                filling.current().map(|buffer| (buffer, *remaining))
            }
            State::Archive { into: ArchiveInto::Room { buf, left }, .. }
                if *left > STAGING_BYTES as u64 && self.staging.is_empty() =>
            {
                Some((buf.unfilled(), *left))
            }
            _ => None,
        };
        if let Some((buffer, left)) = known {
            return buffer.limit(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if self.staging.is_empty() && self.staging.capacity() > STAGING_KEEP_BYTES {
            self.staging = BytesMut::new();
        }
        self.staging.reserve(STAGING_BYTES);
        let staging: &mut dyn BufMut = &mut self.staging;
        staging.limit(STAGING_BYTES)
    }

    /// `n` bytes were put into `read_into()`.
    pub fn advance(&mut self, n: usize) {
        if let State::Payload { remaining: left, .. } | State::Archive { into: ArchiveInto::Room { left, .. }, .. } =
            &mut self.state
            && self.staging.is_empty()
        {
            *left = left.saturating_sub(n as u64);
        }
    }

    /// What the bytes that came in amount to. An error ends the connection.
    pub fn poll(&mut self) -> Result<Received, DecodeError> {
        let result = self.step();
        if result.is_err() {
            self.state = State::Broken;
        }
        result
    }

    fn step(&mut self) -> Result<Received, DecodeError> {
        loop {
            match std::mem::replace(&mut self.state, State::Broken) {
                State::Head => match self.read_head()? {
                    Some(state) => self.state = state,
                    None => return self.wait(State::Head),
                },
                State::Archive { begun, into } => {
                    if let Some(received) = self.read_archive_on(begun, into)? {
                        return Ok(received);
                    }
                }
                State::Verdict { sound, .. } => {
                    // The caller had nothing to say of the message: its payloads are nobody's.
                    self.state = State::Verdict { sound, expected: None };
                    self.discard();
                }
                State::Payload { mut filling, mut remaining, sound } => {
                    remaining = remaining.saturating_sub(filling.take(&mut self.staging, remaining));
                    if remaining > 0 {
                        return self.wait(State::Payload { filling, remaining, sound });
                    }
                    if sound.head.more() {
                        self.unfinished.insert(filling.id, filling);
                        self.state = State::Head;
                    } else if sound.trailer {
                        self.state = State::Trailer { filling };
                    } else if self.payload_crc_required && filling.total > 0 {
                        let must = "followed by their checksum, as OPEN agreed";
                        let got = filling.total;
                        return Err(DecodeError::Invalid { what: "the payload bytes of a message", got, must });
                    } else if let Some(body) = self.finish(filling, None)? {
                        return Ok(body);
                    }
                }
                State::Trailer { filling } => match self.staging.try_get_u32_le() {
                    Err(_) => return self.wait(State::Trailer { filling }),
                    Ok(crc) => {
                        if let Some(body) = self.finish(filling, Some(crc))? {
                            return Ok(body);
                        }
                    }
                },
                State::Broken => {
                    return Err(DecodeError::Invalid { what: "a connection", got: 0, must: "dropped after an error" });
                }
            }
        }
    }

    fn wait(&mut self, state: State) -> Result<Received, DecodeError> {
        self.state = state;
        Ok(Received::NeedBytes)
    }

    fn read_head(&mut self) -> Result<Option<State>, DecodeError> {
        // The frame's own header is judged as soon as it is there: who speaks another protocol hears it at once.
        let Some((header, rest)) = self.staging.split_first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let frame = FrameHeader::from_bytes(header)?;
        let Some(message) = rest.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let head = MessageHead::from_bytes(message);
        let crc = crc32c::crc32c_append(frame.crc_of_header(), message);
        let len = u64::from(frame.len);
        let trailer = if frame.has_trailer() { TRAILER_BYTES } else { 0 };
        let message_len = HEAD_BYTES as u64 + u64::from(head.archive_len);
        let payload_len = len.checked_sub(message_len + trailer).ok_or(DecodeError::LengthMismatch {
            what: "a frame that must hold a message and its checksum",
            said: message_len + trailer,
            got: len,
        })?;
        if head.more() && frame.has_trailer() {
            let must = "on a message's last frame only";
            return Err(DecodeError::Invalid { what: "the checksum of payloads", got: head.request_id, must });
        }
        self.staging.advance(FIXED_BYTES);
        let (len, max) = (head.archive_len, self.archive_bytes_max);
        let into = if len > max {
            let (got, limit) = (u64::from(len), u64::from(max));
            let error = DecodeError::TooLong { what: "the length of a message in bytes", got, limit };
            ArchiveInto::Nowhere { left: got, error: error.into() }
        } else if len > self.archive_bytes_free {
            ArchiveInto::Unknown
        } else {
            ArchiveInto::Staging
        };
        let sound = Sound { head, payload_len, trailer: frame.has_trailer() };
        Ok(Some(State::Archive { begun: Begun { sound, frame, crc }, into }))
    }

    /// The archive of the message that has just begun goes into `buf`, which has its length.
    pub fn read_archive(&mut self, buf: Box<dyn WriteBuf>) {
        if let State::Archive { begun, into } = &mut self.state {
            *into = ArchiveInto::Room { buf, left: begun.sound.head.archive_len.into() };
        }
    }

    /// There is no room for the archive of the message that has just begun: it is skipped, and then refused.
    pub fn skip_archive(&mut self, error: ServiceError) {
        if let State::Archive { begun, into } = &mut self.state {
            *into = ArchiveInto::Nowhere { left: begun.sound.head.archive_len.into(), error };
        }
    }

    /// Goes on with an archive: an answer where there is something to say, `None` where the state has changed.
    fn read_archive_on(&mut self, begun: Begun, into: ArchiveInto) -> Result<Option<Received>, DecodeError> {
        let Begun { sound, frame, crc } = begun;
        let archive = match into {
            ArchiveInto::Unknown => {
                self.state = State::Archive { begun, into };
                return Ok(Some(Received::LongArchive { len: sound.head.archive_len }));
            }
            ArchiveInto::Nowhere { left, error } => {
                let skipped = self.staged(left);
                let left = left.saturating_sub(skipped.len() as u64);
                let crc = crc32c::crc32c_append(crc, &skipped);
                if left > 0 {
                    let (begun, into) = (Begun { crc, ..begun }, ArchiveInto::Nowhere { left, error });
                    return self.wait(State::Archive { begun, into }).map(Some);
                }
                check_crc(&frame, crc)?;
                return self.refused(sound, error).map(Some);
            }
            ArchiveInto::Room { mut buf, left } => {
                let staged = self.staged(left);
                buf.unfilled().put_slice(&staged);
                let left = left.saturating_sub(staged.len() as u64);
                if left > 0 {
                    return self.wait(State::Archive { begun, into: ArchiveInto::Room { buf, left } }).map(Some);
                }
                let (said, what) = (sound.head.archive_len.into(), "the destination of an archive");
                buf.seal().ok_or(DecodeError::LengthMismatch { what, said, got: 0 })?.into_bytes()
            }
            ArchiveInto::Staging => {
                let len = usize::try_from(sound.head.archive_len).unwrap_or(usize::MAX);
                if self.staging.len() < len {
                    return self.wait(State::Archive { begun, into }).map(Some);
                }
                self.staging.split_to(len).freeze()
            }
        };
        check_crc(&frame, crc32c::crc32c_append(crc, &archive))?;
        self.begin(sound, frame, archive)
    }

    /// Takes at most `wanted` staged bytes.
    fn staged(&mut self, wanted: u64) -> BytesMut {
        let n = self.staging.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.staging.split_to(n)
    }

    /// A frame is sound: a new message, or the continuation of one.
    fn begin(&mut self, sound: Sound, frame: FrameHeader, archive: Bytes) -> Result<Option<Received>, DecodeError> {
        let head = sound.head;
        if head.continued() {
            self.state = self.go_on(sound)?;
            return Ok(None);
        }
        if self.unfinished.contains_key(&head.request_id) {
            let must = "the id of no message that is under way";
            return Err(DecodeError::Invalid { what: "the id of a new message", got: head.request_id, must });
        }
        if head.more() && self.unfinished.len() >= self.unfinished_max {
            let (got, limit) = (self.unfinished.len() as u64 + 1, self.unfinished_max as u64);
            return Err(DecodeError::TooLong { what: "the number of messages in several frames", got, limit });
        }
        if frame.len > self.frame_bytes_max {
            let (got, limit) = (u64::from(frame.len), u64::from(self.frame_bytes_max));
            let error = DecodeError::TooLong { what: "the length of a frame", got, limit };
            return self.refused(sound, error.into()).map(Some);
        }
        self.state = State::Verdict { sound, expected: None };
        Ok(Some(Received::Message { head, archive }))
    }

    fn refused(&mut self, sound: Sound, error: ServiceError) -> Result<Received, DecodeError> {
        if sound.head.continued() || sound.head.more() {
            let must = "within the limits where its message has several frames";
            let got = u64::from(sound.head.archive_len);
            return Err(DecodeError::Invalid { what: "the archive, or the length, of a frame", got, must });
        }
        self.state = State::Verdict { sound, expected: None };
        self.discard();
        Ok(Received::Refused { head: sound.head, error })
    }

    fn go_on(&mut self, sound: Sound) -> Result<State, DecodeError> {
        let Sound { head, payload_len, .. } = sound;
        let id = head.request_id;
        let what = "a continuing frame";
        let Some(mut filling) = self.unfinished.remove(&id) else {
            return Err(DecodeError::Invalid { what, got: id, must: "of a message that is under way" });
        };
        if head.op != filling.op || head.archive_len != 0 {
            return Err(DecodeError::Invalid { what, got: id, must: "of its message's operation, without an archive" });
        }
        if head.more() && payload_len == 0 {
            return Err(DecodeError::Invalid { what, got: id, must: "with payload bytes unless it is the last" });
        }
        if let Some(left) = filling.left {
            if payload_len > left || head.more() == (payload_len == left) {
                return Err(DecodeError::LengthMismatch { what, said: left, got: payload_len });
            }
            filling.left = Some(left.saturating_sub(payload_len));
        }
        Ok(State::Payload { filling, remaining: payload_len, sound })
    }

    /// Checks that the message just received brings payloads of these lengths. After an error its payloads are
    /// discarded, and the connection can go on.
    pub fn expect(&mut self, lens: &[u64]) -> Result<(), DecodeError> {
        let State::Verdict { sound, expected } = &mut self.state else { return Ok(()) };
        let sum = lens.iter().fold(0_u64, |sum, len| sum.saturating_add(*len));
        let got = sound.payload_len;
        let fits = if sound.head.more() { got > 0 && got < sum } else { got == sum };
        if fits {
            *expected = Some(sum);
            return Ok(());
        }
        self.discard();
        Err(DecodeError::LengthMismatch { what: "a message (in payload bytes)", said: sum, got })
    }

    /// The payloads of the message just received and expected go into `buffers`, in order.
    pub fn fill(&mut self, buffers: Vec<Box<dyn WriteBuf>>) {
        self.receive_into(Some(buffers));
    }

    /// The payloads of the message just received are thrown away as they come.
    pub fn discard(&mut self) {
        self.receive_into(None);
    }

    fn receive_into(&mut self, buffers: Option<Vec<Box<dyn WriteBuf>>>) {
        self.state = match std::mem::replace(&mut self.state, State::Broken) {
            State::Verdict { sound, expected } => {
                let left = expected.map(|sum| sum.saturating_sub(sound.payload_len));
                let (id, op, total) = (sound.head.request_id, sound.head.op, expected.unwrap_or(0));
                let filling = Filling { id, op, buffers, at: 0, left, total };
                State::Payload { filling, remaining: sound.payload_len, sound }
            }
            other => other,
        };
    }

    /// The payloads of message `id`, which was accepted and is still coming in, are thrown away from now on.
    pub fn abandon(&mut self, id: u64) {
        if let State::Payload { filling, .. } | State::Trailer { filling } = &mut self.state
            && filling.id == id
        {
            filling.buffers = None;
        }
        if let Some(filling) = self.unfinished.get_mut(&id) {
            filling.buffers = None;
        }
    }

    fn finish(&mut self, filling: Filling, trailer: Option<u32>) -> Result<Option<Received>, DecodeError> {
        self.state = State::Head;
        let Filling { id, buffers, total, .. } = filling;
        let Some(buffers) = buffers else { return Ok(None) };
        let payloads: Option<Vec<Payload>> = buffers.into_iter().map(|buffer| buffer.seal()).collect();
        let payloads = payloads.ok_or(DecodeError::LengthMismatch {
            what: "the destinations of a message's payloads",
            said: total,
            got: 0,
        })?;
        let intact = match trailer {
            None => Ok(()),
            Some(got) => {
                let computed = payloads.iter().fold(0, |crc, payload| crc32c::crc32c_append(crc, payload.as_ref()));
                let what = "a message's payloads";
                if got == computed { Ok(()) } else { Err(DecodeError::Checksum { what, got, computed }) }
            }
        };
        Ok(Some(Received::Body { id, payloads, intact }))
    }

    /// The direction of the messages that this reads.
    pub fn direction(&self) -> Direction {
        self.direction
    }
}

fn check_crc(frame: &FrameHeader, computed: u32) -> Result<(), DecodeError> {
    if frame.crc == computed {
        return Ok(());
    }
    Err(DecodeError::Checksum { what: "a frame's header and message", got: frame.crc, computed })
}

impl Filling {
    /// The destination that is not full yet.
    fn current(&mut self) -> Option<&mut dyn BufMut> {
        let Self { buffers, at, .. } = self;
        let buffers = buffers.as_mut()?;
        while buffers.get_mut(*at)?.unfilled().remaining_mut() == 0 {
            *at += 1;
        }
        buffers.get_mut(*at).map(|buffer| buffer.unfilled())
    }

    /// Moves at most `remaining` staged bytes to where they belong. Answers how many.
    fn take(&mut self, staging: &mut BytesMut, remaining: u64) -> u64 {
        let mut taken = 0_u64;
        while !staging.is_empty() && taken < remaining {
            let wanted = usize::try_from(remaining.saturating_sub(taken)).unwrap_or(usize::MAX).min(staging.len());
            let n = match self.current() {
                Some(buffer) => {
                    let n = wanted.min(buffer.remaining_mut());
                    buffer.put_slice(&staging.split_to(n));
                    n
                }
                None => staging.split_to(wanted).len(),
            };
            taken = taken.saturating_add(n as u64);
        }
        taken
    }
}
