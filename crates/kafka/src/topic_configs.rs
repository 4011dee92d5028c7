//! Kafka's topic settings: what each is called, means and may be; which of them this log heeds, and which it only keeps.
//!
//! A setting that a client has set explicitly is kept word for word in the topic's notes, which is how it is told from a
//! default. Those that the log heeds are set in it as well.

use std::collections::BTreeMap;

use playhouse_gate::{ON_INVALID_SETTING, OnInvalid, SUBJECT_SETTING, VALIDATION_SETTING, Validation};
use playhouse_log::{CleanupPolicy, TimestampType, TopicSettings};

/// Kafka's `ConfigDef.Type`, as DescribeConfigs sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// What values a setting takes.
#[derive(Debug, Clone, Copy)]
enum Values {
    AtLeast(i64),
    Fraction,
    Boolean,
    OneOf(&'static [&'static str]),
    SomeOf(&'static [&'static str]),
    /// Kept and shown; nothing here reads it.
    Any,
    /// Something this log does not do: only its default is taken.
    Fixed,
}

pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    values: Values,
    /// Apache Kafka's default, where the log does not have one of its own.
    default: &'static str,
    /// The broker's setting that it comes from.
    pub(crate) broker: &'static str,
    pub(crate) about: &'static str,
}

const fn define(
    name: &'static str,
    kind: Kind,
    values: Values,
    default: &'static str,
    broker: &'static str,
    about: &'static str,
) -> Definition {
    Definition { name, kind, values, default, broker, about }
}

