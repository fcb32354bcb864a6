//! TCP: frames, and the state machines of both ends of a connection. Free of I/O: bytes go in, events come out.
//!
//! A frame is a header of 16 bytes, a message's head and archive, and payload bytes. A message is one frame, or several:
//! the first bears head, archive and the first payload bytes, the others go on with the payloads. Frames of different
//! messages interleave, so that a small answer does not wait for a large one.
//!
//! What ends a connection: a frame whose header, lengths or checksum are wrong, because then nobody knows where the
//! next one begins. Anything wrong inside a sound frame is answered with an error, and the connection goes on.

mod client;
mod credit;
mod frame;
mod receive;
mod send;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientConnection, ClientEvent};
pub use frame::{FRAME_FLAG_PAYLOAD_CRC, FRAME_HEADER_BYTES, FRAME_MAGIC, FRAME_VERSION, FrameHeader};
pub use receive::{ReadInto, Received, Receiver};
pub use send::Sender;
pub use server::{ServerConnection, ServerEvent, ServerLimits};
