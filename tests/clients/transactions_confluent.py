"""Transactions with confluent-kafka (librdkafka): what is committed is seen, what is aborted is not, a second producer
fences the first off, and consume-transform-produce is exactly once though the copier is killed again and again.

    transactions_confluent.py BOOTSTRAP basics
    transactions_confluent.py BOOTSTRAP exactly-once [RECORDS] [SEED]
    transactions_confluent.py BOOTSTRAP events TOPIC
"""

import os
import random
import signal
import subprocess
import sys
import time
import uuid

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

BOOTSTRAP = sys.argv[1]
PARTITIONS = 3
PATIENCE_S = 120


def create(*topics):
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        future.result(30)
    return admin


def producer(transactional_id, **settings):
    made = Producer({
        "bootstrap.servers": BOOTSTRAP,
        "transactional.id": transactional_id,
        "linger.ms": 1,
        **settings,
    })
    made.init_transactions(30)
    return made


def read(topic, isolation="read_committed"):
    """Everything in the topic up to where it ends now, by partition."""
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP,
        "group.id": f"reader-{uuid.uuid4()}",
        "isolation.level": isolation,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    })
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    found = {partition: [] for partition in range(PARTITIONS)}
    ended = set()
    deadline = time.monotonic() + PATIENCE_S
    while len(ended) < PARTITIONS:
        assert time.monotonic() < deadline, f"{topic} does not end: {ended}"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ended.add(message.partition())
        else:
            found[message.partition()].append(message.value().decode())
    consumer.close()
    return found


def values(topic, isolation="read_committed"):
    return sorted(value for values in read(topic, isolation).values() for value in values)


def basics():
    topic = f"txn-{uuid.uuid4().hex[:8]}"
    admin = create(topic)
    one = producer(f"{topic}-one")
    for number, end in enumerate([one.commit_transaction, one.abort_transaction, one.commit_transaction]):
        one.begin_transaction()
        for partition in range(PARTITIONS):
            one.produce(topic, f"{number}", partition=partition)
        one.flush(30)
        end(30)
    assert values(topic) == ["0"] * PARTITIONS + ["2"] * PARTITIONS, values(topic)
    assert len(values(topic, "read_uncommitted")) == 3 * PARTITIONS

    # An open transaction holds back readers of what is committed, and nobody else.
    one.begin_transaction()
    one.produce(topic, "open", partition=0)
    one.flush(30)
    other = Producer({"bootstrap.servers": BOOTSTRAP})
    other.produce(topic, "plain", partition=0)
    assert other.flush(30) == 0
    assert "plain" not in values(topic) and "plain" in values(topic, "read_uncommitted")
    place = TopicPartition(topic, 0)

    def end(isolation):
        listed = admin.list_offsets({place: OffsetSpec.latest()}, isolation_level=isolation)
        return listed[place].result(30).offset

    ends = [end(level) for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)]
    assert ends[0] + 2 == ends[1], ends

    # A second producer of the same id takes over: what the first left open is aborted, and it may do nothing more.
    two = producer(f"{topic}-one")
    assert "plain" in values(topic) and "open" not in values(topic)
    try:
        one.commit_transaction(30)
        raise AssertionError("a fenced producer committed")
    except KafkaException as error:
        assert error.args[0].fatal() and error.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED), error
    two.begin_transaction()
    two.produce(topic, "two", partition=1)
    two.commit_transaction(30)
    assert "two" in values(topic)
    print("basics: well")


def events(topic):
    """Three events that are committed among three that are aborted, and one without a transaction after them."""

    def event(name):
        return f'{{"id":"{name}","timestamp":"2025-08-31T12:00:00Z","type":"play","user":"user of {name}"}}'

    sender = producer(f"events-{uuid.uuid4()}")
    for number in range(3):
        for word, end in [("aborted", sender.abort_transaction), ("committed", sender.commit_transaction)]:
            sender.begin_transaction()
            sender.produce(topic, event(f"{word}-{number}"), partition=0)
            # On disk before it is aborted.
            assert sender.flush(30) == 0
            end(30)
    plain = Producer({"bootstrap.servers": BOOTSTRAP})
    plain.produce(topic, event("plain"), partition=0)
    assert plain.flush(30) == 0


def copy(source, target):
    """Copies until it is killed, and says how far it is: others time by that what they do to it."""
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP,
        "group.id": f"{source}-copier",
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
    })
    # One id: whoever comes next fences the one before off.
    copier = producer(f"{source}-copier", **{"transaction.timeout.ms": 10000})
    consumer.subscribe([source])
    while True:
        messages = [message for message in consumer.consume(50, 0.2) if not message.error()]
        if not messages:
            continue
        copier.begin_transaction()
        for message in messages:
            copier.produce(target, f"copy of {message.value().decode()}", key=message.key())
        print("copying", flush=True)
        positions = consumer.position(consumer.assignment())
        copier.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 30)
        copier.commit_transaction(30)
        print("copied", flush=True)


def exactly_once(records, seed):
    source, target = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("in", "out"))
    admin = create(source, target)
    feeder = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})
    chance = random.Random(seed)
    fed, kills = 0, 0
    deadline = time.monotonic() + PATIENCE_S
    child = None
    next_kill = 0
    print(f"copying {source} to {target}, seed {seed}", flush=True)
    try:
        while True:
            assert time.monotonic() < deadline, f"not copied within {PATIENCE_S} s"
            if child is None or child.poll() is not None:
                child = subprocess.Popen([sys.executable, __file__, BOOTSTRAP, "copy", source, target])
                next_kill = time.monotonic() + chance.uniform(0.5, 4)
            for _ in range(min(200, records - fed)):
                feeder.produce(source, f"{fed}", key=f"{fed % 17}")
                fed += 1
            feeder.flush(30)
            if fed == records and len(values(target)) >= records:
                break
            if kills < 6 and time.monotonic() > next_kill:
                child.send_signal(signal.SIGKILL)
                child.wait()
                kills += 1
            time.sleep(0.1)
    finally:
        if child is not None:
            child.kill()
            child.wait()
    expected = sorted(f"copy of {number}" for number in range(records))
    found = values(target)
    assert found == expected, f"{len(found)} of {records}, {len(set(found))} different"
    committed = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": f"{source}-copier"}).committed(
        [TopicPartition(source, partition) for partition in range(PARTITIONS)], 30
    )
    ends = [admin.list_offsets({TopicPartition(source, p): OffsetSpec.latest()}) for p in range(PARTITIONS)]
    ends = [list(end.values())[0].result(30).offset for end in ends]
    assert [place.offset for place in committed] == ends, (committed, ends)
    print(f"exactly once: {records} records, {kills} copiers killed")


if __name__ == "__main__":
    match sys.argv[2:]:
        case ["basics"]:
            basics()
        case ["exactly-once", *rest]:
            numbers = [int(number) for number in rest]
            exactly_once(*(numbers + [2000, int.from_bytes(os.urandom(4))][len(numbers):]))
        case ["events", topic]:
            events(topic)
        case ["copy", source, target]:
            copy(source, target)
        case _:
            sys.exit(__doc__)
