//! A prompt from the real binary, part by part, through both of its native doors.

use super::{rig, url};
use bettong::demo::child::Daemon;
use bettong_client::blocking::{Client, Namespace};
use bettong_client::{
    BlockHash, BlockKey, BlockToPut, ChainAsk, Got, Level, ModelIdentity, Options, Part, Place, SidecarKey, chain,
};

const BLOCKS: u8 = 12;
const LEN: usize = 64 << 10;

fn identity() -> ModelIdentity {
    ModelIdentity {
        model: "model".to_owned(),
        kv_dtype: "bf16".to_owned(),
        layout: "layout".to_owned(),
        block_tokens: 16,
        parts: vec![0, 1],
        ..ModelIdentity::default()
    }
}

fn put(namespace: &Namespace, hashes: &[BlockHash], sidecar: SidecarKey) {
    for (n, hash) in (0_u8..).zip(hashes) {
        let place = Place { parent: n.checked_sub(1).map(|at| hashes[usize::from(at)]), sequence: n.into() };
        let block = |part: u16| BlockToPut {
            key: BlockKey { hash: *hash, part: Part(part) },
            place,
            bytes: vec![n + 100 * part as u8; LEN].into(),
        };
        namespace.put_blocks(vec![block(0), block(1)], Level::Memory).unwrap();
    }
    namespace.put_sidecar(sidecar, hashes[hashes.len() - 1], b"tail".to_vec(), Level::Object).unwrap();
}

/// The blocks, as often as a part came, and the sidecar.
fn bring(namespace: &Namespace, ask: ChainAsk) -> (Vec<BlockKey>, usize, bool) {
    let (mut keys, mut parts, mut tail) = (Vec::new(), 0, false);
    let mut restore = namespace.restore_chain(ask);
    while let Some(part) = restore.next_part().unwrap() {
        assert_eq!((part.blocks, part.missed), (BLOCKS.into(), None));
        for (key, value) in part.values {
            let n = keys.len() as u8 / 2;
            let byte = n + 100 * key.part.0 as u8;
            assert!(value.bytes.len() == LEN && value.bytes.as_ref().iter().all(|got| *got == byte), "{key:?}");
            keys.push(key);
        }
        tail |= matches!(part.sidecar, Some(Got::Hit(value)) if value.bytes.as_ref() == b"tail");
        parts += 1;
    }
    (keys, parts, tail)
}

#[test]
fn a_prompt_comes_back_part_by_part_through_both_doors() {
    let dir = tempfile::tempdir().unwrap();
    let setup = rig::setup(dir.path(), &["shm_lease_bytes=1MiB", "shm_staging_bytes=1MiB"]);
    let daemon = Daemon::start(&setup).unwrap();
    let shm = url(&setup);
    let inputs: Vec<[u8; 1]> = (0..BLOCKS).map(|n| [n]).collect();
    let hashes = chain(BlockHash([7; 32]), inputs.iter().map(<[u8; 1]>::as_slice));
    let sidecar = SidecarKey::derive(&hashes[hashes.len() - 1], b"tail");
    let whole: Vec<BlockKey> =
        hashes.iter().flat_map(|hash| [0, 1].map(|part| BlockKey { hash: *hash, part: Part(part) })).collect();
    for (turn, connect) in [daemon.connect.as_str(), shm.as_str()].into_iter().enumerate() {
        let client = Client::connect(connect, Options::default()).unwrap();
        let namespace = client.open_namespace("default", Some(identity())).unwrap();
        if turn == 0 {
            put(&namespace, &hashes, sidecar);
        }
        // All of it is more than this client may hold at once: it lets go of each part before it takes the next.
        let ask = ChainAsk {
            hashes: hashes.clone(),
            sidecar: Some(sidecar),
            bytes_at_once: 512 << 10,
            ..ChainAsk::default()
        };
        // The third part is full: the sidecar comes by itself.
        assert_eq!(bring(&namespace, ask), (whole.clone(), 4, true), "{connect}");
        let mut unknown = hashes.clone();
        unknown.push(BlockHash([9; 32]));
        let ask = ChainAsk { hashes: unknown, sidecar: Some(sidecar), bytes_at_once: 512 << 10, ..ChainAsk::default() };
        assert_eq!(bring(&namespace, ask), (whole.clone(), 3, false), "{connect}");
    }
    daemon.stop().unwrap();
}
