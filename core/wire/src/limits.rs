//! Limits that are part of the protocol. Every one is checked where bytes enter and named in the error.

/// Largest payload of one block or plain value: 128 MiB.
pub const BLOCK_BYTES_MAX: u64 = 128 << 20;
/// Smallest block the store is designed for: 4 KiB. Smaller payloads are legal (tests, plain keys), only inefficient.
pub const BLOCK_BYTES_TYPICAL_MIN: u64 = 4 << 10;
/// Longest plain key, in bytes of UTF-8.
pub const PLAIN_KEY_BYTES_MAX: usize = 1024;
/// Longest name of a namespace, a tenant or a head, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;
/// Most items (hashes, keys, blocks) in one batch request.
pub const BATCH_ITEMS_MAX: usize = 1024;
/// Most hashes in one look-up: 65,536 blocks of 512 tokens are 32 million tokens.
pub const LOOKUP_HASHES_MAX: usize = 65_536;
/// Most parts of one model identity (tensor-parallel ranks times KV-cache groups).
pub const PARTS_MAX: usize = 1024;
/// Most namespaces that one session may hold open.
pub const OPEN_NAMESPACES_MAX: usize = 64;
/// Largest TCP frame (header, message and payload): 256 MiB.
pub const FRAME_BYTES_MAX: u32 = 256 << 20;
/// Largest archive (message without payload) of one request or response: 4 MiB.
pub const MESSAGE_BYTES_MAX: u32 = 4 << 20;
/// Largest archive from a peer that has not shown who it is: an OPEN with every field at its limit has half of it.
pub const OPENING_BYTES_MAX: u32 = 32 << 10;
/// Longest archive that a daemon reads without asking for room: any batch of blocks has less. Bytes.
pub const ARCHIVE_BYTES_FREE: u32 = 128 << 10;
/// Largest tail, in bytes, that a sidecar may carry.
pub const SIDECAR_BYTES_MAX: u64 = BLOCK_BYTES_MAX;
/// Entries a page of LIST returns at most.
pub const LIST_PAGE_MAX: u32 = 1_000;
/// Most payload bytes that one message (a batch put, a batch answer) may announce: 1 GiB.
pub const BATCH_BYTES_MAX: u64 = 1 << 30;
/// Longest bearer token of OPEN, in bytes.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Longest field of a model identity, in bytes of UTF-8.
pub const IDENTITY_FIELD_BYTES_MAX: usize = 1024;
/// Longest cursor of LIST and of MAINTAIN, in bytes.
pub const CURSOR_BYTES_MAX: usize = 2048;
/// Longest slice of maintenance that one call may ask for, in milliseconds.
pub const MAINTAIN_BOUND_MS_MAX: u32 = 60_000;
/// Longest time to live, in milliseconds: a hundred years.
pub const TTL_MS_MAX: u64 = 100 * 366 * 24 * 3600 * 1000;
/// Longest text of an error, in bytes; what is longer is cut at a character.
pub const ERROR_TEXT_BYTES_MAX: usize = 4096;
/// Smallest frame limit that a session may negotiate: 64 KiB.
pub const FRAME_BYTES_MIN: u32 = 64 << 10;
/// The protocol version that OPEN names.
pub const PROTOCOL_VERSION: u32 = 1;
