//! Is a history of one register linearizable? Wing and Gong's search, done just in time as by Lowe: events are taken in
//! the order of their times, and what is remembered is the set of configurations that explain everything so far.
//!
//! A register holds one value or none. An operation whose outcome nobody knows may take effect at any time after it was
//! asked, or never. A volatile value may vanish at any time, and does not come back; one that expires may be hidden from
//! the earliest moment of its expiry on, and must be from the latest.
//!
//! The search is bounded: a history that needs more steps is undecided, and says so.

use crate::model::{AttemptId, Span};
use std::collections::BTreeSet;
use std::time::Duration;

/// Configurations that one check looks at, at most.
const STEPS_MAX: usize = 200_000;

/// What a write leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub id: AttemptId,
    /// Nothing but memory has it.
    pub volatile: bool,
    /// The journal has it, and for a while nothing else.
    pub journaled: bool,
    /// The earliest and the latest moment of its expiry.
    pub expires: Option<(Duration, Duration)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Write(Written),
    /// What was let go is back, where nothing lasting has happened since. Until that moment what says that it was let go may
    /// have been lost: what is asked after it is asked of who has it back, or not.
    Returns(Written, Duration),
    Delete,
    /// The value of this write is let go, where it is the one that is there.
    Forgets(AttemptId),
    /// The value of one of these writes was there.
    Saw(Vec<AttemptId>),
    /// Nothing was there.
    Missed,
    /// A value was there that has expired.
    Expired,
}

impl Act {
    fn is_read(&self) -> bool {
        matches!(self, Self::Saw(_) | Self::Missed | Self::Expired)
    }
}

#[derive(Debug, Clone)]
pub struct Operation {
    pub act: Act,
    pub span: Span,
    /// It took effect between its question and its answer; otherwise whenever, or never.
    pub certain: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    Found,
    /// No order explains the answer to this operation, and all before it.
    None(usize),
    Undecided,
}

/// What the register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Nothing,
    /// Nothing, since the value of this write was let go.
    LetGo(AttemptId),
    /// The value that this operation wrote.
    Held(usize),
    /// The volatile value that this operation wrote, in the place of the lasting one of that write.
    Hides(usize, AttemptId),
}

impl State {
    /// The operation that wrote what is there.
    fn held(self) -> Option<usize> {
        match self {
            Self::Nothing | Self::LetGo(_) => None,
            Self::Held(by) | Self::Hides(by, _) => Some(by),
        }
    }

    /// The write whose value is gone, and nothing that lasts has happened since.
    fn gone(self) -> Option<AttemptId> {
        match self {
            Self::Nothing | Self::Held(_) => None,
            Self::LetGo(id) | Self::Hides(_, id) => Some(id),
        }
    }

    /// After the loss of a volatile value.
    fn without_volatile(self) -> Self {
        self.gone().map_or(Self::Nothing, Self::LetGo)
    }
}

/// One explanation of everything so far: the operations that have taken effect although they are not answered yet, in
/// ascending order, and what the register holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration {
    early: Vec<usize>,
    state: State,
}

impl Configuration {
    fn with(&self, operation: usize, state: State) -> Self {
        let mut early = self.early.clone();
        if let Err(at) = early.binary_search(&operation) {
            early.insert(at, operation);
        }
        Self { early, state }
    }

