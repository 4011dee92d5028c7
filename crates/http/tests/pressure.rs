//! Slow clients, many clients, budgets and shutdown.

mod common;

use std::time::{Duration, Instant};

use common::*;
use playhouse_log::disk::SimulatedDisk;
use tokio::io::AsyncWriteExt;

const GOOD: &str = r#"{"id":"e1","user":"u1"}"#;

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} in time");
        tokio::task::yield_now().await;
    }
}

/// Resumes on drop: a test that fails must not leave the log waiting.
struct Paused<'a>(&'a SimulatedDisk);

impl Paused<'_> {
    fn new(disk: &SimulatedDisk) -> Paused<'_> {
        disk.pause_syncs(true);
        Paused(disk)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.pause_syncs(false);
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_timed_out() {
    let mut limits = Limits::default();
    limits.body.patience = Duration::from_millis(300);
    let door = door(limits).await;
    let mut stream = connect(door.served.address).await;
    stream.write_all(b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    // A byte now and then keeps the connection alive but does not earn much time.
    let (mut reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if writer.write_all(b" ").await.is_err() {
                return;
            }
        }
    });
    let mut bytes = [0; 4096];
    let read = tokio::time::timeout(DEADLINE, tokio::io::AsyncReadExt::read(&mut reader, &mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes[..read.unwrap().unwrap()]).into_owned();
    trickle.abort();
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert!(text.contains("bytes a second are expected"), "{text}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(door.budget.used_bytes(), 0);
}

#[tokio::test]
async fn headers_that_do_not_arrive_are_timed_out() {
    let mut limits = Limits::default();
    limits.serve.header_timeout = Duration::from_millis(200);
    let door = door(limits).await;
    let mut partial = connect(door.served.address).await;
    partial.write_all(b"POST /events HTT").await.unwrap();
    assert!(answer(&mut partial).await.problem(408, "timeout").contains("headers"));
    let mut silent = connect(door.served.address).await;
    assert!(closed(&mut silent).await);
}

#[tokio::test]
async fn the_budget_holds_before_bodies_are_buffered() {
    let door = door(Limits { budget_bytes: 3 << 20, ..Limits::default() }).await;
    // Two uploads stop in their middle and hold what they have sent.
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(door.served.address).await;
        stream.write_all(b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n").await.unwrap();
        stream.write_all(&vec![b' '; 1_000_000]).await.unwrap();
        slow.push(stream);
    }
    until("both uploads are held", || door.budget.used_bytes() >= 2_000_000).await;
    assert!(door.budget.used_bytes() <= 3 << 20);
    // Announced: refused at once. Not announced: refused on the way.
    let announced = post(&door, "", &vec![b' '; 2_000_000]).await;
    announced.problem(429, "busy");
    assert!(announced.head.contains("retry-after: 1"), "{announced:?}");
    let body = [b"1e8480\r\n".as_slice(), &vec![b' '; 2_000_000], b"\r\n0\r\n\r\n"].concat();
    let head = b"POST /events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    send(door.served.address, &[head, body].concat()).await.problem(429, "busy");
    assert_eq!(door.served.answered(429), 2);
    // What hangs up gives back.
    drop(slow);
    until("the budget is free again", || door.budget.used_bytes() == 0).await;
    assert_eq!(post(&door, "", GOOD.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn the_gates_budget_is_told_as_busy() {
    let door = door(Limits { gate_bytes: 10_000, ..Limits::default() }).await;
    let event = format!("{GOOD}{}", " ".repeat(6_000));
    let paused = Paused::new(&door.disk);
    let mut first = connect(door.served.address).await;
    first.write_all(&request("POST /events", "", event.as_bytes())).await.unwrap();
    until("the first is in flight", || door.gate.counters().in_flight_bytes > 0).await;
    let second = post(&door, "", event.as_bytes()).await;
    second.problem(429, "busy");
    assert!(second.head.contains("retry-after: "), "{second:?}");
    drop(paused);
    assert_eq!(answer(&mut first).await.status, 200);
    assert_eq!(post(&door, "", event.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_finishes_requests() {
    let door = door(Limits::default()).await;
    let mut idle = connect(door.served.address).await;
    idle.write_all(&request("POST /events", "", GOOD.as_bytes())).await.unwrap();
    assert_eq!(answer(&mut idle).await.status, 200);
    let mut busy = connect(door.served.address).await;
    let bytes = request("POST /events", "", GOOD.as_bytes());
    let (begin, end) = bytes.split_at(bytes.len() - 5);
    busy.write_all(begin).await.unwrap();
    until("the request is being read", || door.budget.used_bytes() > 0).await;
    let begun = Instant::now();
    door.served.shutdown.cancel();
    assert!(closed(&mut idle).await);
    busy.write_all(end).await.unwrap();
    assert_eq!(answer(&mut busy).await.status, 200);
    drop(busy);
    tokio::time::timeout(DEADLINE, door.served.task).await.expect("the server ends").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(tokio::net::TcpStream::connect(door.served.address).await.is_err());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let mut limits = Limits::default();
    limits.serve.shutdown_grace = Duration::from_millis(200);
    let door = door(limits).await;
    let mut stuck = connect(door.served.address).await;
    stuck.write_all(b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx").await.unwrap();
    until("the request is being read", || door.budget.used_bytes() > 0).await;
    door.served.shutdown.cancel();
    tokio::time::timeout(DEADLINE, door.served.task).await.expect("the server ends").unwrap();
    assert_eq!(door.budget.used_bytes(), 0);
}