const FOR_EVER: &str = "9223372036854775807";
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// By name.
pub(crate) const DEFINITIONS: &[Definition] = &[
    define(
        "cleanup.policy",
        Kind::List,
        Values::SomeOf(&["compact", "delete"]),
        "delete",
        "log.cleanup.policy",
        "What becomes of old records: delete drops segments by age and size, compact keeps the newest record of each key.",
    ),
    define(
        "compression.gzip.level",
        Kind::Int,
        Values::Any,
        "-1",
        "compression.gzip.level",
        "Kept, without effect: batches stay as producers compressed them.",
    ),
    define(
        "compression.lz4.level",
        Kind::Int,
        Values::Any,
        "9",
        "compression.lz4.level",
        "Kept, without effect: batches stay as producers compressed them.",
    ),
    define(
        "compression.type",
        Kind::String,
        Values::OneOf(CODECS),
        "producer",
        "compression.type",
        "Kept, without effect unless it is producer: batches stay as producers compressed them.",
    ),
    define(
        "compression.zstd.level",
        Kind::Int,
        Values::Any,
        "3",
        "compression.zstd.level",
        "Kept, without effect: batches stay as producers compressed them.",
    ),
    define(
        "delete.retention.ms",
        Kind::Long,
        Values::AtLeast(0),
        "86400000",
        "log.cleaner.delete.retention.ms",
        "How long a tombstone of a compacted topic can be read after compaction has passed it.",
    ),
    define(
        "file.delete.delay.ms",
        Kind::Long,
        Values::AtLeast(0),
        "60000",
        "log.segment.delete.delay.ms",
        "Kept, without effect: a segment's file goes at once, and whoever reads it reads on.",
    ),
    define(
        "flush.messages",
        Kind::Long,
        Values::AtLeast(1),
        FOR_EVER,
        "log.flush.interval.messages",
        "Kept, without effect: the setting durability says when an acknowledged record is on disk.",
    ),
    define(
        "flush.ms",
        Kind::Long,
        Values::AtLeast(0),
        FOR_EVER,
        "log.flush.interval.ms",
        "Kept, without effect: the setting durability says when an acknowledged record is on disk.",
    ),
    define(
        "follower.replication.throttled.replicas",
        Kind::List,
        Values::Any,
        "",
        "follower.replication.throttled.replicas",
        "Kept, without effect: there are no followers.",
    ),
    define(
        "index.interval.bytes",
        Kind::Int,
        Values::AtLeast(0),
        "4096",
        "log.index.interval.bytes",
        "Kept, without effect: an index entry is written about every 4096 bytes.",
    ),
    define(
        "leader.replication.throttled.replicas",
        Kind::List,
        Values::Any,
        "",
        "leader.replication.throttled.replicas",
        "Kept, without effect: there are no followers.",
    ),
    define(
        "local.retention.bytes",
        Kind::Long,
        Values::AtLeast(-2),
        "-2",
        "log.local.retention.bytes",
        "Kept, without effect: there is no tiered storage.",
    ),
    define(
        "local.retention.ms",
        Kind::Long,
        Values::AtLeast(-2),
        "-2",
        "log.local.retention.ms",
        "Kept, without effect: there is no tiered storage.",
    ),
    define(
        "max.compaction.lag.ms",
        Kind::Long,
        Values::AtLeast(1),
        FOR_EVER,
        "log.cleaner.max.compaction.lag.ms",
        "A record of a compacted topic is open to compaction at this age at the latest.",
    ),
    define(
        "max.message.bytes",
        Kind::Int,
        Values::AtLeast(64),
        "1048588",
        "message.max.bytes",
        "The largest record batch accepted, after compression.",
    ),
    define(
        "message.timestamp.after.max.ms",
        Kind::Long,
        Values::AtLeast(0),
        FOR_EVER,
        "log.message.timestamp.after.max.ms",
        "Kept, without effect: timestamps ahead of the clock are taken.",
    ),
    define(
        "message.timestamp.before.max.ms",
        Kind::Long,
        Values::AtLeast(0),
        FOR_EVER,
        "log.message.timestamp.before.max.ms",
        "Kept, without effect: timestamps behind the clock are taken.",
    ),
    define(
        "message.timestamp.type",
        Kind::String,
        Values::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "log.message.timestamp.type",
        "Whether records keep the producer's timestamp or get that of their append.",
    ),
    define(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        Values::Fraction,
        "0.5",
        "log.cleaner.min.cleanable.ratio",
        "Compaction begins when this share of a partition has not been compacted yet.",
    ),
    define(
        "min.compaction.lag.ms",
        Kind::Long,
        Values::AtLeast(0),
        "0",
        "log.cleaner.min.compaction.lag.ms",
        "A record stays uncompacted at least this long.",
    ),
    define(
        "min.insync.replicas",
        Kind::Int,
        Values::AtLeast(1),
        "1",
        "min.insync.replicas",
        "Kept, without effect: there is one replica, and every acknowledgement waits until it is durable.",
    ),
    define(
        ON_INVALID_SETTING,
        Kind::String,
        Values::OneOf(&OnInvalid::NAMES),
        "quarantine",
        ON_INVALID_SETTING,
        "What becomes of a batch with invalid records: quarantine takes them out and keeps them in bad_events, reject refuses the batch with a reason for each of them.",
    ),
    define(
        SUBJECT_SETTING,
        Kind::String,
        Values::Any,
        "",
        SUBJECT_SETTING,
        "The registry's subject of the values; empty is the topic's name with -value, * a schema of any subject.",
    ),
    define(
        VALIDATION_SETTING,
        Kind::String,
        Values::OneOf(&Validation::NAMES),
        "none",
        VALIDATION_SETTING,
        "What a value must be: none takes any bytes, id wants the id of a schema of the subject, full a payload valid under that schema, or bare JSON valid under the latest.",
    ),
    define(
        "preallocate",
        Kind::Boolean,
        Values::Boolean,
        "false",
        "log.preallocate",
        "Kept, without effect: files grow as they are written.",
    ),
    define(
        "remote.log.copy.disable",
        Kind::Boolean,
        Values::Fixed,
        "false",
        "remote.log.copy.disable",
        "There is no tiered storage.",
    ),
    define(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        Values::Fixed,
        "false",
        "remote.log.delete.on.disable",
        "There is no tiered storage.",
    ),
    define(
        "remote.storage.enable",
        Kind::Boolean,
        Values::Fixed,
        "false",
        "remote.log.storage.system.enable",
        "There is no tiered storage.",
    ),
    define(
        "retention.bytes",
        Kind::Long,
        Values::AtLeast(-1),
        "-1",
        "log.retention.bytes",
        "How large a partition grows before its oldest segments are deleted; -1 sets no limit.",
    ),
    define(
        "retention.ms",
        Kind::Long,
        Values::AtLeast(-1),
        "604800000",
        "log.retention.ms",
        "How old a segment grows before it is deleted; -1 keeps it for ever.",
    ),
    define(
        "segment.bytes",
        Kind::Int,
        Values::AtLeast(4096),
        "1073741824",
        "log.segment.bytes",
        "A segment is closed at this size. Only closed segments are deleted or compacted.",
    ),
    define(
        "segment.index.bytes",
        Kind::Int,
        Values::AtLeast(4),
        "10485760",
        "log.index.size.max.bytes",
        "Kept, without effect: an index grows with its segment.",
    ),
    define("segment.jitter.ms", Kind::Long, Values::AtLeast(0), "0", "log.roll.jitter.ms", "Kept, without effect."),
    define(
        "segment.ms",
        Kind::Long,
        Values::AtLeast(1),
        "604800000",
        "log.roll.ms",
        "A segment is closed at this age.",
    ),
    define(
        "unclean.leader.election.enable",
        Kind::Boolean,
        Values::Boolean,
        "false",
        "unclean.leader.election.enable",
        "Kept, without effect: there is one replica, and no election.",
    ),
];

