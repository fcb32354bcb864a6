//! A carrier on a connection whose other end is the test.

use super::*;
use crate::client::Trouble;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use tokio::sync::mpsc;

/// A connection whose other end is the test.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<HeldWire>>);

#[derive(Default)]
struct HeldWire {
    sent: u64,
    unanswered: usize,
    answers: VecDeque<u64>,
    /// Comes while it is dozed.
    while_dozing: Option<u64>,
    /// Whether it might doze, each time that nothing moved.
    rests: Vec<bool>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HeldWire> {
        self.0.lock().unwrap()
    }

    fn rests(&self) -> Vec<bool> {
        std::mem::take(&mut self.lock().rests)
    }
}

impl Wire for Held {
    fn has_room(&self) -> bool {
        true
    }

    fn unanswered(&self) -> usize {
        self.lock().unanswered
    }

    fn send(&mut self, _request: &Request, _body: &mut Body) -> Result<u64, Unsent> {
        let mut wire = self.lock();
        (wire.sent, wire.unanswered) = (wire.sent + 1, wire.unanswered + 1);
        Ok(wire.sent)
    }

    fn abandon(&mut self, _id: u64) {
        self.lock().unanswered -= 1;
    }

    fn poll_send(&mut self, _cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        Ok(false)
    }

    fn poll_receive(&mut self, _cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        Ok(false)
    }

    fn rest(&mut self, _cx: &mut Context<'_>, may_doze: bool) -> Result<bool, ServiceError> {
        let mut wire = self.lock();
        wire.rests.push(may_doze);
        let came = wire.while_dozing.take().filter(|_| may_doze);
        wire.answers.extend(came);
        Ok(came.is_some())
    }

    fn next_answer(&mut self) -> Result<Option<(u64, Response)>, ServiceError> {
        let mut wire = self.lock();
        let Some(id) = wire.answers.pop_front() else { return Ok(None) };
        wire.unanswered -= 1;
        Ok(Some((id, Response::ok(Answer::Pong))))
    }
}

#[tokio::test]
async fn it_dozes_for_an_answer_that_somebody_waits_for_and_for_nothing_else() {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (namespaces, opening, queued) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
    let mut state = State { commands: receiver, namespaces, opening, queued, trouble: Trouble::default() };
    let second = Duration::from_secs(1);
    let (mut pace, wire) = (Pace::new(second, second, second, 7), Held::default());
    let mut carrier = Carrier::new(wire.clone(), &mut state, &mut pace);
    let mut poll = || assert!(carrier.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let ask = |key| {
        let (reply, answer) = oneshot::channel();
        let (request, since) = (Request::Ping, Instant::now());
        let call = Call { key: CallKey(key), namespace: None, request, body: Body::default(), since, reply };
        commands.send(Command::Call(Box::new(call))).unwrap();
        answer
    };

    poll();
    assert_eq!(wire.rests(), [false], "nobody waits");
    let mut answer = ask(1);
    poll();
    assert_eq!(wire.rests(), [true], "an answer is waited for");
    wire.lock().answers.push_back(1);
    let mut other = ask(2);
    poll();
    assert_eq!(wire.rests(), [false], "who was answered is to go on, whoever waits besides");
    assert!(answer.try_recv().is_ok());
    wire.lock().while_dozing = Some(2);
    poll();
    assert_eq!(wire.rests(), [true, false], "what came while it dozed is handed on at once");
    assert!(other.try_recv().is_ok());
    drop(ask(3));
    commands.send(Command::Abandon { key: CallKey(3), timed_out: None }).unwrap();
    poll();
    assert_eq!(wire.rests(), [false], "nobody waits any more");
}
