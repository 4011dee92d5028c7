//! The configuration: one struct per section, filled from layered [`Settings`] and checked as a whole.
//!
//! `config/playhouse.toml` holds every setting with its default and documents it; nothing here repeats a default.

mod settings;
mod stores;
mod units;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use settings::{CONFIG_VARIABLE, Value};
pub use settings::{Origin, Settings};
pub use stores::{Cache, ServerUrl, Tables};
pub use units::show_size;

#[derive(Debug, Clone)]
pub struct Config {
    pub data: PathBuf,
    pub topic: String,
    pub auth: Auth,
    pub schema: Resource,
    pub durability: playhouse_log::Durability,
    pub tables: Tables,
    pub cache: Cache,
    pub cache_ttl: Duration,
    /// Directory of the lake.
    pub lake: PathBuf,
    pub geoip: Resource,
    pub catalogue: Resource,
    pub ingest: Ingest,
    pub kafka: Kafka,
    pub grpc: Grpc,
    pub rest_proxy: RestProxy,
    pub registry: Registry,
    pub postgres: Door,
    pub redis: Door,
    pub admin: Door,
    pub limits: Limits,
    pub embedded_log: EmbeddedLog,
    pub bad_events: BadEvents,
    pub embedded_cache: EmbeddedCache,
    pub pipeline: Pipeline,
    /// What all of it was read from.
    pub settings: Settings,
}

/// A file, or what is inside the binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    Builtin,
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    pub host: IpAddr,
    /// 0 takes a free one.
    pub port: u16,
}

impl Door {
    pub fn address(&self) -> std::net::SocketAddr {
        (self.host, self.port).into()
    }
}

#[derive(Debug, Clone)]
pub struct Ingest {
    pub door: Door,
    pub trusted_proxies: usize,
    pub origins: playhouse_http::ingest::Origins,
    pub idempotency_ttl: Duration,
    pub idempotency_keys_max: usize,
    pub rates: playhouse_gate::RateLimits,
    pub connections_max: usize,
    pub header_timeout: Duration,
    pub body_patience: Duration,
    pub body_bytes_per_second_min: usize,
    pub body_time_max: Duration,
}

/// What callers have to show at the doors that can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    None,
    Keys,
}

#[derive(Debug, Clone)]
pub struct Kafka {
    pub door: Door,
    /// Without what other sections say of it: the settings of new topics.
    pub server: playhouse_kafka::KafkaConfig,
}

#[derive(Debug, Clone)]
pub struct Grpc {
    pub door: Door,
    /// Without what other sections say of it: the bytes in flight.
    pub server: playhouse_grpc::GrpcConfig,
}

#[derive(Debug, Clone)]
pub struct RestProxy {
    pub door: Door,
    pub server: playhouse_proxy::ProxyConfig,
}

#[derive(Debug, Clone)]
pub struct Registry {
    pub door: Door,
    pub server: playhouse_registry::RegistryConfig,
}

#[derive(Debug, Clone)]
pub struct Limits {
    pub event_bytes: usize,
    pub event_depth: usize,
    pub events_per_request: usize,
    pub request_compressed_bytes: usize,
    pub request_bytes: usize,
    pub in_flight_bytes: usize,
}

#[derive(Debug, Clone)]
pub struct EmbeddedLog {
    pub partitions: i32,
    /// `None` keeps records for ever.
    pub retention: Option<Duration>,
    /// Of one partition; `None` sets no limit.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    pub batch_bytes_max: usize,
    pub disk_budget: u64,
}

#[derive(Debug, Clone)]
pub struct BadEvents {
    /// `None` keeps them for ever.
    pub retention: Option<Duration>,
    pub disk_quota: u64,
}

#[derive(Debug, Clone)]
pub struct EmbeddedCache {
    pub memory_budget: usize,
}

#[derive(Debug, Clone)]
pub struct Pipeline {
    pub file: Resource,
    pub epoch_rows: usize,
    pub epoch_interval: Duration,
    pub epoch_log_budget: u64,
    pub epoch_log_segment_bytes: u64,
    pub checkpoint_interval: Duration,
    pub view_memory_budget: usize,
    pub dedup_window: Duration,
    pub dedup_ids_max: usize,
}

