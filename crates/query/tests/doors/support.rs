//! A door over providers made here: two views that change together, a lake with a tail, three bad events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::datasource::MemTable;
use playhouse_gate::{BadEvent, Reason, Stage};
use playhouse_query::{
    BoxError, Catalog, LakeSource, PgConfig, PgServer, PinnedLake, RowIter, TailRows, ViewRows, ViewSnapshot,
};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

pub struct FixedView(pub RecordBatch);

impl ViewRows for FixedView {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
    fn batches(&self, max_rows: usize) -> Result<Vec<RecordBatch>, BoxError> {
        let rows = self.0.num_rows();
        Ok((0..rows).step_by(max_rows).map(|from| self.0.slice(from, max_rows.min(rows - from))).collect())
    }
}

/// Views `left_view` and `right_view`: one hundred keys, each with the epoch as its value.
pub fn snapshot(epoch: u64) -> ViewSnapshot {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100).map(|_| epoch as i64)));
    let view = |value: &str| -> Arc<dyn ViewRows> {
        let columns = [("k", keys.clone()), (value, values.clone())];
        Arc::new(FixedView(RecordBatch::try_from_iter(columns).unwrap()))
    };
    let views = BTreeMap::from([("left_view".to_owned(), view("a")), ("right_view".to_owned(), view("b"))]);
    ViewSnapshot { epoch, views }
}

pub const DAY: i32 = 20_331; // 2025-08-31
pub const NOON_US: i64 = 1_756_641_600_000_000; // 2025-08-31T12:00:00Z

pub fn lake_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("country", DataType::Utf8, true),
        Field::new("watched_ms", DataType::Int64, true),
        Field::new("score", DataType::Float64, true),
        Field::new("date", DataType::Date32, false),
    ]))
}

/// Events `from..to`; every third has no country.
pub fn events(from: i64, to: i64) -> RecordBatch {
    let countries = ["CZ", "US", "DE"];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((from..to).map(|n| format!("event{n}")))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values((from..to).map(|n| NOON_US + n * 1000)).with_timezone("UTC"),
        ),
        Arc::new(StringArray::from_iter(
            (from..to).map(|n| if n % 3 == 2 { None } else { Some(countries[(n % 2) as usize]) }),
        )),
        Arc::new(Int64Array::from_iter_values((from..to).map(|n| n * 10))),
        Arc::new(Float64Array::from_iter_values((from..to).map(|n| n as f64 / 2.0))),
        Arc::new(Date32Array::from_iter_values((from..to).map(|_| DAY))),
    ];
    RecordBatch::try_new(lake_schema(), columns).unwrap()
}

/// The committed part as a lake may give it: other order, other string types, one column less.
pub fn committed(batch: &RecordBatch) -> Arc<MemTable> {
    let columns = ["date", "country", "id", "event_time", "watched_ms"].map(|name| {
        let column = batch.column_by_name(name).unwrap();
        let column = match name {
            "country" => cast(column, &DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8))),
            "id" => cast(column, &DataType::Utf8View),
            _ => Ok(column.clone()),
        };
        (name, column.unwrap(), true)
    });
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap())
}

pub struct FakeLake {
    pub name: &'static str,
    pub committed: Option<Arc<MemTable>>,
    pub tail: Vec<RecordBatch>,
    pub pins: Arc<AtomicUsize>,
    /// The epoch of the last pin.
    pub epoch: Arc<AtomicU64>,
}

struct Tail(Vec<RecordBatch>);

impl TailRows for Tail {
    fn open(&self) -> RowIter {
        Box::new(self.0.clone().into_iter().map(Ok))
    }
}

#[async_trait]
impl LakeSource for FakeLake {
    fn name(&self) -> &str {
        self.name
    }
    fn schema(&self) -> SchemaRef {
        lake_schema()
    }
    async fn pin(&self, epoch: u64) -> Result<PinnedLake, BoxError> {
        self.pins.fetch_add(1, Ordering::SeqCst);
        self.epoch.store(epoch, Ordering::SeqCst);
        let committed = self.committed.clone().map(|table| table as _);
        Ok(PinnedLake { committed, tail: Arc::new(Tail(self.tail.clone())) })
    }
}

