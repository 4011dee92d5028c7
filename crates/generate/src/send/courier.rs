//! Batches under way, settled in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::client::{Client, ClientConfig, Delivery, SendError};
use super::summary::Summary;

/// Consecutive items of an input.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events, a line each.
    pub body: Vec<u8>,
    /// By event, the line or element of the input that it comes from.
    pub numbers: Vec<u64>,
    /// Items that are no events, and why.
    pub malformed: Vec<(u64, String)>,
    /// The last item, whether it gave an event or not.
    pub last: u64,
}

struct UnderWay {
    numbers: Vec<u64>,
    malformed: Vec<(u64, String)>,
    last: u64,
    delivery: JoinHandle<Result<Delivery, SendError>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.delivery.abort();
    }
}

/// Delivers batches, `width` at a time. With a width above 1 the door may see events of neighbouring batches in another
/// order than they were sent.
pub struct Courier {
    client: Arc<Client>,
    width: usize,
    under_way: VecDeque<UnderWay>,
    acknowledged: u64,
    summary: Summary,
}

impl Courier {
    /// `summary` is what an earlier delivery came to, which this one continues.
    pub fn new(config: ClientConfig, width: usize, summary: Summary) -> Self {
        let client = Arc::new(Client::new(config));
        Self { client, width: width.max(1), under_way: VecDeque::new(), acknowledged: 0, summary }
    }

    /// Starts a delivery, after waiting for the oldest if `width` are under way. May be cancelled: the batch is then not
    /// sent, and nothing that is under way is forgotten.
    pub async fn send(&mut self, batch: Batch) -> Result<(), SendError> {
        while self.under_way.len() >= self.width {
            self.settle().await?;
        }
        if batch.numbers.is_empty() && batch.malformed.is_empty() {
            return Ok(());
        }
        let Batch { body, numbers, malformed, last } = batch;
        let (client, body, events) = (self.client.clone(), Bytes::from(body), numbers.len());
        let delivery = tokio::spawn(async move {
            if events == 0 { Ok(Delivery::default()) } else { client.deliver(body, events).await }
        });
        self.under_way.push_back(UnderWay { numbers, malformed, last, delivery });
        Ok(())
    }

    /// Waits until everything is answered.
    pub async fn finish(&mut self) -> Result<(), SendError> {
        while !self.under_way.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    /// The last item of the input up to which everything was answered; 0 before the first.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Waits for the oldest delivery. It leaves the queue only once answered, so that a cancelled wait loses nothing.
    async fn settle(&mut self) -> Result<(), SendError> {
        let Some(oldest) = self.under_way.front_mut() else { return Ok(()) };
        let delivery = (&mut oldest.delivery).await;
        let Some(settled) = self.under_way.pop_front() else { return Ok(()) };
        let delivery = delivery.map_err(|error| SendError::Task(error.to_string()))??;
        let summary = &mut self.summary;
        summary.accepted += delivery.accepted;
        summary.rejected += delivery.rejected.len() as u64;
        summary.unsendable += (settled.malformed.len() + delivery.too_large.len()) as u64;
        for (index, reasons) in &delivery.rejected {
            for reason in reasons {
                summary.note(reason, settled.numbers[*index]);
            }
        }
        for index in &delivery.too_large {
            summary.note("larger than the door takes", settled.numbers[*index]);
        }
        for (number, reason) in &settled.malformed {
            summary.note(reason, *number);
        }
        self.acknowledged = settled.last;
        Ok(())
    }
}
