//! Sidecars: the tail of a prompt that does not fill a block.
//!
//! Every function here may be called from any thread, and the same handle from several threads at once.

use crate::abi::{self, Level, MissReason, Status};
use crate::blocks::{Places, read_limits, stored};
use crate::error::{Done, call_daemon};
use crate::memory::{Answer, copy, required};
use crate::session::NAMESPACES;
use bettong_client::{BlockHash, Got, SidecarKey};
use bettong_wire::limits::SIDECAR_BYTES_MAX;

/// Puts the sidecar `key` of the chain whose last full block is `tip`, at most 128 MiB. `level` is a `bettong_level`. A put may
/// be repeated: that changes nothing. `answer` is null or a place for one answer; all zero after an error.
///
/// Ownership: all is the caller's. The bytes are copied before the call returns. Threads: any.
///
/// # Safety
/// There are a key, a hash and the bytes that `bytes` names; `answer` is null or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_put_sidecar(
    ns: *const abi::Namespace,
    key: *const abi::SidecarKey,
    tip: *const abi::BlockHash,
    bytes: abi::Span,
    level: u32,
    answer: *mut abi::Stored,
) -> Status {
    call_daemon(|| {
        // SAFETY: as the caller promises.
        let (mut answer, key, tip) = unsafe {
            let answer = Answer::optional("a place for the answer", answer, abi::Stored::default())?;
            (answer, required("the key of the sidecar", key)?, required("the tip of the sidecar", tip)?)
        };
        let (namespace, level) = (NAMESPACES.get(ns)?, Level::read(level)?);
        // SAFETY: as the caller promises.
        let bytes = unsafe { copy("a sidecar", bytes, SIDECAR_BYTES_MAX) }?;
        answer.set(stored(namespace.put_sidecar(SidecarKey(key.bytes), BlockHash(tip.bytes), bytes, level)?));
        Ok(Done::Ok)
    })
}

/// Gets the sidecar `key`, or `BETTONG_STATUS_MISS`, and then `*reason` is why, unless `reason` is null. `limits` is null for
/// the daemon's own.
///
/// Ownership: `*hits` is the caller's, with one value, to be given to `bettong_hits_release`; null after a miss and an error.
/// Threads: any.
///
/// # Safety
/// There is a key; `limits` is null or one; `hits` is a place for one pointer; `reason` is null or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_get_sidecar(
    ns: *const abi::Namespace,
    key: *const abi::SidecarKey,
    limits: *const abi::ReadLimits,
    hits: *mut *mut abi::Hits,
    reason: *mut MissReason,
) -> Status {
    call_daemon(|| {
        // SAFETY: as the caller promises.
        let (places, key, limits) =
            unsafe { (Places::at((hits, reason))?, required("the key of the sidecar", key)?, read_limits(limits)?) };
        let got = NAMESPACES.get(ns)?.get_sidecar(SidecarKey(key.bytes), limits)?;
        places.set(match got {
            Got::Hit(value) => Got::Hit(vec![value]),
            Got::Miss(reason) => Got::Miss(reason),
        })
    })
}
