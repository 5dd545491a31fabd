//! The imgsys server: takes images, keeps them, puts a task for each on the queue, tells the
//! clients how it went, and answers questions about the history.
//!
//! ```text
//! client ──► session ──► submit ──► store (spool, images)       accepted: never lost from here on
//!                          │
//!                        book ──► dispatch ──► Redis ──► workers
//!                          ▲                              │
//! client ◄── writer ◄── outbox ◄── deliver ◄── Pub/Sub ◄──┘     what Pub/Sub missed: reconcile
//! ```
//!
//! Accepting needs neither Redis nor PostgreSQL; a job leaves the spool once it is in the database.

mod allowed;
mod auth;
mod book;
pub mod cli;
mod delete;
mod deliver;
mod dispatch;
mod greeting;
mod history;
mod http;
mod metrics;
mod outbox;
mod quota;
mod reanalyze;
mod recent;
mod reconcile;
mod requests;
mod retention;
mod schedule;
mod session;
mod shared;
mod similar;
mod submit;
mod tls;
mod unfinished;
mod watch;
mod writer;

use crate::{
    auth::Tokens,
    book::Book,
    metrics::{ServerMetrics, ServerProbe},
    shared::Shared,
};
use anyhow::Context;
use imgsys_history::read::Reader;
use imgsys_queue::Producer;
use imgsys_service::{Config, Exit, config::Durability, ready};
use imgsys_store::{Store, StoreOptions};
use imgsys_tls::Identity;
use imgsys_types::{ErrorCode, Timestamp};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

/// How long a peer may leave packets unacknowledged before its connection counts as dead.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the server until `shutdown`, then drains.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Exit> {
    let drain = config.server.drain;
    let tokens = Tokens::open(config.auth.tokens_file.clone())
        .map_err(|problem| Exit::Usage(problem.to_string()))?;
    let listener = bind(&config.server.listen).await?;
    guard(&config, &listener)?;
    let http = match config.server.http_listen.as_str() {
        "" => None,
        address => Some(bind(address).await?),
    };
    if let Some(http) = &http {
        guard(&config, http)?;
    }
    let identity = tls::open(&config)?;
    if identity.is_none() && is_open(&listener)? {
        warn!(
            "clients on other machines are served without TLS (server.tls): images and tokens go over the \
             network in plain"
        );
    }
    let shared = Arc::new(open(config, tokens, identity).await?);
    let mut facts = vec![("LISTEN", address(&listener)?)];
    if let Some(http) = &http {
        facts.push(("HTTP", address(http)?));
    }
    info!(server = %shared.server, spool = shared.store.len(), "listening on {}", facts[0].1);

    // What is behind the scenes goes on until the clients are done.
    let behind = CancellationToken::new();
    let parts = TaskTracker::new();
    let events = imgsys_queue::listen(
        &shared.config.redis.secret_url()?,
        shared.server,
        behind.clone(),
    );
    parts.spawn(deliver::run(Arc::clone(&shared), events, behind.clone()));
    parts.spawn(dispatch::run(Arc::clone(&shared), behind.clone()));
    parts.spawn(dispatch::tell(Arc::clone(&shared), behind.clone()));
    parts.spawn(reconcile::run(Arc::clone(&shared), behind.clone()));
    parts.spawn({
        let (shared, behind) = (Arc::clone(&shared), behind.clone());
        async move { shared.tokens.follow(behind).await }
    });
    parts.spawn(delete::collect(Arc::clone(&shared), behind.clone()));
    if let Some(identity) = shared.tls.clone() {
        parts.spawn(tls::follow(identity, behind.clone()));
    }
    if let Some(keep) = shared.config.server.keep_images {
        parts.spawn(retention::run(Arc::clone(&shared), keep, behind.clone()));
    }
    if let Some(http) = http {
        let probe = ServerProbe {
            shared: Arc::clone(&shared),
            shutdown: shutdown.clone(),
        };
        parts.spawn(http::run(probe, http, behind.clone()));
    }
    ready(&facts);

    let clients = TaskTracker::new();
    let broken = tokio::select! {
        () = accept(&shared, &listener, &clients, &shutdown) => false,
        () = shared.store.broken() => true,
    };
    drop(listener);
    shutdown.cancel();
    clients.close();
    if tokio::time::timeout(drain, clients.wait()).await.is_err() {
        warn!("{} clients are cut off", clients.len());
    }
    behind.cancel();
    parts.close();
    parts.wait().await;
    if broken {
        let cause = anyhow::anyhow!("a flush to the disk failed: start again to see what is left");
        return Err(Exit::Failed(cause));
    }
    info!(spool = shared.store.len(), "shut down");
    shared.store.clone().close().await;
    Ok(())
}

async fn bind(address: &str) -> Result<TcpListener, Exit> {
    let listener = TcpListener::bind(address).await;
    Ok(listener.with_context(|| format!("listening on {address}"))?)
}

