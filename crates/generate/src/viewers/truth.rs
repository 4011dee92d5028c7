//! What a correct system answers about the generated events.

use std::collections::BTreeMap;

use serde::Serialize;

use super::catalogue::Track;
use super::render::{DAY_MS, DateText, Event};
use super::session::Kind;

/// The exact expected answers, over the distinct valid events: repeats count once, invalid lines not at all, late events
/// like any other. As JSON its keys are sorted and the same run gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Truth {
    /// Lines written: distinct + duplicates + invalid.
    pub sent: u64,
    /// Lines that the gate accepts: distinct + duplicates.
    pub valid: u64,
    pub invalid: u64,
    pub duplicates: u64,
    pub distinct: u64,
    /// Of the distinct events, those with a timestamp long before their place.
    pub late: u64,
    pub events_by_type: BTreeMap<String, u64>,
    /// By the event's UTC date.
    pub events_per_day: BTreeMap<String, u64>,
    pub unique_users_per_day: BTreeMap<String, u64>,
    /// Sum of `watched_ms` by `content`, where it is not 0.
    pub watched_ms_by_content: BTreeMap<String, u64>,
}

/// Counts while the events are written.
#[derive(Debug)]
pub struct Tally {
    users: usize,
    pub invalid: u64,
    pub duplicates: u64,
    pub late: u64,
    by_kind: [u64; Kind::COUNT],
    days: BTreeMap<i64, Day>,
    watched_ms: Vec<u64>,
}

#[derive(Debug)]
struct Day {
    events: u64,
    seen: Vec<u64>,
}

impl Tally {
    pub fn new(users: u32, tracks: usize) -> Self {
        Self {
            users: users as usize,
            invalid: 0,
            duplicates: 0,
            late: 0,
            by_kind: [0; Kind::COUNT],
            days: BTreeMap::new(),
            watched_ms: vec![0; tracks],
        }
    }

    /// Counts a valid event, the first time it is written.
    pub fn count(&mut self, event: &Event) {
        self.by_kind[event.act.kind as usize] += 1;
        let day = self
            .days
            .entry(event.at_ms.div_euclid(DAY_MS))
            .or_insert_with(|| Day { events: 0, seen: vec![0; self.users.div_ceil(64)] });
        day.events += 1;
        day.seen[event.user as usize / 64] |= 1 << (event.user % 64);
        if let (Some(track), Some(watched_ms)) = (event.act.track, event.act.watched_ms) {
            self.watched_ms[track as usize] += u64::from(watched_ms);
        }
    }

    pub fn truth(&self, tracks: &[Track]) -> Truth {
        let distinct = self.by_kind.iter().sum();
        let mut date = DateText::default();
        let mut by_day = |value: fn(&Day) -> u64| -> BTreeMap<String, u64> {
            self.days.iter().map(|(day, counts)| (date.of(*day).to_owned(), value(counts))).collect()
        };
        Truth {
            sent: distinct + self.duplicates + self.invalid,
            valid: distinct + self.duplicates,
            invalid: self.invalid,
            duplicates: self.duplicates,
            distinct,
            late: self.late,
            events_per_day: by_day(|day| day.events),
            unique_users_per_day: by_day(|day| day.seen.iter().map(|word| u64::from(word.count_ones())).sum()),
            events_by_type: Kind::NAMES
                .iter()
                .zip(self.by_kind)
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| ((*name).to_owned(), count))
                .collect(),
            watched_ms_by_content: tracks
                .iter()
                .zip(&self.watched_ms)
                .filter(|(_, watched_ms)| **watched_ms > 0)
                .map(|(track, watched_ms)| (track.content_id.clone(), *watched_ms))
                .collect(),
        }
    }
}
