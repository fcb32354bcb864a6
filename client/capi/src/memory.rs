//! The caller's memory. What can be checked of a pointer is checked: that it is not null, that it is aligned, that no count
//! or length is over the protocol's limits. That there is memory behind it can only be believed.

use crate::abi::Span;
use bettong_client::{Error, ErrorKind, Payload};

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::Invalid, text)
}

/// Refuses a pointer that cannot be one to a `T`.
fn check<T>(what: &str, at: *const T) -> Result<(), Error> {
    if at.is_null() {
        return Err(invalid(format!("{what} is needed, null was given")));
    }
    if !at.is_aligned() {
        let (address, align) = (at.addr(), align_of::<T>());
        return Err(invalid(format!("{what} is at {address:#x}, which is no multiple of {align}")));
    }
    Ok(())
}

/// A place of the caller's for an answer.
pub struct Answer<T>(*mut T);

impl<T: Copy> Answer<T> {
    /// Takes over the place at `at` and writes `empty` to it, so that no error leaves there what was there before.
    ///
    /// # Safety
    /// Where `at` is not null and aligned, a `T` may be written there for as long as the `Answer` lives, and nobody else
    /// uses that memory meanwhile.
    pub unsafe fn at(what: &str, at: *mut T, empty: T) -> Result<Self, Error> {
        check(what, at)?;
        let mut answer = Self(at);
        answer.set(empty);
        Ok(answer)
    }

    /// The same, where the caller need not want the answer.
    ///
    /// # Safety
    /// As for `at`.
    pub unsafe fn optional(what: &str, at: *mut T, empty: T) -> Result<Self, Error> {
        // SAFETY: as the caller of this one promises.
        if at.is_null() { Ok(Self(at)) } else { unsafe { Self::at(what, at, empty) } }
    }

    pub fn set(&mut self, value: T) {
        if !self.0.is_null() {
            // SAFETY: it is aligned, checked when this was made, and whoever made it promised that a `T` may be written.
            unsafe { self.0.write(value) };
        }
    }
}

/// Places of the caller's for as many answers as it asked things; it need not want them.
pub struct Answers<T> {
    first: *mut T,
    count: usize,
}

impl<T: Copy> Answers<T> {
    /// Takes over the places and writes `empty` to all of them.
    ///
    /// # Safety
    /// Where `first` is not null and aligned, `count` of `T` may be written there for as long as the `Answers` live, and
    /// nobody else uses that memory meanwhile.
    pub unsafe fn at(what: &str, first: *mut T, count: usize, empty: T) -> Result<Self, Error> {
        if !first.is_null() {
            check(what, first)?;
        }
        let mut answers = Self { first, count };
        answers.set(std::iter::repeat_n(empty, count));
        Ok(answers)
    }

    /// Writes one answer after the other; there is no place for more than were asked for.
    pub fn set(&mut self, values: impl IntoIterator<Item = T>) {
        if self.first.is_null() {
            return;
        }
        for (index, value) in values.into_iter().take(self.count).enumerate() {
            // SAFETY: aligned, checked when this was made; `index` is below `count`, and whoever made it promised that so
            // many may be written.
            unsafe { self.first.add(index).write(value) };
        }
    }
}

/// What is at `at`, or `None` where that is null.
///
/// # Safety
/// Where `at` is not null and aligned, there is a `T`.
pub unsafe fn optional<T: Copy>(what: &str, at: *const T) -> Result<Option<T>, Error> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller of this one promises.
    unsafe { required(what, at) }.map(Some)
}

/// What is at `at`.
///
/// # Safety
/// Where `at` is not null and aligned, there is a `T`.
pub unsafe fn required<T: Copy>(what: &str, at: *const T) -> Result<T, Error> {
    check(what, at)?;
    // SAFETY: it is neither null nor unaligned, and then the caller promises a `T`.
    Ok(unsafe { at.read() })
}

/// The `count` items at `first`, at most `limit`.
///
/// # Safety
/// Where `first` is not null and aligned and `count` is not over `limit`, there are `count` of `T`, which nobody changes
/// while the slice is used.
pub unsafe fn array<'a, T: Copy>(what: &str, first: *const T, count: usize, limit: usize) -> Result<&'a [T], Error> {
    if count > limit {
        let text = format!("the number of {what} is {count}, the limit is {limit}");
        return Err(Error::too_large(text, limit as u64));
    }
    if count == 0 {
        return Ok(&[]);
    }
    check(&format!("the array of {what}"), first)?;
    // SAFETY: it is neither null nor unaligned and not over the limit, and then the caller promises `count` of `T`. No
    // array in memory has more bytes than isize::MAX; `limit` is a protocol's, far below.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

/// The text at `at`, ended by a NUL, of at most `limit` bytes.
///
/// # Safety
/// Where `at` is not null, there are bytes up to a NUL, or more than `limit` of them, which nobody changes while the text is
/// used.
pub unsafe fn text<'a>(what: &str, at: *const std::ffi::c_char, limit: usize) -> Result<&'a str, Error> {
    check(what, at)?;
    // SAFETY: byte by byte, none behind a NUL and none more than one behind the limit: the caller promises these.
    let Some(len) = (0..=limit).find(|index| unsafe { at.add(*index).read() } == 0) else {
        let text = format!("{what} has no NUL within {limit} bytes, which is the limit");
        return Err(Error::too_large(text, limit as u64));
    };
    // SAFETY: `len` bytes were read just now.
    let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) };
    std::str::from_utf8(bytes)
        .map_err(|error| invalid(format!("{what} is not valid UTF-8 from byte {} on", error.valid_up_to())))
}

/// A copy of the bytes of `span`, at most `limit`.
///
/// # Safety
/// Where `span.data` is not null and `span.len` is not over `limit`, there are so many bytes, which nobody changes meanwhile.
pub unsafe fn copy(what: &str, span: Span, limit: u64) -> Result<Payload, Error> {
    let Span { data, len } = span;
    if len as u64 > limit {
        return Err(Error::too_large(format!("{what} has {len} bytes, the limit is {limit} bytes"), limit));
    }
    if len == 0 {
        return Ok(Payload::default());
    }
    check(what, data)?;
    let mut copied = Vec::new();
    copied.try_reserve_exact(len).map_err(|_| {
        Error::new(ErrorKind::Unavailable, format!("there is no memory for a copy of the {len} bytes of {what}"))
    })?;
    // SAFETY: not null, and `len` is within the limit, a protocol's and so below isize::MAX: then the caller promises them.
    copied.extend_from_slice(unsafe { std::slice::from_raw_parts(data, len) });
    Ok(copied.into())
}
