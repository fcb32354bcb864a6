//! Requests to bytes and back.

use super::archive::{CancelMessage, CloseMessage, Write, read, read_nothing, write};
use super::head::{Direction, MessageHead};
use super::op::Op;
use super::{EncodedMessage, split_whole};
use crate::error::{DecodeError, ErrorKind, ServiceError};
use crate::memory::Payload;
use crate::request::Request;
use crate::validate;

impl Request {
    /// The operation that this request asks for.
    pub fn op(&self) -> Op {
        match self {
            Self::Ping => Op::Ping,
            Self::Put(_) => Op::Put,
            Self::Get(_) => Op::Get,
            Self::Exists(_) => Op::Exists,
            Self::Stats => Op::Stats,
            Self::Clear(_) => Op::Clear,
            Self::Restore(_) => Op::Restore,
            Self::Close { .. } => Op::Close,
            Self::GetMany(_) => Op::GetMany,
            Self::List(_) => Op::List,
            Self::LookupBlockPrefix(_) => Op::LookupBlockPrefix,
            Self::GetBlocks(_) => Op::GetBlocks,
            Self::PutBlocks(_) => Op::PutBlocks,
            Self::Delete(_) => Op::Delete,
            Self::Open(_) => Op::Open,
            Self::PutSidecar(_) => Op::PutSidecar,
            Self::GetSidecar(_) => Op::GetSidecar,
            Self::PublishHead(_) => Op::PublishHead,
            Self::GetHead(_) => Op::GetHead,
            Self::RestoreChain(_) => Op::RestoreChain,
            Self::Cancel { .. } => Op::Cancel,
            Self::Maintain(_) => Op::Maintain,
        }
    }
}

/// The bytes of a request. Fails where the request is not valid, or where `payloads` are not what it announces.
pub fn encode_request(
    request_id: u64,
    request: &Request,
    payloads: Vec<Payload>,
) -> Result<EncodedMessage, ServiceError> {
    validate::request(request)?;
    let announced = request.payload_lens();
    if !announced.iter().copied().eq(payloads.iter().map(|payload| payload.len() as u64)) {
        let text = format!("a {} whose payloads have other lengths than it announces", request.op().as_str());
        return Err(ServiceError::new(ErrorKind::Invalid, text));
    }
    let head = MessageHead::new(Some(request.op()), Direction::Request, request_id);
    let body = match request {
        Request::Ping | Request::Stats => write(head, None::<&CloseMessage>),
        Request::Put(body) => archived(head, body),
        Request::Get(body) => archived(head, body),
        Request::Exists(body) => archived(head, body),
        Request::Clear(body) => archived(head, body),
        Request::Restore(body) => archived(head, body),
        Request::Close { ns } => archived(head, &CloseMessage { ns: *ns }),
        Request::GetMany(body) => archived(head, body),
        Request::List(body) => archived(head, body),
        Request::LookupBlockPrefix(body) => archived(head, body),
        Request::GetBlocks(body) => archived(head, body),
        Request::PutBlocks(body) => archived(head, body),
        Request::Delete(body) => archived(head, body),
        Request::Open(body) => archived(head, body.as_ref()),
        Request::PutSidecar(body) => archived(head, body),
        Request::GetSidecar(body) => archived(head, body),
        Request::PublishHead(body) => archived(head, body),
        Request::GetHead(body) => archived(head, body),
        Request::RestoreChain(body) => archived(head, body),
        Request::Cancel { request_id } => archived(head, &CancelMessage { request_id: *request_id }),
        Request::Maintain(body) => archived(head, body),
    };
    Ok(EncodedMessage { head: body?, payloads })
}

fn archived(head: MessageHead, body: &impl Write) -> Result<Vec<u8>, ServiceError> {
    write(head, Some(body))
}

/// Reads a request from its head and its archive. The payloads that it announces are `payload_lens()`; each of them,
/// and their sum, is within the limits.
pub fn decode_request(head: &MessageHead, archive: &[u8]) -> Result<Request, DecodeError> {
    let op = head.check(Direction::Request)?.ok_or(DecodeError::Unknown { what: "the operation", got: 0 })?;
    for (what, got) in [("the status of a request", head.status), ("the detail of a request", head.detail)] {
        if got != 0 {
            return Err(DecodeError::Invalid { what, got: u64::from(got), must: "0" });
        }
    }
    let request = match op {
        Op::Ping => read_nothing("a ping", archive).map(|()| Request::Ping)?,
        Op::Stats => read_nothing("a stats request", archive).map(|()| Request::Stats)?,
        Op::Put => Request::Put(read("a put", archive)?),
        Op::Get => Request::Get(read("a get", archive)?),
        Op::Exists => Request::Exists(read("an exists", archive)?),
        Op::Clear => Request::Clear(read("a clear", archive)?),
        Op::Restore => Request::Restore(read("a restore", archive)?),
        Op::Close => Request::Close { ns: read::<CloseMessage>("a close", archive)?.ns },
        Op::GetMany => Request::GetMany(read("a get-many", archive)?),
        Op::List => Request::List(read("a list", archive)?),
        Op::LookupBlockPrefix => Request::LookupBlockPrefix(read("a look-up", archive)?),
        Op::GetBlocks => Request::GetBlocks(read("a get of blocks", archive)?),
        Op::PutBlocks => Request::PutBlocks(read("a put of blocks", archive)?),
        Op::Delete => Request::Delete(read("a delete", archive)?),
        Op::Open => Request::open(read("an open", archive)?),
        Op::PutSidecar => Request::PutSidecar(read("a put of a sidecar", archive)?),
        Op::GetSidecar => Request::GetSidecar(read("a get of a sidecar", archive)?),
        Op::PublishHead => Request::PublishHead(read("a publish of a head", archive)?),
        Op::GetHead => Request::GetHead(read("a get of a head", archive)?),
        Op::RestoreChain => Request::RestoreChain(read("a restore of a chain", archive)?),
        Op::Cancel => Request::Cancel { request_id: read::<CancelMessage>("a cancel", archive)?.request_id },
        Op::Maintain => Request::Maintain(read("a request for maintenance", archive)?),
    };
    validate::request(&request)?;
    Ok(request)
}

/// Reads a request that is whole in memory, payloads included. Answers its id, the request and its payloads.
pub fn decode_whole_request(message: &Payload) -> Result<(u64, Request, Vec<Payload>), DecodeError> {
    let (head, archive, rest) = split_whole(message, Direction::Request)?;
    let request = decode_request(&head, archive.as_ref())?;
    let payloads = super::split_payloads("the request", rest, &request.payload_lens())?;
    Ok((head.request_id, request, payloads))
}
