//! Both sides of an attach, and what is tried with them.

mod client;
mod daemon;
mod hostile;

pub use client::client;

use bettong_shm::real::attach::{
    AttachError, Heard, Hello, Link, Listener, PATH_BYTES_MAX, Refusal, RefusalKind, attach, own_uid,
};
use bettong_shm::session::ServerEvent;
use bettong_wire::Payload;
use bettong_wire::ids::PutId;
use bettong_wire::request::{Get, Level, NsHandle, Put, ReadLimits, Request, Target, Tier};
use bettong_wire::response::{Answer, Hit, Response, Stored};
use daemon::{Attached, Daemon};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const POOL_BYTES: usize = 1 << 20;
const STAGING_BYTES: u64 = 64 << 10;
const VALUE_BYTES: u64 = 5000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is to be read.
fn readable(fd: impl AsFd) {
    let time_max = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time_max)).unwrap();
    assert_eq!(ready, 1, "nothing comes");
}

/// Waits until there is something to hear.
fn wait(link: &Link) -> Heard {
    let heard = link.sleep(Some(PATIENCE)).unwrap();
    assert_ne!(heard, Heard::Nothing, "nothing comes");
    heard
}

fn put() -> Request {
    let target = Target::Plain("a".into());
    let level = Level::Memory;
    Request::Put(Put { ns: NsHandle(1), target, level, ttl_ms: 0, parent: None, sequence: 0, len: VALUE_BYTES })
}

fn get() -> Request {
    let target = Target::Plain("a".into());
    Request::Get(Get { ns: NsHandle(1), target, range: None, limits: ReadLimits::default() })
}

fn stored() -> Response {
    Response::ok(Answer::Stored(Stored { put_id: PutId { life: 1, counter: 2 }, already: false }))
}

fn hit(payload: Payload) -> Response {
    let put_id = PutId { life: 1, counter: 2 };
    let hit = Hit { total_len: payload.len() as u64, put_id, tier: Tier::Memory, expires_at_ms: 0 };
    Response::with_payloads(Answer::Hit(hit), vec![payload])
}

fn hello() -> Hello {
    Hello { staging_bytes: STAGING_BYTES, name: "a test".into() }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

pub fn tests() {
    let before = descriptors();
    a_value_is_put_through_staging_and_got_in_place();
    who_is_killed_is_gone_and_holds_nothing();
    a_daemon_that_goes_leaves_what_is_leased();
    who_may_not_attach_hears_why();
    a_daemon_of_another_user_is_not_believed();
    a_path_is_a_socket_of_nobody();
    of_those_that_start_at_once_one_listens();
    who_waits_is_not_kept();
    signals_do_not_end_an_attach();
    hostile::tests();
    assert_eq!(descriptors(), before, "a descriptor is left open");
    println!("attach: ok");
}

fn a_value_is_put_through_staging_and_got_in_place() {
    let daemon = Daemon::start();
    let mode = std::fs::metadata(daemon.listener.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let mut client = daemon.attach("put and get");
    assert_eq!((client.process.uid, client.process.pid), (own_uid(), client.child.id() as i32));
    let mut value = None;
    while let Some((id, request, mut body)) = client.next(&daemon) {
        let answer = match request {
            Request::Put(_) => {
                value = body.pop();
                stored()
            }
            Request::Get(_) => hit(value.clone().unwrap()),
            other => panic!("{other:?}"),
        };
        client.answer(id, answer);
    }
    // All was released before it detached, and is in the ring.
    assert!(matches!(client.server.next_event(), Ok(ServerEvent::Idle)));
    assert_eq!(daemon.leases.bytes_of(client.id), Some(0));
    client.ends_well(&daemon);
    drop(value);
    assert_eq!(daemon.pool.usage().slots, 0);
}

/// A client that holds a value, whose last handle is the client's.
fn holder(daemon: &Daemon, role: &str) -> Attached {
    let mut client = daemon.attach(role);
    let (id, request, _) = client.next(daemon).unwrap();
    assert_eq!(request, get());
    client.answer(id, hit(daemon.put(7)));
    // It has the value.
    let (id, request, _) = client.next(daemon).unwrap();
    assert_eq!(request, Request::Ping);
    client.answer(id, Response::ok(Answer::Pong));
    client
}

fn who_is_killed_is_gone_and_holds_nothing() {
    for _ in 0..10 {
        let daemon = Daemon::start();
        let mut client = holder(&daemon, "hold");
        assert!(!client.gone());
        client.child.kill().unwrap();
        readable(&client.process.pidfd);
        assert!(client.gone());
        assert!(client.is_closed(), "a socket that is closed is no word of detaching");
        client.child.wait().unwrap();
        assert_eq!(daemon.pool.usage().slots, 1, "what is leased stays until its reader is known to be gone");
        client.server.detach();
        assert_eq!(daemon.pool.usage().slots, 0);
    }
}

fn a_daemon_that_goes_leaves_what_is_leased() {
    let daemon = Daemon::start();
    let client = holder(&daemon, "outlive");
    let Attached { server, link, mut child, .. } = client;
    drop((server, link, daemon));
    assert!(child.wait().unwrap().success());
}

fn who_may_not_attach_hears_why() {
    let other = BTreeSet::from([own_uid() + 1]);
    let daemon = Daemon::start_for(other);
    let mut child = daemon.spawn("refused");
    readable(&daemon.listener);
    let error = daemon.listener.accept().unwrap_err();
    assert!(matches!(error, AttachError::Uid { uid, pid, .. } if uid == own_uid() && pid == child.id() as i32));
    let text = error.to_string();
    assert!(text.contains(&own_uid().to_string()) && text.contains(&(own_uid() + 1).to_string()), "{text}");
    assert!(child.wait().unwrap().success());
    assert!(daemon.listener.accept().unwrap().is_none());
}

/// Only the superuser can play two users.
fn a_daemon_of_another_user_is_not_believed() {
    const NOBODY: u32 = 65_534;
    if own_uid() != 0 {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("socket");
    let bind = || {
        let nobody = Uid::from_raw(NOBODY);
        set_thread_res_uid(nobody, nobody, nobody).unwrap();
        Listener::bind(&path, BTreeSet::from([0]))
    };
    let listener = thread::scope(|scope| scope.spawn(bind).join().unwrap()).unwrap();
    let error = attach(listener.path(), &hello(), PATIENCE).unwrap_err();
    assert!(matches!(error, AttachError::Daemon { uid: NOBODY, own: 0 }), "{error}");
}

fn a_path_is_a_socket_of_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let users = || BTreeSet::from([own_uid()]);
    let long = folder.path().join("x".repeat(PATH_BYTES_MAX));
    for error in [Listener::bind(&long, users()).unwrap_err(), attach(&long, &hello(), PATIENCE).unwrap_err()] {
        assert!(error.to_string().contains("107"), "{error}");
    }
    let fits = folder.path().as_os_str().len() + 1;
    let path = folder.path().join("x".repeat(PATH_BYTES_MAX - fits));
    let first = Listener::bind(&path, users()).unwrap();
    assert!(matches!(Listener::bind(&path, users()), Err(AttachError::InUse { .. })));
    // A daemon that is killed leaves its file.
    let stale = folder.path().join("stale");
    std::fs::hard_link(&path, &stale).unwrap();
    drop(first);
    assert!(!path.exists() && stale.exists());
    let second = Listener::bind(&stale, users()).unwrap();
    // Somebody puts something else there: it is not this listener's.
    std::fs::remove_file(&stale).unwrap();
    std::os::unix::fs::symlink(folder.path(), &stale).unwrap();
    drop(second);
    assert!(matches!(Listener::bind(&stale, users()), Err(AttachError::NoSocket { .. })));
    assert!(stale.is_symlink());
}

fn who_waits_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let error = attach(&path, &hello(), PATIENCE).unwrap_err();
    assert!(matches!(error, AttachError::System { .. }), "{error}");
    let _silent = Listener::bind(&path, BTreeSet::from([own_uid()])).unwrap();
    let error = attach(&path, &hello(), Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error, AttachError::TimedOut), "{error}");
}

