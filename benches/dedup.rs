//! The dedup set with 100 million ids in the window: time, memory, exactness, and opening it again:
//! `cargo bench --bench dedup`. `PLAYHOUSE_BENCH_IDS` sets how many ids. The ceiling is hashing the same ids alone.
//!
//! Every tenth id is sent again, some at once and some from anywhere in the window; the answer to each is checked, so that
//! a wrong one ends the bench.

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use playhouse_engine::state::dedup::{DedupConfig, DedupSet};
use playhouse_log::disk::RealDisk;

/// Ids between one maintenance and the next, about as in the engine.
const EPOCH: u64 = 8_192;
/// How often a long run says how far it is.
const PROGRESS: u64 = 10_000_000;

fn main() {
    let ids = support::setting("PLAYHOUSE_BENCH_IDS", 100_000_000);
    let directory = tempfile::tempdir().expect("a directory");
    let config = DedupConfig { budget_ids: ids as usize + (1 << 20), ..DedupConfig::default() };
    let before = support::resident_memory(std::process::id());
    let mut set = DedupSet::create(Arc::new(RealDisk), directory.path(), [7; 16], config.clone()).expect("it opens");

    let hashed = Instant::now();
    for number in 0..ids {
        black_box(set.hash(id(number).as_slice()));
    }
    let hashing = ids as f64 / hashed.elapsed().as_secs_f64();

    let (mut delta, mut repeats) = (Vec::new(), 0);
    let began = Instant::now();
    let mut first = 0;
    while first < ids {
        let end = (first + EPOCH).min(ids);
        // As the engine does: all hashes of an epoch first.
        let hashes: Vec<u128> = (first..end).map(|number| set.hash(&id(number))).collect();
        for hash in hashes {
            assert!(set.insert_hash(hash, 1_000).expect("the disk works"), "a new id was taken for a repeat");
        }
        for number in (first..end).step_by(10) {
            // From anywhere: a multiplicative walk over what came before.
            let earlier = if number % 20 == 0 { number } else { number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % end };
            assert!(!set.insert(&id(earlier), 1_000).expect("the disk works"), "id {earlier} was forgotten");
            repeats += 1;
        }
        delta.clear();
        set.take_delta(&mut delta);
        set.maintain(1_000).expect("the disk works");
        if first / PROGRESS < end / PROGRESS {
            eprintln!(
                "{} of {} million after {:.0} s",
                end / 1_000_000,
                ids / 1_000_000,
                began.elapsed().as_secs_f64()
            );
        }
        first = end;
    }
    let rate = (ids + repeats) as f64 / began.elapsed().as_secs_f64();
    let memory = support::resident_memory(std::process::id()) - before;
    assert_eq!(set.len(), ids);

    let mut kept = Vec::new();
    let manifest = set.checkpoint(&mut kept);
    drop(set);
    let began = Instant::now();
    let mut set = DedupSet::open(Arc::new(RealDisk), directory.path(), [7; 16], config, &manifest, &kept);
    let opening = began.elapsed();
    let set = set.as_mut().expect("it opens again");
    assert!(
        !set.insert(&id(0), 1_000).expect("the disk works") && set.insert(&id(ids), 1_000).expect("the disk works")
    );

    println!("{ids} ids in the window and {repeats} repeats, each answered rightly");
    println!("  insert                 {:>10.0} ids/s", rate);
    println!("  ceiling: hashing alone {hashing:>10.0} ids/s   ratio {:.2}", rate / hashing);
    println!("  memory                 {:>10} MB", memory / 1_000_000);
    println!("  opened again in        {:>10.0} ms", opening.as_secs_f64() * 1e3);
}

/// As senders make them: 36 characters.
fn id(number: u64) -> [u8; 36] {
    let mut id = *b"00000000-0000-4000-8000-000000000000";
    for (place, digit) in [0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31].into_iter().zip(0u32..) {
        id[place] = b"0123456789abcdef"[(number >> (60 - 4 * digit)) as usize & 15];
    }
    id
}
