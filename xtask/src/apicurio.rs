//! Apicurio Registry, from Maven Central, kept in a cache outside the tree: another registry with Confluent's API, in memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{install, kafka};

/// The newest that runs on the Java of Debian's stable release.
const VERSION: &str = "3.0.9";

/// The program, unpacked.
pub fn program() -> anyhow::Result<PathBuf> {
    let directory = kafka::cache()?.join("apicurio").join(VERSION);
    let program = directory.join(format!("apicurio-registry-app-{VERSION}-runner.jar"));
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(program);
    }
    println!("fetching Apicurio Registry {VERSION}");
    install::ensure(&[("java", "default-jre-headless"), ("mvn", "maven")])?;
    std::fs::create_dir_all(&directory)?;
    let artifact = format!("-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all");
    let output = format!("-DoutputDirectory={}", directory.display());
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:copy", &artifact, &output]).stdout(Stdio::null());
    let fetched = maven.status();
    if !fetched.context("mvn does not start")?.success() {
        bail!("Maven cannot fetch Apicurio Registry {VERSION}");
    }
    let archive = directory.join(format!("apicurio-registry-app-{VERSION}-all.tar.gz"));
    let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&directory).status();
    if !unpacked.context("tar does not start")?.success() {
        bail!("{} cannot be unpacked", archive.display());
    }
    std::fs::remove_file(archive)?;
    std::fs::write(complete, "")?;
    Ok(program)
}

/// The command that runs it.
pub fn registry(program: &Path, port: u16, management_port: u16) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:+UseSerialGC"]);
    for (setting, value) in [("http", port), ("management", management_port)] {
        command.arg(format!("-Dquarkus.{setting}.host=127.0.0.1")).arg(format!("-Dquarkus.{setting}.port={value}"));
    }
    command.arg("-jar").arg(program).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
