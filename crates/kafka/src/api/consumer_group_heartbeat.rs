//! ConsumerGroupHeartbeat (KIP-848): join, stay and leave in one; the answer says what the member is to read.

use std::collections::BTreeMap;

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use uuid::Uuid;

use super::Request;
use crate::connection::Context;
use crate::groups::LogCatalog;
use crate::groups::consumer::{Answer, Beat, Places};
use crate::guard::Malformed;
use crate::wire::{Reply, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: ConsumerGroupHeartbeatRequest = request.decode()?;
    let call = request.call;
    let groups = context.shared.groups.clone();
    let interval = context.shared.config.groups.consumer_heartbeat_interval;
    // From version 1 on the client makes its id up itself.
    let named = call.version >= 1 || !body.member_id.is_empty() || body.member_epoch != 0;
    let member_id = if named { body.member_id.to_string() } else { Uuid::new_v4().to_string() };
    let owned = body.topic_partitions.map(|topics| -> Places {
        topics.into_iter().flat_map(|it| it.partitions.into_iter().map(move |index| (it.topic_id, index))).collect()
    });
    let beat = Beat {
        member_id: member_id.clone(),
        epoch: body.member_epoch,
        instance_id: body.instance_id.map(|it| it.to_string()),
        rack_id: body.rack_id.map(|it| it.to_string()),
        client_id: request.client_id,
        client_host: format!("/{}", context.peer.ip().to_canonical()),
        rebalance_timeout_ms: u64::try_from(body.rebalance_timeout_ms).ok(),
        topics: body.subscribed_topic_names.map(|names| names.iter().map(|name| name.to_string()).collect()),
        regex: body.subscribed_topic_regex.map(|it| it.to_string()),
        assignor: body.server_assignor.map(|it| it.to_string()),
        owned,
    };
    let answer = groups.beat(&body.group_id, &beat, &LogCatalog(context.shared.gate.log()));
    Ok(Reply::Later(Box::pin(async move {
        let answer = match answer {
            Ok((answer, Some(appended))) => match groups.durable(appended).await {
                Ok(()) => Ok(answer),
                Err(error) => Err((error, "cannot write the group down".to_owned())),
            },
            Ok((answer, None)) => Ok(answer),
            Err(refused) => Err(refused),
        };
        let response = match answer {
            Ok(Answer { epoch, assignment }) => ConsumerGroupHeartbeatResponse::default()
                .with_member_id(Some(string(member_id)))
                .with_member_epoch(epoch)
                .with_heartbeat_interval_ms(interval.as_millis() as i32)
                .with_assignment(assignment.map(|places| Assignment::default().with_topic_partitions(topics(&places)))),
            Err((error, message)) => ConsumerGroupHeartbeatResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(string(message))),
        };
        call.encode(&response)
    })))
}

fn topics(places: &Places) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(*topic).or_default().push(*partition);
    }
    let named = |(topic, partitions)| TopicPartitions::default().with_topic_id(topic).with_partitions(partitions);
    topics.into_iter().map(named).collect()
}