/// Daemons that see the same stale socket must not remove each other's: one that nobody can reach would go on, and not know it.
#[expect(clippy::disallowed_methods, reason = "the lock is a real file")]
fn of_those_that_start_at_once_one_listens() {
    for round in 0..1000 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let gone = Listener::bind(&folder.path().join("gone"), BTreeSet::new()).unwrap();
        std::fs::hard_link(gone.path(), &path).unwrap();
        drop(gone);
        if round == 0 {
            // One that is between seeing and removing.
            let other = std::fs::File::create(folder.path().join("socket.lock")).unwrap();
            other.lock().unwrap();
            assert!(matches!(Listener::bind(&path, BTreeSet::new()), Err(AttachError::InUse { .. })));
        }
        let ready = AtomicUsize::new(0);
        let bind = || {
            ready.fetch_add(1, Ordering::Relaxed);
            while ready.load(Ordering::Relaxed) < 2 {
                std::hint::spin_loop();
            }
            Listener::bind(&path, BTreeSet::from([own_uid()]))
        };
        let listeners: Vec<_> = thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(bind));
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(listeners.len(), 1, "round {round}");
        assert!(listeners[0].path().exists(), "round {round}: it cannot be reached");
    }
}

/// Signals to this process as a profiler sends them, until it is dropped.
struct Signals;

impl Signals {
    fn every(pause: Duration) -> Self {
        extern "C" fn taken(_: libc::c_int) {}
        let taken: extern "C" fn(libc::c_int) = taken;
        // SAFETY: a handler that does nothing may run at any time.
        let before = unsafe { libc::signal(libc::SIGALRM, taken as libc::sighandler_t) };
        assert_ne!(before, libc::SIG_ERR);
        Self::set(pause);
        Self
    }

    fn set(pause: Duration) {
        let pause = libc::timeval { tv_sec: 0, tv_usec: pause.subsec_micros().into() };
        let timer = libc::itimerval { it_interval: pause, it_value: pause };
        // SAFETY: the timer is read, and nobody asks for the one before.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }, 0);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        Self::set(Duration::ZERO);
    }
}

#[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
fn signals_do_not_end_an_attach() {
    let _signals = Signals::every(Duration::from_millis(1));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = Listener::bind(&path, BTreeSet::from([own_uid()])).unwrap();
    let refusal = Refusal { kind: RefusalKind::Busy, limit: 7, text: "seven are there".to_owned() };
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(30));
            listener.accept().unwrap().unwrap().refuse(refusal.clone());
        });
        let refused = attach(&path, &hello(), PATIENCE).unwrap_err();
        assert!(matches!(&refused, AttachError::Refused(got) if *got == refusal), "{refused}");
    });
    // Neither do they prolong it: neither the wait for an answer nor, once its queue is full, that for the daemon.
    let began = Instant::now();
    for _ in 0..80 {
        let error = attach(&path, &hello(), Duration::from_millis(5)).unwrap_err();
        assert!(matches!(error, AttachError::TimedOut), "{error}");
    }
    assert!(began.elapsed() < PATIENCE);
}
