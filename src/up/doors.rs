//! The doors: bound first, so that a busy port stops nothing half-way; served last, once everything behind them stands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use playhouse_engine::Engine;
use playhouse_gate::{Access, Auth, Gate};
use playhouse_grpc::{Arrival, GrpcConfig};
use playhouse_http::admin::{self, AdminDoor, Readiness};
use playhouse_http::ingest::{self, IdempotencyConfig, IngestConfig, IngestDoor};
use playhouse_http::registry::{self, RegistryDoor};
use playhouse_http::{BodyLimits, ByteBudget, ServeOptions};
use playhouse_kafka::{KafkaConfig, KafkaServer};
use playhouse_log::TimestampType;
use playhouse_proxy::{ProxyConfig, ProxyMetrics};
use playhouse_query::{BoxError, CacheReader, Catalog, PgConfig, PgServer, RedisConfig, RedisServer};
use playhouse_registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::counted::{Counted, DoorTraffic};
use super::data::DataDirectory;
use super::lake::LakeWithTail;
use super::stores::{LakeStream, Stores};
use crate::config::{self, Config, Door};

/// What the doors open onto.
pub struct House<'a> {
    pub config: &'a Config,
    pub data: &'a DataDirectory,
    pub gate: Arc<Gate>,
    pub registry: Arc<Registry>,
    pub engine: Arc<Engine>,
    pub lakes: Vec<LakeStream>,
    /// Topics that the pipeline reads.
    pub pipeline_topics: Vec<String>,
    pub stores: &'a Stores,
}

pub struct Listeners {
    ingest: TcpListener,
    kafka: TcpListener,
    grpc: TcpListener,
    rest_proxy: TcpListener,
    registry: TcpListener,
    postgres: TcpListener,
    redis: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    pub async fn bind(config: &Config) -> Result<Listeners> {
        Ok(Listeners {
            ingest: bind("ingest", config.ingest.door).await?,
            kafka: bind("kafka", config.kafka.door).await?,
            grpc: bind("grpc", config.grpc.door).await?,
            rest_proxy: bind("rest_proxy", config.rest_proxy.door).await?,
            registry: bind("registry", config.registry.door).await?,
            postgres: bind("postgres", config.postgres).await?,
            redis: bind("redis", config.redis).await?,
            admin: bind("admin", config.admin).await?,
        })
    }

