//! The gRPC door as a client sees it: results per event, the same reasons and bad events as over HTTP, limits, the end.

use std::time::Duration;

use playhouse_grpc::v1::event_result::Status as ResultStatus;
use playhouse_grpc::v1::{SendReply, SendRequest};
use playhouse_testkit::{Playhouse, http, wait_until};
use serde_json::json;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const DEADLINE: Duration = Duration::from_secs(30);

fn start() -> (tempfile::TempDir, Playhouse) {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse"))
        .data(directory.path())
        .set("grpc.message_bytes_max", "2 MiB")
        .start();
    (directory, playhouse)
}

async fn connect(playhouse: &Playhouse) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", playhouse.grpc())).unwrap();
    let mut client = Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

fn batch(topic: &str, events: impl IntoIterator<Item = String>) -> SendRequest {
    SendRequest { topic: topic.into(), events: events.into_iter().map(Into::into).collect() }
}

async fn send(client: &mut Grpc<Channel>, request: SendRequest) -> Result<SendReply, Status> {
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/playhouse.v1.Ingest/Send");
    client.unary(Request::new(request), path, ProstCodec::default()).await.map(tonic::Response::into_inner)
}

fn event(id: &str) -> String {
    json!({"id": id, "timestamp": "2025-08-31T12:00:00Z", "type": "play", "user": format!("user of {id}")}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_event_by_event_as_over_http() {
    let (_directory, playhouse) = start();
    let mut client = connect(&playhouse).await;
    let printed = event("pretty").replace(',', ",\n");
    let bad = r#"{"id":"bad","timestamp":"today"}"#;
    let events = [event("one"), bad.into(), printed, format!("{}\n{}", event("a"), event("b")), String::new()];
    let reply = send(&mut client, batch("", events)).await.unwrap();
    assert_eq!((reply.topic.as_str(), reply.accepted, reply.rejected), ("multimedia_events", 2, 3));
    let ids: Vec<&str> = reply.results.iter().map(|result| result.id.as_str()).collect();
    assert_eq!(ids, ["one", "bad", "pretty", "", ""]);
    assert!(matches!(reply.results[2].status, Some(ResultStatus::Accepted(_))), "{reply:?}");

    let over_http = http::post(playhouse.ingest(), "/events", &[], bad.as_bytes()).unwrap().json();
    let Some(ResultStatus::Rejected(rejection)) = &reply.results[1].status else { panic!("{reply:?}") };
    let reasons: Vec<_> = rejection
        .reasons
        .iter()
        .map(|it| json!({"path": it.path, "message": it.message, "keyword": it.keyword}))
        .collect();
    assert_eq!(json!(reasons), over_http["results"][0]["reasons"]);

    tokio::task::block_in_place(|| in_sql(&playhouse));
}

fn in_sql(playhouse: &Playhouse) {
    let kept = playhouse.query("select source_protocol, count(*) from bad_events group by 1 order by 1");
    assert_eq!(kept.len(), 2, "{kept:?}");
    wait_until("both events in SQL", DEADLINE, || {
        let ids = playhouse.query("select id from events order by id");
        let both = [[Some("one".to_owned())], [Some("pretty".to_owned())]];
        if ids == both { Ok(()) } else { Err(format!("{ids:?}")) }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_answered_batch_by_batch_in_order() {
    let (_directory, playhouse) = start();
    let mut client = connect(&playhouse).await;
    let batches = (0..50).map(|n| batch("", (0..20).map(|m| event(&format!("{n}-{m}"))).collect::<Vec<_>>()));
    let path = PathAndQuery::from_static("/playhouse.v1.Ingest/SendStream");
    let request = Request::new(futures::stream::iter(batches.collect::<Vec<_>>()));
    let answers = client.streaming(request, path, ProstCodec::<SendRequest, SendReply>::default()).await.unwrap();
    let mut answers = answers.into_inner();
    for n in 0..50 {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.accepted, answer.results[3].id.clone()), (20, format!("{n}-3")));
    }
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let (_directory, playhouse) = start();
    let mut client = connect(&playhouse).await;
    let mut refused = async |request| send(&mut client, request).await.unwrap_err();
    let unknown = refused(batch("nowhere", [event("a")])).await;
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    assert!(unknown.message().contains("nowhere"));
    assert_eq!(refused(batch("bad_events", [event("a")])).await.code(), Code::NotFound);
    assert_eq!(refused(batch("", [])).await.code(), Code::InvalidArgument);
    let large = refused(batch("", (0..40).map(|_| "x".repeat(100_000)))).await;
    assert_eq!(large.code(), Code::OutOfRange, "{large}");
    assert_eq!(send(&mut client, batch("", [event("after")])).await.unwrap().accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn doors_are_counted_alike() {
    let (_directory, playhouse) = start();
    let mut client = connect(&playhouse).await;
    assert_eq!(send(&mut client, batch("", [event("a")])).await.unwrap().accepted, 1);
    assert_eq!(send(&mut client, batch("nowhere", [event("a")])).await.unwrap_err().code(), Code::NotFound);
    let (_sender, receiver) = tokio::sync::mpsc::channel::<SendRequest>(1);
    let batches = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let path = PathAndQuery::from_static("/playhouse.v1.Ingest/SendStream");
    let codec = ProstCodec::<SendRequest, SendReply>::default();
    client.ready().await.unwrap();
    let _open = client.streaming(Request::new(batches), path, codec).await.unwrap();
    tokio::task::block_in_place(|| counted(&playhouse));
}

fn counted(playhouse: &Playhouse) {
    assert_eq!(http::post(playhouse.ingest(), "/events", &[], event("b").as_bytes()).unwrap().status, 200);
    assert_eq!(http::post(playhouse.ingest(), "/events", &[], b"{}").unwrap().status, 422);
    assert_eq!(http::get(playhouse.registry(), "/subjects").unwrap().status, 200);
    assert_eq!(http::get(playhouse.registry(), "/subjects/none/versions").unwrap().status, 404);
    let headers = [("Content-Type", "application/vnd.kafka.v2+json")];
    let made = http::post(playhouse.rest_proxy(), "/consumers/group", &headers, br#"{"name":"one"}"#).unwrap();
    assert_eq!(made.status, 200);
    let metrics = http::get(playhouse.admin(), "/metrics").unwrap().text();
    for line in [
        r#"playhouse_requests_total{door="grpc",method="Send",status="OK"} 1"#,
        r#"playhouse_requests_total{door="grpc",method="Send",status="NOT_FOUND"} 1"#,
        r#"playhouse_requests_open{door="grpc"} 1"#,
        r#"playhouse_connections{door="grpc"} 1"#,
        r#"playhouse_requests_total{door="ingest",method="POST",status="200"} 1"#,
        r#"playhouse_requests_total{door="ingest",method="POST",status="422"} 1"#,
        r#"playhouse_requests_total{door="registry",method="GET",status="404"} 1"#,
        r#"playhouse_requests_total{door="rest_proxy",method="POST",status="200"} 1"#,
        r#"playhouse_request_seconds_count{door="registry"} 2"#,
        "playhouse_rest_proxy_consumers 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in\n{metrics}");
    }
    let bytes = |metrics: &str| {
        let value =
            metrics.lines().find_map(|line| line.strip_prefix(r#"playhouse_bytes_total{door="grpc",direction="in"} "#));
        value.unwrap().parse::<f64>().unwrap()
    };
    assert!(bytes(&metrics) > 100.0);
    let status = playhouse.status();
    assert_eq!((&status["doors"]["grpc"]["requests"], &status["doors"]["grpc"]["errors"]), (&json!(2), &json!(1)));
    assert_eq!(status["rest_proxy"]["consumers"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_does_not_delay_the_end() {
    let (_directory, playhouse) = start();
    let mut client = connect(&playhouse).await;
    let (_sender, receiver) = tokio::sync::mpsc::channel::<SendRequest>(1);
    let batches = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let path = PathAndQuery::from_static("/playhouse.v1.Ingest/SendStream");
    let codec = ProstCodec::<SendRequest, SendReply>::default();
    let mut answers = client.streaming(Request::new(batches), path, codec).await.unwrap().into_inner();
    let stopping = tokio::task::spawn_blocking(move || playhouse.stop());
    let ended = tokio::time::timeout(DEADLINE, answers.message()).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    stopping.await.unwrap();
}
