//! Bytes that lie, or make no sense, get the right error, at no cost.

use crate::{
    interrupted,
    support::{
        Message, fixtures,
        fixtures::Fixture,
        frame, head, head_of, parts,
        pieces::{Pieces, poll_once},
    },
};
use ciborium::{Value, cbor};
use imgsys_proto::{
    ClientMessage, FrameError, FrameReader, MAX_DEPTH, MAX_HEAD, PREFIX_LEN, Prefix, ReadError,
    ServerMessage, cbor::Malformed, decode, encode, message::Watch, reader::MAX_BODY_CHUNK,
};
use imgsys_types::{ErrorCode, JobId};
use proptest::{collection::vec, prelude::*};

fn ping() -> ClientMessage {
    ClientMessage::Ping(imgsys_proto::message::Request { req: 1 })
}

fn prefix(head: u32, body: u32) -> [u8; PREFIX_LEN] {
    let mut bytes = [0; PREFIX_LEN];
    bytes[..4].copy_from_slice(&head.to_be_bytes());
    bytes[4..].copy_from_slice(&body.to_be_bytes());
    bytes
}

fn malformed(head: &[u8]) -> Malformed {
    match decode::<ClientMessage>(head) {
        Err(FrameError::Malformed(malformed)) => malformed,
        other => panic!("{}: {other:?}", hex::encode(&head[..head.len().min(40)])),
    }
}

#[test]
fn a_head_of_no_or_too_much_length_is_refused_before_it_comes() {
    for len in [0, 1 << 16 | 1, u32::from_be_bytes(*b"GET "), u32::MAX] {
        let bytes = prefix(len, 0);
        let error = Prefix::parse(bytes).unwrap_err();
        assert!(matches!(error, FrameError::HeadLength(told) if told == len as usize));
        assert_eq!(error.code(), ErrorCode::BadFrame);
        let mut reader = FrameReader::new(Pieces::whole(&bytes));
        let read = interrupted!(reader.next::<ClientMessage>());
        assert!(
            matches!(read, Err(ReadError::Frame(FrameError::HeadLength(_)))),
            "{read:?}"
        );
    }
    assert_eq!(
        Prefix::parse(prefix(1, 7)).unwrap(),
        Prefix { head: 1, body: 7 }
    );
    assert_eq!(
        Prefix::parse(prefix(1 << 16, u32::MAX)).unwrap().head,
        MAX_HEAD
    );
    for len in [0, MAX_HEAD + 1] {
        let refused = decode::<ClientMessage>(&vec![0xa0; len]);
        assert!(matches!(refused, Err(FrameError::HeadLength(told)) if told == len));
    }
}

#[test]
fn announced_lengths_cost_nothing_until_the_bytes_come() {
    // A head of 64 KiB and a body of 4 GiB are announced, and half of a ping comes.
    let mut stream = Pieces::whole(&[&prefix(1 << 16, u32::MAX)[..], &head(&ping())[..4]].concat());
    let mut reader = FrameReader::new(&mut stream);
    assert!(matches!(
        interrupted!(reader.next::<ClientMessage>()),
        Err(ReadError::Cut)
    ));
    drop(reader);
    assert!(stream.most_room <= 2 * MAX_HEAD, "{}", stream.most_room);

    // A ping with a body of 4 GiB, of which 3 bytes come.
    let ping = head(&ping());
    let len = u32::try_from(ping.len()).unwrap();
    let bytes = [&prefix(len, u32::MAX)[..], &ping, b"abc"].concat();
    for whole in [false, true] {
        let mut stream = Pieces::cut(&bytes, &[1]);
        let mut reader = FrameReader::new(&mut stream);
        let (_, body) = interrupted!(reader.next::<ClientMessage>())
            .unwrap()
            .unwrap();
        assert_eq!((body, reader.body_left()), (u32::MAX, u32::MAX));
        let error = if whole {
            interrupted!(reader.body()).unwrap_err()
        } else {
            interrupted!(reader.body_chunk()).unwrap_err()
        };
        assert!(matches!(error, ReadError::Cut));
        drop(reader);
        assert!(
            stream.most_room <= 2 * MAX_BODY_CHUNK,
            "{}",
            stream.most_room
        );
    }
}

