//! The packets of an attach, field by field as `docs/shared-memory.md` draws them.

use bettong_wire::DecodeError;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The version of the packets, and of everything that is agreed by them.
pub const VERSION: u32 = 2;
/// Longest name of a client, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest text of a refusal, in bytes of UTF-8; what is longer is cut at a character.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 512;
/// Longest packet, in bytes.
pub(super) const PACKET_BYTES_MAX: usize = size_of::<RefusalLayout>() + REFUSAL_TEXT_BYTES_MAX;

const HELLO_MAGIC: [u8; 8] = *b"bettong>";
const REPLY_MAGIC: [u8; 8] = *b"bettong<";
/// The kind of a reply that is no refusal.
const WELCOME: u32 = 0;

/// What a client says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Bytes of staging that it asks for; the daemon decides.
    pub staging_bytes: u64,
    /// What operators call it.
    pub name: String,
}

/// The daemon's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Welcome(Welcome),
    Refusal(Refusal),
}

/// What is agreed for a session. Four segments come with it: the daemon's ring, the client's ring, the pool, the staging area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    pub session: u64,
    /// Names this life of the daemon.
    pub epoch: u64,
    /// Words of either ring.
    pub ring_words: u32,
    pub inline_max: u16,
    pub staging_bytes: u64,
    pub pool_bytes: u64,
    /// Bytes of slots that the client may lease at once.
    pub quota_bytes: u64,
}

/// Why a daemon turns a client away.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// The limit that the text names, or 0.
    pub limit: u64,
    pub text: String,
}

/// What a client can do about a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum RefusalKind {
    /// Run as a user that may attach.
    User = 1,
    /// Use the daemon's release.
    Version = 2,
    /// Fix the client: what it sent makes no sense.
    Invalid = 3,
    /// Come back later: there are too many clients, or there is no memory.
    Busy = 4,
    /// Use another door: this daemon has none of this kind now.
    Unavailable = 5,
}