    pub async fn serve(self, house: &House<'_>, stop: &CancellationToken) -> Result<Doors> {
        let mut doors = Opening { tasks: JoinSet::new(), lines: Vec::new(), readiness: Readiness::new(NAMES) };
        let config = house.config;
        let proxy_metrics = Arc::<ProxyMetrics>::default();
        let traffic = DoorTraffic { rest_proxy: proxy_metrics.traffic.clone(), ..DoorTraffic::default() };
        let auth = match config.auth {
            config::Auth::None => Auth::None,
            config::Auth::Keys => {
                let ring = super::keys::open(house.data.path()).await?;
                doors.tasks.spawn(super::keys::follow(ring.clone(), stop.clone()));
                Auth::Keys(ring)
            }
        };
        let access = Arc::new(Access::new(auth.clone(), &config.ingest.rates));

        let address = self.ingest.local_addr()?;
        let limits = BodyLimits {
            compressed_bytes_max: config.limits.request_compressed_bytes,
            bytes_max: config.limits.request_bytes,
            patience: config.ingest.body_patience,
            bytes_per_second_min: config.ingest.body_bytes_per_second_min,
            time_max: config.ingest.body_time_max,
        };
        let budget = ByteBudget::new(config.limits.in_flight_bytes);
        let ingest_config = IngestConfig {
            body: limits.clone(),
            proxies: config.ingest.trusted_proxies,
            origins: config.ingest.origins.clone(),
            idempotency: IdempotencyConfig {
                ttl: config.ingest.idempotency_ttl,
                keys_max: config.ingest.idempotency_keys_max,
                ..IdempotencyConfig::default()
            },
            access: access.clone(),
        };
        let gate = house.gate.clone();
        let ingest = tokio::task::spawn_blocking(move || IngestDoor::new(gate, ingest_config, budget)).await??;
        let options = ServeOptions {
            header_timeout: config.ingest.header_timeout,
            connections_max: config.ingest.connections_max,
            traffic: traffic.ingest.clone(),
            ..ServeOptions::default()
        };
        let router = ingest::router(ingest.clone());
        doors.tasks.spawn(playhouse_http::serve(self.ingest, router, options, stop.clone()));
        doors.opened("ingest", format!("http://{address}/events"), "POST events: an object, an array or NDJSON");

        let kafka_address = self.kafka.local_addr()?;
        let new_topic = super::new_topic(config, TimestampType::CreateTime);
        let pipeline_topics = house.pipeline_topics.clone();
        let kafka_config =
            KafkaConfig { new_topic, pipeline_topics, auth: auth.clone(), ..config.kafka.server.clone() };
        let gate = house.gate.clone();
        let kafka = tokio::task::spawn_blocking(move || KafkaServer::new(gate, kafka_config)).await??;
        let kafka_metrics = kafka.metrics();
        let stopped = stop.clone();
        doors.tasks.spawn(async move {
            if let Err(error) = kafka.serve(self.kafka, stopped).await {
                tracing::error!("the Kafka door failed: {error}");
            }
        });
        doors.opened("kafka", kafka_address.to_string(), "any Kafka client");

        let address = self.grpc.local_addr()?;
        let in_flight_bytes = config.limits.in_flight_bytes;
        let grpc_config = GrpcConfig {
            in_flight_bytes,
            arrival: Arrival {
                patience: config.ingest.body_patience,
                bytes_per_second_min: config.ingest.body_bytes_per_second_min,
                time_max: config.ingest.body_time_max,
                ..Arrival::default()
            },
            access,
            traffic: traffic.grpc.clone(),
            ..config.grpc.server.clone()
        };
        let grpc = playhouse_grpc::serve(self.grpc, house.gate.clone(), grpc_config, stop.clone());
        doors.tasks.spawn(async move {
            if let Err(error) = grpc.await {
                tracing::error!("the gRPC door failed: {error}");
            }
        });
        doors.opened("grpc", address.to_string(), "playhouse.v1.Ingest, with reflection");

        let address = self.registry.local_addr()?;
        let cluster_id = house.gate.log().id().to_string();
        let door = RegistryDoor::new(house.registry.clone(), cluster_id, limits, auth.clone());
        let options = ServeOptions { traffic: traffic.registry.clone(), ..ServeOptions::default() };
        let router = registry::router(door, address);
        doors.tasks.spawn(playhouse_http::serve(self.registry, router, options, stop.clone()));
        doors.opened("registry", format!("http://{address}"), "Confluent Schema Registry API");

        let address = self.rest_proxy.local_addr()?;
        let brokers = reachable(kafka_address).to_string();
        let proxy_config = ProxyConfig {
            asks_for_credentials: config.auth == config::Auth::Keys,
            metrics: proxy_metrics.clone(),
            ..config.rest_proxy.server.clone()
        };
        let registry = house.registry.clone();
        let proxy = playhouse_proxy::serve(self.rest_proxy, brokers, registry, proxy_config, stop.clone());
        doors.tasks.spawn(async move {
            if let Err(error) = proxy.await {
                tracing::error!("the REST proxy failed: {error}");
            }
        });
        doors.opened("rest_proxy", format!("http://{address}/topics"), "Kafka over HTTP");

        let address = self.postgres.local_addr()?;
        let mut pg_config = PgConfig::new(house.data.join("spill"));
        pg_config.memory_bytes = QUERY_MEMORY_BYTES;
        let postgres = PgServer::new(self.postgres, catalog(house), pg_config)?;
        doors.tasks.spawn(postgres.serve(stop.clone()));
        doors.opened("postgres", format!("psql -h {} -p {}", address.ip(), address.port()), "SQL over views and lake");

        if let Some(reader) = house.stores.cache.as_ref().and_then(embedded_cache) {
            let address = self.redis.local_addr()?;
            let redis = RedisServer::new(self.redis, reader, RedisConfig::default())?;
            doors.tasks.spawn(redis.serve(stop.clone()));
            doors.opened("redis", address.to_string(), "the embedded cache, to read");
        } else {
            // The cache is a server of its own, or there is none: nothing to open.
            doors.readiness.open("redis");
        }

        let address = self.admin.local_addr()?;
        let counted = Counted { ingest, kafka: kafka_metrics, proxy: proxy_metrics, traffic: traffic.clone() };
        let admin = AdminDoor {
            readiness: doors.readiness.clone(),
            metrics: super::metrics::source(house, counted.clone()),
            status: super::status::source(house, counted.clone()),
            gate: house.gate.clone(),
            auth,
        };
        let router = admin::router(admin, address);
        let options = ServeOptions { traffic: traffic.admin, ..ServeOptions::default() };
        doors.tasks.spawn(playhouse_http::serve(self.admin, router, options, stop.clone()));
        doors.opened("admin", format!("http://{address}/"), "status, health, metrics, API");
        Ok(Doors { opened: doors, counted })
    }
}

