//! One process of the binary under test.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{self, Response};
use crate::output::Output;
use crate::wait::wait_until;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const CAUGHT_UP_DEADLINE: Duration = Duration::from_secs(120);
const QUERY_DEADLINE: Duration = Duration::from_secs(120);
const DOORS: [&str; 8] = ["ingest", "kafka", "grpc", "registry", "rest_proxy", "postgres", "redis", "admin"];
/// The door that is printed last.
const LAST_DOOR: &str = "admin";

/// How to start the binary: `up`, every port 0, nothing of the caller's `PLAYHOUSE_*` or `KAFKA_TOPIC`.
#[derive(Debug, Clone)]
pub struct Builder {
    binary: PathBuf,
    data: Option<PathBuf>,
    settings: Vec<String>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Builder {
    /// The data directory; the test keeps it (a temporary directory, say) for as long as it starts processes on it.
    pub fn data(mut self, directory: impl AsRef<Path>) -> Builder {
        self.data = Some(directory.as_ref().to_owned());
        self
    }

    /// `--set KEY=VALUE`; the last of a key wins.
    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Builder {
        self.settings.retain(|setting| setting.split('=').next() != Some(key));
        self.settings.push(format!("{key}={value}"));
        self
    }

    /// One more argument of `up`, such as `--demo`.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Builder {
        self.arguments.push(argument.into());
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Builder {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The command line as it is about to be run.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            let ours = name.to_str().is_some_and(|name| name.starts_with("PLAYHOUSE_") || name == "KAFKA_TOPIC");
            if ours {
                command.env_remove(name);
            }
        }
        command.arg("up").arg("--quiet");
        if let Some(data) = &self.data {
            command.arg("--data").arg(data);
        }
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the process and waits until it has printed its doors; panics with what it said if it does not.
    pub fn start(&self) -> Playhouse {
        let began = Instant::now();
        let mut process = Process::spawn(self.command());
        let doors = process.output.wait_for(START_DEADLINE, doors);
        let Some(doors) = doors else {
            let status = process.child.try_wait();
            panic!("playhouse did not open its doors within {START_DEADLINE:?} (exit: {status:?})");
        };
        Playhouse { process, doors, started_in: began.elapsed() }
    }

    /// SIGKILL that long after the process was made, wherever in its start it may be; panics if it ended by itself.
    pub fn start_and_kill(&self, after: Duration) {
        let mut process = Process::spawn(self.command());
        if let Some(status) = process.wait(after) {
            panic!("playhouse ended by itself while starting: {status}");
        }
        process.kill();
    }

    /// For a start that has to fail: the exit status and what was said on stderr.
    pub fn fail(&self) -> (ExitStatus, String) {
        let mut process = Process::spawn(self.command());
        let status = process.wait(START_DEADLINE).expect("playhouse still runs, where its start should have failed");
        process.join();
        (status, process.output.stderr())
    }
}

fn doors(lines: &[String]) -> Option<BTreeMap<&'static str, SocketAddr>> {
    let mut doors = BTreeMap::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let Some(name) = words.next().and_then(|word| DOORS.into_iter().find(|door| *door == word)) else { continue };
        let rest: Vec<&str> = words.collect();
        doors.insert(name, address(&rest)?);
    }
    doors.contains_key(LAST_DOOR).then_some(doors)
}

/// `http://HOST:PORT/…`, `HOST:PORT` or `psql -h HOST -p PORT`.
fn address(words: &[&str]) -> Option<SocketAddr> {
    if let ["psql", "-h", host, "-p", port, ..] = words {
        return Some(SocketAddr::new(host.parse().ok()?, port.parse().ok()?));
    }
    let word = words.first()?.trim_start_matches("http://");
    word.split('/').next()?.parse().ok()
}

/// A running process and its doors. Dropping it kills it, and shows what it said if the test is failing.
pub struct Playhouse {
    process: Process,
    doors: BTreeMap<&'static str, SocketAddr>,
    started_in: Duration,
}

impl Playhouse {
    /// `Playhouse::builder(env!("CARGO_BIN_EXE_playhouse"))`
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        let builder = Builder {
            binary: binary.into(),
            data: None,
            settings: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        DOORS.into_iter().fold(builder, |builder, door| builder.set(&format!("{door}.port"), 0))
    }