impl RefusalKind {
    pub const ALL: [Self; 5] = [Self::User, Self::Version, Self::Invalid, Self::Busy, Self::Unavailable];
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct HelloLayout {
    magic: [u8; 8],
    version: U32,
    zero: U32,
    staging_bytes: U64,
    name_len: U32,
    zero_too: U32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct ReplyLayout {
    magic: [u8; 8],
    version: U32,
    kind: U32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct WelcomeLayout {
    session: U64,
    epoch: U64,
    ring_words: U32,
    inline_max: U16,
    zero: U16,
    staging_bytes: U64,
    pool_bytes: U64,
    quota_bytes: U64,
}

/// With what every reply begins, and a refusal's own fields.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RefusalLayout {
    reply: ReplyLayout,
    fields: RefusalFields,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RefusalFields {
    limit: U64,
    text_len: U32,
    zero: U32,
}

impl Hello {
    /// The packet. Fails where the name is too long.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let name_len = checked_len("the name of a client in bytes", self.name.len() as u64, NAME_BYTES_MAX)?;
        let layout = HelloLayout {
            magic: HELLO_MAGIC,
            version: VERSION.into(),
            zero: U32::ZERO,
            staging_bytes: self.staging_bytes.into(),
            name_len: name_len.into(),
            zero_too: U32::ZERO,
        };
        Ok([layout.as_bytes(), self.name.as_bytes()].concat())
    }

    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let what = "a hello";
        let (layout, rest) = HelloLayout::read_from_prefix(packet)
            .map_err(|_| truncated(what, size_of::<HelloLayout>(), packet.len()))?;
        check_magic(what, HELLO_MAGIC, layout.magic, layout.version)?;
        must_be_zero("a reserved field of a hello", layout.zero.get() | layout.zero_too.get())?;
        let len = checked_len("the name of a client in bytes", layout.name_len.get().into(), NAME_BYTES_MAX)?;
        let name = text("the name of a client", rest, len)?;
        Ok(Self { staging_bytes: layout.staging_bytes.get(), name })
    }
}

impl Reply {
    pub fn encode(&self) -> Vec<u8> {
        let begin = |kind: u32| ReplyLayout { magic: REPLY_MAGIC, version: VERSION.into(), kind: kind.into() };
        match self {
            Self::Welcome(welcome) => {
                let layout = WelcomeLayout {
                    session: welcome.session.into(),
                    epoch: welcome.epoch.into(),
                    ring_words: welcome.ring_words.into(),
                    inline_max: welcome.inline_max.into(),
                    zero: U16::ZERO,
                    staging_bytes: welcome.staging_bytes.into(),
                    pool_bytes: welcome.pool_bytes.into(),
                    quota_bytes: welcome.quota_bytes.into(),
                };
                [begin(WELCOME).as_bytes(), layout.as_bytes()].concat()
            }
            Self::Refusal(refusal) => {
                let max = REFUSAL_TEXT_BYTES_MAX.min(refusal.text.len());
                let end = (0..=max).rev().find(|end| refusal.text.is_char_boundary(*end)).unwrap_or(0);
                let text = refusal.text.get(..end).unwrap_or_default();
                // At most the limit.
                let text_len = u32::try_from(text.len()).unwrap_or(0).into();
                let fields = RefusalFields { limit: refusal.limit.into(), text_len, zero: U32::ZERO };
                let layout = RefusalLayout { reply: begin(refusal.kind as u32), fields };
                [layout.as_bytes(), text.as_bytes()].concat()
            }
        }
    }

    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let what = "a reply to a hello";
        let got = packet.len();
        let (layout, rest) =
            ReplyLayout::read_from_prefix(packet).map_err(|_| truncated(what, size_of::<ReplyLayout>(), got))?;
        check_magic(what, REPLY_MAGIC, layout.magic, layout.version)?;
        if layout.kind.get() == WELCOME {
            let needed = size_of::<ReplyLayout>() + size_of::<WelcomeLayout>();
            let (welcome, rest) =
                WelcomeLayout::read_from_prefix(rest).map_err(|_| truncated("a welcome", needed, got))?;
            must_be_zero("a reserved field of a welcome", welcome.zero.get().into())?;
            if !rest.is_empty() {
                return Err(DecodeError::TrailingBytes { what: "a welcome", extra: rest.len() as u64 });
            }
            return Ok(Self::Welcome(Welcome {
                session: welcome.session.get(),
                epoch: welcome.epoch.get(),
                ring_words: welcome.ring_words.get(),
                inline_max: welcome.inline_max.get(),
                staging_bytes: welcome.staging_bytes.get(),
                pool_bytes: welcome.pool_bytes.get(),
                quota_bytes: welcome.quota_bytes.get(),
            }));
        }
        let code = layout.kind.get();
        let kind = RefusalKind::ALL.into_iter().find(|kind| *kind as u32 == code);
        let kind = kind.ok_or(DecodeError::Unknown { what: "the kind of a reply", got: code.into() })?;
        let (fields, rest) = RefusalFields::read_from_prefix(rest)
            .map_err(|_| truncated("a refusal", size_of::<RefusalLayout>(), got))?;
        must_be_zero("a reserved field of a refusal", fields.zero.get())?;
        let len = checked_len("the text of a refusal in bytes", fields.text_len.get().into(), REFUSAL_TEXT_BYTES_MAX)?;
        Ok(Self::Refusal(Refusal { kind, limit: fields.limit.get(), text: text("the text of a refusal", rest, len)? }))
    }
}

fn truncated(what: &'static str, needed: usize, got: usize) -> DecodeError {
    DecodeError::Truncated { what, needed: needed as u64, at: 0, got: got as u64 }
}

fn check_magic(what: &'static str, expected: [u8; 8], got: [u8; 8], version: U32) -> Result<(), DecodeError> {
    if got != expected {
        return Err(DecodeError::BadMagic { what, expected: expected.to_vec(), got: got.to_vec() });
    }
    match u64::from(version.get()) {
        got if got == u64::from(VERSION) => Ok(()),
        got => Err(DecodeError::Version { what, got, min: VERSION.into(), max: VERSION.into() }),
    }
}

fn must_be_zero(what: &'static str, got: u32) -> Result<(), DecodeError> {
    if got == 0 { Ok(()) } else { Err(DecodeError::Invalid { what, got: got.into(), must: "0" }) }
}

fn checked_len(what: &'static str, got: u64, limit: usize) -> Result<u32, DecodeError> {
    let len = u32::try_from(got).ok().filter(|_| got <= limit as u64);
    len.ok_or(DecodeError::TooLong { what, got, limit: limit as u64 })
}

/// The text that is all of `rest`.
fn text(what: &'static str, rest: &[u8], len: u32) -> Result<String, DecodeError> {
    let got = rest.len() as u64;
    if got != u64::from(len) {
        return Err(DecodeError::LengthMismatch { what, said: len.into(), got });
    }
    let text = std::str::from_utf8(rest);
    let text = text.map_err(|error| DecodeError::Utf8 { what, valid_up_to: error.valid_up_to() as u64 })?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
