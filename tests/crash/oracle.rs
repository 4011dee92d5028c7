//! What has to be in every store, as a user reads it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use playhouse_testkit::Playhouse;
use serde_json::Value;

use crate::events::{self, Fates, Id, Ledger};

/// Keys asked of the cache in one go.
const CACHE_KEYS: usize = 5_000;

/// At any moment: no id twice, and lake (with the rows not yet in it) and views are of one epoch.
pub fn lake_and_views_agree(playhouse: &Playhouse) {
    let sql = "select (select count(*) from events) as events, (select count(distinct id) from events) as ids, \
               (select coalesce(sum(events), 0) from events_by_type) as counted, \
               (select count(*) from events_raw) as raw";
    let row = playhouse.query(sql).remove(0);
    assert!(row.iter().all(|cell| *cell == row[0]), "rows, ids, events in the view, raw events: {row:?}");
}

/// An event as lake and tables have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    ingest_id: String,
    position_ms: i64,
    user: String,
    country: Option<String>,
}

pub fn check(playhouse: &Playhouse, data: &Path, ledger: &Ledger, newest: &[String]) {
    let lake = lake(playhouse);
    let ids: HashSet<Id> = lake.keys().copied().collect();
    conserved("the lake", &ids, &ledger.valid);
    for (id, row) in &lake {
        assert_eq!((row.position_ms, &row.user), (i64::from(id.position_ms()), &id.user()), "{id} in the lake");
        assert!(row.country.is_some(), "{id} in the lake has no country");
    }
    let places: HashSet<&str> = lake.values().map(|row| row.ingest_id.as_str()).collect();
    assert_eq!(places.len(), lake.len(), "two events of the lake have one place in the log");

    alike("events_raw", &ids, &raw(playhouse));
    let tables = tables(&data.join("tables.db"));
    alike("the tables", &ids, &tables.keys().copied().collect());
    for (id, row) in &tables {
        assert_eq!(row, &lake[id], "{id}: the tables, then the lake");
    }
    views(playhouse, &ids);
    cache(playhouse, &ids, newest);
    late(playhouse);
    bad(playhouse, &ledger.invalid);
}

fn conserved(place: &str, found: &HashSet<Id>, sent: &Fates) {
    let lost: Vec<Id> = sent.acknowledged().filter(|id| !found.contains(id)).collect();
    assert!(lost.is_empty(), "{place} has lost {} acknowledged events, such as {:?}", lost.len(), some(&lost));
    let alien: Vec<Id> = found.iter().copied().filter(|id| !sent.0.contains_key(id)).collect();
    assert!(alien.is_empty(), "{place} has {} events that nobody sent, such as {:?}", alien.len(), some(&alien));
    println!("{place}: {} events, {} of them unanswered", found.len(), found.len() - sent.acknowledged().count());
}

fn alike(place: &str, lake: &HashSet<Id>, other: &HashSet<Id>) {
    let missing: Vec<Id> = lake.difference(other).copied().collect();
    let extra: Vec<Id> = other.difference(lake).copied().collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{place} lacks {} events of the lake ({:?}) and has {} that the lake lacks ({:?})",
        missing.len(),
        some(&missing),
        extra.len(),
        some(&extra)
    );
}

fn some(ids: &[Id]) -> Vec<String> {
    ids.iter().take(5).map(Id::to_string).collect()
}

fn text(cell: Option<String>) -> String {
    cell.expect("a value")
}

fn lake(playhouse: &Playhouse) -> HashMap<Id, Row> {
    let mut lake = HashMap::new();
    for row in playhouse.query("select id, ingest_id, position_ms, user_id, country from events") {
        let [id, ingest_id, position_ms, user, country] = row.try_into().expect("five columns");
        let id = id.as_deref().and_then(Id::parse).expect("an id of ours");
        let position_ms = text(position_ms).parse().expect("a number");
        let row = Row { ingest_id: text(ingest_id), position_ms, user: text(user), country };
        if let Some(twin) = lake.insert(id, row.clone()) {
            panic!("{id} is twice in the lake: {twin:?} and {row:?}");
        }
    }
    lake
}

fn raw(playhouse: &Playhouse) -> HashSet<Id> {
    let mut ids = HashSet::new();
    for row in playhouse.query("select raw from events_raw") {
        let raw = bytes(&text(row.into_iter().next().flatten()));
        let event: Value = serde_json::from_slice(&raw).expect("JSON as it was sent");
        let id = event["id"].as_str().and_then(Id::parse).expect("an id of ours");
        assert_eq!(String::from_utf8_lossy(&raw), events::text(id), "not byte for byte as it was sent");
        assert!(ids.insert(id), "{id} is twice in events_raw");
    }
    ids
}

