//! ApiVersions (KIP-35, KIP-511). The response header is always version 0, which the codec knows.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::{Request, served};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Call, Reply};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: ApiVersionsRequest = request.decode()?;
    // KIP-511: a client says what it is from version 3 on.
    let named = [&body.client_software_name, &body.client_software_version].iter().all(|it| is_software(it));
    if request.call.version >= 3 && !named {
        let error = ResponseError::InvalidRequest.code();
        return request.call.now(&ApiVersionsResponse::default().with_error_code(error));
    }
    let advertise = |&(api, lowest, highest): &(ApiKey, i16, i16)| {
        // librdkafka before 2.7 takes a higher floor for a broker that cannot compress (KAFKA-18659).
        let lowest = if api == ApiKey::Produce { 0 } else { lowest };
        ApiVersion::default().with_api_key(api as i16).with_min_version(lowest).with_max_version(highest)
    };
    let keys = served(context).map(advertise).collect();
    request.call.now(&ApiVersionsResponse::default().with_api_keys(keys))
}

/// Letters, digits, `-` and `.`, of which the last two neither begin nor end it.
fn is_software(name: &str) -> bool {
    let ends = [name.bytes().next(), name.bytes().last()];
    ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

/// Tells only what this API supports, at version 0.
pub(super) fn unsupported(call: Call) -> Result<Reply, Malformed> {
    let own = ApiVersion::default().with_api_key(ApiKey::ApiVersions as i16).with_min_version(0).with_max_version(4);
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(vec![own]);
    call.now(&response)
}
