//! A place of one's own: mounts and networks that nobody else sees, and that go with the process,
//! however it ends. Only there packets can be dropped.

use anyhow::Context;
use std::{
    env,
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

/// Set in processes that are in such a place.
const MARK: &str = "IMGSYS_FAULTS_ALONE";

/// Starts this program anew, in a place of its own; returns if that can't be done, or is done.
pub fn enter() {
    if is_entered() || !can_be_made() {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    let failed = place()
        .args(["ip link set lo up && exec \"$@\"", "sh"])
        .arg(program)
        .args(env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    eprintln!("imgsys-faults: no network of one's own: {failed}");
}

/// Whether packets can be dropped.
#[must_use]
pub fn is_entered() -> bool {
    env::var_os(MARK).is_some()
}

/// A shell in a new place, which wants to know what to do.
fn place() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "sh", "-c"]);
    unshare
}

fn can_be_made() -> bool {
    let tried = place()
        .arg("ip link set lo up && nft add table inet imgsys")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// Has the kernel follow these rules, in nftables' language.
pub(crate) fn filter(rules: &str) -> anyhow::Result<()> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting nft")?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(rules.as_bytes()).context("telling nft")?;
    }
    let done = nft.wait_with_output().context("waiting for nft")?;
    let said = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(done.status.success(), "nft: {}", said.trim());
    Ok(())
}
