//! Replay against a door of our own, which misbehaves on request.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use playhouse_generate::replay::{self, Ending, Format, Input, ReplayError, ReplayOptions, Resume, ResumeKey, Shift};
use playhouse_generate::send::{ClientConfig, Courier, SendError, Summary, Target};
use serde_json::{Value, json};
use tokio::sync::watch;

fn access_log() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/access.log.gz")
}

/// What the door does with a request.
#[derive(Clone, Copy)]
enum Mood {
    Take,
    /// Takes the events, but the answer is lost with the connection.
    TakeAndHangUp,
    Busy,
    TooLarge,
    Refuse,
    Stall,
}

#[derive(Default)]
struct Door {
    events: Mutex<Vec<Value>>,
    requests: AtomicUsize,
    connections: AtomicUsize,
}

impl Door {
    /// Opens a door whose mood follows from the request's place, from 0, and its number of events.
    async fn open(mood: impl Fn(usize, usize) -> Mood + Send + Sync + 'static) -> (Arc<Self>, Target) {
        let door = Arc::new(Door::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mood, shared) = (Arc::new(mood), door.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (door, mood) = (shared.clone(), mood.clone());
                door.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let service = service_fn(|request| door.clone().answer(request, mood.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        (door, Target::new(&url, None).unwrap())
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        mood: Arc<impl Fn(usize, usize) -> Mood>,
    ) -> Result<Response<Full<Bytes>>, &'static str> {
        assert_eq!(request.uri().path(), "/events");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let lines: Vec<&[u8]> = body.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n').collect();
        let place = self.requests.fetch_add(1, Ordering::Relaxed);
        let respond = |status: u16, body: Value| {
            Ok(Response::builder()
                .status(status)
                .header("retry-after", "0")
                .body(Full::from(body.to_string()))
                .unwrap())
        };
        let mood = mood(place, lines.len());
        match mood {
            Mood::Busy => return respond(429, json!({"title": "busy", "detail": "the log is behind"})),
            Mood::TooLarge => return respond(413, json!({"title": "too large"})),
            Mood::Refuse => return respond(404, json!({"title": "not found", "detail": "no such topic"})),
            Mood::Stall => std::future::pending().await,
            Mood::Take | Mood::TakeAndHangUp => {}
        }
        let mut results = Vec::new();
        let mut accepted = 0;
        for (index, line) in lines.iter().enumerate() {
            match serde_json::from_slice::<Value>(line) {
                Ok(event) if event["user"].is_string() => {
                    accepted += 1;
                    results.push(json!({"index": index, "id": event["id"], "status": "accepted"}));
                    self.events.lock().unwrap().push(event);
                }
                _ => results.push(json!({"index": index, "status": "rejected",
                    "reasons": [{"path": "/user", "message": "is required", "keyword": "required"}]})),
            }
        }
        if matches!(mood, Mood::TakeAndHangUp) {
            return Err("hanging up");
        }
        let status = if accepted == 0 { 422 } else { 200 };
        respond(status, json!({"accepted": accepted, "rejected": lines.len() - accepted, "results": results}))
    }

    fn distinct(&self) -> HashSet<String> {
        self.events.lock().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn courier(target: &Target, width: usize, summary: Summary) -> Courier {
    let config = ClientConfig { patience: Duration::from_secs(5), ..ClientConfig::new(target.clone()) };
    Courier::new(config, width, summary)
}

async fn replay_file(path: &Path, target: &Target) -> Result<Ending, ReplayError> {
    let mut input = Input::open(path, None)?;
    let (_keep, stop) = watch::channel(false);
    let mut courier = courier(target, 2, Summary::default());
    replay::run(&mut input, &mut courier, None, &ReplayOptions::default(), stop, &mut |_| {}).await
}

fn file(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn events(mut input: Input) -> Vec<Value> {
    let mut out = Vec::new();
    while let Some(item) = input.next(&mut out).unwrap() {
        assert_eq!(item.malformed, None, "line {}", item.number);
    }
    out.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

#[test]
fn ten_thousand_real_lines_are_ten_thousand_events() {
    let read = || events(Input::open(&access_log(), None).unwrap());
    let events = read();
    assert_eq!(events.len(), 10_000);
    let ids: HashSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 10_000);
    assert_eq!(read(), events, "the same ids the next time");

    // Counted apart from the parser: the status is the first word after the request's closing quote.
    let mut text = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(std::fs::File::open(access_log()).unwrap()),
        &mut text,
    )
    .unwrap();
    let mut expected = BTreeMap::<(String, u64, String), u32>::new();
    for line in text.lines() {
        let status = line.split("\" ").nth(1).unwrap()[..3].parse().unwrap();
        let day = line.split('[').nth(1).unwrap()[..2].to_owned();
        *expected.entry((line.split(' ').next().unwrap().to_owned(), status, day)).or_default() += 1;
    }
    let mut counted = BTreeMap::<(String, u64, String), u32>::new();
    for event in &events {
        let status = event["metadata"]["status"].as_u64().unwrap();
        let day = event["timestamp"].as_str().unwrap()[8..10].to_owned();
        *counted.entry((event["ip"].as_str().unwrap().to_owned(), status, day)).or_default() += 1;
        assert_eq!(event["type"], "page_view");
        assert!(event["metadata"]["path"].is_string() && event["metadata"]["method"].is_string(), "{event}");
    }
    assert_eq!(counted, expected);
    assert_eq!(text.lines().collect::<HashSet<_>>().len(), 10_000 - 19, "19 lines repeat an earlier one");
}

#[test]
fn every_packing_gives_the_same_events() {
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<Value> = (0..300)
        .map(|n| json!({"id": format!("e{n}"), "timestamp": "2025-01-01T00:00:00Z", "type": "play", "user": "ü"}))
        .collect();
    let ndjson: String = lines.iter().map(|line| format!("{line}\r\n\n")).collect();
    let array = serde_json::to_vec_pretty(&lines).unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let two_members = [gzip(&ndjson.as_bytes()[..5000]), gzip(&ndjson.as_bytes()[5000..])].concat();
    for (name, content, format) in [
        ("plain", ndjson.clone().into_bytes(), Format::Ndjson),
        ("bom", [b"\xef\xbb\xbf\n ", ndjson.as_bytes()].concat(), Format::Ndjson),
        ("gzip", two_members, Format::Ndjson),
        ("zstd", zstd::encode_all(ndjson.as_bytes(), 1).unwrap(), Format::Ndjson),
        ("array", array.clone(), Format::JsonArray),
        ("array.zst", zstd::encode_all(&array[..], 1).unwrap(), Format::JsonArray),
    ] {
        let input = Input::open(&file(directory.path(), name, &content), None).unwrap();
        assert_eq!(input.format(), format, "{name}");
        assert_eq!(events(input), lines, "{name}");
    }
    let empty = Input::open(&file(directory.path(), "empty", b""), None).unwrap();
    assert_eq!(events(empty), Vec::<Value>::new());
}

#[test]
fn shifted_lines_are_other_events() {
    let span = Input::open(&access_log(), None).unwrap().time_span().unwrap().unwrap();
    assert_eq!(span.0.to_rfc3339(), "2015-05-17T10:05:00+00:00");
    assert_eq!(span.1.to_rfc3339(), "2015-05-20T21:05:59+00:00");
    let mut input = Input::open(&access_log(), None).unwrap();
    input.set_shift(Shift::new(Some(span), Some("2025-01-01T00:00:00Z".parse().unwrap()), None).unwrap());
    let (plain, shifted) = (events(Input::open(&access_log(), None).unwrap()), events(input));
    assert_eq!(shifted[0]["timestamp"], "2025-01-01T00:00:03Z");
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].to_string()).collect::<HashSet<_>>();
    assert_eq!(ids(&shifted).len(), 10_000);
    assert!(ids(&plain).is_disjoint(&ids(&shifted)));
}

#[tokio::test]
async fn a_moody_door_gets_everything() {
    let (door, target) = Door::open(|place, events| match place {
        0 | 1 => Mood::Busy,
        2 => Mood::TakeAndHangUp,
        _ if events > 300 => Mood::TooLarge,
        _ => Mood::Take,
    })
    .await;
    let ending = replay_file(&access_log(), &target).await.unwrap();
    assert_eq!((ending.summary.accepted, ending.summary.rejected, ending.summary.unsendable), (10_000, 0, 0));
    assert!(!ending.interrupted);
    assert_eq!(door.distinct().len(), 10_000);
    assert!(door.connections.load(Ordering::Relaxed) <= 6, "connections are kept alive");
}

#[tokio::test]
async fn the_summary_says_what_was_rejected_and_what_could_not_be_sent() {
    let directory = tempfile::tempdir().unwrap();
    let (door, target) = Door::open(|_, _| Mood::Take).await;
    let good = r#"{"id":"a","user":"u"}"#;
    let path = file(directory.path(), "events", format!("{good}\n{{\"id\":\"b\"}}\nnot json\n\n{good}\n").as_bytes());
    let ending = replay_file(&path, &target).await.unwrap();
    assert_eq!(
        ending.summary.to_string(),
        "4 events: 2 accepted, 2 rejected\n         2  /user: is required (lines 2, 3)"
    );
    let log = "1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1";
    let path = file(directory.path(), "log", format!("{log}\nwhat\n{log}\n{}", "x".repeat(2 << 20)).as_bytes());
    let ending = replay_file(&path, &target).await.unwrap();
    assert_eq!((ending.summary.accepted, ending.summary.unsendable), (2, 2));
    assert_eq!(
        ending.summary.reasons.values().map(|reason| reason.lines.clone()).collect::<Vec<_>>(),
        [vec![4], vec![2]]
    );
    assert_eq!(door.distinct().len(), 3);
}

#[tokio::test]
async fn an_event_too_large_for_the_door_is_told_and_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let large = Arc::new(AtomicUsize::new(0));
    let seen = large.clone();
    // Requests with the third event are too large, down to that event alone.
    let (door, target) = Door::open(move |place, events| match (place, events) {
        (0, 4) | (2, 2) | (3, 1) => {
            seen.fetch_add(1, Ordering::Relaxed);
            Mood::TooLarge
        }
        _ => Mood::Take,
    })
    .await;
    let lines: String = (0..4).map(|n| format!("{{\"id\":\"{n}\",\"user\":\"u\"}}\n")).collect();
    let ending = replay_file(&file(directory.path(), "events", lines.as_bytes()), &target).await.unwrap();
    assert_eq!((ending.summary.accepted, ending.summary.unsendable), (3, 1));
    assert_eq!(ending.summary.reasons["larger than the door takes"].lines, [3]);
    assert_eq!(large.load(Ordering::Relaxed), 3);
    assert_eq!(door.distinct(), HashSet::from(["0", "1", "3"].map(str::to_owned)));
}

#[tokio::test]
async fn refusal_and_a_closed_door_end_with_a_clear_error() {
    let (_door, target) = Door::open(|_, _| Mood::Refuse).await;
    let error = replay_file(&access_log(), &target).await.unwrap_err();
    assert!(error.to_string().ends_with("refuses the request: 404 Not Found: no such topic"), "{error}");

    let closed = Target::new("http://127.0.0.1:1", None).unwrap();
    let config = ClientConfig { patience: Duration::from_millis(200), ..ClientConfig::new(closed) };
    let (_keep, stop) = watch::channel(false);
    let mut input = Input::open(&access_log(), None).unwrap();
    let mut courier = Courier::new(config, 1, Summary::default());
    let error =
        replay::run(&mut input, &mut courier, None, &ReplayOptions::default(), stop, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, ReplayError::Send(SendError::GivenUp { .. })), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_truncated_file_sends_what_can_be_read_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(access_log()).unwrap();
    let path = file(directory.path(), "cut.gz", &whole[..whole.len() / 2]);
    let (door, target) = Door::open(|_, _| Mood::Take).await;
    let error = replay_file(&path, &target).await.unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
    assert!(door.distinct().len() > 3_000);
}

fn key(target: &Target) -> ResumeKey {
    ResumeKey { file: access_log().display().to_string(), target: target.to_string(), options: String::new() }
}

#[tokio::test]
async fn an_interrupted_replay_resumes_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    // The door takes three requests and hangs on the fourth, until it is opened again.
    let open = Arc::new(AtomicUsize::new(3));
    let limit = open.clone();
    let (door, target) =
        Door::open(move |place, _| if place < limit.load(Ordering::SeqCst) { Mood::Take } else { Mood::Stall }).await;
    let (stopper, stop) = watch::channel(false);
    let mut resume = Resume::find(directory.path(), key(&target)).unwrap();
    let mut input = Input::open(&access_log(), None).unwrap();
    let mut first = courier(&target, 1, Summary::default());
    let mut on_progress = |progress: replay::Progress| {
        if progress.accepted == 3_000 {
            stopper.send_replace(true);
        }
    };
    let options = ReplayOptions::default();
    let ending =
        replay::run(&mut input, &mut first, Some(&mut resume), &options, stop, &mut on_progress).await.unwrap();
    assert!(ending.interrupted);
    assert_eq!(ending.summary.accepted, 3_000);
    drop(resume);