    fn settled(mut self, operation: usize) -> Self {
        self.early.retain(|early| *early != operation);
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asked(usize),
    /// What was not acknowledged may be undone.
    Undone,
    /// What was not acknowledged, or only journaled, may be undone.
    RolledBack,
    Answered(usize),
}

/// Judges a history; `undone` are the moments at which effects that nobody had been told of may have been lost again,
/// `rolled_back` those at which what was only journaled may have been lost too.
pub fn order(operations: &[Operation], undone: &[Duration], rolled_back: &[Duration]) -> Order {
    let mut search = Search { operations, waiting: BTreeSet::new(), steps: 0 };
    let mut configurations = BTreeSet::from([Configuration { early: Vec::new(), state: State::Nothing }]);
    for (at, event) in search.events(undone, rolled_back) {
        match event {
            Event::Asked(operation) => {
                search.waiting.insert(operation);
            }
            Event::Undone => search.undo(at, &mut configurations, false),
            Event::RolledBack => search.undo(at, &mut configurations, true),
            Event::Answered(operation) => {
                configurations = search.answer(&configurations, operation);
                search.waiting.remove(&operation);
                if search.steps > STEPS_MAX {
                    return Order::Undecided;
                }
                if configurations.is_empty() {
                    return Order::None(operation);
                }
            }
        }
    }
    Order::Found
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Asked, and not answered.
    waiting: BTreeSet<usize>,
    steps: usize,
}

impl Search<'_> {
    /// Questions, losses and answers in the order of their times. At equal times the questions come first: such
    /// operations are concurrent.
    fn events(&self, undone: &[Duration], rolled_back: &[Duration]) -> Vec<(Duration, Event)> {
        let seen = |id: AttemptId| {
            self.operations.iter().any(|other| matches!(&other.act, Act::Saw(values) if values.contains(&id)))
        };
        let mut events = Vec::new();
        for (at, operation) in self.operations.iter().enumerate() {
            let lasting = matches!(&operation.act, Act::Write(value) | Act::Returns(value, _)
                if !value.volatile && value.expires.is_none() && !seen(value.id));
            if !operation.certain && lasting {
                // Nobody saw it: whatever explains the rest with it explains it without.
                continue;
            }
            events.push((operation.span.invoked, Event::Asked(at)));
            if let (true, Some(ended)) = (operation.certain, operation.span.ended) {
                events.push((ended, Event::Answered(at)));
            }
        }
        events.extend(undone.iter().map(|at| (*at, Event::Undone)));
        events.extend(rolled_back.iter().map(|at| (*at, Event::RolledBack)));
        events.sort_by_key(|(at, event)| (*at, *event));
        events
    }

    /// The configurations in which `operation` has taken effect, from those in which it need not have.
    fn answer(&mut self, before: &BTreeSet<Configuration>, operation: usize) -> BTreeSet<Configuration> {
        let has_taken = |configuration: &Configuration| configuration.early.binary_search(&operation).is_ok();
        let known = self.reached_from(before, has_taken);
        known.into_iter().filter(has_taken).map(|configuration| configuration.settled(operation)).collect()
    }

