//! Real servers for tests: started on free ports of 127.0.0.1, data in a temporary directory, stopped when dropped.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{apicurio, go, install, kafka};

const START_DEADLINE: Duration = Duration::from_secs(60);

pub struct Servers {
    postgres_port: u16,
    redis_port: u16,
    kafka_port: u16,
    apicurio_port: u16,
    /// Jars of Kafka's newest tools, of those of the line before, a Python that has the clients, and the clients in Go.
    clients: [PathBuf; 4],
    /// Dropped in this order: the servers before their directory.
    _children: Vec<Stopped>,
    _directory: tempfile::TempDir,
}

/// Terminates the process when dropped.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // SIGTERM, so that PostgreSQL removes its shared memory.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

impl Servers {
    pub fn start() -> anyhow::Result<Servers> {
        install::ensure_programs()?;
        let directory = tempfile::Builder::new().prefix("playhouse-servers-").tempdir()?;
        let (postgres_port, redis_port, kafka_port) = (free_port()?, free_port()?, free_port()?);
        let apicurio_port = free_port()?;
        let clients = [kafka::jars(kafka::NEWEST)?, kafka::jars(kafka::BEFORE)?, kafka::python()?, go::clients()?];
        let mut kafka = kafka::broker(&clients[0], directory.path(), kafka_port, free_port()?)?;
        let kafka = Stopped(kafka.spawn().context("Apache Kafka does not start")?);
        let mut apicurio = apicurio::registry(&apicurio::program()?, apicurio_port, free_port()?);
        let apicurio = Stopped(apicurio.spawn().context("Apicurio Registry does not start")?);
        let children = vec![
            start_postgres(directory.path(), postgres_port).context("PostgreSQL does not start")?,
            start_redis(directory.path(), redis_port).context("Redis does not start")?,
            // The slowest, so begun first and waited for last.
            wait_for(kafka, kafka_port).context("Apache Kafka does not start")?,
            wait_for(apicurio, apicurio_port).context("Apicurio Registry does not start")?,
        ];
        Ok(Servers {
            postgres_port,
            redis_port,
            kafka_port,
            apicurio_port,
            clients,
            _children: children,
            _directory: directory,
        })
    }

    /// What the tests read.
    pub fn environment(&self) -> [(&'static str, String); 8] {
        let [newest, before, python, go] = self.clients.each_ref().map(|path| path.display().to_string());
        [
            ("PLAYHOUSE_TEST_APICURIO", format!("127.0.0.1:{}", self.apicurio_port)),
            ("PLAYHOUSE_TEST_KAFKA", format!("127.0.0.1:{}", self.kafka_port)),
            ("PLAYHOUSE_TEST_KAFKA_JARS", newest),
            ("PLAYHOUSE_TEST_KAFKA_JARS_BEFORE", before),
            ("PLAYHOUSE_TEST_PYTHON", python),
            ("PLAYHOUSE_TEST_GO_CLIENTS", go),
            ("PLAYHOUSE_TEST_POSTGRES", format!("postgres://postgres@127.0.0.1:{}/postgres", self.postgres_port)),
            ("PLAYHOUSE_TEST_REDIS", format!("redis://127.0.0.1:{}", self.redis_port)),
        ]
    }

    /// Shows how to reach the servers, until standard input ends or Ctrl-C.
    pub fn wait(self) -> anyhow::Result<()> {
        for (name, value) in self.environment() {
            println!("export {name}={value}");
        }
        println!("press Enter to stop them");
        std::io::stdin().read_line(&mut String::new())?;
        Ok(())
    }
}

fn start_postgres(directory: &Path, port: u16) -> anyhow::Result<Stopped> {
    let bin = install::postgres_bin().context("initdb is nowhere to be found")?;
    let data = directory.join("postgres");
    std::fs::create_dir(&data)?;
    let owner = postgres_owner(directory, &data)?;
    let command = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command.stdout(Stdio::null()).current_dir(directory);
        if let Some((uid, gid)) = owner {
            command.uid(uid).gid(gid);
        }
        command
    };
    let initialised = command("initdb")
        .arg("-D")
        .arg(&data)
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])
        .status()?;
    if !initialised.success() {
        bail!("initdb failed");
    }
    let child = command("postgres")
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-c", "unix_socket_directories="])
        .stderr(std::fs::File::create(directory.join("postgres.log"))?)
        .spawn()?;
    wait_for(Stopped(child), port)
}

/// PostgreSQL refuses to run as root: then it runs as the user its package made, who gets the directory.
fn postgres_owner(directory: &Path, data: &Path) -> anyhow::Result<Option<(u32, u32)>> {
    let id = |flag: &str, user: &[&str]| -> anyhow::Result<u32> {
        let output = Command::new("id").arg(flag).args(user).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    if id("-u", &[])? != 0 {
        return Ok(None);
    }
    let owner = (id("-u", &["postgres"])?, id("-g", &["postgres"])?);
    for path in [directory, data] {
        std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))?;
    }
    Ok(Some(owner))
}

fn start_redis(directory: &Path, port: u16) -> anyhow::Result<Stopped> {
    let program = install::find("redis-server").context("redis-server is nowhere to be found")?;
    let child = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(directory)
        .stdout(Stdio::null())
        .spawn()?;
    wait_for(Stopped(child), port)
}

fn wait_for(mut server: Stopped, port: u16) -> anyhow::Result<Stopped> {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = server.0.try_wait()? {
            bail!("it ended with {status}");
        }
        if began.elapsed() > START_DEADLINE {
            bail!("port {port} does not open within {START_DEADLINE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
