"""Values through a topic and back, with Confluent's serializers."""

import time

from check import name
from confluent_kafka import Consumer, Producer
from confluent_kafka.serialization import MessageField, SerializationContext


def serialized(topic, serializer, value):
    """A record as the serializer makes it: its value and its headers."""
    headers = []
    payload = serializer(value, SerializationContext(topic, MessageField.VALUE, headers))
    return payload, headers or None


def send(bootstrap, topic, records):
    """What the broker says of each record, with all of them in one batch; None where it took one."""
    said = [None] * len(records)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 200})
    for index, (payload, headers) in enumerate(records):

        def told(error, _message, index=index):
            said[index] = error

        producer.produce(topic, payload, partition=0, headers=headers, on_delivery=told)
    assert producer.flush(30) == 0, "no answer within the deadline"
    return said


def read(bootstrap, topic, count, seconds=30):
    """The messages of a topic from its beginning, at least so many, and those that come with them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": name("group"), "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    messages, deadline = [], time.time() + seconds
    try:
        found = None
        while found != [] or len(messages) < count:
            found = [message for message in consumer.consume(1000, timeout=0.5) if message.error() is None]
            messages.extend(found)
            assert time.time() < deadline, f"{len(messages)} of {count} records"
    finally:
        consumer.close()
    return messages


def deserialized(topic, deserializer, message):
    return deserializer(message.value(), SerializationContext(topic, MessageField.VALUE, message.headers()))


def sent_and_read(bootstrap, topic, serializer, deserializer, values):
    """The values as a consumer has them, after they went through the log."""
    said = send(bootstrap, topic, [serialized(topic, serializer, value) for value in values])
    assert said == [None] * len(values), said
    return [deserialized(topic, deserializer, message) for message in read(bootstrap, topic, len(values))]
