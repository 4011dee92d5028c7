//! What the benches share: a load generator over keep-alive HTTP, and what the process under test uses.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use playhouse_generate::{Config, Generator};
use playhouse_testkit::{Builder, Playhouse};

pub const BATCH_EVENTS: u64 = 2_000;

/// Everything on but the tables sink, which is bounded by SQLite and measured by itself.
pub fn playhouse() -> Builder {
    Playhouse::builder(env!("CARGO_BIN_EXE_playhouse"))
}

/// 50,000 viewers at once give about 5,000 events a second: that much event time passes.
pub fn generator(events: u64, seed: u64) -> Generator {
    let span_ms = (events / 5).max(60_000);
    Generator::new(Config { events, seed, users: 50_000, span_ms, ..Config::default() })
        .expect("the configuration is valid")
}

/// Batches of NDJSON, made on a thread of their own a little ahead of the senders.
pub fn batches(mut generator: Generator) -> Receiver<(Vec<u8>, u64)> {
    let (sender, receiver) = sync_channel(8);
    std::thread::spawn(move || {
        loop {
            let mut body = Vec::with_capacity(640 << 10);
            let lines = generator.fill(&mut body, usize::MAX, BATCH_EVENTS);
            if lines == 0 || sender.send((body, lines)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// All batches, made beforehand.
pub fn made(generator: Generator) -> Receiver<(Vec<u8>, u64)> {
    let batches: Vec<_> = batches(generator).into_iter().collect();
    let (sender, receiver) = sync_channel(batches.len());
    batches.into_iter().for_each(|batch| sender.send(batch).expect("there is room for all"));
    receiver
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}

/// One keep-alive connection to the ingest door.
pub struct Connection {
    stream: TcpStream,
    host: String,
    reply: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("the ingest door is open");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Connection { stream, host: address.to_string(), reply: vec![0; 1 << 20] }
    }

    /// Sends one request and reads the whole reply; its status.
    pub fn post(&mut self, body: &[u8]) -> u16 {
        let head = format!("POST /events HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.host, body.len());
        self.stream.write_all(head.as_bytes()).expect("sent");
        self.stream.write_all(body).expect("sent");
        let mut filled = 0;
        let (status, head_bytes, body_bytes) = loop {
            filled += self.read(filled);
            if let Some(at) = self.reply[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.reply[..at]).to_ascii_lowercase();
                let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                break (
                    status,
                    at + 4,
                    length.and_then(|length| length.trim().parse::<usize>().ok()).expect("a length"),
                );
            }
        };
        let mut left = (head_bytes + body_bytes).saturating_sub(filled);
        while left > 0 {
            left -= self.read(0).min(left);
        }
        status
    }

    fn read(&mut self, at: usize) -> usize {
        let read = self.stream.read(&mut self.reply[at..]).expect("a reply");
        assert!(read > 0, "the door closed the connection");
        read
    }
}

/// Sends all batches over `connections`, waiting out 429; returns the events accepted and the time it took.
pub fn send_all(address: SocketAddr, batches: Receiver<(Vec<u8>, u64)>, connections: usize) -> (u64, Duration) {
    let batches = Arc::new(Mutex::new(batches));
    let began = Instant::now();
    let senders: Vec<JoinHandle<u64>> = (0..connections)
        .map(|_| {
            let batches = batches.clone();
            std::thread::spawn(move || {
                let mut connection = Connection::open(address);
                let mut sent = 0;
                loop {
                    let next = batches.lock().expect("no sender panicked").recv();
                    let Ok((body, lines)) = next else { return sent };
                    loop {
                        match connection.post(&body) {
                            200 => break,
                            429 => std::thread::sleep(Duration::from_millis(50)),
                            status => panic!("the door answered {status}"),
                        }
                    }
                    sent += lines;
                }
            })
        })
        .collect();
    let sent = senders.into_iter().map(|sender| sender.join().expect("no sender panicked")).sum();
    (sent, began.elapsed())
}

/// Peak resident memory of a process, in bytes.
pub fn peak_memory(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

pub fn resident_memory(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Processor seconds a process has used.
pub fn cpu_seconds(pid: u32) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * share) as usize).min(values.len() - 1)]
}
