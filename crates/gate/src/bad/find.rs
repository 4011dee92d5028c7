//! One bad event, by its id or by the place that it lost.

use playhouse_log::batch::{BatchError, Records, split_first};
use playhouse_log::{ReadError, TimestampType};

use super::id::BadId;
use super::{BAD_EVENTS_TOPIC, BadEvent, BadEvents, CLOCK_SLACK_MS, DECOMPRESSED_MAX, PAGE_BYTES, Page};

impl BadEvents {
    /// The one with this id, or that was taken out of a batch at this place (`<topic>-<partition>-<offset>`); `None` where
    /// there is none, or retention has deleted it. By place it takes as long as there are bad events since.
    pub fn find(&self, bad_id: &str) -> Result<Option<BadEvent>, ReadError> {
        let offset = match BadId::parse(bad_id) {
            Some(BadId::Row { partition: 0, offset }) => offset,
            Some(lost @ BadId::Lost { .. }) => return self.find_lost(lost),
            _ => return Ok(None),
        };
        let topic = self.log.topic(BAD_EVENTS_TOPIC);
        let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(0)) else { return Ok(None) };
        if !(partition.log_start_offset()..partition.high_watermark()).contains(&offset) {
            return Ok(None);
        }
        let (mut next, mut page) = (offset, Page::new(1));
        self.read_batches(&partition.read(offset, PAGE_BYTES)?, &mut next, &mut page, &mut |_| true)?;
        // The id as it is written: what only reads as the same number is another's.
        Ok(page.rows.pop().filter(|row| row.bad_id == bad_id))
    }

    fn find_lost(&self, id: BadId<'_>) -> Result<Option<BadEvent>, ReadError> {
        let (Some(bad), Some(mut next)) = (self.log.topic(BAD_EVENTS_TOPIC), self.begins(id)?) else { return Ok(None) };
        let Some(partition) = bad.partition(0) else { return Ok(None) };
        loop {
            let bytes = partition.read(next, PAGE_BYTES)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let mut at = 0;
            while at < bytes.len() {
                let corrupt = |_: BatchError| ReadError::Corrupt(next);
                let (header, size) = split_first(&bytes[at..]).map_err(corrupt)?;
                let records = Records::decompress(&bytes.slice(at..at + size), DECOMPRESSED_MAX).map_err(corrupt)?;
                for record in records.iter() {
                    let record = record.map_err(corrupt)?;
                    if record.offset >= next && id.is_lost_row(record.headers()) {
                        return Ok(Some(self.row(&record)));
                    }
                }
                at += size;
                next = header.next_offset();
            }
        }
    }

    /// The offset in `bad_events` from which on the event would lie. The log's own clock tells how long ago it can be; a
    /// producer's does not.
    fn begins(&self, id: BadId<'_>) -> Result<Option<i64>, ReadError> {
        let BadId::Lost { topic, partition, offset } = id else { return Ok(None) };
        let Some(bad) = self.log.topic(BAD_EVENTS_TOPIC).and_then(|bad| bad.partition(0).cloned()) else {
            return Ok(None);
        };
        let start = bad.log_start_offset();
        let Some(topic) = self.log.topic(topic) else { return Ok(Some(start)) };
        let lost_from = topic.partition(partition).filter(|lost_from| {
            (lost_from.log_start_offset()..lost_from.high_watermark()).contains(&offset)
                && topic.settings_in_force().timestamp_type == TimestampType::LogAppendTime
        });
        let Some(lost_from) = lost_from else { return Ok(Some(start)) };
        let bytes = lost_from.read(offset, 1)?;
        let Ok((header, _)) = split_first(&bytes) else { return Ok(Some(start)) };
        if !header.is_log_append_time() {
            return Ok(Some(start));
        }
        let first = bad.offset_at(header.max_timestamp_ms.saturating_sub(CLOCK_SLACK_MS))?;
        Ok(first.map(|(offset, _)| offset))
    }
}
