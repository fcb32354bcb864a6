//! What hostile clients do to a session, each once.

use super::raw::{Next, Raw, get, payload, put, staged};
use crate::host::{lie, scribble_words};
use crate::random::Stream;
use crate::workload::Shared;
use bettong_shm::ring::Segment;
use bettong_shm::session::staging::{OwnStaging, Staging};
use bettong_shm::{Frame, MmapRef, SlotRef};
use bettong_wire::Request;
use bettong_wire::request::NsHandle;
use std::time::Duration;

/// How long an attack is watched that need not end its session.
const WATCHED: Duration = Duration::from_secs(2);
const FLOOD: u64 = 400;
/// More than a daemon may look at in one turn.
const FED: u32 = 4000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Cursors, watermark and waits are anything.
    Control,
    /// Words of the ring are anything, and the cursor says that they are frames.
    Words,
    /// The same, at each of the daemon's accesses.
    Meddling,
    /// The staging area changes while the daemon copies.
    Staging,
    /// A lease that another session has is released.
    ForgedRelease,
    /// A lease of its own is released twice.
    ReplayedRelease,
    /// Slots that the pool does not have are released.
    AbsurdRelease,
    /// A payload beyond the staging area, or of absurd length.
    AbsurdRange,
    WrongMap,
    WrongGeneration,
    /// A payload of another length than its message says.
    WrongLength,
    /// A frame where another kind belongs.
    Misplaced,
    /// A message that says that it is longer than it is.
    AbsurdMessage,
    /// A message with wrong bits.
    Flipped,
    /// A request under an id that is under way.
    SameId,
    /// More requests than may be under way.
    Flood,
    /// Asks for something more whenever the daemon looks.
    Feeding,
    /// Asks for much and reads nothing.
    Unread,
    /// The beginning of a request, and then nothing.
    HalfRequest,
    /// Asks before it has opened anything.
    Unopened,
}

pub const ATTACKS: [(&str, Attack); 20] = [
    ("control block", Attack::Control),
    ("words of the ring", Attack::Words),
    ("meddling", Attack::Meddling),
    ("staging under the copy", Attack::Staging),
    ("forged release", Attack::ForgedRelease),
    ("replayed release", Attack::ReplayedRelease),
    ("absurd release", Attack::AbsurdRelease),
    ("absurd range", Attack::AbsurdRange),
    ("wrong map", Attack::WrongMap),
    ("wrong generation", Attack::WrongGeneration),
    ("wrong length", Attack::WrongLength),
    ("misplaced frame", Attack::Misplaced),
    ("absurd message", Attack::AbsurdMessage),
    ("flipped bits", Attack::Flipped),
    ("same id", Attack::SameId),
    ("flood", Attack::Flood),
    ("requests without end", Attack::Feeding),
    ("unread answers", Attack::Unread),
    ("half a request", Attack::HalfRequest),
    ("unopened", Attack::Unopened),
];

/// What an attack has to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The session is over.
    Over,
    /// An error, or the end.
    Refusal,
    /// Whatever the daemon makes of it.
    Anything,
}

impl Attack {
    /// Strikes. `None` where the session did not come so far.
    pub async fn strike(self, raw: &mut Raw, shared: &Shared, random: &mut Stream) -> Option<Due> {
        if self == Self::Unopened {
            raw.ask(&put(NsHandle(random.below(3) as u32), 100))?;
            return Some(Due::Refusal);
        }
        let ns = raw.open(shared.setup.identity()).await?;
        // A value of its own to ask for, and a lease.
        let len = random.within(300..shared.setup.len_max);
        raw.ask(&put(ns, len))?;
        raw.next(WATCHED).await;
        raw.ask(&get(ns))?;
        raw.next(WATCHED).await;
        // The slot's frame comes with the message's.
        while let Next::Answer { .. } = raw.next(Duration::from_millis(1)).await {}
        if raw.host.ended(raw.id).is_some() {
            return None;
        }
        match self {
            Self::Control | Self::Words | Self::Meddling | Self::Staging | Self::Feeding => {
                self.scribble(raw, ns, len, random).await
            }
            Self::ForgedRelease | Self::ReplayedRelease | Self::AbsurdRelease => self.release(raw, random),
            Self::Flood | Self::Unread | Self::HalfRequest | Self::SameId => self.overdo(raw, ns, len, random),
            _ => self.misframe(raw, ns, len, random),
        }
    }

