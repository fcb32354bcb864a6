//! Archives: how values become bytes and how bytes are read back. Also the small messages that have no type of their own.

use super::head::{HEAD_BYTES, MessageHead};
use crate::error::{DecodeError, ErrorKind, ServiceError};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::request::NsHandle;
use crate::response::{Chain, Hit, ItemOutcome};
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct CloseMessage {
    pub ns: NsHandle,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct CancelMessage {
    pub request_id: u64,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct HitMessage {
    pub hit: Hit,
    /// Bytes of the payload that follows.
    pub len: u64,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct ExistsMessage {
    pub len: u64,
    pub expires_at_ms: u64,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct StatsMessage {
    /// Bytes of the JSON document that follows.
    pub len: u64,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct MaintainedMessage {
    pub cursor: Vec<u8>,
    /// Bytes of the JSON document that follows.
    pub len: u64,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct CountMessage {
    pub count: u64,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct ItemsMessage {
    pub items: Vec<ItemOutcome>,
    /// Bytes of the payload of each hit, in order.
    pub lens: Vec<u64>,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct ChainMessage {
    pub chain: Chain,
    /// Bytes of the payload of each hit, in order, and of the sidecar.
    pub lens: Vec<u64>,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct ErrorMessage {
    pub text: String,
    pub retry_after_ms: u32,
    pub limit: u64,
}

/// What serializes into a message.
pub(super) trait Write: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Error>> {}
impl<T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Error>>> Write for T {}

/// The head, completed with the archive's length, and the archive.
pub(super) fn write(head: MessageHead, value: Option<&impl Write>) -> Result<Vec<u8>, ServiceError> {
    let Some(value) = value else { return Ok(head.to_bytes().into()) };
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&head.to_bytes());
    bytes = rkyv::api::high::to_bytes_in::<_, rancor::Error>(value, bytes)
        .map_err(|error| ServiceError::new(ErrorKind::Internal, format!("a message does not serialize: {error}")))?;
    let archive = bytes.len() - HEAD_BYTES;
    let archive_len = u32::try_from(archive).ok().filter(|len| *len <= MESSAGE_BYTES_MAX).ok_or_else(|| {
        let text = format!("a message of {archive} bytes is over the limit of {MESSAGE_BYTES_MAX} bytes");
        ServiceError::too_large(text, u64::from(MESSAGE_BYTES_MAX))
    })?;
    bytes[..HEAD_BYTES].copy_from_slice(&MessageHead { archive_len, ..head }.to_bytes());
    Ok(bytes)
}

/// Why an archive is refused; `rancor::Error` forgets it in release builds.
type Reason = rancor::BoxedError;

/// Validates an archive and reads it. Its parts cannot overlap, so what is allocated is bounded by a small multiple of
/// the archive's own length.
pub(super) fn read<T>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, Reason>> + Deserialize<T, HighDeserializer<Reason>>,
{
    let fail = |error: Reason| DecodeError::Archive { what, reason: error.to_string() };
    let archived = rkyv::access::<T::Archived, Reason>(bytes).map_err(fail)?;
    rkyv::deserialize::<T, Reason>(archived).map_err(fail)
}

/// For messages without an archive.
pub(super) fn read_nothing(what: &'static str, bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes { what, extra: bytes.len() as u64 }) }
}
