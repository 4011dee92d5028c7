//! Kafka's names for topic settings: shown by DescribeConfigs, accepted by CreateTopics.

use playhouse_log::{TimestampType, TopicSettings};

/// Kafka's `ConfigDef.Type`, as DescribeConfigs sends it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

pub(crate) struct Config {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) kind: Kind,
}

/// What this log does whatever a topic says: a client may ask for exactly this, and for nothing else.
const FIXED: &[(&str, &str, Kind)] = &[
    ("cleanup.policy", "delete", Kind::List),
    ("compression.type", "producer", Kind::String),
    ("delete.retention.ms", "86400000", Kind::Long),
    ("file.delete.delay.ms", "60000", Kind::Long),
    ("flush.messages", "9223372036854775807", Kind::Long),
    ("flush.ms", "9223372036854775807", Kind::Long),
    ("index.interval.bytes", "4096", Kind::Int),
    ("max.compaction.lag.ms", "9223372036854775807", Kind::Long),
    ("message.timestamp.after.max.ms", "9223372036854775807", Kind::Long),
    ("message.timestamp.before.max.ms", "9223372036854775807", Kind::Long),
    ("min.cleanable.dirty.ratio", "0.5", Kind::Double),
    ("min.compaction.lag.ms", "0", Kind::Long),
    ("min.insync.replicas", "1", Kind::Int),
    ("preallocate", "false", Kind::Boolean),
    ("segment.index.bytes", "10485760", Kind::Int),
    ("segment.jitter.ms", "0", Kind::Long),
    ("segment.ms", "604800000", Kind::Long),
    ("unclean.leader.election.enable", "false", Kind::Boolean),
];

/// Every setting of a topic, by name.
pub(crate) fn describe(settings: &TopicSettings) -> Vec<Config> {
    let timestamps = match settings.timestamp_type {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    let unlimited = || "-1".to_owned();
    let own = [
        ("max.message.bytes", settings.max_batch_bytes.to_string(), Kind::Int),
        ("message.timestamp.type", timestamps.to_owned(), Kind::String),
        ("retention.bytes", settings.retention_bytes.map_or_else(unlimited, |bytes| bytes.to_string()), Kind::Long),
        ("retention.ms", settings.retention_ms.map_or_else(unlimited, |ms| ms.to_string()), Kind::Long),
        ("segment.bytes", settings.segment_bytes.to_string(), Kind::Int),
    ];
    let fixed = FIXED.iter().map(|&(name, value, kind)| Config { name, value: value.to_owned(), kind });
    let mut all: Vec<Config> =
        own.into_iter().map(|(name, value, kind)| Config { name, value, kind }).chain(fixed).collect();
    all.sort_by_key(|config| config.name);
    all
}

/// Sets one; the error says what is wrong with it.
pub(crate) fn apply(settings: &mut TopicSettings, name: &str, value: Option<&str>) -> Result<(), String> {
    // Null asks for the default.
    let Some(value) = value else { return Ok(()) };
    let number = |smallest: i64| {
        let parsed = value.parse::<i64>().ok().filter(|number| *number >= smallest);
        parsed.ok_or_else(|| format!("{name} is {value:?}: it must be a number of at least {smallest}"))
    };
    match name {
        "max.message.bytes" => settings.max_batch_bytes = number(64)?.min(i64::from(i32::MAX)) as usize,
        "retention.ms" => settings.retention_ms = Some(number(-1)?).filter(|ms| *ms >= 0),
        "retention.bytes" => settings.retention_bytes = u64::try_from(number(-1)?).ok(),
        "segment.bytes" => settings.segment_bytes = number(4096)?.min(i64::from(i32::MAX)) as u64,
        "message.timestamp.type" => {
            settings.timestamp_type = match value {
                "CreateTime" => TimestampType::CreateTime,
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => return Err(format!("{name} is {value:?}: it must be CreateTime or LogAppendTime")),
            }
        }
        _ => match FIXED.iter().find(|(fixed, ..)| *fixed == name) {
            Some((_, only, _)) if *only == value => {}
            Some((_, only, _)) => return Err(format!("{name} is {value:?}: only {only:?} is supported")),
            None => return Err(format!("unknown topic setting {name:?}")),
        },
    }
    Ok(())
}
