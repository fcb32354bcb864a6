//! Every interleaving with at most three preemptions, and every value that a weak memory may show in it, of short sessions:
//! `cargo loom`.
#![cfg(loom)]

mod loom_model;

#[test]
fn frames_arrive_whole_and_in_order() {
    loom_model::send_and_receive();
}

#[test]
fn frames_that_are_shown_at_once_arrive_whole_and_in_order() {
    loom_model::push_and_receive();
}

#[test]
fn no_wake_up_is_lost() {
    loom_model::sleep_and_wake();
}

#[test]
fn no_ring_of_the_bell_is_lost() {
    loom_model::sleep_on_bell();
}

#[test]
fn no_wake_up_for_room_is_lost() {
    loom_model::sleep_until_read();
}
