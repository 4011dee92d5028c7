//! Cancel requests: they come on a connection of their own and name the one to cancel by id and secret.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use pgwire::api::cancel::CancelHandler;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use tokio_util::sync::CancellationToken;

type Key = (i32, Bytes);

#[derive(Default)]
pub(super) struct Sessions {
    running: Arc<Mutex<HashMap<Key, Arc<Mutex<CancellationToken>>>>>,
}

/// One connection's entry; leaves the register when dropped.
pub(super) struct Session {
    key: Key,
    statement: Arc<Mutex<CancellationToken>>,
    running: Arc<Mutex<HashMap<Key, Arc<Mutex<CancellationToken>>>>>,
}

impl Sessions {
    pub(super) fn enter(&self, pid: i32, secret: &SecretKey) -> Session {
        let key = (pid, secret.to_bytes());
        let statement = Arc::new(Mutex::new(CancellationToken::new()));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), statement.clone());
        Session { key, statement, running: self.running.clone() }
    }
}

impl Session {
    /// Starts a statement: what was cancelled before does not touch it.
    pub(super) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.statement.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
        token
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[async_trait]
impl CancelHandler for Sessions {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let key = (request.pid, request.secret_key.to_bytes());
        if let Some(statement) = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            statement.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        }
    }
}
