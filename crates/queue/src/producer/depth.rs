//! How much lies in Redis.

use super::Producer;
use crate::QueueError;
use imgsys_types::ServerId;

/// How much lies in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Tasks that wait for a worker, of all servers.
    pub waiting: u64,
    /// Messages that workers hold, of all queues in this database.
    pub held: u64,
    /// Tasks that were taken over from dead workers and have not ended.
    pub taken_over: u64,
    /// Dead letters.
    pub dead: u64,
    /// Jobs of the server that was asked for which are not in the database yet.
    pub open: u64,
    /// Bytes of memory that Redis uses.
    pub used_memory: u64,
    /// Bytes of memory that Redis may use; 0 if there is no limit.
    pub max_memory: u64,
}

impl Depth {
    /// How much of its memory Redis uses: 0 to 1, and 0 if there is no limit.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub fn memory_load(&self) -> f64 {
        if self.max_memory == 0 {
            0.0
        } else {
            self.used_memory as f64 / self.max_memory as f64
        }
    }
}

impl Producer {
    /// How much lies in Redis, and how many jobs of this server are open.
    pub async fn depth(&self, server: ServerId) -> Result<Depth, QueueError> {
        let mut pipeline = redis::pipe();
        for list in self.keys().queue_lists() {
            pipeline.cmd("LLEN").arg(list);
        }
        pipeline.cmd("HLEN").arg(self.keys().unacked());
        pipeline.cmd("HLEN").arg(self.keys().takeovers());
        pipeline.cmd("LLEN").arg(self.keys().dead());
        pipeline.cmd("HLEN").arg(self.keys().open(server));
        pipeline.cmd("INFO").arg("memory");
        let (a, b, c, d, held, taken_over, dead, open, info): (
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            String,
        ) = self
            .link
            .pipeline(&pipeline)
            .await
            .map_err(QueueError::unavailable("tell how much it holds"))?;
        let number = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok())
                .unwrap_or(0)
        };
        Ok(Depth {
            waiting: a + b + c + d,
            held,
            taken_over,
            dead,
            open,
            used_memory: number("used_memory:"),
            max_memory: number("maxmemory:"),
        })
    }
}
