//! Somebody hostile on another processor who never lets the daemon come to an end.

use bettong_shm::Frame;
use bettong_shm::ring::{HeapSegment, Receiver, Sender};
use bettong_wire::Request;
use bettong_wire::message::encode_request;
use parking_lot::Mutex;
use std::sync::Arc;

/// A client's ends of its rings.
pub struct Ends {
    pub sender: Sender<Arc<HeapSegment>, Arc<HeapSegment>>,
    pub receiver: Receiver<Arc<HeapSegment>, Arc<HeapSegment>>,
    pub last_id: u64,
}

/// Asks one thing more at each of the daemon's looks, and takes all answers, so many times.
pub struct Feeder {
    ends: Arc<Mutex<Ends>>,
    left: u32,
}

impl Feeder {
    pub fn new(ends: Arc<Mutex<Ends>>, times: u32) -> Self {
        Self { ends, left: times }
    }

    pub fn feed(&mut self) {
        if self.left == 0 {
            return;
        }
        let Ends { sender, receiver, last_id } = &mut *self.ends.lock();
        while let Ok(Some(_)) = receiver.recv() {}
        let Ok(message) = encode_request(*last_id + 1, &Request::Ping, Vec::new()) else { return };
        if sender.send(&Frame::Inline(&message.head)).is_ok() {
            *last_id += 1;
            self.left -= 1;
        }
    }
}
