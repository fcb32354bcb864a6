//! The store against the reference model, embedded and through its doors: random histories with restarts, without
//! faults.

use super::attached::Attached;
use super::door::{Connection, Crossing};
use super::rig::{Bucket, Node};
use bettong_core::conformance::service::{Operation, Subject, run};
use bettong_wire::request::NsHandle;
use bettong_wire::{Payload, Request, Response};
use proptest::prelude::*;

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
struct Remote<C> {
    bucket: Bucket,
    life: Option<(Node, C)>,
}

impl<C: Crossing> Remote<C> {
    async fn new() -> Self {
        let bucket = Bucket::new();
        let life = Some(C::open(&bucket).await);
        Self { bucket, life }
    }
}

impl<C: Crossing> Subject for Remote<C> {
    async fn call(&mut self, request: Request, body: Vec<Payload>) -> Response {
        self.life.as_mut().unwrap().1.call(request, body).await
    }

    async fn restart(&mut self) {
        let (node, connection) = self.life.take().unwrap();
        drop(connection);
        node.stop().await;
        self.life = Some(C::open(&self.bucket).await);
    }

    fn namespace(&self) -> NsHandle {
        self.life.as_ref().unwrap().1.namespace()
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
        let verdict = runtime.block_on(async { run(&mut Remote::<Connection>::new().await, &operations).await });
        prop_assert_eq!(verdict, Ok(()));
    }

    #[test]
    fn every_answer_through_shared_memory_is_the_models(operations in history()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let verdict = runtime.block_on(async { run(&mut Remote::<Attached>::new().await, &operations).await });
        prop_assert_eq!(verdict, Ok(()));
    }
}
