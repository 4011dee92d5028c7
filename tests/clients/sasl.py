"""Keys over SASL/PLAIN, as `sasl.py BOOTSTRAP SENDS READS ADMIN JARS`: three API keys, for the topic `keyed`: one that may
send, one that may read, one of an admin. With kcat, confluent-kafka, kafka-python and Kafka's own tools."""

import os
import subprocess
import sys
import tempfile

import confluent_kafka
import kafka
import kafka.errors
from check import check, equal, until
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP, SENDS, READS, ADMIN, JARS = sys.argv[1:6]
TOPIC, OTHER = "keyed", "multimedia_events"
WRONG = "phk_000000000000_" + "0" * 48


def librdkafka(key, **more):
    return {
        "bootstrap.servers": BOOTSTRAP,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "anybody",
        "sasl.password": key,
        "socket.timeout.ms": 10000,
        **{name.replace("_", "."): value for name, value in more.items()},
    }


def python(key, **more):
    return {
        "bootstrap_servers": BOOTSTRAP,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "anybody",
        "sasl_plain_password": key,
        **more,
    }


def kcat(key, *arguments, input=""):
    settings = ["security.protocol=SASL_PLAINTEXT", "sasl.mechanisms=PLAIN", "sasl.username=me", f"sasl.password={key}"]
    command = ["timeout", "30", "kcat", "-b", BOOTSTRAP]
    for setting in settings:
        command += ["-X", setting]
    return subprocess.run(command + list(arguments), input=input, capture_output=True, text=True)


def java(key, tool, *arguments, input=None):
    with tempfile.NamedTemporaryFile("w", suffix=".properties") as config:
        login = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="me" password="{key}";'
        config.write(f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={login}\n")
        config.write("default.api.timeout.ms=15000\nrequest.timeout.ms=10000\nmax.block.ms=10000\n")
        config.flush()
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*"]
        command += [f"org.apache.kafka.tools.{tool}", "--bootstrap-server", BOOTSTRAP, *arguments]
        command = [config.name if it == "CONFIG" else it for it in command]
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr


def produce(key, topic):
    """The error of one record, or None."""
    errors = []
    producer = confluent_kafka.Producer(librdkafka(key, message_timeout_ms=8000))
    producer.produce(topic, b"from librdkafka", on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    return errors[0] and errors[0].name()


@check("an admin makes topics")
def _():
    admin = AdminClient(librdkafka(ADMIN))
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(20)


@check("librdkafka produces and reads by its keys")
def _():
    equal(produce(SENDS, TOPIC), None)
    equal(produce(SENDS, OTHER), "TOPIC_AUTHORIZATION_FAILED")
    equal(produce(READS, TOPIC), "TOPIC_AUTHORIZATION_FAILED")
    consumer = confluent_kafka.Consumer(librdkafka(READS, group_id="g", auto_offset_reset="earliest"))
    consumer.subscribe([TOPIC])
    message = until(lambda: consumer.poll(1.0))
    equal((message.error(), message.value()), (None, b"from librdkafka"))
    consumer.commit(message, asynchronous=False)
    consumer.close()
    denied = confluent_kafka.Consumer(librdkafka(SENDS, group_id="g"))
    denied.subscribe([TOPIC])
    equal(until(lambda: denied.poll(1.0)).error().name(), "GROUP_AUTHORIZATION_FAILED")
    denied.close()


@check("librdkafka sees its own topics")
def _():
    equal(list(AdminClient(librdkafka(SENDS)).list_topics(timeout=10).topics), [TOPIC])
    equal({TOPIC, OTHER} <= set(AdminClient(librdkafka(ADMIN)).list_topics(timeout=10).topics), True)


@check("a wrong key, and none")
def _():
    seen = []
    tell = {"error_cb": lambda error: seen.append(error.name())}
    wrong = confluent_kafka.Producer(librdkafka(WRONG, message_timeout_ms=3000) | tell)
    wrong.produce(TOPIC, b"x")
    wrong.flush(5)
    equal("_AUTHENTICATION" in seen, True)
    without = confluent_kafka.Producer({"bootstrap.servers": BOOTSTRAP, "message.timeout.ms": 2000})
    without.produce(TOPIC, b"x")
    equal(without.flush(1.0) > 0, True)


@check("a newer consumer group")
def _():
    consumer = confluent_kafka.Consumer(
        librdkafka(READS, group_id="newer", auto_offset_reset="earliest", group_protocol="consumer")
    )
    consumer.subscribe([TOPIC])
    equal(until(lambda: consumer.poll(1.0)).value(), b"from librdkafka")
    consumer.close()


@check("transactions")
def _():
    producer = confluent_kafka.Producer(librdkafka(SENDS, transactional_id="t"))
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(TOPIC, b"in a transaction")
    producer.commit_transaction(20)


@check("kcat")
def _():
    done = kcat(SENDS, "-P", "-t", TOPIC, input="from kcat\n")
    equal((done.returncode, done.stderr), (0, ""))
    done = kcat(READS, "-C", "-t", TOPIC, "-e", "-q")
    equal("from kcat" in done.stdout, True)
    equal(kcat(WRONG, "-L", "-m", "3").returncode != 0, True)


@check("kafka-python")
def _():
    producer = kafka.KafkaProducer(**python(SENDS))
    producer.send(TOPIC, b"from kafka-python").get(timeout=20)
    try:
        producer.send(OTHER, b"x").get(timeout=20)
        raise AssertionError("it may send to another topic")
    except kafka.errors.TopicAuthorizationFailedError:
        pass
    producer.close()
    consumer = kafka.KafkaConsumer(
        TOPIC, **python(READS, group_id="python", auto_offset_reset="earliest", consumer_timeout_ms=10000)
    )
    equal(any(message.value == b"from kafka-python" for message in consumer), True)
    consumer.close()
    try:
        kafka.KafkaProducer(**python(WRONG))
        raise AssertionError("a wrong key is good")
    except kafka.errors.KafkaError:
        pass


@check("Kafka's tools")
def _():
    java(SENDS, "ConsoleProducer", "--topic", TOPIC, "--command-config", "CONFIG", input="from java\n")
    read = java(
        READS, "consumer.ConsoleConsumer", "--topic", TOPIC, "--from-beginning", "--timeout-ms", "8000",
        "--group", "java", "--command-config", "CONFIG",
    )  # fmt: skip
    equal("from java" in read, True)
    listed = java(ADMIN, "TopicCommand", "--list", "--command-config", "CONFIG").split()
    equal({TOPIC, OTHER} <= set(listed), True)
    equal("Authorization" in java(SENDS, "TopicCommand", "--delete", "--topic", TOPIC, "--command-config", "CONFIG"), True)
    wrong = java(WRONG, "TopicCommand", "--list", "--command-config", "CONFIG")
    equal("SaslAuthenticationException" in wrong, True)
    group = java(READS, "consumer.group.ConsumerGroupCommand", "--describe", "--group", "java", "--command-config", "CONFIG")
    equal(TOPIC in group, True)
