//! The border without a daemon: numbers, layouts, panics, and callers that are wrong.

use crate::abi::*;
use crate::blocks::*;
use crate::error::{Done, bettong_last_error, call};
use crate::handles::Handles;
use crate::memory;
use crate::session::*;
use crate::settings;
use bettong_client::{ErrorKind, MissReason as Reason};
use std::ffi::{CStr, c_char};
use std::mem::{offset_of, size_of};
use std::ptr::{null, null_mut, without_provenance};

fn last() -> (Status, String, u64) {
    // SAFETY: it is never null, and nothing is called between this and the end of the borrow.
    let last = unsafe { &*bettong_last_error() };
    // SAFETY: it ends with a NUL, and lives until the next call of this thread.
    let text = unsafe { CStr::from_ptr(last.text) };
    (last.status, text.to_str().unwrap().to_owned(), last.limit)
}

fn assert_last(status: Status, wanted: Status, words: &str) {
    let (kept, text, _) = last();
    assert_eq!((status, kept), (wanted, wanted), "{text}");
    assert!(text.contains(words), "`{text}` does not say `{words}`");
}

/// A program that was compiled long ago goes by these.
#[test]
fn numbers_stay_as_they_are() {
    let statuses = [
        (ErrorKind::Invalid, 2),
        (ErrorKind::Retry, 3),
        (ErrorKind::Busy, 4),
        (ErrorKind::TooLarge, 5),
        (ErrorKind::Denied, 6),
        (ErrorKind::IdentityMismatch, 7),
        (ErrorKind::Declined, 8),
        (ErrorKind::Unavailable, 9),
        (ErrorKind::Internal, 10),
    ];
    assert_eq!((Status::Ok as u32, Status::Miss as u32), (0, 1));
    for (kind, number) in statuses {
        assert_eq!(Status::from(kind) as u32, number, "{kind:?}");
    }
    for (number, reason) in (0..).zip(Reason::ALL) {
        assert_eq!(MissReason::from(reason) as u32, number, "{reason:?}");
    }
    assert_eq!([Level::Memory as u32, Level::Journal as u32, Level::Object as u32], [1, 2, 3]);
    assert_eq!(bettong_client::Tier::ALL.map(|tier| Tier::from(tier) as u32), [1, 2, 3]);
    for number in [0, 4, u32::MAX] {
        assert_eq!(Level::read(number).unwrap_err().kind, ErrorKind::Invalid);
    }
    assert_eq!(BETTONG_ABI_VERSION, 1);
    assert_eq!(bettong_abi_version(), 1);
}

#[test]
#[cfg(target_pointer_width = "64")]
fn layouts_stay_as_they_are() {
    assert_eq!((size_of::<BlockHash>(), size_of::<SidecarKey>()), (32, 32));
    assert_eq!((size_of::<BlockKey>(), offset_of!(BlockKey, part)), (34, 32));
    assert_eq!((size_of::<Span>(), offset_of!(Span, len)), (16, 8));
    assert_eq!([offset_of!(Block, sequence), offset_of!(Block, parent), offset_of!(Block, bytes)], [36, 40, 48]);
    assert_eq!(size_of::<Block>(), 64);
    assert_eq!((size_of::<PartAsk>(), offset_of!(PartAsk, last_n)), (8, 4));
    assert_eq!((size_of::<ReadLimits>(), offset_of!(ReadLimits, decline_over_us)), (8, 4));
    assert_eq!((size_of::<Stored>(), offset_of!(Stored, already)), (24, 16));
    assert_eq!([offset_of!(Hit, put_id), offset_of!(Hit, expires_at_ms), offset_of!(Hit, tier)], [16, 32, 40]);
    assert_eq!(size_of::<Hit>(), 48);
    let of_error = [offset_of!(LastError, retry_after_ms), offset_of!(LastError, limit), offset_of!(LastError, text)];
    assert_eq!((size_of::<LastError>(), of_error), (24, [4, 8, 16]));
}

#[test]
fn a_panic_is_an_internal_error() {
    assert_last(call(|| panic!("of {}", "text")), Status::Internal, "a panic was caught: of text");
    assert_last(call(|| std::panic::panic_any(7)), Status::Internal, "no text");
    assert_last(call(|| Ok(Done::Ok)), Status::Ok, "");
}

