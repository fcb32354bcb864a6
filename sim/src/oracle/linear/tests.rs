use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn done(act: Act, from: u64, to: u64) -> Operation {
    Operation { act, span: Span { invoked: s(from), ended: Some(s(to)) }, certain: true }
}

fn unknown(act: Act, from: u64) -> Operation {
    Operation { act, span: Span { invoked: s(from), ended: None }, certain: false }
}

fn written(id: AttemptId) -> Written {
    Written { id, volatile: false, journaled: false, expires: None }
}

fn write(id: AttemptId) -> Act {
    Act::Write(written(id))
}

fn volatile(id: AttemptId) -> Act {
    Act::Write(Written { id, volatile: true, journaled: false, expires: None })
}

fn expiring(id: AttemptId, from: u64, to: u64) -> Act {
    Act::Write(Written { id, volatile: false, journaled: false, expires: Some((s(from), s(to))) })
}

fn saw(id: AttemptId) -> Act {
    Act::Saw(vec![id])
}

#[test]
fn good_histories() {
    use Act::{Delete, Expired, Missed};
    let good: &[(&str, Vec<Operation>)] = &[
        ("nothing yet", vec![done(Missed, 0, 1), done(write(1), 2, 3), done(saw(1), 4, 5)]),
        (
            "reads beside a write see the old or the new",
            vec![done(write(1), 0, 1), done(write(2), 2, 9), done(saw(1), 3, 4), done(saw(2), 5, 6)],
        ),
        (
            "two writes at once, in either order",
            vec![done(write(1), 0, 9), done(write(2), 0, 9), done(saw(2), 1, 2), done(saw(1), 10, 11)],
        ),
        ("a failed put shows late", vec![unknown(write(1), 0), done(Missed, 1, 2), done(saw(1), 3, 4)]),
        ("a failed put never shows", vec![unknown(write(1), 0), done(Missed, 1, 2), done(Missed, 3, 4)]),
        (
            "a failed put shows after a later one",
            vec![unknown(write(1), 0), done(write(2), 1, 2), done(saw(2), 3, 4), done(saw(1), 5, 6)],
        ),
        (
            "what was evicted comes back",
            vec![
                done(write(1), 0, 1),
                unknown(Act::Forgets(1), 2),
                done(Missed, 3, 4),
                unknown(Act::Returns(written(1), s(4)), 2),
                done(saw(1), 5, 6),
            ],
        ),
        (
            "what was evicted comes back when what only memory had in its place is lost",
            vec![
                done(write(1), 0, 1),
                unknown(Act::Forgets(1), 2),
                unknown(Act::Returns(written(1), s(4)), 2),
                done(volatile(2), 3, 4),
                done(saw(2), 5, 6),
                done(saw(1), 7, 8),
            ],
        ),
        (
            "a failed delete takes effect later",
            vec![done(write(1), 0, 1), unknown(Delete, 2), done(saw(1), 3, 4), done(Missed, 5, 6)],
        ),
        (
            "two failed deletes around a write",
            vec![
                unknown(Delete, 0),
                unknown(Delete, 0),
                done(write(1), 1, 2),
                done(Missed, 3, 4),
                done(write(2), 5, 6),
                done(Missed, 7, 8),
            ],
        ),
        ("memory forgets", vec![done(volatile(1), 0, 1), done(saw(1), 2, 3), done(Missed, 4, 5)]),
        (
            "a clock decides when it expires",
            vec![done(expiring(1, 4, 8), 0, 1), done(saw(1), 2, 3), done(Expired, 5, 6), done(saw(1), 7, 8)],
        ),
        (
            "a range that two writes explain",
            vec![done(write(1), 0, 1), done(write(2), 2, 3), done(Act::Saw(vec![1, 2]), 4, 5)],
        ),
        (
            "a slow read takes effect before a write that is answered first",
            vec![done(write(1), 0, 1), done(saw(1), 2, 9), done(write(2), 3, 4), done(saw(2), 5, 6)],
        ),
    ];
    for (name, history) in good {
        assert_eq!(order(history, &[], &[]), Order::Found, "{name}");
    }
}

