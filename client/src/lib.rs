//! The Rust client of bettong.
//!
//! ```no_run
//! # async fn example() -> Result<(), bettong_client::Error> {
//! use bettong_client::{Client, Got, Level, Options, ReadLimits};
//!
//! let client = Client::connect("tcp://127.0.0.1:7450", Options::default()).await?;
//! let notes = client.open_namespace("notes", None).await?;
//! notes.put_plain("greeting", b"hello".to_vec(), Level::Object, None).await?;
//! match notes.get_plain("greeting", ReadLimits::default()).await? {
//!     Got::Hit(value) => println!("{} bytes", value.bytes.len()),
//!     Got::Miss(reason) => println!("a miss: {}", reason.as_str()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **What a caller sees.** Every call ends within its time limit (`Options::call_timeout`). A lost connection is made
//! again in the background, and the namespaces are opened again on it: calls wait for their own namespace only. Reads,
//! and puts of blocks and sidecars, are repeated by the library, because repeating them changes nothing; a put of a plain
//! key, a delete, a publish, a clear whose outcome is unknown ends with `ErrorKind::Retry`, and the caller decides.
//!
//! **Through shared memory** (`shm:///PATH` of a daemon's socket, on Linux) a put copies its bytes once, into memory that the
//! daemon reads, or not at all where they are made there (`Namespace::reserve_put`). A value that was got is read where the
//! daemon has it, for as long as its `Payload` or a part of it is held, whatever becomes of the daemon; what is held counts
//! for the client's quota, so let go of it soon. The daemon hears of it within a few milliseconds, or with the next
//! request. What is still held when the client is dropped, or has lost its session, the daemon keeps until this process
//! ends, even where it is let go of later, and the session keeps its place among those that the daemon has. A child that is
//! forked does not have this memory: it is not to use a client of its parent, nor a value of one.
//!
//! The same client runs in the simulator: it reads no clock but tokio's and draws randomness only from `Options::seed`.
#![forbid(unsafe_code)]

#[cfg(not(madsim))]
pub mod blocking;
mod call;
mod callers;
mod chain;
mod client;
mod dial;
mod namespace;
mod options;
mod put_buffer;
mod restore;
mod session;
#[cfg(all(target_os = "linux", not(madsim)))]
mod shm;
mod tcp;

pub use bettong_wire::request::{HeadValue, Level, ListKind, PartAsk, ReadLimits, Target, Tier};
pub use bettong_wire::response::{Head, ListEntry, ListName, ListPage, MissReason, Stored};
pub use bettong_wire::{
    BlockHash, BlockKey, ErrorKind, ModelIdentity, NamespaceId, Part, Payload, PutId, ServiceError as Error, SidecarKey,
};
pub use chain::chain;
pub use client::Client;
pub use dial::{Dial, Tcp};
pub use namespace::{BlockToPut, Existing, Got, Namespace, Place, Value};
pub use options::Options;
pub use put_buffer::PutBuffer;
pub use restore::{ChainAsk, ChainPart, ChainRestore};
