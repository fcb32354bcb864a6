//! Opening and closing, and what concerns the daemon as a whole.
//!
//! Every function here may be called from any thread, and the same handle from several threads at once.

use crate::abi::{self, BETTONG_ABI_VERSION, Status};
use crate::error::{Done, call, call_daemon};
use crate::handles::Handles;
use crate::memory::{Answer, text};
use crate::settings::{self, JSON_BYTES_MAX};
use bettong_client::blocking::{Client, Namespace};
use bettong_client::{Error, ErrorKind};
use bettong_wire::limits::NAME_BYTES_MAX;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

pub static CLIENTS: Handles<abi::Client, Client> = Handles::new("bettong_client");
pub static NAMESPACES: Handles<abi::Namespace, Namespace> = Handles::new("bettong_namespace");

/// Texts that callers hold, with their NULs, by their addresses. A `Vec` may be moved while others point to its bytes, a box
/// of them may not.
static TEXTS: Mutex<BTreeMap<usize, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// Longest URL, in bytes: a path of the system has at most so many.
const URL_BYTES_MAX: usize = 4096;

/// The version of the ABI that this library has: `BETTONG_ABI_VERSION` of the header that belongs to it.
///
/// Needs nothing, can be called at any time, and leaves `bettong_last_error` as it is.
#[unsafe(no_mangle)]
pub extern "C" fn bettong_abi_version() -> u32 {
    BETTONG_ABI_VERSION
}