    open.store(usize::MAX, Ordering::SeqCst);
    let before = door.requests.load(Ordering::SeqCst);
    let mut resume = Resume::find(directory.path(), key(&target)).unwrap();
    assert_eq!(resume.acknowledged(), 3_000);
    let mut input = Input::open(&access_log(), None).unwrap();
    let mut second = courier(&target, 1, resume.summary().clone());
    let (_keep, stop) = watch::channel(false);
    let ending = replay::run(&mut input, &mut second, Some(&mut resume), &options, stop, &mut |_| {}).await.unwrap();
    assert_eq!(ending.summary.accepted, 10_000);
    assert_eq!(door.requests.load(Ordering::SeqCst) - before, 7, "only what was left");
    assert_eq!(door.distinct().len(), 10_000);
    assert_eq!(door.events.lock().unwrap().len(), 10_000);
    resume.complete().unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_state_belongs_to_its_file_and_target() {
    let directory = tempfile::tempdir().unwrap();
    let states = directory.path().join("states");
    let path = file(directory.path(), "log", b"first\nsecond\n");
    let key = |target: &str| ResumeKey { file: path.display().to_string(), target: target.into(), options: "o".into() };
    let mut resume = Resume::find(&states, key("t")).unwrap();
    resume.save(1, &Summary { accepted: 1, ..Summary::default() }).unwrap();
    let found = |target: &str| Resume::find(&states, key(target)).unwrap().acknowledged();
    assert_eq!(found("t"), 1);
    assert_eq!(found("elsewhere"), 0);
    std::fs::write(&path, b"first\nsecond\nthird\n").unwrap();
    assert_eq!(found("t"), 1, "a log that grew goes on");
    std::fs::write(&path, b"other\nsecond\nthird\n").unwrap();
    assert_eq!(found("t"), 0);
    std::fs::write(&path, b"fi").unwrap();
    assert_eq!(found("t"), 0);
}
