//! Who asks. Where the brokers ask for keys, the caller's own is shown to them, on connections of its own: what it may do is
//! theirs to say, and the proxy has no rights to lend.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use playhouse_client::Credentials;

use crate::Proxy;
use crate::error::{Api, ApiError};
use crate::produce::link;

/// The proxy as it serves this caller.
pub(crate) struct Served(pub(crate) Arc<Proxy>);

impl FromRequestParts<Arc<Proxy>> for Served {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, proxy: &Arc<Proxy>) -> Result<Served, ApiError> {
        if !proxy.asks_for_credentials {
            return Ok(Served(proxy.clone()));
        }
        let shown = playhouse_http::shown(&head.headers).ok_or_else(|| ApiError::unauthenticated().closing())?;
        // A key without a name for its owner: any will do, but SASL wants one.
        let user = if shown.user.is_empty() { "rest-proxy".to_owned() } else { shown.user };
        let served = proxy.for_caller(Credentials { user, password: shown.key });
        // Before a body is read, or an instance is made.
        let known = served.brokers.lend().await;
        known.map_err(|error| link(&error, Api::V3).closing())?.give_back();
        Ok(Served(Arc::new(served)))
    }
}
