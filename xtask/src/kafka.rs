//! Apache Kafka and its clients, from Maven Central and the Python package index, kept in a cache outside the tree.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::install;

/// The newest, whose broker the tests compare with, and one of the line before.
pub const NEWEST: &str = "4.3.1";
pub const BEFORE: &str = "3.9.1";

const PYTHON_PACKAGES: [&str; 14] = [
    "confluent-kafka[avro,json,protobuf,schemaregistry]==2.16.0",
    "fastavro==1.13.1",
    "httpx2==2.16.2",
    "jsonschema==4.26.0",
    "kafka-python==3.0.0",
    "aiokafka==0.14.0",
    "lz4==4.4.5",
    "zstandard",
    "python-snappy==0.7.3",
    "cramjam==2.14.0",
    "grpcio==1.85.3",
    "grpcio-health-checking==1.85.1",
    "grpcio-reflection==1.85.1",
    "grpcio-tools==1.85.1",
];

/// A directory with the jars of that version: broker and tools.
pub fn jars(version: &str) -> anyhow::Result<PathBuf> {
    let directory = cache()?.join("kafka").join(version);
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(directory);
    }
    println!("fetching Apache Kafka {version}");
    install::ensure(&[("java", "default-jre-headless"), ("mvn", "maven")])?;
    let project = tempfile::tempdir()?;
    // What they log through: older ones bring it along.
    let logging = match version.starts_with('3') {
        true => String::new(),
        false => dependency("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.1"),
    };
    let pom = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>stream.playhouse</groupId>\
         <artifactId>kafka</artifactId><version>1</version><dependencies>{}{}{logging}</dependencies></project>",
        dependency("org.apache.kafka", "kafka-tools", version),
        dependency("org.apache.kafka", "kafka_2.13", version),
    );
    std::fs::write(project.path().join("pom.xml"), pom)?;
    let output = format!("-DoutputDirectory={}", directory.display());
    let status = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", &output])
        .current_dir(project.path())
        .status()
        .context("mvn does not start")?;
    if !status.success() {
        bail!("Maven cannot fetch Apache Kafka {version}");
    }
    std::fs::write(complete, "")?;
    Ok(directory)
}

fn dependency(group: &str, artifact: &str, version: &str) -> String {
    format!(
        "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
    )
}

/// A Python that has the clients.
pub fn python() -> anyhow::Result<PathBuf> {
    let directory = cache()?.join("python");
    let (python, complete) = (directory.join("bin/python"), directory.join("complete"));
    let wanted = PYTHON_PACKAGES.join("\n");
    if std::fs::read_to_string(&complete).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("installing {}", PYTHON_PACKAGES.join(" "));
    install::ensure(&[("python3", "python3-venv")])?;
    let made = |directory: &Path| {
        let status = Command::new("python3").args(["-m", "venv"]).arg(directory).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    // Debian's Python comes without what makes environments.
    if !python.exists() && !made(&directory) {
        install::packages(&["python3-venv"])?;
        if !made(&directory) {
            bail!("python3 -m venv {} fails", directory.display());
        }
    }
    let status = Command::new(&python).args(["-m", "pip", "install", "-q"]).args(PYTHON_PACKAGES).status()?;
    if !status.success() {
        bail!("pip cannot install {}", PYTHON_PACKAGES.join(" "));
    }
    std::fs::write(complete, wanted)?;
    Ok(python)
}

/// Formats a directory and gives the command that runs one broker on it, controller and all.
pub fn broker(jars: &Path, directory: &Path, port: u16, controller_port: u16) -> anyhow::Result<Command> {
    let settings = directory.join("kafka.properties");
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
        directory.join("kafka").display()
    );
    std::fs::write(&settings, text)?;
    let java = |arguments: &[&str]| {
        let mut command = Command::new("java");
        command.args(["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-cp"]).arg(jars.join("*")).args(arguments);
        command.arg(&settings).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    // Any identifier of 16 bytes in base64 does.
    let format = ["kafka.tools.StorageTool", "format", "-t", "YusTX7G8TE6jck2aVCiPig", "-c"];
    if !java(&format).status().context("java does not start")?.success() {
        bail!("Apache Kafka cannot format {}", directory.display());
    }
    Ok(java(&["kafka.Kafka"]))
}

pub fn cache() -> anyhow::Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).context("HOME is not set")?;
    Ok(base.join("playhouse"))
}
