//! A log, an engine and a sink that commits rows and position together, all on one simulated disk.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use parking_lot::Mutex;
use playhouse_engine::epoch::EpochLogConfig;
use playhouse_engine::sink::{CommitPolicy, Refusals, RefusedRow, Scope, Sink, SinkError};
use playhouse_engine::sql::{CompileOptions, ConnectorOptions, Pipeline};
use playhouse_engine::state::dedup::DedupConfig;
use playhouse_engine::{
    AttachedSink, BadEvents, BadRecord, Engine, EngineConfig, FailedStage, Position, TopicPartition,
};
use playhouse_log::batch::{BatchBuilder, Compression, Records};
use playhouse_log::disk::{Disk, SimulatedDisk};
use playhouse_log::{Log, LogConfig, TimestampType, TopicSettings};

pub const SQL: &str = "
CREATE TABLE events (id TEXT NOT NULL, event_time TIMESTAMPTZ NOT NULL, user_id TEXT NOT NULL)
WITH (connector='log', topic='events', format='json', fields='event_time=timestamp, user_id=user',
      dedup_key='id', dedup_window='24 hours', watermark='event_time', watermark_delay='10 seconds',
      idle_timeout='30 seconds');
CREATE TABLE store WITH (connector='memory');
INSERT INTO store SELECT id, user_id, event_time FROM events;
CREATE MATERIALIZED VIEW per_user WITH (allowed_lateness='unlimited', retention='30 days') AS
SELECT user_id, count(*) AS events FROM TUMBLE(events, event_time, INTERVAL '1' DAY)
GROUP BY window_start, window_end, user_id;
CREATE MATERIALIZED VIEW recent WITH (allowed_lateness='1 minute', retention='1 hour') AS
SELECT user_id, count(*) AS events FROM TUMBLE(events, event_time, INTERVAL '10' SECOND)
GROUP BY window_start, window_end, user_id;
";

const USERS: usize = 7;
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Events {
    ids: Range<usize>,
    time: String,
}

impl Events {
    pub fn range(ids: Range<usize>) -> Events {
        Events { ids, time: "2026-03-01T12:00:00Z".to_owned() }
    }

    pub fn at(mut self, time: &str) -> Events {
        time.clone_into(&mut self.time);
        self
    }

    fn payloads(&self) -> Vec<Vec<u8>> {
        let event = |id: usize| {
            format!(r#"{{"id":"{id}","timestamp":"{}","user":"user-{}"}}"#, self.time, id % USERS).into_bytes()
        };
        self.ids.clone().map(event).collect()
    }
}

pub fn expected_per_user(ids: Range<usize>) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for id in ids {
        *counts.entry(format!("user-{}", id % USERS)).or_default() += 1;
    }
    counts
}

pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a memory sink has committed: it outlives the sink, as a server does.
#[derive(Clone, Default)]
pub struct SinkStore(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    rows: Vec<RecordBatch>,
    position: Option<Position>,
    down: bool,
    /// Sinks made before the last power cut are cut off.
    generation: u64,
    failing_commits: usize,
    /// Ids that it takes no rows of.
    refused: BTreeSet<usize>,
    /// After it has told of those.
    failing_after_refusals: usize,
}

impl Stored {
    fn reachable(&self, generation: u64) -> Result<(), SinkError> {
        match self.down || generation != self.generation {
            true => Err(SinkError::Unavailable("down".to_owned())),
            false => Ok(()),
        }
    }
}

impl SinkStore {
    fn cut_off(&self) {
        self.0.lock().generation += 1;
    }

    pub fn ids(&self) -> Vec<usize> {
        let stored = self.0.lock();
        let ids = stored.rows.iter().flat_map(|batch| {
            batch.column(0).as_string::<i32>().iter().map(|id| id.unwrap().parse().unwrap()).collect::<Vec<usize>>()
        });
        let mut ids: Vec<usize> = ids.collect();
        ids.sort_unstable();
        ids
    }

    pub fn rows(&self) -> usize {
        self.0.lock().rows.iter().map(RecordBatch::num_rows).sum()
    }

    pub fn set_down(&self, down: bool) {
        self.0.lock().down = down;
    }

    /// Makes the target refuse rows of these ids.
    pub fn refuse(&self, ids: impl IntoIterator<Item = usize>) {
        self.0.lock().refused = ids.into_iter().collect();
    }

    /// Makes that many commits fail once their refused rows are kept.
    pub fn fail_after_refusals(&self, count: usize) {
        self.0.lock().failing_after_refusals = count;
    }

    pub fn fail_commits(&self, count: usize) {
        self.0.lock().failing_commits = count;
    }

    fn attached(&self, name: &str, stream: usize) -> AttachedSink {
        let generation = self.0.lock().generation;
        let sink = MemorySink { store: self.clone(), generation, staged: Vec::new(), refusals: None };
        AttachedSink { name: name.to_owned(), stream, sink: Box::new(sink) }
    }
}

