/* The client of bettong for C. How to use it: docs/c-abi.md.
 *
 * Generated from client/capi/src by cbindgen. To make it anew:
 * BETTONG_WRITE_HEADER=1 cargo test -p bettong-capi --test header
 */

#ifndef BETTONG_H
#define BETTONG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The version of this header. `bettong_open` takes it, and refuses a program that was compiled for another one.
#define BETTONG_ABI_VERSION 1

// How a call ended: 0 is well, 1 is a miss, anything else is an error, and says what the caller can do about it.
enum bettong_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // It is done.
    BETTONG_STATUS_OK = 0,
    // What was asked for is not there; the reason is a `bettong_miss_reason`. Not an error.
    BETTONG_STATUS_MISS = 1,
    // Fix the input.
    BETTONG_STATUS_INVALID = 2,
    // The outcome is unknown or the attempt failed: try again.
    BETTONG_STATUS_RETRY = 3,
    // Too much is under way: come back after `retry_after_ms` of `bettong_last_error`.
    BETTONG_STATUS_BUSY = 4,
    // The value or batch is over `limit` of `bettong_last_error`.
    BETTONG_STATUS_TOO_LARGE = 5,
    // The caller may not do this.
    BETTONG_STATUS_DENIED = 6,
    // The namespace holds blocks of another model identity.
    BETTONG_STATUS_IDENTITY_MISMATCH = 7,
    // It would have taken longer than the caller was willing to wait.
    BETTONG_STATUS_DECLINED = 8,
    // The thing it needs is not there: a daemon, a tier, memory.
    BETTONG_STATUS_UNAVAILABLE = 9,
    // A defect of bettong.
    BETTONG_STATUS_INTERNAL = 10,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum bettong_status bettong_status;
#else
typedef uint32_t bettong_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Why a get found nothing.
enum bettong_miss_reason
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Never put here, or deleted.
    BETTONG_MISS_REASON_ABSENT = 0,
    // Was here and was evicted.
    BETTONG_MISS_REASON_EVICTED = 1,
    // Its time to live is over.
    BETTONG_MISS_REASON_EXPIRED = 2,
    // No tier has a copy that verifies.
    BETTONG_MISS_REASON_CORRUPT = 3,
    // Written by a newer release in a format that this one does not read.
    BETTONG_MISS_REASON_NEWER_FORMAT = 4,
    // The namespace was opened without a model identity, so its blocks are not reachable.
    BETTONG_MISS_REASON_IDENTITY = 5,
    // The deadline passed first.
    BETTONG_MISS_REASON_DEADLINE = 6,
    // It would have taken longer than the caller allowed.
    BETTONG_MISS_REASON_DECLINED = 7,
    // The tier that has it does not answer.
    BETTONG_MISS_REASON_TIER_DOWN = 8,
    // There was no payload memory to read it into.
    BETTONG_MISS_REASON_NO_ROOM = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum bettong_miss_reason bettong_miss_reason;
#else
typedef uint32_t bettong_miss_reason;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A tier of the store, fastest first.
enum bettong_tier
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    BETTONG_TIER_MEMORY = 1,
    BETTONG_TIER_DISK = 2,
    BETTONG_TIER_OBJECT = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum bettong_tier bettong_tier;
#else
typedef uint32_t bettong_tier;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// When a put is acknowledged. 0 is no level, so that a forgotten one is refused.
enum bettong_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The bytes are in the memory tier. Survives nothing.
    BETTONG_LEVEL_MEMORY = 1,
    // The bytes and their metadata are in the local journal and synced.
    BETTONG_LEVEL_JOURNAL = 2,
    // The object store confirmed the bytes and the index entry is durable.
    BETTONG_LEVEL_OBJECT = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum bettong_level bettong_level;
#else
typedef uint32_t bettong_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A connection to one daemon. A number in a pointer's clothes: never follow it.
typedef struct bettong_client bettong_client;

// Values that were got, and are held until they are released. A number in a pointer's clothes: never follow it.
typedef struct bettong_hits bettong_hits;

// An open namespace. A number in a pointer's clothes: never follow it.
typedef struct bettong_namespace bettong_namespace;

