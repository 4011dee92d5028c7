//! What became of the events.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Counts of everything delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub accepted: u64,
    /// Answered by the door with reasons, and kept there among the bad events.
    pub rejected: u64,
    /// Could not be sent: no event was recognised, or it is larger than the door takes.
    pub unsendable: u64,
    /// Why, for `rejected` and `unsendable`; an event with several reasons counts for each.
    pub reasons: BTreeMap<String, ReasonCount>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    pub count: u64,
    /// The first lines it happened on.
    pub lines: Vec<u64>,
}

const LINES_MAX: usize = 5;
/// Messages may quote the event, so their number has no natural bound.
const REASONS_MAX: usize = 200;

impl Summary {
    pub fn total(&self) -> u64 {
        self.accepted + self.rejected + self.unsendable
    }

    pub fn note(&mut self, reason: &str, line: u64) {
        let known = self.reasons.len() < REASONS_MAX || self.reasons.contains_key(reason);
        let entry = self.reasons.entry(if known { reason } else { "other reasons" }.to_owned()).or_default();
        entry.count += 1;
        if entry.lines.len() < LINES_MAX {
            entry.lines.push(line);
        }
    }
}

impl fmt::Display for Summary {
    /// Some lines for a person, without an end of line after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events: {} accepted, {} rejected", self.total(), self.accepted, self.rejected)?;
        if self.unsendable > 0 {
            write!(f, ", {} could not be sent", self.unsendable)?;
        }
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, reason)| std::cmp::Reverse(reason.count));
        for (message, reason) in reasons {
            let lines: Vec<String> = reason.lines.iter().map(u64::to_string).collect();
            let more = if reason.count > reason.lines.len() as u64 { ", …" } else { "" };
            let noun = if reason.count == 1 { "line" } else { "lines" };
            write!(f, "\n  {:>8}  {message} ({noun} {}{more})", reason.count, lines.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_grouped_and_bounded() {
        let mut summary = Summary { accepted: 3, rejected: 7, unsendable: 1, ..Summary::default() };
        for line in 1..=7 {
            summary.note("/user: required", line);
        }
        summary.note("not a log line", 9);
        assert_eq!(
            summary.to_string(),
            "11 events: 3 accepted, 7 rejected, 1 could not be sent\n         7  /user: required (lines 1, 2, 3, 4, 5, …)\n         \
             1  not a log line (line 9)"
        );
        for line in 0..1000 {
            summary.note(&format!("reason {line}"), line);
        }
        assert!(summary.reasons.len() <= REASONS_MAX + 1);
        assert_eq!(summary.reasons.values().map(|reason| reason.count).sum::<u64>(), 1008);
    }
}
