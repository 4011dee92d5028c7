//! The clock: sessions in order of their next event, and the arrival of new ones.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::audience::Audience;
use super::catalogue::Catalogue;
use super::config::{Config, ConfigError};
use super::dice::{Dice, Zipf, mix};
use super::faults::{Fault, lateness_ms};
use super::render::{Event, Renderer};
use super::session::{Act, Programme, Session};
use super::truth::{Tally, Truth};

/// Measured; it turns a number of events into a number of sessions.
pub(super) const EVENTS_PER_SESSION: u64 = 36;
/// Past this many viewers at once, newcomers are turned away: it bounds the memory at about 100 MB.
const SESSIONS_MAX: usize = 1_000_000;
/// A duplicate repeats one of this many valid lines before it.
const RECENT_LINES: usize = 1024;
const CONTENT_FLATNESS: u32 = 10;

/// How newcomers follow the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrivals {
    /// More in the evening: the number of viewers follows the day curve.
    Daily,
    /// The same number at any time, of viewers who are awake.
    Steady,
}

/// A simulated audience, as lines of NDJSON in order of event time (apart from the late ones).
///
/// The same configuration gives the same bytes, on any machine and in any build of one version of this crate.
pub struct Generator {
    config: Config,
    catalogue: Catalogue,
    by_rank: Vec<u32>,
    popularity: Zipf,
    audience: Audience,
    arrivals: Arrivals,
    dice: Dice,
    renderer: Renderer,
    tally: Tally,
    due: BinaryHeap<Reverse<(i64, u32)>>,
    sessions: Vec<Session>,
    vacant: Vec<u32>,
    next_arrival_us: u64,
    arrival_gap_us: u64,
    session_count: u64,
    event_count: u64,
    lines: u64,
    recent: VecDeque<Vec<u8>>,
}

