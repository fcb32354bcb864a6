//! One connection, driven by polling: commands, writes, reads, in this order, until nothing moves.

#[cfg(test)]
mod tests;

use super::reopen::{Due, Pace, Reopening};
use super::wire::{Unsent, Wire, lost};
use super::{Ended, InUse, State, lose};
use crate::call::{Answered, Asked, Body, Call, CallKey, Command, NamespaceKey, Opening, TimedOut};
use bettong_wire::request::NsHandle;
use bettong_wire::response::{Answer, Opened, Outcome};
use bettong_wire::{ErrorKind, Request, Response, ServiceError};
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// For so long a connection is kept by PINGs for the sake of an OPEN: twice the deadline that a daemon gives one by default.
/// Whatever takes longer may have been forgotten, and is asked for on another connection.
const OPEN_TIME_MAX: Duration = Duration::from_secs(60);

/// What waits for an answer of the daemon.
enum Waiting {
    Call {
        key: CallKey,
        reply: oneshot::Sender<Answered>,
    },
    /// `None` where a namespace is opened again and nobody waits for it.
    Open {
        key: NamespaceKey,
        reply: Option<oneshot::Sender<Result<Opened, Opening>>>,
    },
}

/// A call that there is no room for.
struct Waits {
    call: Call,
    full: Full,
}

enum Full {
    Wire,
    /// Other calls may have room.
    Body,
}

pub(super) struct Carrier<'a, W> {
    wire: W,
    state: &'a mut State,
    pace: &'a mut Pace,
    waiting: BTreeMap<u64, Waiting>,
    /// The connection's id of each call that waits.
    sent: BTreeMap<CallKey, u64>,
    /// What this connection calls each namespace, or why it does not have it.
    handles: BTreeMap<NamespaceKey, Result<NsHandle, ServiceError>>,
    reopening: Reopening,
    /// Calls into namespaces that are still to be opened again. No more than calls are under way.
    held: BTreeMap<NamespaceKey, VecDeque<Call>>,
    /// Handles that nobody uses any more and the daemon does not know of.
    closing: VecDeque<NsHandle>,
    /// Since when a byte is due: after the last one that came, or what was asked when nothing was due.
    heard: Instant,
    carried: bool,
    /// Somebody was answered in this poll.
    delivered: bool,
}

impl<'a, W: Wire> Carrier<'a, W> {
    pub fn new(wire: W, state: &'a mut State, pace: &'a mut Pace) -> Self {
        // What somebody waits for is asked for in its own turn.
        let waited = |key: &NamespaceKey| state.opening.iter().any(|asked| asked.key == *key);
        let unwaited = state.namespaces.iter().filter(|(key, _)| !waited(key));
        let reopening = Reopening::new(unwaited.map(|(key, in_use)| (*key, in_use.lost)), pace);
        Self {
            wire,
            state,
            pace,
            waiting: BTreeMap::new(),
            sent: BTreeMap::new(),
            handles: BTreeMap::new(),
            reopening,
            held: BTreeMap::new(),
            closing: VecDeque::new(),
            heard: Instant::now(),
            carried: false,
            delivered: false,
        }
    }

    /// Whether anything came back on this connection.
    pub fn has_carried(&self) -> bool {
        self.carried
    }

