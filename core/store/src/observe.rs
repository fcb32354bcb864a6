//! Named protocol steps (where fault plans strike) and interesting states (which a sweep must reach).

use crate::objects::names::PayloadName;
use crate::world::Mono;

/// A version that a node forgets by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forgetting {
    pub name: PayloadName,
    pub why: Reason,
    pub step: Step,
}

/// Why a node forgets a version by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Chosen at this moment to keep a budget. Whoever used it between then and the beginning keeps it.
    Evicted { chosen: Mono },
    /// Past its time, for long.
    Expired,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// From now on it may be gone.
    Begins,
    /// It is gone, for good.
    Done,
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$item_doc])* $variant,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name as plans, traces and reports write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

names! {
    /// A named step of a protocol, in the order in which a put, a get, a start meets them.
    Point {
        /// A claim to the prefix is in the bucket, others are not yet looked for.
        PrefixClaimed = "prefix-claimed",
        /// The new life is on the local disk, not yet in the bucket.
        LifeOnDisk = "life-on-disk",
        /// The new life is in the bucket, SlateDB is not yet open.
        BeforeIndexOpen = "before-index-open",
        /// The disk tier is about to be opened. It is waited for as if the device took this long.
        BeforeDiskOpen = "before-disk-open",
        /// Bootstrap has read some of the index.
        DuringBootstrap = "during-bootstrap",
        /// A put's payload object is about to be written.
        BeforeObjectPut = "before-object-put",
        /// A put's payload object is confirmed, its index entry is not yet handed over.
        BetweenObjectAndIndex = "between-object-and-index",
        /// A pack is confirmed, the index entries of its members are not yet handed over.
        BetweenPackAndIndex = "between-pack-and-index",
        /// What is live in worn packs is read, the new pack is not yet written.
        DuringRepack = "during-repack",
        /// A pack in which nothing lives is about to be removed.
        BeforePackRemove = "before-pack-remove",
        /// A write is about to be handed to the journal.
        BeforeJournalSubmit = "before-journal-submit",
        /// The journal holds a put, the map does not show it yet.
        BetweenJournalAndVisible = "between-journal-and-visible",
        /// Uploads are indexed, the journal does not know it yet.
        BeforeUploadDone = "before-upload-done",
        /// What the journal holds is in the map, the node is not ready yet.
        DuringReplay = "during-replay",
        /// The committer holds a batch that SlateDB has not seen.
        BeforeIndexWrite = "before-index-write",
        /// The batch is durable, the map does not show it yet.
        BeforeVisible = "before-visible",
        /// The map shows it, the caller has not heard.
        BeforeAcknowledge = "before-acknowledge",
        /// A sidecar is about to be put.
        BeforeSidecarPut = "before-sidecar-put",
        /// A head's checks are done, its object is not yet written.
        BeforeHeadPut = "before-head-put",
        /// A delete's marks are not yet durable.
        BeforeDeadMark = "before-dead-mark",
        /// A delete is acknowledged, its objects are still there.
        BeforeObjectDelete = "before-object-delete",
        /// What to evict is chosen, the index still names it.
        BeforeEvictIndex = "before-evict-index",
        /// The index names an evicted value no more, its object is still there.
        BetweenEvictAndObject = "between-evict-and-object",
        /// A get has chosen a tier and not yet read from it.
        BeforeTierRead = "before-tier-read",
        /// The disk tier is about to be asked for a copy. It is waited for as if the device took this long.
        BeforeDiskRead = "before-disk-read",
        /// Bytes are read and verified, not yet promoted.
        BeforePromote = "before-promote",
        /// A peer's index is about to be read.
        BeforePeerRefresh = "before-peer-refresh",
        /// A segment of the journal is about to be read by a start.
        DuringJournalRecovery = "during-journal-recovery",
        /// A segment of the journal is about to be created.
        BeforeSegmentBegin = "before-segment-begin",
        /// A batch of the journal is about to be appended.
        BeforeJournalAppend = "before-journal-append",
        /// A batch of the journal is appended and not synced.
        BetweenAppendAndSync = "between-append-and-sync",
        /// A batch of the journal is synced and applied, its callers have not heard.
        BeforeJournalAcknowledge = "before-journal-acknowledge",
        /// Segments of the journal are dead, and nothing says so yet.
        BeforeLowWater = "before-low-water",
        /// A dead segment of the journal is about to be removed.
        BeforeSegmentRemove = "before-segment-remove",
        /// A scrub is about to go on.
        DuringScrub = "during-scrub",
        /// A scrub has found an orphan, and holds its key's lock.
        BeforeScrubRemove = "before-scrub-remove",
        /// A retirement is about to take its next step.
        DuringRetire = "during-retire",
    }
}

