//! Steps that both TCP targets know, and how bytes get into a connection.

use arbitrary::Arbitrary;
use bettong_wire::message::{Direction, MessageHead, Op};
use bettong_wire::tcp::FrameHeader;

/// Bytes that a peer sends.
#[derive(Arbitrary, Debug)]
pub enum Sent {
    Raw(Vec<u8>),
    /// A frame with the right checksum around anything.
    Sealed {
        op: u8,
        status: u8,
        detail: u8,
        flags: u8,
        id: u8,
        archive: Vec<u8>,
        payload: Vec<u8>,
        checksum: bool,
    },
}

impl Sent {
    pub fn bytes(self, direction: Direction) -> Vec<u8> {
        let (op, status, detail, flags, id, archive, payload, checksum) = match self {
            Self::Raw(bytes) => return bytes,
            Self::Sealed { op, status, detail, flags, id, archive, payload, checksum } => {
                (op, status, detail, flags, id, archive, payload, checksum)
            }
        };
        let head = MessageHead::new(Op::from_code(op), direction, u64::from(id));
        let head = MessageHead { op, status, detail, flags, archive_len: archive.len() as u32, ..head };
        let message = [head.to_bytes().as_slice(), &archive].concat();
        let header = FrameHeader::seal(u8::from(checksum), (message.len() + payload.len()) as u32, &message);
        [header.to_bytes().as_slice(), &message, &payload].concat()
    }
}
