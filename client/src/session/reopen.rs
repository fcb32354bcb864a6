//! Which namespaces of the last connection are still to be opened on this one, and when each is asked for.

use crate::call::NamespaceKey;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How fast something that failed is tried again.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// First pause; doubled each time.
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// How long an answer is waited for. No hint of the daemon makes a pause longer.
    pub limit: Duration,
    rng: ChaCha8Rng,
}

impl Pace {
    pub fn new(backoff: Duration, backoff_max: Duration, limit: Duration, seed: u64) -> Self {
        Self { backoff, backoff_max, limit, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Half of `pause`, and up to another half, so that clients of a restarted daemon do not come all at once.
    pub fn jittered(&mut self, pause: Duration) -> Duration {
        let half = pause / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.rng.next_u64() % nanos)
    }

    pub fn longer(&self, pause: Duration) -> Duration {
        (pause * 2).min(self.backoff_max)
    }
}

struct Turn {
    /// When an earlier connection ended that had been asked for it and had not answered.
    lost: Option<Instant>,
    /// Where an answer is waited for: since when.
    asked: Option<Instant>,
    /// When it is asked for, or its answer missed.
    at: Instant,
    /// The pause after the next answer that asks to come again.
    pause: Duration,
}

/// What is to be done about a namespace now.
pub(super) enum Due {
    Ask(NamespaceKey),
    /// Another half of the time that a call may take is over without an answer; it was asked for then.
    Unanswered(NamespaceKey, Instant),
}

pub(super) struct Reopening {
    turns: BTreeMap<NamespaceKey, Turn>,
    /// Wakes for the earliest turn that is still to come.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Reopening {
    /// Of namespaces, and of when a connection was lost over each.
    pub fn new(namespaces: impl Iterator<Item = (NamespaceKey, Option<Instant>)>, pace: &Pace) -> Self {
        let (at, pause) = (Instant::now(), pace.backoff);
        let turns = namespaces.map(|(key, lost)| (key, Turn { lost, asked: None, at, pause })).collect();
        Self { turns, timer: None }
    }

    pub fn contains(&self, key: NamespaceKey) -> bool {
        self.turns.contains_key(&key)
    }

    pub fn remove(&mut self, key: NamespaceKey) {
        self.turns.remove(&key);
    }

    /// The namespace whose turn is the longest due; only with `room` one that is to be asked for. Where none is, `cx` is
    /// woken for the next.
    ///
    /// The first OPEN of a connection has it for itself until it is answered. One that a connection was lost over comes after
    /// the others, and after what somebody has `waited` for since before that: one that is never answered in time costs the
    /// others a connection at most.
    pub fn due(&mut self, cx: &mut Context<'_>, room: bool, waited: Option<Instant>) -> Option<Due> {
        let comes_after = |lost: Instant| waited.is_some_and(|since| since < lost);
        let turns =
            self.turns.iter().filter(|(_, turn)| turn.asked.is_some() || (room && !turn.lost.is_some_and(comes_after)));
        let (key, turn) = turns.min_by_key(|(_, turn)| (turn.at, turn.lost))?;
        if turn.at <= Instant::now() {
            return Some(turn.asked.map_or(Due::Ask(*key), |since| Due::Unanswered(*key, since)));
        }
        let timer = match &mut self.timer {
            Some(timer) if timer.deadline() == turn.at => timer,
            stale => stale.insert(Box::pin(sleep_until(turn.at))),
        };
        // Where the time has come in this very moment, the next look finds it.
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        None
    }

    /// An answer is waited for, for half of the time that a call may take.
    pub fn wait(&mut self, key: NamespaceKey, pace: &Pace) {
        if let Some(turn) = self.turns.get_mut(&key) {
            let now = Instant::now();
            (turn.asked, turn.at) = (turn.asked.or(Some(now)), now + (pace.limit - pace.limit / 2));
        }
    }

    /// The namespace is asked for again after a pause, and no earlier than after `hint`.
    pub fn later(&mut self, key: NamespaceKey, hint: Duration, pace: &mut Pace) {
        if let Some(turn) = self.turns.get_mut(&key) {
            let wait = (hint + pace.jittered(turn.pause)).min(pace.limit);
            (turn.asked, turn.at, turn.pause) = (None, Instant::now() + wait, pace.longer(turn.pause));
        }
    }
}
