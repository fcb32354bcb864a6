//! Operation and status codes, one byte each. Their numbers never change.

use crate::error::DecodeError;

macro_rules! ops {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $mnemonic:literal, $name:literal;)*) => {
        /// What a message asks for, or answers.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Op {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Op {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code on the wire.
            pub fn code(self) -> u8 {
                self as u8
            }

            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Six letters that stand for the operation in a message's magic.
            pub fn mnemonic(self) -> [u8; 6] {
                match self {
                    $(Self::$variant => *$mnemonic,)*
                }
            }

            /// The name in metrics, traces and tables.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

ops! {
    Ping = 1, b"ping..", "ping";
    Put = 2, b"put...", "put";
    Get = 3, b"get...", "get";
    Exists = 4, b"exists", "exists";
    Stats = 5, b"stats.", "stats";
    Clear = 6, b"clear.", "clear";
    Restore = 7, b"restor", "restore";
    Close = 8, b"close.", "close";
    GetMany = 9, b"getman", "get_many";
    List = 10, b"list..", "list";
    LookupBlockPrefix = 11, b"lookup", "lookup_block_prefix";
    GetBlocks = 12, b"getblk", "get_blocks";
    PutBlocks = 13, b"putblk", "put_blocks";
    Delete = 14, b"delete", "delete";
    Open = 15, b"open..", "open";
    PutSidecar = 16, b"putsid", "put_sidecar";
    GetSidecar = 17, b"getsid", "get_sidecar";
    PublishHead = 18, b"pubhea", "publish_head";
    GetHead = 19, b"gethea", "get_head";
    RestoreChain = 20, b"reschn", "restore_chain";
    Cancel = 23, b"cancel", "cancel";
    Maintain = 24, b"mainta", "maintain";
}

/// The operation byte of an answer to a request whose operation could not be read.
pub const OP_NONE: u8 = 0;
/// Stands for the operation in the magic of an answer with `OP_NONE`.
pub const MNEMONIC_NONE: [u8; 6] = *b"none..";

impl Op {
    pub(crate) fn require(code: u8) -> Result<Self, DecodeError> {
        Self::from_code(code).ok_or(DecodeError::Unknown { what: "the operation", got: u64::from(code) })
    }
}

/// How a request ended, as a response's status byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Status {
    Ok = 0,
    /// The reason is in the detail byte.
    Miss = 1,
    TooLarge = 2,
    /// The kind is in the detail byte.
    Error = 3,
    Busy = 4,
    Denied = 5,
    Declined = 6,
    IdentityMismatch = 7,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Miss,
        Self::TooLarge,
        Self::Error,
        Self::Busy,
        Self::Denied,
        Self::Declined,
        Self::IdentityMismatch,
    ];

    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// Detail bytes of status ERROR.
pub mod error_detail {
    pub const INVALID: u8 = 1;
    pub const RETRY: u8 = 2;
    pub const UNAVAILABLE: u8 = 3;
    pub const INTERNAL: u8 = 4;
}
