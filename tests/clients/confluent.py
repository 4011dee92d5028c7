"""confluent-kafka (librdkafka): codecs, idempotence, groups of both protocols, transactions, administration."""

import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel

from check import check, equal, name, until

BOOTSTRAP = sys.argv[1]
admin = AdminClient({"bootstrap.servers": BOOTSTRAP})


def create(topic, partitions=1, config=None):
    made = admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})])
    made[topic].result(30)
    # Other connections see it a moment later on some brokers.
    until(lambda: topic in admin.list_topics(timeout=10).topics)


def produce(topic, values, **config):
    failed = []
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 5, **config})
    for value in values:
        producer.produce(topic, value, key=value[:2], on_delivery=lambda error, _: error and failed.append(error))
    equal(producer.flush(30), 0)
    equal(failed, [])


def consumer(group, **config):
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest", **config})


def consume(consumer, count, seconds=30):
    seen = []

    def more():
        for message in consumer.consume(500, timeout=0.2):
            if message.error():
                raise KafkaException(message.error())
            seen.append(message.value().decode())
        return len(seen) >= count

    until(more, seconds)
    return seen


@check("confluent.codecs")
def _():
    topic, sent = name("codecs"), []
    create(topic, 3)
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        values = [f"{codec} {number}" for number in range(200)]
        produce(topic, values, **{"compression.type": codec, "enable.idempotence": True})
        sent += values
    reader = consumer(name("codecs"))
    reader.subscribe([topic])
    equal(sorted(consume(reader, len(sent))), sorted(sent))
    reader.close()


def share(protocol):
    """Two members share four partitions; one leaves, and the other gets them all. Nothing is lost or read twice."""
    topic, group = name(f"share-{protocol}"), name(f"share-{protocol}")
    create(topic, 4)
    config = {"group.protocol": protocol, "enable.auto.commit": False}
    first, second = consumer(group, **config), consumer(group, **config)
    first.subscribe([topic])
    second.subscribe([topic])

    def balanced():
        first.consume(1, timeout=0.1), second.consume(1, timeout=0.1)
        return len(first.assignment()) == 2 and len(second.assignment()) == 2

    until(balanced, 60)
    held = {(it.topic, it.partition) for it in first.assignment() + second.assignment()}
    equal(len(held), 4)
    produce(topic, [f"{number:03}" for number in range(400)])
    seen = []

    def drained():
        for reader in (first, second):
            seen.extend(it.value().decode() for it in reader.consume(100, timeout=0.1) if not it.error())
        return len(seen) >= 400

    until(drained)
    equal(sorted(seen), [f"{number:03}" for number in range(400)])
    first.commit(asynchronous=False)
    second.commit(asynchronous=False)
    first.close()

    def alone():
        equal(second.consume(1, timeout=0.1), [])
        return len(second.assignment()) == 4

    until(alone, 60)
    second.close()
    listed = {it.group_id: str(it.type).split(".")[-1] for it in admin.list_consumer_groups().result(30).valid}
    equal(listed[group], protocol.upper())


@check("confluent.group.classic")
def _():
    share("classic")


@check("confluent.group.consumer")
def _():
    share("consumer")


@check("confluent.group.cooperative")
def _():
    topic, group = name("cooperative"), name("cooperative")
    create(topic, 4)
    lost = []
    config = {"partition.assignment.strategy": "cooperative-sticky"}
    first, second = consumer(group, **config), consumer(group, **config)
    first.subscribe([topic], on_lost=lambda _, it: lost.extend(it))
    until(lambda: first.consume(1, timeout=0.1) == [] and len(first.assignment()) == 4, 60)
    kept = set(map(str, first.assignment()))
    second.subscribe([topic])
    until(
        lambda: (first.consume(1, timeout=0.1), second.consume(1, timeout=0.1))
        and len(first.assignment()) == 2
        and len(second.assignment()) == 2,
        60,
    )
    equal(set(map(str, first.assignment())) < kept, True)
    equal(lost, [])
    first.close(), second.close()


@check("confluent.group.static")
def _():
    topic, group = name("static"), name("static")
    create(topic, 2)
    config = {"group.instance.id": "one", "session.timeout.ms": 10000}
    other = consumer(group, **{**config, "group.instance.id": "two"})
    first = consumer(group, **config)
    for it in (first, other):
        it.subscribe([topic])
    until(
        lambda: (first.consume(1, timeout=0.1), other.consume(1, timeout=0.1))
        and len(first.assignment()) == 1
        and len(other.assignment()) == 1,
        60,
    )
    held, kept = str(first.assignment()), str(other.assignment())
    # A static member leaves without saying so, and comes back to what it had.
    first.close()
    again = consumer(group, **config)
    again.subscribe([topic])
    until(lambda: (again.consume(1, timeout=0.1), other.consume(1, timeout=0.1)) and again.assignment(), 60)
    equal((str(again.assignment()), str(other.assignment())), (held, kept))
    again.close(), other.close()


