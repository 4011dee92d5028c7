"""Kafka Connect: a distributed worker that keeps its state in the broker, a source with exactly-once support, and a sink.

`connect.py BOOTSTRAP DIRECTORY_OF_JARS`. The connectors are those that Kafka brings along: lines of a
file.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from check import check, equal, name, until

BOOTSTRAP, JARS = sys.argv[1], sys.argv[2]
BATCH = 50
FILE = "org.apache.kafka.connect.file."


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Worker:
    """A process that answers on a port of its own."""

    def __init__(self, cluster, directory):
        self.port = free_port()
        settings = {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": cluster,
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
            "offset.storage.topic": f"{cluster}-offsets",
            "config.storage.topic": f"{cluster}-configs",
            "status.storage.topic": f"{cluster}-status",
            "offset.storage.replication.factor": 1,
            "config.storage.replication.factor": 1,
            "status.storage.replication.factor": 1,
            "offset.storage.partitions": 2,
            "status.storage.partitions": 2,
            "offset.flush.interval.ms": 500,
            "scheduled.rebalance.max.delay.ms": 0,
            "exactly.once.source.support": "enabled",
            "listeners": f"http://127.0.0.1:{self.port}",
            "plugin.discovery": "only_scan",
        }
        path = os.path.join(directory, f"{self.port}.properties")
        with open(path, "w") as file:
            file.write("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.log = open(f"{path}.log", "w+")
        command = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*"]
        command += ["org.apache.kafka.connect.cli.ConnectDistributed", path]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def ask(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            # A rebalance is under way, or what was just asked for is not known everywhere yet.
            told = error.read().decode()
            if error.code in (404, 409, 500, 503):
                print(f"{path}: {error.code} {told}"[:300], file=sys.stderr)
                return None
            raise AssertionError(f"{path}: {error.code} {told}")
        except OSError:
            if self.process.poll() is not None:
                self.log.seek(0)
                raise AssertionError(f"the worker ended: {self.log.read()[-2000:]}")
            return None

    def kill(self):
        self.process.kill()
        self.process.wait()


def running(worker, connector, tasks=1, state="RUNNING"):
    status = worker.ask(f"/connectors/{connector}/status")
    if not status or status["connector"]["state"] != state or len(status["tasks"]) != tasks:
        return False
    return all(task["state"] == "RUNNING" for task in status["tasks"])


def values(topic):
    """What is committed in the topic, in its order."""
    config = {"bootstrap.servers": BOOTSTRAP, "group.id": topic, "enable.auto.commit": False}
    reader = Consumer({**config, "isolation.level": "read_committed", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    seen = []
    while True:
        for message in reader.consume(500, timeout=5):
            if message.error() is None:
                seen.append(json.loads(message.value()))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                reader.close()
                return seen
            else:
                raise KafkaException(message.error())


@check("connect.distributed")
def _():
    topic, cluster = name("connected"), name("connect")
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    with tempfile.TemporaryDirectory() as directory:
        lines, written = os.path.join(directory, "in"), []

        def write(count):
            more = [f"line {len(written) + number}" for number in range(count)]
            written.extend(more)
            with open(lines, "a") as file:
                file.write("".join(f"{line}\n" for line in more))

        worker = Worker(cluster, directory)
        try:
            # Its own topics have to be compacted, or it would not start.
            until(lambda: worker.ask("/connectors") == [], 120)
            write(500)
            source = {"connector.class": FILE + "FileStreamSourceConnector", "tasks.max": 1, "topic": topic, "file": lines,
                      "batch.size": BATCH, "exactly.once.support": "required"}
            until(lambda: worker.ask("/connectors/source/config", source, "PUT"), 60)
            until(lambda: running(worker, "source"), 60)
            # The connector keeps up to a batch until it finds more in the file.
            until(lambda: len(values(topic)) >= len(written) - BATCH, 60)
            # The worker dies in the middle of more; the next one goes on where it was, and nothing is missing or twice.
            write(20_000)
            until(lambda: len(values(topic)) > 600, 60)
            worker.kill()
            worker = Worker(cluster, directory)
            until(lambda: running(worker, "source"), 120)
            until(lambda: len(values(topic)) >= len(written) - BATCH, 120)
            worker.ask("/connectors/source/stop", method="PUT")
            until(lambda: running(worker, "source", tasks=0, state="STOPPED"), 60)
            copied = values(topic)
            equal(copied == written[: len(copied)], True)
            offsets = until(lambda: (worker.ask("/connectors/source/offsets") or {}).get("offsets"), 60)
            equal(offsets[0]["offset"]["position"], sum(len(line) + 1 for line in copied))

            out = os.path.join(directory, "out")
            sink = {"connector.class": FILE + "FileStreamSinkConnector", "tasks.max": 1, "topics": topic, "file": out,
                    "consumer.override.auto.offset.reset": "earliest"}
            until(lambda: worker.ask("/connectors/sink/config", sink, "PUT"), 60)
            until(lambda: running(worker, "sink"), 60)

            def sunk():
                if not os.path.exists(out):
                    return []
                with open(out) as file:
                    return file.read().split("\n")[:-1]

            until(lambda: len(sunk()) >= len(copied), 60)
            equal(sunk() == copied, True)
            for connector in ["source", "sink"]:
                worker.ask(f"/connectors/{connector}", method="DELETE")
            until(lambda: worker.ask("/connectors") == [], 60)
        finally:
            worker.kill()
