//! What the daemon's books say of a session, however it ends: its place and its leases are to be had again once nobody can read
//! what they hold, and no earlier.

use super::line::Process;
use bettong_core::door::shm::Sessions;
use bettong_shm::pool::{Leases, SessionId};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// The leases of a session that begins. Where it is dropped it does not: its client was told of no value, so that nobody reads
/// any.
#[derive(Debug)]
pub struct Unserved {
    /// `None` once it is served.
    leases: Option<Arc<Leases>>,
    session: SessionId,
}

impl Unserved {
    pub fn new(leases: Arc<Leases>, session: SessionId) -> Self {
        Self { leases: Some(leases), session }
    }

    /// The session begins. Its leases are those of who serves it now: when a daemon goes, they stay.
    pub fn serve(mut self) -> SessionId {
        self.leases = None;
        self.session
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        if let Some(leases) = &self.leases {
            leases.detach(self.session);
        }
    }
}

/// Serves a session to its end. Where that panics, its client may still read what it was told of: its leases end with its
/// process.
pub async fn served(serving: impl Future<Output = ()>, session: SessionId, process: Process, sessions: &Sessions) {
    // What it leaves half done is its own: what it shares with others is behind locks that survive a panic.
    let panicked = AssertUnwindSafe(serving).catch_unwind().await.is_err();
    if panicked {
        tracing::error!(session = session.0, "serving a session panicked; its leases stay until its process is gone");
        sessions.ended(session, "a defect of the daemon".to_owned());
        process.gone().await;
        sessions.forget(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_shm::pool::{HeapRegion, SlotPool};
    use bettong_wire::BlockMemory;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const SESSION: SessionId = SessionId(7);

    fn leases() -> (SlotPool, Arc<Leases>) {
        let pool = SlotPool::new(Arc::new(HeapRegion::new(1 << 20))).unwrap();
        let leases = Arc::new(Leases::new(pool.clone(), 1 << 20));
        assert!(leases.attach(SESSION));
        (pool, leases)
    }

    #[test]
    fn a_session_that_is_not_served_leaves_nothing() {
        let (_pool, leases) = leases();
        drop(Unserved::new(leases.clone(), SESSION));
        assert_eq!(leases.bytes_of(SESSION), None);
        assert!(leases.attach(SESSION));
        assert_eq!(Unserved::new(leases.clone(), SESSION).serve(), SESSION);
        assert_eq!(leases.bytes_of(SESSION), Some(0));
        assert_eq!(Arc::strong_count(&leases), 1);
    }

    #[tokio::test]
    async fn what_is_leased_stays_where_serving_panics_until_its_reader_is_gone() {
        let (pool, leases) = leases();
        leases.grant(SESSION, &pool.adopt(vec![1; 4096].into()).unwrap()).unwrap();
        let mut reader = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(reader.id().cast_signed()).unwrap();
        let process = Process::new(pidfd_open(pid, PidfdFlags::empty()).unwrap()).unwrap();
        let sessions = Sessions::new(leases.clone());
        let panics = async { panic!("a defect that is planted") };
        let mut served = std::pin::pin!(served(panics, SESSION, process, &sessions));
        let early = tokio::time::timeout(Duration::from_millis(20), served.as_mut()).await;
        assert!(early.is_err() && leases.bytes_of(SESSION) == Some(4096), "it may be read");
        reader.kill().unwrap();
        reader.wait().unwrap();
        served.await;
        assert_eq!((leases.bytes_of(SESSION), pool.usage().slots), (None, 0));
    }
}
