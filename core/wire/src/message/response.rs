//! Responses to bytes and back.

use super::archive::{
    ChainMessage, CountMessage, ErrorMessage, ExistsMessage, HitMessage, ItemsMessage, MaintainedMessage, StatsMessage,
    Write, read, read_nothing, write,
};
use super::head::{Direction, MessageHead};
use super::op::{Op, Status, error_detail};
use super::{EncodedMessage, split_payloads, split_whole};
use crate::error::{DecodeError, ErrorKind, ServiceError};
use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::memory::Payload;
use crate::response::{Answer, Chain, ItemOutcome, MissReason, Outcome, Response};
use crate::validate;

/// The bytes of the answer to an `op` (`None` where the request could not be read). An answer that cannot be sent (too
/// long, or payloads that do not fit its head) becomes an error that says so: every request gets an answer.
pub fn encode_response(op: Option<Op>, request_id: u64, response: Response) -> EncodedMessage {
    let head = MessageHead::new(op, Direction::Response, request_id);
    let Response { outcome, payloads } = response;
    let encoded = match &outcome {
        Outcome::Ok(answer) => encode_answer(head, op, answer, &payloads).map(|head| EncodedMessage { head, payloads }),
        Outcome::Miss(reason) => Ok(encode_miss(head, *reason)),
        Outcome::Error(error) => Ok(encode_error(head, error)),
    };
    encoded.unwrap_or_else(|error| encode_error(head, &error))
}

fn encode_miss(head: MessageHead, reason: MissReason) -> EncodedMessage {
    let head = MessageHead { status: Status::Miss.code(), detail: reason as u8, ..head };
    EncodedMessage { head: head.to_bytes().into(), payloads: Vec::new() }
}

fn encode_error(head: MessageHead, error: &ServiceError) -> EncodedMessage {
    let (status, detail) = error_codes(error.kind);
    let head = MessageHead { status: status.code(), detail, ..head };
    let text = cut(&error.message, ERROR_TEXT_BYTES_MAX).to_owned();
    let body = ErrorMessage { text, retry_after_ms: error.retry_after_ms, limit: error.limit };
    // An error's archive is far below the limit; were it not, a head without archive still says what kind it is.
    let head = write(head, Some(&body)).unwrap_or_else(|_| head.to_bytes().into());
    EncodedMessage { head, payloads: Vec::new() }
}

fn error_codes(kind: ErrorKind) -> (Status, u8) {
    match kind {
        ErrorKind::TooLarge => (Status::TooLarge, 0),
        ErrorKind::Busy => (Status::Busy, 0),
        ErrorKind::Denied => (Status::Denied, 0),
        ErrorKind::Declined => (Status::Declined, 0),
        ErrorKind::IdentityMismatch => (Status::IdentityMismatch, 0),
        ErrorKind::Invalid => (Status::Error, error_detail::INVALID),
        ErrorKind::Retry => (Status::Error, error_detail::RETRY),
        ErrorKind::Unavailable => (Status::Error, error_detail::UNAVAILABLE),
        ErrorKind::Internal => (Status::Error, error_detail::INTERNAL),
    }
}

/// The longest beginning of `text` that ends between two characters and has at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

fn encode_answer(
    head: MessageHead,
    op: Option<Op>,
    answer: &Answer,
    payloads: &[Payload],
) -> Result<Vec<u8>, ServiceError> {
    let mismatch = || {
        let op = op.map_or("none", Op::as_str);
        let text = format!("an answer to {op} that is none, or whose payloads do not fit its head");
        ServiceError::new(ErrorKind::Internal, text)
    };
    let lens = || payloads.iter().map(|payload| payload.len() as u64);
    validate::payload_lens("an answer", lens())?;
    let payloads_expected = match answer {
        Answer::Hit(_) | Answer::Stats | Answer::Maintained { .. } => 1,
        Answer::Items(items) => hits(items),
        Answer::Chain(chain) => hits_of_chain(chain),
        _ => 0,
    };
    if payloads.len() != payloads_expected {
        return Err(mismatch());
    }
    let first = lens().next().unwrap_or(0);
    match (op.ok_or_else(mismatch)?, answer) {
        (Op::Ping, Answer::Pong) | (Op::Close, Answer::Closed) | (Op::Cancel, Answer::Cancelled) => {
            write(head, None::<&CountMessage>)
        }
        (Op::Put | Op::PutSidecar, Answer::Stored(stored)) => archived(head, stored),
        (Op::Get | Op::GetSidecar, Answer::Hit(hit)) => archived(head, &HitMessage { hit: hit.clone(), len: first }),
        (Op::Exists, Answer::Exists { len, expires_at_ms }) => {
            archived(head, &ExistsMessage { len: *len, expires_at_ms: *expires_at_ms })
        }
        (Op::Stats, Answer::Stats) => archived(head, &StatsMessage { len: first }),
        (Op::Maintain, Answer::Maintained { cursor }) => {
            archived(head, &MaintainedMessage { cursor: cursor.clone(), len: first })
        }
        (Op::Clear | Op::Delete, Answer::Removed { count }) => archived(head, &CountMessage { count: *count }),
        (Op::Restore, Answer::Warmed { count }) => archived(head, &CountMessage { count: u64::from(*count) }),
        (Op::GetMany | Op::GetBlocks, Answer::Items(items)) => {
            archived(head, &ItemsMessage { items: items.clone(), lens: lens().collect() })
        }
        (Op::List, Answer::Page(page)) => archived(head, page),
        (Op::LookupBlockPrefix, Answer::Prefix { blocks }) => {
            archived(head, &CountMessage { count: u64::from(*blocks) })
        }
        (Op::PutBlocks, Answer::StoredBatch(stored)) => archived(head, stored),
        (Op::Open, Answer::Opened(opened)) => archived(head, opened),
        (Op::GetHead, Answer::Head(value)) => archived(head, value),
        (Op::PublishHead, Answer::Published { generation }) => archived(head, &CountMessage { count: *generation }),
        (Op::RestoreChain, Answer::Chain(chain)) => {
            archived(head, &ChainMessage { chain: chain.clone(), lens: lens().collect() })
        }
        _ => Err(mismatch()),
    }
}

