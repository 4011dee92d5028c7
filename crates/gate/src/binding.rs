//! What a topic's settings say about its values: whether they are checked, against which subject, and what becomes of a
//! Kafka batch with bad ones.
//!
//! The settings are Kafka topic settings, kept in the topic's notes as a client sets them; the log knows nothing of them.

use std::collections::BTreeMap;

/// Whether the values of the topic are checked: one of [`Validation::NAMES`].
pub const VALIDATION_SETTING: &str = "playhouse.validation";
/// What becomes of a Kafka batch with records that are refused: one of [`OnInvalid::NAMES`].
pub const ON_INVALID_SETTING: &str = "playhouse.on.invalid";
/// The subject that the topic's schemas are registered under; empty for `<topic>-value`, [`ANY_SUBJECT`] for all.
pub const SUBJECT_SETTING: &str = "playhouse.subject";
/// Topics with records of several types, whose subjects go by the record's name.
pub const ANY_SUBJECT: &str = "*";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    /// Any bytes are taken.
    #[default]
    None,
    /// A value names a schema of the subject, by a prefix or a header. Its payload is not looked at.
    Id,
    /// A value is valid under the schema that it names, or, where it is bare JSON, under the subject's latest.
    Full,
}

impl Validation {
    pub const NAMES: [&str; 3] = ["none", "id", "full"];

    pub fn name(self) -> &'static str {
        match self {
            Validation::None => "none",
            Validation::Id => "id",
            Validation::Full => "full",
        }
    }

    fn parse(name: &str) -> Option<Validation> {
        [Validation::None, Validation::Id, Validation::Full].into_iter().find(|it| it.name() == name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnInvalid {
    /// Bad records are taken out of their batch and kept in `bad_events`; the batch is acknowledged.
    #[default]
    Quarantine,
    /// The batch is refused as a whole, with a reason for each bad record, and nothing of it is kept.
    Reject,
}

impl OnInvalid {
    pub const NAMES: [&str; 2] = ["quarantine", "reject"];

    pub fn name(self) -> &'static str {
        match self {
            OnInvalid::Quarantine => "quarantine",
            OnInvalid::Reject => "reject",
        }
    }

    fn parse(name: &str) -> Option<OnInvalid> {
        [OnInvalid::Quarantine, OnInvalid::Reject].into_iter().find(|it| it.name() == name)
    }
}

/// The settings of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) validation: Validation,
    pub(crate) on_invalid: OnInvalid,
    /// `None` takes a schema of any subject.
    pub(crate) subject: Option<String>,
}

impl Binding {
    /// What was set; `default` is what holds for this topic where its validation was not. The doors take no other values,
    /// so one that cannot be read is as good as not set.
    pub(crate) fn of(topic: &str, notes: &BTreeMap<String, String>, default: Validation) -> Binding {
        let set = |name: &str| notes.get(name).map(String::as_str);
        Binding {
            validation: set(VALIDATION_SETTING).and_then(Validation::parse).unwrap_or(default),
            on_invalid: set(ON_INVALID_SETTING).and_then(OnInvalid::parse).unwrap_or_default(),
            subject: match set(SUBJECT_SETTING) {
                None | Some("") => Some(value_subject(topic)),
                Some(ANY_SUBJECT) => None,
                Some(subject) => Some(subject.to_owned()),
            },
        }
    }
}

/// The subject of a topic's values, as a registry's clients name it by default.
pub(crate) fn value_subject(topic: &str) -> String {
    format!("{topic}-value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_read() {
        assert!(Validation::NAMES.iter().all(|name| Validation::parse(name).unwrap().name() == *name));
        assert!(OnInvalid::NAMES.iter().all(|name| OnInvalid::parse(name).unwrap().name() == *name));
    }

    #[test]
    fn what_is_not_set_is_the_default_of_the_topic() {
        let mut notes = BTreeMap::new();
        let bound = Binding::of("plays", &notes, Validation::Full);
        let expected = Binding {
            validation: Validation::Full,
            on_invalid: OnInvalid::Quarantine,
            subject: Some("plays-value".into()),
        };
        assert_eq!(bound, expected);
        for (name, value) in [(VALIDATION_SETTING, "none"), (ON_INVALID_SETTING, "reject"), (SUBJECT_SETTING, "*")] {
            notes.insert(name.to_owned(), value.to_owned());
        }
        let bound = Binding::of("plays", &notes, Validation::Full);
        let expected = Binding { validation: Validation::None, on_invalid: OnInvalid::Reject, subject: None };
        assert_eq!(bound, expected);
    }
}