impl Generator {
    /// An audience of the bundled catalogue.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let sessions = (config.events / EVENTS_PER_SESSION).max(1);
        // Most drawn viewers are asleep and do not come.
        let gap_us =
            u128::from(config.span_ms) * 1000 * u128::from(Audience::awake_per_mille()) / (u128::from(sessions) * 1000);
        Self::with_arrivals(config, Arrivals::Daily, gap_us as u64)
    }

    pub(super) fn with_arrivals(config: Config, arrivals: Arrivals, gap_us: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let catalogue = Catalogue::bundled();
        let tracks = catalogue.tracks();
        let run = [
            config.events,
            u64::from(config.users),
            config.start_ms as u64,
            config.span_ms,
            u64::from(config.invalid.millionths()),
            u64::from(config.late.millionths()),
            u64::from(config.duplicate.millionths()),
            arrivals as u64,
        ]
        .into_iter()
        .fold(mix(config.seed), |hash, field| mix(hash ^ field));
        let mut dice = Dice::new(config.seed, run);
        let mut by_rank: Vec<u32> = (0..tracks.len() as u32).collect();
        for place in (1..by_rank.len()).rev() {
            by_rank.swap(place, dice.below(place as u64 + 1) as usize);
        }
        Ok(Self {
            popularity: Zipf::new(tracks.len() as u32, CONTENT_FLATNESS),
            audience: Audience::new(config.users),
            renderer: Renderer::new(run, tracks),
            tally: Tally::new(config.users, tracks.len()),
            next_arrival_us: config.start_ms as u64 * 1000,
            arrival_gap_us: gap_us.max(1),
            due: BinaryHeap::new(),
            sessions: Vec::new(),
            vacant: Vec::new(),
            session_count: 0,
            event_count: 0,
            lines: 0,
            recent: VecDeque::new(),
            config,
            catalogue,
            by_rank,
            arrivals,
            dice,
        })
    }

    /// Appends the next line to `out`, with its line feed; false at the end.
    pub fn next_line(&mut self, out: &mut Vec<u8>) -> bool {
        if self.lines == self.config.events {
            return false;
        }
        self.lines += 1;
        let duplicate = u64::from(self.config.duplicate.millionths());
        let invalid = duplicate + u64::from(self.config.invalid.millionths());
        let late = invalid + u64::from(self.config.late.millionths());
        let fate = self.dice.below(1_000_000);
        if fate < duplicate && !self.recent.is_empty() {
            out.extend_from_slice(&self.recent[self.dice.below(self.recent.len() as u64) as usize]);
            self.tally.duplicates += 1;
            return true;
        }
        let mut event = self.next_event();
        if (duplicate..invalid).contains(&fate) {
            let fault = Fault::draw(&mut self.dice);
            self.renderer.line(&event, Some(fault), out);
            self.tally.invalid += 1;
            return true;
        }
        if (invalid..late).contains(&fate) {
            event.at_ms -= lateness_ms(&mut self.dice);
            self.tally.late += 1;
        }
        let start = out.len();
        self.renderer.line(&event, None, out);
        self.tally.count(&event);
        if duplicate > 0 {
            let mut line =
                if self.recent.len() == RECENT_LINES { self.recent.pop_front() } else { None }.unwrap_or_default();
            line.clear();
            line.extend_from_slice(&out[start..]);
            self.recent.push_back(line);
        }
        true
    }

    /// Appends lines until `out` holds `bytes` or more, or `lines` lines were added; returns how many were.
    pub fn fill(&mut self, out: &mut Vec<u8>, bytes: usize, lines: u64) -> u64 {
        let mut added = 0;
        while added < lines && out.len() < bytes && self.next_line(out) {
            added += 1;
        }
        added
    }

    /// What a correct system answers about the lines written so far.
    pub fn truth(&self) -> Truth {
        self.tally.truth(self.catalogue.tracks())
    }

    pub fn lines_written(&self) -> u64 {
        self.lines
    }

    pub fn lines_total(&self) -> u64 {
        self.config.events
    }

    /// How many viewers are in a session now.
    pub fn viewers(&self) -> usize {
        self.due.len()
    }

    /// How many sessions have begun.
    pub fn sessions_begun(&self) -> u64 {
        self.session_count
    }

    /// When the next event happens, in ms since 1970 UTC.
    pub(super) fn next_due_ms(&mut self) -> i64 {
        loop {
            let arrival_ms = (self.next_arrival_us / 1000) as i64;
            match self.due.peek() {
                Some(Reverse((at_ms, _))) if *at_ms <= arrival_ms => return *at_ms,
                _ => self.arrive(arrival_ms),
            }
        }
    }

    /// Lets the next event happen unrecorded.
    pub(super) fn skip(&mut self) {
        self.next_event();
    }

    fn next_event(&mut self) -> Event {
        let at_ms = self.next_due_ms();
        // The heap is not empty: the time it is due came from its head.
        let Some(mut head) = self.due.peek_mut() else { unreachable!("a due session was just seen") };
        let Reverse((_, slot)) = *head;
        let session = &mut self.sessions[slot as usize];
        let programme =
            Programme { tracks: self.catalogue.tracks(), by_rank: &self.by_rank, popularity: &self.popularity };
        let (act, after_ms): (Act, _) = session.step(&programme, &mut self.dice);
        let event = Event { number: self.event_count, at_ms, user: session.user, session: session.number, act };
        self.event_count += 1;
        match after_ms {
            Some(after_ms) => head.0.0 = at_ms.saturating_add_unsigned(after_ms),
            None => {
                std::collections::binary_heap::PeekMut::pop(head);
                self.vacant.push(slot);
            }
        }
        event
    }

    /// One possible newcomer.
    fn arrive(&mut self, at_ms: i64) {
        self.next_arrival_us = self.next_arrival_us.saturating_add(self.dice.exponential(self.arrival_gap_us));
        if self.due.len() >= SESSIONS_MAX {
            return;
        }
        let Some(user) = self.newcomer(at_ms) else { return };
        let session = Session::new(user, self.session_count, &mut self.dice);
        self.session_count += 1;
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.sessions[slot as usize] = session;
                slot
            }
            None => {
                self.sessions.push(session);
                self.sessions.len() as u32 - 1
            }
        };
        self.due.push(Reverse((at_ms, slot)));
    }

    fn newcomer(&mut self, at_ms: i64) -> Option<u32> {
        let tries = match self.arrivals {
            Arrivals::Daily => 1,
            Arrivals::Steady => 32,
        };
        let mut user = self.audience.draw(&mut self.dice);
        for _ in 0..tries {
            if self.audience.is_awake(user, at_ms, &mut self.dice) {
                return Some(user);
            }
            user = self.audience.draw(&mut self.dice);
        }
        (self.arrivals == Arrivals::Steady).then_some(user)
    }
}
