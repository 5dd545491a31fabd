//! File, variables and flags, laid over each other.

use crate::{
    Program,
    config::{LimitsConfig, RedisConfig, ServerConfig},
    load::{command, parse_from},
};
use clap::{Args, CommandFactory, Parser};
use serde::Serialize;
use std::io::Write;

#[derive(Debug, Parser)]
#[command(name = "probe")]
struct Probe {}

#[derive(Debug, Args, Serialize)]
struct Sections {
    #[command(flatten)]
    server: ServerConfig,
    #[command(flatten)]
    limits: LimitsConfig,
    #[command(flatten)]
    redis: RedisConfig,
}

impl Program for Probe {
    const OWN: &'static [&'static str] = &["server", "limits"];
    type Sections = Sections;

    fn check(_config: &crate::Config) -> Result<(), crate::Exit> {
        Ok(())
    }
}

fn load(file: &str, flags: &[&str]) -> Result<crate::Config, String> {
    let mut path = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    path.write_all(file.as_bytes()).unwrap();
    let name = path.path().to_str().unwrap();
    let mut arguments = vec!["probe", "--config", name];
    arguments.extend(flags);
    parse_from::<Probe, _>(arguments)
        .map(|(_, config)| config)
        .map_err(|error| error.to_string().replace(name, "FILE"))
}

#[test]
fn flag_over_file_over_default() {
    let file =
        "[server]\nlisten = \"[::1]:1\"\ndispatch_window = 7\n[limits]\nmax_image = \"1MiB\"";
    let config = load(file, &["--listen", "[::1]:2", "--redis-url", "unix:///r"]).unwrap();
    assert_eq!(config.server.listen, "[::1]:2");
    assert_eq!(config.server.dispatch_window, 7);
    assert_eq!(config.limits.max_image.get(), 1 << 20);
    assert_eq!(config.redis.url, "unix:///r");
    assert_eq!(config.server.http_listen, "127.0.0.1:7451");
}

#[test]
fn mistakes_are_one_line_with_file_key_and_what_is_allowed() {
    let error = load("[server]\nlisten_on = \"x\"", &[]).unwrap_err();
    assert!(error.starts_with("FILE: server"), "{error}");
    assert!(
        error.contains("listen_on") && error.contains("`listen`"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");

    let error = load("[server]\ndispatch_window = \"many\"", &[]).unwrap_err();
    assert!(
        error.starts_with("FILE: server.dispatch_window: "),
        "{error}"
    );
    assert!(error.contains("invalid type"), "{error}");

    let error = load("[server\nx", &[]).unwrap_err();
    assert!(error.starts_with("FILE: line 1: "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");

    // A section of another program's is judged too, and a flag does not hide a mistake.
    let error = load("[worker]\nthreads = -1", &["--listen", "[::1]:2"]).unwrap_err();
    assert!(error.starts_with("FILE: worker.threads: "), "{error}");
}

#[test]
fn every_key_has_a_flag_and_a_variable() {
    let command = command::<Probe>();
    for arg in command
        .get_arguments()
        .filter(|arg| arg.get_id().as_str().contains('.'))
    {
        let id = arg.get_id().as_str();
        let (section, key) = id.split_once('.').unwrap();
        let variable = format!("IMGSYS_{section}_{key}").replace('.', "_");
        let variable = variable.to_uppercase();
        assert_eq!(arg.get_env().unwrap().to_str(), Some(variable.as_str()));
        let plain = key.replace(['_', '.'], "-");
        let flag = if Probe::OWN.contains(&section) {
            plain
        } else {
            format!("{section}-{plain}")
        };
        assert_eq!(arg.get_long(), Some(flag.as_str()), "{id}");
    }
    Probe::command().debug_assert();
}

#[test]
fn passwords_come_from_files_into_urls() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "p@ss/w").unwrap();
    let name = file.path().to_str().unwrap();
    let config = load(
        "",
        &[
            "--redis-url",
            "redis://me@h:1/2",
            "--redis-password-file",
            name,
        ],
    );
    assert_eq!(
        config.unwrap().redis.secret_url().unwrap(),
        "redis://me:p%40ss%2Fw@h:1/2"
    );
    let config = load(
        "",
        &[
            "--redis-url",
            "unix:///r?db=1",
            "--redis-password-file",
            name,
        ],
    );
    assert_eq!(
        config.unwrap().redis.secret_url().unwrap(),
        "unix:///r?db=1&pass=p%40ss%2Fw"
    );
}
