//! The HTTP side listener of a program: whether it lives, whether it can work, its metrics.
//!
//! | path | tells |
//! |---|---|
//! | `/livez` | 200 while the process runs: anything else, or nothing, means start it again |
//! | `/readyz` | 200 if it can do its work, else 503; in JSON, what of that which it needs is down |
//! | `/metrics` | the metrics, in Prometheus' text format |
//!
//! A look at the parts is at most [`FRESH`] old, so that nobody can make a program ask Redis or
//! PostgreSQL more often by asking it.

use crate::Metrics;
use anyhow::Context;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use imgsys_tls::Identity;
use serde::Serialize;
use std::{
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Mutex, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

/// How old what is told of the parts may be.
pub const FRESH: Duration = Duration::from_secs(1);
/// How long the parts may take to answer before they count as down.
pub const LOOK: Duration = Duration::from_secs(2);
/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// How long a peer may take over the head of a request, and keep an unused connection.
const HEAD: Duration = Duration::from_secs(10);
/// How long requests may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(2);

/// Whether a program can work, and what it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether it can do its work now.
    pub ready: bool,
    /// What is down of that which it needs. A server works without Redis and PostgreSQL for a
    /// while, so it may be ready all the same.
    pub down: Vec<&'static str>,
}

/// Looks after the parts that a program needs.
pub trait Probe: Send + Sync + 'static {
    /// Asks them, and brings the gauges up to date that are not kept so anyway.
    fn look(&self) -> impl Future<Output = Readiness> + Send;
}

struct Side<P> {
    probe: P,
    metrics: Metrics,
    last: Mutex<Option<(Instant, Readiness)>>,
}

impl<P: Probe> Side<P> {
    async fn look(&self) -> Readiness {
        // Whoever comes during a look waits for its end.
        let mut last = self.last.lock().await;
        if let Some((at, readiness)) = &*last
            && at.elapsed() < FRESH
        {
            return readiness.clone();
        }
        let readiness = self.probe.look().await;
        *last = Some((Instant::now(), readiness.clone()));
        readiness
    }
}

/// Listens at this address, unless it is empty, and serves what all programs have until the process
/// ends. Whoever started it is told the address that it got, as `HTTP`. Several programs of a kind may
/// run on a machine with one configuration: those that find the port taken do without.
pub async fn start<P: Probe>(address: &str, metrics: Metrics, probe: P) -> anyhow::Result<()> {
    if address.is_empty() {
        return Ok(());
    }
    let doing = || format!("listening on {address}");
    let listener = match TcpListener::bind(address).await {
        Err(taken) if taken.kind() == ErrorKind::AddrInUse => {
            warn!(
                "no health and metrics: {address} is in use; http_listen = \"…:0\" takes a free port"
            );
            return Ok(());
        }
        listener => listener.with_context(doing)?,
    };
    let got = listener.local_addr().with_context(doing)?;
    info!("health and metrics at http://{got}");
    crate::tell(&[("HTTP", got.to_string())]);
    let routes = routes(metrics, probe);
    tokio::spawn(serve(listener, None, routes, CancellationToken::new()));
    Ok(())
}

/// The paths that all programs have.
pub fn routes<P: Probe>(metrics: Metrics, probe: P) -> Router {
    let side = Side {
        probe,
        metrics,
        last: Mutex::new(None),
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<P>))
        .route("/metrics", get(metrics_text::<P>))
        .with_state(Arc::new(side))
}

async fn ready<P: Probe>(State(side): State<Arc<Side<P>>>) -> impl IntoResponse {
    let readiness = side.look().await;
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

async fn metrics_text<P: Probe>(State(side): State<Arc<Side<P>>>) -> impl IntoResponse {
    side.look().await;
    let kind = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
    (kind, side.metrics.render())
}

/// Serves until `shutdown`, then finishes the requests under way, but not for long. With an identity
/// it serves over TLS alone.
pub async fn serve(
    listener: TcpListener,
    identity: Option<Arc<Identity>>,
    routes: Router,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let acceptor = identity.as_ref().map(|identity| identity.acceptor());
                let (routes, shutdown) = (routes.clone(), shutdown.clone());
                connections.spawn(async move {
                    let _place = place;
                    let Some(acceptor) = acceptor else {
                        return connection(stream, routes, shutdown).await;
                    };
                    match timeout(HEAD, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, routes, shutdown).await,
                        Ok(Err(problem)) => debug!("no TLS on the HTTP side listener: {problem}"),
                        Err(_) => debug!("TLS on the HTTP side listener took too long"),
                    }
                });
            }
            Err(problem) => {
                // Mostly too many open files.
                error!("accepting on the HTTP side listener: {problem}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        debug!("{} HTTP connections are cut off", connections.len());
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: Router,
    shutdown: CancellationToken,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            timeout(DRAIN, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(problem) = served {
        debug!("an HTTP connection ended: {problem}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    struct Counted(Arc<AtomicUsize>);

    impl Probe for Counted {
        async fn look(&self) -> Readiness {
            self.0.fetch_add(1, Ordering::Relaxed);
            Readiness {
                ready: false,
                down: vec!["redis"],
            }
        }
    }

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn what_is_down_is_told_without_asking_it_each_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let looks = Arc::new(AtomicUsize::new(0));
        let metrics = Metrics::new("probe", "0").unwrap();
        let routes = routes(metrics, Counted(Arc::clone(&looks)));
        let shutdown = CancellationToken::new();
        let begun = Instant::now();
        let serving = tokio::spawn(serve(listener, None, routes, shutdown.clone()));
        for _ in 0..20 {
            let answer = ask(address, "/readyz").await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(
                answer.ends_with(r#"{"ready":false,"down":["redis"]}"#),
                "{answer}"
            );
            assert!(ask(address, "/metrics").await.contains("imgsys_build_info"));
        }
        assert!(ask(address, "/livez").await.ends_with("ok\n"));
        assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404 "));
        let most = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
        assert!(looks.load(Ordering::Relaxed) <= most, "{looks:?} looks");

        // Half a request does not hold up the end.
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /livez HT").await.unwrap();
        shutdown.cancel();
        let ended = timeout(DRAIN * 3, serving).await;
        ended.expect("it ends in time").unwrap();
    }
}
