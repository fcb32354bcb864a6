//! States of shared-memory sessions that plans can ask a sweep to reach.

macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum ShmState {
            $($(#[$doc])* $variant,)*
        }

        impl ShmState {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

states! {
    /// A call through the rings was answered.
    Answered = "shm call answered",
    RungAwake = "shm client woken by the bell",
    /// Verified once more at the end of a hold.
    HeldUnchanged = "shm lease held and unchanged",
    HeldForEver = "shm lease held until the client died",
    HeldPastDaemon = "shm lease read after the daemon died",
    HeldPastLine = "shm lease read after its line was closed",
    DeletedWhileLeased = "shm deleted while leased",
    OverwrittenWhileLeased = "shm overwritten while leased",
    EvictedWhileLeased = "shm evicted while leased",
    /// Its slot was needed for others, and no other would do.
    NoRoomBesideLeases = "shm no room beside leases",
    DiedWithLeases = "shm client died with leases",
    DiedStaging = "shm client died with half a payload staged",
    DiedAsking = "shm client died with a request under way",
    DiedUnread = "shm client died before it read its answer",
    DiedWriting = "shm client died in the middle of a frame",
    LeasesReturned = "shm leases of a dead client returned",
    Detached = "shm client detached",
    OverQuotaBusy = "shm busy over quota",
    OverQuotaTooLarge = "shm too large for a quota",
    AnswersQueuedBusy = "shm busy for answers that nobody reads",
    RingFull = "shm request waited for room in its ring",
    StagingFull = "shm request found no staging",
    /// At a moment when nothing was under way, the daemon's leases were those that the client has.
    AccountsAgree = "shm accounts of leases agree",
    Broken = "shm session broken",
    BrokenWithLeases = "shm session broken, its leases stay until its client is gone",
    RefusedHostile = "shm hostile request refused",
    SlotsConserved = "shm slots are those of the tier when all clients are gone",
}
