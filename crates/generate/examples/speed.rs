//! How fast events are generated, on one thread: `cargo run --release -p playhouse-generate --example speed`.

use playhouse_generate::{Config, Generator};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let share = "1%".parse()?;
    let config =
        Config { events: 5_000_000, users: 50_000, invalid: share, late: share, duplicate: share, ..Config::default() };
    let mut generator = Generator::new(config)?;
    let mut out = Vec::with_capacity(1 << 20);
    let (mut lines, mut bytes, mut most) = (0u64, 0u64, 0);
    let begin = std::time::Instant::now();
    loop {
        out.clear();
        let added = generator.fill(&mut out, 1 << 20, u64::MAX);
        if added == 0 {
            break;
        }
        lines += added;
        bytes += out.len() as u64;
        most = most.max(generator.viewers());
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{lines} events, {:.0} bytes each, in {seconds:.2} s: {:.0} events/s, {:.0} MB/s; {} sessions, at most {most} viewers at once",
        bytes as f64 / lines as f64,
        lines as f64 / seconds,
        bytes as f64 / seconds / 1e6,
        generator.sessions_begun(),
    );
    Ok(())
}
