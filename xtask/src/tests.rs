//! The tests that `cargo test` leaves out: marked `#[ignore = "needs …"]`, run here and in CI.

use std::process::Command;

use anyhow::bail;

use crate::kafka;
use crate::servers::Servers;

pub fn run_real(arguments: &[String]) -> anyhow::Result<()> {
    let servers = Servers::start()?;
    let status = cargo()
        .args(["test", "--workspace"])
        .args(arguments)
        .args(["--", "--ignored"])
        .envs(servers.environment())
        .status()?;
    if !status.success() {
        bail!("tests against real servers failed");
    }
    Ok(())
}

pub fn run_bench(arguments: &[String]) -> anyhow::Result<()> {
    let jars = kafka::jars(kafka::NEWEST)?;
    let status =
        cargo().args(["bench", "--bench", "kafka"]).args(arguments).env("PLAYHOUSE_TEST_KAFKA_JARS", jars).status()?;
    if !status.success() {
        bail!("the bench failed");
    }
    Ok(())
}

fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Cargo describes this package to us in its environment; a build script that looks there (ring's) would run again.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}
