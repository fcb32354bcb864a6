//! Values that are read in place, and how the session hears that one is not read any more.

use bettong_wire::Payload;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

/// Says to the session that something was given back to it. All clones are the same.
#[derive(Clone, Default)]
pub(super) struct GivenBack(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Something was given back since the session listened last. It is woken for the first only.
    is_true: AtomicBool,
    session: Mutex<Option<Waker>>,
}

/// Says so when dropped.
pub(super) struct Tell(GivenBack);

/// Makes guards of values, and knows whether there are any.
#[derive(Default)]
pub(super) struct Guards {
    given_back: GivenBack,
    alive: Arc<()>,
}

/// A value that the daemon leaves as it is.
struct Guard {
    // Dropped in this order: the session is told of what has happened.
    payload: Payload,
    _tell: Tell,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Guard {
    fn as_ref(&self) -> &[u8] {
        self.payload.as_ref()
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        let Shared { is_true, session } = &*self.0.0;
        // What was given back is seen by who sees this; see `listen`.
        if !is_true.swap(true, Ordering::AcqRel) {
            let session = session.lock().unwrap_or_else(PoisonError::into_inner).clone();
            session.into_iter().for_each(Waker::wake);
        }
    }
}

impl GivenBack {
    pub fn tell(&self) -> Tell {
        Tell(self.clone())
    }

    /// Whether something was given back since `listen`. Where nothing was, `cx` is woken for the first.
    pub fn is_true(&self, cx: &Context<'_>) -> bool {
        let mut session = self.0.session.lock().unwrap_or_else(PoisonError::into_inner);
        if !session.as_ref().is_some_and(|session| session.will_wake(cx.waker())) {
            *session = Some(cx.waker().clone());
        }
        drop(session);
        self.0.is_true.load(Ordering::Acquire)
    }

    /// From now on the next that is given back wakes again. Whoever looks after this sees all that did not.
    pub fn listen(&self) {
        self.0.is_true.swap(false, Ordering::AcqRel);
    }
}

impl Guards {
    pub fn given_back(&self) -> &GivenBack {
        &self.given_back
    }

    /// The same payload. The session hears when its last clone is dropped.
    pub fn guard(&self, payload: Payload) -> Payload {
        Payload::from_owner(Guard { payload, _tell: self.given_back.tell(), _alive: self.alive.clone() })
    }

    /// Whether nobody reads anything any more.
    pub fn are_gone(&mut self) -> bool {
        // Not only counted: what the last reader did is over then.
        Arc::get_mut(&mut self.alive).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_session_is_woken_for_the_first_that_is_given_back() {
        let mut guards = Guards::default();
        let given_back = guards.given_back().clone();
        let counts = Arc::new(Counts::default());
        let waker = Waker::from(counts.clone());
        let cx = Context::from_waker(&waker);
        for round in 1..=3 {
            let values = [guards.guard(vec![1].into()), guards.guard(vec![2].into())];
            let slice = values[0].slice(0, 1).unwrap();
            assert!(!given_back.is_true(&cx) && !guards.are_gone());
            drop(values);
            assert!(given_back.is_true(&cx) && !guards.are_gone());
            assert_eq!(slice.as_ref(), [1]);
            drop(slice);
            assert_eq!(counts.0.load(Ordering::Relaxed), round);
            assert!(guards.are_gone());
            given_back.listen();
            assert!(!given_back.is_true(&cx));
        }
    }
}
