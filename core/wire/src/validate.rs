//! What a well-formed request or answer may say. Checked where bytes enter and before they leave, by every door.

use crate::error::DecodeError;
use crate::identity::ModelIdentity;
use crate::limits::*;
use crate::request::{Get, List, Maintain, Open, PublishHead, Put, PutBlocks, Request, RestoreChain, Target, Task};
use crate::response::{ListPage, Opened};

/// Checks everything about a request that needs no knowledge of the store: lengths, counts, ranges.
pub fn request(request: &Request) -> Result<(), DecodeError> {
    match request {
        Request::Ping | Request::Stats | Request::Clear(_) | Request::Close { .. } | Request::Cancel { .. } => Ok(()),
        Request::Put(body) => put(body),
        Request::Get(body) => get(body),
        Request::Exists(body) => target(&body.target),
        Request::Delete(body) => target(&body.target),
        Request::Restore(body) => batch("the number of blocks to restore", body.keys.len()),
        Request::GetMany(body) => {
            batch("the number of keys of a get-many", body.targets.len())?;
            body.targets.iter().try_for_each(target)
        }
        Request::List(body) => list(body),
        Request::LookupBlockPrefix(body) => {
            count("the number of hashes of a look-up", body.hashes.len(), LOOKUP_HASHES_MAX)?;
            count("the number of parts of a look-up", body.parts.len(), PARTS_MAX)
        }
        Request::GetBlocks(body) => batch("the number of blocks of a get", body.keys.len()),
        Request::PutBlocks(body) => put_blocks(body),
        Request::Open(body) => open(body),
        Request::PutSidecar(body) => at_most("the length of a sidecar in bytes", body.len, SIDECAR_BYTES_MAX),
        Request::GetSidecar(_) => Ok(()),
        Request::PublishHead(body) => publish_head(body),
        Request::GetHead(body) => name("the name of a head in bytes", &body.name),
        Request::RestoreChain(body) => restore_chain(body),
        Request::Maintain(body) => maintain(body),
    }
}

fn put(put: &Put) -> Result<(), DecodeError> {
    target(&put.target)?;
    at_most("the length of a value in bytes", put.len, BLOCK_BYTES_MAX)?;
    at_most("the time to live in milliseconds", put.ttl_ms, TTL_MS_MAX)?;
    if !matches!(put.target, Target::Block(_)) && (put.parent.is_some() || put.sequence != 0) {
        let must = "0 and without a parent: only blocks have a place in a chain";
        return Err(DecodeError::Invalid {
            what: "the place of a value in a chain",
            got: u64::from(put.sequence),
            must,
        });
    }
    Ok(())
}

fn get(get: &Get) -> Result<(), DecodeError> {
    target(&get.target)?;
    match get.range {
        Some((offset, len)) if offset.checked_add(len).is_none() => {
            let must = "small enough that its sum with the offset fits 64 bits";
            Err(DecodeError::Invalid { what: "the length of a range", got: len, must })
        }
        _ => Ok(()),
    }
}

fn target(target: &Target) -> Result<(), DecodeError> {
    match target {
        Target::Plain(key) => not_empty("the length of a plain key in bytes", key.len(), PLAIN_KEY_BYTES_MAX),
        Target::Block(_) | Target::Sidecar(_) => Ok(()),
    }
}

fn list(list: &List) -> Result<(), DecodeError> {
    bytes("the length of a prefix in bytes", list.prefix.len(), PLAIN_KEY_BYTES_MAX)?;
    cursor(&list.cursor)?;
    not_empty("the number of entries of a page", list.limit as usize, LIST_PAGE_MAX as usize)
}

fn put_blocks(put: &PutBlocks) -> Result<(), DecodeError> {
    batch("the number of blocks of a put", put.blocks.len())?;
    payload_lens("a put of blocks", put.blocks.iter().map(|block| block.len))
}

fn open(open: &Open) -> Result<(), DecodeError> {
    name("the name of a tenant in bytes", &open.tenant)?;
    name("the name of a namespace in bytes", &open.namespace)?;
    bytes("the length of a token in bytes", open.token.len(), TOKEN_BYTES_MAX)?;
    open.identity.as_ref().map_or(Ok(()), identity)
}

/// Required fields are there, no field is empty, parts ascend.
pub fn identity(identity: &ModelIdentity) -> Result<(), DecodeError> {
    let required = [
        ("the model of an identity, in bytes,", &identity.model),
        ("the kv_dtype of an identity, in bytes,", &identity.kv_dtype),
        ("the layout of an identity, in bytes,", &identity.layout),
    ];
    let optional = [
        ("the weights_digest of an identity, in bytes,", &identity.weights_digest),
        ("the tokenizer of an identity, in bytes,", &identity.tokenizer),
        ("the parallel field of an identity, in bytes,", &identity.parallel),
        ("the adapter of an identity, in bytes,", &identity.adapter),
        ("the engine_layout of an identity, in bytes,", &identity.engine_layout),
    ];
    let optional = optional.into_iter().filter_map(|(what, field)| field.as_ref().map(|field| (what, field)));
    for (what, field) in required.into_iter().chain(optional) {
        not_empty(what, field.len(), IDENTITY_FIELD_BYTES_MAX)?;
    }
    if identity.block_tokens == 0 {
        return Err(DecodeError::Invalid { what: "block_tokens of an identity", got: 0, must: "at least 1" });
    }
    not_empty("the number of parts of an identity", identity.parts.len(), PARTS_MAX)?;
    let ascending = identity.parts.iter().zip(identity.parts.iter().skip(1)).find(|(left, right)| left >= right);
    match ascending {
        None => Ok(()),
        Some((_, right)) => {
            let must = "greater than the part before it";
            Err(DecodeError::Invalid { what: "a part of an identity", got: u64::from(*right), must })
        }
    }
}

