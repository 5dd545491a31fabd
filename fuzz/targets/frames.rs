//! A connection: frames, one after the other, each with its body.
#![no_main]

use imgsys_proto::{ClientMessage, FrameReader, decode, encode};
use libfuzzer_sys::fuzz_target;

/// The most of a body that is thrown away in one go, as a server does with refused ones.
const DISCARD: u32 = 1 << 10;

fuzz_target!(|bytes: &[u8]| {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
        return;
    };
    runtime.block_on(async {
        let mut frames = FrameReader::new(bytes);
        let mut read = 0_u64;
        while let Ok(Some((message, body))) = frames.next::<ClientMessage>().await {
            assert_eq!(frames.body_left(), body);
            same_again(&message);
            let done = if body % 2 == 0 {
                let mut got = 0_u32;
                while let Ok(Some(chunk)) = frames.body_chunk().await {
                    got += u32::try_from(chunk.len()).unwrap();
                }
                got
            } else {
                let mut got = 0;
                while let Ok(more @ 1..) = frames.discard(DISCARD).await {
                    got += more;
                }
                got
            };
            assert!(done <= body, "{done} bytes of a body of {body}");
            read += u64::from(done);
        }
        assert!(read <= bytes.len() as u64);
    });
});

fn same_again(message: &ClientMessage) {
    let mut frame = Vec::new();
    // What was read may be too long to be written: numbers and texts have a longer form.
    if encode(message, 0, &mut frame).is_ok() {
        let again: ClientMessage = decode(&frame[8..]).expect("what was written can be read");
        // Compared as texts, for NaN is not itself.
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
    }
}
