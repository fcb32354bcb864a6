//! The index takes at most 128 bytes a block in all, key included: counted by the allocator, just before and just after
//! a table would double, for blocks of their own objects and for blocks in packs, the packs included.

use bettong_core::index::{Entry, INDEX_ENTRY_BYTES, InPack, IndexMap, NodeNum};
use bettong_core::keys::{Key, NsNum};
use bettong_wire::envelope::Kind;
use bettong_wire::request::Level;
use bettong_wire::{Part, PutId};
use cap::Cap;
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// One test: what another one allocates at the same time would be counted.
#[test]
fn a_block_takes_at_most_128_bytes() {
    for members in [0, 2, 16] {
        fill(members);
    }
}

/// Fills an index with blocks in packs of so many members; zero is no pack.
fn fill(members: u64) {
    let before = ALLOCATOR.allocated();
    let map = IndexMap::new(7);
    for n in 0..1_100_000u64 {
        let hash = *blake3::hash(&n.to_le_bytes()).as_bytes();
        let entry = Entry {
            put_id: PutId { life: n % 3, counter: n },
            level: Level::Object,
            raw_len: 1,
            stored_len: 1,
            sequence: 0,
            parent_tag: 0,
            expires_at_ms: 0,
            node: NodeNum::SELF,
            quarantined: false,
            in_pack: n
                .checked_div(members)
                .map(|pack| InPack { pack: PutId { life: 9, counter: pack }, offset: n as u32 }),
        };
        map.set(&Key { ns: NsNum(0), kind: Kind::Block, part: Part(0), hash }, &entry, 0);
        let blocks = n as usize + 1;
        if blocks == 1_000_000 || blocks == 1_100_000 {
            let bytes = ALLOCATOR.allocated() - before;
            println!(
                "{blocks} blocks in packs of {members}: {bytes} bytes, {:.1} a block",
                bytes as f64 / blocks as f64
            );
            assert!(bytes <= blocks * INDEX_ENTRY_BYTES as usize, "{bytes} bytes for {blocks} blocks");
            assert!(map.bytes() <= bytes && bytes - map.bytes() < 4096, "the map says {} bytes", map.bytes());
        }
    }
}