/// Connects to a daemon: `tcp://HOST:PORT` or, on Linux, `shm:///PATH` of its socket. Tries once; a daemon that leaves later
/// is waited for, and the connection made again.
///
/// `abi_version` is always `BETTONG_ABI_VERSION`: a library that has another one refuses.
///
/// `options` is null, for the defaults, or a JSON object with some of these: `tenant`, `token`, `name` (texts),
/// `call_timeout_ms`, `connect_timeout_ms`, `attempts_max`, `calls_max`, `received_bytes_max`, `staging_bytes`, `spin_us`
/// (numbers), `payload_crc` (true or false). Others are refused.
///
/// Ownership: `*client` is the caller's, to be given to `bettong_close`; null after an error. The texts are only read.
/// Threads: any, and the client may be used by several at once. A child that is forked must not use it, nor what was got
/// by it.
///
/// # Safety
/// `url` and `options` are texts ended by a NUL, `options` may be null; `client` is a place for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_open(
    url: *const c_char,
    abi_version: u32,
    options: *const c_char,
    client: *mut *mut abi::Client,
) -> Status {
    call_daemon(|| {
        // SAFETY: as the caller promises.
        let mut answer = unsafe { Answer::at("a place for the client", client, null_mut()) }?;
        if abi_version != BETTONG_ABI_VERSION {
            let text = format!(
                "the program was compiled for version {abi_version} of the ABI, the library has {BETTONG_ABI_VERSION}: \
                 compile it with the header of this library"
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        // SAFETY: as the caller promises.
        let (url, options) = unsafe {
            (text("the URL", url, URL_BYTES_MAX)?, optional_text("the text of the options", options, JSON_BYTES_MAX)?)
        };
        answer.set(CLIENTS.add(Client::connect(url, settings::options(options)?)?)?);
        Ok(Done::Ok)
    })
}

/// # Safety
/// As for `text`, where `at` is not null.
unsafe fn optional_text<'a>(what: &str, at: *const c_char, limit: usize) -> Result<Option<&'a str>, Error> {
    // SAFETY: as the caller of this one promises.
    if at.is_null() { Ok(None) } else { unsafe { text(what, at, limit) }.map(Some) }
}

/// Closes a client. Null is nothing to do; a client that was closed before is `BETTONG_STATUS_INVALID`.
///
/// Ownership: the handle is gone. Namespaces that were opened by it stay open, and with them the connection, until they are
/// closed; hits stay valid until they are released. Over shared memory the daemon hears of no release once the connection is
/// gone: what is held then counts against it, and the session keeps its place, until this process ends. Release hits first.
/// Threads: any; calls of others that are under way end as they would.
#[unsafe(no_mangle)]
pub extern "C" fn bettong_close(client: *mut abi::Client) -> Status {
    call_daemon(|| {
        if !client.is_null() {
            CLIENTS.take(client)?;
        }
        Ok(Done::Ok)
    })
}

/// Asks the daemon whether it answers, and tells it what was released. `*microseconds`, where it is not null, is how long
/// that took.
///
/// # Safety
/// `microseconds` is null or a place for one number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_ping(client: *const abi::Client, microseconds: *mut u64) -> Status {
    call_daemon(|| {
        // SAFETY: as the caller promises.
        let mut answer = unsafe { Answer::optional("a place for the microseconds", microseconds, 0) }?;
        let took = CLIENTS.get(client)?.ping()?;
        answer.set(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        Ok(Done::Ok)
    })
}

/// Opens the namespace `name` of the client's tenant.
///
/// `identity` is the model identity, a JSON object: `model`, `kv_dtype`, `layout` (texts), `block_tokens` (a number), `parts`
/// (numbers, ascending), and where they matter `weights_digest`, `tokenizer`, `parallel`, `adapter`, `engine_layout` (texts).
/// What is required and missing, or not known, is named in the error. An identity that differs from the one that the
/// namespace was made with is `BETTONG_STATUS_IDENTITY_MISMATCH`. Null: without one, and then no blocks are reachable.
///
/// Ownership: `*opened` is the caller's, to be given to `bettong_namespace_close`; null after an error. The texts are only
/// read. Threads: any, and the namespace may be used by several at once.
///
/// # Safety
/// `name` and `identity` are texts ended by a NUL, `identity` may be null; `opened` is a place for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_namespace_open(
    client: *const abi::Client,
    name: *const c_char,
    identity: *const c_char,
    opened: *mut *mut abi::Namespace,
) -> Status {
    call_daemon(|| {
        // SAFETY: as the caller promises.
        let mut answer = unsafe { Answer::at("a place for the namespace", opened, null_mut()) }?;
        // SAFETY: as the caller promises.
        let (name, identity) = unsafe {
            let name = text("the name of the namespace", name, NAME_BYTES_MAX)?;
            (name, optional_text("the text of the model identity", identity, JSON_BYTES_MAX)?)
        };
        let client = CLIENTS.get(client)?;
        let identity = identity.map(settings::identity).transpose()?;
        answer.set(NAMESPACES.add(client.open_namespace(name, identity)?)?);
        Ok(Done::Ok)
    })
}

/// Closes a namespace, here and at the daemon. Null is nothing to do; a namespace that was closed before is
/// `BETTONG_STATUS_INVALID`.
///
/// Ownership: the handle is gone, whatever is answered; hits stay valid until they are released. Threads: any; calls of others
/// that are under way may find the namespace closed.
#[unsafe(no_mangle)]
pub extern "C" fn bettong_namespace_close(closed: *mut abi::Namespace) -> Status {
    call_daemon(|| {
        if !closed.is_null() {
            let namespace = NAMESPACES.take(closed)?;
            Namespace::clone(&namespace).close()?;
        }
        Ok(Done::Ok)
    })
}

/// The daemon's statistics, a JSON document in UTF-8, ended by a NUL.
///
/// Ownership: `*json` is the caller's, to be given to `bettong_text_free`, not to `free`; null after an error. Threads: any.
///
/// # Safety
/// `json` is a place for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_stats(ns: *const abi::Namespace, json: *mut *mut c_char) -> Status {
    call_daemon(|| {
        // SAFETY: as the caller promises.
        let mut answer = unsafe { Answer::at("a place for the text", json, null_mut()) }?;
        let document = NAMESPACES.get(ns)?.stats()?;
        let document = CString::new(document.as_ref()).map_err(|error| {
            let text = format!("the daemon's statistics have a NUL at byte {}", error.nul_position());
            Error::new(ErrorKind::Internal, text)
        })?;
        let mut text = document.into_bytes_with_nul();
        let at: *mut c_char = text.as_mut_ptr().cast();
        TEXTS.lock().unwrap_or_else(PoisonError::into_inner).insert(at.addr(), text);
        answer.set(at);
        Ok(Done::Ok)
    })
}

/// Frees a text that this library gave to the caller. Null is nothing to do; what is no such text, or not any more, is
/// `BETTONG_STATUS_INVALID`, unless another text has taken its place meanwhile.
///
/// Ownership: the text is gone. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn bettong_text_free(freed: *mut c_char) -> Status {
    call(|| {
        let address = freed.addr();
        let text = TEXTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        if text.is_none() && address != 0 {
            let text = format!("{address:#x} is no text of this library: it was freed before, or is another's");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        Ok(Done::Ok)
    })
}