/// Where settings come from, on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML); also PLAYHOUSE_CONFIG
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Any setting, such as ingest.port=6000; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl Config {
    /// Defaults, then the file, the environment and the flags.
    pub fn load(args: &ConfigArgs) -> Result<Config> {
        // Variables that are not Unicode are nobody's settings.
        let environment =
            std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        Config::layered(args, environment.collect())
    }

    fn layered(args: &ConfigArgs, environment: Vec<(String, String)>) -> Result<Config> {
        let mut settings = Settings::defaults()?;
        let named = environment.iter().find(|(name, _)| name == CONFIG_VARIABLE).map(|(_, path)| PathBuf::from(path));
        if let Some(file) = args.config.clone().or(named) {
            settings.read_file(&file)?;
        }
        settings.read_environment(environment)?;
        if let Some(data) = &args.data {
            settings.set_text("data", Origin::Flag("--data"), &data.to_string_lossy())?;
        }
        for assignment in &args.set {
            settings.read_assignment(assignment)?;
        }
        Config::from_settings(settings)
    }

    fn from_settings(settings: Settings) -> Result<Config> {
        let auth = settings.get("auth", text(auth))?;
        let read = Reader { settings: &settings, asks: auth == Auth::Keys };
        settings.get("log", text(stores::log))?;
        settings.get("engine", text(stores::engine))?;
        let data: PathBuf = settings.get("data", text(not_empty))?.into();
        let config = Config {
            auth,
            topic: settings.get("topic", text(topic_name))?,
            schema: read.resource("schema")?,
            durability: settings.get("durability", text(durability))?,
            tables: settings.get("tables", text(stores::tables))?,
            cache: settings.get("cache", text(stores::cache))?,
            cache_ttl: read.duration("cache_ttl")?,
            lake: settings.get("lake", text(|lake| stores::lake(lake, &data)))?,
            geoip: read.resource("geoip")?,
            catalogue: read.resource("catalogue")?,
            ingest: Ingest {
                door: read.asking_door("ingest")?,
                trusted_proxies: read.number("ingest.trusted_proxies", 0, 100)?,
                origins: settings.get("ingest.origins", text(playhouse_http::ingest::Origins::parse))?,
                idempotency_ttl: read.duration("ingest.idempotency_ttl")?,
                idempotency_keys_max: read.number("ingest.idempotency_keys_max", 1, 100_000_000)?,
                rates: playhouse_gate::RateLimits {
                    requests_per_second: settings
                        .get("ingest.requests_per_second", text(unless("unlimited", units::count)))?,
                    bytes_per_second: settings
                        .get("ingest.bytes_per_second", text(unless("unlimited", units::size)))?,
                    burst: read.duration("ingest.rate_burst")?,
                },
                connections_max: read.number("ingest.connections_max", 1, 100_000)?,
                header_timeout: read.duration("ingest.header_timeout")?,
                body_patience: read.duration("ingest.body_patience")?,
                body_bytes_per_second_min: read.size("ingest.body_bytes_per_second_min")?,
                body_time_max: read.duration("ingest.body_time_max")?,
            },
            kafka: read.kafka()?,
            grpc: Grpc {
                door: read.asking_door("grpc")?,
                server: playhouse_grpc::GrpcConfig {
                    connections_max: read.number("grpc.connections_max", 1, 100_000)?,
                    streams_max: read.number("grpc.streams_max", 1, 100_000)?,
                    message_bytes_max: read.size("grpc.message_bytes_max")?,
                    ..playhouse_grpc::GrpcConfig::default()
                },
            },
            rest_proxy: RestProxy {
                door: read.asking_door("rest_proxy")?,
                server: playhouse_proxy::ProxyConfig {
                    connections_max: read.number("rest_proxy.connections_max", 1, 100_000)?,
                    request_bytes_max: read.size("rest_proxy.request_bytes_max")?,
                    memory_bytes: read.size("rest_proxy.memory")?,
                    broker_connections: read.number("rest_proxy.broker_connections", 1, 1_000)?,
                    consumers_max: read.number("rest_proxy.consumers_max", 1, 10_000)?,
                    consumer_idle_timeout: read.duration("rest_proxy.consumer_idle_timeout")?,
                    records_bytes_max: read.size("rest_proxy.records_bytes_max")?,
                    ..playhouse_proxy::ProxyConfig::default()
                },
            },
            registry: Registry {
                door: read.asking_door("registry")?,
                server: playhouse_registry::RegistryConfig {
                    limits: playhouse_schema::registry::Limits {
                        text_bytes: read.size("registry.schemas_memory")?,
                        ..playhouse_schema::registry::Limits::default()
                    },
                    parsed_bytes_max: read.size("registry.parsed_memory")?,
                },
            },
            postgres: read.door("postgres")?,
            redis: read.door("redis")?,
            admin: read.asking_door("admin")?,
            limits: Limits {
                event_bytes: read.size("limits.event_bytes")?,
                event_depth: read.number("limits.event_depth", 1, 1000)?,
                events_per_request: read.number("limits.events_per_request", 1, 10_000_000)?,
                request_compressed_bytes: read.size("limits.request_compressed_bytes")?,
                request_bytes: read.size("limits.request_bytes")?,
                in_flight_bytes: read.size("limits.in_flight_bytes")?,
            },
            embedded_log: EmbeddedLog {
                partitions: read.number("embedded_log.partitions", 1, 10_000)?,
                retention: settings.get("embedded_log.retention", text(unless("forever", units::duration)))?,
                retention_bytes: settings
                    .get("embedded_log.retention_bytes", text(unless("unlimited", units::size)))?,
                segment_bytes: read.size("embedded_log.segment_bytes")?,
                batch_bytes_max: read.size("embedded_log.batch_bytes_max")?,
                disk_budget: read.size("embedded_log.disk_budget")?,
            },
            bad_events: BadEvents {
                retention: settings.get("bad_events.retention", text(unless("forever", units::duration)))?,
                disk_quota: read.size("bad_events.disk_quota")?,
            },
            embedded_cache: EmbeddedCache { memory_budget: read.size("embedded_cache.memory_budget")? },
            pipeline: Pipeline {
                file: read.resource("pipeline.file")?,
                epoch_rows: read.number("pipeline.epoch_rows", 1, 10_000_000)?,
                epoch_interval: read.duration("pipeline.epoch_interval")?,
                epoch_log_budget: read.size("pipeline.epoch_log_budget")?,
                epoch_log_segment_bytes: read.size("pipeline.epoch_log_segment_bytes")?,
                checkpoint_interval: read.duration("pipeline.checkpoint_interval")?,
                view_memory_budget: read.size("pipeline.view_memory_budget")?,
                dedup_window: read.duration("pipeline.dedup_window")?,
                dedup_ids_max: read.number("pipeline.dedup_ids_max", 1, 1_i64 << 40)?,
            },
            data,
            settings: settings.clone(),
        };
        config.check()?;
        Ok(config)
    }

    /// What no setting can say by itself.
    fn check(&self) -> Result<()> {
        let limits = &self.limits;
        let ordered = [
            ("limits.event_bytes", limits.event_bytes as u64, "limits.request_bytes", limits.request_bytes as u64),
            (
                "limits.event_bytes",
                limits.event_bytes as u64,
                "embedded_log.batch_bytes_max",
                self.embedded_log.batch_bytes_max as u64,
            ),
            (
                "limits.request_bytes",
                limits.request_bytes as u64,
                "limits.in_flight_bytes",
                limits.in_flight_bytes as u64,
            ),
            (
                "embedded_log.batch_bytes_max",
                self.embedded_log.batch_bytes_max as u64,
                "embedded_log.segment_bytes",
                self.embedded_log.segment_bytes,
            ),
            (
                "embedded_log.segment_bytes",
                self.embedded_log.segment_bytes,
                "embedded_log.disk_budget",
                self.embedded_log.disk_budget,
            ),
        ];
        for (small, small_bytes, large, large_bytes) in ordered {
            if small_bytes > large_bytes {
                let origin = |key| self.origin(key);
                bail!(
                    "{small} = {} ({}) is more than {large} = {} ({}): lower the one or raise the other",
                    show_size(small_bytes),
                    origin(small),
                    show_size(large_bytes),
                    origin(large)
                );
            }
        }
        if self.lake == self.data {
            bail!("{}: the lake needs a directory of its own, not the data directory itself", self.origin("lake"));
        }
        Ok(())
    }

    /// Every door with the name of its section.
    pub fn doors(&self) -> [(&'static str, Door); 8] {
        [
            ("ingest", self.ingest.door),
            ("kafka", self.kafka.door),
            ("grpc", self.grpc.door),
            ("rest_proxy", self.rest_proxy.door),
            ("registry", self.registry.door),
            ("postgres", self.postgres),
            ("redis", self.redis),
            ("admin", self.admin),
        ]
    }

    fn origin(&self, key: &str) -> String {
        let found = self.settings.iter().find(|(known, _)| *known == key);
        found.map_or(String::new(), |(_, setting)| setting.origin.to_string())
    }
}

/// Reads settings by type.
struct Reader<'a> {
    settings: &'a Settings,
    /// Whether the doors that can ask for a key do.
    asks: bool,
}

