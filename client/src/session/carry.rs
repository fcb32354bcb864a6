//! One connection, driven by polling: commands, writes, reads, in this order, until nothing moves.

use super::{Ended, State, lose};
use crate::call::{Answered, Call, CallKey, Command, NamespaceKey, Opening};
use bettong_wire::request::NsHandle;
use bettong_wire::response::{Answer, Opened, Outcome};
use bettong_wire::tcp::{ClientConnection, ClientEvent};
use bettong_wire::{BlockMemory, ErrorKind, Request, Response, ServiceError};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What waits for an answer of the daemon.
enum Waiting {
    Call {
        key: CallKey,
        reply: oneshot::Sender<Answered>,
        received_before: u64,
    },
    /// `None` where a namespace is opened again and nobody waits for it.
    Open {
        key: NamespaceKey,
        reply: Option<oneshot::Sender<Result<Opened, Opening>>>,
        received_before: u64,
    },
}

pub(super) struct Carrier<'a, T> {
    stream: T,
    state: &'a mut State,
    wire: ClientConnection,
    waiting: BTreeMap<u64, Waiting>,
    /// The connection's id of each call that waits.
    sent: BTreeMap<CallKey, u64>,
    /// What this connection calls each namespace, or why it does not have it.
    handles: BTreeMap<NamespaceKey, Result<NsHandle, ServiceError>>,
    /// Namespaces of the last connection that are still to be opened on this one, the first of them being asked for.
    /// Calls wait so long.
    reopening: VecDeque<NamespaceKey>,
    received: u64,
    carried: bool,
    needs_flush: bool,
}

impl<'a, T: AsyncRead + AsyncWrite + Unpin + Send> Carrier<'a, T> {
    pub fn new(stream: T, state: &'a mut State) -> Self {
        Self {
            stream,
            state,
            wire: ClientConnection::new(),
            waiting: BTreeMap::new(),
            sent: BTreeMap::new(),
            handles: BTreeMap::new(),
            reopening: VecDeque::new(),
            received: 0,
            carried: false,
            needs_flush: false,
        }
    }

    /// Whether anything came back on this connection.
    pub fn has_carried(&self) -> bool {
        self.carried
    }

    /// Carries calls until the connection is lost. Opening what was open before may take `limit`.
    pub async fn run(&mut self, limit: Duration) -> Ended {
        if let Err(error) = self.reopen() {
            return Ended::Lost(error);
        }
        let reopened = timeout(limit, std::future::poll_fn(|cx| self.poll(cx, true))).await;
        match reopened {
            Err(_) => Ended::Lost(lost("the namespaces could not be opened again in time")),
            Ok(Some(ended)) => ended,
            Ok(None) => loop {
                if let Some(ended) = std::future::poll_fn(|cx| self.poll(cx, false)).await {
                    return ended;
                }
            },
        }
    }

    /// Begins to open what was open before, one namespace after the other.
    fn reopen(&mut self) -> Result<(), ServiceError> {
        let asked: Vec<NamespaceKey> = self.state.opening.iter().map(|(key, _)| *key).collect();
        self.reopening = self.state.namespaces.keys().filter(|key| !asked.contains(key)).copied().collect();
        self.reopen_next()
    }

    fn reopen_next(&mut self) -> Result<(), ServiceError> {
        while let Some(key) = self.reopening.front().copied() {
            if self.state.namespaces.contains_key(&key) {
                return self.open(key, None);
            }
            self.reopening.pop_front();
        }
        Ok(())
    }

    fn open(
        &mut self,
        key: NamespaceKey,
        reply: Option<oneshot::Sender<Result<Opened, Opening>>>,
    ) -> Result<(), ServiceError> {
        let Some(open) = self.state.namespaces.get(&key) else { return Ok(()) };
        let id = self.wire.send(&Request::Open(open.clone()), Vec::new())?;
        self.waiting.insert(id, Waiting::Open { key, reply, received_before: self.received });
        Ok(())
    }

