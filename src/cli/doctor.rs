//! `playhouse doctor`: would it start here? One line per check, and what to do about each that fails.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::config::{Cache, Config, ConfigArgs, Resource, ServerUrl, Tables, show_size};

/// Locked, and naming its process, while playhouse is up (`up::data`).
const LOCK_FILE: &str = "playhouse.lock";
const FREE_BYTES_LOW: u64 = 10 << 30;
const FREE_BYTES_LEAST: u64 = 1 << 30;
const FILES_LOW: u64 = 4096;
const FILES_LEAST: u64 = 256;
const STORE_PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug)]
struct Check {
    verdict: Verdict,
    subject: String,
    finding: String,
}

impl Check {
    fn new(verdict: Verdict, subject: impl Into<String>, finding: impl Into<String>) -> Check {
        Check { verdict, subject: subject.into(), finding: finding.into() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        write!(formatter, "{verdict:<5} {:<16} {}", self.subject, self.finding)
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Prints the checks; the exit code is 1 if any failed.
pub fn run(args: &Args) -> Result<ExitCode> {
    let checks = match Config::load(&args.config) {
        Ok(config) => checks(&config, crate::up::check_pipeline),
        Err(error) => vec![Check::new(Verdict::Fail, "configuration", format!("{error:#}"))],
    };
    let mut out = io::stdout().lock();
    for check in &checks {
        writeln!(out, "{check}")?;
    }
    let fit = checks.iter().all(|check| check.verdict != Verdict::Fail);
    Ok(if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn checks(config: &Config, pipeline: impl FnOnce(&Config) -> Result<()>) -> Vec<Check> {
    let changed =
        config.settings.iter().filter(|(_, setting)| setting.origin != crate::config::Origin::Default).count();
    let mut checks =
        vec![Check::new(Verdict::Ok, "configuration", format!("valid, {changed} settings differ from the defaults"))];
    let (lock, running) = lock(&config.data);
    checks.extend([directory("data directory", &config.data, "--data DIR"), lock]);
    checks.push(directory("lake", &config.lake, "the setting lake"));
    for (section, door) in config.doors() {
        if section == "redis" && config.cache != Cache::Embedded {
            continue; // It serves the embedded cache only.
        }
        let finding = match TcpListener::bind(door.address()) {
            Ok(_) if door.port == 0 => (Verdict::Ok, "takes a free port".to_string()),
            Ok(_) => (Verdict::Ok, format!("{} is free", door.address())),
            // Its own doors; it is not this one's business to be started twice.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && running => {
                (Verdict::Warn, format!("{} is busy, as playhouse is running", door.address()))
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => (
                Verdict::Fail,
                format!("{} is busy: stop what listens there, or change {section}.port", door.address()),
            ),
            Err(error) => (
                Verdict::Fail,
                format!("cannot listen on {}: {error}: change {section}.host or {section}.port", door.address()),
            ),
        };
        checks.push(Check::new(finding.0, format!("{section} door"), finding.1));
    }
    checks.push(match &config.tables {
        Tables::Embedded => Check::new(Verdict::Ok, "tables", "embedded"),
        Tables::None => Check::new(Verdict::Ok, "tables", "none"),
        Tables::Postgres(url) => server("tables", url, 5432, ask_postgres),
    });
    checks.push(match &config.cache {
        Cache::Embedded => Check::new(Verdict::Ok, "cache", "embedded"),
        Cache::None => Check::new(Verdict::Ok, "cache", "none"),
        Cache::Redis(url) => server("cache", url, 6379, ask_redis),
    });
    for (name, resource) in [("schema", &config.schema), ("geoip", &config.geoip), ("catalogue", &config.catalogue)] {
        checks.push(resource_check(name, resource));
    }
    checks.push(match pipeline(config) {
        Ok(()) => Check::new(Verdict::Ok, "pipeline", "compiles"),
        Err(error) => Check::new(Verdict::Fail, "pipeline", format!("{error:#}")),
    });
    checks.push(open_files());
    checks
}

/// A directory that does not exist yet is judged by where it would be created; nothing stays behind.
fn directory(subject: &str, path: &Path, setting: &str) -> Check {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let written = tempfile::tempfile_in(existing)
        .and_then(|mut file| file.write_all(b"playhouse").and_then(|()| file.sync_all()));
    if let Err(error) = written {
        let finding = format!("cannot write in {}: {error}: allow it, or change {setting}", existing.display());
        return Check::new(Verdict::Fail, subject, finding);
    }
    let state = if existing == absolute { "is writable" } else { "can be created" };
    let free = match rustix::fs::statvfs(existing) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => {
            return Check::new(
                Verdict::Warn,
                subject,
                format!("{} {state}; free space unknown: {error}", path.display()),
            );
        }
    };
    let verdict = match free {
        FREE_BYTES_LOW.. => Verdict::Ok,
        FREE_BYTES_LEAST.. => Verdict::Warn,
        _ => Verdict::Fail,
    };
    let remedy = if verdict == Verdict::Ok { String::new() } else { format!(": make room, or change {setting}") };
    let free = show_size(free >> 30 << 30);
    Check::new(verdict, subject, format!("{} {state}, {free} free{remedy}", path.display()))
}

/// Also tells whether playhouse runs on the directory.
fn lock(data: &Path) -> (Check, bool) {
    match holder(data) {
        Ok(None) => (Check::new(Verdict::Ok, "lock", "free"), false),
        Ok(Some(process)) => {
            let finding = format!("held by process {process}: stop it before another one starts on this directory");
            (Check::new(Verdict::Warn, "lock", finding), true)
        }
        Err(error) => {
            let finding = format!("cannot be read: {error}: allow it, or change --data DIR");
            (Check::new(Verdict::Fail, "lock", finding), false)
        }
    }
}

/// The process that has the data directory.
fn holder(data: &Path) -> io::Result<Option<String>> {
    let mut lock = match File::open(data.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // Shared, so that two who only look do not see each other.
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            lock.read_to_string(&mut process)?;
            Ok(Some(process.trim().to_string()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn resource_check(name: &str, resource: &Resource) -> Check {
    let path: &PathBuf = match resource {
        Resource::Builtin => return Check::new(Verdict::Ok, name, "builtin"),
        Resource::File(path) => path,
    };
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => Check::new(Verdict::Ok, name, format!("{} is readable", path.display())),
        Ok(_) => Check::new(Verdict::Fail, name, format!("{} is no file: change the setting {name}", path.display())),
        Err(error) => Check::new(
            Verdict::Fail,
            name,
            format!("cannot read {}: {error}: change the setting {name}", path.display()),
        ),
    }
}

/// Asks without logging in: whether something answers, and whether it speaks the protocol.
fn server(setting: &str, url: &ServerUrl, port: u16, ask: fn(&mut TcpStream) -> io::Result<String>) -> Check {
    match reach(&url.address(port)).and_then(|mut stream| ask(&mut stream)) {
        Ok(finding) => Check::new(Verdict::Ok, setting, format!("{url} {finding}")),
        Err(error) => {
            let finding = format!("{url} does not answer: {error}: start it, or change the setting {setting}");
            Check::new(Verdict::Fail, setting, finding)
        }
    }
}

fn reach(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STORE_PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(STORE_PATIENCE))?;
                stream.set_write_timeout(Some(STORE_PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// SSLRequest of the PostgreSQL protocol; every server answers with one byte, whether it has TLS.
fn ask_postgres(stream: &mut TcpStream) -> io::Result<String> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    stream.write_all(&SSL_REQUEST)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    match answer[0] {
        b'S' | b'N' => Ok("answers as PostgreSQL (login not tried)".to_string()),
        _ => Err(io::Error::other("it is no PostgreSQL server")),
    }
}

fn ask_redis(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    match &answer {
        b"+PONG\r\n" => Ok("answers as Redis".to_string()),
        b"-NOAUTH" => Ok("answers as Redis (login not tried)".to_string()),
        _ => Err(io::Error::other("it is no Redis server that takes a PING")),
    }
}

fn open_files() -> Check {
    // None is no limit.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let verdict = match limit {
        FILES_LOW.. => Verdict::Ok,
        FILES_LEAST.. => Verdict::Warn,
        _ => Verdict::Fail,
    };
    let remedy = if verdict == Verdict::Ok { String::new() } else { format!(": raise it with ulimit -n {FILES_LOW}") };
    Check::new(verdict, "open files", format!("{limit} allowed{remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(data: &Path, set: &[&str]) -> Config {
        let ports = ["ingest", "kafka", "grpc", "registry", "rest_proxy", "postgres", "redis", "admin"]
            .map(|section| format!("{section}.port=0"));
        let set = ports.into_iter().chain(set.iter().map(|text| text.to_string())).collect();
        Config::load(&ConfigArgs { data: Some(data.to_path_buf()), set, ..Default::default() }).unwrap()
    }

    fn check<'a>(checks: &'a [Check], subject: &str) -> &'a Check {
        checks.iter().find(|check| check.subject == subject).unwrap()
    }

    fn pipeline(_: &Config) -> Result<()> {
        Ok(())
    }

    #[test]
    fn an_empty_place_is_fit_and_stays_empty() {
        let place = tempfile::tempdir().unwrap();
        let checks = checks(&config(&place.path().join("data"), &[]), pipeline);
        for subject in ["configuration", "data directory", "lock", "ingest door", "tables", "cache", "pipeline"] {
            assert_ne!(check(&checks, subject).verdict, Verdict::Fail, "{}", check(&checks, subject));
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_busy_port_names_the_setting() {
        let place = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let busy = config(place.path(), &[&format!("kafka.port={port}")]);
        let found = checks(&busy, pipeline);
        let door = check(&found, "kafka door");
        assert!(door.verdict == Verdict::Fail && door.finding.contains("change kafka.port"), "{door}");
        std::fs::write(place.path().join(LOCK_FILE), "4711\n").unwrap();
        assert_eq!(check(&checks(&busy, pipeline), "lock").verdict, Verdict::Ok);
        let held = File::open(place.path().join(LOCK_FILE)).unwrap();
        held.lock().unwrap();
        let found = checks(&busy, pipeline);
        assert_eq!(check(&found, "kafka door").verdict, Verdict::Warn);
        assert!(check(&found, "lock").finding.contains("process 4711"));
    }

    #[test]
    fn stores_are_asked_in_their_protocol() {
        let place = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in [b"N".as_slice(), b"+PONG\r\n", b"HTTP/1.1"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 6];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        let tables = format!("tables=postgres://me:hunter2@{address}/app");
        let cache = format!("cache=redis://{address}");
        let found = checks(&config(place.path(), &[&tables, &cache]), pipeline);
        assert_eq!(check(&found, "tables").verdict, Verdict::Ok, "{}", check(&found, "tables"));
        assert_eq!(check(&found, "cache").verdict, Verdict::Ok, "{}", check(&found, "cache"));
        let found = checks(&config(place.path(), &[&cache]), pipeline);
        assert!(check(&found, "cache").finding.contains("no Redis server"));
        server.join().unwrap();
        let found = checks(&config(place.path(), &[&tables]), pipeline);
        let down = check(&found, "tables");
        assert!(down.verdict == Verdict::Fail && !down.finding.contains("hunter2"), "{down}");
    }

    #[test]
    fn what_cannot_work_fails() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        let config = config(&file.join("data"), &["geoip=/nowhere/x.mmdb"]);
        let found = checks(&config, |_| anyhow::bail!("line 3: no such column"));
        for subject in ["data directory", "geoip", "pipeline"] {
            assert_eq!(check(&found, subject).verdict, Verdict::Fail, "{subject}");
        }
    }
}