impl Reader<'_> {
    fn resource(&self, key: &str) -> Result<Resource> {
        let path = self.settings.get(key, text(not_empty))?;
        Ok(if path == "builtin" { Resource::Builtin } else { Resource::File(path.into()) })
    }

    fn duration(&self, key: &str) -> Result<Duration> {
        let positive = |text: &str| match units::duration(text)? {
            Duration::ZERO => Err("has to be more than nothing".to_string()),
            duration => Ok(duration),
        };
        self.settings.get(key, text(positive))
    }

    fn size<T: TryFrom<u64>>(&self, key: &str) -> Result<T> {
        let positive = |text: &str| match units::size(text)? {
            0 => Err("has to be more than nothing".to_string()),
            bytes => T::try_from(bytes).map_err(|_| "is too large for this machine".to_string()),
        };
        self.settings.get(key, text(positive))
    }

    fn number<T: TryFrom<i64>>(&self, key: &str, least: i64, most: i64) -> Result<T> {
        self.settings.get(key, |value| {
            let number = match value {
                Value::Integer(number) if (least..=most).contains(number) => T::try_from(*number).ok(),
                _ => None,
            };
            number.ok_or_else(|| format!("is not between {least} and {most}"))
        })
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.settings.get(key, |value| match value {
            Value::Flag(flag) => Ok(*flag),
            _ => Err("is not true or false".to_string()),
        })
    }

    fn kafka(&self) -> Result<Kafka> {
        let rate = |key: &str| self.settings.get(key, text(unless("unlimited", units::size)));
        let groups = playhouse_kafka::GroupConfig {
            session_timeout_min: self.duration("kafka.session_timeout_min")?,
            session_timeout_max: self.duration("kafka.session_timeout_max")?,
            initial_rebalance_delay: self.duration("kafka.initial_rebalance_delay")?,
            members_max: self.number("kafka.group_members_max", 1, 1_000_000)?,
            groups_max: self.number("kafka.groups_max", 1, 10_000_000)?,
            consumer_session_timeout: self.duration("kafka.consumer_session_timeout")?,
            consumer_heartbeat_interval: self.duration("kafka.consumer_heartbeat_interval")?,
            members_bytes_max: self.size("kafka.groups_memory")?,
            offsets_retention: self.duration("kafka.offsets_retention")?,
            offsets_bytes_max: self.size("kafka.offsets_memory")?,
        };
        let server = playhouse_kafka::KafkaConfig {
            connections_max: self.number("kafka.connections_max", 1, 100_000)?,
            connections_per_address_max: self.number("kafka.connections_per_address_max", 1, 100_000)?,
            produce_bytes_per_second: rate("kafka.produce_bytes_per_second")?,
            fetch_bytes_per_second: rate("kafka.fetch_bytes_per_second")?,
            frame_bytes_max: self.size("kafka.request_bytes_max")?,
            request_bytes_max: self.size("kafka.requests_memory")?,
            response_bytes_max: self.size("kafka.responses_memory")?,
            fetch_bytes_max: self.size("kafka.fetch_bytes_max")?,
            pipeline_max: self.number("kafka.pipeline_max", 1, 10_000)?,
            idle_timeout: self.duration("kafka.idle_timeout")?,
            transfer_timeout: self.duration("kafka.transfer_timeout")?,
            authentication_timeout: self.duration("kafka.authentication_timeout")?,
            auto_create_topics: self.flag("kafka.auto_create_topics")?,
            groups,
            ..playhouse_kafka::KafkaConfig::default()
        };
        Ok(Kafka { door: self.asking_door("kafka")?, server })
    }

    fn door(&self, section: &str) -> Result<Door> {
        let why = "this door asks for no password";
        self.bound(section, false, why)
    }

    /// A door that asks who comes may be reached from anywhere.
    fn asking_door(&self, section: &str) -> Result<Door> {
        let why = "this door asks for no key (auth = \"keys\" lets it ask)";
        self.bound(section, self.asks, why)
    }

    fn bound(&self, section: &str, asks: bool, why: &str) -> Result<Door> {
        let exposed = asks || self.flag("allow_remote_without_authentication")?;
        let host = |host: &str| {
            let address: IpAddr = match host {
                "localhost" => IpAddr::from([127, 0, 0, 1]),
                _ => host.parse().map_err(|_| "is not an IP address".to_string())?,
            };
            if !address.is_loopback() && !exposed {
                return Err(format!(
                    "is reachable from other machines, and {why}: use 127.0.0.1, or set \
                     allow_remote_without_authentication = true if everyone who can reach it may read and write everything"
                ));
            }
            Ok(address)
        };
        let host = self.settings.get(&format!("{section}.host"), text(host))?;
        Ok(Door { host, port: self.number(&format!("{section}.port"), 0, 65_535)? })
    }
}

