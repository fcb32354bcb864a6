//! Reading fixed-width fields from the front of hostile bytes.

use bettong_wire::DecodeError;

/// What is left of some bytes, and where it begins.
pub(super) struct Cursor<'a> {
    what: &'static str,
    rest: &'a [u8],
    at: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes, at: 0 }
    }

    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let got = self.rest.len() as u64;
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated {
            what: self.what,
            needed: len as u64,
            at: self.at,
            got,
        })?;
        self.rest = rest;
        self.at += len as u64;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// `value`, unless bytes are left.
    pub(super) fn end<T>(self, value: T) -> Result<T, DecodeError> {
        match self.rest.len() {
            0 => Ok(value),
            extra => Err(DecodeError::TrailingBytes { what: self.what, extra: extra as u64 }),
        }
    }
}
