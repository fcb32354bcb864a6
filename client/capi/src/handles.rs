//! Tables of what callers hold. A handle is a number that is never given out twice, and never followed: one that was closed
//! before, is of another kind or is no handle at all is found out.

use bettong_client::{Error, ErrorKind};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The handles of one kind: `H` is what C calls it, `T` what it stands for.
pub struct Handles<H, T> {
    /// The kind's name in C, for the texts of errors.
    kind: &'static str,
    held: RwLock<BTreeMap<usize, Arc<T>>>,
    is_for: PhantomData<fn() -> H>,
}

/// The last number that was given out. All kinds share it, so that one is not taken for another.
static LAST_NUMBER: AtomicUsize = AtomicUsize::new(0);

impl<H, T> Handles<H, T> {
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, held: RwLock::new(BTreeMap::new()), is_for: PhantomData }
    }

    pub fn add(&self, what: T) -> Result<*mut H, Error> {
        let next = |last: usize| last.checked_add(1);
        let last = LAST_NUMBER.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_err(|last| {
            Error::new(ErrorKind::Unavailable, format!("{last} handles have been given out, which is the limit"))
        })?;
        let number = last + 1;
        self.held.write().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(what));
        Ok(std::ptr::without_provenance_mut(number))
    }

    /// What the handle stands for, for as long as a call needs it, whoever closes the handle meanwhile.
    pub fn get(&self, handle: *const H) -> Result<Arc<T>, Error> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(&handle.addr()).cloned().ok_or_else(|| self.unknown(handle))
    }

    /// Ends the handle.
    pub fn take(&self, handle: *const H) -> Result<Arc<T>, Error> {
        let taken = self.held.write().unwrap_or_else(PoisonError::into_inner).remove(&handle.addr());
        taken.ok_or_else(|| self.unknown(handle))
    }

    fn unknown(&self, handle: *const H) -> Error {
        let (kind, number) = (self.kind, handle.addr());
        let text = match number {
            0 => format!("a {kind} is needed, null was given"),
            _ => format!("{number:#x} is no {kind} that is open: it was closed before, or is of another kind"),
        };
        Error::new(ErrorKind::Invalid, text)
    }
}
