"""What a producer is told of a batch that its topic refuses (KIP-467): kafka-python tells each record's own reason,
confluent-kafka the batch's error. Nothing of the batch is kept, and producing goes on."""

import json
import sys

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import InvalidRecordError

from check import check, equal

BOOTSTRAP, TOPIC = sys.argv[1], "multimedia_events"


def event(id):
    return json.dumps({"id": id, "timestamp": "2025-08-31T12:00:00Z", "type": "play", "user": "u"}).encode()


def setting(name, value):
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
    for result in admin.incremental_alter_configs([resource]).values():
        result.result(30)


def values(partition):
    """All that lies in one partition."""
    reader = KafkaConsumer(bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", consumer_timeout_ms=2000)
    reader.assign([TopicPartition(TOPIC, partition)])
    seen = [record.value for record in reader]
    reader.close()
    return seen


@check("rejected.setting")
def _():
    setting("playhouse.on.invalid", "reject")


def send_with_kafka_python(idempotent):
    def start():
        return KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", linger_ms=500, enable_idempotence=idempotent)

    producer = start()
    sent = [event("p1"), b"{}", event("p2"), b"not json"]
    futures = [producer.send(TOPIC, value, partition=0) for value in sent]
    producer.flush(30)
    said = []
    for future in futures:
        try:
            said.append(future.get(30))
        except Exception as error:
            said.append(error)
    # The bad ones have their own reasons; the others are told that they were in their company.
    equal([isinstance(it, Exception) for it in said], [True] * 4)
    equal([isinstance(it, InvalidRecordError) for it in said], [False, True, False, True])
    equal(["required" in str(it) for it in said], [False, True, False, False])
    equal("not JSON" in str(said[3]), True)
    if idempotent:
        # After an error that is not worth a retry, this library's idempotent producer takes nothing more.
        producer.close()
        producer = start()
    good = [producer.send(TOPIC, value, partition=0) for value in [event("p1"), event("p2")]]
    producer.flush(30)
    offsets = [it.get(30).offset for it in good]
    equal(offsets[1] - offsets[0], 1)
    producer.close()


@check("rejected.kafka-python")
def _():
    send_with_kafka_python(False)


@check("rejected.kafka-python-idempotent")
def _():
    send_with_kafka_python(True)


def send_with_confluent(idempotent):
    said = []
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 500, "enable.idempotence": idempotent})

    def send(values):
        for value in values:
            producer.produce(TOPIC, value, partition=1, on_delivery=lambda error, _: said.append(error and error.code()))
        equal(producer.flush(30), 0)

    send([event("c1"), b"{}", event("c2")])
    equal(said, [KafkaError.INVALID_RECORD] * 3)
    said.clear()
    send([event("c1"), event("c2")])
    equal(said, [None, None])


@check("rejected.confluent")
def _():
    send_with_confluent(False)


@check("rejected.confluent-idempotent")
def _():
    send_with_confluent(True)


@check("rejected.nothing-else-lies-there")
def _():
    equal(values(0), [event("p1"), event("p2")] * 2)
    equal(values(1), [event("c1"), event("c2")] * 2)


@check("quarantined.others-are-read")
def _():
    setting("playhouse.on.invalid", "quarantine")
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 500, "compression.type": codec})
        # One batch with a gap, one without any record, one whole.
        for batch in [[event("q1"), b"{}", event("q2")], [b"{}", b"[]"], [event("q3")]]:
            for value in batch:
                producer.produce(TOPIC, value, partition=2)
            equal(producer.flush(30), 0)
    # Both libraries read over what is missing.
    expected = [event("q1"), event("q2"), event("q3")] * 5
    equal(values(2), expected)
    reader = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "reads-over-gaps"})
    reader.assign([ConfluentPartition(TOPIC, 2, 0)])
    seen = []
    while len(seen) < len(expected):
        messages = reader.consume(len(expected) - len(seen), timeout=10)
        if not messages:
            break
        seen += [message.value() for message in messages if not message.error()]
    equal(seen, expected)
    reader.close()
