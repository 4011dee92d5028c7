//! `GET /pixel.gif?type=…&user=…`: one event out of a query string, for pages and e-mails that can load an image and
//! nothing else.
//!
//! The answer is the image whether the event was accepted (200) or rejected (422): browsers show it either way. A request
//! that fails as a whole is answered with a problem, for whoever tries the link out.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::access::API_KEY_PARAMETER;
use super::{IngestDoor, access, sender};
use crate::Problem;

/// One transparent pixel.
const GIF: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

fn image_headers() -> [(HeaderName, &'static str); 4] {
    [
        (header::CONTENT_TYPE, "image/gif"),
        // Every view is to be counted, whatever caches are on the way.
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
        // Isolated pages show only what allows it.
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ]
}

type Fields = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) async fn to_default_topic(
    State(door): State<Arc<IngestDoor>>,
    fields: Fields,
    request: Request,
) -> Result<Response, Problem> {
    let topic = door.gate.default_topic().to_string();
    ingest(&door, &topic, fields, request).await
}

pub(super) async fn to_topic(
    State(door): State<Arc<IngestDoor>>,
    topic: Result<Path<String>, PathRejection>,
    fields: Fields,
    request: Request,
) -> Result<Response, Problem> {
    let Path(topic) = topic.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    ingest(&door, &topic, fields, request).await
}

/// What looks ahead (link checkers, mail filters) has seen nothing.
pub(super) async fn head() -> Response {
    image_headers().into_response()
}

async fn ingest(door: &IngestDoor, topic: &str, fields: Fields, request: Request) -> Result<Response, Problem> {
    let (head, _) = request.into_parts();
    let origin = sender::origin(&head, door.config.proxies);
    let caller = access::admit(&door.config.access, &head, origin.address, topic)?;
    door.known(topic)?;
    let Query(mut fields) = fields.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    fields.retain(|(name, _)| name != API_KEY_PARAMETER);
    let event = door.gate.event_of(topic, &fields).map_err(|error| Problem::bad_request(error.to_string()))?;
    door.config.access.charge(&caller, event.len());
    let outcome = door.gate.ingest(topic, event, &origin).await.map_err(|error| door.refusal(error))?;
    let status = if outcome.rejected == 0 { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, image_headers(), GIF).into_response())
}
