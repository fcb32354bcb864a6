//! The store against the reference model, embedded and through its TCP door: random histories with restarts, without
//! faults.

use super::door::Connection;
use super::rig::{Bucket, Node, config};
use bettong_core::conformance::service::{Operation, Subject, run};
use bettong_wire::request::NsHandle;
use bettong_wire::{Payload, Request, Response};
use proptest::prelude::*;
use std::time::Duration;

struct Embedded {
    bucket: Bucket,
    node: Option<Node>,
}

impl Subject for Embedded {
    async fn call(&mut self, request: Request, body: Vec<Payload>) -> Response {
        self.node.as_ref().unwrap().call(request, body).await
    }

    async fn restart(&mut self) {
        self.node.take().unwrap().stop().await;
        self.node = Some(self.bucket.node("a").await);
    }

    fn namespace(&self) -> NsHandle {
        self.node.as_ref().unwrap().ns
    }
}

/// What outlives a connection, and the connection of the present life.
struct Remote {
    bucket: Bucket,
    life: Option<(Node, Connection)>,
}

impl Remote {
    async fn new() -> Self {
        let mut remote = Self { bucket: Bucket::new(), life: None };
        remote.start().await;
        remote
    }

    async fn start(&mut self) {
        let world = self.bucket.world("a");
        let store = self.bucket.store_of(world.clone(), config("a"), Duration::MAX).await.unwrap();
        let node = Node::of(store).await;
        let connection = Connection::to(&node, &world).await;
        self.life = Some((node, connection));
    }
}

impl Subject for Remote {
    async fn call(&mut self, request: Request, body: Vec<Payload>) -> Response {
        self.life.as_mut().unwrap().1.call(request, body).await
    }

    async fn restart(&mut self) {
        let (node, connection) = self.life.take().unwrap();
        drop(connection);
        node.stop().await;
        self.start().await;
    }

    fn namespace(&self) -> NsHandle {
        self.life.as_ref().unwrap().1.ns
    }
}

fn history() -> impl Strategy<Value = Vec<Operation>> {
    let operation = proptest::collection::vec(any::<u8>(), 16).prop_map(|bytes| {
        let mut bytes = arbitrary::Unstructured::new(&bytes);
        <Operation as arbitrary::Arbitrary>::arbitrary(&mut bytes).unwrap()
    });
    proptest::collection::vec(operation, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_models(operations in history()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let verdict = runtime.block_on(async {
            let bucket = Bucket::new();
            let node = bucket.node("a").await;
            let mut subject = Embedded { bucket, node: Some(node) };
            run(&mut subject, &operations).await
        });
        prop_assert_eq!(verdict, Ok(()));
    }

    #[test]
    fn every_answer_through_the_door_is_the_models(operations in history()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let verdict = runtime.block_on(async { run(&mut Remote::new().await, &operations).await });
        prop_assert_eq!(verdict, Ok(()));
    }
}
