//! The conservation oracle: under load the process is killed again and again, at random moments of its life and of its
//! start; in the end every acknowledged event is in lake, tables, cache and views exactly once, every other event that
//! was sent at most once and alike in all of them, nothing else is, and every rejected event is kept once.
//!
//! `CRASH_SEED` replays the moments of a failing run as far as scheduling lets it; the seed is printed.

mod dice;
mod events;
mod oracle;
mod senders;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use playhouse_testkit::{Builder, Playhouse};

use dice::Dice;
use events::Ledger;
use senders::Senders;

const KILLS: u64 = 24;
/// One start in so many is killed before its doors are open.
const KILL_STARTING_EVERY: u64 = 4;
/// In this life the process is asked to stop, under load, instead of killed.
const STOPPED_LIFE: u64 = 13;
const SENDERS: u32 = 3;
const LIFE_MS_MAX: u64 = 1_600;
/// A debug build, on a machine that compiles something else beside it.
const READY_MAX: Duration = Duration::from_secs(20);

#[test]
fn every_event_survives_being_killed_exactly_once() {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| u64::from(now.subsec_nanos()))
    });
    println!("CRASH_SEED={seed}");
    let began = Instant::now();
    let mut dice = Dice::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let builder = builder(directory.path());
    let senders = Senders::start(SENDERS, seed);

    let (mut kills, mut life, mut slowest_start) = (0, 0, Duration::ZERO);
    while kills < KILLS {
        life += 1;
        if life % KILL_STARTING_EVERY == 0 {
            builder.start_and_kill(Duration::from_millis(dice.below(1_200)));
            kills += 1;
            continue;
        }
        let playhouse = builder.start();
        assert!(playhouse.is_ready(), "its doors are printed and it is not ready");
        slowest_start = slowest_start.max(playhouse.started_in());
        oracle::lake_and_views_agree(&playhouse);
        senders.send_to(playhouse.ingest());
        std::thread::sleep(Duration::from_millis(dice.below(LIFE_MS_MAX)));
        if dice.below(4) == 0 {
            oracle::lake_and_views_agree(&playhouse);
        }
        senders.pause();
        if life == STOPPED_LIFE {
            playhouse.stop();
        } else {
            playhouse.kill();
            kills += 1;
        }
    }
    let mut ledger = senders.finish();
    println!("{kills} kills in {:?}, slowest start {slowest_start:?}, {ledger}", began.elapsed());
    assert!(slowest_start < READY_MAX, "a start took {slowest_start:?}");

    let playhouse = builder.start();
    let newest = send_more(&playhouse, &mut ledger);
    // The lake table of late events is committed once a minute; until then they are read from the epoch log.
    playhouse.caught_up_but_for(&["late_events"]);
    println!("caught up after {:?}", began.elapsed());
    oracle::check(&playhouse, &directory.path().join("data"), &ledger, &newest);
    playhouse.stop();
}

/// Commits, checkpoints and segments so short that kills fall into all of them.
fn builder(directory: &Path) -> Builder {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/multimedia.sql");
    let sql = std::fs::read_to_string(shipped).unwrap();
    let hasty = sql.replace("commit_interval = '60 seconds'", "commit_interval = '300 ms'");
    assert_ne!(sql, hasty, "the default pipeline has another commit interval");
    let pipeline: PathBuf = directory.join("pipeline.sql");
    std::fs::write(&pipeline, hasty).unwrap();
    Playhouse::builder(env!("CARGO_BIN_EXE_playhouse"))
        .data(directory.join("data"))
        .set("pipeline.file", pipeline.display())
        .set("pipeline.checkpoint_interval", "300 ms")
        .set("pipeline.epoch_log_segment_bytes", "1 MiB")
        .set("embedded_log.batch_bytes_max", "4 MiB")
        .set("embedded_log.segment_bytes", "4 MiB")
}

/// Events that are new in the last life: these the cache has to have.
fn send_more(playhouse: &Playhouse, ledger: &mut Ledger) -> Vec<String> {
    let ids: Vec<_> = (0..200).map(|number| events::Id { sender: SENDERS, number }).collect();
    let body: Vec<String> = ids.iter().map(|id| events::text(*id)).collect();
    let (status, answer) = playhouse.post("/events", body.join("\n"), &[]);
    assert_eq!(status, 200, "{answer}");
    ids.iter().for_each(|id| ledger.valid.acknowledge(*id));
    ids.iter().map(events::Id::to_string).collect()
}
