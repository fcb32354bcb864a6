//! Memory that processes share, as Linux has it.
//!
//! Every segment is a memfd that the daemon made: it has no name, so a crash leaves nothing behind. Seals say who may do
//! what for as long as it exists: nobody changes its size, so that a page that was there stays there; and where the daemon
//! writes, nobody else can ever map it writably.

pub mod attach;
mod bell;
mod give_way;
mod mapping;
mod memfd;
mod segment;
mod staging;
// The simulator's executor watches no descriptors.
#[cfg(not(madsim))]
mod watch;

pub use give_way::GiveWay;
pub use mapping::{Mapping, OwnMapping};
pub use memfd::{Memfd, Pages};
pub use segment::{MappedSegment, RING_OFFSET, segment_bytes};
pub use staging::{OwnStagingMapping, StagingMapping};
#[cfg(not(madsim))]
pub use watch::{OneDescriptor, Watched, WatchedLink};

use std::io;
use std::sync::Arc;

/// The segment that this process writes.
pub type OwnSegment = Arc<MappedSegment<OwnMapping>>;
/// The segment that the other side writes.
pub type PeerSegment = Arc<MappedSegment<Mapping>>;

/// Why shared memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SharedMemoryError {
    #[error("a shared segment of {bytes} bytes cannot be made: {source}")]
    Create { bytes: u64, source: io::Error },
    #[error("a shared segment of {bytes} bytes cannot be mapped: {source}")]
    Map { bytes: u64, source: io::Error },
    #[error("a shared segment cannot have the memory of NUMA node {node}: {source}")]
    Node { node: u32, source: io::Error },
    #[error("a shared segment of {bytes} bytes cannot be sealed: {source}")]
    Seal { bytes: u64, source: io::Error },
    #[error("a shared segment of {bytes} bytes: {needed} are needed")]
    TooShort { bytes: u64, needed: u64 },
    #[error("a shared segment has the seals {has:#x}: it needs {needs:#x}, or its pages may go away")]
    NotSealed { has: u32, needs: u32 },
}
