//! Who may send over gRPC, and how much.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use playhouse_gate::{Access, Auth, Grant, KeyFile, KeyRing, RateLimits};
use playhouse_grpc::GrpcConfig;
use playhouse_log::disk::SimulatedDisk;
use support::*;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_topics_that_it_is_for() {
    let disk = SimulatedDisk::new();
    let keys = || KeyFile::new(Arc::new(disk.clone()), Path::new("/data"));
    let mine = keys().create("mine", Grant::send(["events"]), 0).unwrap();
    let reader = keys().create("reader", Grant::read(["*"]), 0).unwrap();
    let ring = Arc::new(KeyRing::open(keys()).unwrap());
    let access = Arc::new(Access::new(Auth::Keys(ring.clone()), &RateLimits::default()));
    let door = door(GrpcConfig { access, ..GrpcConfig::default() }).await;
    let mut client = client(&door).await;
    let mut sent = async |topic: &str, authorization: Option<&str>| {
        let request = playhouse_grpc::v1::SendRequest { topic: topic.to_owned(), ..batch(["a".to_owned()]) };
        code(&send_as(&mut client, request, authorization).await)
    };
    let bearer = format!("Bearer {}", mine.token);
    assert_eq!(sent("", None).await, Code::Unauthenticated);
    assert_eq!(sent("", Some("Bearer phk_1_2")).await, Code::Unauthenticated);
    assert_eq!(sent("", Some(&bearer)).await, Code::Ok);
    assert_eq!(sent("other", Some(&bearer)).await, Code::PermissionDenied);
    assert_eq!(sent("nowhere", Some(&bearer)).await, Code::PermissionDenied, "which topics there are is not told");
    assert_eq!(sent("", Some(&format!("Bearer {}", reader.token))).await, Code::PermissionDenied);

    // Before a byte of the message has come.
    let mut raw = raw(&door).await;
    let (answer, _body) = raw.call(SEND_STREAM, &[]).await;
    assert_eq!(ending(answer).await.code(), Code::Unauthenticated);
    let (answer, mut body) = raw.call("/grpc.health.v1.Health/Check", &[]).await;
    body.send_data(prefixed(0, b""), true).unwrap();
    assert_eq!(ending(answer).await.code(), Code::Ok, "health is anybody's");

    keys().revoke(&mine.key.id).unwrap();
    ring.refresh().unwrap();
    assert_eq!(sent("", Some(&bearer)).await, Code::Unauthenticated);
    assert_eq!(door.gate.counters().accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_ends_its_streams() {
    let disk = SimulatedDisk::new();
    let keys = || KeyFile::new(Arc::new(disk.clone()), Path::new("/data"));
    let made = keys().create("mine", Grant::send(["*"]), 0).unwrap();
    let ring = Arc::new(KeyRing::open(keys()).unwrap());
    let access = Arc::new(Access::new(Auth::Keys(ring.clone()), &RateLimits::default()));
    let door = door(GrpcConfig { access, ..GrpcConfig::default() }).await;
    let mut raw = raw(&door).await;
    let bearer = format!("Bearer {}", made.token);
    let (answer, mut body) = raw.call(SEND_STREAM, &[("authorization", &bearer)]).await;
    let message = prost::Message::encode_to_vec(&batch(["a".to_owned()]));
    body.send_data(prefixed(message.len(), &message), false).unwrap();
    until("the first batch is in", || door.gate.counters().accepted == 1).await;
    keys().revoke(&made.key.id).unwrap();
    ring.refresh().unwrap();
    body.send_data(prefixed(message.len(), &message), false).unwrap();
    assert_eq!(ending(answer).await.code(), Code::Unauthenticated);
    assert_eq!(door.gate.counters().accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_is_told_when_to_come_again() {
    let rates = RateLimits { requests_per_second: Some(1), burst: Duration::from_secs(3), ..RateLimits::default() };
    let access = Arc::new(Access::new(Auth::None, &rates));
    let door = door(GrpcConfig { access, ..GrpcConfig::default() }).await;
    let mut client = client(&door).await;
    let refused = loop {
        if let Err(status) = send(&mut client, batch(["a".to_owned()])).await {
            break status;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let wait: u64 = refused.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=1_000).contains(&wait), "{wait}");
}
