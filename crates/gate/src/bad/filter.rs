//! Which bad events somebody asks for, and how many there are of each kind.

use std::collections::BTreeMap;

use super::{BadEvent, Stage};
use crate::Reason;

/// Paths come from senders (`/items/17/price`), so there may be any number of them; beyond this many groups of a kind,
/// the rest is counted as one.
const GROUPS_MAX: usize = 1000;

/// What has become of a bad event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadState {
    /// Neither of the others.
    Open,
    Fixed,
    Dropped,
}

impl BadState {
    /// `open`, `fixed`, `dropped`; `None` for anything else.
    pub fn parse(text: &str) -> Option<BadState> {
        Some(match text {
            "open" => BadState::Open,
            "fixed" => BadState::Fixed,
            "dropped" => BadState::Dropped,
            _ => return None,
        })
    }

    pub fn of(event: &BadEvent) -> BadState {
        match &event.fixed_as {
            Some(_) => BadState::Fixed,
            None if event.dropped => BadState::Dropped,
            None => BadState::Open,
        }
    }
}

/// What is `None` is not asked for. The three about a reason must hold for one and the same reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadFilter {
    pub topic: Option<String>,
    pub stage: Option<Stage>,
    pub keyword: Option<String>,
    /// JSON pointer: the reason's path is this or below it.
    pub path: Option<String>,
    /// Stands in the reason's message.
    pub text: Option<String>,
    /// Received then or later.
    pub since_ms: Option<i64>,
    /// Received before.
    pub until_ms: Option<i64>,
    pub state: Option<BadState>,
}

impl BadFilter {
    pub fn matches(&self, event: &BadEvent) -> bool {
        self.topic.as_ref().is_none_or(|topic| *topic == event.topic)
            && self.since_ms.is_none_or(|since| event.received_at_ms >= since)
            && self.until_ms.is_none_or(|until| event.received_at_ms < until)
            && self.state.is_none_or(|state| state == BadState::of(event))
            && self.stage.as_ref().is_none_or(|stage| *stage == event.stage)
            && (!self.is_about_reasons() || event.reasons.iter().any(|reason| self.matches_reason(reason)))
    }

    fn is_about_reasons(&self) -> bool {
        self.keyword.is_some() || self.path.is_some() || self.text.is_some()
    }

    fn matches_reason(&self, reason: &Reason) -> bool {
        let below = |path: &String| {
            reason.path.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.keyword.as_ref().is_none_or(|keyword| *keyword == reason.keyword)
            && self.path.as_ref().is_none_or(below)
            && self.text.as_ref().is_none_or(|text| reason.message.contains(text.as_str()))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadStats {
    pub count: u64,
    /// Of what is kept of the events.
    pub raw_bytes: u64,
    /// Of `count`, those that were repaired, and those that were dropped.
    pub fixed: u64,
    pub dropped: u64,
    /// Milliseconds since 1970; `None` where there are none.
    pub oldest_ms: Option<i64>,
    pub newest_ms: Option<i64>,
    pub topics: Groups<String>,
    pub stages: Groups<String>,
    /// Keyword and path; an event counts once for each of its reasons.
    pub reasons: Groups<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups<K> {
    pub counts: BTreeMap<K, u64>,
    /// What is in none of them, once there are too many.
    pub other: u64,
}

impl<K> Default for Groups<K> {
    fn default() -> Self {
        Groups { counts: BTreeMap::new(), other: 0 }
    }
}

impl<K: Ord> Groups<K> {
    fn add(&mut self, key: K) {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
        } else if self.counts.len() < GROUPS_MAX {
            self.counts.insert(key, 1);
        } else {
            self.other += 1;
        }
    }
}

impl BadStats {
    pub(super) fn add(&mut self, event: &BadEvent) {
        self.count += 1;
        self.raw_bytes += event.raw.len() as u64;
        match BadState::of(event) {
            BadState::Open => {}
            BadState::Fixed => self.fixed += 1,
            BadState::Dropped => self.dropped += 1,
        }
        let at = event.received_at_ms;
        self.oldest_ms = Some(self.oldest_ms.map_or(at, |oldest| oldest.min(at)));
        self.newest_ms = Some(self.newest_ms.map_or(at, |newest| newest.max(at)));
        self.topics.add(event.topic.clone());
        self.stages.add(event.stage.to_string());
        for reason in &event.reasons {
            self.reasons.add((reason.keyword.clone(), reason.path.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reasons: &[(&str, &str, &str)]) -> BadEvent {
        let reason = |(path, keyword, message): &(&str, &str, &str)| Reason {
            path: (*path).into(),
            keyword: (*keyword).into(),
            message: (*message).into(),
        };
        BadEvent {
            bad_id: "0-0".into(),
            received_at_ms: 1000,
            topic: "clicks".into(),
            source_protocol: "rest".into(),
            source_address: None,
            user_agent: None,
            schema_id: None,
            stage: Stage::Sink("lake".into()),
            reasons: reasons.iter().map(reason).collect(),
            raw: b"{}".to_vec(),
            is_cut: false,
            key: None,
            headers: Vec::new(),
            attempts: 0,
            fixed_as: None,
            dropped: false,
            place: None,
        }
    }

    #[test]
    fn every_condition_narrows() {
        let event = event(&[("/a/b", "type", "is no number"), ("/c", "required", "is missing")]);
        let some = |text: &str| Some(text.to_owned());
        let any = BadFilter::default();
        assert!(any.matches(&event));
        for wanted in [
            BadFilter { topic: some("clicks"), ..any.clone() },
            BadFilter { stage: Stage::parse("sink:lake"), ..any.clone() },
            BadFilter { keyword: some("required"), ..any.clone() },
            BadFilter { path: some("/a"), text: some("no number"), ..any.clone() },
            BadFilter { path: some(""), ..any.clone() },
            BadFilter { since_ms: Some(1000), until_ms: Some(1001), ..any.clone() },
            BadFilter { state: BadState::parse("open"), ..any.clone() },
        ] {
            assert!(wanted.matches(&event), "{wanted:?}");
        }
        for other in [
            BadFilter { topic: some("click"), ..any.clone() },
            BadFilter { stage: Some(Stage::Sink("lak".into())), ..any.clone() },
            BadFilter { path: some("/a/"), ..any.clone() },
            // Each holds, but for different reasons.
            BadFilter { keyword: some("required"), path: some("/a"), ..any.clone() },
            BadFilter { since_ms: Some(1001), ..any.clone() },
            BadFilter { until_ms: Some(1000), ..any.clone() },
            BadFilter { state: BadState::parse("dropped"), ..any.clone() },
        ] {
            assert!(!other.matches(&event), "{other:?}");
        }
    }

    #[test]
    fn groups_are_bounded_and_nothing_goes_uncounted() {
        let mut stats = BadStats::default();
        for n in 0..GROUPS_MAX + 5 {
            stats.add(&event(&[(&format!("/{n}"), "type", "")]));
        }
        assert_eq!((stats.count, stats.reasons.counts.len(), stats.reasons.other), (1005, 1000, 5));
        assert_eq!(stats.topics.counts["clicks"], 1005);
    }
}