pub(crate) fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.binary_search_by_key(&name, |definition| definition.name).ok().map(|index| &DEFINITIONS[index])
}

impl Definition {
    /// What holds with these settings, for a topic with these defaults.
    pub(crate) fn value(&self, settings: &TopicSettings, defaults: &TopicSettings) -> String {
        let unlimited = || "-1".to_owned();
        match self.name {
            "cleanup.policy" => match settings.cleanup {
                CleanupPolicy::Delete => "delete".to_owned(),
                CleanupPolicy::Compact => "compact".to_owned(),
                CleanupPolicy::CompactAndDelete => "compact,delete".to_owned(),
            },
            "delete.retention.ms" => settings.delete_retention_ms.to_string(),
            "max.compaction.lag.ms" => settings.max_compaction_lag_ms.map_or(FOR_EVER.to_owned(), |ms| ms.to_string()),
            "max.message.bytes" => settings.max_batch_bytes.to_string(),
            "message.timestamp.type" => match settings.timestamp_type {
                TimestampType::CreateTime => "CreateTime".to_owned(),
                TimestampType::LogAppendTime => "LogAppendTime".to_owned(),
            },
            "min.cleanable.dirty.ratio" => settings.min_cleanable_dirty_ratio.to_string(),
            "min.compaction.lag.ms" => settings.min_compaction_lag_ms.to_string(),
            "retention.bytes" => settings.retention_bytes.map_or_else(unlimited, |bytes| bytes.to_string()),
            "retention.ms" => settings.retention_ms.map_or_else(unlimited, |ms| ms.to_string()),
            "segment.bytes" => settings.segment_bytes.to_string(),
            "segment.ms" => settings.segment_ms.to_string(),
            _ => {
                let noted = settings.notes.get(self.name).or_else(|| defaults.notes.get(self.name));
                noted.cloned().unwrap_or_else(|| self.default.to_owned())
            }
        }
    }

