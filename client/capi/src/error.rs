//! The border: how a call ends, what is kept of it for `bettong_last_error`, and that no panic gets through.

use crate::abi::{LastError, Status};
use bettong_client::{Error, ErrorKind, MissReason};
use std::any::Any;
use std::cell::RefCell;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a call ends that is no error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    Ok,
    Miss(MissReason),
}

/// What `LastError` points into. Boxed, so that its address stays the same until it is replaced.
struct Kept {
    seen: LastError,
    /// With its NUL. A `Vec` may be moved while others point to its bytes, a box of them may not.
    _text: Vec<u8>,
}

thread_local! {
    static LAST: RefCell<Box<Kept>> = RefCell::new(Kept::new(Status::Ok, "", 0, 0));
}

impl Kept {
    fn new(status: Status, text: &str, limit: u64, retry_after_ms: u32) -> Box<Self> {
        // What was replaced has no NUL.
        let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default().into_bytes_with_nul();
        Box::new(Self { seen: LastError { status, retry_after_ms, limit, text: text.as_ptr().cast() }, _text: text })
    }

    fn of(ended: &Result<Done, Error>) -> Box<Self> {
        match ended {
            Ok(Done::Ok) => Self::new(Status::Ok, "", 0, 0),
            Ok(Done::Miss(reason)) => Self::new(Status::Miss, reason.as_str(), 0, 0),
            Err(error) => Self::new(error.kind.into(), &error.message, error.limit, error.retry_after_ms),
        }
    }
}

/// Runs the body of an exported function. A panic in it is an `internal` error; how any call ended is kept for
/// `bettong_last_error`.
pub fn call(body: impl FnOnce() -> Result<Done, Error>) -> Status {
    // What a panic may have left half done is behind locks of the handles' tables, which hold no invariant between two
    // steps, and in the client, which takes a panic in a call for one that was abandoned.
    let ended = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(of_panic(panic)));
    if ended == Ok(Done::Ok) && LAST.try_with(|last| last.borrow().seen.status == Status::Ok).unwrap_or(true) {
        return Status::Ok;
    }
    let kept = Kept::of(&ended);
    let status = kept.seen.status;
    // Where the thread's own destructors call, there is nobody to ask for it.
    let _ = LAST.try_with(|last| last.replace(kept));
    status
}

/// The same for a body that talks to a daemon.
pub fn call_daemon(body: impl FnOnce() -> Result<Done, Error>) -> Status {
    call(|| {
        #[cfg(unix)]
        let _held = crate::sigpipe::hold();
        body()
    })
}

fn of_panic(panic: Box<dyn Any + Send>) -> Error {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "no text",
    };
    let error = Error::new(ErrorKind::Internal, format!("a defect of bettong: a panic was caught: {text}"));
    // A value that is thrown could panic once more where it is dropped.
    std::mem::forget(panic);
    error
}

/// What the last call of this thread ended with: kind, text, limit, when to try again.
///
/// Ownership: the library's, not to be freed. Valid until the next call of this thread, `bettong_last_error` itself and
/// `bettong_abi_version` apart, and not after the thread's end. Threads: each has its own. Never null.
#[unsafe(no_mangle)]
pub extern "C" fn bettong_last_error() -> *const LastError {
    let kept = LAST.try_with(|last| &raw const last.borrow().seen);
    // While the thread's own destructors run there is nothing to point to; these few bytes are not given back.
    kept.unwrap_or_else(|_| &raw const Box::leak(Kept::new(Status::Ok, "", 0, 0)).seen)
}