fn publish_head(publish: &PublishHead) -> Result<(), DecodeError> {
    name("the name of a head in bytes", &publish.name)?;
    count("the number of hashes of a head's chain", publish.chain.len(), LOOKUP_HASHES_MAX)?;
    if publish.expected == u64::MAX {
        return Err(DecodeError::Invalid {
            what: "the generation of a head",
            got: u64::MAX,
            must: "one that has a next",
        });
    }
    let blocks = publish.chain.len() as u64;
    let said = publish.value.as_ref().map_or(0, |value| u64::from(value.length));
    if said != blocks {
        return Err(DecodeError::LengthMismatch { what: "the chain of a head (in blocks)", said, got: blocks });
    }
    match (publish.value.as_ref(), publish.chain.last()) {
        (Some(value), Some(last)) if value.tip != *last => {
            Err(DecodeError::Invalid { what: "the tip of a head", got: blocks, must: "the last hash of its chain" })
        }
        _ => Ok(()),
    }
}

fn restore_chain(restore: &RestoreChain) -> Result<(), DecodeError> {
    count("the number of hashes of a chain", restore.hashes.len(), LOOKUP_HASHES_MAX)?;
    count("the number of parts of a chain", restore.parts.len(), PARTS_MAX)?;
    count("the block from which a chain is wanted", restore.from as usize, restore.hashes.len())
}

fn maintain(maintain: &Maintain) -> Result<(), DecodeError> {
    cursor(&maintain.cursor)?;
    let bound = maintain.bound_ms as usize;
    not_empty("the bound of a slice of maintenance in milliseconds", bound, MAINTAIN_BOUND_MS_MAX as usize)?;
    let argument = &maintain.argument;
    match maintain.task {
        Task::Retire => name("the id of the node to retire, in bytes,", argument),
        Task::Scrub | Task::Prefetch if argument.is_empty() => Ok(()),
        Task::Scrub | Task::Prefetch => {
            let must = "0: this task takes none";
            Err(DecodeError::Invalid {
                what: "the argument of maintenance, in bytes,",
                got: argument.len() as u64,
                must,
            })
        }
    }
}

pub(crate) fn cursor(cursor: &[u8]) -> Result<(), DecodeError> {
    bytes("the length of a cursor in bytes", cursor.len(), CURSOR_BYTES_MAX)
}

/// Each payload within the limit of a payload, and their sum within the limit of a message.
pub(crate) fn payload_lens(what: &'static str, lens: impl ExactSizeIterator<Item = u64>) -> Result<(), DecodeError> {
    batch(what, lens.len())?;
    let mut sum = 0_u64;
    for len in lens {
        at_most("the length of a payload in bytes", len, BLOCK_BYTES_MAX)?;
        sum = sum.saturating_add(len);
    }
    at_most("the sum of the payloads of a message in bytes", sum, BATCH_BYTES_MAX)
}

pub(crate) fn page(page: &ListPage) -> Result<(), DecodeError> {
    count("the number of entries of a page", page.entries.len(), LIST_PAGE_MAX as usize)?;
    cursor(&page.cursor)
}

pub(crate) fn opened(opened: &Opened) -> Result<(), DecodeError> {
    count("the number of parts of a namespace", opened.parts.len(), PARTS_MAX)?;
    if opened.limits.frame_bytes_max < FRAME_BYTES_MIN {
        let got = u64::from(opened.limits.frame_bytes_max);
        return Err(DecodeError::Invalid { what: "the frame limit of a session", got, must: "at least 64 KiB" });
    }
    Ok(())
}

pub(crate) fn batch(what: &'static str, got: usize) -> Result<(), DecodeError> {
    count(what, got, BATCH_ITEMS_MAX)
}

pub(crate) fn bytes(what: &'static str, got: usize, limit: usize) -> Result<(), DecodeError> {
    count(what, got, limit)
}

fn name(what: &'static str, name: &str) -> Result<(), DecodeError> {
    not_empty(what, name.len(), NAME_BYTES_MAX)
}

fn not_empty(what: &'static str, got: usize, limit: usize) -> Result<(), DecodeError> {
    if got == 0 {
        return Err(DecodeError::Invalid { what, got: 0, must: "at least 1" });
    }
    count(what, got, limit)
}

fn count(what: &'static str, got: usize, limit: usize) -> Result<(), DecodeError> {
    at_most(what, got as u64, limit as u64)
}

fn at_most(what: &'static str, got: u64, limit: u64) -> Result<(), DecodeError> {
    if got <= limit { Ok(()) } else { Err(DecodeError::TooLong { what, got, limit }) }
}