    pub(crate) fn kafka_default(&self) -> &'static str {
        self.default
    }

    fn check(&self, value: &str) -> Result<(), String> {
        let name = self.name;
        let one_of = |allowed: &[&str]| Err(format!("{name} is {value:?}: it must be one of {}", allowed.join(", ")));
        let most = if self.kind == Kind::Int { i64::from(i32::MAX) } else { i64::MAX };
        match self.values {
            Values::AtLeast(least) => match value.parse::<i64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(()),
                _ => Err(format!("{name} is {value:?}: it must be a number of at least {least}")),
            },
            Values::Fraction => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => Err(format!("{name} is {value:?}: it must be a number from 0 to 1")),
            },
            Values::Boolean if ["true", "false"].contains(&value) => Ok(()),
            Values::Boolean => one_of(&["true", "false"]),
            Values::OneOf(allowed) if allowed.contains(&value) => Ok(()),
            Values::OneOf(allowed) => one_of(allowed),
            Values::SomeOf(allowed) if !value.is_empty() && list(value).all(|it| allowed.contains(&it)) => Ok(()),
            Values::SomeOf(allowed) => one_of(allowed),
            Values::Any if self.kind != Kind::Int || value.parse::<i32>().is_ok() => Ok(()),
            Values::Any => Err(format!("{name} is {value:?}: it must be a number")),
            Values::Fixed if value == self.default => Ok(()),
            Values::Fixed => Err(format!("{name} is {value:?}: only {:?} is supported", self.default)),
        }
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Whether a client has set it on this topic, or the server's configuration has.
pub(crate) fn is_set(definition: &Definition, settings: &TopicSettings, defaults: &TopicSettings) -> bool {
    settings.notes.contains_key(definition.name)
        || definition.value(settings, defaults) != definition.value(defaults, defaults)
}

/// Sets one setting, or puts it back to the default (`None`); the error says what is wrong with it.
pub(crate) fn apply(
    settings: &mut TopicSettings,
    defaults: &TopicSettings,
    name: &str,
    value: Option<&str>,
) -> Result<(), String> {
    let definition = definition(name).ok_or_else(|| format!("unknown topic setting {name:?}"))?;
    let Some(value) = value.map(str::trim) else {
        settings.notes.remove(name);
        let default = definition.value(defaults, defaults);
        heed(settings, name, &default);
        return Ok(());
    };
    definition.check(value)?;
    heed(settings, name, value);
    settings.notes.insert(name.to_owned(), value.to_owned());
    Ok(())
}

/// Sets what the log heeds; the value was checked.
fn heed(settings: &mut TopicSettings, name: &str, value: &str) {
    let number = || value.parse::<i64>().unwrap_or(i64::MAX);
    match name {
        "cleanup.policy" => {
            settings.cleanup = match (list(value).any(|it| it == "compact"), list(value).any(|it| it == "delete")) {
                (true, true) => CleanupPolicy::CompactAndDelete,
                (true, false) => CleanupPolicy::Compact,
                (false, _) => CleanupPolicy::Delete,
            }
        }
        "delete.retention.ms" => settings.delete_retention_ms = number(),
        "max.compaction.lag.ms" => settings.max_compaction_lag_ms = Some(number()).filter(|ms| *ms < i64::MAX),
        "max.message.bytes" => settings.max_batch_bytes = number() as usize,
        "message.timestamp.type" => {
            settings.timestamp_type = match value {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            }
        }
        "min.cleanable.dirty.ratio" => settings.min_cleanable_dirty_ratio = value.parse().unwrap_or(0.5),
        "min.compaction.lag.ms" => settings.min_compaction_lag_ms = number(),
        "retention.bytes" => settings.retention_bytes = u64::try_from(number()).ok(),
        "retention.ms" => settings.retention_ms = Some(number()).filter(|ms| *ms >= 0),
        "segment.bytes" => settings.segment_bytes = number() as u64,
        "segment.ms" => settings.segment_ms = number(),
        _ => {}
    }
}

/// A change of one setting, as IncrementalAlterConfigs names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Set,
    Delete,
    Append,
    Subtract,
}

