//! Which threads the operating system runs first where there are fewer cores than work.

use rustix::process::{Pid, setpriority_process};
use thread_priority::unix::{set_thread_priority_and_policy, thread_native_id};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

/// Nice value of whatever may wait. At 10 a thread gets about a tenth of the time of one at 0, and is left at once when
/// such a one wakes up.
const BEHIND: i32 = 10;

/// Puts the calling thread behind those that serve connections: hashing, compressing and writing to disks and to the
/// object store may wait a moment, a hit in memory may not. A system that refuses costs speed, not correctness.
pub fn put_thread_behind() {
    let _ = setpriority_process(None, BEHIND);
}

/// Lets the calling thread run only where a core has nothing else to do, or nearly so.
pub fn give_way() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
}

/// Puts a process of one thread behind this one's.
pub fn put_process_behind(id: u32) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    let _ = id.map(|id| setpriority_process(Some(id), BEHIND));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn a_thread_gives_way() {
        let policy = std::thread::spawn(|| {
            give_way();
            thread_priority::unix::thread_schedule_policy()
        });
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(policy.join().unwrap().unwrap(), idle);
    }

    #[test]
    fn only_the_calling_thread_is_put_behind() {
        let before = getpriority_process(None).unwrap();
        let other = std::thread::spawn(|| {
            put_thread_behind();
            getpriority_process(None).unwrap()
        });
        assert_eq!(other.join().unwrap(), BEHIND.max(before));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
