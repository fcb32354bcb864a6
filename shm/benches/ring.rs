//! Round trips between two processes over real memory: while both spin, and with the one asleep. `cargo bench -p
//! bettong-shm`: five repetitions, medians of each, and their spread. Runs itself as the other process.

#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
fn main() {
    println!("shared memory is Linux's here");
}

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("echo") => real::echo(&arguments.collect::<Vec<_>>()),
        _ => real::measure(),
    }
}

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
mod real {
    use bettong_shm::Frame;
    use bettong_shm::frame::INLINE_BYTES_DEFAULT;
    use bettong_shm::pool::{Leases, SessionId, SlotPool};
    use bettong_shm::real::{MappedSegment, Mapping, Memfd, OwnMapping, segment_bytes};
    use bettong_shm::ring::{Receiver, Sender};
    use bettong_wire::BlockMemory;
    use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
    use std::process::Command;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const WORDS: usize = 16 << 10;
    const REPETITIONS: usize = 5;
    const SPINS: u32 = 50_000;
    const SLEEPS: u32 = 2_000;
    /// As long as a message's head.
    const PING: [u8; 36] = [7; 36];

    type Own = Arc<MappedSegment<OwnMapping>>;
    type Peer = Arc<MappedSegment<Mapping>>;

    struct End {
        sender: Sender<Own, Peer>,
        receiver: Receiver<Own, Peer>,
    }

    impl End {
        fn new(own: OwnMapping, peer: Mapping) -> Self {
            let own = Arc::new(MappedSegment::own(own).unwrap());
            let peer = Arc::new(MappedSegment::of_peer(peer).unwrap());
            let sender = Sender::new(own.clone(), peer.clone(), INLINE_BYTES_DEFAULT).unwrap();
            let receiver = Receiver::new(own, peer, INLINE_BYTES_DEFAULT).unwrap();
            Self { sender, receiver }
        }

        fn send(&mut self, frame: &Frame<'_>) {
            self.sender.send(frame).unwrap();
            assert!(!self.sender.must_wake(), "both sleep on bells");
        }

        /// Waits for one frame; whether it was inline.
        fn recv(&mut self, asleep: bool) -> bool {
            loop {
                if let Some(frame) = self.receiver.recv().unwrap() {
                    return matches!(frame, Frame::Inline(_));
                }
                if asleep {
                    if self.receiver.may_sleep_on_bell() {
                        assert!(self.receiver.wait_on_bell(Duration::from_secs(10)).unwrap());
                    }
                    self.receiver.awake();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// The other process: sends back what it hears, until it hears of a slot with no generation.
    pub fn echo(arguments: &[String]) {
        let [asleep, to_client, to_daemon] = arguments else { panic!("three arguments") };
        let given = |number: &String| {
            // SAFETY: it was inherited for this process to own.
            Memfd::given(unsafe { OwnedFd::from_raw_fd(number.parse().unwrap()) }).unwrap()
        };
        let mut end = End::new(given(to_daemon).map_own().unwrap(), given(to_client).map().unwrap());
        let asleep = asleep == "asleep";
        loop {
            while end.recv(asleep) {
                end.send(&Frame::Inline(&PING));
            }
            // A reference to a slot is answered shortly: its bytes are where they are.
            end.send(&Frame::Inline(&[]));
        }
    }

    fn with_echo(asleep: &str, measure: impl FnOnce(&mut End)) {
        let (to_client, own) = Memfd::own(segment_bytes(WORDS)).unwrap();
        let (to_daemon, peer) = Memfd::of_peer(segment_bytes(WORDS)).unwrap();
        let fds = [&to_client, &to_daemon];
        fds.iter().for_each(|fd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap());
        let numbers = fds.map(|fd| fd.as_fd().as_raw_fd().to_string());
        let exe = std::env::current_exe().unwrap();
        let mut other = Command::new(exe).arg("echo").arg(asleep).args(numbers).spawn().unwrap();
        let mut end = End::new(own, peer);
        // Until the other one is there.
        end.send(&Frame::Inline(&PING));
        end.recv(true);
        measure(&mut end);
        other.kill().unwrap();
        other.wait().unwrap();
    }

    fn round_trips(end: &mut End, asleep: bool, count: u32, mut send: impl FnMut(&mut End)) -> Vec<Duration> {
        let mut took: Vec<Duration> = (0..count)
            .map(|_| {
                let began = Instant::now();
                send(end);
                end.recv(asleep);
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        took
    }

    pub fn measure() {
        println!("round trips between two processes, microseconds; medians of {REPETITIONS} repetitions (least, most)");
        println!("  {:48} {:>24} {:>24}", "", "p50", "p99");
        row("PING, both spin", |took| {
            with_echo("spins", |end| *took = round_trips(end, false, SPINS, |end| end.send(&Frame::Inline(&PING))));
        });
        for (what, len) in [("4 KiB", 4 << 10), ("4 MiB", 4 << 20)] {
            row(&format!("lease of {what}, reference, release, both spin"), |took| *took = leases(len));
        }
        row("PING, both sleep", |took| {
            with_echo("asleep", |end| *took = round_trips(end, true, SLEEPS, |end| end.send(&Frame::Inline(&PING))));
        });
    }

    /// Leases of one value after another: granted, sent, answered, released.
    fn leases(len: u64) -> Vec<Duration> {
        let (_, memory) = Memfd::own(512 << 20).unwrap();
        let pool = SlotPool::new(Arc::new(memory)).unwrap();
        let payloads: Vec<_> = (0..16)
            .map(|byte| {
                let mut buf = pool.reserve(len).unwrap();
                buf.unfilled().put_bytes(byte, len as usize);
                buf.seal().unwrap()
            })
            .collect();
        let leases = Leases::new(pool, u64::MAX);
        assert!(leases.attach(SessionId(1)));
        let (mut took, mut next) = (Vec::new(), payloads.iter().cycle());
        with_echo("spins", |end| {
            took = round_trips(end, false, SPINS, |end| {
                let slot = leases.grant(SessionId(1), next.next().unwrap()).unwrap().slot;
                end.send(&Frame::Slot(slot));
                leases.release(SessionId(1), slot).unwrap();
            });
        });
        took
    }

    fn row(what: &str, mut measure: impl FnMut(&mut Vec<Duration>)) {
        let runs: Vec<Vec<Duration>> = (0..REPETITIONS)
            .map(|_| {
                let mut took = Vec::new();
                measure(&mut took);
                took
            })
            .collect();
        let column = |share: usize| {
            let mut each: Vec<f64> =
                runs.iter().map(|took| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e6).collect();
            each.sort_by(f64::total_cmp);
            format!("{:.2} ({:.2}, {:.2})", each[REPETITIONS / 2], each[0], each[REPETITIONS - 1])
        };
        println!("  {what:48} {:>24} {:>24}", column(50), column(99));
    }
}
