//! Redis as the cache: `SET` of absolute values in pipelines, the last one in a transaction with the position.
//!
//! Keys of earlier pipelines show before the position does. Since values are absolute and newest wins, writing them
//! again after a crash converges: effectively once. Redis is as durable as its own append-only file is set to be.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use playhouse_engine::sink::{CommitPolicy, Scope, Sink, SinkError, Target};
use playhouse_engine::{Position, TopicPartition};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError};
use tokio::sync::Mutex;

use super::{Cache, Layout};
use crate::options;
use crate::progress::{self, Progress};
use crate::rows::row_bytes;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of keys and values in one pipeline.
const PIPELINE_BYTES: usize = 256 << 10;

pub struct RedisCache {
    client: Client,
    /// For readers; every sink has its own connection.
    reader: Mutex<Option<MultiplexedConnection>>,
}

impl RedisCache {
    pub fn new(url: &str) -> Result<Self, SinkError> {
        let client =
            Client::open(url).map_err(|error| SinkError::Fatal(format!("cache: not an address of Redis: {error}")))?;
        Ok(Self { client, reader: Mutex::default() })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, SinkError> {
        let held = self.reader.lock().await.clone();
        let mut connection = match held {
            Some(connection) => connection,
            None => {
                let connection = self.connect().await.map_err(sink_error)?;
                *self.reader.lock().await = Some(connection.clone());
                connection
            }
        };
        let answer = command.query_async(&mut connection).await;
        if let Err(error) = &answer
            && (error.is_io_error() || error.is_connection_dropped())
        {
            *self.reader.lock().await = None;
        }
        answer.map_err(sink_error)
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, SinkError> {
        self.ask(redis::cmd("GET").arg(key)).await
    }

    async fn ttl(&self, key: &str) -> Result<Option<Option<Duration>>, SinkError> {
        let millis: i64 = self.ask(redis::cmd("PTTL").arg(key)).await?;
        Ok(match millis {
            -2 => None,
            -1 => Some(None),
            left => Some(Some(Duration::from_millis(left.unsigned_abs()))),
        })
    }

    /// All keys of the database but the positions: give the cache a database of its own (`redis://host/1`).
    async fn len(&self) -> Result<usize, SinkError> {
        let mut count = 0;
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) =
                self.ask(redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(1000)).await?;
            count += keys.iter().filter(|key| !key.starts_with(POSITION_PREFIX.as_bytes())).count();
            cursor = next;
            if cursor == 0 {
                return Ok(count);
            }
        }
    }
}

const POSITION_PREFIX: &str = "playhouse:position:";

pub(super) struct RedisSink {
    cache: Arc<RedisCache>,
    name: String,
    layout: Layout,
    policy: CommitPolicy,
    open: Option<Open>,
    staged: Vec<RecordBatch>,
    staged_bytes: usize,
}

struct Open {
    connection: MultiplexedConnection,
    position_key: String,
    position: Position,
}

impl RedisSink {
    pub(super) fn new(cache: Arc<RedisCache>, target: &Target) -> Result<Self, SinkError> {
        let default = CommitPolicy { bytes: 4 << 20, interval: Duration::from_millis(100) };
        Ok(Self {
            cache,
            name: target.name.clone(),
            layout: Layout::new(target)?,
            policy: options::commit_policy(target, default)?,
            open: None,
            staged: Vec::new(),
            staged_bytes: 0,
        })
    }

    fn drop_staged(&mut self) {
        self.staged.clear();
        self.staged_bytes = 0;
    }
}

#[async_trait]
impl Sink for RedisSink {
    async fn open(&mut self, scope: &Scope) -> Result<Option<Position>, SinkError> {
        self.drop_staged();
        self.open = None;
        let mut connection = self.cache.connect().await.map_err(sink_error)?;
        let position_key = format!("{POSITION_PREFIX}{}:{}:{}", scope.log_id, scope.pipeline, self.name);
        let stored = stored_position(&mut connection, &position_key).await?;
        self.open = Some(Open { connection, position_key, position: stored.clone().unwrap_or_default() });
        Ok(stored)
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        if self.open.is_none() {
            return Err(progress::not_open(&self.name));
        }
        self.staged_bytes += row_bytes(rows);
        self.staged.push(rows.clone());
        Ok(())
    }

    fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    fn commit_policy(&self) -> CommitPolicy {
        self.policy
    }

    async fn commit(&mut self, position: &Position) -> Result<(), SinkError> {
        let Some(open) = &mut self.open else { return Err(progress::not_open(&self.name)) };
        let staged = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        let stored = stored_position(&mut open.connection, &open.position_key).await?.unwrap_or_default();
        if progress::check(&open.position, &stored, position)? == Progress::AlreadyCommitted {
            open.position = stored;
            return Ok(());
        }
        let mut pipeline = Pipeline::new();
        let mut bytes = 0;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for rows in &staged {
            for row in 0..rows.num_rows() {
                key.clear();
                if !self.layout.key.write(&mut key, rows, row) {
                    continue;
                }
                if bytes > PIPELINE_BYTES {
                    pipeline.query_async::<()>(&mut open.connection).await.map_err(sink_error)?;
                    pipeline.clear();
                    bytes = 0;
                }
                value.clear();
                self.layout.value.write(&mut value, rows, row);
                bytes += key.len() + value.len() + 64;
                let command = pipeline.cmd("SET").arg(&key).arg(&value);
                if let Some(ttl) = self.layout.ttl {
                    command.arg("PX").arg(ttl.as_millis() as u64);
                }
                command.ignore();
            }
        }
        let command = pipeline.atomic().cmd("HSET").arg(&open.position_key);
        for (partition, offset) in &position.0 {
            command.arg(format!("{}-{}", partition.topic, partition.partition)).arg(*offset);
        }
        command.ignore();
        pipeline.query_async::<()>(&mut open.connection).await.map_err(sink_error)?;
        open.position = position.clone();
        Ok(())
    }

    fn guarantee(&self) -> &'static str {
        "effectively once: newest value by key, position in the transaction of the last values; as durable as Redis is set to be"
    }

    async fn close(&mut self) {
        self.drop_staged();
        self.open = None;
    }
}

async fn stored_position(connection: &mut MultiplexedConnection, key: &str) -> Result<Option<Position>, SinkError> {
    let fields: Vec<(String, i64)> =
        redis::cmd("HGETALL").arg(key).query_async(connection).await.map_err(sink_error)?;
    let mut position = Position::default();
    for (field, offset) in &fields {
        let parsed = field.rsplit_once('-').and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
        let (topic, partition) = parsed.ok_or_else(|| {
            SinkError::Fatal(format!(
                "cache: field \"{field}\" of {key} is not a position; delete that key to start over"
            ))
        })?;
        position.set(TopicPartition { topic: topic.into(), partition }, *offset);
    }
    Ok((!fields.is_empty()).then_some(position))
}

fn sink_error(error: RedisError) -> SinkError {
    let refused = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
        || error.kind() == redis::ErrorKind::AuthenticationFailed;
    if refused {
        SinkError::Fatal(format!("cache: Redis refuses the credentials: {error}"))
    } else {
        SinkError::Unavailable(format!("cache: {error}"))
    }
}