// What a call on this thread ended with.
typedef struct bettong_error {
    // What the call returned.
    bettong_status status;
    // For `BETTONG_STATUS_BUSY`: milliseconds after which a retry makes sense; 0 where there is no hint.
    uint32_t retry_after_ms;
    // For `BETTONG_STATUS_TOO_LARGE`: the limit in the unit that the text names; else 0.
    uint64_t limit;
    // Names the thing, the limit and the value, in UTF-8, ended by a NUL; empty after a call that ended well. Never null.
    const char *text;
} bettong_error;

// Names a block by its whole prefix.
typedef struct bettong_block_hash {
    uint8_t bytes[32];
} bettong_block_hash;

// Which blocks of one part count for a look-up.
typedef struct bettong_part_ask {
    uint16_t part;
    // For sliding-window and state-space groups: only the last n blocks of the prefix need to exist. 0 means all.
    uint32_t last_n;
} bettong_part_ask;

// The key of one stored block.
typedef struct bettong_block_key {
    struct bettong_block_hash hash;
    // Which slice of the block: one of the parts of the namespace's model identity.
    uint16_t part;
} bettong_block_key;

// Bytes that belong to somebody else. Where `len` is 0, `data` is not read, and may be null in what a caller hands over.
typedef struct bettong_span {
    const uint8_t *data;
    size_t len;
} bettong_span;

// One block of a put.
typedef struct bettong_block {
    struct bettong_block_key key;
    // Position in the chain, from 0.
    uint32_t sequence;
    // The previous block of the chain; null for the first.
    const struct bettong_block_hash *parent;
    // The caller's. Copied before the call returns.
    struct bettong_span bytes;
} bettong_block;

// Names one write of one value: a run of a daemon and a counter. Never reused.
typedef struct bettong_put_id {
    uint64_t life;
    uint64_t counter;
} bettong_put_id;

// The answer to a put.
typedef struct bettong_stored {
    // The put that wrote the version that is there now: this one or, where `already`, the one that did.
    struct bettong_put_id put_id;
    // The key was there at the asked level or above, or the same batch puts it twice; of this put nothing was written.
    bool already;
} bettong_stored;

// How long a caller waits for a read. All zero: as long as the daemon thinks right.
typedef struct bettong_read_limits {
    // Milliseconds from arrival at the daemon; 0 means its own default.
    uint32_t deadline_ms;
    // Decline at once when the estimate is over this many microseconds; 0 means never.
    uint32_t decline_over_us;
} bettong_read_limits;

// A value that was got.
typedef struct bettong_hit {
    // Read where it is, over shared memory in the daemon's own. Valid, and the same, until the hits are released.
    struct bettong_span bytes;
    struct bettong_put_id put_id;
    // Unix milliseconds at which it expires; 0 means never.
    uint64_t expires_at_ms;
    // The tier that served it.
    bettong_tier tier;
} bettong_hit;

// Names a sidecar, the tail that does not fill a block.
typedef struct bettong_sidecar_key {
    uint8_t bytes[32];
} bettong_sidecar_key;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// What the last call of this thread ended with: kind, text, limit, when to try again.
//
// Ownership: the library's, not to be freed. Valid until the next call of this thread, `bettong_last_error` itself and
// `bettong_abi_version` apart, and not after the thread's end. Threads: each has its own. Never null.
const struct bettong_error *bettong_last_error(void);

// The version of the ABI that this library has: `BETTONG_ABI_VERSION` of the header that belongs to it.
//
// Needs nothing, can be called at any time, and leaves `bettong_last_error` as it is.
uint32_t bettong_abi_version(void);

// Connects to a daemon: `tcp://HOST:PORT` or, on Linux, `shm:///PATH` of its socket. Tries once; a daemon that leaves later
// is waited for, and the connection made again.
//
// `abi_version` is always `BETTONG_ABI_VERSION`: a library that has another one refuses.
//
// `options` is null, for the defaults, or a JSON object with some of these: `tenant`, `token`, `name` (texts),
// `call_timeout_ms`, `connect_timeout_ms`, `attempts_max`, `calls_max`, `received_bytes_max`, `staging_bytes`, `spin_us`
// (numbers), `payload_crc` (true or false). Others are refused.
//
// Ownership: `*client` is the caller's, to be given to `bettong_close`; null after an error. The texts are only read.
// Threads: any, and the client may be used by several at once. A child that is forked must not use it, nor what was got
// by it.
//
// # Safety
// `url` and `options` are texts ended by a NUL, `options` may be null; `client` is a place for one pointer.
bettong_status bettong_open(const char *url,
                            uint32_t abi_version,
                            const char *options,
                            struct bettong_client **client);

