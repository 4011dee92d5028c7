//! Other people's software from the system's package manager.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// A program the tests need and the Debian package that has it.
const PROGRAMS: [(&str, &str); 6] = [
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("psql", "postgresql-client"),
    ("kcat", "kcat"),
    ("curl", "curl"),
    // Runs a Java client from its source.
    ("javac", "default-jdk-headless"),
];

/// Installs what is missing (as root, with apt-get), or names it.
pub fn ensure_programs() -> anyhow::Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if postgres_bin().is_none() {
        missing.push("postgresql");
    }
    packages(&missing)
}

/// Programs with the packages that have them.
pub fn ensure(programs: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    packages(&missing)
}

pub fn packages(missing: &[&str]) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    apt_get(&["update", "-qq"])
        .and_then(|()| {
            let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
            arguments.extend(missing);
            apt_get(&arguments)
        })
        .with_context(|| format!("please install these packages: {}", missing.join(" ")))
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Services that the packages would start by themselves are not wanted.
        .env("RUNLEVEL", "1")
        .stdout(Stdio::null())
        .status()
        .context("apt-get is not there")?;
    if !status.success() {
        bail!("apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}

pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Where `initdb` and `postgres` are: Debian keeps them out of the PATH.
pub fn postgres_bin() -> Option<PathBuf> {
    if let Some(found) = find("initdb") {
        return found.parent().map(Path::to_owned);
    }
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort();
    versions.into_iter().rfind(|bin| bin.join("initdb").is_file())
}
