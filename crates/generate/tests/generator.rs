//! The generator's lines against an independent recount of them, and its bytes against a pinned hash.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use playhouse_generate::{Config, Generator, Share, Truth};
use serde_json::Value;

fn lines(config: &Config) -> (Vec<u8>, Truth) {
    let mut generator = Generator::new(config.clone()).unwrap();
    let mut out = Vec::new();
    while generator.next_line(&mut out) {}
    (out, generator.truth())
}

fn mixed(events: u64) -> Config {
    Config {
        events,
        seed: 7,
        users: 5_000,
        invalid: "1%".parse().unwrap(),
        late: "2%".parse().unwrap(),
        duplicate: "1%".parse().unwrap(),
        ..Config::default()
    }
}

/// What the default topic's schema asks of an event, written down a second time.
fn is_valid(event: &Value) -> bool {
    let text = |name: &str| event[name].as_str().is_some_and(|text| !text.is_empty());
    let optional_number = |name: &str| event.get(name).is_none_or(Value::is_u64);
    ["id", "type", "user"].into_iter().all(text)
        && event["timestamp"].as_str().is_some_and(|time| chrono::DateTime::parse_from_rfc3339(time).is_ok())
        && ["session", "content", "ip", "user_agent"]
            .into_iter()
            .all(|name| event.get(name).is_none_or(Value::is_string))
        && ["position_ms", "watched_ms"].into_iter().all(optional_number)
        && event.get("metadata").is_none_or(Value::is_object)
}

#[test]
fn truth_equals_a_recount() {
    let (bytes, truth) = lines(&mixed(50_000));
    let mut ids = HashSet::new();
    let (mut sent, mut invalid, mut duplicates) = (0, 0, 0);
    let mut by_type = BTreeMap::<String, u64>::new();
    let mut by_day = BTreeMap::<String, u64>::new();
    let mut users = BTreeMap::<String, BTreeSet<String>>::new();
    let mut watched = BTreeMap::<String, u64>::new();
    for line in bytes.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n') {
        sent += 1;
        let Some(event) = serde_json::from_slice::<Value>(line).ok().filter(is_valid) else {
            invalid += 1;
            continue;
        };
        if !ids.insert(event["id"].as_str().unwrap().to_owned()) {
            duplicates += 1;
            continue;
        }
        let day = event["timestamp"].as_str().unwrap()[..10].to_owned();
        *by_type.entry(event["type"].as_str().unwrap().to_owned()).or_default() += 1;
        *by_day.entry(day.clone()).or_default() += 1;
        users.entry(day).or_default().insert(event["user"].as_str().unwrap().to_owned());
        if let Some(watched_ms) = event["watched_ms"].as_u64().filter(|&watched_ms| watched_ms > 0) {
            *watched.entry(event["content"].as_str().unwrap().to_owned()).or_default() += watched_ms;
        }
    }
    assert_eq!(truth.sent, sent);
    assert_eq!(truth.invalid, invalid);
    assert_eq!(truth.duplicates, duplicates);
    assert_eq!(truth.distinct, ids.len() as u64);
    assert_eq!(truth.valid, truth.distinct + truth.duplicates);
    assert_eq!(truth.events_by_type, by_type);
    assert_eq!(truth.events_per_day, by_day);
    assert_eq!(truth.unique_users_per_day, users.into_iter().map(|(day, users)| (day, users.len() as u64)).collect());
    assert_eq!(truth.watched_ms_by_content, watched);
    for (share, count) in [(1, truth.invalid), (1, truth.duplicates), (2, truth.late)] {
        assert!((share * 420..share * 580).contains(&count), "{share}% of 50,000 is not {count}");
    }
}

#[test]
fn lines_are_in_event_order_but_for_the_late_ones() {
    let (bytes, truth) = lines(&Config { invalid: Share::NONE, duplicate: Share::NONE, ..mixed(20_000) });
    let mut newest = 0;
    let mut behind = 0;
    for line in bytes.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n') {
        let event: Value = serde_json::from_slice(line).unwrap();
        let time = chrono::DateTime::parse_from_rfc3339(event["timestamp"].as_str().unwrap()).unwrap();
        if time.timestamp_millis() < newest {
            behind += 1;
        }
        newest = newest.max(time.timestamp_millis());
    }
    // The first events of the stream have nothing before them to be behind.
    assert!(behind <= truth.late && behind > truth.late * 95 / 100, "{behind} behind, {} late", truth.late);
}

#[test]
fn the_stream_fills_its_span_as_an_audience_does() {
    let (bytes, truth) = lines(&Config { users: 50_000, ..Config { events: 200_000, ..Config::default() } });
    let last = bytes.strip_suffix(b"\n").unwrap().rsplit(|&byte| byte == b'\n').next().unwrap();
    let last: Value = serde_json::from_slice(last).unwrap();
    let end = chrono::DateTime::parse_from_rfc3339(last["timestamp"].as_str().unwrap()).unwrap().timestamp_millis();
    let span_ms = end - Config::default().start_ms;
    let asked_ms = Config::default().span_ms as i64;
    assert!((asked_ms * 85 / 100..asked_ms * 115 / 100).contains(&span_ms), "{span_ms} for {asked_ms}");
    let heartbeats = truth.events_by_type["heartbeat"];
    assert!((100_000..180_000).contains(&heartbeats), "{:?}", truth.events_by_type);
    assert_eq!(truth.events_by_type.len(), 14, "{:?}", truth.events_by_type);
    let mut watched: Vec<u64> = truth.watched_ms_by_content.values().copied().collect();
    watched.sort_unstable_by(|a, b| b.cmp(a));
    assert!(watched[0] > 20 * watched[watched.len() / 2], "popularity is not flat");
}

#[test]
fn same_seed_same_bytes() {
    // FNV-1a, as a hash that any tool can recompute. It changes when, and only when, the generated bytes change.
    let hash = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    };
    let (bytes, truth) = lines(&mixed(10_000));
    assert_eq!(format!("{:016x}", hash(&bytes)), "d81c5d2b7d95d2a5");
    assert_eq!(lines(&mixed(10_000)), (bytes.clone(), truth));
    assert_ne!(lines(&Config { seed: 8, ..mixed(10_000) }).0, bytes);
}

#[test]
fn ids_of_different_runs_differ() {
    let id = |config: &Config| lines(config).0[..30].to_vec();
    assert_ne!(id(&mixed(100)), id(&mixed(101)));
    assert_ne!(id(&mixed(100)), id(&Config { seed: 8, ..mixed(100) }));
}