fn text<T>(meaning: impl FnOnce(&str) -> Result<T, String>) -> impl FnOnce(&Value) -> Result<T, String> {
    |value| match value {
        Value::Text(text) => meaning(text),
        _ => Err("is not a text".to_string()),
    }
}

fn unless<T>(word: &str, meaning: fn(&str) -> Result<T, String>) -> impl FnOnce(&str) -> Result<Option<T>, String> {
    move |text| match text {
        _ if text == word => Ok(None),
        _ => meaning(text).map(Some).map_err(|reason| format!("{reason}, or {word:?}")),
    }
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".to_string()) } else { Ok(text.to_string()) }
}

fn topic_name(name: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" | "." | ".." => Err("is no topic name".to_string()),
        playhouse_gate::BAD_EVENTS_TOPIC => Err("is the topic of bad events: choose another".to_string()),
        playhouse_gate::SCHEMAS_TOPIC => Err("is the topic of the schema registry: choose another".to_string()),
        _ if name.len() > 249 || !name.chars().all(legal) => {
            Err("is no topic name: use at most 249 of a-z A-Z 0-9 . _ -".to_string())
        }
        _ => Ok(name.to_string()),
    }
}

fn auth(text: &str) -> Result<Auth, String> {
    match text {
        "none" => Ok(Auth::None),
        "keys" => Ok(Auth::Keys),
        _ => Err("is neither \"none\" nor \"keys\"".to_string()),
    }
}

fn durability(text: &str) -> Result<playhouse_log::Durability, String> {
    match text {
        "fsync" => Ok(playhouse_log::Durability::Fsync),
        "os" => Ok(playhouse_log::Durability::Os),
        _ => Err("is neither \"fsync\" nor \"os\"".to_string()),
    }
}

#[cfg(test)]
mod tests;