#[test]
fn lengths_within_a_head_that_it_does_not_have_are_refused_before_decoding() {
    // {"watch": {"req": 1, "jobs": ...
    let start = hex::decode("a1657761746368a26372657101646a6f6273").unwrap();
    for lie in [
        "9b4000000000000000", // an array of 2^62 items
        "9a00010000",         // an array of 65 536
        "9903e8",             // an array of 1000
        "5b7fffffffffffffff", // a byte string
        "7b7fffffffffffffff", // a text
        "bbffffffffffffffff", // a map
        "bb8000000000000001", // a map whose keys and values are 2 modulo 2^64
        "81583a00",           // an id that ends behind the head
    ] {
        let head = [&start[..], &hex::decode(lie).unwrap()].concat();
        assert_eq!(malformed(&head), Malformed::Syntax, "{lie}");
    }
    let indefinite = ["9fff", "bfff", "5f4100ff", "7f6161ff"];
    for item in indefinite {
        let head = [&start[..], &hex::decode(item).unwrap()].concat();
        assert_eq!(malformed(&head), Malformed::Indefinite, "{item}");
    }
}

#[test]
fn items_may_be_sixteen_deep() {
    // A key that nobody knows, with arrays within arrays; the message's two maps count too.
    let nested = |depth: usize| {
        let inner = (2..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        head_of(&cbor!({ "ping" => { "req" => 1, "x" => inner } }).unwrap())
    };
    assert_eq!(decode::<ClientMessage>(&nested(MAX_DEPTH)).unwrap(), ping());
    assert_eq!(malformed(&nested(MAX_DEPTH + 1)), Malformed::Depth);
    let start = hex::decode("a16470696e67").unwrap();
    for open in [0x81, 0xc1, 0xa1] {
        let bottomless = [&start[..], &vec![open; MAX_HEAD - start.len()]].concat();
        let error = malformed(&bottomless);
        assert!(
            matches!(error, Malformed::Depth | Malformed::Syntax),
            "{error:?}"
        );
    }
}

#[test]
fn nothing_may_come_behind_a_head() {
    for more in [&[0][..], &[0xf6; 100], &head(&ping())] {
        let longer = [&head(&ping())[..], more].concat();
        assert_eq!(malformed(&longer), Malformed::Trailing);
    }
}

#[test]
fn only_a_map_is_a_head() {
    for head in [
        "f6",
        "01",
        "80",
        "6470696e67",
        "4470696e67",
        "c1a0",
        "d9d9f7a0",
    ] {
        assert_eq!(
            malformed(&hex::decode(head).unwrap()),
            Malformed::NoMap,
            "{head}"
        );
    }
}

#[test]
fn a_key_may_be_there_once() {
    let twice = Value::Map(vec![("req".into(), 1.into()), ("req".into(), 2.into())]);
    let head = head_of(&Value::Map(vec![("ping".into(), twice)]));
    let error = decode::<ClientMessage>(&head).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadMessage);
    assert!(
        error.to_string().contains("duplicate field `req`"),
        "{error}"
    );
}

#[test]
fn an_error_quotes_little_of_a_head_and_no_control_characters() {
    for name in ["\x1b[2J\n".repeat(500), "ü".repeat(2000)] {
        let head = head_of(&Value::Map(vec![(name.into(), Value::Null)]));
        let Err(FrameError::NoMessage(text)) = decode::<ClientMessage>(&head) else {
            panic!("not refused");
        };
        assert!(text.starts_with("unknown variant"), "{text}");
        assert!(
            text.chars().count() <= 201 && !text.chars().any(char::is_control),
            "{text:?}"
        );
    }
}

/// Cuts each frame short everywhere.
fn cut_everywhere<M: Message>(fixtures: Vec<Fixture<M>>) {
    for Fixture { message, body, .. } in fixtures {
        let whole = frame(&message, body);
        let (_, head, _) = parts(&whole);
        for len in 1..head.len() {
            let refused = decode::<M>(&head[..len]);
            assert!(matches!(
                refused,
                Err(FrameError::Malformed(Malformed::Syntax))
            ));
        }
        for len in 1..whole.len() {
            let mut reader = FrameReader::new(Pieces::whole(&whole[..len]));
            match interrupted!(reader.next::<M>()) {
                Err(ReadError::Cut) => assert!(len < PREFIX_LEN + head.len()),
                Ok(Some((read, _))) => {
                    assert_eq!(read, message);
                    assert!(matches!(interrupted!(reader.body()), Err(ReadError::Cut)));
                    assert!(matches!(
                        interrupted!(reader.next::<M>()),
                        Err(ReadError::Cut)
                    ));
                }
                other => panic!("cut at {len}: {other:?}"),
            }
        }
        let mut reader = FrameReader::new(Pieces::whole(&[]));
        assert!(matches!(interrupted!(reader.next::<M>()), Ok(None)));
    }
}

