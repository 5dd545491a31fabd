//! Tasks from their URL to their verdict, over real files and a real HTTP server.

mod https;

use crate::{
    analyst::{Analyst, Engine},
    fetch,
    pool::{Patience, Pool},
    source::Sources,
};
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use imgsys_analysis::{
    AnalysisError, Classification, Classifier, Depth, Image, Limits, Options, Simulated, View,
};
use imgsys_queue::{Analyze, AnalyzeTask, Begun, Verdict};
use imgsys_service::{Metrics, config::ImagesConfig};
use imgsys_types::{
    Analyzer, Digest, FailureReason, Job, JobId, Owner, Priority, ServerId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::PathBuf,
    time::Duration,
};
use tempfile::TempDir;

const CAT: &[u8] = include_bytes!("../../analysis/tests/files/cat.jpg");
const MAX_IMAGE: u64 = 100_000;
const TIME: Duration = Duration::from_secs(60);

fn analyst(source: &str, classifier: impl Classifier + 'static, time: Duration) -> Analyst {
    analyst_of(source, &ImagesConfig::default(), classifier, time)
}

fn analyst_of(
    source: &str,
    images: &ImagesConfig,
    classifier: impl Classifier + 'static,
    time: Duration,
) -> Analyst {
    let engine = Engine {
        direct_io: true,
        classifier: Box::new(classifier),
        took: Metrics::new("test", "0")
            .unwrap()
            .times("took_seconds", "Time")
            .unwrap(),
        options: Options {
            limits: Limits {
                max_pixels: 1_000_000,
                max_side: 2000,
                max_decode_memory: 16 << 20,
            },
            depth: Depth::Full,
            keep_gps: false,
        },
    };
    let patience = Patience {
        fetch: time,
        begin: time,
        run: time,
    };
    let sources = Sources::parse(&[source.to_owned()]).unwrap();
    let client = fetch::client(images, sources.over_tls()).unwrap();
    Analyst::new(
        engine,
        sources,
        MAX_IMAGE,
        Pool::new(1, 1, patience).unwrap(),
        client,
        None,
    )
}

