"""kafka-python: produce and consume with every codec, groups with heartbeats, offsets by time, administration."""

import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions, NewTopic
from kafka.structs import OffsetAndMetadata

from check import check, equal, name, until

BOOTSTRAP = sys.argv[1]


def create(topic, partitions=1):
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(name=topic, num_partitions=partitions, replication_factor=1)])
    until(lambda: topic in admin.list_topics())
    admin.close()


def produce(topic, values, **config):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", **config)
    sent = [producer.send(topic, value.encode(), key=value[:3].encode()) for value in values]
    producer.flush(30)
    offsets = [it.get(30).offset for it in sent]
    producer.close()
    return offsets


def consumer(*topics, **config):
    config = {"auto_offset_reset": "earliest", **config}
    return KafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, **config)


def consume(reader, count, seconds=30):
    seen = []

    def more():
        for records in reader.poll(timeout_ms=200).values():
            seen.extend(record.value.decode() for record in records)
        return len(seen) >= count

    until(more, seconds)
    return seen


@check("kafka-python.codecs")
def _():
    topic, sent = name("py-codecs"), []
    create(topic, 3)
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        values = [f"{codec} {number}" for number in range(200)]
        produce(topic, values, compression_type=codec)
        sent += values
    reader = consumer(topic)
    equal(sorted(consume(reader, len(sent))), sorted(sent))
    reader.close()


@check("kafka-python.idempotent")
def _():
    topic = name("py-idempotent")
    create(topic)
    equal(produce(topic, [str(number) for number in range(100)], enable_idempotence=True), list(range(100)))


@check("kafka-python.group")
def _():
    topic, group = name("py-group"), name("py-group")
    create(topic, 4)
    produce(topic, [f"{number:03}" for number in range(100)])
    first = consumer(topic, group_id=group, enable_auto_commit=False)
    seen = consume(first, 100)
    equal(sorted(seen), [f"{number:03}" for number in range(100)])
    first.commit()
    second = consumer(topic, group_id=group, enable_auto_commit=False)

    def balanced():
        first.poll(timeout_ms=100), second.poll(timeout_ms=100)
        return len(first.assignment()) == 2 and len(second.assignment()) == 2

    until(balanced, 60)
    first.close(), second.close()
    again = consumer(topic, group_id=group)
    equal(again.poll(timeout_ms=3000), {})
    again.close()


@check("kafka-python.offsets")
def _():
    topic, group = name("py-offsets"), name("py-offsets")
    create(topic)
    produce(topic, ["a", "b"])
    time.sleep(0.05)
    between = int(time.time() * 1000)
    time.sleep(0.05)
    produce(topic, ["c"])
    place = TopicPartition(topic, 0)
    reader = consumer(group_id=group, enable_auto_commit=False)
    reader.assign([place])
    equal(reader.offsets_for_times({place: between})[place].offset, 2)
    equal((reader.beginning_offsets([place])[place], reader.end_offsets([place])[place]), (0, 3))
    reader.commit({place: OffsetAndMetadata(2, "kept", -1)})
    equal(reader.committed(place, metadata=True).metadata, "kept")
    reader.close()


@check("kafka-python.admin")
def _():
    topic, group = name("py-admin"), name("py-admin")
    create(topic, 2)
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_partitions({topic: NewPartitions(3, [[1]])})
    until(lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 3)
    reader = consumer(topic, group_id=group)
    until(lambda: reader.poll(timeout_ms=100) == {} and reader.assignment(), 60)
    reader.close()
    admin.delete_topics([topic])
    until(lambda: topic not in admin.list_topics())
    admin.close()