struct MemorySink {
    store: SinkStore,
    generation: u64,
    staged: Vec<RecordBatch>,
    refusals: Option<Refusals>,
}

impl MemorySink {
    /// Takes out of what is staged the rows that are refused.
    fn sift(&mut self) -> Vec<RefusedRow> {
        let refused_ids = self.store.0.lock().refused.clone();
        let mut refused = Vec::new();
        let mut first = 0;
        for batch in &mut self.staged {
            let ids = batch.column(0).as_string::<i32>();
            let kept: BooleanArray = ids
                .iter()
                .map(|id| Some(!id.and_then(|id| id.parse().ok()).is_some_and(|id| refused_ids.contains(&id))))
                .collect();
            let out = (0..batch.num_rows()).filter(|row| !kept.value(*row));
            refused.extend(out.map(|row| RefusedRow { row: first + row as u64, reason: "refused".to_owned() }));
            first += batch.num_rows() as u64;
            *batch = filter_record_batch(batch, &kept).unwrap();
        }
        refused
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn refuse_to(&mut self, refusals: Refusals) -> bool {
        self.refusals = Some(refusals);
        true
    }

    async fn open(&mut self, _scope: &Scope) -> Result<Option<Position>, SinkError> {
        self.staged.clear();
        let stored = self.store.0.lock();
        stored.reachable(self.generation)?;
        Ok(stored.position.clone())
    }
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        self.staged.push(rows.clone());
        Ok(())
    }
    fn staged_bytes(&self) -> usize {
        self.staged.iter().map(RecordBatch::get_array_memory_size).sum()
    }
    fn commit_policy(&self) -> CommitPolicy {
        CommitPolicy { bytes: 100_000, interval: Duration::from_millis(5) }
    }
    async fn commit(&mut self, position: &Position) -> Result<(), SinkError> {
        self.store.0.lock().reachable(self.generation)?;
        let refused = self.sift();
        if !refused.is_empty() {
            self.refusals.as_ref().unwrap()(refused).await?;
            let mut stored = self.store.0.lock();
            if stored.failing_after_refusals > 0 {
                stored.failing_after_refusals -= 1;
                return Err(SinkError::Unavailable("lost".to_owned()));
            }
        }
        let mut stored = self.store.0.lock();
        stored.reachable(self.generation)?;
        if stored.failing_commits > 0 {
            stored.failing_commits -= 1;
            return Err(SinkError::Unavailable("commit refused".to_owned()));
        }
        stored.rows.append(&mut self.staged);
        stored.position = Some(position.clone());
        Ok(())
    }
    fn guarantee(&self) -> &'static str {
        "exactly once, in memory"
    }
    async fn close(&mut self) {
        self.staged.clear();
    }
}

pub struct House {
    disk: SimulatedDisk,
    log: Arc<Log>,
    pub sql: String,
    pub sink: SinkStore,
    pub late: SinkStore,
    bad: Arc<Mutex<Vec<BadRecord>>>,
}

impl House {
    pub fn new(disk: SimulatedDisk) -> House {
        let log = open_log(&disk);
        House {
            disk,
            log,
            sql: SQL.to_owned(),
            sink: SinkStore::default(),
            late: SinkStore::default(),
            bad: Arc::default(),
        }
    }

    /// The house after the power came back; what its sinks have committed is elsewhere and stays.
    pub async fn power_cut(self, seed: u64) -> House {
        self.sink.cut_off();
        self.late.cut_off();
        let disk = self.disk.power_cut(Some(seed));
        let log = open_log(&disk);
        House { disk, log, ..self }
    }

    pub async fn start(&self) -> Engine {
        let memory = ConnectorOptions { name: "memory", ..ConnectorOptions::default() };
        let options = CompileOptions { name: "test".to_owned(), connectors: vec![memory], ..CompileOptions::default() };
        let pipeline = Pipeline::compile(&self.sql, options).await.unwrap();
        let sinks =
            vec![self.sink.attached("store", 0), self.late.attached("late_events", Engine::late_stream(&pipeline))];
        let (bad, kept) = (self.bad.clone(), self.bad.clone());
        let config = EngineConfig {
            directory: PathBuf::from("/data/engine"),
            disk: Arc::new(self.disk.clone()),
            clock: Arc::new(now_ms),
            epoch_rows: 64,
            epoch_interval: Duration::from_millis(1),
            epoch_log_budget_bytes: 64 << 20,
            epoch_log: EpochLogConfig { segment_bytes: 16 << 10, recent_bytes: 16 << 10 },
            checkpoint_bytes: 48 << 10,
            checkpoint_interval: Duration::from_secs(3600),
            dedup: DedupConfig { run_ids: 100, generation_runs: 3, ..DedupConfig::default() },
            view_budget_bytes: 1 << 20,
            bad_events: BadEvents {
                keep: Arc::new(move |records, maybe_kept| {
                    let mut bad = bad.lock();
                    // As the gate does: what is there already is only looked for where it may be.
                    let is_new = |record: &BadRecord| !maybe_kept || !bad.contains(record);
                    let new: Vec<BadRecord> = records.into_iter().filter(is_new).collect();
                    bad.extend(new);
                    Box::pin(async { Ok(()) })
                }),
                refused: Arc::new(move |sink, from| {
                    let is_there = |record: &&BadRecord| {
                        let at_or_beyond = |(name, first): &(TopicPartition, i64)| {
                            (&name.topic, name.partition) == (&record.topic, record.partition)
                                && record.offset >= *first
                        };
                        record.stage == FailedStage::Sink(sink.clone()) && from.iter().any(at_or_beyond)
                    };
                    let place = |record: &BadRecord| {
                        (TopicPartition { topic: record.topic.clone(), partition: record.partition }, record.offset)
                    };
                    let found = kept.lock().iter().filter(is_there).map(place).collect();
                    Box::pin(async { Ok(found) })
                }),
            },
        };
        Engine::start(self.log.clone(), pipeline, sinks, config).unwrap()
    }