    async fn scribble(self, raw: &mut Raw, ns: NsHandle, len: u64, random: &mut Stream) -> Option<Due> {
        match self {
            Self::Control => {
                for _ in 0..random.within(1..6) {
                    raw.up.control().scribble(lie(&raw.up, random));
                    raw.wake();
                    madsim::time::sleep(Duration::from_millis(random.within(1..4))).await;
                }
            }
            Self::Words => {
                for _ in 0..random.within(1..6) {
                    raw.ask(&get(ns))?;
                    scribble_words(&raw.up, random);
                    raw.wake();
                    madsim::time::sleep(Duration::from_millis(random.below(4))).await;
                }
            }
            Self::Meddling => {
                raw.meddler.as_ref()?.arm();
                for _ in 0..random.within(2..12) {
                    let request = if random.chance(0.5) { get(ns) } else { Request::Ping };
                    raw.ask(&request)?;
                    madsim::time::sleep(Duration::from_millis(random.below(4))).await;
                }
            }
            Self::Feeding => {
                raw.feed(FED)?;
                for _ in 0..random.within(1..4) {
                    raw.wake();
                    madsim::time::sleep(Duration::from_millis(random.below(4))).await;
                }
            }
            _ => {
                // The rings are left alone: it is served, whatever of its bytes.
                for at in 0..random.within(2..8) {
                    raw.ask(&put(ns, len))?;
                    let noise: Vec<u8> = (0..len).map(|_| random.draw() as u8).collect();
                    raw.staging.write(4096, &noise);
                    if at == 1 {
                        raw.meddler.as_ref()?.arm();
                    }
                    madsim::time::sleep(Duration::from_millis(random.below(4))).await;
                }
            }
        }
        Some(Due::Anything)
    }

    fn release(self, raw: &mut Raw, random: &mut Stream) -> Option<Due> {
        match self {
            Self::ReplayedRelease => {
                let slot = *raw.leased.last()?;
                raw.say(&[Frame::Slot(slot), Frame::Slot(slot)]);
                raw.leased.retain(|other| *other != slot);
            }
            Self::ForgedRelease => {
                let mut others = raw.host.book.leased();
                others.retain(|slot| !raw.leased.contains(slot));
                let slot = *random.pick(&others)?;
                raw.say(&[Frame::Slot(slot)]);
            }
            _ => {
                let slot = SlotRef {
                    class: random.draw() as u8,
                    extent: random.draw() as u8,
                    slot: random.draw() as u32,
                    generation: random.below(4) as u32,
                };
                raw.say(&[Frame::Slot(slot)]);
            }
        }
        Some(Due::Over)
    }

    fn overdo(self, raw: &mut Raw, ns: NsHandle, len: u64, random: &mut Stream) -> Option<Due> {
        match self {
            Self::Flood => {
                let most = u64::from(raw.host.limits.requests_inflight_max) + 1;
                let message: Vec<Vec<u8>> = (0..most).map_while(|_| raw.message(&get(ns))).collect();
                let frames: Vec<_> = message.iter().map(|message| Frame::Inline(message)).collect();
                raw.say(&frames);
                return Some(Due::Anything);
            }
            Self::Unread => {
                for _ in 0..random.within(1..FLOOD) {
                    raw.ask(&get(ns))?;
                }
                return Some(Due::Anything);
            }
            Self::HalfRequest => {
                let message = raw.message(&put(ns, len))?;
                raw.say_message(&message, &[]);
                return Some(Due::Anything);
            }
            _ => {
                let message = raw.message(&put(ns, len))?;
                let named = Frame::Mmap(payload(len as u32));
                raw.say(&[Frame::Inline(&message), named, Frame::Inline(&message), named]);
            }
        }
        // The first may be answered before the second is read.
        Some(Due::Anything)
    }

    fn misframe(self, raw: &mut Raw, ns: NsHandle, len: u64, random: &mut Stream) -> Option<Due> {
        let mut message = raw.message(&put(ns, len))?;
        let named = payload(len as u32);
        let area = Staging::len(&raw.staging);
        match self {
            Self::AbsurdRange => {
                let offset = match random.below(4) {
                    0 => u64::MAX - random.below(8),
                    1 => area - random.below(len),
                    2 => area,
                    _ => random.draw() | 1 << 40,
                };
                raw.say_message(&message, &[Frame::Mmap(MmapRef { offset, ..named })]);
            }
            Self::WrongMap => {
                let map = if random.chance(0.5) { 0 } else { random.draw() as u32 | 2 };
                raw.say_message(&message, &[Frame::Mmap(MmapRef { map, ..named })]);
            }
            Self::WrongGeneration => {
                let generation = random.within(1..u64::from(u32::MAX)) as u32;
                raw.say_message(&message, &[Frame::Mmap(MmapRef { generation, ..named })]);
            }
            Self::WrongLength => {
                let other = (len + random.within(1..200)) as u32;
                raw.say_message(&message, &[staged(4096, if random.chance(0.5) { other } else { 0 })]);
            }
            Self::Misplaced => {
                let slot = raw.leased.last().copied();
                let frame = match slot.filter(|_| random.chance(0.5)) {
                    Some(slot) => Frame::Slot(slot),
                    None => Frame::Inline(b"bytes that belong elsewhere"),
                };
                raw.say_message(&message, &[frame]);
            }
            Self::AbsurdMessage => {
                let at = bettong_wire::message::HEAD_BYTES - 4;
                let absurd = (u32::MAX - random.below(64) as u32).to_le_bytes();
                message.get_mut(at..at + 4)?.copy_from_slice(&absurd);
                raw.say_message(&message, &[Frame::Mmap(named)]);
            }
            _ => {
                for _ in 0..random.within(1..6) {
                    let at = random.below(message.len() as u64) as usize;
                    *message.get_mut(at)? ^= 1 << random.below(8);
                }
                raw.say_message(&message, &[Frame::Mmap(named)]);
                return Some(Due::Anything);
            }
        }
        Some(Due::Over)
    }
}