fn simulated() -> Simulated {
    Simulated::new(Duration::ZERO)
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

fn task(image_url: String, sha256: Digest, size: u64) -> AnalyzeTask {
    AnalyzeTask {
        job: Job {
            id: JobId::generate(),
            owner: Owner::local(),
            sha256,
            name: "cat.jpg".into(),
            size,
            priority: Priority::default(),
            submitted_at: Timestamp::now(),
            server: ServerId::generate(),
        },
        run: 0,
        image_url,
        checksum: None,
        attempt: 1,
        alone: false,
        begun: Begun::default(),
    }
}

/// A directory of images, as a server keeps it.
struct Images(TempDir);

impl Images {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn source(&self) -> String {
        format!("file://{}/", self.0.path().display())
    }

    fn url(&self, sha256: &Digest) -> String {
        let name = sha256.to_string();
        format!("{}{}/{name}", self.source(), &name[..2])
    }

    fn path(&self, sha256: &Digest) -> PathBuf {
        let name = sha256.to_string();
        let folder = self.0.path().join(&name[..2]);
        fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    fn put(&self, bytes: &[u8]) -> Digest {
        let sha256 = digest(bytes);
        fs::write(self.path(&sha256), bytes).unwrap();
        sha256
    }

    async fn verdict(&self, sha256: Digest, size: u64) -> Verdict {
        let task = task(self.url(&sha256), sha256, size);
        analyst(&self.source(), simulated(), TIME)
            .analyze(task)
            .await
    }
}

#[track_caller]
fn assert_failed(verdict: &Verdict, reason: FailureReason) {
    let Verdict::Failed(failure) = verdict else {
        panic!("{verdict:?} is not failed: {reason}");
    };
    assert_eq!(failure.reason, reason, "{failure}");
}

#[track_caller]
fn assert_retry(verdict: &Verdict) {
    assert!(matches!(verdict, Verdict::Retry(_)), "{verdict:?}");
}

#[track_caller]
fn assert_cat(verdict: &Verdict) {
    let Verdict::Done(analysis) = verdict else {
        panic!("{verdict:?} is not done");
    };
    assert_eq!(analysis.analyzer.name, "simulated");
    assert_eq!(analysis.properties.format, "jpeg");
    let size = (analysis.properties.width, analysis.properties.height);
    assert_eq!(size, (451, 300));
}

#[tokio::test]
async fn an_image_in_a_directory_is_analysed() {
    let images = Images::new();
    let sha256 = images.put(CAT);
    assert_cat(&images.verdict(sha256, CAT.len() as u64).await);
}

#[tokio::test]
async fn what_is_no_image_or_too_large_a_one_fails_with_its_reason() {
    let images = Images::new();
    let sha256 = images.put(b"no image");
    let verdict = images.verdict(sha256, 8).await;
    assert_failed(&verdict, FailureReason::UnsupportedFormat);

    let cut = &CAT[..1000];
    let verdict = images.verdict(images.put(cut), 1000).await;
    assert_failed(&verdict, FailureReason::Truncated);

    let verdict = images.verdict(images.put(CAT), MAX_IMAGE + 1).await;
    assert_failed(&verdict, FailureReason::TooLarge);
}

#[tokio::test]
async fn other_bytes_in_the_images_place_are_told() {
    let images = Images::new();
    let sha256 = images.put(CAT);
    let size = CAT.len() as u64;
    for size in [size - 1, size + 1] {
        let verdict = images.verdict(sha256, size).await;
        assert_failed(&verdict, FailureReason::DigestMismatch);
    }

    let mut other = CAT.to_vec();
    other[20_000] ^= 1;
    fs::write(images.path(&sha256), other).unwrap();
    let verdict = images.verdict(sha256, size).await;
    assert_failed(&verdict, FailureReason::DigestMismatch);
}

#[tokio::test]
async fn an_image_that_is_gone_is_missing_but_a_directory_that_is_gone_is_waited_for() {
    let images = Images::new();
    let sha256 = digest(CAT);
    let verdict = images.verdict(sha256, 9).await;
    assert_failed(&verdict, FailureReason::ImageMissing);
    // Now with its folder.
    images.path(&sha256);
    let verdict = images.verdict(sha256, 9).await;
    assert_failed(&verdict, FailureReason::ImageMissing);

    let (source, url) = (images.source(), images.url(&sha256));
    drop(images);
    let analyst = analyst(&source, simulated(), TIME);
    assert_retry(&analyst.analyze(task(url, sha256, 9)).await);
}

#[tokio::test]
async fn links_and_devices_are_not_followed() {
    let size = CAT.len() as u64;
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), CAT).unwrap();

    let images = Images::new();
    let sha256 = digest(CAT);
    symlink(secret.path(), images.path(&sha256)).unwrap();
    let verdict = images.verdict(sha256, size).await;
    assert_failed(&verdict, FailureReason::BadArguments);

    // The folder is the link.
    let elsewhere = Images::new();
    elsewhere.put(CAT);
    let images = Images::new();
    let folder = |images: &Images| images.path(&sha256).parent().unwrap().to_owned();
    fs::remove_dir(folder(&images)).unwrap();
    symlink(
        folder(&elsewhere),
        images.0.path().join(&sha256.to_string()[..2]),
    )
    .unwrap();
    let verdict = images.verdict(sha256, size).await;
    assert_failed(&verdict, FailureReason::BadArguments);

    // A FIFO would hold the thread.
    let images = Images::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, images.path(&sha256), kind, mode, 0).unwrap();
    let verdict = images.verdict(sha256, size).await;
    assert_failed(&verdict, FailureReason::BadArguments);
}

#[tokio::test]
async fn a_url_outside_the_sources_is_not_touched() {
    let (images, other) = (Images::new(), Images::new());
    let sha256 = other.put(CAT);
    let analyst = analyst(&images.source(), simulated(), TIME);
    let neighbour = other.0.path().file_name().unwrap().display();
    let place = other.url(&sha256).replace(&other.source(), "");
    let up = format!("{}../{neighbour}/{place}", images.source());
    for url in [other.url(&sha256), up] {
        let verdict = analyst.analyze(task(url, sha256, CAT.len() as u64)).await;
        assert_failed(&verdict, FailureReason::BadArguments);
    }
}