fn archived(head: MessageHead, body: &impl Write) -> Result<Vec<u8>, ServiceError> {
    write(head, Some(body))
}

fn hits(items: &[ItemOutcome]) -> usize {
    items.iter().filter(|item| matches!(item, ItemOutcome::Hit(_))).count()
}

fn hits_of_chain(chain: &Chain) -> usize {
    chain.hits.len() + usize::from(matches!(chain.sidecar, Some(ItemOutcome::Hit(_))))
}

/// A response whose payloads are still to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseHead {
    /// `None` where the daemon could not read the request's operation; then the outcome is an error.
    pub op: Option<Op>,
    pub outcome: Outcome,
    /// The lengths of the payloads that follow, each and their sum within the limits.
    pub payload_lens: Vec<u64>,
}

/// Reads a response from its head and its archive.
pub fn decode_response(head: &MessageHead, archive: &[u8]) -> Result<ResponseHead, DecodeError> {
    let op = head.check(Direction::Response)?;
    let status = Status::from_code(head.status)
        .ok_or(DecodeError::Unknown { what: "the status of a response", got: u64::from(head.status) })?;
    let (outcome, payload_lens) = match status {
        Status::Ok => {
            require_no_detail(head)?;
            let op = op.ok_or(DecodeError::Unknown { what: "the operation of an answer", got: 0 })?;
            let (answer, lens) = decode_answer(op, archive)?;
            (Outcome::Ok(answer), lens)
        }
        Status::Miss => {
            read_nothing("a miss", archive)?;
            let reason = MissReason::from_u8(head.detail)
                .ok_or(DecodeError::Unknown { what: "the reason of a miss", got: u64::from(head.detail) })?;
            (Outcome::Miss(reason), Vec::new())
        }
        error => (Outcome::Error(decode_error(error, head, archive)?), Vec::new()),
    };
    validate::payload_lens("an answer", payload_lens.iter().copied())?;
    Ok(ResponseHead { op, outcome, payload_lens })
}

fn require_no_detail(head: &MessageHead) -> Result<(), DecodeError> {
    match head.detail {
        0 => Ok(()),
        got => Err(DecodeError::Invalid { what: "the detail of a response", got: u64::from(got), must: "0" }),
    }
}

fn decode_error(status: Status, head: &MessageHead, archive: &[u8]) -> Result<ServiceError, DecodeError> {
    let kind = match (status, head.detail) {
        (Status::TooLarge, 0) => ErrorKind::TooLarge,
        (Status::Busy, 0) => ErrorKind::Busy,
        (Status::Denied, 0) => ErrorKind::Denied,
        (Status::Declined, 0) => ErrorKind::Declined,
        (Status::IdentityMismatch, 0) => ErrorKind::IdentityMismatch,
        (Status::Error, error_detail::INVALID) => ErrorKind::Invalid,
        (Status::Error, error_detail::RETRY) => ErrorKind::Retry,
        (Status::Error, error_detail::UNAVAILABLE) => ErrorKind::Unavailable,
        (Status::Error, error_detail::INTERNAL) => ErrorKind::Internal,
        (_, detail) => return Err(DecodeError::Unknown { what: "the detail of an error", got: u64::from(detail) }),
    };
    let ErrorMessage { text, retry_after_ms, limit } = read("an error", archive)?;
    validate::bytes("the text of an error", text.len(), ERROR_TEXT_BYTES_MAX)?;
    Ok(ServiceError { kind, message: text, retry_after_ms, limit })
}