#[test]
fn bad_histories() {
    use Act::{Delete, Expired, Missed};
    let bad: &[(&str, Vec<Operation>, usize)] = &[
        ("a stale read", vec![done(write(1), 0, 1), done(write(2), 2, 3), done(saw(1), 4, 5)], 2),
        ("an acknowledged value is gone", vec![done(write(1), 0, 1), done(Missed, 2, 3)], 1),
        ("a value before its write", vec![done(saw(1), 0, 1), done(write(1), 2, 3)], 0),
        (
            "a deleted value is back",
            vec![done(write(1), 0, 1), done(Delete, 2, 3), done(Missed, 4, 5), done(saw(1), 6, 7)],
            3,
        ),
        (
            "what was evicted is back in the place of its successor",
            vec![
                done(write(1), 0, 1),
                unknown(Act::Forgets(1), 2),
                unknown(Act::Returns(written(1), s(4)), 2),
                done(write(2), 3, 4),
                done(saw(1), 5, 6),
            ],
            4,
        ),
        (
            "what was evicted and then deleted is back",
            vec![
                done(write(1), 0, 1),
                unknown(Act::Forgets(1), 2),
                unknown(Act::Returns(written(1), s(4)), 2),
                done(Missed, 3, 4),
                done(Delete, 5, 6),
                done(Missed, 7, 8),
                done(saw(1), 9, 10),
            ],
            6,
        ),
        (
            "what was evicted is back when its successor has gone",
            vec![
                done(write(1), 0, 1),
                unknown(Act::Forgets(1), 2),
                unknown(Act::Returns(written(1), s(4)), 2),
                done(write(2), 3, 4),
                done(saw(2), 5, 6),
                done(Act::Forgets(2), 7, 8),
                done(saw(1), 9, 10),
            ],
            6,
        ),
        (
            "what was overwritten in memory, and not evicted, comes back",
            vec![done(write(1), 0, 1), done(volatile(2), 2, 3), done(saw(2), 4, 5), done(saw(1), 6, 7)],
            3,
        ),
        (
            "what was evicted is back, overwritten in memory, and back",
            vec![
                done(write(1), 0, 1),
                unknown(Act::Forgets(1), 2),
                unknown(Act::Returns(written(1), s(4)), 2),
                done(saw(1), 5, 6),
                done(volatile(2), 7, 8),
                done(saw(2), 9, 10),
                done(saw(1), 11, 12),
            ],
            6,
        ),
        (
            "what was evicted is back after a lasting value, and one that was not, took its place",
            vec![
                done(write(1), 0, 1),
                unknown(Act::Forgets(1), 2),
                unknown(Act::Returns(written(1), s(4)), 2),
                done(write(2), 3, 4),
                done(volatile(3), 5, 6),
                done(saw(1), 7, 8),
            ],
            5,
        ),
        (
            "an eviction takes its successor along",
            vec![done(write(1), 0, 1), done(write(2), 2, 3), done(Act::Forgets(1), 4, 5), done(Missed, 6, 7)],
            3,
        ),
        (
            "new, then old, while the write goes on",
            vec![done(write(1), 0, 1), done(write(2), 2, 9), done(saw(2), 3, 4), done(saw(1), 5, 6)],
            3,
        ),
        (
            "a failed put shows, is overwritten, and shows again",
            vec![unknown(write(1), 0), done(saw(1), 1, 2), done(write(2), 3, 4), done(saw(1), 5, 6)],
            3,
        ),
        (
            "a failed put shows, goes, and is back",
            vec![unknown(write(1), 0), done(saw(1), 1, 2), done(Missed, 3, 4), done(saw(1), 5, 6)],
            2,
        ),
        (
            "one failed delete deletes twice",
            vec![
                unknown(Delete, 0),
                done(write(1), 1, 2),
                done(Missed, 3, 4),
                done(write(2), 5, 6),
                done(Missed, 7, 8),
            ],
            4,
        ),
        ("what memory forgot is back", vec![done(volatile(1), 0, 1), done(Missed, 2, 3), done(saw(1), 4, 5)], 2),
        (
            "memory's value gone, the one below it back",
            vec![done(write(1), 0, 1), done(volatile(2), 2, 3), done(saw(1), 4, 5)],
            2,
        ),
        ("expired too early", vec![done(expiring(1, 4, 8), 0, 1), done(Expired, 2, 3)], 1),
        ("served after its time", vec![done(expiring(1, 4, 8), 0, 1), done(saw(1), 9, 10)], 1),
        ("expired without a time", vec![done(write(1), 0, 1), done(Expired, 2, 3)], 1),
        (
            "two readers see two writes in different orders",
            vec![
                done(write(1), 0, 1),
                done(write(2), 2, 20),
                done(write(3), 2, 20),
                done(saw(2), 3, 4),
                done(saw(3), 5, 6),
                done(saw(2), 7, 8),
            ],
            5,
        ),
    ];
    for (name, history, at) in bad {
        assert_eq!(order(history, &[], &[]), Order::None(*at), "{name}");
    }
}

#[test]
fn a_lost_index_undoes_only_what_nobody_was_told_of() {
    let unacknowledged = [done(write(1), 0, 1), unknown(Act::Delete, 2), done(Act::Missed, 3, 4), done(saw(1), 7, 8)];
    assert_eq!(order(&unacknowledged, &[], &[]), Order::None(3));
    assert_eq!(order(&unacknowledged, &[s(5)], &[]), Order::Found);
    let acknowledged = [done(write(1), 0, 1), done(Act::Delete, 2, 3), done(saw(1), 7, 8)];
    assert_eq!(order(&acknowledged, &[s(5)], &[]), Order::None(2));
}

#[test]
fn a_read_may_have_seen_what_a_rollback_undoes_before_its_answer() {
    let journaled = |id| Act::Write(Written { id, volatile: false, journaled: true, expires: None });
    let history = |end| [done(journaled(1), 0, 1), done(journaled(2), 2, 3), done(saw(2), 4, end), done(saw(1), 9, 10)];
    assert_eq!(order(&history(5), &[], &[s(6)]), Order::Found);
    assert_eq!(order(&history(7), &[], &[s(6)]), Order::Found);
    assert_eq!(order(&history(7), &[], &[]), Order::None(3));
    assert_eq!(order(&history(7), &[], &[s(3)]), Order::None(3));
}

#[test]
fn many_failed_puts_are_no_more_work_than_those_that_were_seen() {
    let mut history: Vec<_> = (1..200).map(|id| unknown(write(id), 0)).collect();
    history.extend((1..200).map(|id| done(saw(id), 2 * id, 2 * id + 1)));
    assert_eq!(order(&history, &[], &[]), Order::Found);
    history.push(done(saw(1), 1000, 1001));
    assert_eq!(order(&history, &[], &[]), Order::None(398));
}

#[test]
fn a_history_beyond_the_bound_is_undecided() {
    let history: Vec<_> = (1..30).map(|id| done(write(id), 0, 1)).collect();
    assert_eq!(order(&history, &[], &[]), Order::Undecided);
}