/// A panic in an exported function: the blocking client cannot be used inside an executor.
#[test]
fn no_panic_crosses_the_border() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut client = null_mut();
    let status = runtime.block_on(async {
        // SAFETY: texts with a NUL, a place for a pointer.
        unsafe { bettong_open(c"tcp://127.0.0.1:1".as_ptr(), BETTONG_ABI_VERSION, null(), &mut client) }
    });
    assert_last(status, Status::Internal, "a panic was caught");
    assert!(client.is_null());
}

#[test]
fn what_was_said_last_is_of_this_thread_and_of_the_last_call() {
    assert_eq!(last(), (Status::Ok, String::new(), 0));
    let too_large = || Err(bettong_client::Error::too_large("a\0b is over", 9));
    call(too_large);
    assert_eq!(last(), (Status::TooLarge, "a\u{fffd}b is over".to_owned(), 9));
    std::thread::spawn(|| assert_eq!(last().0, Status::Ok)).join().unwrap();
    assert_eq!(call(|| Ok(Done::Miss(Reason::Corrupt))), Status::Miss);
    assert_eq!(last(), (Status::Miss, "corrupt".to_owned(), 0));
    assert_eq!(bettong_close(null_mut()), Status::Ok);
    assert_eq!(last(), (Status::Ok, String::new(), 0));
}

#[test]
fn a_handle_is_good_once_and_for_its_own_kind() {
    static CLIENTS: Handles<Client, u8> = Handles::new("bettong_client");
    static HITS: Handles<Hits, u8> = Handles::new("bettong_hits");
    let (client, hits) = (CLIENTS.add(1).unwrap(), HITS.add(2).unwrap());
    assert_ne!(client.addr(), hits.addr());
    assert_eq!(*CLIENTS.get(client).unwrap(), 1);
    let held = CLIENTS.get(client).unwrap();
    assert_eq!(*CLIENTS.take(client).unwrap(), 1);
    assert!(CLIENTS.get(client).is_err() && CLIENTS.take(client).is_err());
    assert_eq!(*held, 1);
    assert_ne!(CLIENTS.add(3).unwrap(), client);
    assert!(HITS.get(client.cast()).unwrap_err().message.contains("another kind"));
    assert!(HITS.get(null()).unwrap_err().message.contains("null was given"));
}

#[test]
fn callers_that_are_wrong_are_told_so() {
    let nowhere = without_provenance::<Namespace>(usize::MAX);
    let (mut blocks, mut hits, mut count) = (7, null_mut::<Hits>(), 7);
    let odd = (&raw mut blocks).cast::<u8>().wrapping_add(1).cast::<u32>();
    let key = BlockKey { hash: BlockHash { bytes: [1; 32] }, part: 0 };
    // SAFETY: what is null, unaligned or too much is not touched; everything else is there.
    unsafe {
        let status = bettong_lookup_prefix(nowhere, null(), 0, null(), 0, &mut blocks);
        assert_last(status, Status::Invalid, "is no bettong_namespace that is open");
        assert_eq!(blocks, 0);
        let status = bettong_lookup_prefix(nowhere, null(), 0, null(), 0, odd);
        assert_last(status, Status::Invalid, "no multiple of 4");
        let status = bettong_lookup_prefix(nowhere, null(), 65_537, null(), 0, &mut blocks);
        assert_last(status, Status::TooLarge, "the number of hashes of a look-up is 65537, the limit is 65536");
        assert_eq!(last().2, 65_536);
        let status = bettong_lookup_prefix(nowhere, null(), 0, null(), 1025, &mut blocks);
        assert_last(status, Status::TooLarge, "parts of a look-up");
        let status = bettong_get_blocks(nowhere, &key, 1025, null(), &mut hits, null_mut());
        assert_last(status, Status::TooLarge, "keys of a get");
        let status = bettong_get_leading_blocks(nowhere, &key, 1, null(), null_mut(), null_mut());
        assert_last(status, Status::Invalid, "a place for the hits is needed");
        assert_last(bettong_hits_count(null(), &mut count), Status::Invalid, "null was given");
        assert_eq!(count, 0);
        assert_last(bettong_put_blocks(nowhere, null(), 1, 1, null_mut()), Status::Invalid, "the array of blocks");
    }
    let mut foreign: c_char = 0;
    assert_last(bettong_text_free(&mut foreign), Status::Invalid, "is no text of this library");
    assert_last(bettong_text_free(null_mut()), Status::Ok, "");
}

