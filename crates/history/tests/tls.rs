//! PostgreSQL over TLS: each `sslmode` against a server that has it, and what is said if not.

#![allow(clippy::unwrap_used)]

use imgsys_history::{ReadError, Reader, Writer, connect, migrate};
use imgsys_local::TestPostgres;
use imgsys_tls::testing::{TestCa, TestCertificate};
use postgres::{Client, NoTls};
use std::{
    error::Error,
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

/// A server on a port of its own.
struct Site {
    server: TestPostgres,
    port: u16,
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        Self {
            server: TestPostgres::start_listening(port).unwrap(),
            port,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn superuser(&self) -> Client {
        let url = self.server.url().replace("user=imgsys", "user=postgres");
        Client::connect(&format!("{url} port={}", self.port), NoTls).unwrap()
    }

    /// Has the server show this certificate, and want one that `ca` has signed from those who
    /// come by the role `imgsys`.
    fn use_tls(&self, certificate: &TestCertificate, ca: &TestCa) {
        let mut admin = self.superuser();
        let data: String = admin.query_one("SHOW data_directory", &[]).unwrap().get(0);
        let data = Path::new(&data);
        let owner = fs::metadata(data).unwrap();
        for (name, file) in [
            ("server.crt", &certificate.certificate),
            ("server.key", &certificate.key),
            ("ca.crt", &ca.file),
        ] {
            let copy = data.join(name);
            fs::copy(file, &copy).unwrap();
            chown(&copy, Some(owner.uid()), Some(owner.gid())).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let rules = "local all all trust\n\
                     hostssl all imgsys 127.0.0.1/32 cert\n\
                     hostssl all reader 127.0.0.1/32 scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), rules).unwrap();
        for setting in ["ssl_ca_file = 'ca.crt'", "ssl = on"] {
            admin
                .batch_execute(&format!("ALTER SYSTEM SET {setting}"))
                .unwrap();
        }
        admin
            .batch_execute(
                "CREATE ROLE reader LOGIN PASSWORD 'hunter2';
                 GRANT imgsys TO reader;
                 SELECT pg_reload_conf()",
            )
            .unwrap();
        // Reloading is not done when it has been asked for.
        while self
            .superuser()
            .query_one("SHOW ssl", &[])
            .unwrap()
            .get::<_, String>(0)
            != "on"
        {}
    }

    fn url(&self, host: &str, user: &str, more: &str) -> String {
        format!(
            "host={host} port={} user={user} dbname=imgsys {more}",
            self.port
        )
    }
}

fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn trouble(url: &str) -> String {
    match connect(url) {
        Ok(_) => panic!("{url} was let in"),
        Err(error) => told(&error),
    }
}

/// Whether this connection is encrypted.
fn encrypted(client: &mut Client) -> bool {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    client.query_one(sql, &[]).unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sslmode_does_what_libpq_says() {
    let test = tokio::task::spawn_blocking(|| {
        let site = Site::new();
        let ca = TestCa::new(site.dir.path(), "ca");
        let stranger = TestCa::new(site.dir.path(), "stranger");
        let (theirs, ours) = (ca.sign(&["localhost"]), ca.sign(&["imgsys"]));
        site.use_tls(&theirs, &ca);
        let root = format!("sslrootcert={}", ca.file.display());
        let other_root = format!("sslrootcert={}", stranger.file.display());
        let own = format!(
            "sslcert={} sslkey={}",
            ours.certificate.display(),
            ours.key.display()
        );

        for (host, more) in [
            ("localhost", format!("{root} {own}")),
            ("localhost", format!("{root} {own} sslmode=verify-full")),
            // Not the name in the certificate.
            ("127.0.0.1", format!("{root} {own} sslmode=verify-ca")),
            ("127.0.0.1", format!("{root} {own} sslmode=require")),
            // Nobody looks at the certificate.
            ("127.0.0.1", format!("{own} sslmode=require")),
            ("127.0.0.1", own.clone()),
        ] {
            let url = site.url(host, "imgsys", &more);
            let mut client = connect(&url).unwrap_or_else(|e| panic!("{url}: {}", told(&e)));
            assert!(encrypted(&mut client), "{url}");
        }
        // With a password, which is bound to the certificate of the server.
        let reader = site.url("localhost", "reader", &format!("password=hunter2 {root}"));
        assert!(encrypted(&mut connect(&reader).unwrap()));

        for (host, more, said) in [
            (
                "127.0.0.1",
                format!("{root} {own} sslmode=verify-full"),
                "its certificate is for another name",
            ),
            (
                "localhost",
                format!("{other_root} {own} sslmode=verify-ca"),
                "its certificate is signed by nobody whom we trust",
            ),
            ("localhost", "sslmode=disable".to_owned(), "no encryption"),
            ("localhost", root.clone(), "client certificate"),
        ] {
            let url = site.url(host, "imgsys", &more);
            let error = trouble(&url);
            assert!(error.contains(said), "{url}: {error}");
        }
        let wrong = site.url("localhost", "reader", &format!("password=hunter3 {root}"));
        let error = trouble(&wrong);
        assert!(error.contains("password authentication failed"), "{error}");
        assert!(!error.contains("hunter"), "{error}");

        // All that the programs do.
        let url = site.url("localhost", "imgsys", &format!("{root} {own}"));
        migrate(&mut connect(&url).unwrap()).unwrap();
        Writer::connect(&url).unwrap();
        (site, url, other_root)
    });
    let (site, url, other_root) = test.await.unwrap();
    Reader::new(&url, 2).unwrap().ping().await.unwrap();
    let distrustful = site.url("localhost", "imgsys", &other_root);
    let error = Reader::new(&distrustful, 2)
        .unwrap()
        .ping()
        .await
        .unwrap_err();
    assert!(matches!(error, ReadError::Unavailable(_)));
    assert!(error.to_string().contains("signed by nobody whom we trust"));
    tokio::task::spawn_blocking(|| drop(site)).await.unwrap();
}

#[test]
fn server_without_tls_is_refused_where_it_is_required() {
    let site = Site::new();
    let plain = |mode: &str| site.url("127.0.0.1", "imgsys", mode);
    let error = trouble(&plain("sslmode=require"));
    assert!(error.contains("server does not support TLS"), "{error}");
    // Where nothing is asked for, it is taken as it is.
    let mut admin = site.superuser();
    let data: String = admin.query_one("SHOW data_directory", &[]).unwrap().get(0);
    let rules = "local all all trust\nhost all all 127.0.0.1/32 trust\n";
    fs::write(Path::new(&data).join("pg_hba.conf"), rules).unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    let mut client = loop {
        if let Ok(client) = connect(&plain("sslmode=prefer")) {
            break client;
        }
    };
    assert!(!encrypted(&mut client));
}
