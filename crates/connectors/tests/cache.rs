//! The cache: the conformance suite in process and in Redis, and what only a cache does.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::{Store, conform, position, rows, scope, target};
use parking_lot::Mutex;
use playhouse_connectors::cache::{Cache, CacheStore, MemoryCache};
use playhouse_engine::sink::{Sink, SinkError};

const KEYS: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "k", "l", "replayed"];

struct Cached {
    store: CacheStore,
    prefix: String,
}

#[async_trait]
impl Store for Cached {
    fn sink(&self) -> Box<dyn Sink> {
        let key = format!("{}{{id}}", self.prefix);
        self.store.sink(&target("cache_events", &[("key", &key), ("ttl", "1 hour")], &[])).expect("good options")
    }

    async fn rows(&self) -> Vec<(String, Option<i64>)> {
        let reader = self.store.reader();
        let mut found = Vec::new();
        for id in KEYS {
            let key = format!("{}{id}", self.prefix);
            let Some(json) = reader.get(&key).await.expect("read") else { continue };
            let row: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            assert_eq!(row["id"], id);
            assert_eq!(row["metadata"]["quality"], "1080p");
            let left = reader.ttl(&key).await.expect("read").expect("there").expect("mortal");
            assert!(left > Duration::from_secs(3500) && left <= Duration::from_secs(3600), "{left:?}");
            found.push((id.to_owned(), row["position_ms"].as_i64()));
        }
        found
    }

    fn upserts(&self) -> bool {
        true
    }
}

fn memory(budget_bytes: usize) -> CacheStore {
    CacheStore::open("embedded", budget_bytes).expect("needs nothing")
}

fn redis() -> CacheStore {
    let address =
        std::env::var("PLAYHOUSE_TEST_REDIS").expect("set PLAYHOUSE_TEST_REDIS, such as redis://127.0.0.1:6379");
    CacheStore::open(&address, 0).expect("a good address")
}

#[tokio::test]
async fn memory_conforms() {
    conform(&Cached { store: memory(64 << 20), prefix: "event:".into() }).await;
}

#[tokio::test]
#[ignore = "needs a Redis server, address in PLAYHOUSE_TEST_REDIS"]
async fn redis_conforms() {
    conform(&Cached { store: redis(), prefix: format!("{}:", uuid::Uuid::new_v4()) }).await;
}

#[tokio::test]
#[ignore = "needs a Redis server, address in PLAYHOUSE_TEST_REDIS"]
async fn both_render_the_same() {
    let prefix = format!("{}:", uuid::Uuid::new_v4());
    let mut rendered = Vec::new();
    for store in [memory(1 << 20), redis()] {
        let cached = Cached { store, prefix: prefix.clone() };
        let mut sink = cached.sink();
        sink.open(&scope()).await.expect("opened");
        sink.write(&rows(&[("a", Some(1)), ("b", None)])).await.expect("staged");
        sink.commit(&position(&[(0, 2)])).await.expect("committed");
        let reader = cached.store.reader();
        rendered.push((
            reader.get(&format!("{prefix}a")).await.expect("read"),
            reader.get(&format!("{prefix}b")).await.expect("read"),
        ));
    }
    assert!(rendered[0].0.is_some() && rendered[0].1.is_some());
    assert_eq!(rendered[0], rendered[1]);
}

#[tokio::test]
#[ignore = "needs a Redis server, address in PLAYHOUSE_TEST_REDIS"]
async fn redis_takes_many_rows_in_one_commit() {
    let cached = Cached { store: redis(), prefix: format!("{}:", uuid::Uuid::new_v4()) };
    let mut sink = cached.sink();
    sink.open(&scope()).await.expect("opened");
    let ids: Vec<String> = (0..5000).map(|n| format!("id-{n}")).collect();
    let values: Vec<(&str, Option<i64>)> = ids.iter().map(|id| (id.as_str(), Some(1))).collect();
    sink.write(&rows(&values)).await.expect("staged");
    sink.commit(&position(&[(0, 5000)])).await.expect("committed");
    let reader = cached.store.reader();
    for id in ["id-0", "id-2500", "id-4999"] {
        assert!(reader.get(&format!("{}{id}", cached.prefix)).await.expect("read").is_some());
    }
    assert!(reader.len().await.expect("counted") >= 5000);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("redis://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let store = CacheStore::open(&address, 0).expect("a good address");
    let mut sink = store.sink(&target("cache_events", &[("key", "event:{id}")], &[])).expect("good options");
    assert!(matches!(sink.open(&scope()).await, Err(SinkError::Unavailable(_))));
}

#[tokio::test]
async fn past_the_budget_the_oldest_go() {
    let budget = 1 << 20;
    let cache = Arc::new(MemoryCache::new(budget));
    let store = CacheStore::Memory(cache.clone());
    let mut sink = store.sink(&target("cache_events", &[("key", "event:{id}")], &[])).expect("good options");
    sink.open(&scope()).await.expect("opened");
    for commit in 0..100i64 {
        let ids: Vec<String> = (0..500).map(|row| format!("{commit}-{row}")).collect();
        let values: Vec<(&str, Option<i64>)> = ids.iter().map(|id| (id.as_str(), Some(commit))).collect();
        sink.write(&rows(&values)).await.expect("staged");
        sink.commit(&position(&[(0, commit + 1)])).await.expect("committed");
        assert!(cache.bytes() <= budget);
    }
    assert!(cache.get("event:99-499").await.expect("read").is_some(), "the newest stay");
    assert_eq!(cache.get("event:0-0").await.expect("read"), None, "the oldest went");
    assert!(cache.len().await.expect("counted") >= 500);
}

#[tokio::test]
async fn a_value_past_its_time_is_gone() {
    let now = Arc::new(Mutex::new(Instant::now()));
    let clock = now.clone();
    let cache = Arc::new(MemoryCache::with_clock(1 << 20, Arc::new(move || *clock.lock())));
    let store = CacheStore::Memory(cache.clone());
    let options = [("key", "event:{id}"), ("ttl", "10 seconds")];
    let mut sink = store.sink(&target("cache_events", &options, &[])).expect("good options");
    sink.open(&scope()).await.expect("opened");
    sink.write(&rows(&[("a", None)])).await.expect("staged");
    sink.commit(&position(&[(0, 1)])).await.expect("committed");
    *now.lock() += Duration::from_secs(4);
    assert_eq!(cache.ttl("event:a").await.expect("read"), Some(Some(Duration::from_secs(6))));
    *now.lock() += Duration::from_secs(6);
    assert_eq!(cache.get("event:a").await.expect("read"), None);
    assert_eq!(cache.len().await.expect("counted"), 0);
    assert_eq!(cache.bytes(), 0, "and its memory is free");
}

#[test]
fn wrong_options_are_named() {
    for (options, word) in [
        (&[][..], "key"),
        (&[("key", "event")][..], "no column"),
        (&[("key", "event:{idd}")][..], "idd"),
        (&[("key", "{id}"), ("ttl", "soon")][..], "ttl"),
        (&[("key", "{id}"), ("json", "meta")][..], "meta"),
    ] {
        let error = memory(1 << 20).sink(&target("cache_events", options, &[])).err().expect("refused").to_string();
        assert!(error.contains(word) && error.contains("cache_events"), "{error}");
    }
    for address in ["redis", "rediss://host", "memcached://host"] {
        assert!(matches!(CacheStore::open(address, 0), Err(SinkError::Fatal(_))), "{address}");
    }
}
