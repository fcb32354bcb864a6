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
/// Largest tail, in bytes, that a sidecar may carry.
pub const SIDECAR_BYTES_MAX: u64 = BLOCK_BYTES_MAX;
/// Entries a page of LIST returns at most.
pub const LIST_PAGE_MAX: u32 = 1_000;
