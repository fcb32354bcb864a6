//! The task behind a client: connects, opens the namespaces, carries calls, and connects again.

mod carry;
mod reopen;
pub(crate) mod wire;

use crate::call::{Asked, Call, Command, Lost, NamespaceKey};
use crate::client::Trouble;
use crate::options::Options;
use bettong_wire::request::Open;
use bettong_wire::{ErrorKind, Response, ServiceError};
use carry::Carrier;
use reopen::Pace;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use wire::Reach;

/// What outlives a connection.
pub(crate) struct State {
    commands: mpsc::UnboundedReceiver<Command>,
    /// Every namespace in use, to be opened again on the next connection.
    namespaces: BTreeMap<NamespaceKey, InUse>,
    /// Namespaces that somebody waits for, not yet asked for on this connection.
    opening: VecDeque<Asked>,
    /// Calls that are not sent yet.
    queued: VecDeque<Call>,
    trouble: Trouble,
}

/// A namespace in use.
struct InUse {
    open: Open,
    /// When a connection ended last that had been asked for it and had not answered.
    lost: Option<Instant>,
}

/// How a connection ended.
enum Ended {
    /// Nobody is left who could call.
    NobodyCalls,
    Lost(ServiceError),
}

/// Carries calls until nobody is left who could make one.
pub(crate) async fn run<R: Reach>(
    mut reach: R,
    wire: R::Wire,
    options: Options,
    commands: mpsc::UnboundedReceiver<Command>,
    trouble: Trouble,
) {
    let (namespaces, opening, queued) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
    let mut state = State { commands, namespaces, opening, queued, trouble };
    let mut pace = Pace::new(options.backoff, options.backoff_max, options.call_timeout, options.seed);
    let mut pause = options.backoff;
    let mut connected = Some(wire);
    loop {
        let lost = match connected.take() {
            Some(wire) => {
                state.trouble.set(None);
                let mut carrier = Carrier::new(wire, &mut state, &mut pace);
                match carrier.run().await {
                    Ended::NobodyCalls => return,
                    Ended::Lost(error) => {
                        if carrier.has_carried() {
                            pause = options.backoff;
                        }
                        carrier.give_up(&error);
                        error
                    }
                }
            }
            None => match reach.reach(options.connect_timeout).await {
                Ok(wire) => {
                    connected = Some(wire);
                    continue;
                }
                Err(error) => error,
            },
        };
        if lost.kind == ErrorKind::Denied {
            state.refuse_queued(&lost);
        }
        state.trouble.set(Some(lost.message));
        if state.is_deserted() {
            return;
        }
        sleep(pace.jittered(pause)).await;
        pause = pace.longer(pause);
    }
}

impl State {
    /// Whether nobody is left who could call, or waits for an answer.
    fn is_deserted(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.note(command),
                Err(mpsc::error::TryRecvError::Empty) => return false,
                Err(mpsc::error::TryRecvError::Disconnected) => return true,
            };
        }
    }

    /// Nobody uses the namespace any more.
    fn close(&mut self, key: NamespaceKey) {
        self.namespaces.remove(&key);
        self.trouble.set_of(key, None);
    }

    /// The daemon does not let this client in: waiting would not change that.
    fn refuse_queued(&mut self, error: &ServiceError) {
        for call in self.queued.drain(..) {
            // Who does not wait any more needs no telling.
            let _ = call.reply.send(Ok(Response::error(error.clone())));
        }
    }

    /// Takes what of a command concerns no connection. Answers one that concerns a connection too.
    fn note(&mut self, command: Command) -> Option<Command> {
        match command {
            Command::Call(call) => self.queued.push_back(*call),
            Command::Open { open, asked } => {
                self.namespaces.insert(asked.key, InUse { open: *open, lost: None });
                self.opening.push_back(asked);
            }
            Command::Forget { key, timed_out } => {
                self.close(key);
                return Some(Command::Forget { key, timed_out });
            }
            Command::Abandon { key, timed_out } => {
                self.queued.retain(|call| call.key != key);
                return Some(Command::Abandon { key, timed_out });
            }
        }
        None
    }
}

/// Tells a caller that its call has no answer; a caller that does not wait any more needs no telling.
fn lose(reply: oneshot::Sender<Result<Response, Lost>>, error: ServiceError, may_have_acted: bool) {
    let _ = reply.send(Err(Lost { error, may_have_acted }));
}
