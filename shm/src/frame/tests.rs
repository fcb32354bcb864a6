use super::*;
use proptest::prelude::*;

const SLOT: SlotRef = SlotRef { class: 1, extent: 2, slot: 0x0304_0506, generation: 0x0708_090a };
const MMAP: MmapRef = MmapRef { map: 1, generation: 2, offset: 0x0304_0506_0708_090a, len: 0x0b0c };

fn encoded(frame: Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(INLINE_BYTES_DEFAULT, &mut bytes).unwrap();
    bytes
}

fn decode(bytes: &[u8]) -> Result<(Frame<'_>, usize), InvalidFrame> {
    Frame::decode(bytes, INLINE_BYTES_DEFAULT)
}

#[test]
fn frames_have_their_golden_bytes() {
    let hex = |frame| encoded(frame).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    insta::assert_snapshot!(hex(Frame::Inline(b"")), @"08 00 00 00 00 00 00 00");
    insta::assert_snapshot!(hex(Frame::Inline(b"abcde")), @"10 00 00 00 00 00 05 00 61 62 63 64 65 00 00 00");
    insta::assert_snapshot!(hex(Frame::Slot(SLOT)), @"14 00 00 00 01 00 00 00 01 02 00 00 06 05 04 03 0a 09 08 07");
    insta::assert_snapshot!(
        hex(Frame::Mmap(MMAP)),
        @"20 00 00 00 02 00 00 00 01 00 00 00 02 00 00 00 0a 09 08 07 06 05 04 03 0c 0b 00 00 00 00 00 00"
    );
}

#[test]
fn every_rule_has_its_error() {
    let changed = |frame, at: usize, byte: u8| {
        let mut bytes = encoded(frame);
        bytes[at] = byte;
        decode(&bytes).map(|_| ()).unwrap_err()
    };
    let inline = Frame::Inline(b"abcde");
    assert_eq!(decode(b""), Err(InvalidFrame::Truncated { needed: 8, got: 0 }));
    assert_eq!(decode(&[0; 8]), Err(InvalidFrame::Total { total: 0, expected: 8 }), "zeroes are no empty ring");
    assert_eq!(changed(inline, 0, 17), InvalidFrame::Unaligned { total: 17 });
    assert_eq!(changed(inline, 0, 12), InvalidFrame::Total { total: 12, expected: 16 });
    assert_eq!(changed(inline, 0, 20), InvalidFrame::Total { total: 20, expected: 16 });
    assert_eq!(changed(inline, 3, 0x80), InvalidFrame::Total { total: 0x8000_0010, expected: 16 });
    assert_eq!(changed(inline, 4, 3), InvalidFrame::Flags { flags: 3 });
    assert_eq!(changed(inline, 4, 4), InvalidFrame::Flags { flags: 4 });
    assert_eq!(changed(inline, 4, 1), InvalidFrame::Total { total: 16, expected: 20 });
    assert_eq!(changed(inline, 5, 1), InvalidFrame::NotZero { what: "the reserved byte", got: 1 });
    assert_eq!(changed(inline, 6, 9), InvalidFrame::Total { total: 16, expected: 20 });
    assert_eq!(changed(inline, 7, 2), InvalidFrame::InlineTooLong { len: 517, limit: 256 });
    assert_eq!(changed(inline, 15, 1), InvalidFrame::NotZero { what: "the padding", got: 1 });
    assert_eq!(
        changed(Frame::Slot(SLOT), 6, 1),
        InvalidFrame::NotZero { what: "the inline length of a reference", got: 1 }
    );
    assert_eq!(changed(Frame::Slot(SLOT), 10, 1), InvalidFrame::NotZero { what: "the reserved field", got: 1 });
    assert_eq!(changed(Frame::Mmap(MMAP), 31, 1), InvalidFrame::NotZero { what: "the reserved field", got: 1 << 24 });
    let long = vec![0; 257];
    let error = Frame::Inline(&long).encode(INLINE_BYTES_DEFAULT, &mut Vec::new()).unwrap_err();
    assert_eq!(error, InvalidFrame::InlineTooLong { len: 257, limit: 256 });
    assert_eq!(Frame::Inline(&vec![0; 65_536]).total(), None);
}

#[test]
fn a_reference_into_a_mapping_is_checked_without_overflow() {
    assert_eq!(MmapRef { offset: 8, len: 8, ..MMAP }.range(16), Some(8..16));
    assert_eq!(MmapRef { offset: 8, len: 9, ..MMAP }.range(16), None);
    assert_eq!(MmapRef { offset: u64::MAX, len: 1, ..MMAP }.range(u64::MAX), None);
}

fn any_frame(bytes: &[u8]) -> impl Strategy<Value = Frame<'_>> {
    prop_oneof![
        Just(Frame::Inline(bytes)),
        any::<(u8, u8, u32, u32)>().prop_map(|(class, extent, slot, generation)| Frame::Slot(SlotRef {
            class,
            extent,
            slot,
            generation
        })),
        any::<(u32, u32, u64, u32)>().prop_map(|(map, generation, offset, len)| Frame::Mmap(MmapRef {
            map,
            generation,
            offset,
            len
        })),
    ]
}

proptest! {
    #[test]
    fn frames_round_trip_and_every_truncation_is_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..=256),
        kind in 0..3_usize,
        numbers: (u32, u32, u64, u32),
        behind: Vec<u8>,
    ) {
        let (map, generation, offset, len) = numbers;
        let slot = SlotRef { class: map as u8, extent: len as u8, slot: map, generation };
        let frame = [Frame::Inline(&bytes), Frame::Slot(slot), Frame::Mmap(MmapRef { map, generation, offset, len })][kind];
        let mut ring = encoded(frame);
        let total = ring.len();
        prop_assert_eq!(Some(total), frame.total());
        for end in 0..total {
            prop_assert!(decode(&ring[..end]).is_err());
        }
        ring.extend(behind);
        prop_assert_eq!(decode(&ring), Ok((frame, total)));
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(bytes: Vec<u8>, inline_max: u16) {
        if let Ok((frame, total)) = Frame::decode(&bytes, inline_max) {
            let mut again = Vec::new();
            frame.encode(inline_max, &mut again).unwrap();
            prop_assert_eq!(again.as_slice(), &bytes[..total]);
        }
    }

    #[test]
    fn changed_frames_never_panic(frame in any_frame(b"some message"), at: prop::sample::Index, byte: u8) {
        let mut bytes = encoded(frame);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((_, total)) = decode(&bytes) {
            prop_assert!(total <= bytes.len());
        }
    }
}