fn decode_answer(op: Op, archive: &[u8]) -> Result<(Answer, Vec<u64>), DecodeError> {
    let answer = match op {
        Op::Ping => read_nothing("a pong", archive).map(|()| Answer::Pong)?,
        Op::Close => read_nothing("the answer to a close", archive).map(|()| Answer::Closed)?,
        Op::Cancel => read_nothing("the answer to a cancel", archive).map(|()| Answer::Cancelled)?,
        Op::Put | Op::PutSidecar => Answer::Stored(read("the answer to a put", archive)?),
        Op::Get | Op::GetSidecar => {
            let HitMessage { hit, len } = read("a hit", archive)?;
            if len > hit.total_len {
                return Err(DecodeError::LengthMismatch { what: "a hit", said: hit.total_len, got: len });
            }
            return Ok((Answer::Hit(hit), vec![len]));
        }
        Op::Exists => {
            let ExistsMessage { len, expires_at_ms } = read("the answer to an exists", archive)?;
            Answer::Exists { len, expires_at_ms }
        }
        Op::Stats => return Ok((Answer::Stats, vec![read::<StatsMessage>("the statistics", archive)?.len])),
        Op::Maintain => {
            let MaintainedMessage { cursor, len } = read("the answer to maintenance", archive)?;
            validate::cursor(&cursor)?;
            return Ok((Answer::Maintained { cursor }, vec![len]));
        }
        Op::Clear | Op::Delete => Answer::Removed { count: count("the answer to a delete", archive)? },
        Op::Restore => Answer::Warmed { count: small_count("the answer to a restore", archive)? },
        Op::GetMany | Op::GetBlocks => return decode_items(archive),
        Op::List => {
            let page = read("a page", archive)?;
            validate::page(&page)?;
            Answer::Page(page)
        }
        Op::LookupBlockPrefix => Answer::Prefix { blocks: small_count("the answer to a look-up", archive)? },
        Op::PutBlocks => {
            let stored: Vec<_> = read("the answer to a put of blocks", archive)?;
            validate::batch("the answer to a put of blocks", stored.len())?;
            Answer::StoredBatch(stored)
        }
        Op::Open => {
            let opened = read("the answer to an open", archive)?;
            validate::opened(&opened)?;
            Answer::Opened(opened)
        }
        Op::GetHead => Answer::Head(read("a head", archive)?),
        Op::PublishHead => Answer::Published { generation: count("the answer to a publish", archive)? },
        Op::RestoreChain => return decode_chain(archive),
    };
    Ok((answer, Vec::new()))
}

fn decode_items(archive: &[u8]) -> Result<(Answer, Vec<u64>), DecodeError> {
    let ItemsMessage { items, lens } = read("the answer to a batch", archive)?;
    validate::batch("the answer to a batch", items.len())?;
    let hits = hits(&items);
    if hits != lens.len() {
        let what = "the list of payload lengths of a batch";
        return Err(DecodeError::LengthMismatch { what, said: lens.len() as u64, got: hits as u64 });
    }
    Ok((Answer::Items(items), lens))
}

fn decode_chain(archive: &[u8]) -> Result<(Answer, Vec<u64>), DecodeError> {
    let ChainMessage { chain, lens } = read("the answer to a restore of a chain", archive)?;
    validate::batch("the answer to a restore of a chain", chain.hits.len())?;
    let hits = hits_of_chain(&chain);
    if hits != lens.len() {
        let what = "the list of payload lengths of a chain";
        return Err(DecodeError::LengthMismatch { what, said: lens.len() as u64, got: hits as u64 });
    }
    let sidecar = chain.sidecar.iter().filter_map(|sidecar| match sidecar {
        ItemOutcome::Hit(hit) => Some(hit),
        ItemOutcome::Miss(_) => None,
    });
    for (hit, len) in chain.hits.iter().chain(sidecar).zip(&lens) {
        if hit.total_len != *len {
            return Err(DecodeError::LengthMismatch { what: "a value of a chain", said: hit.total_len, got: *len });
        }
    }
    Ok((Answer::Chain(chain), lens))
}

fn count(what: &'static str, archive: &[u8]) -> Result<u64, DecodeError> {
    Ok(read::<CountMessage>(what, archive)?.count)
}

fn small_count(what: &'static str, archive: &[u8]) -> Result<u32, DecodeError> {
    let got = count(what, archive)?;
    u32::try_from(got).map_err(|_| DecodeError::TooLong { what, got, limit: u64::from(u32::MAX) })
}

/// Reads a response that is whole in memory, payloads included. Answers its id, its operation and the response.
pub fn decode_whole_response(message: &Payload) -> Result<(u64, Option<Op>, Response), DecodeError> {
    let (head, archive, rest) = split_whole(message, Direction::Response)?;
    let ResponseHead { op, outcome, payload_lens } = decode_response(&head, archive.as_ref())?;
    let payloads = split_payloads("the response", rest, &payload_lens)?;
    Ok((head.request_id, op, Response { outcome, payloads }))
}
