use super::*;
use proptest::prelude::*;

fn hello() -> Hello {
    Hello { staging_bytes: 0x0102_0304_0506_0708, name: "vllm-3".into() }
}

fn welcome() -> Reply {
    Reply::Welcome(Welcome {
        session: 1,
        epoch: 2,
        ring_words: 3,
        inline_max: 4,
        staging_bytes: 5,
        pool_bytes: 6,
        quota_bytes: 7,
    })
}

fn refusal() -> Reply {
    Reply::Refusal(Refusal { kind: RefusalKind::Busy, limit: 9, text: "nö".into() })
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> =
        bytes.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    words.join(" ")
}

#[test]
fn packets_have_their_golden_bytes() {
    insta::assert_snapshot!(hex(&hello().encode().unwrap()), @"62657474 6f6e673e 02000000 00000000 08070605 04030201 06000000 00000000 766c6c6d 2d33");
    insta::assert_snapshot!(hex(&welcome().encode()), @"62657474 6f6e673c 02000000 00000000 01000000 00000000 02000000 00000000 03000000 04000000 05000000 00000000 06000000 00000000 07000000 00000000");
    insta::assert_snapshot!(hex(&refusal().encode()), @"62657474 6f6e673c 02000000 04000000 09000000 00000000 03000000 00000000 6ec3b6");
}

#[test]
fn every_rule_has_its_error() {
    let changed = |at: usize, byte: u8| {
        let mut bytes = hello().encode().unwrap();
        bytes[at] = byte;
        Hello::decode(&bytes).unwrap_err()
    };
    assert!(matches!(changed(7, b'<'), DecodeError::BadMagic { .. }));
    assert!(matches!(changed(8, 1), DecodeError::Version { got: 1, min: 2, max: 2, .. }));
    assert!(matches!(changed(12, 1), DecodeError::Invalid { .. }));
    assert!(matches!(changed(28, 1), DecodeError::Invalid { .. }));
    assert!(matches!(changed(24, 65), DecodeError::TooLong { got: 65, limit: 64, .. }));
    assert!(matches!(changed(24, 7), DecodeError::LengthMismatch { said: 7, got: 6, .. }));
    assert!(matches!(changed(24, 5), DecodeError::LengthMismatch { said: 5, got: 6, .. }));
    assert!(matches!(changed(33, 0xff), DecodeError::Utf8 { valid_up_to: 1, .. }));
    let long = Hello { name: "x".repeat(65), ..hello() };
    assert!(matches!(long.encode(), Err(DecodeError::TooLong { got: 65, limit: 64, .. })));
    let kind = [&REPLY_MAGIC[..], &[2, 0, 0, 0, 99, 0, 0, 0]].concat();
    assert!(matches!(Reply::decode(&kind), Err(DecodeError::Unknown { got: 99, .. })));
}

#[test]
fn the_text_of_a_refusal_is_cut_at_a_character() {
    let long = Refusal { kind: RefusalKind::User, limit: 0, text: format!("x{}", "ü".repeat(300)) };
    let packet = Reply::Refusal(long).encode();
    assert!(packet.len() <= PACKET_BYTES_MAX);
    let Ok(Reply::Refusal(refusal)) = Reply::decode(&packet) else { panic!("no refusal") };
    assert_eq!(refusal.text.len(), 511);
}

proptest! {
    #[test]
    fn packets_round_trip_and_nothing_else_does(staging_bytes: u64, name in "\\PC{0,16}", extra in 1..9usize) {
        let hello = Hello { staging_bytes, name };
        let bytes = hello.encode().unwrap();
        prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
        for packet in [welcome(), refusal()] {
            let bytes = packet.encode();
            prop_assert_eq!(Reply::decode(&bytes), Ok(packet));
            for end in 0..bytes.len() {
                prop_assert!(Reply::decode(&bytes[..end]).is_err());
            }
            prop_assert!(Reply::decode(&[bytes, vec![0; extra]].concat()).is_err());
        }
        for end in 0..bytes.len() {
            prop_assert!(Hello::decode(&bytes[..end]).is_err());
        }
        prop_assert!(Hello::decode(&[bytes, vec![0; extra]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(bytes: Vec<u8>, magic in 0..3usize) {
        let begin: &[u8] = [&b""[..], b"bettong>\x01\0\0\0", b"bettong<\x01\0\0\0"][magic];
        let bytes = [begin, &bytes].concat();
        if let Ok(hello) = Hello::decode(&bytes) {
            prop_assert_eq!(hello.encode().unwrap(), bytes.clone());
        }
        if let Ok(reply) = Reply::decode(&bytes) {
            prop_assert_eq!(reply.encode(), bytes);
        }
    }
}
