//! What the process prints: drained by threads, so that it never blocks on a full pipe, and kept for a failing test.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The newest lines are kept.
const LINES_MAX: usize = 2_000;

#[derive(Default)]
struct Lines {
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// Streams that have ended.
    ended: usize,
}

#[derive(Clone, Default)]
pub struct Output {
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

impl Output {
    pub fn drain_stdout(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        self.drain(stream, |lines| &mut lines.stdout)
    }

    pub fn drain_stderr(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        self.drain(stream, |lines| &mut lines.stderr)
    }

    /// Waits until `found` makes something of what stdout has said; nothing at the deadline, or when both streams end.
    pub fn wait_for<T>(&self, deadline: Duration, found: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let until = Instant::now() + deadline;
        let mut lines = self.lines();
        loop {
            if let Some(found) = found(&lines.stdout) {
                return Some(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.ended == 2 {
                return None;
            }
            lines = self.shared.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn stdout(&self) -> String {
        self.lines().stdout.join("\n")
    }

    pub fn stderr(&self) -> String {
        self.lines().stderr.join("\n")
    }

    fn drain(&self, stream: impl Read + Send + 'static, of: fn(&mut Lines) -> &mut Vec<String>) -> JoinHandle<()> {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(read) if read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut lines = output.lines();
                let kept = of(&mut lines);
                if kept.len() == LINES_MAX {
                    kept.remove(0);
                }
                kept.push(text);
                output.shared.1.notify_all();
                line.clear();
            }
            output.lines().ended += 1;
            output.shared.1.notify_all();
        })
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