// Closes a client. Null is nothing to do; a client that was closed before is `BETTONG_STATUS_INVALID`.
//
// Ownership: the handle is gone. Namespaces that were opened by it stay open, and with them the connection, until they are
// closed; hits stay valid until they are released. Over shared memory the daemon hears of no release once the connection is
// gone: what is held then counts against it, and the session keeps its place, until this process ends. Release hits first.
// Threads: any; calls of others that are under way end as they would.
bettong_status bettong_close(struct bettong_client *client);

// Asks the daemon whether it answers, and tells it what was released. `*microseconds`, where it is not null, is how long
// that took.
//
// # Safety
// `microseconds` is null or a place for one number.
bettong_status bettong_ping(const struct bettong_client *client,
                            uint64_t *microseconds);

// Opens the namespace `name` of the client's tenant.
//
// `identity` is the model identity, a JSON object: `model`, `kv_dtype`, `layout` (texts), `block_tokens` (a number), `parts`
// (numbers, ascending), and where they matter `weights_digest`, `tokenizer`, `parallel`, `adapter`, `engine_layout` (texts).
// What is required and missing, or not known, is named in the error. An identity that differs from the one that the
// namespace was made with is `BETTONG_STATUS_IDENTITY_MISMATCH`. Null: without one, and then no blocks are reachable.
//
// Ownership: `*opened` is the caller's, to be given to `bettong_namespace_close`; null after an error. The texts are only
// read. Threads: any, and the namespace may be used by several at once.
//
// # Safety
// `name` and `identity` are texts ended by a NUL, `identity` may be null; `opened` is a place for one pointer.
bettong_status bettong_namespace_open(const struct bettong_client *client,
                                      const char *name,
                                      const char *identity,
                                      struct bettong_namespace **opened);

// Closes a namespace, here and at the daemon. Null is nothing to do; a namespace that was closed before is
// `BETTONG_STATUS_INVALID`.
//
// Ownership: the handle is gone, whatever is answered; hits stay valid until they are released. Threads: any; calls of others
// that are under way may find the namespace closed.
bettong_status bettong_namespace_close(struct bettong_namespace *closed);

// The daemon's statistics, a JSON document in UTF-8, ended by a NUL.
//
// Ownership: `*json` is the caller's, to be given to `bettong_text_free`, not to `free`; null after an error. Threads: any.
//
// # Safety
// `json` is a place for one pointer.
bettong_status bettong_stats(const struct bettong_namespace *ns,
                             char **json);

// Frees a text that this library gave to the caller. Null is nothing to do; what is no such text, or not any more, is
// `BETTONG_STATUS_INVALID`, unless another text has taken its place meanwhile.
//
// Ownership: the text is gone. Threads: any.
bettong_status bettong_text_free(char *freed);

// How many leading blocks of a chain are present: `*blocks` of the `hash_count` at `hashes`, which are at most 65,536, the
// chain's first block first.
//
// `parts` says which parts count, `part_count` of them, at most 1,024; with 0 all parts of the namespace's model identity do.
//
// Ownership: all is the caller's, and is only read. Threads: any.
//
// # Safety
// There are `hash_count` hashes and `part_count` parts; `blocks` is a place for one number.
bettong_status bettong_lookup_prefix(const struct bettong_namespace *ns,
                                     const struct bettong_block_hash *hashes,
                                     size_t hash_count,
                                     const struct bettong_part_ask *parts,
                                     size_t part_count,
                                     uint32_t *blocks);

