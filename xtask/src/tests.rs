//! The tests that `cargo test` leaves out: marked `#[ignore = "needs …"]`, run here and in CI.

use std::process::Command;

use anyhow::bail;

use crate::servers::Servers;

pub fn run_real(arguments: &[String]) -> anyhow::Result<()> {
    let servers = Servers::start()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Cargo describes this package to us in its environment; a build script that looks there (ring's) would run again.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let status = command
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
