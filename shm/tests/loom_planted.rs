//! The checker checked: what keeps the memory's order is taken away, and the models must fail. A bug is the whole process's,
//! so one test plants it after the other.
#![cfg(loom)]

mod loom_model;

use bettong_shm::planted::{Bug, plant};
use std::panic::catch_unwind;

fn finds(bug: Bug, model: fn(), says: &str) {
    plant(bug);
    let failure = catch_unwind(model).expect_err("the model holds with the bug");
    let text = failure.downcast_ref::<String>().map(String::as_str).or(failure.downcast_ref::<&str>().copied());
    assert!(text.is_some_and(|text| text.contains(says)), "{bug:?}: {text:?}");
}

#[test]
fn what_is_planted_is_found() {
    finds(Bug::NoFence, loom_model::sleep_and_wake, "deadlock");
    finds(Bug::NoFence, loom_model::sleep_on_bell, "deadlock");
    finds(Bug::NoFence, loom_model::sleep_until_read, "deadlock");
    finds(Bug::NoRelease, loom_model::send_and_receive, "a frame");
    finds(Bug::NoRelease, loom_model::push_and_receive, "a frame");
}
