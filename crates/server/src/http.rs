//! The HTTP side listener: health and metrics, as all programs have them, and images for workers on
//! other machines.

use crate::{auth::Scope, metrics::ServerProbe, shared::Shared};
use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use imgsys_service::http as side;
use imgsys_types::Digest;
use std::{io, sync::Arc};
use tokio::{fs::File, net::TcpListener};
use tokio_util::{io::ReaderStream, sync::CancellationToken};
use tracing::error;

/// Bytes of an image in memory at once, for each request.
const CHUNK: usize = 64 << 10;

/// Serves until `shutdown`.
pub(crate) async fn run(probe: ServerProbe, listener: TcpListener, shutdown: CancellationToken) {
    let images = Router::new()
        .route("/images/{sha256}", get(image))
        .with_state(Arc::clone(&probe.shared));
    let shared = &probe.shared;
    let identity = shared.tls.clone().filter(|_| shared.config.server.tls.http);
    let metrics = shared.metrics.all();
    let routes = side::routes(metrics, probe).merge(images);
    side::serve(listener, identity, routes, shutdown).await;
}

async fn image(
    State(shared): State<Arc<Shared>>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Response {
    let secret = headers.get(header::AUTHORIZATION);
    let secret = secret.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match shared.tokens.admit(secret, None) {
        Ok(grant) if grant.allows(Scope::Worker) => {}
        Ok(_) => {
            return (StatusCode::FORBIDDEN, "the token lacks the scope worker\n").into_response();
        }
        Err(refused) => {
            let scheme = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (StatusCode::UNAUTHORIZED, scheme, format!("{refused}\n")).into_response();
        }
    }
    // A digest is 64 hexadecimal digits: no path leads anywhere else.
    let Ok(digest) = sha256.parse::<Digest>() else {
        let text = "write /images/ and the image's SHA-256 in 64 hexadecimal digits\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    match open(&shared, &digest).await {
        Ok((file, len)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, len.to_string()),
            ];
            let body = Body::from_stream(ReaderStream::with_capacity(file, CHUNK));
            (headers, body).into_response()
        }
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            (StatusCode::NOT_FOUND, "no such image\n").into_response()
        }
        Err(problem) => {
            error!(%digest, "reading an image: {problem}");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the image can't be read\n",
            )
                .into_response()
        }
    }
}

async fn open(shared: &Shared, digest: &Digest) -> io::Result<(File, u64)> {
    let file = File::open(shared.store.image_path(digest)).await?;
    let len = file.metadata().await?.len();
    Ok((file, len))
}
