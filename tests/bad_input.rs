//! The table of docs/events.md from outside: every row through every door has the same outcome, the same reasons, and the
//! same bytes kept.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use playhouse_client::produce::{Outgoing, Producer};
use playhouse_client::{Client, Compression, Options};
use playhouse_grpc::v1::event_result::Status;
use playhouse_grpc::v1::{SendReply, SendRequest};
use playhouse_testkit::{Playhouse, http, wait_until};
use serde_json::{Value, json};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

const TOPIC: &str = "multimedia_events";
const DEADLINE: Duration = Duration::from_secs(60);
/// `limits.event_bytes`
const EVENT_BYTES_MAX: usize = 1 << 20;
const SEVERAL: &str = "several things wrong";
const MARK: &str = "a byte order mark";

/// What is expected, by stage and keyword of a rejection's first reason.
type Expected = Result<(), (&'static str, &'static str)>;

/// A row: its name, what is sent, what is to become of it.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    expected: Expected,
}

impl Row {
    /// Of what is larger than an event may be, that much.
    fn kept(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(EVENT_BYTES_MAX)]
    }
}

/// An event with these fields besides those it needs. Ids are as long on every door, so that reasons count the same bytes.
fn event(door: &str, row: &str, more: &str) -> Vec<u8> {
    format!(r#"{{"id":"{door}:{row}","timestamp":"2025-08-31T12:00:00Z","type":"play","user":"u"{more}}}"#).into_bytes()
}

/// The default topic's, and a field whose references double at every level.
fn schema() -> String {
    let mut schema: Value = serde_json::from_str(include_str!("../config/multimedia_events.schema.json")).unwrap();
    let again = json!({"items": {"$ref": "#/$defs/tree"}});
    schema["$defs"] = json!({"tree": {"allOf": [again, again, {"type": "array"}]}});
    schema["properties"]["tree"] = json!({"$ref": "#/$defs/tree"});
    schema.to_string()
}

fn rows(door: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name: &'static str, more: &str, expected: Expected| {
        rows.push(Row { name, bytes: event(door, name, more), expected });
    };
    let no_json = Err(("decode", "json"));
    row("plain", "", Ok(()));
    row("not a number", r#","metadata":{"x":NaN}"#, no_json);
    row("infinity", r#","metadata":{"x":Infinity}"#, no_json);
    row("minus infinity", r#","metadata":{"x":-Infinity}"#, no_json);
    row("hexadecimal", r#","metadata":{"x":0x10}"#, no_json);
    row("a leading zero", r#","metadata":{"x":01}"#, no_json);
    row("a plus", r#","metadata":{"x":+1}"#, no_json);
    row("a comma too many", r#","metadata":{"x":1,}"#, no_json);
    row("a comment", r#","metadata":{/* no */}"#, no_json);
    row("a bare control character", ",\"metadata\":{\"x\":\"a\tb\"}", no_json);
    row("a zero byte", ",\"metadata\":{\"x\":\"a\0b\"}", no_json);
    row("an escaped zero byte", r#","metadata":{"x":"a\u0000b"}"#, Ok(()));
    row("a duplicate key", r#","user":"v""#, no_json);
    row("a duplicate key inside", r#","metadata":{"x":1,"x":1}"#, no_json);
    row("a duplicate key by escape", r#","metadata":{"x":1,"\u0078":2}"#, no_json);
    row("a lone surrogate", r#","metadata":{"x":"\ud800"}"#, no_json);
    row("a lone low surrogate", r#","metadata":{"x":"\udc00"}"#, no_json);
    row("a lone surrogate in a key", r#","metadata":{"\ud800":1}"#, no_json);
    row("a pair of surrogates", r#","metadata":{"x":"\ud83d\ude00"}"#, Ok(()));
    row("beyond a double", r#","metadata":{"x":1e309}"#, no_json);
    row("beyond a double below zero", r#","metadata":{"x":-1e309}"#, no_json);
    row("as good as nothing", r#","metadata":{"x":1e-400}"#, Ok(()));
    row("beyond 2^53", r#","metadata":{"x":9007199254740993}"#, Ok(()));
    row("beyond 2^53 where it counts", r#","position_ms":9007199254740993"#, Err(("validate", "maximum")));
    row("beyond 64 bits", r#","metadata":{"x":123456789012345678901234567890}"#, Ok(()));
    row("a whole number with a point", r#","position_ms":1.0"#, Ok(()));
    row("half a number", r#","position_ms":1.5"#, Err(("validate", "type")));
    let nested = |depth: usize| format!(r#","metadata":{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    row("nested", &nested(60), Ok(()));
    row("nested too deep", &nested(64), Err(("decode", "depth")));
    row("nested far too deep", &nested(100_000), Err(("decode", "depth")));
    let tree = |levels: usize| format!(r#","tree":{}{}"#, "[".repeat(levels), "]".repeat(levels));
    row("looked at often", &tree(6), Ok(()));
    row("looked at too often", &tree(30), Err(("decode", "depth")));
    row("large", &format!(r#","metadata":{{"x":"{}"}}"#, "x".repeat(1 << 19)), Ok(()));
    row("too large", &format!(r#","metadata":{{"x":"{}"}}"#, "x".repeat(1 << 20)), Err(("decode", "size")));
    row(SEVERAL, r#","position_ms":-1,"watched_ms":"x","metadata":1"#, Err(("validate", "type")));
    row("an address that is none", r#","ip":"1.2.3""#, Err(("validate", "anyOf")));
    row("printed", ",\r\n  \"metadata\" : { \"x\" : 1 }\r\n", Ok(()));
    let mut bytes = |name: &'static str, bytes: Vec<u8>, expected: Expected| {
        rows.push(Row { name, bytes, expected });
    };
    bytes("no JSON", format!("{door}: not JSON").into(), no_json);
    bytes("cut off", event(door, "cut off", "")[..40].to_vec(), no_json);
    bytes("a scalar", format!("\"{door}\"").into(), Err(("validate", "type")));
    bytes("nothing of it", format!(r#"{{"{door}":1}}"#).into(), Err(("validate", "required")));
    bytes("not UTF-8", [event(door, "not UTF-8", "").as_slice(), b"\xff"].concat(), Err(("decode", "encoding")));
    let mut inside = event(door, "not UTF-8 inside", r#","metadata":{"x":"?"}"#);
    let at = inside.iter().position(|byte| *byte == b'?').unwrap();
    inside[at] = 0xc3;
    bytes("not UTF-8 inside", inside, Err(("decode", "encoding")));
    bytes(MARK, [b"\xef\xbb\xbf", event(door, MARK, "").as_slice()].concat(), no_json);
    rows
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Accepted,
    /// Stage and reasons, as they are kept.
    Rejected(String, Value),
}

impl Outcome {
    /// Messages may quote what was sent, and that names its door.
    fn without(&self, door: &str) -> Outcome {
        match self {
            Outcome::Accepted => Outcome::Accepted,
            Outcome::Rejected(stage, reasons) => {
                let reasons = reasons.to_string().replace(door, "door");
                Outcome::Rejected(stage.clone(), serde_json::from_str(&reasons).unwrap())
            }
        }
    }
}

struct World {
    playhouse: Playhouse,
    runtime: tokio::runtime::Runtime,
    /// Of bad events that were looked at.
    cursor: String,
    positions: BTreeMap<i32, i64>,
    _directory: tempfile::TempDir,
}

impl World {
    fn start() -> World {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("schema.json");
        std::fs::write(&file, schema()).unwrap();
        let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path().join("data"));
        let playhouse = builder.set("schema", file.display()).start();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let positions = (0..4).map(|partition| (partition, 0)).collect();
        World { playhouse, runtime, cursor: String::new(), positions, _directory: directory }
    }

    /// What has become of the rows that a door takes.
    fn outcomes(
        &mut self,
        door: &str,
        takes: fn(&Row) -> bool,
        send: impl FnOnce(&World, &[Row]),
    ) -> BTreeMap<&'static str, Outcome> {
        let rows: Vec<Row> = rows(door).into_iter().filter(takes).collect();
        send(self, &rows);
        let mut found: Vec<(Vec<u8>, Outcome)> = Vec::new();
        wait_until("every row is somewhere", DEADLINE, || {
            found.extend(self.accepted().into_iter().map(|bytes| (bytes, Outcome::Accepted)));
            found.extend(self.rejected());
            if found.len() >= rows.len() { Ok(()) } else { Err(format!("{} of {}", found.len(), rows.len())) }
        });
        assert_eq!(found.len(), rows.len(), "{door}: each is in one place");
        let of = |row: &Row| {
            let (_, outcome) = found.iter().find(|(bytes, _)| bytes == row.kept()).unwrap_or_else(|| {
                panic!("{door}: {:?} is not kept as it was sent", row.name);
            });
            (row.name, outcome.without(door))
        };
        rows.iter().map(of).collect()
    }

    /// Values that are new in the topic.
    fn accepted(&mut self) -> Vec<Vec<u8>> {
        let bootstrap = self.playhouse.kafka().to_string();
        let positions = &mut self.positions;
        self.runtime.block_on(async {
            let mut client = Client::connect(&bootstrap, Options::default()).await.unwrap();
            let mut values = Vec::new();
            loop {
                let records = client.fetch(TOPIC, positions, Duration::from_millis(50)).await.unwrap();
                if records.is_empty() {
                    return values;
                }
                values.extend(records.into_iter().filter_map(|record| record.value));
            }
        })
    }

    /// Bad events that are new.
    fn rejected(&mut self) -> Vec<(Vec<u8>, Outcome)> {
        let mut found = Vec::new();
        loop {
            let path = format!("/api/bad-events?limit=20&cursor={}", self.cursor);
            let answer = http::get(self.playhouse.admin(), &path).unwrap().json();
            for row in answer["bad_events"].as_array().unwrap() {
                let raw = match row["raw"].as_str() {
                    Some(raw) => raw.as_bytes().to_vec(),
                    None => STANDARD.decode(row["raw_base64"].as_str().unwrap()).unwrap(),
                };
                let stage = row["stage"].as_str().unwrap().to_owned();
                found.push((raw, Outcome::Rejected(stage, row["reasons"].clone())));
            }
            self.cursor = answer["cursor"].as_str().unwrap().to_owned();
            if answer["end"] == json!(true) {
                return found;
            }
        }
    }

    fn over_rest(&self, rows: &[Row]) {
        for row in rows {
            let (status, answer) = self.playhouse.post("/events", &row.bytes, &[]);
            let wanted = if row.expected.is_ok() { 200 } else { 422 };
            assert_eq!(status, wanted, "{}: {answer}", row.name);
        }
    }

    fn over_kafka(&self, rows: &[Row]) {
        let bootstrap = self.playhouse.kafka().to_string();
        self.runtime.block_on(async {
            let mut client = Client::connect(&bootstrap, Options::default()).await.unwrap();
            let mut producer = Producer::open(&mut client, TOPIC, Compression::Lz4).await.unwrap();
            for row in rows {
                let record = Outgoing { value: Some(row.bytes.clone()), timestamp_ms: 1_000, ..Outgoing::default() };
                producer.send(&mut client, &[record]).await.unwrap_or_else(|error| panic!("{}: {error}", row.name));
            }
        });
    }

    fn over_grpc(&self, rows: &[Row]) {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.playhouse.grpc())).unwrap();
        let reply = self.runtime.block_on(async {
            let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
            client.ready().await.unwrap();
            let events = rows.iter().map(|row| row.bytes.clone().into()).collect();
            let request = tonic::Request::new(SendRequest { topic: String::new(), events });
            let path = PathAndQuery::from_static("/playhouse.v1.Ingest/Send");
            let codec = tonic_prost::ProstCodec::<SendRequest, SendReply>::default();
            client.unary(request, path, codec).await.unwrap().into_inner()
        });
        for (row, result) in rows.iter().zip(&reply.results) {
            let accepted = matches!(result.status, Some(Status::Accepted(_)));
            assert_eq!(accepted, row.expected.is_ok(), "{}: {result:?}", row.name);
        }
    }

    /// Its binary format takes any bytes.
    fn over_the_rest_proxy(&self, rows: &[Row]) {
        let headers = [("Content-Type", "application/vnd.kafka.binary.v2+json")];
        for row in rows {
            let body = json!({"records": [{"value": STANDARD.encode(&row.bytes)}]}).to_string();
            let path = format!("/topics/{TOPIC}");
            let answer = http::post(self.playhouse.rest_proxy(), &path, &headers, body.as_bytes()).unwrap();
            assert_eq!(answer.status, 200, "{}: {}", row.name, answer.text());
        }
    }

    /// As lines of a recording.
    fn by_replay(&self, rows: &[Row]) {
        let url = format!("http://{}", self.playhouse.ingest());
        let mut command = Command::new("timeout");
        command.args(["120", env!("CARGO_BIN_EXE_playhouse"), "replay", "-", "--format", "ndjson", "--url", &url]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = Vec::new();
        for row in rows {
            lines.extend_from_slice(&row.bytes);
            lines.push(b'\n');
        }
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &lines).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code < 2), "{said}");
    }
}

#[test]
fn every_row_has_the_same_outcome_on_every_door() {
    let mut world = World::start();
    type Door = (&'static str, fn(&Row) -> bool, fn(&World, &[Row]));
    let doors: [Door; 5] = [
        ("grpc", |_| true, World::over_grpc),
        ("kafk", |_| true, World::over_kafka),
        ("prox", |_| true, World::over_the_rest_proxy),
        // A mark at the beginning of a body, or of a file, is not the event's.
        ("rest", |row| row.name != MARK, World::over_rest),
        // What is no line, or longer than an event may be, it names and does not send; and a line does not end the input.
        ("repl", is_one_line, World::by_replay),
    ];
    let mut first: Option<BTreeMap<&'static str, Outcome>> = None;
    let mut accepted = 0;
    let mut surprises = Vec::new();
    for (door, takes, send) in doors {
        let outcomes = world.outcomes(door, takes, send);
        accepted += outcomes.values().filter(|outcome| **outcome == Outcome::Accepted).count();
        let first = first.get_or_insert_with(|| {
            surprises.extend(rows(door).iter().filter_map(|row| surprise(row, &outcomes[row.name])));
            outcomes.clone()
        });
        let others = outcomes.iter().filter(|(row, outcome)| *outcome != &first[*row]);
        surprises
            .extend(others.map(|(row, outcome)| format!("{door}, {row}: {outcome:?} instead of {:?}", first[row])));
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    world.playhouse.in_sight();
    assert_eq!(world.playhouse.count("select count(*) from events"), accepted as i64);
    let sources = world.playhouse.query("select distinct source_protocol from bad_events order by 1");
    assert_eq!(sources, [[Some("grpc".to_owned())], [Some("kafka".to_owned())], [Some("rest".to_owned())]]);
}

fn is_one_line(row: &Row) -> bool {
    ![MARK, "too large", "cut off"].contains(&row.name) && !row.bytes.contains(&b'\n')
}

/// What is wrong with an outcome.
fn surprise(row: &Row, outcome: &Outcome) -> Option<String> {
    let as_expected = match (&row.expected, outcome) {
        (Ok(()), Outcome::Accepted) => true,
        (Err((stage, keyword)), Outcome::Rejected(kept, reasons)) => {
            let reasons = reasons.as_array().unwrap();
            let all = if row.name == SEVERAL { 3 } else { reasons.len() };
            let told = |reason: &Value| reason["message"].as_str().is_some_and(|message| !message.is_empty());
            kept == stage && reasons[0]["keyword"] == json!(keyword) && reasons.len() == all && reasons.iter().all(told)
        }
        _ => false,
    };
    (!as_expected).then(|| format!("{}: {outcome:?} instead of {:?}", row.name, row.expected))
}
