//! How long one image takes on an idle system, from `submit` to `result`: 10 KB, one at a time;
//! then the same beside 5 000 clients that are connected and say nothing, and what those take of the
//! server's memory.
//!
//! `make bench-latency` runs this with the programs that are built for development.

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
use std::{
    fmt,
    time::{Duration, Instant},
};

/// The pause before each image, so that the system is idle when it comes.
const PAUSE: Duration = Duration::from_millis(20);
const WARM_UP: u64 = 20;
const IMAGES: u64 = 300;
const IDLE: usize = 5000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for durability in ["fsync", "none"] {
        let builder = Stack::builder().workers(1);
        let stack = builder
            .set("server.durability", durability)
            .start()
            .unwrap();
        let address = stack.address();
        let alone = runtime.block_on(measure(&address));
        println!("durability {durability:5}: {alone}");
        if durability == "fsync" {
            let server = stack.server().pid().unwrap();
            let before = resident(server);
            let idle = runtime.block_on(connect(&address));
            let each = (resident(server) - before) / idle.len() as u64;
            let beside = runtime.block_on(measure(&address));
            println!("beside {IDLE} idle connections: {beside}");
            println!(
                "p50 {:.2} times that alone; {each} bytes of the server's memory a connection",
                beside.at(50) / alone.at(50)
            );
        }
    }
}

/// How long images took, shortest first.
struct Times(Vec<Duration>);

impl Times {
    /// Milliseconds within which so many in a hundred were done.
    fn at(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100].as_secs_f64() * 1e3
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.2} ms, p95 {:.2} ms, max {:.2} ms ({} images of 10 KB)",
            self.at(50),
            self.at(95),
            self.at(100),
            self.0.len()
        )
    }
}

/// Clients that have said hello and want nothing.
async fn connect(address: &str) -> Vec<Connection> {
    let mut idle = Vec::with_capacity(IDLE);
    while idle.len() < IDLE {
        idle.push(Connection::open(address).await.unwrap());
    }
    idle
}

/// A process's resident memory in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() << 10
}

async fn measure(address: &str) -> Times {
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
    times.sort_unstable();
    Times(times)
}