/// What is wrong with the configuration beyond its form. Needs a Tokio runtime.
fn check(config: &Config) -> Result<(), Exit> {
    Tokens::open(config.auth.tokens_file.clone())
        .map_err(|problem| Exit::Usage(problem.to_string()))?;
    tls::open(config)?;
    for address in [&config.server.listen, &config.server.http_listen] {
        // A name is judged by what it stands for when the server starts.
        if let Ok(address) = address.parse() {
            guard_address(config, address)?;
        }
    }
    Producer::new(&config.redis.secret_url()?).context("redis.url")?;
    Reader::new(&config.database.secret_url()?, config.database.pool).context("database.url")?;
    Ok(())
}

fn guard(config: &Config, listener: &TcpListener) -> Result<(), Exit> {
    guard_address(config, own_address(listener)?)
}

fn own_address(listener: &TcpListener) -> Result<SocketAddr, Exit> {
    let address = listener.local_addr();
    Ok(address.context("asking for the own address")?)
}

/// Whether others can reach it.
fn is_open(listener: &TcpListener) -> Result<bool, Exit> {
    Ok(!own_address(listener)?.ip().is_loopback())
}

/// Refuses to listen where others can reach it if everybody might do everything.
fn guard_address(config: &Config, address: SocketAddr) -> Result<(), Exit> {
    let auth = &config.auth;
    if address.ip().is_loopback() || auth.tokens_file.is_some() || auth.insecure {
        return Ok(());
    }
    Err(Exit::Usage(format!(
        "{address} can be reached by others, and there are no tokens: set auth.tokens_file (`imgsys-server \
         token new` makes a token), listen on 127.0.0.1, or set auth.insecure = true if everybody may do \
         everything"
    )))
}

fn address(listener: &TcpListener) -> Result<String, Exit> {
    Ok(own_address(listener)?.to_string())
}

/// Opens the store and fills the book from it.
async fn open(config: Config, tokens: Tokens, tls: Option<Arc<Identity>>) -> Result<Shared, Exit> {
    let options = StoreOptions {
        dir: config.server.data_dir.clone(),
        images_dir: config.server.images_dir.clone(),
        durability: match config.server.durability {
            Durability::Fsync => imgsys_store::Durability::Fsync,
            Durability::None => imgsys_store::Durability::None,
        },
        direct_io: config.server.direct_io,
        min_free: config.server.min_free.get(),
    };
    let opened = tokio::task::spawn_blocking(move || {
        let store = Store::open(options)?;
        let mut book = Book::new(Timestamp::now());
        book.reserve(store.len());
        store.recover(|recovered| book.recover(&recovered))?;
        Ok::<_, imgsys_store::StoreError>((store, book))
    });
    let opened = opened.await.context("opening the store")?;
    let (store, book) = opened.context("opening the store")?;
    let producer = Producer::new(&config.redis.secret_url()?).context("redis.url")?;
    let mut producer = producer.with_result_expires(config.celery.result_expires);
    if config.celery.sent_events {
        producer = producer.with_sent_events();
    }
    let reader = Reader::new(&config.database.secret_url()?, config.database.pool)
        .context("database.url")?;
    let metrics = ServerMetrics::new().context("starting the metrics")?;
    let shared = Shared::new(
        config,
        (tokens, tls),
        store,
        producer,
        reader,
        metrics,
        book,
    );
    Ok(shared.context("reading the store")?)
}

/// Takes in clients until `shutdown`.
async fn accept(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    clients: &TaskTracker,
    shutdown: &CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(shared, stream, peer, clients, shutdown),
            Err(problem) => {
                // Mostly too many open files: those who are connected make room in time.
                error!("accepting a connection: {problem}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    clients: &TaskTracker,
    shutdown: &CancellationToken,
) {
    if let Err(problem) = tune(&stream) {
        warn!(%peer, "setting up a connection: {problem}");
        return;
    }
    shared.metrics.connected.inc();
    let most = shared.config.limits.max_connections;
    let shared = Arc::clone(shared);
    if shared.connections.fetch_add(1, Ordering::Relaxed) >= most {
        clients.spawn(async move {
            let code = ErrorCode::TooManyConnections;
            shared.metrics.goodbyes.add(&code, 1);
            greeting::turn_away(&shared, stream, most).await;
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        });
        return;
    }
    let shutdown = shutdown.clone();
    clients.spawn(async move {
        session::serve(Arc::clone(&shared), stream, peer, shutdown).await;
        shared.connections.fetch_sub(1, Ordering::Relaxed);
    });
}

/// Answers go out at once, and a peer that is gone is found out.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PEER_TIMEOUT)?;
    sockopt::set_tcp_keepintvl(stream, PEER_TIMEOUT / 3)?;
    let millis = u32::try_from(PEER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, millis)?;
    Ok(())
}
