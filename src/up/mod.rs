//! `playhouse up`: everything in one process.
//!
//! The order of a start: configuration, pipeline, data directory, ports, log, registry, gate, engine with its sinks, doors. Whatever
//! can fail does so before the first event is taken. The order of a stop is the reverse: doors close, the engine
//! finishes its epoch and writes a checkpoint, sinks commit, the log is synced.

mod counted;
mod data;
mod demo;
mod doors;
mod keys;
mod lake;
mod logging;
mod metrics;
mod pipeline;
mod status;
mod stores;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use playhouse_engine::epoch::EpochLogConfig;
use playhouse_engine::state::dedup::DedupConfig;
use playhouse_engine::{Engine, EngineConfig};
use playhouse_gate::{BadEventsLimits, Gate, GateConfig, TopicRule};
use playhouse_log::disk::{Disk, RealDisk};
use playhouse_log::{Log, LogConfig, TimestampType, TopicSettings};
use playhouse_registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigArgs};

pub use self::pipeline::check as check_pipeline;

/// Bytes of epochs after which the engine writes a checkpoint even before its interval is over.
const CHECKPOINT_BYTES: u64 = 256 << 20;

/// A stop answers within two seconds. What is not done by then is lost no more than in a crash: not at all.
const STOP_MAX: Duration = Duration::from_millis(1_500);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Add synthetic viewers of the music catalogue
    #[arg(long)]
    demo: bool,
    /// Events per second of the synthetic viewers
    #[arg(long, value_name = "N", default_value_t = 200, requires = "demo")]
    demo_rate: u32,
    /// Print no live status
    #[arg(long)]
    quiet: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let began = Instant::now();
    let config = Config::load(&args.config)?;
    logging::start();
    let compiled = pipeline::compile(&config).await?;
    let data = data::DataDirectory::open(&config.data)?;
    let listeners = doors::Listeners::bind(&config).await?;

    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let log = open_log(&config, disk.clone(), &data).await?;
    let registry = {
        let (log, config) = (log.clone(), config.registry.server.clone());
        tokio::task::spawn_blocking(move || Registry::open(&log, config)).await?.context("cannot open the registry")?
    };
    let gate = open_gate(&config, log.clone(), registry.clone())?;
    for source in &compiled.sources {
        log.ensure_topic(&source.topic, new_topic(&config, TimestampType::LogAppendTime))
            .with_context(|| format!("topic {:?} of the pipeline", source.topic))?;
    }
    let pipeline_topics = compiled.sources.iter().map(|source| source.topic.clone()).collect();
    let stores = stores::Stores::open(&config, &data)?;
    let attached = stores.attach(&compiled).await?;
    let engine_config = engine_config(&config, disk, &data, gate.clone());
    let lake_streams = attached.lakes;
    let engine = {
        let log = log.clone();
        let sinks = attached.sinks;
        // Recovery reads files; the drivers it starts need the runtime.
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            Engine::start(log, compiled, sinks, engine_config)
        })
        .await?
        .context("cannot start the engine")?
    };
    let engine = Arc::new(engine);

    let stop = CancellationToken::new();
    let house = doors::House {
        config: &config,
        gate: gate.clone(),
        registry,
        engine: engine.clone(),
        lakes: lake_streams,
        pipeline_topics,
        stores: &stores,
        data: &data,
    };
    let doors = listeners.serve(&house, &stop).await?;
    // Heard from here on: whoever reads that the doors are open may ask to close them.
    let mut signals = Signals::listen()?;
    doors.print(began.elapsed());

    let mut background = tokio::task::JoinSet::new();
    if args.demo {
        background.spawn(demo::run(gate.clone(), config.topic.clone(), args.demo_rate, stop.clone()));
    }
    if !args.quiet {
        background.spawn(status::show(gate.clone(), engine.clone(), doors.counted(), stop.clone()));
    }
    signals.next().await;
    // A second signal does not wait.
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(130);
    });
    eprintln!("stopping: doors, engine, sinks, log");
    doors.close();
    stop.cancel();
    let stopping = async move {
        background.join_all().await;
        doors.wait().await;
        drop(house);
        if let Ok(engine) = Arc::try_unwrap(engine) {
            engine.stop().await;
        }
        tokio::task::spawn_blocking(move || log.close()).await?.context("cannot close the log")
    };
    match tokio::time::timeout(STOP_MAX, stopping).await {
        Ok(stopped) => stopped,
        Err(_) => {
            eprintln!("still at work after {} ms: the next start does the rest", STOP_MAX.as_millis());
            // Not by returning: what is at work keeps its lock on the data directory until it is gone.
            std::process::exit(0);
        }
    }
}