    /// Carries calls until the connection is lost. What was open before is opened again; calls wait for their own
    /// namespace only.
    pub async fn run(&mut self) -> Ended {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Asks for namespaces whose turn it is.
    fn reopen(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        let mut moved = false;
        loop {
            let waited = self.state.opening.front().map(|asked| asked.since);
            let Some(due) = self.reopening.due(cx, self.wire.has_room(), waited) else { return Ok(moved) };
            match due {
                Due::Ask(key) => match self.ask_to_open(key, Instant::now()) {
                    None => self.reopening.remove(key),
                    Some(Ok(id)) => {
                        self.waiting.insert(id, Waiting::Open { key, reply: None });
                        self.reopening.wait(key, self.pace);
                    }
                    Some(Err(Unsent::Full | Unsent::BodyFull)) => return Ok(moved),
                    Some(Err(Unsent::Never(error))) => return Err(error),
                },
                Due::Unanswered(..) if self.is_silent(None) => return Err(no_word()),
                Due::Unanswered(key, since) => {
                    self.cannot_reopen(key, "the daemon has not answered yet");
                    self.ask_for_a_sign(since)?;
                    self.reopening.wait(key, self.pace);
                }
            }
            moved = true;
        }
    }

    /// An OPEN may take the daemon longer than a call may take: that it is not answered, since then, does not cost the
    /// connection where a PING is. A connection on which nothing has room beside it is of no use to others, and not kept.
    fn ask_for_a_sign(&mut self, since: Instant) -> Result<(), ServiceError> {
        if self.wire.has_room()
            && since.elapsed() < OPEN_TIME_MAX
            && let Err(Unsent::Never(error)) = self.wire.send(&Request::Ping, &mut Body::default())
        {
            return Err(error);
        }
        Ok(())
    }

    fn cannot_reopen(&self, key: NamespaceKey, why: &str) {
        if let Some(InUse { open, .. }) = self.state.namespaces.get(&key) {
            let why = format!("namespace `{}` cannot be opened again: {why}", open.namespace);
            self.state.trouble.set_of(key, Some(why));
        }
    }

    /// Whether this connection brought not a byte for as long as a call may take, or while an answer was waited for in
    /// vain, be it to a request that has had no room on it so far. A short wait, such as the rest of what earlier attempts
    /// left of a call's time, says nothing.
    fn is_silent(&self, timed_out: Option<TimedOut>) -> bool {
        let limit = self.pace.limit;
        let in_vain = |TimedOut { since }: TimedOut| self.heard <= since && since.elapsed() >= limit / 2;
        self.wire.unanswered() > 0 && (self.heard.elapsed() >= limit || timed_out.is_some_and(in_vain))
    }

    /// Something is about to be sent, for somebody who waits since then. Before, nothing may have been due.
    fn owe(&mut self, since: Instant) {
        if self.wire.unanswered() == 0 {
            self.heard = self.heard.max(since);
        }
    }

    /// Somebody waits no more, in vain or not. A silent connection is given up: the daemon, or the way to it, is gone
    /// without a word.
    fn doubt(&self, timed_out: Option<TimedOut>) -> Result<(), ServiceError> {
        if self.is_silent(timed_out) { Err(no_word()) } else { Ok(()) }
    }

    /// Asks for a namespace, for somebody who waits since then; `None` where nobody uses it.
    fn ask_to_open(&mut self, key: NamespaceKey, since: Instant) -> Option<Result<u64, Unsent>> {
        let open = self.state.namespaces.get(&key)?.open.clone();
        self.owe(since);
        Some(self.wire.send(&Request::open(open), &mut Body::default()))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.poll_until_still(cx) {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }

    fn poll_until_still(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        self.delivered = false;
        // What has come is read before anybody says that nothing has: this task may not have run for long.
        let mut moved = self.receive(cx).map_err(Ended::Lost)?;
        loop {
            moved |= self.take_commands(cx)?;
            moved |= self.carry(cx).map_err(Ended::Lost)?;
            if !std::mem::take(&mut moved) && !self.rest(cx).map_err(Ended::Lost)? {
                return Ok(());
            }
        }
    }

    /// A moment is waited for somebody's answer only, and not where somebody has just been answered and is to go on.
    fn rest(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        self.wire.rest(cx, !self.delivered && !self.sent.is_empty())
    }

    fn carry(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        let moved = self.reopen(cx)? | self.send_queued() | self.take_answers()?;
        Ok(moved | self.wire.poll_send(cx)? | self.receive(cx)?)
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        let moved = self.wire.poll_receive(cx)?;
        if moved {
            self.heard = Instant::now();
        }
        Ok(moved)
    }

    fn take_commands(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut moved = false;
        while let Poll::Ready(command) = self.state.commands.poll_recv(cx) {
            let Some(command) = command else { return Err(Ended::NobodyCalls) };
            moved = true;
            match self.state.note(command) {
                Some(Command::Forget { key, timed_out }) => self.forget(key, timed_out).map_err(Ended::Lost)?,
                Some(Command::Abandon { key, timed_out }) => self.abandon(key, timed_out).map_err(Ended::Lost)?,
                _ => {}
            }
        }
        Ok(moved)
    }

    fn forget(&mut self, key: NamespaceKey, timed_out: Option<TimedOut>) -> Result<(), ServiceError> {
        let doubt = self.doubt(timed_out);
        self.close_namespace(key);
        self.reopening.remove(key);
        // Nobody is left who could wait for a call.
        self.held.remove(&key);
        doubt
    }

    fn close_namespace(&mut self, key: NamespaceKey) {
        if let Some(Ok(ns)) = self.handles.remove(&key) {
            self.close_handle(ns);
        }
    }

    fn close_handle(&mut self, ns: NsHandle) {
        self.owe(Instant::now());
        self.closing.push_back(ns);
        self.send_closes();
    }

    fn send_closes(&mut self) {
        while let Some(ns) = self.closing.front().copied() {
            match self.wire.send(&Request::Close { ns }, &mut Body::default()) {
                Ok(id) => self.wire.abandon(id),
                Err(Unsent::Full | Unsent::BodyFull) => return,
                // A connection that takes nothing any more is at its end, and its handles with it.
                Err(Unsent::Never(_)) => {}
            }
            self.closing.pop_front();
        }
    }

    /// Nobody waits for a call any more.
    fn abandon(&mut self, key: CallKey, timed_out: Option<TimedOut>) -> Result<(), ServiceError> {
        match self.sent.remove(&key) {
            Some(id) => {
                self.wire.abandon(id);
                self.waiting.remove(&id);
            }
            None => self.held.values_mut().for_each(|calls| calls.retain(|call| call.key != key)),
        }
        self.doubt(timed_out)
    }

    fn send_queued(&mut self) -> bool {
        self.send_closes();
        self.send_opens() | self.send_calls()
    }

    fn send_opens(&mut self) -> bool {
        let mut moved = false;
        while self.wire.has_room()
            && let Some(Asked { key, since, reply }) = self.state.opening.pop_front()
        {
            match self.ask_to_open(key, since) {
                // Nobody uses it any more.
                None => {}
                Some(Ok(id)) => {
                    self.waiting.insert(id, Waiting::Open { key, reply: Some(reply) });
                }
                Some(Err(Unsent::Full | Unsent::BodyFull)) => {
                    self.state.opening.push_front(Asked { key, since, reply });
                    return moved;
                }
                Some(Err(Unsent::Never(error))) => {
                    let _ = reply.send(Err(Opening::Refused(error)));
                }
            }
            moved = true;
        }
        moved
    }

    /// Sends calls in their order. Where a body waits for room, so do those behind it; what has no body passes them.
    fn send_calls(&mut self) -> bool {
        let (mut moved, mut at) = (false, 0);
        while self.wire.has_room()
            && let Some(call) = self.state.queued.get(at)
        {
            if at > 0 && call.body.needs_room() {
                at += 1;
                continue;
            }
            let Some(call) = self.state.queued.remove(at) else { break };
            match call.namespace {
                Some(key) if self.reopening.contains(key) => {
                    self.hold(key, call);
                    // Others may be before them now.
                    at = 0;
                }
                _ => match self.send(call) {
                    Ok(()) => {}
                    Err(waits) => {
                        let Waits { call, full } = *waits;
                        self.state.queued.insert(at, call);
                        match full {
                            Full::Wire => break,
                            Full::Body => at += 1,
                        }
                        continue;
                    }
                },
            }
            moved = true;
        }
        moved
    }

    /// Keeps a call until its namespace is open again. What is not open is closed at once.
    fn hold(&mut self, key: NamespaceKey, call: Call) {
        if !matches!(call.request, Request::Close { .. }) {
            self.held.entry(key).or_default().push_back(call);
            return;
        }
        self.state.close(key);
        self.reopened(key, not_open());
        let _ = call.reply.send(Ok(Response::ok(Answer::Closed)));
    }

    /// It is known how this connection calls the namespace, or why it does not have it: calls into it go on.
    fn reopened(&mut self, key: NamespaceKey, handle: Result<NsHandle, ServiceError>) {
        self.reopening.remove(key);
        self.state.trouble.set_of(key, None);
        self.handles.insert(key, handle);
        let held = self.held.remove(&key).unwrap_or_default();
        held.into_iter().rev().for_each(|call| self.state.queued.push_front(call));
    }

    /// Sends a call, or gives it back where there is no room.
    fn send(&mut self, mut call: Call) -> Result<(), Box<Waits>> {
        if call.reply.is_closed() {
            return Ok(());
        }
        let closes = call.namespace.filter(|_| matches!(call.request, Request::Close { .. }));
        if let Some(namespace) = closes {
            self.state.close(namespace);
        }
        self.owe(call.since);
        let handle = call.namespace.map(|key| self.handles.get(&key).cloned().unwrap_or_else(not_open));
        let sent = match (handle, call.request.namespace_mut()) {
            (Some(Err(error)), _) => Err(Unsent::Never(error)),
            (Some(Ok(handle)), Some(ns)) => {
                *ns = handle;
                self.wire.send(&call.request, &mut call.body)
            }
            _ => self.wire.send(&call.request, &mut call.body),
        };
        let answered = match sent {
            Err(Unsent::Full) => return Err(Box::new(Waits { call, full: Full::Wire })),
            Err(Unsent::BodyFull) => return Err(Box::new(Waits { call, full: Full::Body })),
            Err(Unsent::Never(error)) => Err(error),
            Ok(id) => Ok(id),
        };
        if let Some(namespace) = closes {
            self.handles.remove(&namespace);
        }
        let Call { key, reply, .. } = call;
        match answered {
            Ok(id) => {
                self.sent.insert(key, id);
                self.waiting.insert(id, Waiting::Call { key, reply });
            }
            // What cannot be sent is answered here as the daemon would answer it.
            Err(error) => {
                let _ = reply.send(Ok(Response::error(error)));
            }
        }
        Ok(())
    }

    fn take_answers(&mut self) -> Result<bool, ServiceError> {
        let mut moved = false;
        while let Some((id, response)) = self.wire.next_answer()? {
            self.answered(id, response)?;
            moved = true;
        }
        Ok(moved)
    }

    fn answered(&mut self, id: u64, response: Response) -> Result<(), ServiceError> {
        self.carried = true;
        self.delivered = true;
        match self.waiting.remove(&id) {
            None => Ok(()),
            Some(Waiting::Call { key, reply, .. }) => {
                self.sent.remove(&key);
                // The caller may have left in this very moment.
                let _ = reply.send(Ok(response));
                Ok(())
            }
            Some(Waiting::Open { key, reply, .. }) => self.opened(key, reply, response),
        }
    }

    fn opened(
        &mut self,
        key: NamespaceKey,
        reply: Option<oneshot::Sender<Result<Opened, Opening>>>,
        response: Response,
    ) -> Result<(), ServiceError> {
        let opened = match response.outcome {
            Outcome::Ok(Answer::Opened(opened)) => Ok(opened),
            Outcome::Error(error) => Err(error),
            other => Err(crate::client::unexpected("an open", other)),
        };
        let handle = opened.clone().map(|opened| opened.ns);
        let wanted = match (reply, &opened) {
            (Some(reply), _) => {
                // It may have been opened again already, for nobody who waited.
                self.close_namespace(key);
                self.reopened(key, handle);
                reply.send(opened.map_err(Opening::Refused)).is_ok()
            }
            // Its caller was answered first, or it is closed.
            (None, _) if !self.reopening.contains(key) => {
                if let Ok(ns) = handle {
                    self.close_handle(ns);
                }
                return Ok(());
            }
            // The daemon will not have this client: this connection is of no use.
            (None, Err(error)) if error.kind == ErrorKind::Denied => return Err(error.clone()),
            (None, Err(error)) if is_passing(error.kind) => {
                let hint = Duration::from_millis(u64::from(error.retry_after_ms));
                self.cannot_reopen(key, &error.message);
                self.reopening.later(key, hint, self.pace);
                return Ok(());
            }
            (None, _) => {
                self.reopened(key, handle);
                true
            }
        };
        if !wanted || !self.state.namespaces.contains_key(&key) {
            self.close_namespace(key);
        }
        Ok(())
    }

    /// The connection is lost: whoever waits is told that the outcome is unknown. What was not sent is kept.
    pub fn give_up(self, error: &ServiceError) {
        self.state.queued.extend(self.held.into_values().flatten());
        for waiting in self.waiting.into_values() {
            if let Waiting::Open { key, .. } = &waiting
                && let Some(in_use) = self.state.namespaces.get_mut(key)
            {
                in_use.lost = Some(Instant::now());
            }
            match waiting {
                Waiting::Call { reply, .. } => {
                    let text = format!("the outcome is unknown: {}", error.message);
                    lose(reply, ServiceError::new(ErrorKind::Retry, text), true);
                }
                Waiting::Open { reply: Some(reply), .. } => {
                    // Who does not wait any more needs no telling.
                    let _ = reply.send(Err(Opening::Lost));
                }
                Waiting::Open { reply: None, .. } => {}
            }
        }
    }
}

/// Whether an OPEN that was answered so may be answered otherwise later.
fn is_passing(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::IdentityMismatch | ErrorKind::Invalid | ErrorKind::TooLarge)
}

fn no_word() -> ServiceError {
    lost("the daemon has not sent a byte since a call that timed out was made")
}

fn not_open() -> Result<NsHandle, ServiceError> {
    Err(ServiceError::new(ErrorKind::Invalid, "the namespace is closed"))
}
