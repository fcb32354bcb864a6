//! Messages, frames, envelope and protocol state machines.
//!
//! Everything here is free of I/O, of async and of the store: bytes in, values out. The same code runs in the daemon,
//! in the client library, in the simulator and under the fuzzer.
#![forbid(unsafe_code)]

pub mod envelope;
pub mod error;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod memory;
pub mod message;
pub mod pack;
pub mod request;
pub mod response;
#[cfg(test)]
mod samples;
pub mod tcp;
pub mod validate;

pub use error::{DecodeError, ErrorKind, ServiceError};
pub use identity::ModelIdentity;
pub use ids::{BlockHash, BlockKey, NamespaceId, Part, PutId, SidecarKey};
pub use memory::{BlockMemory, Payload, ReserveError, WriteBuf};
pub use request::Request;
pub use response::{MissReason, Response};
