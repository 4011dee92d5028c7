//! The cache: the newest row by key, as JSON, with a time to live. In process or in Redis.
//!
//! Both render the same JSON under the same key. A row replaces the older row with its key, so writing rows again
//! changes nothing: replay converges. The cache may forget (a byte budget, a time to live), and never shows a value past
//! its time.

mod key;
mod memory;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use playhouse_engine::sink::{Sink, SinkError, Target};

pub use self::memory::{Clock, MemoryCache};
pub use self::redis::RedisCache;

use self::key::KeyTemplate;
use crate::options;
use crate::rows::RowWriter;

/// What a reader of the cache may ask.
#[async_trait]
pub trait Cache: Send + Sync {
    /// The row under `key` as a JSON object.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, SinkError>;
    /// How long the value has left; `None` where there is no such key, `Some(None)` where it stays until evicted.
    async fn ttl(&self, key: &str) -> Result<Option<Option<Duration>>, SinkError>;
    /// How many keys there are.
    async fn len(&self) -> Result<usize, SinkError>;
    async fn is_empty(&self) -> Result<bool, SinkError> {
        Ok(self.len().await? == 0)
    }
}

/// The store that `cache = "…"` names.
#[derive(Clone)]
pub enum CacheStore {
    Memory(Arc<MemoryCache>),
    Redis(Arc<RedisCache>),
}

impl CacheStore {
    /// `address` is `embedded` or `redis://…`; `budget_bytes` bounds the embedded one. Does not connect.
    pub fn open(address: &str, budget_bytes: usize) -> Result<Self, SinkError> {
        match address.split_once("://").map(|(scheme, _)| scheme) {
            None if address == "embedded" => Ok(Self::Memory(Arc::new(MemoryCache::new(budget_bytes)))),
            Some("redis") => Ok(Self::Redis(Arc::new(RedisCache::new(address)?))),
            Some("rediss") => Err(SinkError::Fatal(
                "cache: TLS to Redis is not built in yet; use redis:// over a trusted network".into(),
            )),
            // Not the address itself: it may have a password.
            _ => Err(SinkError::Fatal("cache is neither \"embedded\" nor \"redis://host:port\"".into())),
        }
    }

    pub fn sink(&self, target: &Target) -> Result<Box<dyn Sink>, SinkError> {
        Ok(match self {
            Self::Memory(cache) => Box::new(memory::MemorySink::new(cache.clone(), target)?),
            Self::Redis(cache) => Box::new(redis::RedisSink::new(cache.clone(), target)?),
        })
    }

    pub fn reader(&self) -> Arc<dyn Cache> {
        match self {
            Self::Memory(cache) => cache.clone(),
            Self::Redis(cache) => cache.clone(),
        }
    }
}

/// How rows of one target become keys and values: the same for both caches.
#[derive(Debug)]
struct Layout {
    key: KeyTemplate,
    value: RowWriter,
    ttl: Option<Duration>,
}

impl Layout {
    fn new(target: &Target) -> Result<Self, SinkError> {
        let template = target.options.get("key").ok_or_else(|| {
            SinkError::Fatal(format!(
                "{}: a cache needs the option key = '<template>', such as 'event:{{id}}'",
                target.name
            ))
        })?;
        let key = KeyTemplate::parse(template, &target.schema)
            .map_err(|why| SinkError::Fatal(format!("{}: {why}", target.name)))?;
        let json = options::columns(target, "json")?.unwrap_or_else(|| vec!["metadata".to_owned()]);
        Ok(Self { key, value: RowWriter::new(&target.schema, &json), ttl: options::duration(target, "ttl")? })
    }
}
