//! Bad events repaired: fixed, judged again, and appended to their topic, each once.
//!
//! "Once" rests on the order in which things become durable. First the intent: which partition, and the offset from which
//! on the event may be found there. Then the event itself, with the bad id in the header `playhouse.bad_id`. Last, what it
//! was fixed as. After a crash before the last step, whoever wants to know looks for the header from that offset on: at
//! start for all of them, and before an event is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use playhouse_log::batch::EncodedHeaders;
use playhouse_log::{AppendError, ReadError, Topic, partition_of};
use playhouse_schema::wire::VALUE_SCHEMA_HEADER;

use crate::bad::{Intent, Known, REPLAY_HEADER, Standing, State, on_disk};
use crate::check::Refusal;
use crate::frame::{Frames, Stamp};
use crate::gate::{Gate, now_ms};
use crate::ingest::judge;
use crate::{BadEvent, Origin, Reason, RequestError, Stage, StateError};

/// Makes of a bad event the payload to judge and replay, or says why it cannot.
pub type Fix = dyn Fn(&BadEvent) -> Result<Vec<u8>, String> + Send + Sync;

/// What came of one bad event.
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// As it is now.
    pub event: BadEvent,
    /// What the fix made of it.
    pub after: Option<Vec<u8>>,
    pub outcome: RepairOutcome,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RepairOutcome {
    /// Nothing was written, but would have been.
    WouldPass,
    /// Replayed now.
    Fixed,
    /// Replayed before: nothing was done.
    AlreadyFixed,
    StillBad(Vec<Reason>),
    /// By this call or before.
    Dropped,
    /// Open again.
    Restored,
}

