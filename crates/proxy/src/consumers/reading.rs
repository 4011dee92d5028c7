//! Reading records: from the partitions held, within limits of time and bytes.
//!
//! A read first waits with a small fetch, and takes more only once something is there: many instances may wait at a
//! time, and what they hold meanwhile is little.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use playhouse_client::fetch::{FetchLimits, Fetched, Incoming, Place};
use playhouse_client::offsets::At;
use playhouse_client::{Client, Error, ResponseError};
use playhouse_http::Lease;
use tokio::time::{Instant, sleep, timeout_at};

use super::consumer::{Consumer, ConsumerError, Held, Position, Reading, Subscription, offsets};
use super::settings::Reset;

/// Of the fetch that waits.
const FIRST_BYTES: usize = 64 << 10;
/// Records as they are fetched, and as they are shown.
const COPIES: usize = 3;
/// Of one fetch's wait; longer ones are several.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Before a partition that cannot be read now is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// A batch that decompresses to more is not read.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// A record and its topic.
pub(crate) type Record = (String, Incoming);

#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    pub timeout: Duration,
    /// Of keys and values; a first record may exceed it.
    pub bytes_max: usize,
}

impl Consumer {
    /// What there is next; empty where nothing came in time. `lease` holds the memory it takes. Nothing moves before
    /// [`Consumer::advance`].
    pub(crate) async fn read(&self, limits: ReadLimits, lease: &mut Lease) -> Result<Read, ConsumerError> {
        tokio::select! {
            read = self.read_until(limits, lease) => read,
            () = self.closed.cancelled() => Err(ConsumerError::Closed),
        }
    }

    async fn read_until(&self, limits: ReadLimits, lease: &mut Lease) -> Result<Read, ConsumerError> {
        let deadline = Instant::now() + limits.timeout;
        let Ok(mut reading) = timeout_at(deadline, self.reading.lock()).await else { return Ok(Read::default()) };
        self.commit_if_due().await;
        let mut read = Read::default();
        loop {
            let Some(held) = self.held_until(deadline).await? else { return Ok(read) };
            if !read.is_of(&held) {
                return Ok(read);
            }
            let positions = self.resolve(&mut reading, &held).await?;
            let empty = read.records.is_empty();
            // More than a little only where the memory for it is there.
            let more = !empty && lease.hold(COPIES * limits.bytes_max).is_ok();
            let bytes_max = if more { limits.bytes_max } else { limits.bytes_max.min(FIRST_BYTES) };
            let room = bytes_max.saturating_sub(read.bytes);
            let enough = read.bytes >= self.settings.fetch_bytes_min;
            let left = deadline.saturating_duration_since(Instant::now());
            if !empty && (room == 0 || !more) {
                return Ok(read);
            }
            let wait = if enough && !empty { Duration::ZERO } else { left.min(WAIT_MAX) };
            let fetch = FetchLimits { wait, bytes_max: room, batch_bytes_max: BATCH_BYTES_MAX };
            let got = self.fetch(&mut reading, positions, &held, fetch, &mut read).await?;
            let is_over = Instant::now() >= deadline;
            if is_over || (got == 0 && enough && !read.records.is_empty()) {
                return Ok(read);
            }
        }
    }

    /// Moves behind the first `count` records of a read; answers which of them are still this instance's.
    pub(crate) fn advance(&self, read: &Read, count: usize) -> Vec<bool> {
        let mut state = self.state();
        let mut kept = Vec::with_capacity(count);
        let mut next: BTreeMap<Place, i64> = BTreeMap::new();
        for (topic, record) in &read.records[..count] {
            let place = (topic.clone(), record.partition);
            let same = state.held.get(&place).is_some_and(|held| read.stamps.get(&place) == Some(&held.stamp));
            kept.push(same);
            if same {
                next.insert(place, record.offset + 1);
            }
        }
        let all = count == read.records.len();
        for (place, behind) in &read.positions {
            let Some(held) = state.held.get_mut(place) else { continue };
            if read.stamps.get(place) != Some(&held.stamp) {
                continue;
            }
            // Behind the last record there may be offsets without records.
            let position = if all { Some(*behind) } else { next.get(place).copied() };
            if let Some(position) = position {
                held.position = Position::At(position);
            }
        }
        for (place, next) in next {
            state.returned(&place, next);
        }
        kept
    }

