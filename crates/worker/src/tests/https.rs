//! Images over https, with a token.

use super::{CAT, TIME, analyst_of, assert_cat, digest, simulated, task};
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    routing::get,
};
use imgsys_queue::{Analyze, Verdict};
use imgsys_service::{config::ImagesConfig, http};
use imgsys_tls::{
    Identity, ServerFiles,
    testing::{TestCa, TestCertificate},
};
use std::{fs, net::Ipv4Addr, path::Path, sync::Arc};
use tokio_util::sync::CancellationToken;

/// What is right, so that it can be looked for where it must not be.
const SECRET: &str = "imgsys_xyzzy";

/// A server with this certificate that asks for a token.
async fn serve(shown: TestCertificate) -> String {
    let TestCertificate { certificate, key } = shown;
    let files = ServerFiles {
        certificate,
        key,
        client_ca: None,
    };
    let identity = Some(Arc::new(Identity::open(files).unwrap()));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let image = async |headers: HeaderMap| {
        let shown = headers.get(header::AUTHORIZATION);
        if shown.is_some_and(|shown| shown == format!("Bearer {SECRET}").as_str()) {
            Ok(CAT)
        } else {
            Err(StatusCode::UNAUTHORIZED)
        }
    };
    let app = Router::new().route("/images/{sha256}", get(image));
    tokio::spawn(http::serve(
        listener,
        identity,
        app,
        CancellationToken::new(),
    ));
    format!("https://{address}/images/")
}

async fn verdict(source: &str, images: &ImagesConfig) -> Verdict {
    let sha256 = digest(CAT);
    let task = task(format!("{source}{sha256}"), sha256, CAT.len() as u64);
    analyst_of(source, images, simulated(), TIME)
        .analyze(task)
        .await
}

fn images(dir: &Path, ca: &TestCa, secret: Option<&str>) -> ImagesConfig {
    let file = |secret: &str| {
        let file = dir.join("token");
        fs::write(&file, format!("{secret}\n")).unwrap();
        file
    };
    ImagesConfig {
        token_file: secret.map(file),
        ca: Some(ca.file.clone()),
    }
}

#[tokio::test]
async fn an_image_is_fetched_over_https_with_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let ca = TestCa::new(dir.path(), "ca");
    let other = TestCa::new(dir.path(), "other");
    let source = serve(ca.sign(&["127.0.0.1"])).await;
    let right = images(dir.path(), &ca, Some(SECRET));
    assert_cat(&verdict(&source, &right).await);

    // What is wrong with a worker costs no image: each is tried again, and says what to do.
    for (ca, secret, why) in [
        (&ca, None, "does not accept our token"),
        (&ca, Some("imgsys_plugh"), "worker.images.token_file"),
        (&other, Some(SECRET), "signed by nobody whom we trust"),
    ] {
        let images = images(dir.path(), ca, secret);
        match verdict(&source, &images).await {
            Verdict::Retry(text) => {
                assert!(text.contains(why), "{text}");
                assert!(!text.contains("imgsys_"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    let right = images(dir.path(), &ca, Some(SECRET));
    let elsewhere = serve(ca.sign(&["elsewhere"])).await;
    let Verdict::Retry(text) = verdict(&elsewhere, &right).await else {
        panic!("it is for another name");
    };
    assert!(text.contains("for another name"), "{text}");
}

#[test]
fn a_file_without_a_token_is_told_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let ca = TestCa::new(dir.path(), "ca");
    for secret in ["", "two words", "line\nline", "\u{1}"] {
        let images = images(dir.path(), &ca, Some(secret));
        let error = crate::fetch::client(&images, true).unwrap_err().to_string();
        assert!(error.contains("holds no token"), "{error}");
    }
}
