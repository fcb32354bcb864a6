//! Two processes over real memory: what one leases the other reads in place; what a seal forbids the kernel refuses; who
//! sleeps is woken; and who is killed leaves nothing behind. Runs itself as the other process.

#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
fn main() {}

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("client") => real::client(&arguments.collect::<Vec<_>>()),
        // What a runner of tests asks of every test, and of those that are left out.
        Some("--list") if arguments.any(|argument| argument == "--ignored") => {}
        Some("--list") => println!("two_processes: test"),
        _ => real::tests(),
    }
}

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod real {
    use bettong_shm::frame::INLINE_BYTES_DEFAULT;
    use bettong_shm::pool::{Leases, SessionId, SlotPool, View};
    use bettong_shm::real::{MappedSegment, Mapping, Memfd, OwnMapping, segment_bytes};
    use bettong_shm::ring::{Receiver, SendError, Sender};
    use bettong_shm::{Frame, SlotRef};
    use bettong_wire::{BlockMemory, Payload};
    use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::time::Duration;

    const WORDS: usize = 1024;
    const POOL_BYTES: usize = 1 << 20;
    const VALUE_BYTES: u64 = 3000;
    const QUOTA: u64 = POOL_BYTES as u64;
    const SESSION: SessionId = SessionId(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    type Own = Arc<MappedSegment<OwnMapping>>;
    type Peer = Arc<MappedSegment<Mapping>>;

    struct End {
        sender: Sender<Own, Peer>,
        receiver: Receiver<Own, Peer>,
        received: u64,
        waits: u64,
    }

    impl End {
        fn new(own: OwnMapping, peer: Mapping) -> Self {
            let own = Arc::new(MappedSegment::own(own).unwrap());
            let peer = Arc::new(MappedSegment::of_peer(peer).unwrap());
            let sender = Sender::new(own.clone(), peer.clone(), INLINE_BYTES_DEFAULT).unwrap();
            let receiver = Receiver::new(own, peer, INLINE_BYTES_DEFAULT).unwrap();
            Self { sender, receiver, received: 0, waits: 0 }
        }

        fn send(&mut self, frame: &Frame<'_>) -> bool {
            match self.sender.send(frame) {
                Ok(()) => {}
                Err(SendError::Full { .. }) => return false,
                Err(error) => panic!("{error}"),
            }
            assert!(!self.sender.must_wake(), "both sleep on bells");
            true
        }

        /// Waits for the next frame, asleep, and not for longer than until it is there.
        fn recv<T>(&mut self, use_it: impl FnOnce(Frame<'_>) -> T) -> T {
            loop {
                if let Some(frame) = self.receiver.recv().unwrap() {
                    self.received += 1;
                    return use_it(frame);
                }
                if self.receiver.may_sleep_on_bell() {
                    self.waits += 1;
                    assert!(self.receiver.wait_on_bell(PATIENCE).unwrap(), "nobody wakes it");
                    assert!(self.waits <= 4 * (self.received + 10), "it does not sleep: {} waits", self.waits);
                }
                self.receiver.awake();
            }
        }
    }

    struct Daemon {
        end: End,
        pool: SlotPool,
        leases: Leases,
        client: Child,
    }

    impl Daemon {
        /// Starts the other process, with the three segments and what it is to do.
        fn start(role: &str) -> Self {
            let (to_client, own) = Memfd::own(segment_bytes(WORDS)).unwrap();
            let (to_daemon, peer) = Memfd::of_peer(segment_bytes(WORDS)).unwrap();
            let (pool_fd, memory) = Memfd::own(POOL_BYTES).unwrap();
            let mut steps = Vec::new();
            memory.prefault(|bytes| steps.push(bytes)).unwrap();
            assert_eq!(steps, [POOL_BYTES as u64]);
            let pool = SlotPool::new(Arc::new(memory)).unwrap();
            let fds = [&to_client, &to_daemon, &pool_fd];
            for fd in fds {
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
            }
            let numbers = fds.map(|fd| fd.as_fd().as_raw_fd().to_string());
            let client = Command::new(std::env::current_exe().unwrap())
                .arg("client")
                .arg(role)
                .args(numbers)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let leases = Leases::new(pool.clone(), QUOTA);
            assert!(leases.attach(SESSION));
            Self { end: End::new(own, peer), pool, leases, client }
        }

        fn put(&self, byte: u8) -> Payload {
            let mut buf = self.pool.reserve(VALUE_BYTES).unwrap();
            buf.unfilled().put_bytes(byte, VALUE_BYTES as usize);
            buf.seal().unwrap()
        }

        fn lease(&mut self, payload: &Payload) -> SlotRef {
            let slot = self.leases.grant(SESSION, payload).unwrap().slot;
            assert!(self.end.send(&Frame::Slot(slot)));
            slot
        }

        fn ends_well(mut self) {
            assert!(self.end.send(&Frame::Inline(b"end")));
            assert!(self.client.wait().unwrap().success());
            self.leases.detach(SESSION);
            assert_eq!(self.pool.usage().slots, 0);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
    fn sleep(time: Duration) {
        std::thread::sleep(time);
    }

    pub fn tests() {
        values_are_read_in_place();
        what_is_sealed_is_not_written();
        who_is_killed_leaves_nothing();
        println!("two processes: ok");
    }

    fn values_are_read_in_place() {
        let mut daemon = Daemon::start("sum");
        for round in 0..5_000u32 {
            let byte = round as u8;
            let payload = daemon.put(byte);
            let slot = daemon.lease(&payload);
            // Evicted while the other side reads it.
            drop(payload);
            let sum = daemon.end.recv(|frame| match frame {
                Frame::Inline(bytes) => u64::from_le_bytes(bytes.try_into().unwrap()),
                frame => panic!("{frame:?}"),
            });
            assert_eq!(sum, u64::from(byte) * VALUE_BYTES);
            daemon.leases.release(SESSION, slot).unwrap();
            // Now and then the other side has gone to sleep.
            if round.is_multiple_of(500) {
                sleep(Duration::from_millis(2));
            }
        }
        daemon.ends_well();
    }

    fn what_is_sealed_is_not_written() {
        Daemon::start("scribble").ends_well();
    }

    fn who_is_killed_leaves_nothing() {
        for _ in 0..20 {
            let mut daemon = Daemon::start("hold");
            let payload = daemon.put(7);
            daemon.lease(&payload);
            daemon.end.recv(|frame| assert_eq!(frame, Frame::Inline(b"held")));
            daemon.client.kill().unwrap();
            daemon.client.wait().unwrap();
            drop(payload);
            assert_eq!(
                daemon.pool.usage().slots,
                1,
                "what was leased is not used again before its reader is known gone"
            );
            assert_eq!(daemon.leases.detach(SESSION), 4096);
            assert_eq!(daemon.pool.usage().slots, 0);
        }
        let held = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(held < 20, "{held} descriptors are open");
    }

    /// The other process.
    pub fn client(arguments: &[String]) {
        let [role, fds @ ..] = arguments else { panic!("no role") };
        let fds = fds.iter().map(|number| {
            // SAFETY: it was inherited for this process to own.
            let fd = unsafe { OwnedFd::from_raw_fd(number.parse().unwrap()) };
            Memfd::given(fd).unwrap()
        });
        let [to_client, to_daemon, pool]: [Memfd; 3] = fds.collect::<Vec<_>>().try_into().unwrap();
        let mut end = End::new(to_daemon.map_own().unwrap(), to_client.map().unwrap());
        let view = View::new(Arc::new(pool.map().unwrap())).unwrap();
        if role == "scribble" {
            for sealed in [&to_client, &pool] {
                assert!(sealed.map_own().is_err(), "what the daemon writes can be written by others");
            }
            for fd in [&to_client, &to_daemon, &pool] {
                rustix::fs::ftruncate(fd, 0).unwrap_err();
                rustix::fs::ftruncate(fd, 1 << 30).unwrap_err();
                rustix::fs::fcntl_add_seals(fd, rustix::fs::SealFlags::WRITE).unwrap_err();
            }
        }
        loop {
            let slot = end.recv(|frame| match frame {
                Frame::Slot(slot) => Some(slot),
                Frame::Inline(b"end") => None,
                frame => panic!("{frame:?}"),
            });
            let Some(slot) = slot else { return };
            // SAFETY: the daemon has leased it to this session, which has not released it.
            let bytes = unsafe { view.bytes(slot, 0, VALUE_BYTES) }.unwrap();
            if role == "hold" {
                end.send(&Frame::Inline(b"held"));
                sleep(PATIENCE);
                return;
            }
            let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
            end.send(&Frame::Inline(&sum.to_le_bytes()));
        }
    }
}