async fn open_log(config: &Config, disk: Arc<dyn Disk>, data: &data::DataDirectory) -> Result<Arc<Log>> {
    let log_config = LogConfig {
        durability: config.durability,
        disk_budget_bytes: config.embedded_log.disk_budget,
        ..LogConfig::default()
    };
    let directory = data.join("log");
    Ok(tokio::task::spawn_blocking(move || Log::open(disk, &directory, log_config)).await??)
}

/// As Kafka's default: what is further ahead would keep its segment from ever being old.
const TIMESTAMP_AFTER_MAX_MS: i64 = 3_600_000;

fn new_topic(config: &Config, timestamp_type: TimestampType) -> TopicSettings {
    TopicSettings {
        partitions: config.embedded_log.partitions,
        timestamp_type,
        timestamp_after_max_ms: Some(TIMESTAMP_AFTER_MAX_MS),
        retention_ms: config.embedded_log.retention.map(millis),
        retention_bytes: config.embedded_log.retention_bytes,
        segment_bytes: config.embedded_log.segment_bytes,
        max_batch_bytes: config.embedded_log.batch_bytes_max,
        ..TopicSettings::default()
    }
}

fn open_gate(config: &Config, log: Arc<Log>, registry: Arc<Registry>) -> Result<Arc<Gate>> {
    let schema = config.schema.read(include_bytes!("../../config/multimedia_events.schema.json"))?;
    let schema = String::from_utf8(schema.to_vec()).context("the schema is not UTF-8")?;
    let rule = TopicRule {
        topic: config.topic.clone(),
        schema: Some(schema),
        schema_id: None,
        key_field: Some("user".to_owned()),
        id_field: Some("id".to_owned()),
        keep_bad: true,
    };
    let gate_config = GateConfig {
        default_topic: config.topic.clone(),
        in_flight_bytes: config.limits.in_flight_bytes,
        max_event_bytes: config.limits.event_bytes,
        max_depth: config.limits.event_depth,
        max_events_per_request: config.limits.events_per_request,
        auto_create_topics: config.kafka.server.auto_create_topics,
        new_topic: new_topic(config, TimestampType::CreateTime),
    };
    let gate = Gate::with_registry(log, gate_config, vec![rule], registry)?;
    let limits = BadEventsLimits {
        retention_ms: config.bad_events.retention.map(millis),
        bytes_max: config.bad_events.disk_quota.min(config.embedded_log.disk_budget / 2),
    };
    gate.bad_events().limit(limits).context("settings bad_events.retention and bad_events.disk_quota")?;
    Ok(gate)
}

fn engine_config(config: &Config, disk: Arc<dyn Disk>, data: &data::DataDirectory, gate: Arc<Gate>) -> EngineConfig {
    EngineConfig {
        directory: data.join("engine").join(pipeline::NAME),
        disk,
        clock: Arc::new(now_ms),
        epoch_rows: config.pipeline.epoch_rows,
        epoch_interval: config.pipeline.epoch_interval,
        epoch_log_budget_bytes: config.pipeline.epoch_log_budget,
        epoch_log: EpochLogConfig {
            segment_bytes: config.pipeline.epoch_log_segment_bytes,
            ..EpochLogConfig::default()
        },
        checkpoint_bytes: CHECKPOINT_BYTES,
        checkpoint_interval: config.pipeline.checkpoint_interval,
        dedup: DedupConfig { budget_ids: config.pipeline.dedup_ids_max, ..DedupConfig::default() },
        view_budget_bytes: config.pipeline.view_memory_budget,
        bad_events: pipeline::bad_events(gate),
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(millis).unwrap_or(0)
}