    /// The partitions held; waits for them while the group assigns.
    async fn held_until(&self, deadline: Instant) -> Result<Option<BTreeMap<Place, Held>>, ConsumerError> {
        loop {
            let assigned = self.assigned.notified();
            tokio::pin!(assigned);
            assigned.as_mut().enable();
            {
                let state = self.state();
                if matches!(state.subscription, Subscription::None) {
                    return Err(ConsumerError::NotSubscribed);
                }
                if let Some(failure) = &state.failure {
                    return Err(failure.clone().into());
                }
                if !state.held.is_empty() {
                    return Ok(Some(state.held.clone()));
                }
            }
            if timeout_at(deadline, assigned).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Where to read each partition: where it was left, else where the group committed, else as the settings say.
    async fn resolve(
        &self,
        reading: &mut Reading,
        held: &BTreeMap<Place, Held>,
    ) -> Result<BTreeMap<Place, i64>, ConsumerError> {
        let of = |wanted: Position| held.iter().filter(move |(_, it)| it.position == wanted).map(|(place, _)| place);
        let unknown: BTreeSet<Place> = of(Position::Unknown).cloned().collect();
        let mut lost: BTreeSet<Place> = of(Position::Lost).cloned().collect();
        let mut found = BTreeMap::new();
        let client = self.client(&mut reading.client).await?;
        if !unknown.is_empty() {
            let committed = client.committed(&self.group).await?;
            for place in unknown {
                match committed.get(&place) {
                    Some(committed) => _ = found.insert(place, committed.offset),
                    None => _ = lost.insert(place),
                }
            }
        }
        if !lost.is_empty() {
            found.extend(self.reset(client, lost).await?);
        }
        let mut state = self.state();
        let mut positions = BTreeMap::new();
        for (place, before) in held {
            let Some(now) = state.held.get_mut(place).filter(|now| now.stamp == before.stamp) else { continue };
            if let Some(offset) = found.get(place) {
                now.position = Position::At(*offset);
            }
            if let Position::At(offset) = now.position {
                positions.insert(place.clone(), offset);
            }
        }
        Ok(positions)
    }

    async fn reset(&self, client: &mut Client, lost: BTreeSet<Place>) -> Result<BTreeMap<Place, i64>, ConsumerError> {
        let at = match self.settings.reset {
            Reset::Earliest => At::Earliest,
            Reset::Latest => At::Latest,
            Reset::None => {
                return match lost.into_iter().next() {
                    Some(place) => Err(ConsumerError::NoOffset(place)),
                    None => Ok(BTreeMap::new()),
                };
            }
        };
        let mut found = BTreeMap::new();
        for topic in lost.iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>() {
            let of = lost.iter().filter(|place| place.0 == *topic).cloned().collect();
            match offsets(client, &of, at).await {
                Ok(offsets) => found.extend(offsets),
                // It may come later.
                Err(ConsumerError::NoPartition(_)) => {}
                Err(ConsumerError::Client(error)) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// How many records came.
    async fn fetch(
        &self,
        reading: &mut Reading,
        mut positions: BTreeMap<Place, i64>,
        held: &BTreeMap<Place, Held>,
        limits: FetchLimits,
        read: &mut Read,
    ) -> Result<usize, ConsumerError> {
        // Those read before in this call go on behind it.
        for (place, position) in &mut positions {
            if let Some(behind) =
                read.positions.get(place).filter(|_| read.stamps.get(place) == Some(&held[place].stamp))
            {
                *position = *behind;
            }
        }
        if positions.is_empty() {
            sleep(PAUSE.min(limits.wait)).await;
            return Ok(0);
        }
        let Reading { client, fetcher } = reading;
        let client = self.client(client).await?;
        let fetched = fetcher.fetch(client, &mut positions, limits).await;
        let Fetched { records, failed } = match fetched {
            Ok(fetched) => fetched,
            // What is there is not lost with what could not be had.
            Err(error) if error.may_pass() && !read.records.is_empty() => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        for (place, error) in &failed {
            self.failed(place, error, held)?;
            // Where it stood is no place to go on from.
            positions.remove(place);
            read.positions.remove(place);
        }
        if !failed.is_empty() && records.is_empty() {
            sleep(PAUSE).await;
        }
        let came = records.len();
        read.take(records, positions, held);
        Ok(came)
    }

    fn failed(&self, place: &Place, error: &Error, held: &BTreeMap<Place, Held>) -> Result<(), ConsumerError> {
        if error.code() == Some(ResponseError::OffsetOutOfRange) {
            let mut state = self.state();
            let now = state.held.get_mut(place);
            if let Some(now) = now.filter(|now| held.get(place).is_some_and(|before| before.stamp == now.stamp)) {
                now.position = Position::Lost;
            }
            return Ok(());
        }
        if is_missing(error) || error.may_pass() { Ok(()) } else { Err(error.clone().into()) }
    }
}

fn is_missing(error: &Error) -> bool {
    use ResponseError::{InvalidTopicException, UnknownTopicId, UnknownTopicOrPartition};
    matches!(error.code(), Some(InvalidTopicException | UnknownTopicId | UnknownTopicOrPartition))
}

/// Records, and where reading goes on behind them.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub records: Vec<Record>,
    positions: BTreeMap<Place, i64>,
    stamps: BTreeMap<Place, u64>,
    bytes: usize,
}

impl Read {
    /// Whether what was read is of the same holding: neither given away nor sought elsewhere meanwhile.
    fn is_of(&self, held: &BTreeMap<Place, Held>) -> bool {
        self.stamps.iter().all(|(place, stamp)| held.get(place).is_some_and(|held| held.stamp == *stamp))
    }

    fn take(&mut self, records: Vec<Record>, positions: BTreeMap<Place, i64>, held: &BTreeMap<Place, Held>) {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        self.bytes += records.iter().map(|(_, it)| length(&it.key) + length(&it.value)).sum::<usize>();
        self.records.extend(records);
        for (place, position) in positions {
            if let Some(held) = held.get(&place) {
                self.stamps.insert(place.clone(), held.stamp);
            }
            self.positions.insert(place, position);
        }
    }
}