#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Refused(#[from] RequestError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot look for replayed events: {0}")]
    Read(#[from] ReadError),
    #[error("cannot replay: {0}")]
    Append(#[from] AppendError),
    #[error("repairing failed: {0}")]
    Failed(#[from] tokio::task::JoinError),
}

impl Gate {
    /// Fixes, judges and replays the events that are neither fixed nor dropped, and returns once what was replayed is
    /// durable. In a dry run nothing is written. A call that fails half-way may be repeated: nothing is replayed twice.
    pub async fn repair(
        self: &Arc<Gate>,
        events: Vec<BadEvent>,
        fix: Arc<Fix>,
        dry_run: bool,
    ) -> Result<Vec<Repair>, RepairError> {
        let gate = self.clone();
        // By itself: a caller that goes away must not end it between its steps.
        tokio::spawn(async move {
            let _turn = gate.bad.repairing.lock().await;
            let events = gate.bad.settle(events).await?;
            let bytes = events.iter().map(|known| 2 * known.event.raw.len()).sum();
            let _charge = gate.admit(bytes)?;
            let gate_ = gate.clone();
            let try_all = move || events.into_iter().map(|known| gate_.try_one(known, &*fix)).collect();
            let mut tried: Vec<Tried> = tokio::task::spawn_blocking(try_all).await?;
            if !dry_run {
                gate.replay(&mut tried).await?;
            }
            Ok(tried.into_iter().map(|tried| tried.repair).collect())
        })
        .await?
    }

    /// Marks events that are open as dropped, or those that were dropped as open again.
    pub async fn drop_bad_events(
        self: &Arc<Gate>,
        events: Vec<BadEvent>,
        restore: bool,
    ) -> Result<Vec<Repair>, RepairError> {
        let gate = self.clone();
        tokio::spawn(async move {
            let _turn = gate.bad.repairing.lock().await;
            let events = gate.bad.settle(events).await?;
            let mut changes = Vec::new();
            let mut repairs = Vec::with_capacity(events.len());
            for Known { offset, state, mut event } in events {
                let outcome = match &state.standing {
                    Standing::Fixed { .. } => RepairOutcome::AlreadyFixed,
                    _ if restore => RepairOutcome::Restored,
                    _ => RepairOutcome::Dropped,
                };
                let standing = match (&state.standing, restore) {
                    (Standing::Dropped, true) => Some(Standing::Open),
                    (Standing::Open, false) => Some(Standing::Dropped),
                    _ => None,
                };
                if let Some(standing) = standing {
                    changes.push((offset, State { standing, ..state }));
                    event.dropped = !restore;
                }
                repairs.push(Repair { event, after: None, outcome });
            }
            gate.bad.write_states(changes).await?;
            Ok(repairs)
        })
        .await?
    }

    fn try_one(&self, known: Known, fix: &Fix) -> Tried {
        let Known { offset, state, event } = known;
        let repair = Repair { event, after: None, outcome: RepairOutcome::WouldPass };
        let mut tried = Tried { repair, offset, state, framing: Framing::default() };
        let repair = &mut tried.repair;
        repair.outcome = match &tried.state.standing {
            Standing::Fixed { .. } => RepairOutcome::AlreadyFixed,
            Standing::Dropped => RepairOutcome::Dropped,
            Standing::Open | Standing::Replaying(_) => match self.judge_fixed(&repair.event, fix) {
                (after, Ok(framing)) => {
                    (repair.after, tried.framing) = (after, framing);
                    RepairOutcome::WouldPass
                }
                (after, Err(reasons)) => {
                    repair.after = after;
                    RepairOutcome::StillBad(reasons)
                }
            },
        };
        tried
    }

    /// What the fix makes of an event, and its record, or why it is still bad.
    fn judge_fixed(&self, event: &BadEvent, fix: &Fix) -> (Option<Vec<u8>>, Result<Framing, Vec<Reason>>) {
        let Some(topic) = self.open_topic(&event.topic) else { return (None, Err(vec![no_topic(event)])) };
        if let Stage::Sink(sink) = &event.stage {
            return (None, Err(vec![elsewhere(sink)]));
        }
        if event.is_cut {
            let message = "only the beginning of the event was kept: it has to be sent again";
            return (None, Err(vec![Reason::whole("size", message)]));
        }
        let after = match fix(event) {
            Ok(after) => after,
            Err(message) => return (None, Err(vec![Reason::whole("fix", message)])),
        };
        let judged = if event.is_record() {
            self.judge_record(&topic, event, &after)
        } else {
            let framing =
                |(key, schema_id): (Option<Vec<u8>>, _)| Framing { key: key.or(event.key.clone()), schema_id };
            judge(self, &topic, &after).map(framing)
        };
        (Some(after), judged.map_err(|refusal| refusal.reasons))
    }

    /// As the record of a batch would be judged. Its key is its producer's, and the gate stamps no schema on it.
    fn judge_record(&self, topic: &Topic, event: &BadEvent, after: &[u8]) -> Result<Framing, Refusal> {
        if let Some(mut check) = self.checking(topic) {
            let header = event.headers.iter().rfind(|(name, _)| name == VALUE_SCHEMA_HEADER);
            check.judge(Some(after), header.map(|(_, value)| value.as_slice()))?;
        }
        Ok(Framing { key: event.key.clone(), schema_id: None })
    }

    async fn replay(&self, tried: &mut [Tried]) -> Result<(), RepairError> {
        let mut appends: BTreeMap<(String, i32), Append> = BTreeMap::new();
        let mut changes = Vec::new();
        for (index, tried) in tried.iter_mut().enumerate() {
            let standing = match &tried.repair.outcome {
                RepairOutcome::WouldPass => match self.frame(index, tried, &mut appends) {
                    Some(intent) => Standing::Replaying(Box::new(intent)),
                    None => {
                        tried.repair.outcome = RepairOutcome::StillBad(vec![no_topic(&tried.repair.event)]);
                        Standing::Open
                    }
                },
                RepairOutcome::StillBad(_) => Standing::Open,
                _ => continue,
            };
            tried.state.attempts = tried.state.attempts.saturating_add(1);
            tried.repair.event.attempts = i32::try_from(tried.state.attempts).unwrap_or(i32::MAX);
            changes.push((tried.offset, State { attempts: tried.state.attempts, standing }));
        }
        self.bad.write_states(changes).await?;

        let (mut fixed, mut failed) = (Vec::new(), Ok(()));
        for ((name, index), append) in appends {
            // One that fails does not keep the others from being known.
            let Append { topic, frames, events } = append;
            match run(&topic, index, frames).await {
                Err(error) => failed = Err(error),
                Ok(base_offset) => {
                    for (tried_index, number) in events {
                        let (tried, offset) = (&mut tried[tried_index], base_offset + number);
                        let standing = Standing::Fixed { partition: index, offset };
                        fixed.push((tried.offset, State { attempts: tried.state.attempts, standing }));
                        let payload_bytes = tried.repair.after.as_ref().map_or(0, Vec::len);
                        self.counts.add(1, payload_bytes as u64, 0);
                        tried.repair.event.fixed_as = Some(format!("{name}/{index}/{offset}"));
                        tried.repair.outcome = RepairOutcome::Fixed;
                    }
                }
            }
        }
        self.bad.write_states(fixed).await?;
        Ok(failed?)
    }

    /// Frames one event for its partition; returns where it can be found once it is there. `None` where its topic has
    /// just been deleted.
    fn frame(&self, index: usize, tried: &Tried, appends: &mut BTreeMap<(String, i32), Append>) -> Option<Intent> {
        let Repair { event, after, .. } = &tried.repair;
        let topic = self.open_topic(&event.topic)?;
        let partitions = topic.partitions().len() as i32;
        let partition = match (&tried.framing.key, event.place) {
            (Some(key), _) => partition_of(key, partitions),
            (None, Some((partition, _))) if partition < partitions => partition,
            // Alike for all of one page.
            _ => (tried.offset / 1000 % i64::from(partitions)) as i32,
        };
        let origin = Origin {
            protocol: "replay",
            address: event.source_address.as_ref().and_then(|address| address.parse().ok()),
            user_agent: event.user_agent.clone(),
        };
        let stamp = Stamp::new(&origin, tried.framing.schema_id);
        let mut headers = stamp.list();
        headers.extend(event.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        headers.push((REPLAY_HEADER, event.bad_id.as_bytes()));

        let from = topic.partition(partition)?.high_watermark();
        let intent = Intent { topic: event.topic.clone(), topic_id: topic.id().to_string(), partition, from };
        let append = appends.entry((event.topic.clone(), partition)).or_insert_with(|| Append::new(topic));
        let headers = EncodedHeaders::new(&headers);
        let number = append.frames.push(now_ms(), tried.framing.key.as_deref(), after.as_deref()?, &headers);
        append.events.push((index, number));
        Some(intent)
    }
}

fn no_topic(event: &BadEvent) -> Reason {
    Reason::whole("topic", format!("there is no topic {:?} to replay it to", event.topic))
}

/// What a sink left out is in the log and in everything else that is made of it: to send it again would double it there.
fn elsewhere(sink: &str) -> Reason {
    let message = format!(
        "only {sink} has refused it, and to send it again would count it twice everywhere else: write its row there by other \
         means, or drop it"
    );
    Reason::whole("sink", message)
}

/// An event on its way.
struct Tried {
    repair: Repair,
    /// In `bad_events`.
    offset: i64,
    state: State,
    framing: Framing,
}

/// What becomes of a payload that is good now.
#[derive(Default)]
struct Framing {
    key: Option<Vec<u8>>,
    /// For the record header `schema_id`.
    schema_id: Option<i32>,
}

/// What goes to one partition.
struct Append {
    topic: Arc<Topic>,
    frames: Frames,
    /// Index among those tried, and number among the frames.
    events: Vec<(usize, i64)>,
}

impl Append {
    fn new(topic: Arc<Topic>) -> Append {
        Append { topic, frames: Frames::new(), events: Vec::new() }
    }
}

/// Returns the first offset, once all of it is on disk.
async fn run(topic: &Topic, index: i32, frames: Frames) -> Result<i64, AppendError> {
    let partition = topic.partition(index).ok_or_else(|| AppendError::Failed(format!("no partition {index}")))?;
    let appended = partition.append(&frames.finish())?;
    on_disk(partition, appended.next_offset).await?;
    Ok(appended.base_offset)
}