    /// Every configuration that effects of what waits may lead to. From one that is `far` enough no further is looked for.
    fn reached_from(
        &mut self,
        before: &BTreeSet<Configuration>,
        far: impl Fn(&Configuration) -> bool,
    ) -> BTreeSet<Configuration> {
        let mut known = before.clone();
        let mut open: Vec<Configuration> = before.iter().cloned().collect();
        while let Some(configuration) = open.pop() {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                break;
            }
            if far(&configuration) {
                continue;
            }
            for next in self.next_of(&configuration) {
                if known.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        known
    }

    /// What one more effect makes of a configuration. An effect of unknown outcome matters only where somebody sees it
    /// next: the two go together.
    fn next_of(&self, configuration: &Configuration) -> Vec<Configuration> {
        let left = |at: &&usize| configuration.early.binary_search(at).is_err();
        let left = || self.waiting.iter().filter(left).filter_map(|at| Some((*at, self.operations.get(*at)?)));
        let mut reached = Vec::new();
        let mut erased = false;
        for (at, taken) in left() {
            let Some(state) = self.apply(at, taken, configuration.state) else { continue };
            if taken.certain {
                reached.push(configuration.with(at, state));
                continue;
            }
            // Deletes of unknown outcome are as good as each other: the first that is left stands for all.
            if taken.act == Act::Delete && std::mem::replace(&mut erased, true) {
                continue;
            }
            let taken = configuration.with(at, state);
            for (at, read) in left().filter(|(_, other)| other.act.is_read()) {
                reached.extend(self.apply(at, read, state).map(|state| taken.with(at, state)));
            }
        }
        reached
    }

    /// Whether the value of this write may come back after a loss that was not before `asked`.
    fn may_return(&self, id: AttemptId, asked: Duration) -> bool {
        let comes_back = |act: &Act| matches!(act, Act::Returns(value, lost) if value.id == id && asked <= *lost);
        self.operations.iter().any(|operation| comes_back(&operation.act))
    }

    /// What the register holds after the operation; `None` where the operation cannot take effect now.
    fn apply(&self, at: usize, operation: &Operation, state: State) -> Option<State> {
        let written = |by: usize| match self.operations.get(by).map(|write| &write.act) {
            Some(Act::Write(written) | Act::Returns(written, _)) => Some(written),
            _ => None,
        };
        let held = state.held().and_then(written);
        let ended = operation.span.ended.unwrap_or(Duration::MAX);
        let may_be_hidden =
            |value: &Written| value.expires.is_some_and(|(earliest, _)| value.volatile || ended >= earliest);
        match (&operation.act, held) {
            (Act::Write(value), held) if value.volatile => {
                let lasting = held.filter(|held| !held.volatile).map(|held| held.id).or(state.gone());
                let returns = lasting.filter(|id| self.may_return(*id, operation.span.invoked));
                Some(returns.map_or(State::Held(at), |gone| State::Hides(at, gone)))
            }
            (Act::Write(_), _) => Some(State::Held(at)),
            (Act::Returns(back, _), _) => (state.gone() == Some(back.id)).then_some(State::Held(at)),
            (Act::Delete, _) => Some(State::Nothing),
            (Act::Forgets(id), Some(value)) if *id == value.id && value.volatile => Some(state.without_volatile()),
            (Act::Forgets(id), Some(value)) if *id == value.id => Some(State::LetGo(*id)),
            // One of unknown outcome that changes nothing explains nothing.
            (Act::Forgets(_), _) => operation.certain.then_some(state),
            (Act::Missed, None) => Some(state),
            (Act::Saw(values), Some(value)) => {
                let expired = value.expires.is_some_and(|(_, latest)| operation.span.invoked > latest);
                (values.contains(&value.id) && !expired).then_some(state)
            }
            (Act::Missed | Act::Expired, Some(value)) if may_be_hidden(value) => Some(state),
            (Act::Missed, Some(value)) if value.volatile => Some(state.without_volatile()),
            (Act::Saw(_) | Act::Expired, None) | (Act::Missed | Act::Expired, Some(_)) => None,
        }
    }

    /// Where something was asked that nobody was told the end of, the register may hold any older value again. What waits
    /// for its answer may have taken effect before that.
    fn undo(&mut self, at: Duration, configurations: &mut BTreeSet<Configuration>, journals: bool) {
        let asked = |operation: &&Operation| operation.span.invoked <= at;
        let doubtful = |operation: &Operation| {
            let changes = matches!(operation.act, Act::Write(_) | Act::Delete | Act::Forgets(_));
            let journaled = journals && matches!(&operation.act, Act::Write(written) if written.journaled);
            changes && (journaled || !operation.certain || operation.span.ended.is_none_or(|ended| ended >= at))
        };
        if !self.operations.iter().filter(asked).any(doubtful) {
            return;
        }
        let asked = self.operations.iter().enumerate().filter(|(_, operation)| asked(operation));
        let older = asked.filter_map(|(by, operation)| match operation.act {
            Act::Write(_) => Some(State::Held(by)),
            Act::Forgets(id) => Some(State::LetGo(id)),
            _ => None,
        });
        let states: BTreeSet<State> = older.chain([State::Nothing]).collect();
        let undone: Vec<_> = self
            .reached_from(configurations, |_| false)
            .iter()
            .flat_map(|old| states.iter().map(|state| Configuration { early: old.early.clone(), state: *state }))
            .collect();
        configurations.extend(undone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn done(act: Act, from: u64, to: u64) -> Operation {
        Operation { act, span: Span { invoked: s(from), ended: Some(s(to)) }, certain: true }
    }

    fn unknown(act: Act, from: u64) -> Operation {
        Operation { act, span: Span { invoked: s(from), ended: None }, certain: false }
    }

    fn written(id: AttemptId) -> Written {
        Written { id, volatile: false, journaled: false, expires: None }
    }

    fn write(id: AttemptId) -> Act {
        Act::Write(written(id))
    }

    fn volatile(id: AttemptId) -> Act {
        Act::Write(Written { id, volatile: true, journaled: false, expires: None })
    }

    fn expiring(id: AttemptId, from: u64, to: u64) -> Act {
        Act::Write(Written { id, volatile: false, journaled: false, expires: Some((s(from), s(to))) })
    }

    fn saw(id: AttemptId) -> Act {
        Act::Saw(vec![id])
    }

    #[test]
    fn good_histories() {
        use Act::{Delete, Expired, Missed};
        let good: &[(&str, Vec<Operation>)] = &[
            ("nothing yet", vec![done(Missed, 0, 1), done(write(1), 2, 3), done(saw(1), 4, 5)]),
            (
                "reads beside a write see the old or the new",
                vec![done(write(1), 0, 1), done(write(2), 2, 9), done(saw(1), 3, 4), done(saw(2), 5, 6)],
            ),
            (
                "two writes at once, in either order",
                vec![done(write(1), 0, 9), done(write(2), 0, 9), done(saw(2), 1, 2), done(saw(1), 10, 11)],
            ),
            ("a failed put shows late", vec![unknown(write(1), 0), done(Missed, 1, 2), done(saw(1), 3, 4)]),
            ("a failed put never shows", vec![unknown(write(1), 0), done(Missed, 1, 2), done(Missed, 3, 4)]),
            (
                "a failed put shows after a later one",
                vec![unknown(write(1), 0), done(write(2), 1, 2), done(saw(2), 3, 4), done(saw(1), 5, 6)],
            ),
            (
                "what was evicted comes back",
                vec![
                    done(write(1), 0, 1),
                    unknown(Act::Forgets(1), 2),
                    done(Missed, 3, 4),
                    unknown(Act::Returns(written(1), s(4)), 2),
                    done(saw(1), 5, 6),
                ],
            ),
            (
                "what was evicted comes back when what only memory had in its place is lost",
                vec![
                    done(write(1), 0, 1),
                    unknown(Act::Forgets(1), 2),
                    unknown(Act::Returns(written(1), s(4)), 2),
                    done(volatile(2), 3, 4),
                    done(saw(2), 5, 6),
                    done(saw(1), 7, 8),
                ],
            ),
            (
                "a failed delete takes effect later",
                vec![done(write(1), 0, 1), unknown(Delete, 2), done(saw(1), 3, 4), done(Missed, 5, 6)],
            ),
            (
                "two failed deletes around a write",
                vec![
                    unknown(Delete, 0),
                    unknown(Delete, 0),
                    done(write(1), 1, 2),
                    done(Missed, 3, 4),
                    done(write(2), 5, 6),
                    done(Missed, 7, 8),
                ],
            ),
            ("memory forgets", vec![done(volatile(1), 0, 1), done(saw(1), 2, 3), done(Missed, 4, 5)]),
            (
                "a clock decides when it expires",
                vec![done(expiring(1, 4, 8), 0, 1), done(saw(1), 2, 3), done(Expired, 5, 6), done(saw(1), 7, 8)],
            ),
            (
                "a range that two writes explain",
                vec![done(write(1), 0, 1), done(write(2), 2, 3), done(Act::Saw(vec![1, 2]), 4, 5)],
            ),
            (
                "a slow read takes effect before a write that is answered first",
                vec![done(write(1), 0, 1), done(saw(1), 2, 9), done(write(2), 3, 4), done(saw(2), 5, 6)],
            ),
        ];
        for (name, history) in good {
            assert_eq!(order(history, &[], &[]), Order::Found, "{name}");
        }
    }

    #[test]
    fn bad_histories() {
        use Act::{Delete, Expired, Missed};
        let bad: &[(&str, Vec<Operation>, usize)] = &[
            ("a stale read", vec![done(write(1), 0, 1), done(write(2), 2, 3), done(saw(1), 4, 5)], 2),
            ("an acknowledged value is gone", vec![done(write(1), 0, 1), done(Missed, 2, 3)], 1),
            ("a value before its write", vec![done(saw(1), 0, 1), done(write(1), 2, 3)], 0),
            (
                "a deleted value is back",
                vec![done(write(1), 0, 1), done(Delete, 2, 3), done(Missed, 4, 5), done(saw(1), 6, 7)],
                3,
            ),
            (
                "what was evicted is back in the place of its successor",
                vec![
                    done(write(1), 0, 1),
                    unknown(Act::Forgets(1), 2),
                    unknown(Act::Returns(written(1), s(4)), 2),
                    done(write(2), 3, 4),
                    done(saw(1), 5, 6),
                ],
                4,
            ),
            (
                "what was evicted and then deleted is back",
                vec![
                    done(write(1), 0, 1),
                    unknown(Act::Forgets(1), 2),
                    unknown(Act::Returns(written(1), s(4)), 2),
                    done(Missed, 3, 4),
                    done(Delete, 5, 6),
                    done(Missed, 7, 8),
                    done(saw(1), 9, 10),
                ],
                6,
            ),
            (
                "what was evicted is back when its successor has gone",
                vec![
                    done(write(1), 0, 1),
                    unknown(Act::Forgets(1), 2),
                    unknown(Act::Returns(written(1), s(4)), 2),
                    done(write(2), 3, 4),
                    done(saw(2), 5, 6),
                    done(Act::Forgets(2), 7, 8),
                    done(saw(1), 9, 10),
                ],
                6,
            ),
            (
                "what was overwritten in memory, and not evicted, comes back",
                vec![done(write(1), 0, 1), done(volatile(2), 2, 3), done(saw(2), 4, 5), done(saw(1), 6, 7)],
                3,
            ),
            (
                "what was evicted is back, overwritten in memory, and back",
                vec![
                    done(write(1), 0, 1),
                    unknown(Act::Forgets(1), 2),
                    unknown(Act::Returns(written(1), s(4)), 2),
                    done(saw(1), 5, 6),
                    done(volatile(2), 7, 8),
                    done(saw(2), 9, 10),
                    done(saw(1), 11, 12),
                ],
                6,
            ),
            (
                "what was evicted is back after a lasting value, and one that was not, took its place",
                vec![
                    done(write(1), 0, 1),
                    unknown(Act::Forgets(1), 2),
                    unknown(Act::Returns(written(1), s(4)), 2),
                    done(write(2), 3, 4),
                    done(volatile(3), 5, 6),
                    done(saw(1), 7, 8),
                ],
                5,
            ),
            (
                "an eviction takes its successor along",
                vec![done(write(1), 0, 1), done(write(2), 2, 3), done(Act::Forgets(1), 4, 5), done(Missed, 6, 7)],
                3,
            ),
            (
                "new, then old, while the write goes on",
                vec![done(write(1), 0, 1), done(write(2), 2, 9), done(saw(2), 3, 4), done(saw(1), 5, 6)],
                3,
            ),
            (
                "a failed put shows, is overwritten, and shows again",
                vec![unknown(write(1), 0), done(saw(1), 1, 2), done(write(2), 3, 4), done(saw(1), 5, 6)],
                3,
            ),
            (
                "a failed put shows, goes, and is back",
                vec![unknown(write(1), 0), done(saw(1), 1, 2), done(Missed, 3, 4), done(saw(1), 5, 6)],
                2,
            ),
            (
                "one failed delete deletes twice",
                vec![
                    unknown(Delete, 0),
                    done(write(1), 1, 2),
                    done(Missed, 3, 4),
                    done(write(2), 5, 6),
                    done(Missed, 7, 8),
                ],
                4,
            ),
            ("what memory forgot is back", vec![done(volatile(1), 0, 1), done(Missed, 2, 3), done(saw(1), 4, 5)], 2),
            (
                "memory's value gone, the one below it back",
                vec![done(write(1), 0, 1), done(volatile(2), 2, 3), done(saw(1), 4, 5)],
                2,
            ),
            ("expired too early", vec![done(expiring(1, 4, 8), 0, 1), done(Expired, 2, 3)], 1),
            ("served after its time", vec![done(expiring(1, 4, 8), 0, 1), done(saw(1), 9, 10)], 1),
            ("expired without a time", vec![done(write(1), 0, 1), done(Expired, 2, 3)], 1),
            (
                "two readers see two writes in different orders",
                vec![
                    done(write(1), 0, 1),
                    done(write(2), 2, 20),
                    done(write(3), 2, 20),
                    done(saw(2), 3, 4),
                    done(saw(3), 5, 6),
                    done(saw(2), 7, 8),
                ],
                5,
            ),
        ];
        for (name, history, at) in bad {
            assert_eq!(order(history, &[], &[]), Order::None(*at), "{name}");
        }
    }

    #[test]
    fn a_lost_index_undoes_only_what_nobody_was_told_of() {
        let unacknowledged =
            [done(write(1), 0, 1), unknown(Act::Delete, 2), done(Act::Missed, 3, 4), done(saw(1), 7, 8)];
        assert_eq!(order(&unacknowledged, &[], &[]), Order::None(3));
        assert_eq!(order(&unacknowledged, &[s(5)], &[]), Order::Found);
        let acknowledged = [done(write(1), 0, 1), done(Act::Delete, 2, 3), done(saw(1), 7, 8)];
        assert_eq!(order(&acknowledged, &[s(5)], &[]), Order::None(2));
    }

    #[test]
    fn a_read_may_have_seen_what_a_rollback_undoes_before_its_answer() {
        let journaled = |id| Act::Write(Written { id, volatile: false, journaled: true, expires: None });
        let history =
            |end| [done(journaled(1), 0, 1), done(journaled(2), 2, 3), done(saw(2), 4, end), done(saw(1), 9, 10)];
        assert_eq!(order(&history(5), &[], &[s(6)]), Order::Found);
        assert_eq!(order(&history(7), &[], &[s(6)]), Order::Found);
        assert_eq!(order(&history(7), &[], &[]), Order::None(3));
        assert_eq!(order(&history(7), &[], &[s(3)]), Order::None(3));
    }

    #[test]
    fn many_failed_puts_are_no_more_work_than_those_that_were_seen() {
        let mut history: Vec<_> = (1..200).map(|id| unknown(write(id), 0)).collect();
        history.extend((1..200).map(|id| done(saw(id), 2 * id, 2 * id + 1)));
        assert_eq!(order(&history, &[], &[]), Order::Found);
        history.push(done(saw(1), 1000, 1001));
        assert_eq!(order(&history, &[], &[]), Order::None(398));
    }

    #[test]
    fn a_history_beyond_the_bound_is_undecided() {
        let history: Vec<_> = (1..30).map(|id| done(write(id), 0, 1)).collect();
        assert_eq!(order(&history, &[], &[]), Order::Undecided);
    }
}