#[test]
fn a_frame_cut_anywhere_is_told_as_cut() {
    cut_everywhere(fixtures::client());
    cut_everywhere(fixtures::server());
}

#[test]
fn a_head_longer_or_shorter_than_announced_is_malformed() {
    let head = head(&ping());
    let len = u32::try_from(head.len()).unwrap();
    for (announced, expected) in [(len - 1, Malformed::Syntax), (len + 1, Malformed::Trailing)] {
        let bytes = [&prefix(announced, 0)[..], &head, &frame(&ping(), &[])].concat();
        let mut reader = FrameReader::new(Pieces::whole(&bytes));
        match interrupted!(reader.next::<ClientMessage>()) {
            Err(ReadError::Frame(FrameError::Malformed(error))) => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_body_longer_than_announced_is_taken_for_a_frame_and_refused() {
    let bytes = [&frame(&ping(), b"12345678")[..], b"more of an image"].concat();
    let mut reader = FrameReader::new(Pieces::whole(&bytes));
    interrupted!(reader.next::<ClientMessage>())
        .unwrap()
        .unwrap();
    let read = interrupted!(reader.next::<ClientMessage>());
    assert!(
        matches!(read, Err(ReadError::Frame(FrameError::HeadLength(_)))),
        "{read:?}"
    );
}

#[test]
fn half_a_frame_and_silence_is_waited_for() {
    let whole = frame(&ping(), b"12345678");
    for len in 0..whole.len() - 8 {
        let mut reader = FrameReader::new(Pieces::whole(&whole[..len]).then_silence());
        for _ in 0..10 {
            assert!(
                poll_once(reader.next::<ClientMessage>()).is_none(),
                "{len} bytes"
            );
        }
    }
}

#[test]
fn a_message_too_long_for_a_head_is_not_written() {
    let watch = |jobs| {
        ClientMessage::Watch(Watch {
            req: u64::MAX,
            jobs: vec![JobId::from_bytes([7; 16]); jobs],
        })
    };
    let mut out = b"before".to_vec();
    let refused = encode(&watch(100_000), 0, &mut out);
    assert!(matches!(refused, Err(FrameError::HeadLength(len)) if len > 1_700_000));
    assert_eq!(out, b"before");
    let refused = encode(&ping(), 1 << 32, &mut out);
    assert!(matches!(refused, Err(FrameError::BodyLength { len, .. }) if len == 1 << 32));
    assert_eq!(out, b"before");
    // As many as docs/protocol.md says.
    encode(&watch(3_850), 0, &mut out).unwrap();
    assert!(encode(&watch(3_860), 0, &mut out).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_are_refused_or_a_message(bytes in vec(any::<u8>(), 0..200)) {
        read_whatever::<ClientMessage>(&bytes);
        read_whatever::<ServerMessage>(&bytes);
    }

    #[test]
    fn a_message_with_any_byte_changed_is_refused_or_a_message(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        spoil(&fixtures::client(), which, place, byte);
        spoil(&fixtures::server(), which, place, byte);
    }
}

/// Changes a byte of one of these frames and reads it.
fn spoil<M: Message>(
    fixtures: &[Fixture<M>],
    which: prop::sample::Index,
    place: prop::sample::Index,
    byte: u8,
) {
    let Fixture { message, body, .. } = which.get(fixtures);
    let mut bytes = frame(message, body);
    let place = place.index(bytes.len());
    bytes[place] = byte;
    read_whatever::<M>(&bytes);
}

/// Reads all frames from these bytes, to the end or to an error, and each that is read can be
/// written again.
fn read_whatever<M: Message>(bytes: &[u8]) {
    let _ = decode::<M>(bytes);
    let mut stream = Pieces::cut(bytes, &[7, 50]);
    let mut reader = FrameReader::new(&mut stream);
    while let Ok(Some((message, _))) = interrupted!(reader.next::<M>()) {
        frame(&message, &[]);
    }
    drop(reader);
    assert!(
        stream.most_room <= 2 * MAX_BODY_CHUNK,
        "{}",
        stream.most_room
    );
}