fn tables(path: &Path) -> HashMap<Id, Row> {
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = "select id, ingest_id, position_ms, user_id, country from events";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let id: String = row.get(0)?;
        let (ingest_id, position_ms) = (row.get(1)?, row.get(2)?);
        Ok((Id::parse(&id), Row { ingest_id, position_ms, user: row.get(3)?, country: row.get(4)? }))
    });
    rows.unwrap().map(Result::unwrap).map(|(id, row)| (id.expect("an id of ours"), row)).collect()
}

fn views(playhouse: &Playhouse, ids: &HashSet<Id>) {
    let mut by_type: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut watched: BTreeMap<(String, String), (u64, BTreeSet<String>)> = BTreeMap::new();
    for id in ids {
        let day = id.day().to_owned();
        *by_type.entry((day.clone(), id.kind().to_owned())).or_default() += 1;
        users.entry(day.clone()).or_default().insert(id.user());
        let watched = watched.entry((day, id.content())).or_default();
        watched.0 += u64::from(id.watched_ms());
        watched.1.insert(id.user());
    }
    let expected = by_type.into_iter().map(|((day, kind), count)| vec![day, kind, count.to_string()]);
    check_view(playhouse, "select day, type, events from events_by_type order by 1, 2", expected.collect());
    let expected = users.into_iter().map(|(day, users)| vec![day, users.len().to_string()]);
    check_view(playhouse, "select day, users from unique_users_per_day order by 1", expected.collect());
    let expected = watched.into_iter().map(|((day, content), (watched_ms, viewers))| {
        vec![day, content, watched_ms.to_string(), viewers.len().to_string()]
    });
    let sql = "select day, content_id, watched_ms, viewers from watch_time order by 1, 2";
    check_view(playhouse, sql, expected.collect());
}

fn check_view(playhouse: &Playhouse, sql: &str, expected: Vec<Vec<String>>) {
    let found = playhouse.query(sql).into_iter().map(|row| row.into_iter().map(text).collect());
    let found: Vec<Vec<String>> = found.collect();
    assert_eq!(found, expected, "{sql}: found, then expected");
}

/// The cache may have evicted, and after a restart it has what the epoch log still had; what it has must be right.
fn cache(playhouse: &Playhouse, ids: &HashSet<Id>, newest: &[String]) {
    let ids: Vec<&Id> = ids.iter().collect();
    for ids in ids.chunks(CACHE_KEYS) {
        let keys: Vec<String> = ids.iter().map(|id| format!("event:{id}")).collect();
        for (id, value) in ids.iter().zip(playhouse.redis_values(&keys)) {
            let Some(value) = value else { continue };
            let value: Value = serde_json::from_slice(&value).expect("JSON in the cache");
            assert_eq!(value["id"], id.to_string(), "{value}");
            assert_eq!(value["position_ms"], id.position_ms(), "{value}");
            assert_eq!(value["user_id"], id.user(), "{value}");
        }
    }
    let keys: Vec<String> = newest.iter().map(|id| format!("event:{id}")).collect();
    let absent = playhouse.redis_values(&keys).iter().filter(|value| value.is_none()).count();
    assert_eq!(absent, 0, "the cache lacks events of this life");
    let unsent = playhouse.redis_values(&["event:nobody-0".to_owned()]);
    assert_eq!(unsent, [None]);
}

/// A late row is late once for each view.
fn late(playhouse: &Playhouse) {
    let sql = "select view, topic, \"partition\", \"offset\", count(*) from late_events group by 1, 2, 3, 4 having count(*) > 1";
    assert_eq!(playhouse.query(sql), Vec::<Vec<_>>::new(), "twice in late_events");
}

fn bad(playhouse: &Playhouse, sent: &Fates) {
    let mut by_text: HashMap<String, Id> = sent.0.keys().map(|id| (events::invalid_text(*id), *id)).collect();
    let mut found = HashSet::new();
    for row in playhouse.query("select raw from bad_events") {
        let raw = String::from_utf8(bytes(&text(row.into_iter().next().flatten()))).expect("text as it was sent");
        let id = by_text.remove(&raw).unwrap_or_else(|| panic!("twice in bad_events, or never sent: {raw}"));
        found.insert(id);
    }
    conserved("bad_events", &found, sent);
}

/// bytea as the SQL door prints it; text stays as it is.
fn bytes(cell: &str) -> Vec<u8> {
    let Some(hex) = cell.strip_prefix("\\x") else { return cell.as_bytes().to_vec() };
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hexadecimal digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
