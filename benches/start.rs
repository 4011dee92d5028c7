//! From `playhouse up` to ready, on an empty directory, and on a log of 2 GB after SIGKILL: `cargo bench --bench start`.
//! The floor is the same process printing its help.

mod support;

use std::process::Command;
use std::time::Instant;

use support::Connection;

const LOG_BYTES: u64 = 2 << 30;
const ROUNDS: usize = 5;
const EVENTS_PER_REQUEST: usize = 4_000;
/// Random text that does not compress, so that the log on disk is as large as what was sent.
const PADDING_BYTES: usize = 2_000;

fn main() {
    let (mut empty, mut help) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let printed = Command::new(env!("CARGO_BIN_EXE_playhouse")).arg("--help").output().expect("it runs");
        assert!(printed.status.success());
        help.push(began.elapsed().as_secs_f64() * 1e3);

        let data = tempfile::tempdir().expect("a directory");
        empty.push(ready_after(data.path()).1);
    }
    let data = tempfile::tempdir().expect("a directory");
    let (playhouse, _) = ready_after(data.path());
    let bytes = fill(&playhouse);
    playhouse.kill();
    let mut recovered = Vec::new();
    for _ in 0..ROUNDS {
        let (playhouse, took) = ready_after(data.path());
        playhouse.kill();
        recovered.push(took);
    }
    println!("start to ready, empty directory      {:>7.0} ms (median of {ROUNDS})", support::median(empty));
    println!(
        "start to ready, {:.1} GB log, SIGKILL  {:>7.0} ms",
        bytes as f64 / 1e9,
        support::median(recovered.clone())
    );
    println!("  the first after the kill           {:>7.0} ms", recovered[0]);
    println!("floor: playhouse --help              {:>7.0} ms", support::median(help));
}

fn ready_after(data: &std::path::Path) -> (playhouse_testkit::Playhouse, f64) {
    let began = Instant::now();
    let playhouse = support::playhouse().data(data).set("tables", "none").start();
    while !playhouse.is_ready() {}
    (playhouse, began.elapsed().as_secs_f64() * 1e3)
}

fn fill(playhouse: &playhouse_testkit::Playhouse) -> u64 {
    let mut connection = Connection::open(playhouse.ingest());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut id = 0;
    loop {
        let mut body = Vec::with_capacity(EVENTS_PER_REQUEST * (PADDING_BYTES + 200));
        for _ in 0..EVENTS_PER_REQUEST {
            id += 1;
            let padding: String = (0..PADDING_BYTES)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    char::from(b' ' + 3 + (state % 88) as u8).to_string().replace('\\', "x")
                })
                .collect();
            let event = format!(
                "{{\"id\":\"{id}\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"type\":\"fill\",\"user\":\"u{id}\",\"metadata\":{{\"padding\":\"{padding}\"}}}}\n"
            );
            body.extend_from_slice(event.as_bytes());
        }
        match connection.post(&body) {
            200 => {}
            429 => std::thread::sleep(std::time::Duration::from_millis(100)),
            status => panic!("the door answered {status}"),
        }
        let bytes = playhouse.status()["log"]["bytes"].as_u64().unwrap_or(0);
        if bytes >= LOG_BYTES {
            return bytes;
        }
    }
}
