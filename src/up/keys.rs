//! The API keys of the data directory, followed while the server runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use playhouse_gate::{KeyFile, KeyRing};
use playhouse_log::disk::RealDisk;
use tokio_util::sync::CancellationToken;

/// How long a key that was revoked may still be good.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

pub async fn open(data: &Path) -> Result<Arc<KeyRing>> {
    let file = KeyFile::new(Arc::new(RealDisk), data);
    let ring = tokio::task::spawn_blocking(move || KeyRing::open(file)).await??;
    if ring.is_empty() {
        tracing::warn!("the doors ask for API keys, and there is none: make one with `playhouse key create`");
    }
    Ok(Arc::new(ring))
}

pub async fn follow(ring: Arc<KeyRing>, stop: CancellationToken) {
    let mut complained = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REFRESH_INTERVAL) => {}
        }
        let refreshed = ring.clone();
        let outcome = match tokio::task::spawn_blocking(move || refreshed.refresh()).await {
            Ok(refreshed) => refreshed.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match &outcome {
            Ok(true) => tracing::info!(keys = ring.len(), "the API keys have changed"),
            Ok(false) => {}
            // Said once, not every second.
            Err(error) if !complained => tracing::error!("the API keys stay as they were: {error}"),
            Err(_) => {}
        }
        complained = outcome.is_err();
    }
}
