//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Asks until there is an answer; panics with the last reason at the deadline.
pub fn wait_until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if began.elapsed() > deadline => panic!("{what}: not within {deadline:?}: {reason}"),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