    /// From the start of the process to its doors being open.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    pub fn ingest(&self) -> SocketAddr {
        self.door("ingest")
    }

    pub fn kafka(&self) -> SocketAddr {
        self.door("kafka")
    }

    pub fn grpc(&self) -> SocketAddr {
        self.door("grpc")
    }

    pub fn registry(&self) -> SocketAddr {
        self.door("registry")
    }

    pub fn rest_proxy(&self) -> SocketAddr {
        self.door("rest_proxy")
    }

    pub fn postgres(&self) -> SocketAddr {
        self.door("postgres")
    }

    pub fn redis(&self) -> SocketAddr {
        self.door("redis")
    }

    pub fn admin(&self) -> SocketAddr {
        self.door("admin")
    }

    pub fn has_door(&self, name: &str) -> bool {
        self.doors.contains_key(name)
    }

    /// Where `curl` would send events: the default topic.
    pub fn ingest_url(&self) -> String {
        format!("http://{}/events", self.ingest())
    }

    /// POST to the ingest door. For whatever else, see [`http::request`].
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> (u16, String) {
        let response = http::post(self.ingest(), path, headers, body.as_ref());
        let response = response.unwrap_or_else(|error| panic!("POST {path}: {error}"));
        (response.status, response.text())
    }

    /// GET from the admin door.
    pub fn get(&self, path: &str) -> Response {
        http::get(self.admin(), path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    pub fn is_ready(&self) -> bool {
        http::get(self.admin(), "/health/ready").is_ok_and(|response| response.status == 200)
    }

    /// `/api/status`
    pub fn status(&self) -> Value {
        let response = self.get("/api/status");
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Waits until everything in the log is in every view and sink.
    pub fn caught_up(&self) {
        self.caught_up_but_for(&[]);
    }

    /// Waits until queries see everything in the log, and tables and cache hold it. Commits to the lake, a minute apart,
    /// may be due: until then queries read the epoch log.
    pub fn in_sight(&self) {
        self.caught_up_but_for(&["lake_events", "lake_raw", "late_events"]);
    }

    /// As [`Playhouse::caught_up`], but for the sinks of these names.
    pub fn caught_up_but_for(&self, left_out: &[&str]) {
        wait_until("caught up", CAUGHT_UP_DEADLINE, || {
            let status = self.status();
            let engine = &status["engine"];
            let sinks = engine["sinks"].as_array().ok_or("no sinks in the status")?;
            let asked = sinks.iter().filter(|sink| !left_out.iter().any(|name| sink["name"] == *name));
            let done = engine["lag"] == 0 && asked.clone().all(|sink| sink["lag"] == 0);
            if done { Ok(()) } else { Err(format!("{engine:#}")) }
        });
    }

    /// Rows of the SQL door, as psql prints them; NULL is none.
    pub fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The first column of the first row, as a number.
    pub fn count(&self, sql: &str) -> i64 {
        let rows = self.query(sql);
        let cell = rows.first().and_then(|row| row.first()).and_then(|cell| cell.as_deref());
        cell.and_then(|cell| cell.parse().ok()).unwrap_or_else(|| panic!("{sql}: not a number: {rows:?}"))
    }

    pub fn try_query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let address = self.postgres();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let asked = async {
            let config = format!("host={} port={} user=playhouse dbname=playhouse", address.ip(), address.port());
            let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await?;
            let connection = tokio::spawn(connection);
            let messages = client.simple_query(sql).await;
            drop(client);
            let _ = connection.await;
            messages
        };
        let messages = runtime.block_on(async { tokio::time::timeout(QUERY_DEADLINE, asked).await });
        let messages = messages.map_err(|_| format!("no answer within {QUERY_DEADLINE:?}"))?;
        let messages = messages.map_err(|error| match error.as_db_error() {
            Some(error) => format!("{}: {}", error.code().code(), error.message()),
            None => error.to_string(),
        })?;
        let rows = messages.into_iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Values of the Redis door, in the order of the keys.
    pub fn redis_values(&self, keys: &[String]) -> Vec<Option<Vec<u8>>> {
        redis_values(self.redis(), keys).unwrap_or_else(|error| panic!("the Redis door: {error}"))
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.process.output.stdout()
    }

    pub fn stderr(&self) -> String {
        self.process.output.stderr()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// SIGTERM; asserts that it exits with 0 within five seconds, and tells how long it took.
    pub fn stop(mut self) -> Duration {
        let began = Instant::now();
        self.signal(Signal::TERM);
        let status = self.process.wait(STOP_DEADLINE);
        let took = began.elapsed();
        match status {
            Some(status) => assert!(status.success(), "playhouse exited with {status} after SIGTERM"),
            None => panic!("playhouse still runs {STOP_DEADLINE:?} after SIGTERM"),
        }
        took
    }

    /// Stops the process from running (SIGSTOP) until [`Playhouse::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {signal:?}: {error}"));
    }

    fn door(&self, name: &str) -> SocketAddr {
        *self.doors.get(name).unwrap_or_else(|| panic!("no {name} door"))
    }
}

/// The child and the threads that drain its output.
struct Process {
    child: Child,
    output: Output,
    drains: Vec<JoinHandle<()>>,
}

impl Process {
    fn spawn(mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Output::default();
        let stdout = child.stdout.take().map(|stream| output.drain_stdout(stream));
        let stderr = child.stderr.take().map(|stream| output.drain_stderr(stream));
        Process { child, output, drains: stdout.into_iter().chain(stderr).collect() }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.join();
    }

    fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn join(&mut self) {
        for drain in self.drains.drain(..) {
            let _ = drain.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("── playhouse, stdout ──\n{}", self.output.stdout());
            eprintln!("── playhouse, stderr ──\n{}", self.output.stderr());
        }
    }
}

fn redis_values(address: SocketAddr, keys: &[String]) -> std::io::Result<Vec<Option<Vec<u8>>>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(QUERY_DEADLINE))?;
    let mut request = Vec::new();
    for key in keys {
        write!(request, "*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())?;
    }
    write!(request, "*1\r\n$4\r\nQUIT\r\n")?;
    let mut sending = stream.try_clone()?;
    // The door may stop reading requests until answers are taken.
    let sent = std::thread::spawn(move || sending.write_all(&request));
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers)?;
    sent.join().expect("the sending thread does not panic")?;
    let mut rest = answers.as_slice();
    let cut = || std::io::Error::other("an answer was cut short");
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let end = rest.windows(2).position(|window| window == b"\r\n").ok_or_else(cut)?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 2..];
        match line.strip_prefix('$').and_then(|length| length.parse::<i64>().ok()) {
            Some(-1) => values.push(None),
            Some(length) => {
                let length = usize::try_from(length).map_err(|_| cut())?;
                values.push(Some(rest.get(..length).ok_or_else(cut)?.to_vec()));
                rest = rest.get(length + 2..).ok_or_else(cut)?;
            }
            None => return Err(std::io::Error::other(format!("GET {key}: {line}"))),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_doors() {
        let lines = [
            "Playhouse is up after 3 ms.",
            "  ingest    http://127.0.0.1:1/events  POST events",
            "  kafka     127.0.0.1:2                any Kafka client",
            "  postgres  psql -h 127.0.0.1 -p 3     SQL",
            "  admin     http://127.0.0.1:5/        status",
        ];
        let lines = lines.map(str::to_owned);
        let doors = doors(&lines).unwrap();
        let ports: Vec<(&str, u16)> = doors.iter().map(|(name, address)| (*name, address.port())).collect();
        assert_eq!(ports, [("admin", 5), ("ingest", 1), ("kafka", 2), ("postgres", 3)]);
        assert!(super::doors(&lines[..4]).is_none());
    }

    #[test]
    fn the_last_setting_wins() {
        let builder = Playhouse::builder("playhouse").set("kafka.port", 9092);
        assert_eq!(builder.settings.iter().filter(|setting| setting.starts_with("kafka.port=")).count(), 1);
        assert!(builder.settings.contains(&"kafka.port=9092".to_owned()));
    }
}
