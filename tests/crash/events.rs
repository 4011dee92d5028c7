//! Events whose every field follows from their id, and the book of what became of them as far as the senders know.

use std::collections::HashMap;
use std::fmt;

const TYPES: [&str; 5] = ["play", "heartbeat", "pause", "complete", "page_view"];
const USERS: u32 = 997;
const CONTENTS: u32 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub sender: u32,
    pub number: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.sender, self.number)
    }
}

impl Id {
    pub fn parse(text: &str) -> Option<Id> {
        let (sender, number) = text.split_once('-')?;
        Some(Id { sender: sender.parse().ok()?, number: number.parse().ok()? })
    }

    pub fn day(self) -> &'static str {
        if self.number.is_multiple_of(3) { "2025-08-30" } else { "2025-08-31" }
    }

    pub fn kind(self) -> &'static str {
        TYPES[self.number as usize % TYPES.len()]
    }

    pub fn user(self) -> String {
        format!("user-{}", (self.number * 7 + self.sender) % USERS)
    }

    pub fn content(self) -> String {
        format!("content-{}", self.number % CONTENTS)
    }

    pub fn position_ms(self) -> u32 {
        self.number
    }

    pub fn watched_ms(self) -> u32 {
        self.number % 1_000
    }
}

pub fn text(id: Id) -> String {
    format!(
        r#"{{"id":"{id}","timestamp":"{}T12:00:{:02}Z","type":"{}","user":"{}","session":"{}","content":"{}","position_ms":{},"watched_ms":{},"ip":"83.149.9.216","metadata":{{"from":"crash"}}}}"#,
        id.day(),
        id.number % 60,
        id.kind(),
        id.user(),
        id.number % USERS,
        id.content(),
        id.position_ms(),
        id.watched_ms(),
    )
}

/// An event that the gate rejects: a field missing, a value out of range, or no JSON at all.
pub fn invalid_text(id: Id) -> String {
    match id.number % 3 {
        0 => format!(r#"{{"id":"{id}","timestamp":"2025-08-31T12:00:00Z","type":"play"}}"#),
        1 => format!(r#"{{"id":"{id}","timestamp":"yesterday","type":"play","user":"u","position_ms":-1}}"#),
        _ => format!(r#"{{"id":"{id}", and then nothing"#),
    }
}

/// What the sender of an event knows; the later the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Sent, and no answer came: in the store, or not.
    Unknown,
    /// The answer said accepted, or, of an invalid event, rejected.
    Acknowledged,
}

#[derive(Debug, Default)]
pub struct Fates(pub HashMap<Id, Fate>);

impl Fates {
    pub fn sending(&mut self, id: Id) {
        self.0.entry(id).or_insert(Fate::Unknown);
    }

    pub fn acknowledge(&mut self, id: Id) {
        self.0.insert(id, Fate::Acknowledged);
    }

    pub fn acknowledged(&self) -> impl Iterator<Item = Id> {
        self.0.iter().filter(|(_, fate)| **fate == Fate::Acknowledged).map(|(id, _)| *id)
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub valid: Fates,
    pub invalid: Fates,
    pub requests: u64,
    pub unanswered: u64,
    pub throttled: u64,
    pub resent: u64,
}

impl Ledger {
    pub fn add(&mut self, other: Ledger) {
        self.valid.0.extend(other.valid.0);
        self.invalid.0.extend(other.invalid.0);
        self.requests += other.requests;
        self.unanswered += other.unanswered;
        self.throttled += other.throttled;
        self.resent += other.resent;
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} requests ({} unanswered, {} throttled), {} events sent and {} acknowledged ({} sent again), {} invalid",
            self.requests,
            self.unanswered,
            self.throttled,
            self.valid.0.len(),
            self.valid.acknowledged().count(),
            self.resent,
            self.invalid.0.len(),
        )
    }
}
