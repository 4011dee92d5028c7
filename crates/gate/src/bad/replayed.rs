//! Finds replayed events in the log, after a crash or an error came between the append and the knowledge of it.

use std::collections::{BTreeMap, HashMap};

use playhouse_log::batch::Records;
use playhouse_log::{Log, Partition, ReadError};

use super::state::{Intent, offset_of};

/// On every replayed record: the bad event it came from.
pub const REPLAY_HEADER: &str = "playhouse.bad_id";

/// Replayed events are framed by the gate; batches that decompress to more are somebody else's.
const DECOMPRESSED_MAX: usize = 64 << 20;

/// Partition and offset of those that are there, by their offset in `bad_events`.
pub(super) fn find(log: &Log, wanted: &[(i64, Intent)]) -> Result<HashMap<i64, (i32, i64)>, ReadError> {
    let mut by_partition: BTreeMap<(&str, i32), HashMap<i64, &Intent>> = BTreeMap::new();
    for (event, intent) in wanted {
        by_partition.entry((&intent.topic, intent.partition)).or_default().insert(*event, intent);
    }
    let mut found = HashMap::new();
    for ((name, index), intents) in by_partition {
        let Some(topic) = log.topic(name) else { continue };
        let id = topic.id().to_string();
        let intents: HashMap<i64, &Intent> = intents.into_iter().filter(|(_, it)| it.topic_id == id).collect();
        let (Some(partition), Some(from)) = (topic.partition(index), intents.values().map(|it| it.from).min()) else {
            continue;
        };
        find_in(partition, from, &intents, &mut found)?;
    }
    Ok(found)
}

fn find_in(
    partition: &Partition,
    from: i64,
    intents: &HashMap<i64, &Intent>,
    found: &mut HashMap<i64, (i32, i64)>,
) -> Result<(), ReadError> {
    for batch in partition.batches_from(from) {
        let (_, batch) = batch?;
        let Ok(records) = Records::decompress(&batch, DECOMPRESSED_MAX) else { continue };
        for record in records.iter().map_while(Result::ok) {
            let of = record.headers().find(|(name, _)| *name == REPLAY_HEADER).and_then(|(_, value)| value);
            let event = of.and_then(|of| offset_of(std::str::from_utf8(of).ok()?));
            if let Some(event) = event
                && intents.get(&event).is_some_and(|intent| record.offset >= intent.from)
            {
                found.entry(event).or_insert((partition.index(), record.offset));
            }
        }
    }
    Ok(())
}