/// A server that answers every request alike.
async fn serve(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/images/{sha256}", get(|| async { answer }));
    tokio::spawn(async { axum::serve(listener, app).await });
    images_at(address)
}

fn images_at(address: SocketAddr) -> String {
    format!("http://{address}/images/")
}

async fn http_verdict(source: &str, time: Duration) -> Verdict {
    let sha256 = digest(CAT);
    let task = task(format!("{source}{sha256}"), sha256, CAT.len() as u64);
    analyst(source, simulated(), time).analyze(task).await
}

#[tokio::test]
async fn an_image_is_fetched_over_http() {
    let source = serve(CAT).await;
    assert_cat(&http_verdict(&source, TIME).await);
}

#[tokio::test]
async fn a_servers_answers_decide() {
    let missing = serve(StatusCode::NOT_FOUND).await;
    let verdict = http_verdict(&missing, TIME).await;
    assert_failed(&verdict, FailureReason::ImageMissing);

    for status in [
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::UNAUTHORIZED,
    ] {
        let source = serve(status).await;
        assert_retry(&http_verdict(&source, TIME).await);
    }

    let mut longer = CAT.to_vec();
    longer.push(0);
    let mut other = CAT.to_vec();
    other[20_000] ^= 1;
    for bytes in [longer, other, Vec::new()] {
        let source = serve(bytes).await;
        let verdict = http_verdict(&source, TIME).await;
        assert_failed(&verdict, FailureReason::DigestMismatch);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let source = serve(CAT).await;
    let mut headers = HeaderMap::new();
    let target = format!("{source}{}", digest(CAT));
    headers.insert(header::LOCATION, target.parse().unwrap());
    let redirecting = serve((StatusCode::FOUND, headers)).await;
    assert_retry(&http_verdict(&redirecting, TIME).await);
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_at_the_images_size() {
    let endless = || {
        let parts = std::iter::repeat_with(|| Ok::<_, std::io::Error>(vec![7_u8; 8192]));
        axum::body::Body::from_stream(futures::stream::iter(parts))
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let source = images_at(listener.local_addr().unwrap());
    let app = Router::new().route("/images/{sha256}", get(move || async move { endless() }));
    tokio::spawn(async { axum::serve(listener, app).await });
    let verdict = http_verdict(&source, TIME).await;
    assert_failed(&verdict, FailureReason::DigestMismatch);
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_tried_again() {
    // Nobody listens where a listener has been.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_retry(&http_verdict(&images_at(address), TIME).await);

    // This one accepts and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let source = images_at(silent.local_addr().unwrap());
    assert_retry(&http_verdict(&source, Duration::from_millis(100)).await);
}

/// Breaks down over every image.
#[derive(Debug)]
struct Broken(Analyzer);

impl Classifier for Broken {
    fn analyzer(&self) -> &Analyzer {
        &self.0
    }

    fn view(&self) -> Option<View> {
        None
    }

    fn classify(&self, _image: &Image<'_>) -> Result<Classification, AnalysisError> {
        panic!("index out of bounds")
    }
}

#[tokio::test]
async fn a_panic_fails_its_image_only() {
    let images = Images::new();
    let sha256 = images.put(CAT);
    let broken = Broken(Analyzer {
        name: "broken".into(),
        version: "0".into(),
        model: None,
    });
    let analyst = analyst(&images.source(), broken, TIME);
    for _ in 0..2 {
        let task = task(images.url(&sha256), sha256, CAT.len() as u64);
        let verdict = analyst.analyze(task).await;
        assert_failed(&verdict, FailureReason::AnalyzerError);
    }
}

#[tokio::test]
async fn an_analysis_that_takes_too_long_times_out() {
    let images = Images::new();
    let sha256 = images.put(CAT);
    let slow = Simulated::new(Duration::from_secs(2));
    let analyst = analyst(&images.source(), slow, Duration::from_millis(50));
    let task = task(images.url(&sha256), sha256, CAT.len() as u64);
    assert_failed(&analyst.analyze(task).await, FailureReason::Timeout);
}
