//! Callers that stall, send too much or send rubbish: they harm themselves only, and memory stays bounded.

mod support;

use std::time::Duration;

use bytes::Bytes;
use playhouse_grpc::v1::{SendReply, SendRequest};
use playhouse_grpc::{Arrival, GrpcConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::*;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

fn names(batch: usize) -> impl Iterator<Item = String> {
    (0..2_000).map(move |event| format!("{batch}-{event}-{}", "x".repeat(20)))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_answers_is_cut_off_and_holds_nobody_up() {
    let config = GrpcConfig { answer_patience: Duration::from_millis(800), ..GrpcConfig::default() };
    let traffic = config.traffic.clone();
    let door = door(config).await;
    let mut stalled = client(&door).await;
    stalled.ready().await.unwrap();
    let batches = futures::stream::iter((0..200).map(|number| batch(names(number))));
    let path = PathAndQuery::from_static(SEND_STREAM);
    let codec = ProstCodec::<SendRequest, SendReply>::default();
    let answers = stalled.streaming(tonic::Request::new(batches), path, codec).await.unwrap();

    let mut other = client(&door).await;
    // Its answers are larger than what HTTP/2 lets it leave unread, so it is not read from after a few batches.
    until("a few batches are in", || door.gate.counters().accepted > 2_000).await;
    for number in 0..20 {
        assert_eq!(send(&mut other, batch([format!("beside-{number}")])).await.unwrap().accepted, 1);
    }
    until("the stalled connection is cut", || traffic.snapshot().connections_open == 1).await;
    let taken = door.gate.counters().accepted;
    assert!(taken < 100 * 2_000, "{taken} events were taken from a caller that reads no answer");
    until("what it held is given back", || door.gate.counters().in_flight_bytes == 0).await;
    let mut answers = answers.into_inner();
    let mut seen = 0;
    let error = loop {
        match answers.message().await {
            Ok(Some(_)) => seen += 1,
            Ok(None) => panic!("a stream that was cut does not end well"),
            Err(error) => break error,
        }
    };
    assert!(seen < 200, "{error}");
    assert_eq!(send(&mut other, batch(["after".to_owned()])).await.unwrap().accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_arrive_gives_its_room_back() {
    let arrival = Arrival { patience: Duration::from_millis(700), room_wait_max: DEADLINE, ..Arrival::default() };
    let door = door(GrpcConfig { in_flight_bytes: 60_000, arrival, ..GrpcConfig::default() }).await;
    for path in [SEND, SEND_STREAM] {
        let mut stalled = raw(&door).await;
        let (answer, mut body) = stalled.call(path, &[]).await;
        body.send_data(prefixed(50_000, &[b'x'; 40_000]), false).unwrap();
        let ended = tokio::spawn(ending(answer));
        // Waits until the other has lost its room.
        let mut other = client(&door).await;
        assert_eq!(send(&mut other, batch(["x".repeat(30_000)])).await.unwrap().accepted, 1);
        let status = ended.await.unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{path}: {status}");
        assert!(status.message().contains("bytes a second"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_is_not_slow() {
    let arrival = Arrival { patience: Duration::from_millis(1), ..Arrival::default() };
    let door = door(GrpcConfig { arrival, ..GrpcConfig::default() }).await;
    let mut client = client(&door).await;
    client.ready().await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel::<SendRequest>(1);
    let batches = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let path = PathAndQuery::from_static(SEND_STREAM);
    let codec = ProstCodec::<SendRequest, SendReply>::default();
    let answers = client.streaming(tonic::Request::new(batches), path, codec).await.unwrap();
    let mut answers = answers.into_inner();
    for number in 0..3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        sender.send(batch([number.to_string()])).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().accepted, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_a_caller_is_told_when_to_come_again() {
    let arrival = Arrival { room_wait_max: Duration::from_millis(100), ..Arrival::default() };
    let config = GrpcConfig { in_flight_bytes: 60_000, arrival, ..GrpcConfig::default() };
    let traffic = config.traffic.clone();
    let door = door(config).await;
    let mut holder = raw(&door).await;
    let (answer, mut body) = holder.call(SEND, &[]).await;
    body.send_data(prefixed(50_000, &[b'x'; 40_000]), false).unwrap();
    let mut other = client(&door).await;
    let large = || batch(["x".repeat(30_000)]);
    let mut refused = send(&mut other, large()).await;
    while refused.is_ok() {
        // It was there before the holder.
        refused = send(&mut other, large()).await;
    }
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    assert!(String::from_utf8_lossy(status.details()).contains("google.rpc.RetryInfo"));
    // What fits goes on.
    assert_eq!(send(&mut other, batch(["small".to_owned()])).await.unwrap().accepted, 1);
    drop((answer, body, holder));
    let mut sent = send(&mut other, large()).await;
    while code(&sent) == Code::ResourceExhausted {
        sent = send(&mut other, large()).await;
    }
    assert_eq!(sent.unwrap().accepted, 1);
    let counted = traffic.snapshot().requests;
    assert!(counted.iter().any(|it| (it.0, it.1) == ("Send", Code::ResourceExhausted as u16)), "{counted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_call() {
    let config = GrpcConfig::default();
    let traffic = config.traffic.clone();
    let door = door(config).await;
    let mut raw = raw(&door).await;
    let (answer, _body) = raw.call(SEND, &[("grpc-timeout", "50m")]).await;
    let status = ending(answer).await;
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    until("it is over", || traffic.snapshot().requests_open == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_by_its_announcement() {
    let door = door(GrpcConfig { message_bytes_max: 1 << 20, ..GrpcConfig::default() }).await;
    for length in [(1 << 20) + 1, u32::MAX as usize] {
        let mut raw = raw(&door).await;
        let (answer, mut body) = raw.call(SEND, &[]).await;
        body.send_data(prefixed(length, b""), false).unwrap();
        let status = ending(answer).await;
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
    }
    let mut client = client(&door).await;
    let large = SendRequest { topic: String::new(), events: vec![Bytes::from(vec![b'x'; 2 << 20])] };
    assert_eq!(code(&send(&mut client, large).await), Code::OutOfRange);
    assert_eq!(send(&mut client, batch(["after".to_owned()])).await.unwrap().accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_ends_its_own_call_and_nothing_is_kept() {
    let config = GrpcConfig::default();
    let traffic = config.traffic.clone();
    let door = door(config).await;
    let mut raw = raw(&door).await;
    let mut ended = async |path: &str, bytes: Bytes| {
        let (answer, mut body) = raw.call(path, &[]).await;
        body.send_data(bytes, true).unwrap();
        ending(answer).await
    };
    for path in [SEND, SEND_STREAM] {
        // A text where a length-delimited field should be; a group that nobody opened; a field that is cut off.
        for wrong in [&[0x0d, 1, 2, 3, 4][..], &[0x0c], &[0x12, 0x7f, b'x'], &[0xff; 11]] {
            let status = ended(path, prefixed(wrong.len(), wrong)).await;
            assert_eq!(status.code(), Code::Internal, "{path} {wrong:?}: {status}");
        }
        let compressed = Bytes::from_static(&[1, 0, 0, 0, 1, 0]);
        assert_eq!(ended(path, compressed).await.code(), Code::Internal, "{path}");
        assert_ne!(ended(path, Bytes::from_static(&[9, 0, 0, 0, 0])).await.code(), Code::Ok, "{path}");
        assert_ne!(ended(path, prefixed(100, b"cut off")).await.code(), Code::Ok, "{path}");
    }
    assert_eq!(ended("/playhouse.v1.Ingest/Nothing", prefixed(0, b"")).await.code(), Code::Unimplemented);
    assert_ne!(ended(SEND, Bytes::new()).await.code(), Code::Ok);

    let mut random = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..random.random_range(0..40)).map(|_| random.random_range(0..20)).collect();
        let path = if random.random() { SEND } else { SEND_STREAM };
        ended(path, if random.random() { prefixed(bytes.len(), &bytes) } else { bytes.into() }).await;
    }
    // No frames at all.
    let mut stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said);
    tokio::time::timeout(DEADLINE, closed).await.unwrap().ok();

    let mut client = client(&door).await;
    assert_eq!(send(&mut client, batch(["after".to_owned()])).await.unwrap().accepted, 1);
    until("no call is left", || traffic.snapshot().requests_open == 0).await;
    assert_eq!(door.gate.counters().in_flight_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_half_sent_messages_hold_no_more_than_the_budget() {
    let (patience, room_wait_max) = (Duration::from_millis(1500), Duration::from_millis(200));
    let arrival = Arrival { patience, room_wait_max, ..Arrival::default() };
    let door = door(GrpcConfig { in_flight_bytes: 200_000, arrival, ..GrpcConfig::default() }).await;
    let (mut endings, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let mut raw = raw(&door).await;
        let (answer, mut body) = raw.call(SEND, &[]).await;
        body.send_data(prefixed(1 << 20, &[b'x'; 30_000]), false).unwrap();
        endings.push(tokio::spawn(ending(answer)));
        connections.push((raw, body));
    }
    let (mut without_room, mut slow) = (0, 0);
    for ending in endings {
        match ending.await.unwrap().code() {
            Code::ResourceExhausted => without_room += 1,
            Code::DeadlineExceeded => slow += 1,
            other => panic!("{other}"),
        }
    }
    // 600,000 bytes came for 200,000: six messages had room.
    assert!((1..=6).contains(&slow) && without_room >= 14, "{slow} {without_room}");
    let mut client = client(&door).await;
    assert_eq!(send(&mut client, batch(["after".to_owned()])).await.unwrap().accepted, 1);
}
