//! Version 2 of the API.

mod consumers;
mod produce;
mod records;
mod topics;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::Proxy;

pub(crate) fn routes() -> Router<Arc<Proxy>> {
    Router::new()
        .route("/brokers", get(topics::brokers))
        .route("/topics", get(topics::list))
        .route("/topics/{topic}", get(topics::show).post(produce::to_topic))
        .route("/topics/{topic}/partitions", get(topics::partitions))
        .route("/topics/{topic}/partitions/{partition}", get(topics::partition).post(produce::to_partition))
        .route("/topics/{topic}/partitions/{partition}/offsets", get(topics::offsets))
        .route("/consumers/{group}", post(consumers::create))
        .route("/consumers/{group}/instances/{name}", delete(consumers::remove))
        .route(
            "/consumers/{group}/instances/{name}/subscription",
            get(consumers::subscription).post(consumers::subscribe).delete(consumers::unsubscribe),
        )
        .route("/consumers/{group}/instances/{name}/assignments", get(consumers::assignments).post(consumers::assign))
        .route("/consumers/{group}/instances/{name}/positions", post(consumers::seek))
        .route("/consumers/{group}/instances/{name}/positions/beginning", post(consumers::seek_to_beginning))
        .route("/consumers/{group}/instances/{name}/positions/end", post(consumers::seek_to_end))
        .route("/consumers/{group}/instances/{name}/offsets", get(consumers::committed).post(consumers::commit))
        .route("/consumers/{group}/instances/{name}/records", get(records::read))
}