const NAMES: [&str; 8] = ["ingest", "kafka", "grpc", "registry", "rest_proxy", "postgres", "redis", "admin"];
/// Of all running SQL statements; beyond it they spill to the data directory.
const QUERY_MEMORY_BYTES: usize = 128 << 20;
const BAD_ROWS_PER_PAGE: usize = 1_000;

/// The doors that are open, and what they count.
pub struct Doors {
    opened: Opening,
    counted: Counted,
}

/// Tasks behind doors, and what is said of each.
struct Opening {
    tasks: JoinSet<()>,
    lines: Vec<(&'static str, String, &'static str)>,
    readiness: Readiness,
}

impl Opening {
    fn opened(&mut self, name: &'static str, address: String, about: &'static str) {
        self.readiness.open(name);
        self.lines.push((name, address, about));
    }
}

impl Doors {
    pub fn counted(&self) -> Counted {
        self.counted.clone()
    }

    pub fn print(&self, took: Duration) {
        println!("Playhouse is up after {} ms.", took.as_millis());
        let width = self.opened.lines.iter().map(|(_, address, _)| address.len()).max().unwrap_or(0);
        for (name, address, about) in &self.opened.lines {
            println!("  {name:<10} {address:<width$}  {about}");
        }
    }

    /// Not ready from now on.
    pub fn close(&self) {
        self.opened.readiness.close();
    }

    pub async fn wait(mut self) {
        while let Some(ended) = self.opened.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a door failed: {error}");
            }
        }
    }
}

async fn bind(name: &str, door: Door) -> Result<TcpListener> {
    let address: SocketAddr = door.address();
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(anyhow!(
            "port {} is in use: stop what listens there, or choose another with --set {name}.port=N (0 takes a free one)",
            address.port()
        )),
        Err(error) => {
            Err(error).with_context(|| format!("cannot listen on {address} (settings {name}.host and {name}.port)"))
        }
    }
}

/// Where this machine reaches a door that listens on all its addresses.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = if bound.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    if bound.ip().is_unspecified() { (loopback, bound.port()).into() } else { bound }
}

fn catalog(house: &House<'_>) -> Catalog {
    let views = house.engine.views().clone();
    let bad = house.gate.bad_events().clone();
    let lakes = house.lakes.iter().map(|lake| {
        let lake = LakeStream { table: lake.table.clone(), stream: lake.stream, sink: lake.sink.clone() };
        Arc::new(LakeWithTail::new(lake, &house.engine)) as Arc<dyn playhouse_query::LakeSource>
    });
    Catalog {
        views: Arc::new(move || (&*views.snapshot()).into()),
        lakes: lakes.collect(),
        bad: Arc::new(move |position, rows| bad.read(position, rows.min(BAD_ROWS_PER_PAGE)).map_err(BoxError::from)),
    }
}

fn embedded_cache(store: &playhouse_connectors::cache::CacheStore) -> Option<Arc<dyn CacheReader>> {
    match store {
        playhouse_connectors::cache::CacheStore::Memory(cache) => Some(Arc::new(EmbeddedCache(cache.clone()))),
        playhouse_connectors::cache::CacheStore::Redis(_) => None,
    }
}

struct EmbeddedCache(Arc<playhouse_connectors::cache::MemoryCache>);

impl CacheReader for EmbeddedCache {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.value(std::str::from_utf8(key).ok()?)
    }

    fn ttl_ms(&self, key: &[u8]) -> Option<Option<u64>> {
        let left = self.0.time_left(std::str::from_utf8(key).ok()?)?;
        Some(left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
    }

    fn len(&self) -> usize {
        self.0.keys()
    }
}
