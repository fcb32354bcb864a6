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
mod tests;
