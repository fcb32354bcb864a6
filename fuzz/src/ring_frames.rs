//! Ring frames: whatever decodes encodes to the same bytes, and a ring's content is walked to its end.

use bettong_shm::Frame;

pub fn run(data: &[u8]) {
    let Some(([low, high], mut ring)) = data.split_first_chunk::<2>() else { return };
    let inline_max = u16::from_le_bytes([*low, *high]);
    while let Ok((frame, total)) = Frame::decode(ring, inline_max) {
        assert!(total >= 8 && total % 4 == 0, "every frame moves the cursor");
        assert_eq!(frame.total(), Some(total));
        let mut again = Vec::new();
        frame.encode(inline_max, &mut again).expect("what decodes can be encoded");
        assert_eq!(again, &ring[..total]);
        if let Frame::Mmap(mmap) = frame {
            let range = mmap.range(1 << 20);
            assert!(range.is_none_or(|range| range.start <= range.end && range.end <= 1 << 20));
        }
        ring = &ring[total..];
    }
}
