//! A task without which the store cannot work panics: the store ends, says so to everybody, and keeps what it acknowledged.

use super::rig::{Bucket, Node, block, config};
use bettong_core::observe::Point;
use bettong_core::real::{FileDisk, RealClock, RealWorld};
use bettong_core::{Fate, World};
use bettong_wire::request::{Level, Tier};
use bettong_wire::{ErrorKind, MissReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A real world in which whoever comes to `point` panics once `armed`.
#[derive(Clone)]
struct Mined {
    world: RealWorld,
    point: Point,
    armed: Arc<AtomicBool>,
}

impl World for Mined {
    type Clock = RealClock;
    type Disk = FileDisk;

    fn clock(&self) -> &RealClock {
        self.world.clock()
    }

    fn disk(&self) -> &FileDisk {
        self.world.disk()
    }

    fn random_u64(&self) -> u64 {
        self.world.random_u64()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.world.spawn(future);
    }

    fn enter<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    fn leave<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    async fn at(&self, point: Point) {
        assert!(point != self.point || !self.armed.load(Ordering::Relaxed), "the mine at {}", point.as_str());
    }

    fn violated(&self, what: &'static str) {
        self.world.violated(what);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test of the real world bounds its waits in real time")]
#[tokio::test]
async fn a_panic_of_a_vital_task_ends_the_store_and_every_call_is_told() {
    for (point, task) in [
        (Point::BeforeAcknowledge, "the committer of the index"),
        (Point::BeforeIndexWrite, "the committer of the index"),
        (Point::BeforeJournalAppend, "the writer of the journal"),
        (Point::BeforeJournalAcknowledge, "the writer of the journal"),
        (Point::BeforeUploadDone, "the uploader"),
        (Point::BeforePeerRefresh, "the look at other nodes"),
    ] {
        let bucket = Bucket::new();
        let armed = Arc::new(AtomicBool::new(false));
        let world = Mined { world: bucket.world("a"), point, armed: armed.clone() };
        let config =
            || bettong_core::StoreConfig { journal_bytes_max: 256 << 20, journal_batch_bytes: 1 << 20, ..config("a") };
        let store = bucket.store_of(world.clone(), config(), Duration::MAX).await.unwrap();
        let mut fate = store.fate();
        let node = Node::of(store).await;
        for level in [Level::Journal, Level::Object] {
            node.put(block(level as u8, 0), level, b"kept").await.unwrap();
        }

        armed.store(true, Ordering::Relaxed);
        // Under way when it happens, and told long before their deadline. Each fills a batch of the journal: others wait
        // when the first meets its end.
        let large = vec![7; 1 << 20];
        let under_way = (10..18).map(|n| {
            let level = if n < 16 { Level::Journal } else { Level::Object };
            node.put(block(n, 0), level, &large)
        });
        let answers = tokio::time::timeout(Duration::from_secs(10), futures::future::join_all(under_way)).await;
        for error in answers.expect("told in time").into_iter().filter_map(Result::err) {
            assert!(matches!(error.kind, ErrorKind::Retry | ErrorKind::Unavailable), "{point:?}: {error}");
        }
        let ended = tokio::time::timeout(Duration::from_secs(10), fate.wait_for(Option::is_some)).await;
        assert_eq!(ended.expect("it ends").unwrap().clone(), Some(Fate::Broken(task)));
        assert_eq!(world.world.violations(), 1);

        let error = node.put(block(20, 0), Level::Memory, b"later").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert_eq!(error.message, format!("this node has ended: {task} has panicked, which is a defect"));
        let error = node.open("other", None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        tokio::time::timeout(Duration::from_secs(10), node.stop()).await.expect("it closes");

        let again = bucket.node_with(config()).await;
        again.clear(Tier::Memory).await;
        for level in [Level::Journal, Level::Object] {
            assert_eq!(again.get(block(level as u8, 0)).await.unwrap(), b"kept", "{point:?}");
        }
        // In doubt: whole or absent.
        for n in 10..18 {
            let got = again.get(block(n, 0)).await;
            assert!(got == Ok(large.clone()) || got == Err(MissReason::Absent), "{point:?}");
        }
        again.stop().await;
    }
}
