//! `--demo`: synthetic viewers of the music catalogue, sending through the gate like anybody else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use playhouse_gate::{Gate, Origin, RequestError};
use playhouse_generate::{Config, LiveViewers};
use tokio_util::sync::CancellationToken;

const EVENTS_PER_REQUEST: usize = 1_000;
const PAUSE_MAX: Duration = Duration::from_millis(100);

pub async fn run(gate: Arc<Gate>, topic: String, events_per_second: u32, stop: CancellationToken) {
    let now = super::now_ms();
    // Another audience with every start, so that ids do not repeat.
    let config = Config { seed: now as u64, ..Config::default() };
    let mut viewers = match LiveViewers::new(config, events_per_second, now) {
        Ok(viewers) => viewers,
        Err(error) => {
            tracing::error!("no synthetic viewers: {error}");
            return;
        }
    };
    let origin = Origin { protocol: "rest", ..Origin::default() };
    while !stop.is_cancelled() {
        let mut body = Vec::new();
        let now = super::now_ms();
        if viewers.due(now, &mut body, EVENTS_PER_REQUEST) > 0 {
            send(&gate, &topic, body.into(), &origin, &stop).await;
            continue;
        }
        let pause = Duration::from_millis(u64::try_from(viewers.next_due_ms() - now).unwrap_or(1)).min(PAUSE_MAX);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn send(gate: &Gate, topic: &str, body: Bytes, origin: &Origin, stop: &CancellationToken) {
    loop {
        match gate.ingest(topic, body.clone(), origin).await {
            Ok(_) => return,
            Err(RequestError::Busy { retry_after, .. }) => tokio::select! {
                () = tokio::time::sleep(retry_after) => {}
                () = stop.cancelled() => return,
            },
            Err(error) => {
                tracing::warn!("synthetic viewers were refused: {error}");
                return;
            }
        }
    }
}