names! {
    /// A state that a good sweep has been in.
    State {
        HitMemory = "hit-memory",
        HitDisk = "hit-disk",
        HitObject = "hit-object",
        HitPeer = "hit-peer",
        StaleDiskCopy = "stale-disk-copy-dropped",
        CorruptDiskCopy = "corrupt-disk-copy-dropped",
        SecondReadHealed = "second-object-read-was-good",
        Quarantined = "quarantined",
        Healed = "healed",
        FlightShared = "flight-shared",
        FlightOutlivedWaiter = "flight-outlived-its-waiter",
        PromotionRefused = "promotion-refused-after-change",
        GroupCommitted = "group-commit-of-several",
        PutUnknown = "put-outcome-unknown",
        PutAlreadyStored = "put-already-stored",
        IndexReopened = "index-reopened-in-process",
        FencedByNewerLife = "fenced-by-newer-life",
        BootstrapFromIndex = "bootstrap-from-index",
        BootstrapFromListing = "bootstrap-from-listing",
        PrefixClaimed = "prefix-claimed",
        PrefixContended = "prefix-contended",
        PrefixRefused = "prefix-refused",
        RolledBackDirectory = "rolled-back-directory-noticed",
        DirectoryReadAgain = "directory-record-good-on-second-read",
        DamagedDirectory = "damaged-directory-record-replaced",
        HeadConflict = "head-conflict",
        HeadOwnRetry = "head-found-its-own-put",
        DeadMarkOfPeer = "dead-mark-of-a-peer-applied",
        PeersRefreshed = "peers-refreshed",
        PeerEntryStale = "peer-entry-was-stale",
        DeadlineDetached = "deadline-detached",
        Expired = "expired",
        Declined = "declined",
        HitJournal = "hit-journal",
        UploadsAhead = "uploads-ahead",
        UploadsGaveWay = "uploads-gave-way",
        Uploaded = "journaled-put-uploaded",
        UploadSuperseded = "upload-superseded",
        Replayed = "journal-replayed",
        TornTailCut = "journal-torn-tail-cut",
        Packed = "packed",
        HitFromPack = "hit-from-pack",
        Repacked = "repacked",
        RepackSuperseded = "repack-superseded",
        PackRemoved = "pack-removed",
        ReadRacedRepack = "read-raced-a-repack",
        JournalStarved = "journal-disk-full",
        JournalBehindRefused = "start-refused-journal-behind",
        DamagedJournalRefused = "start-refused-damaged-journal",
        JournalSalvaged = "journal-salvaged",
        Evicted = "evicted",
        EvictionRefused = "eviction-refused-used-since",
        EvictionBusy = "eviction-met-a-change-of-its-victim",
        EvictedPutAgain = "evicted-then-put-again",
        HeadWithoutChain = "head-whose-chain-was-evicted",
        ExpiredRemoved = "expired-bytes-removed",
        RecencyRecovered = "recency-recovered",
        StartedWithoutDisk = "started-without-disk-tier",
        BreakerOpened = "circuit-breaker-opened",
        BreakerRefused = "circuit-breaker-refused",
        OrphanScrubbed = "orphan-scrubbed",
        ScrubSparedYoung = "scrub-spared-young",
        ScrubQuarantined = "scrub-quarantined",
        Prefetched = "prefetched",
        Retired = "retired",
        RetiredByChain = "retired-node-of-a-retired-node",
        RetirementOfTheHeir = "retirement-by-a-retired-node-refused",
        DeletedWhileTakenOver = "deleted-while-taken-over",
        HintsOfRetiredDropped = "hints-of-a-retired-node-dropped",
        RetiredNodeRefused = "retired-node-refused",
    }
}
