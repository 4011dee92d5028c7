//! What many subjects cost: time to register them, to open the registry again, and to find schemas by id.
//! `cargo run --release -p playhouse-registry --example subjects -- [subjects] [directory]`.

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use playhouse_log::disk::RealDisk;
use playhouse_log::{Log, LogConfig};
use playhouse_registry::{ChangeError, Registry, RegistryConfig};
use playhouse_schema::formats::Format;
use playhouse_schema::registry::Proposal;
use tokio::task::JoinSet;

/// As many requests as a busy door has.
const TOGETHER: usize = 256;
const LOOKUP_TIME: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let subjects: usize = arguments.next().map_or(Ok(100_000), |count| count.parse())?;
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let open_log = || Log::open(Arc::new(RealDisk), &directory, LogConfig::default());

    let log = open_log()?;
    let registry = Registry::open(&log, RegistryConfig::default())?;
    let started = Instant::now();
    let first = registry.snapshot().subject_count();
    runtime.block_on(fill(&registry, first..subjects))?;
    tell(&format!("{} subjects registered, {TOGETHER} at a time", subjects.saturating_sub(first)), started);
    log.close()?;
    drop((log, registry));

    let started = Instant::now();
    let log = open_log()?;
    tell("log opened", started);
    let started = Instant::now();
    let registry = Registry::open(&log, RegistryConfig::default())?;
    tell(&format!("registry of {} subjects opened", registry.snapshot().subject_count()), started);

    let started = Instant::now();
    let schema = registry.schema(1).ok_or("there is no schema 1")?;
    registry.parsed(&schema)?;
    tell("a first schema found and parsed", started);

    for threads in [1, 2, 4] {
        let alone = lookups(&registry, threads);
        println!("{threads} threads, lookups by id: {:.1} million a second", alone / 1e6);
    }
    // While others register: readers wait for nobody.
    let busy = Arc::new(AtomicBool::new(true));
    let writer = runtime.spawn({
        let (registry, busy) = (registry.clone(), busy.clone());
        async move {
            let mut next = subjects;
            while busy.load(Ordering::Relaxed) {
                fill(&registry, next..next + TOGETHER).await?;
                next += TOGETHER;
            }
            Ok::<usize, ChangeError>(next - subjects)
        }
    });
    let beside = lookups(&registry, 2);
    busy.store(false, Ordering::Relaxed);
    let registered = runtime.block_on(writer)??;
    println!("2 threads, beside {registered} registrations: {:.1} million a second", beside / 1e6);
    log.close()?;
    Ok(())
}

async fn fill(registry: &Arc<Registry>, numbers: std::ops::Range<usize>) -> Result<(), ChangeError> {
    let next = Arc::new(AtomicU64::new(numbers.start as u64));
    let mut clients: JoinSet<Result<(), ChangeError>> = JoinSet::new();
    for _ in 0..TOGETHER {
        let (registry, next, end) = (registry.clone(), next.clone(), numbers.end as u64);
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok(());
                }
                register(&registry, number).await?;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.map_err(|_| ChangeError::Stopped)??;
    }
    Ok(())
}

async fn register(registry: &Arc<Registry>, number: u64) -> Result<(), ChangeError> {
    let subject = format!("topic-{number}-value");
    let fields = ["id", "user", "session", "content"].map(|name| format!(r#"{{"name":"{name}","type":"string"}}"#));
    let text = format!(
        r#"{{"type":"record","name":"Event{number}","namespace":"stream.playhouse","fields":[{}]}}"#,
        fields.join(",")
    );
    let proposal = Proposal::new(Format::Avro, text);
    registry.change(move |state, rules| state.register(rules, &subject, &proposal)).await.map(drop)
}

/// Lookups a second of all threads together, of ids all over.
fn lookups(registry: &Registry, threads: usize) -> f64 {
    let ids = registry.snapshot().id_max() as u64;
    let started = Instant::now();
    let total: u64 = std::thread::scope(|scope| {
        let look = |seed: u64| {
            let (mut at, mut count) = (seed, 0_u64);
            while started.elapsed() < LOOKUP_TIME {
                for _ in 0..1000 {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    black_box(registry.schema(((at >> 33) % ids) as i32 + 1));
                }
                count += 1000;
            }
            count
        };
        let threads: Vec<_> = (0..threads as u64).map(|seed| scope.spawn(move || look(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    });
    total as f64 / started.elapsed().as_secs_f64()
}

fn tell(what: &str, started: Instant) {
    let resident = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = resident.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    println!("{what}: {:.3} s, {} MB resident", started.elapsed().as_secs_f64(), pages * 4096 / 1_000_000);
}