// Puts blocks, all of them or none: at most 1,024, of at most 128 MiB each and 1 GiB together. `level` is a `bettong_level`.
// A put may be repeated: that changes nothing.
//
// `answers` is null, or a place for `count` answers, one a block, in order; all zero after an error.
//
// Ownership: all is the caller's. The bytes are copied before the call returns. Threads: any.
//
// # Safety
// There are `count` blocks, each with the bytes and the parent that it names; `answers` is null or a place for `count`.
bettong_status bettong_put_blocks(const struct bettong_namespace *ns,
                                  const struct bettong_block *blocks,
                                  size_t count,
                                  uint32_t level,
                                  struct bettong_stored *answers);

// Gets blocks, at most 1,024: all of them, or `BETTONG_STATUS_MISS` where one is missing, and then `*reason` is why, unless
// `reason` is null. `limits` is null for the daemon's own.
//
// Ownership: `*hits` is the caller's, one for each key and in their order, to be given to `bettong_hits_release`; null after
// a miss and an error. What is held counts for the client's quota, so release it soon. Threads: any.
//
// # Safety
// There are `count` keys; `limits` is null or one; `hits` is a place for one pointer; `reason` is null or a place for one.
bettong_status bettong_get_blocks(const struct bettong_namespace *ns,
                                  const struct bettong_block_key *keys,
                                  size_t count,
                                  const struct bettong_read_limits *limits,
                                  struct bettong_hits **hits,
                                  bettong_miss_reason *reason);

// The same, but gets the leading blocks: those before the first that is missing, which may be none. That is no miss, and
// `bettong_hits_count` says how many there are.
//
// # Safety
// There are `count` keys; `limits` is null or one; `hits` is a place for one pointer; `reason` is null or a place for one.
bettong_status bettong_get_leading_blocks(const struct bettong_namespace *ns,
                                          const struct bettong_block_key *keys,
                                          size_t count,
                                          const struct bettong_read_limits *limits,
                                          struct bettong_hits **hits,
                                          bettong_miss_reason *reason);

// How many values `hits` holds. Threads: any.
//
// # Safety
// `count` is a place for one number.
bettong_status bettong_hits_count(const struct bettong_hits *hits, size_t *count);

// The value number `index` of `hits`, from 0.
//
// Ownership: the bytes of `*hit` are borrowed, not copied; they stay valid, and the same, until `bettong_hits_release`,
// whatever becomes of the namespace, the client and the daemon. They must not be written. Threads: any may read them.
//
// # Safety
// `hit` is a place for one hit.
bettong_status bettong_hits_get(const struct bettong_hits *hits, size_t index, struct bettong_hit *hit);

// Releases hits. Null is nothing to do; hits that were released before are `BETTONG_STATUS_INVALID`. Over shared memory the
// daemon hears of it with the client's next call; `bettong_ping` is one. Of a client that is closed, and all its namespaces,
// it hears nothing any more: see `bettong_close`.
//
// Ownership: the handle is gone, and no bytes of it may be read any more. Threads: any, once no other reads them.
bettong_status bettong_hits_release(struct bettong_hits *hits);

// Puts the sidecar `key` of the chain whose last full block is `tip`, at most 128 MiB. `level` is a `bettong_level`. A put may
// be repeated: that changes nothing. `answer` is null or a place for one answer; all zero after an error.
//
// Ownership: all is the caller's. The bytes are copied before the call returns. Threads: any.
//
// # Safety
// There are a key, a hash and the bytes that `bytes` names; `answer` is null or a place for one.
bettong_status bettong_put_sidecar(const struct bettong_namespace *ns,
                                   const struct bettong_sidecar_key *key,
                                   const struct bettong_block_hash *tip,
                                   struct bettong_span bytes,
                                   uint32_t level,
                                   struct bettong_stored *answer);

// Gets the sidecar `key`, or `BETTONG_STATUS_MISS`, and then `*reason` is why, unless `reason` is null. `limits` is null for
// the daemon's own.
//
// Ownership: `*hits` is the caller's, with one value, to be given to `bettong_hits_release`; null after a miss and an error.
// Threads: any.
//
// # Safety
// There is a key; `limits` is null or one; `hits` is a place for one pointer; `reason` is null or a place for one.
bettong_status bettong_get_sidecar(const struct bettong_namespace *ns,
                                   const struct bettong_sidecar_key *key,
                                   const struct bettong_read_limits *limits,
                                   struct bettong_hits **hits,
                                   bettong_miss_reason *reason);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BETTONG_H */
