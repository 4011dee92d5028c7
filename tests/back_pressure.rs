//! Past a budget callers are told to slow down; what was acknowledged stays, and nothing grows without bound.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use playhouse_testkit::http::{self, Response};
use playhouse_testkit::{Playhouse, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_playhouse");

/// Incompressible, so that the log grows by what is sent.
fn events(request: usize, count: usize, bytes: usize) -> String {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(request as u64 + 1);
    let mut text = || -> String {
        let words = std::iter::repeat_with(|| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            format!("{random:016x}")
        });
        words.take(bytes / 16).collect()
    };
    let line = |number: usize| {
        format!(
            "{{\"id\":\"{request}-{number}\",\"timestamp\":\"2025-08-31T12:00:00Z\",\"type\":\"play\",\"user\":\"u{number}\",\"metadata\":{{\"text\":\"{}\"}}}}\n",
            text()
        )
    };
    (0..count).map(line).collect()
}

fn send(playhouse: &Playhouse, body: &str) -> Response {
    http::post(playhouse.ingest(), "/events", &[], body.as_bytes()).unwrap()
}

fn assert_slow_down(response: &Response) {
    assert_eq!(response.status, 429, "{}", response.text());
    let seconds = response.header("retry-after").and_then(|after| after.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "Retry-After: {:?}", response.header("retry-after"));
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
}

#[test]
fn a_full_disk_budget_refuses_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(BINARY)
        .data(directory.path())
        .set("embedded_log.disk_budget", "8 MB")
        .set("embedded_log.segment_bytes", "1 MiB")
        .set("embedded_log.batch_bytes_max", "1 MiB");
    let playhouse = builder.start();
    let mut accepted = 0;
    let refused = (0..200).find_map(|request| {
        let response = send(&playhouse, &events(request, 100, 1024));
        if response.status == 200 {
            accepted += response.json()["accepted"].as_i64().unwrap();
            return None;
        }
        Some(response)
    });
    let refused = refused.expect("20 MB do not fit a budget of 8 MB");
    assert_slow_down(&refused);
    assert!(refused.text().contains("budget"), "{}", refused.text());
    assert!(accepted > 1000, "{accepted}");
    let bytes = playhouse.status()["log"]["bytes"].as_u64().unwrap();
    assert!(bytes < 10_000_000, "the log holds {bytes} bytes");

    // Queries and everything behind the log go on.
    assert!(playhouse.is_ready());
    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from events"), accepted);
    playhouse.stop();
    let playhouse = builder.start();
    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from events"), accepted);
    assert_slow_down(&send(&playhouse, &events(500, 100, 1024)));
    playhouse.stop();

    // More room, and it goes on.
    let playhouse = builder.set("embedded_log.disk_budget", "50 MB").start();
    assert_eq!(send(&playhouse, &events(501, 100, 1024)).status, 200);
    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from events"), accepted + 100);
}

#[test]
fn a_full_in_flight_budget_refuses_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(BINARY)
        .data(directory.path())
        .set("limits.in_flight_bytes", "6 MiB")
        .set("limits.request_bytes", "4 MiB")
        .start();
    // A request that is under way holds what has arrived of it.
    let body = events(1, 30, 100_000);
    let mut slow = TcpStream::connect(playhouse.ingest()).unwrap();
    write!(slow, "POST /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())
        .unwrap();
    slow.write_all(&body.as_bytes()[..body.len() - 1]).unwrap();
    let other = events(2, 30, 100_000);
    let refused = wait_until("the budget is full", Duration::from_secs(20), || {
        let response = send(&playhouse, &other);
        if response.status == 429 { Ok(response) } else { Err(response.text()) }
    });
    assert_slow_down(&refused);
    assert_eq!(send(&playhouse, &events(3, 1, 100)).status, 200, "what fits is taken");

    slow.write_all(&body.as_bytes()[body.len() - 1..]).unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut slow, &mut answer).unwrap();
    assert_eq!(http::parse(&answer).unwrap().status, 200);
    assert_eq!(send(&playhouse, &events(4, 30, 100_000)).status, 200, "the room is given back");
    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from events where id like '1-%'"), 30);
    let request_2 = playhouse.count("select count(*) from events where id like '2-%'");
    assert!(request_2 == 0 || request_2 == 30, "a request that was refused as a whole left {request_2} events");
    wait_until("nothing is in flight", Duration::from_secs(10), || {
        let held = playhouse.status()["gate"]["in_flight_bytes"].clone();
        if held == 0 { Ok(()) } else { Err(held.to_string()) }
    });
}

#[test]
fn memory_stays_bounded_when_many_send_more_than_fits() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(BINARY)
        .data(directory.path())
        .set("limits.in_flight_bytes", "8 MiB")
        .set("limits.request_bytes", "4 MiB")
        .set("embedded_cache.memory_budget", "4 MiB")
        .start();
    let quiet = playhouse.status()["memory_bytes"].as_u64().unwrap();
    let (accepted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for sender in 0..12 {
            let (playhouse, accepted, refused) = (&playhouse, &accepted, &refused);
            scope.spawn(move || {
                for request in 0..4 {
                    let response = send(playhouse, &events(sender * 100 + request, 30, 100_000));
                    match response.status {
                        200 => accepted.fetch_add(30, Ordering::Relaxed),
                        429 => {
                            assert_slow_down(&response);
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other}: {}", response.text()),
                    };
                }
            });
        }
    });
    let (accepted, refused) = (accepted.into_inner(), refused.into_inner());
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} requests refused");
    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from events"), accepted as i64);
    let grown = playhouse.status()["memory_bytes"].as_u64().unwrap().saturating_sub(quiet);
    assert!(grown < 500_000_000, "144 MB of requests grew the process by {grown} bytes");
}