    pub async fn send(&self, events: &Events) {
        self.send_raw(&events.payloads()).await;
    }

    pub fn add_partitions(&self, total: i32) {
        self.log.add_partitions("events", total).unwrap();
    }

    /// Appends to all partitions by turns, and returns once all of it is durable.
    pub async fn send_raw(&self, payloads: &[Vec<u8>]) {
        let topic = self.log.topic("events").unwrap();
        for (index, chunk) in payloads.chunks(20).enumerate() {
            let partition = &topic.partitions()[index % topic.partitions().len()];
            let mut batch = BatchBuilder::new(Compression::Lz4);
            for payload in chunk {
                batch.push(now_ms(), None, Some(payload), &[]);
            }
            let appended = partition.append(&batch.build()).unwrap();
            partition.durable(appended.next_offset).await.unwrap();
        }
    }

    pub async fn engine_caught_up(&self, engine: &Engine) {
        until("the engine to catch up", || engine.status().lag == 0).await;
    }

    pub async fn caught_up(&self, engine: &Engine) {
        until("engine and sinks to catch up", || engine.status().is_caught_up()).await;
    }

    /// Waits until all is done, and then has each of the ids from 0 on once in the sink and counted once in the view.
    pub async fn has_each_once(&self, engine: &Engine, sent: usize) {
        self.caught_up(engine).await;
        let ids = self.sink.ids();
        let missing: Vec<usize> = (0..sent).filter(|id| ids.binary_search(id).is_err()).collect();
        assert!(missing.is_empty(), "{} of {sent} are missing, from {}", missing.len(), missing[0]);
        assert_eq!(ids.len(), sent, "some are there twice");
        assert_eq!(self.view(engine, "per_user"), expected_per_user(0..sent));
    }

    pub async fn some_epochs(&self, engine: &Engine, count: u64) {
        let from = engine.status().epoch;
        let done = || engine.status().epoch >= from + count || engine.status().lag == 0;
        until("some epochs", done).await;
    }

    pub fn view(&self, engine: &Engine, name: &str) -> BTreeMap<String, i64> {
        let snapshot = engine.views().snapshot();
        let mut counts = BTreeMap::new();
        for batch in snapshot.views[name].batches(10).unwrap() {
            let users = batch.column(0).as_string::<i32>();
            let events = batch.column(1).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                *counts.entry(users.value(row).to_owned()).or_default() += events.value(row);
            }
        }
        counts
    }

    /// What was kept as a bad event.
    pub fn bad(&self) -> Vec<BadRecord> {
        self.bad.lock().clone()
    }

    pub fn forget_undecodable(&mut self) {
        self.bad.lock().retain(|record| record.stage != FailedStage::Decode);
    }

    /// The payloads of what was kept, in any order.
    pub fn bad_payloads(&self) -> Vec<String> {
        let payload = |record: BadRecord| {
            let topic = self.log.topic(&record.topic).unwrap();
            let bytes = topic.partition(record.partition).unwrap().read(record.offset, 1).unwrap();
            let records = Records::decompress(&bytes, 1 << 20).unwrap();
            let found = records.iter().map(Result::unwrap).find(|it| it.offset == record.offset);
            String::from_utf8(found.unwrap().value.unwrap().to_vec()).unwrap()
        };
        self.bad().into_iter().map(payload).collect()
    }
}

fn open_log(disk: &SimulatedDisk) -> Arc<Log> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let log = Log::open(disk, Path::new("/data/log"), LogConfig::default()).unwrap();
    let settings = TopicSettings { partitions: 2, timestamp_type: TimestampType::LogAppendTime, ..Default::default() };
    log.ensure_topic("events", settings).unwrap();
    log
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}
