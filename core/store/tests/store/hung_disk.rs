//! A disk tier that does not open in time: the node starts without it, and says so.

use super::rig::{Bucket, Node, block, config};
use bettong_core::World;
use bettong_core::observe::Point;
use bettong_core::real::{FileDisk, RealClock, RealWorld};
use bettong_wire::request::{Level, Tier};
use std::time::Duration;

/// The real world, in which no disk tier ever opens.
#[derive(Clone)]
struct Hung(RealWorld);

impl World for Hung {
    type Clock = RealClock;
    type Disk = FileDisk;

    fn clock(&self) -> &RealClock {
        self.0.clock()
    }

    fn disk(&self) -> &FileDisk {
        self.0.disk()
    }

    fn random_u64(&self) -> u64 {
        self.0.random_u64()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(future);
    }

    fn enter<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    fn leave<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    async fn at(&self, point: Point) {
        if point == Point::BeforeDiskOpen {
            std::future::pending().await
        }
    }

    fn violated(&self, what: &'static str) {
        self.0.violated(what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_wait_for_its_disk_tier_for_ever() {
    let bucket = Bucket::new();
    let store = bucket.store_of(Hung(bucket.world("a")), config("a"), Duration::from_millis(5)).await.unwrap();
    let disk = store.stats()["disk"].clone();
    assert_eq!(disk["bytes_max"], 0);
    let trouble = disk["trouble"].as_str().unwrap();
    assert!(trouble.contains("cache: it did not open within 5ms"), "{trouble}");
    let node = Node::of(store).await;
    node.put(block(1, 0), Level::Object, b"one").await.unwrap();
    node.clear(Tier::Memory).await;
    assert_eq!(node.get(block(1, 0)).await.unwrap(), b"one");
    assert!(node.service.store().close(Duration::from_secs(20)).await);

    let store = bucket.store(config("a")).await.unwrap();
    let disk = store.stats()["disk"].clone();
    assert_eq!((disk["bytes_max"].as_u64(), disk["trouble"].as_str()), (Some(16 << 20), None));
    assert!(store.close(Duration::from_secs(20)).await);
}