    /// `Some` when the connection has ended; `None` when all namespaces are open again, where that is waited for.
    fn poll(&mut self, cx: &mut Context<'_>, until_reopened: bool) -> Poll<Option<Ended>> {
        loop {
            if until_reopened && self.reopening.is_empty() {
                return Poll::Ready(None);
            }
            let mut moved = match self.take_commands(cx) {
                Ok(moved) => moved,
                Err(ended) => return Poll::Ready(Some(ended)),
            };
            if self.reopening.is_empty() {
                moved |= self.send_queued();
            }
            match self.take_events().and_then(|events| Ok(events | self.poll_write(cx)? | self.poll_read(cx)?)) {
                Ok(io) => moved |= io,
                Err(error) => return Poll::Ready(Some(Ended::Lost(error))),
            }
            if !moved {
                return Poll::Pending;
            }
        }
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

    fn forget(&mut self, key: NamespaceKey, timed_out: bool) -> Result<(), ServiceError> {
        self.close_namespace(key);
        let silent = |waiting: &Waiting| match waiting {
            Waiting::Open { key: opening, received_before, .. } => *opening == key && *received_before == self.received,
            Waiting::Call { .. } => false,
        };
        if timed_out && self.waiting.values().any(silent) { Err(no_word()) } else { Ok(()) }
    }

    fn close_namespace(&mut self, key: NamespaceKey) {
        if let Some(Ok(ns)) = self.handles.remove(&key)
            && let Ok(id) = self.wire.send(&Request::Close { ns }, Vec::new())
        {
            self.wire.abandon(id);
        }
    }

    /// Nobody waits for a call any more. Where not a byte has come since it was sent, the connection is given up: the
    /// daemon, or the way to it, is gone without a word.
    fn abandon(&mut self, key: CallKey, timed_out: bool) -> Result<(), ServiceError> {
        let Some(id) = self.sent.remove(&key) else { return Ok(()) };
        self.wire.abandon(id);
        match self.waiting.remove(&id) {
            Some(Waiting::Call { received_before, .. }) if timed_out && received_before == self.received => {
                Err(no_word())
            }
            _ => Ok(()),
        }
    }

    fn send_queued(&mut self) -> bool {
        let mut moved = false;
        while self.wire.has_room()
            && let Some((key, reply)) = self.state.opening.pop_front()
        {
            moved = true;
            // A connection that takes nothing any more is at its end, and then whoever waits is told.
            let _ = self.open(key, Some(reply));
        }
        while self.wire.has_room()
            && let Some(call) = self.state.queued.pop_front()
        {
            moved = true;
            self.send(call);
        }
        moved
    }

    fn send(&mut self, call: Call) {
        let Call { key, namespace, mut request, payloads, reply } = call;
        if reply.is_closed() {
            return;
        }
        if let (Request::Close { .. }, Some(namespace)) = (&request, namespace) {
            self.state.namespaces.remove(&namespace);
        }
        let handle = namespace.map(|namespace| self.handles.get(&namespace).cloned().unwrap_or_else(not_open));
        let sent = match (handle, request.namespace_mut()) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(handle)), Some(ns)) => {
                *ns = handle;
                self.wire.send(&request, payloads)
            }
            _ => self.wire.send(&request, payloads),
        };
        if let (Request::Close { .. }, Some(namespace)) = (&request, namespace) {
            self.handles.remove(&namespace);
        }
        match sent {
            Ok(id) => {
                self.sent.insert(key, id);
                self.waiting.insert(id, Waiting::Call { key, reply, received_before: self.received });
            }
            // What cannot be sent is answered here as the daemon would answer it.
            Err(error) => {
                let _ = reply.send(Ok(Response::error(error)));
            }
        }
    }

    fn take_events(&mut self) -> Result<bool, ServiceError> {
        let mut moved = false;
        loop {
            match self.wire.next_event() {
                ClientEvent::NeedBytes => return Ok(moved),
                ClientEvent::Closed { error } => return Err(error),
                ClientEvent::Reserve { id, lens } => {
                    match lens.iter().map(|len| self.state.memory.reserve(*len)).collect() {
                        Ok(buffers) => self.wire.fill(buffers),
                        Err(error) => {
                            if let ClientEvent::Response { id, response } = self.wire.refuse(id, error.into()) {
                                self.answered(id, response)?;
                            }
                        }
                    }
                }
                ClientEvent::Response { id, response } => self.answered(id, response)?,
            }
            moved = true;
        }
    }

    fn answered(&mut self, id: u64, response: Response) -> Result<(), ServiceError> {
        self.carried = true;
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
        if let (None, Err(error)) = (&reply, &opened)
            && !matches!(error.kind, ErrorKind::IdentityMismatch | ErrorKind::Invalid)
        {
            // The daemon cannot, or will not, have this client now: this connection is of no use.
            return Err(error.clone());
        }
        self.handles.insert(key, opened.clone().map(|opened| opened.ns));
        let wanted = match reply {
            Some(reply) => reply.send(opened.map_err(Opening::Refused)).is_ok(),
            None => {
                self.reopening.pop_front();
                self.reopen_next()?;
                true
            }
        };
        if !wanted || !self.state.namespaces.contains_key(&key) {
            self.close_namespace(key);
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        let mut moved = false;
        while self.wire.has_unsent() {
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &self.wire.slices()) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(0)) => return Err(lost("no byte can be written")),
                Poll::Ready(Ok(n)) => self.wire.advance_written(n),
                Poll::Ready(Err(error)) => return Err(lost(&error.to_string())),
            }
            moved = true;
            self.needs_flush = true;
        }
        if self.needs_flush {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(error)) => return Err(lost(&error.to_string())),
            }
        }
        Ok(moved)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        let mut into = self.wire.read_into();
        let read = pin!(self.stream.read_buf(&mut into)).poll(cx);
        match read {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(lost("the daemon closed it")),
            Poll::Ready(Ok(n)) => {
                self.wire.advance_read(n);
                self.received = self.received.saturating_add(n as u64);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(lost(&error.to_string())),
        }
    }

    /// The connection is lost: whoever waits is told that the outcome is unknown.
    pub fn give_up(self, error: &ServiceError) {
        for waiting in self.waiting.into_values() {
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

fn lost(why: &str) -> ServiceError {
    ServiceError::new(ErrorKind::Retry, format!("the connection is lost: {why}"))
}

fn no_word() -> ServiceError {
    lost("the daemon has not sent a byte since a call that timed out was made")
}

fn not_open() -> Result<NsHandle, ServiceError> {
    Err(ServiceError::new(ErrorKind::Invalid, "the namespace is closed"))
}