@check("confluent.commit.metadata")
def _():
    topic, group = name("metadata"), name("metadata")
    create(topic)
    reader = consumer(group)
    reader.commit(offsets=[TopicPartition(topic, 0, 3, metadata="here")], asynchronous=False)
    seen = reader.committed([TopicPartition(topic, 0)], timeout=10)[0]
    equal((seen.offset, seen.metadata), (3, "here"))
    reader.close()


@check("confluent.admin.topics")
def _():
    topic = name("admin")
    create(topic, 2, {"retention.ms": "1000000"})
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
    until(lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 5)
    try:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS)
    described = admin.describe_topics(__import__("confluent_kafka").TopicCollection([topic]))[topic].result(30)
    equal((described.name, len(described.partitions)), (topic, 5))
    admin.delete_topics([topic])[topic].result(30)
    until(lambda: topic not in admin.list_topics(timeout=10).topics)


@check("confluent.admin.configs")
def _():
    topic = name("configs")
    create(topic, 1, {"cleanup.policy": "compact"})
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def values():
        return {it.name: (it.value, it.source) for it in admin.describe_configs([resource])[resource].result(30).values()}

    before = values()
    equal(before["cleanup.policy"], ("compact", 1))
    change = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[
            ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.APPEND),
            ConfigEntry("retention.ms", "12345", incremental_operation=AlterConfigOpType.SET),
        ],
    )
    admin.incremental_alter_configs([change])[change].result(30)
    until(lambda: values()["retention.ms"] == ("12345", 1))
    equal(values()["cleanup.policy"], ("compact,delete", 1))
    wrong = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)],
    )
    try:
        admin.incremental_alter_configs([wrong])[wrong].result(30)
        raise AssertionError("a wrong value was taken")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.INVALID_CONFIG)


@check("confluent.admin.offsets")
def _():
    topic, group = name("offsets"), name("offsets")
    create(topic)
    produce(topic, [str(number) for number in range(10)])
    place = TopicPartition(topic, 0)
    found = admin.list_offsets({place: OffsetSpec.latest()})[place].result(30)
    equal(found.offset, 10)
    reader = consumer(group)
    reader.commit(offsets=[TopicPartition(topic, 0, 10)], asynchronous=False)
    reader.close()
    asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 4)])]
    admin.alter_consumer_group_offsets(asked)[group].result(30)
    asked = [ConsumerGroupTopicPartitions(group, [place])]
    listed = admin.list_consumer_group_offsets(asked)[group].result(30)
    equal(listed.topic_partitions[0].offset, 4)
    described = admin.describe_consumer_groups([group])[group].result(30)
    equal((described.group_id, len(described.members)), (group, 0))
    admin.delete_consumer_groups([group])[group].result(30)
    try:
        admin.delete_consumer_groups([group])[group].result(30)
        raise AssertionError("deleted twice")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.GROUP_ID_NOT_FOUND)


@check("confluent.admin.delete_records")
def _():
    topic = name("records")
    create(topic)
    produce(topic, [str(number) for number in range(10)])
    admin.delete_records([TopicPartition(topic, 0, 4)])[TopicPartition(topic, 0)].result(30)
    equal(consumer(name("records")).get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (4, 10))


@check("confluent.admin.cluster")
def _():
    described = admin.describe_cluster().result(30)
    equal((len(described.nodes), described.controller.id), (1, described.nodes[0].id))


@check("confluent.transactions")
def _():
    """Committed records are read, aborted ones are not; offsets go along; the older producer of two is fenced."""
    source, target, group = name("source"), name("target"), name("transactions")
    create(source), create(target)
    produce(source, [str(number) for number in range(10)])
    config = {"bootstrap.servers": BOOTSTRAP, "transactional.id": name("id")}
    producer = Producer(config)
    producer.init_transactions(30)
    reader = consumer(group, **{"enable.auto.commit": False})
    reader.subscribe([source])
    seen = consume(reader, 10)
    producer.begin_transaction()
    producer.produce(target, "aborted")
    producer.flush(30)
    producer.abort_transaction(30)
    producer.begin_transaction()
    for value in seen:
        producer.produce(target, f"copy {value}")
    offsets = reader.position(reader.assignment())
    producer.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), 30)
    producer.commit_transaction(30)
    committed = reader.committed([TopicPartition(source, 0)], timeout=10)[0]
    equal(committed.offset, 10)
    reader.close()
    copies = consumer(name("copies"), **{"isolation.level": "read_committed"})
    copies.subscribe([target])
    equal(sorted(consume(copies, 10)), sorted(f"copy {value}" for value in seen))
    equal(copies.consume(1, timeout=0.5), [])
    copies.close()
    successor = Producer(config)
    successor.init_transactions(30)
    try:
        producer.begin_transaction()
        producer.produce(target, "fenced")
        producer.commit_transaction(30)
        raise AssertionError("a fenced producer committed")
    except KafkaException as error:
        equal(error.args[0].fatal(), True)
