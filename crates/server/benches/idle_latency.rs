//! How long one image takes on an idle system, from `submit` to `result`: 10 KB, one at a time.
//!
//! `make bench-latency` builds the programs as they are released and runs this.

// A bench that can't go on stops.
// It uses only a part of the tests' client.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]

#[path = "../tests/system/client.rs"]
mod client;
#[path = "../tests/system/images.rs"]
mod images;

use crate::{
    client::{Connection, submit},
    images::sample,
};
use imgsys_local::Stack;
use imgsys_proto::ServerMessage;
use std::time::{Duration, Instant};

/// The pause before each image, so that the system is idle when it comes.
const PAUSE: Duration = Duration::from_millis(20);
const WARM_UP: u64 = 20;
const IMAGES: u64 = 300;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for durability in ["fsync", "none"] {
        let builder = Stack::builder().workers(1);
        let stack = builder
            .set("server.durability", durability)
            .start()
            .unwrap();
        let mut times = runtime.block_on(measure(&stack.address()));
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!(
            "durability {durability:5}: p50 {:.2} ms, p95 {:.2} ms, max {:.2} ms ({} images of 10 KB)",
            at(50),
            at(95),
            at(100),
            times.len()
        );
    }
}

async fn measure(address: &str) -> Vec<Duration> {
    let mut connection = Connection::open(address).await.unwrap();
    let mut times = Vec::new();
    for number in 0..WARM_UP + IMAGES {
        let image = sample(number, 58);
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        let message = submit(number, &image, true);
        connection.send(&message, &image.bytes).await.unwrap();
        loop {
            match connection.next().await.unwrap() {
                ServerMessage::Accepted(_) => {}
                ServerMessage::Result(_) => break,
                other => panic!("unexpected: {other:?}"),
            }
        }
        if number >= WARM_UP {
            times.push(began.elapsed());
        }
    }
    times
}