#[test]
fn texts_and_spans_have_their_limits() {
    // SAFETY: the texts end with a NUL or go past the limit; spans over the limit or empty are not touched.
    unsafe {
        assert_eq!(memory::text("a text", c"four".as_ptr(), 4).unwrap(), "four");
        assert!(memory::text("a text", c"fives".as_ptr(), 4).unwrap_err().message.contains("no NUL within 4 bytes"));
        assert!(memory::text("a text", c"a\xff".as_ptr(), 4).unwrap_err().message.contains("from byte 1 on"));
        let span = |data, len| memory::copy("a span", Span { data, len }, 8);
        assert_eq!(span(null(), usize::MAX).unwrap_err().limit, 8);
        assert!(span(null(), 0).unwrap().is_empty());
        assert!(span(null(), 1).unwrap_err().message.contains("a span is needed"));
        assert_eq!(span(b"12345678".as_ptr(), 8).unwrap().as_ref(), b"12345678");
    }
}

#[test]
fn what_is_said_in_json_is_taken_or_named() {
    let options = settings::options(Some(r#"{"token": "t\"", "call_timeout_ms": 5, "spin_us": 0}"#)).unwrap();
    assert_eq!((options.token.as_str(), options.call_timeout.as_millis()), ("t\"", 5));
    assert_eq!((options.tenant.as_str(), options.spin.as_micros()), ("default", 0));
    assert_ne!(settings::options(None).unwrap().seed, settings::options(None).unwrap().seed);
    for (text, words) in [
        (r#"{"tokn": ""}"#, "unknown field `tokn`"),
        (r#"{"call_timeout_ms": 0}"#, "must be 1 to 86400000"),
        (r#"{"spin_us": 1000001}"#, "the limit is 1000000"),
        ("", "the options cannot be read"),
    ] {
        let message = settings::options(Some(text)).unwrap_err().message;
        assert!(message.contains(words), "`{message}` does not say `{words}`");
    }
    let identity = r#"{"model": "m", "kv_dtype": "bf16", "layout": "NHD", "block_tokens": 16, "parts": [0, 1]}"#;
    assert_eq!(settings::identity(identity).unwrap().parts, [0, 1]);
    let twice = identity.replace("\"m\"", "\"m\", \"model\": \"n\"");
    assert!(settings::identity(&twice).unwrap_err().message.contains("duplicate field `model`"));
    assert!(settings::identity(r#"{"model": "m"}"#).unwrap_err().message.contains("missing field `kv_dtype`"));
}

#[cfg(unix)]
#[test]
fn a_signal_that_came_meanwhile_is_taken_away_and_the_mask_is_as_before() {
    let is_blocked = || {
        let mut mask = std::mem::MaybeUninit::uninit();
        // SAFETY: the mask is filled in, and nothing is changed.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, null(), mask.as_mut_ptr());
            libc::sigismember(mask.as_ptr(), libc::SIGPIPE) == 1
        }
    };
    assert!(!is_blocked());
    let held = crate::sigpipe::hold();
    assert!(is_blocked());
    // SAFETY: it is blocked on this thread, to which it goes.
    unsafe { libc::raise(libc::SIGPIPE) };
    drop(held);
    assert!(!is_blocked());
}

/// Another thread may have taken what was seen a moment ago.
#[test]
#[cfg(unix)]
fn a_signal_that_is_not_there_is_not_waited_for() {
    let held = crate::sigpipe::hold();
    crate::sigpipe::take();
    // SAFETY: to raise a signal that is blocked.
    unsafe { libc::raise(libc::SIGPIPE) };
    assert!(crate::sigpipe::is_pending());
    crate::sigpipe::take();
    assert!(!crate::sigpipe::is_pending());
    drop(held);
}
