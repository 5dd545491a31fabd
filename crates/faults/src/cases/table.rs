//! All cases.

use super::{
    Case, How, Mark, client, clock, disk, many, network, persister, postgres, redis, server, worker,
};
use crate::scene::{Between, Scene, Stage};

use How::{Kill, Term};

/// Nothing out of the ordinary.
fn plain(_: &mut Stage) -> anyhow::Result<()> {
    Ok(())
}

const fn case(
    name: &'static str,
    about: &'static str,
    stage: fn(&mut Stage) -> anyhow::Result<()>,
    act: fn(&Scene) -> anyhow::Result<Mark>,
) -> Case {
    Case {
        name,
        about,
        stage,
        act,
        within: None,
        in_chaos: false,
    }
}

impl Case {
    const fn within(mut self, seconds: f64) -> Self {
        self.within = Some(seconds);
        self
    }

    const fn in_chaos(mut self) -> Self {
        self.in_chaos = true;
        self
    }
}

/// Every fault that is known, by the part that it hits.
pub const CASES: &[Case] = &[
    case(
        "worker-kill9",
        "one of two workers is killed in the midst of a task",
        worker::slow,
        |s| worker::one(s, Kill),
    )
    .within(2.0)
    .in_chaos(),
    case(
        "worker-term",
        "one of two workers is asked to stop",
        worker::slow,
        |s| worker::one(s, Term),
    )
    .in_chaos(),
    case(
        "workers-kill9",
        "all workers are killed",
        worker::slow,
        |s| worker::all(s, Kill),
    )
    .within(2.0)
    .in_chaos(),
    case(
        "workers-term",
        "all workers are asked to stop",
        worker::slow,
        |s| worker::all(s, Term),
    )
    .in_chaos(),
    case(
        "server-receiving-kill9",
        "the server is killed with half of an image",
        server::short_drain,
        |s| server::receiving(s, Kill),
    ),
    case(
        "server-receiving-term",
        "the server is stopped with half of an image",
        server::short_drain,
        |s| server::receiving(s, Term),
    ),
    case(
        "server-waiting-kill9",
        "the server is killed while it waits for results",
        server::short_drain,
        |s| server::waiting(s, Kill),
    )
    .in_chaos(),
    case(
        "server-waiting-term",
        "the server is stopped while it waits for results",
        server::short_drain,
        |s| server::waiting(s, Term),
    )
    .in_chaos(),
    case(
        "server-sending-kill9",
        "the server is killed three times while it sends results",
        server::short_drain,
        |s| server::sending(s, Kill),
    )
    .in_chaos(),
    case(
        "server-sending-term",
        "the server is stopped three times while it sends results",
        server::short_drain,
        |s| server::sending(s, Term),
    )
    .in_chaos(),
    case(
        "persister-batch-kill9",
        "the persister is killed within a transaction",
        plain,
        |s| persister::in_batch(s, Kill),
    ),
    case(
        "persister-batch-term",
        "the persister is stopped within a transaction",
        plain,
        |s| persister::in_batch(s, Term),
    ),
    case(
        "persister-acking-kill9",
        "the persister is killed between commit and XACK",
        plain,
        |s| persister::before_ack(s, Kill),
    ),
    case(
        "persister-acking-term",
        "the persister is stopped between commit and XACK",
        plain,
        |s| persister::before_ack(s, Term),
    ),
    case(
        "redis-kill9",
        "Redis is killed, and has its append-only file",
        plain,
        |s| redis::again(s, Kill),
    )
    .within(1.0)
    .in_chaos(),
    case("redis-term", "Redis is stopped and started", plain, |s| {
        redis::again(s, Term)
    })
    .within(1.0)
    .in_chaos(),
    case(
        "redis-wiped",
        "Redis forgets everything (FLUSHALL)",
        plain,
        redis::wiped,
    )
    .within(1.0)
    .in_chaos(),
    case(
        "redis-new-disk",
        "Redis is killed and loses its disk",
        plain,
        redis::new_disk,
    )
    .within(1.0)
    .in_chaos(),
    case("redis-away", "Redis is away for 15 s", plain, redis::away).within(1.0),
    case(
        "redis-frozen",
        "Redis answers nothing for 5 s",
        plain,
        redis::frozen,
    )
    .within(1.0)
    .in_chaos(),
    case(
        "redis-loading",
        "Redis answers -LOADING",
        plain,
        redis::loading,
    )
    .within(1.0),
    case(
        "redis-readonly",
        "Redis answers -READONLY for 5 s",
        plain,
        redis::readonly,
    )
    .within(1.0)
    .in_chaos(),
    case("redis-oom", "Redis answers -OOM for 5 s", plain, redis::oom)
        .within(1.0)
        .in_chaos(),
    case(
        "pubsub-cut",
        "the Pub/Sub connections are cut, five times",
        plain,
        redis::pubsub,
    )
    .in_chaos(),
    case(
        "postgres-away",
        "PostgreSQL is away for 15 s",
        plain,
        postgres::away,
    ),
    case("postgres-kill9", "PostgreSQL is killed", plain, |s| {
        postgres::again(s, Kill)
    })
    .in_chaos(),
    case(
        "postgres-term",
        "PostgreSQL is stopped and started",
        plain,
        |s| postgres::again(s, Term),
    )
    .in_chaos(),
    case(
        "postgres-frozen",
        "PostgreSQL answers nothing for 5 s",
        plain,
        postgres::frozen,
    )
    .in_chaos(),
    case(
        "postgres-readonly",
        "PostgreSQL takes no writes for 5 s",
        plain,
        postgres::readonly,
    )
    .in_chaos(),
    case(
        "postgres-connections",
        "PostgreSQL has no connection left for 5 s",
        plain,
        postgres::connections,
    )
    .in_chaos(),
    case(
        "half-open-clients-server",
        "clients and server: packets vanish",
        network::linked,
        |s| network::vanish(s, Between::ClientsServer),
    )
    .in_chaos(),
    case(
        "half-open-server-redis",
        "server and Redis: packets vanish",
        network::linked,
        |s| network::vanish(s, Between::ServerRedis),
    )
    .in_chaos(),
    case(
        "half-open-workers-redis",
        "workers and Redis: packets vanish",
        network::linked,
        |s| network::vanish(s, Between::WorkersRedis),
    )
    .in_chaos(),
    case(
        "half-open-persister-redis",
        "persister and Redis: packets vanish",
        network::linked,
        |s| network::vanish(s, Between::PersisterRedis),
    )
    .in_chaos(),
    case(
        "half-open-server-postgres",
        "server and PostgreSQL: packets vanish",
        network::linked,
        |s| network::vanish(s, Between::ServerPostgres),
    )
    .in_chaos(),
    case(
        "half-open-persister-postgres",
        "persister and PostgreSQL: packets vanish",
        network::linked,
        network::vanish_from_persister,
    )
    .in_chaos(),
    case(
        "half-open-workers-server",
        "workers and the server's images: packets vanish",
        network::linked,
        |s| network::vanish(s, Between::WorkersServer),
    )
    .in_chaos(),
    case(
        "cut-all",
        "every connection is cut, five times",
        network::linked,
        network::cut,
    )
    .in_chaos(),
    case(
        "clock-server",
        "the server's clock goes an hour ahead, then back",
        |s| clock::fake(s, "server"),
        clock::back_and_forth,
    ),
    case(
        "clock-worker",
        "a worker's clock goes an hour ahead, then back",
        |s| clock::fake(s, "worker-1"),
        clock::back_and_forth,
    ),
    case(
        "clock-persister",
        "the persister's clock goes an hour ahead, then back",
        |s| clock::fake(s, "persister"),
        clock::back_and_forth,
    ),
    case(
        "disk-full-images",
        "the disk of the images is full",
        disk::images,
        |s| disk::full(s, "server/images"),
    ),
    case(
        "disk-full-spool",
        "the disk of the spool is full",
        disk::spool,
        |s| disk::full(s, "server"),
    ),
    case(
        "disk-full-postgres",
        "the disk of PostgreSQL is full",
        disk::postgres,
        disk::postgres_full,
    ),
    case(
        "disk-failing",
        "the server's disk fails a flush, and is replaced",
        disk::failing,
        disk::fails,
    ),
    case(
        "client-kill9",
        "a client is killed and resumed with `imgsys wait`",
        client::without_tokens,
        |s| client::resumed(s, Kill),
    ),
    case(
        "client-term",
        "a client is stopped and resumed with `imgsys wait`",
        client::without_tokens,
        |s| client::resumed(s, Term),
    ),
    case(
        "same-job-twice",
        "two connections send the same jobs at once",
        plain,
        client::same_job_twice,
    )
    .in_chaos(),
    case(
        "two-servers-kill9",
        "two servers on one Redis, one of them killed",
        many::two_servers,
        |s| many::server_ends(s, Kill),
    ),
    case(
        "two-servers-term",
        "two servers on one Redis, one of them stopped",
        many::two_servers,
        |s| many::server_ends(s, Term),
    ),
    case(
        "two-persisters-kill9",
        "two persisters, one of them killed within a transaction",
        many::two_persisters,
        |s| many::persister_ends(s, Kill),
    ),
    case(
        "two-persisters-term",
        "two persisters, one of them stopped within a transaction",
        many::two_persisters,
        |s| many::persister_ends(s, Term),
    ),
    case(
        "poison",
        "three images kill every worker that touches them",
        many::poisoned,
        many::poison,
    ),
    case(
        "10000-queued",
        "10 000 are queued when everything is killed and started at once",
        many::large,
        many::queued,
    ),
    case(
        "rolling-restart",
        "each program is restarted in turn; `imgsys send` sees no error",
        many::rolling_stage,
        many::rolling,
    ),
];