pub(crate) fn change(
    settings: &mut TopicSettings,
    defaults: &TopicSettings,
    name: &str,
    change: Change,
    value: Option<&str>,
) -> Result<(), String> {
    let definition = definition(name).ok_or_else(|| format!("unknown topic setting {name:?}"))?;
    let value = match (change, value) {
        (Change::Delete, _) => None,
        (_, None) => return Err(format!("{name} has no value")),
        (Change::Set, Some(value)) => Some(value.to_owned()),
        _ if definition.kind != Kind::List => return Err(format!("{name} is not a list: set it")),
        (_, Some(value)) => {
            let before = definition.value(settings, defaults);
            let mut items: Vec<&str> = list(&before).collect();
            match change {
                Change::Append => items.extend(list(value).filter(|item| !list(&before).any(|it| it == *item))),
                _ => items.retain(|item| !list(value).any(|it| it == *item)),
            }
            Some(items.join(","))
        }
    };
    apply(settings, defaults, name, value.as_deref())
}

/// What AlterConfigs asks for: these settings, and defaults for all that clients had set before.
pub(crate) fn replace(
    settings: &mut TopicSettings,
    defaults: &TopicSettings,
    configs: &BTreeMap<&str, Option<&str>>,
) -> Result<(), String> {
    let before: Vec<String> = settings.notes.keys().cloned().collect();
    for name in before.iter().filter(|name| !configs.contains_key(name.as_str())) {
        apply(settings, defaults, name, None)?;
    }
    configs.iter().try_for_each(|(name, value)| apply(settings, defaults, name, *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_in_order_and_their_defaults_are_valid() {
        assert!(DEFINITIONS.is_sorted_by_key(|definition| definition.name));
        let defaults = TopicSettings::default();
        for definition in DEFINITIONS {
            definition.check(&definition.value(&defaults, &defaults)).unwrap();
            let mut settings = defaults.clone();
            heed(&mut settings, definition.name, &definition.value(&defaults, &defaults));
            assert_eq!(settings, defaults, "{}: what is shown can be set", definition.name);
        }
    }

    #[test]
    fn what_is_set_holds_is_told_from_defaults_and_can_be_put_back() {
        let defaults = TopicSettings::default();
        let mut settings = defaults.clone();
        apply(&mut settings, &defaults, "retention.ms", Some("604800000")).unwrap();
        let retention = definition("retention.ms").unwrap();
        assert!(is_set(retention, &settings, &defaults), "set to what is the default anyway");
        change(&mut settings, &defaults, "cleanup.policy", Change::Append, Some("compact")).unwrap();
        assert_eq!(settings.cleanup, CleanupPolicy::CompactAndDelete);
        change(&mut settings, &defaults, "cleanup.policy", Change::Subtract, Some("delete")).unwrap();
        assert_eq!(settings.cleanup, CleanupPolicy::Compact);
        change(&mut settings, &defaults, "min.insync.replicas", Change::Set, Some("2")).unwrap();
        assert_eq!(definition("min.insync.replicas").unwrap().value(&settings, &defaults), "2");
        replace(&mut settings, &defaults, &BTreeMap::from([("segment.ms", Some("5"))])).unwrap();
        assert_eq!((settings.segment_ms, settings.notes.len()), (5, 1));
        change(&mut settings, &defaults, "segment.ms", Change::Delete, None).unwrap();
        assert_eq!(settings, defaults);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let defaults = TopicSettings::default();
        for (name, value) in [
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("max.message.bytes", "99999999999"),
            ("cleanup.policy", "compact,burn"),
            ("cleanup.policy", ""),
            ("compression.type", "brotli"),
            ("preallocate", "yes"),
            ("min.cleanable.dirty.ratio", "2"),
            ("remote.storage.enable", "true"),
            ("retention", "1"),
        ] {
            let mut settings = defaults.clone();
            let error = apply(&mut settings, &defaults, name, Some(value)).unwrap_err();
            assert!(error.contains(name), "{error}");
            assert_eq!(settings, defaults);
        }
        let mut settings = defaults.clone();
        assert!(change(&mut settings, &defaults, "retention.ms", Change::Append, Some("1")).is_err());
    }
}
