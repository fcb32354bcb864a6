//! The kinds of fault, by the names that plans and reports use.

use crate::plan::Operation;
use std::time::Duration;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum FaultKind {
            $($(#[$doc])* $variant,)*
        }

        impl FaultKind {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

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

kinds! {
    /// An operation takes longer, by `delay`.
    ObjectLatency = "object-latency",
    /// A body arrives in pieces, `delay` apart.
    ObjectSlowStream = "object-slow-stream",
    /// Refused with a hint to come back; nothing happened.
    ObjectThrottle = "object-throttle",
    /// A write fails; `effect` says whether it happened.
    ObjectPutError = "object-put-error",
    /// A read fails.
    ObjectGetError = "object-get-error",
    /// A delete fails; `effect` says whether it happened.
    ObjectDeleteError = "object-delete-error",
    /// A write or delete answers, and happens once more after `delay`.
    ObjectRepeat = "object-repeat",
    /// An answer never comes; `effect` says whether it happened.
    ObjectSilence = "object-silence",
    /// A conditional write loses against a conflict that resolves to nothing.
    ObjectConflict = "object-conflict",
    /// Nothing answers, for as long as it `lasts`.
    ObjectUnavailable = "object-unavailable",
    /// One node sees nothing of the others' folders (indexes, dead marks), for as long as it `lasts`.
    ObjectPeerCut = "object-peer-cut",
    /// Everything is forbidden, for as long as it `lasts`.
    ObjectForbidden = "object-forbidden",
    /// One bit of a body is wrong, in this response only.
    ObjectCorruptBody = "object-corrupt-body",
    /// A body ends early, in this response only.
    ObjectTruncateBody = "object-truncate-body",
    /// The stored object itself is damaged.
    ObjectRot = "object-rot",
    /// A listing takes `delay` for each page.
    ObjectSlowList = "object-slow-list",
    /// A listing breaks off with an error.
    ObjectPartialList = "object-partial-list",
    /// For a life of a node, listings come in another order each time, as from a file system, and the daemon is told that
    /// they do.
    ObjectUnorderedList = "object-unordered-list",
    /// One node can open no file and no connection, for as long as it `lasts`.
    FdLimit = "fd-limit",
    /// A disk operation fails.
    DiskError = "disk-error",
    /// No space is left.
    DiskNoSpace = "disk-no-space",
    /// A sync takes `delay`.
    DiskSlowSync = "disk-slow-sync",
    /// A sync fails once and the unsynced data is gone, though the next sync succeeds.
    DiskSyncLost = "disk-sync-lost",
    /// A bit of a file's stored bytes flips, for ever, in a sector that is read.
    DiskRot = "disk-rot",
    /// A read answers the bytes of another place: another offset, another file, a file that was removed, or another
    /// node's, as on a volume that all share. The length is the right one.
    DiskMisdirectedRead = "disk-misdirected-read",
    /// At a crash the directory goes back to an older, valid state.
    DiskRollback = "disk-rollback",
    /// At a crash one file goes back to an older, valid state.
    DiskRollbackFile = "disk-rollback-file",
    /// At a crash some pages of the journal's files go back to an older state.
    DiskRollbackPages = "disk-rollback-pages",
    /// While the node is down bits flip in batches of its journal that were synced, and are known to have been.
    JournalRot = "journal-rot",
    /// While the node is down a segment of its journal disappears.
    JournalMissing = "journal-missing-segment",
    /// While the node is down the last segment of its journal is cut off somewhere behind its first batch.
    JournalCut = "journal-cut",
    /// While the node is down somebody puts a file of another program into its journal's directory.
    JournalForeign = "journal-foreign-file",
    /// While the node is down a bit flips in one of its journal's marks: of the first segment that is not dead, or of the newest.
    JournalMark = "journal-mark",
    /// The process is killed.
    KillNode = "kill-node",
    /// The process stands still, for as long as `delay`.
    PauseNode = "pause-node",
    /// A turn of a task that nobody waits for comes late, by `delay`, as does every one of that node's for as long as it
    /// `lasts`: what runs them gives way to everything else.
    BackgroundSlow = "background-slow",
    /// A read of the disk cache, or its opening by a start, takes `delay`, as does every one of that node's for as long
    /// as it `lasts`.
    CacheSlow = "cache-slow",
    /// At a crash some pages of the cache's device files go back to an older state.
    CacheRollback = "cache-rollback",
    /// At a crash bits of the cache's device files flip.
    CacheRot = "cache-rot",
    /// At a crash some entries of the cache are damaged under right checksums of foyer's, as by memory that failed before
    /// the checksum was taken.
    CacheEntryDamage = "cache-entry-damage",
    /// At a crash the node's index disappears from the bucket.
    IndexLost = "index-lost",
    /// The wall clock jumps, forward or back, by up to `delay`.
    ClockJump = "clock-jump",
    /// The network between a node and all clients is cut, for as long as `delay`.
    NetCut = "net-cut",
    /// Bytes of a connection, and all behind them, arrive later, by `delay`.
    NetDelay = "net-delay",
    /// Bytes of a connection arrive, and are taken, in pieces of 1 byte to 4 KiB, `delay` apart, for as long as it `lasts`.
    NetTrickle = "net-trickle",
    /// From somewhere in the bytes that move, one direction of a connection is dead, or both are, and neither side is told,
    /// not of its end either.
    NetHalfOpen = "net-half-open",
    /// A connection is reset somewhere in the bytes that move.
    NetReset = "net-reset",
    /// Somebody connects to the TCP door and speaks anything but the protocol.
    HostileClient = "hostile-client",
    /// A client of the shared-memory door dies between two of its steps.
    ShmDeath = "shm-client-death",
    /// It holds a lease for as long as it lives.
    ShmHold = "shm-hold",
    /// It reads its answers later, by `delay`.
    ShmSlow = "shm-slow-reader",
    /// It closes its end of the line, and reads on.
    ShmClose = "shm-line-closed",
    /// Somebody attaches and writes anything to what it may write.
    ShmHostile = "shm-hostile-client",
}

impl FaultKind {
    /// Whether the kind strikes operations of this sort.
    pub fn strikes(self, operation: Operation) -> bool {
        use Operation::{Append, Copy, Create, Delete, Get, Head, List, Put, Read, Remove, Rename, Sync, SyncDir};
        match self {
            Self::ObjectLatency
            | Self::ObjectThrottle
            | Self::ObjectSilence
            | Self::ObjectUnavailable
            | Self::ObjectForbidden => matches!(operation, Put | Get | Head | List | Delete | Copy),
            Self::ObjectSlowStream | Self::ObjectCorruptBody | Self::ObjectTruncateBody | Self::ObjectRot => {
                operation == Get
            }
            Self::ObjectPutError | Self::ObjectConflict => operation == Put,
            Self::ObjectGetError => matches!(operation, Get | Head | List),
            Self::ObjectDeleteError => operation == Delete,
            Self::ObjectRepeat => matches!(operation, Put | Delete),
            Self::ObjectSlowList | Self::ObjectPartialList => operation == List,
            Self::ObjectPeerCut => matches!(operation, Get | Head | List),
            Self::FdLimit => !matches!(operation, Rename | Remove),
            Self::DiskError => matches!(operation, Create | Append | Read | Sync | Rename | Remove | SyncDir),
            Self::DiskRot | Self::DiskMisdirectedRead => operation == Read,
            Self::DiskNoSpace => matches!(operation, Create | Append),
            Self::DiskSlowSync | Self::DiskSyncLost => operation == Sync,
            _ => false,
        }
    }

    /// Whether a node that is struck with this `delay` may answer reads late, or not find a tier that answers, and how long
    /// the strike itself lasts.
    pub fn stalls(self, delay: Duration) -> Option<Duration> {
        match self {
            Self::ObjectLatency
            | Self::ObjectSlowStream
            | Self::ObjectSlowList
            | Self::DiskSlowSync
            | Self::PauseNode
            | Self::BackgroundSlow
            | Self::CacheSlow => Some(delay),
            Self::ObjectThrottle
            | Self::ObjectPutError
            | Self::ObjectGetError
            | Self::ObjectDeleteError
            | Self::ObjectSilence
            | Self::ObjectConflict
            | Self::ObjectUnavailable
            | Self::ObjectForbidden
            | Self::ObjectCorruptBody
            | Self::ObjectTruncateBody
            | Self::ObjectRot
            | Self::ObjectPartialList
            | Self::FdLimit
            | Self::DiskError
            | Self::DiskNoSpace
            | Self::DiskSyncLost => Some(Duration::ZERO),
            _ => None,
        }
    }

    pub fn of_object_store(self) -> bool {
        self.as_str().starts_with("object-")
    }

    pub fn of_disk(self) -> bool {
        let at_a_crash = matches!(self, Self::DiskRollback | Self::DiskRollbackFile | Self::DiskRollbackPages);
        self.as_str().starts_with("disk-") && !at_a_crash
    }

    /// Strikes whatever has to open something first: a file, or a connection.
    pub fn needs_descriptors(self) -> bool {
        self == Self::FdLimit
    }

    /// Strikes when a node reaches a protocol point, or after so many of its steps.
    pub fn strikes_at_points(self) -> bool {
        matches!(self, Self::KillNode | Self::PauseNode)
    }

    /// Strikes a node that is down.
    pub fn strikes_the_dead(self) -> bool {
        matches!(
            self,
            Self::DiskRollback
                | Self::DiskRollbackFile
                | Self::DiskRollbackPages
                | Self::CacheRollback
                | Self::CacheRot
                | Self::CacheEntryDamage
                | Self::IndexLost
        )
    }

    /// Damages the journal of a node that is down.
    pub fn strikes_the_journal(self) -> bool {
        matches!(
            self,
            Self::JournalRot | Self::JournalMissing | Self::JournalCut | Self::JournalForeign | Self::JournalMark
        )
    }

    /// Goes on for a while once it has struck.
    pub fn lasts(self) -> bool {
        matches!(self, Self::ObjectUnavailable | Self::ObjectForbidden) || self.is_one_nodes()
    }

    /// While it lasts, only the node that it struck first is struck.
    pub fn is_one_nodes(self) -> bool {
        matches!(self, Self::ObjectPeerCut | Self::FdLimit | Self::NetTrickle | Self::CacheSlow | Self::BackgroundSlow)
    }

    /// The result of what it strikes differs, and not only the time that it takes.
    pub fn shows(self) -> bool {
        !matches!(self, Self::ObjectLatency | Self::ObjectSlowList)
    }

    /// `delay` has a meaning.
    pub fn takes_delay(self) -> bool {
        self.takes_effect()
            || matches!(
                self,
                Self::ObjectLatency
                    | Self::ObjectSlowStream
                    | Self::ObjectRepeat
                    | Self::ObjectSlowList
                    | Self::DiskSlowSync
                    | Self::CacheSlow
                    | Self::BackgroundSlow
                    | Self::PauseNode
                    | Self::ClockJump
                    | Self::NetCut
                    | Self::NetDelay
                    | Self::NetTrickle
                    | Self::ShmSlow
            )
    }

    /// Strikes the bytes of connections to a node's TCP door.
    pub fn strikes_connections(self) -> bool {
        matches!(self, Self::NetDelay | Self::NetTrickle | Self::NetHalfOpen | Self::NetReset)
    }

    /// `effect` has a meaning.
    pub fn takes_effect(self) -> bool {
        matches!(self, Self::ObjectPutError | Self::ObjectDeleteError | Self::ObjectSilence)
    }
}