/// A tail that never ends.
pub struct EndlessLake;

struct Endless;

impl TailRows for Endless {
    fn open(&self) -> RowIter {
        Box::new((0..).map(|n| Ok(events(n, n + 100))))
    }
}

#[async_trait]
impl LakeSource for EndlessLake {
    fn name(&self) -> &str {
        "endless"
    }
    fn schema(&self) -> SchemaRef {
        lake_schema()
    }
    async fn pin(&self, _epoch: u64) -> Result<PinnedLake, BoxError> {
        Ok(PinnedLake { committed: None, tail: Arc::new(Endless) })
    }
}

pub fn bad_event(n: i64) -> BadEvent {
    BadEvent {
        bad_id: format!("0-{n}"),
        received_at_ms: NOON_US / 1000 + n,
        topic: "multimedia_events".to_owned(),
        source_protocol: "rest".to_owned(),
        source_address: (n != 1).then(|| "192.0.2.7".to_owned()),
        user_agent: None,
        schema_id: Some(1),
        stage: if n == 2 { Stage::Sink("tables".to_owned()) } else { Stage::Validate },
        reasons: vec![Reason {
            path: "/user".to_owned(),
            message: "is \"required\"".to_owned(),
            keyword: "required".to_owned(),
        }],
        raw: vec![0, 0xff, b'{'],
        is_cut: false,
        key: None,
        headers: Vec::new(),
        attempts: 0,
        fixed_as: None,
        dropped: n == 2,
        place: None,
    }
}

pub struct TestDoor {
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub server: tokio::task::JoinHandle<()>,
    pub current: Arc<Mutex<ViewSnapshot>>,
    pub pins: Arc<AtomicUsize>,
    pub pinned_epoch: Arc<AtomicU64>,
    _spill: tempfile::TempDir,
}

pub async fn open() -> TestDoor {
    open_with(|_| {}).await
}

/// `events`: 1000 committed, 50 in the tail.
pub async fn open_with(change: impl FnOnce(&mut PgConfig)) -> TestDoor {
    let current = Arc::new(Mutex::new(snapshot(1)));
    let (pins, pinned_epoch) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let events = FakeLake {
        name: "events",
        committed: Some(committed(&events(0, 1000))),
        tail: vec![events(1000, 1030), events(1030, 1050)],
        pins: pins.clone(),
        epoch: pinned_epoch.clone(),
    };
    let late = FakeLake {
        name: "late_events",
        committed: None,
        tail: vec![],
        pins: pins.clone(),
        epoch: pinned_epoch.clone(),
    };
    let views = current.clone();
    let catalog = Catalog {
        views: Arc::new(move || views.lock().unwrap().clone()),
        lakes: vec![Arc::new(events), Arc::new(late), Arc::new(EndlessLake)],
        bad: Arc::new(|position: &mut Vec<i64>, max_rows| {
            let from = position.first().copied().unwrap_or(0);
            let to = (from + max_rows.min(2) as i64).min(3);
            *position = vec![to];
            Ok((from..to).map(bad_event).collect())
        }),
    };
    let spill = tempfile::tempdir().unwrap();
    let mut config = PgConfig::new(spill.path().join("spill"));
    change(&mut config);
    let server = PgServer::bind("127.0.0.1:0".parse().unwrap(), catalog, config).await.unwrap();
    let address = server.local_addr();
    let stop = CancellationToken::new();
    let server = tokio::spawn(server.serve(stop.clone()));
    TestDoor { address, stop, server, current, pins, pinned_epoch, _spill: spill }
}

impl TestDoor {
    pub async fn connect(&self) -> Client {
        let settings = format!("host=127.0.0.1 port={} user=anyone dbname=whatever", self.address.port());
        let (client, connection) = tokio_postgres::connect(&settings, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}
