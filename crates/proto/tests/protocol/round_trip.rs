//! Any value of each message comes back from its bytes, with no byte left.

use crate::{
    interrupted,
    support::{
        Message, frame, head, name_of, names, parts,
        pieces::{Pieces, poll_once},
        schema, strategies,
    },
};
use imgsys_proto::{
    ClientMessage, FrameReader, ServerMessage, decode, message::Request, reader::MAX_BODY_CHUNK,
};
use proptest::{collection::vec, prelude::*};
use std::fmt::Debug;

/// The message comes back from its frame, and the frame has no byte more.
fn comes_back<M: Message>(name: &str, message: &M, body: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(name_of(message), name);
    let bytes = frame(message, body);
    let (prefix, head, rest) = parts(&bytes);
    prop_assert_eq!(prefix.body as usize, body.len());
    prop_assert_eq!(&decode::<M>(head).unwrap(), message);
    prop_assert_eq!(rest, body);
    Ok(())
}

/// The grammar has a place for the message.
fn is_valid<M: Message>(message: &M) -> Result<(), TestCaseError> {
    let verdict = schema::validate::<M>(&head(message));
    prop_assert!(verdict.is_ok(), "{message:?}: {}", verdict.unwrap_err());
    Ok(())
}

macro_rules! each_message {
    ($side:ident, $message:ty: $($name:ident)*) => {
        mod $side {
            use super::*;

            $(mod $name {
                use super::*;

                proptest! {
                    #[test]
                    fn comes_back_from_its_bytes(
                        message in strategies::$side(stringify!($name)),
                        body in vec(any::<u8>(), 0..64),
                    ) {
                        comes_back(stringify!($name), &message, &body)?;
                    }
                }

                proptest! {
                    #![proptest_config(ProptestConfig::with_cases(32))]
                    #[test]
                    fn is_valid_by_the_grammar(message in strategies::$side(stringify!($name))) {
                        is_valid(&message)?;
                    }
                }
            })*

            /// Any message at all.
            pub(super) fn any_message() -> impl Strategy<Value = $message> {
                prop_oneof![$(strategies::$side(stringify!($name))),*]
            }

            #[test]
            fn no_message_is_left_out() {
                let mut tested = vec![$(stringify!($name)),*];
                tested.sort_unstable();
                assert_eq!(tested, names::<$message>());
            }
        }
    };
}

each_message! { client, ClientMessage:
hello submit watch history show status fetch cancel delete reanalyze runs similar ping }
each_message! { server, ServerMessage:
welcome accepted send_body rejected result watching page job status image cancelled
deleted reanalyzing runs similar pong goodbye }

/// How a reader takes a body.
#[derive(Debug, Clone, Copy)]
enum Take {
    Whole,
    Chunks,
    /// Not at all, or only its beginning: the next frame begins behind it all the same.
    Leave,
}

fn take() -> impl Strategy<Value = Take> {
    prop_oneof![Just(Take::Whole), Just(Take::Chunks), Just(Take::Leave)]
}

/// Frames written one after the other come back from a stream that is torn anywhere, to a reader
/// that is interrupted whenever it waits.
fn survives_tearing<M: Message>(
    frames: &[(M, Vec<u8>, Take)],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    let mut stream = Vec::new();
    for (message, body, _) in frames {
        stream.extend(frame(message, body));
    }
    let mut reader = FrameReader::new(Pieces::cut(&stream, cuts));
    for (message, body, take) in frames {
        let (read, body_len) = interrupted!(reader.next::<M>()).unwrap().unwrap();
        prop_assert_eq!(&read, message);
        prop_assert_eq!(body_len as usize, body.len());
        match take {
            Take::Whole => {
                let whole = interrupted!(reader.body()).unwrap();
                prop_assert_eq!(&whole, body);
            }
            Take::Chunks => {
                let mut whole = Vec::new();
                while let Some(chunk) = interrupted!(reader.body_chunk()).unwrap() {
                    whole.extend_from_slice(&chunk);
                }
                prop_assert_eq!(&whole, body);
            }
            Take::Leave => {}
        }
    }
    prop_assert!(interrupted!(reader.next::<M>()).unwrap().is_none());
    Ok(())
}

fn stream_of<M: Debug>(
    message: impl Strategy<Value = M>,
) -> impl Strategy<Value = Vec<(M, Vec<u8>, Take)>> {
    vec((message, vec(any::<u8>(), 0..600), take()), 0..6)
}

proptest! {
    #[test]
    fn client_frames_survive_a_torn_stream(
        frames in stream_of(client::any_message()),
        cuts in vec(1usize..200, 1..8),
    ) {
        survives_tearing(&frames, &cuts)?;
    }

    #[test]
    fn server_frames_survive_a_torn_stream(
        frames in stream_of(server::any_message()),
        cuts in vec(1usize..200, 1..8),
    ) {
        survives_tearing(&frames, &cuts)?;
    }
}

#[test]
fn a_long_body_comes_in_chunks() {
    let body: Vec<u8> = (0u8..=250).cycle().take(2 * MAX_BODY_CHUNK + 10).collect();
    let ping = ClientMessage::Ping(Request { req: 1 });
    let stream = [frame(&ping, &body), frame(&ping, &[])].concat();
    let mut reader = FrameReader::new(Pieces::cut(&stream, &[10_000]));
    interrupted!(reader.next::<ClientMessage>())
        .unwrap()
        .unwrap();
    for part in body.chunks(MAX_BODY_CHUNK) {
        assert_eq!(interrupted!(reader.body_chunk()).unwrap().unwrap(), part);
    }
    assert_eq!(interrupted!(reader.body_chunk()).unwrap(), None);
    let (message, _) = interrupted!(reader.next()).unwrap().unwrap();
    assert_eq!(ping, message);
}

#[test]
fn a_reader_knows_whether_it_stands_within_a_frame() {
    let ping = ClientMessage::Ping(Request { req: 1 });
    let whole = frame(&ping, b"abc");
    for len in 0..whole.len() {
        let mut reader = FrameReader::new(Pieces::whole(&whole[..len]).then_silence());
        // A pause, the piece, a pause.
        for _ in 0..3 {
            if poll_once(reader.next::<ClientMessage>()).is_some() {
                break;
            }
        }
        assert_eq!(reader.is_within_frame(), len > 0, "{len} bytes");
    }
    let mut reader = FrameReader::new(Pieces::whole(&whole).then_silence());
    interrupted!(reader.next::<ClientMessage>()).unwrap();
    interrupted!(reader.body()).unwrap();
    assert!(!reader.is_within_frame());
}

#[test]
fn what_is_discarded_is_counted() {
    let mut stream = Pieces::cut(&[7; 10_000], &[3_000]);
    let mut reader = FrameReader::new(&mut stream);
    let mut discarded = 0;
    loop {
        match interrupted!(reader.discard(1 << 20)).unwrap() {
            0 => break,
            read => discarded += read,
        }
    }
    assert_eq!(discarded, 10_000);
}
