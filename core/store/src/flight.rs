//! One flight for each put id: however many ask, the tiers are read once. The flight belongs to the store; waiters may
//! leave at any time. Results are not kept: the next asker after the landing starts a new flight.

use bettong_wire::PutId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Flights under way.
#[derive(Debug)]
pub struct Flights<T> {
    under_way: Arc<Mutex<BTreeMap<PutId, watch::Receiver<Option<T>>>>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

/// The end of a flight at which its result is handed over.
#[derive(Debug)]
pub struct Pilot<T> {
    put_id: PutId,
    under_way: Arc<Mutex<BTreeMap<PutId, watch::Receiver<Option<T>>>>>,
    sender: watch::Sender<Option<T>>,
    /// Whether the register still holds this flight: another one may have its put id afterwards.
    registered: AtomicBool,
}

/// A seat in a flight.
#[derive(Debug)]
pub struct Seat<T>(watch::Receiver<Option<T>>);

impl<T: Clone> Flights<T> {
    /// A seat in the flight of `put_id`; with a pilot where the flight is new and must be flown by the caller.
    pub fn join(&self, put_id: PutId) -> (Seat<T>, Option<Pilot<T>>) {
        let mut under_way = self.under_way.lock();
        if let Some(receiver) = under_way.get(&put_id) {
            return (Seat(receiver.clone()), None);
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(put_id, receiver.clone());
        (
            Seat(receiver),
            Some(Pilot { put_id, under_way: self.under_way.clone(), sender, registered: AtomicBool::new(true) }),
        )
    }

    pub fn len(&self) -> usize {
        self.under_way.lock().len()
    }
}

impl<T> Pilot<T> {
    /// Hands the result to everybody on board.
    pub fn land(self, result: T) {
        self.leave_register();
        self.sender.send_replace(Some(result));
    }

    /// Whether anybody is still on board besides the register.
    pub fn has_passengers(&self) -> bool {
        self.sender.receiver_count() > 1
    }

    /// Closes an empty flight to everybody; says whether somebody is on board and it goes on.
    pub fn goes_on(&self) -> bool {
        let mut under_way = self.under_way.lock();
        // Seats are given out under this lock: nobody boards what is found empty here.
        let empty = !self.has_passengers();
        if empty && self.registered.swap(false, Ordering::Relaxed) {
            under_way.remove(&self.put_id);
        }
        !empty
    }

    fn leave_register(&self) {
        let mut under_way = self.under_way.lock();
        if self.registered.swap(false, Ordering::Relaxed) {
            under_way.remove(&self.put_id);
        }
    }
}

impl<T> Drop for Pilot<T> {
    fn drop(&mut self) {
        // A flight that ended without landing (a panic, a runtime that shuts down) must not hold its put id for ever.
        self.leave_register();
    }
}

impl<T: Clone> Seat<T> {
    /// The result, or `None` where the flight ended without one.
    pub async fn landed(mut self) -> Option<T> {
        match self.0.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    #[test]
    fn a_flight_is_shared_and_its_result_is_not_kept() {
        let flights = Flights::default();
        let id = PutId { life: 1, counter: 1 };
        let (first, pilot) = flights.join(id);
        let (second, none) = flights.join(id);
        assert!(none.is_none());
        pilot.unwrap().land(Err::<u8, _>("broken"));
        assert_eq!(block_on(first.landed()), Some(Err("broken")));
        assert_eq!(block_on(second.landed()), Some(Err("broken")));
        let (third, pilot) = flights.join(id);
        drop(pilot.unwrap());
        assert_eq!(block_on(third.landed()), None);
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn nobody_boards_a_flight_that_was_found_empty() {
        let flights = Flights::default();
        let id = PutId { life: 1, counter: 1 };
        let (seat, pilot) = flights.join(id);
        let empty = pilot.unwrap();
        assert!(empty.goes_on());
        drop(seat);
        assert!(!empty.goes_on());
        let (seat, pilot) = flights.join(id);
        empty.land("nobody waited");
        assert_eq!(flights.len(), 1, "the landing of the empty flight took the next one out of the register");
        pilot.unwrap().land("good");
        assert_eq!(block_on(seat.landed()), Some("good"));
    }
}
