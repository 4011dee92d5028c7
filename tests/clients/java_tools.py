"""Kafka's own command line tools: `java_tools.py BOOTSTRAP DIRECTORY_OF_JARS`."""

import os
import re
import subprocess
import sys
import tempfile

from check import check, equal, name

BOOTSTRAP, JARS = sys.argv[1], sys.argv[2]
TOOLS = "org.apache.kafka.tools."
# 3.x has some tools elsewhere, and named arguments otherwise.
VERSION = next(re.findall(r"kafka-clients-(\d+)\.(\d+)", it)[0] for it in os.listdir(JARS) if it.startswith("kafka-clients-"))
OLD = int(VERSION[0]) < 4
LABEL = f"java{VERSION[0]}"


def java(tool, *arguments, input=None, fails=False, errors=True):
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*", tool]
    done = subprocess.run(command + list(arguments), input=input, capture_output=True, text=True, timeout=120)
    if fails is not None and (done.returncode != 0) != fails:
        raise AssertionError(f"{tool} ended with {done.returncode}: {done.stdout} {done.stderr}")
    return done.stdout + done.stderr if errors else done.stdout


def tool(which, *arguments, **how):
    return java(TOOLS + which, "--bootstrap-server", BOOTSTRAP, *arguments, **how)


def rows(text):
    return [line.split() for line in text.splitlines() if line.strip()]


@check(f"{LABEL}.topics")
def _():
    topic = name("tools")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "2", "--replication-factor", "1")
    tool("TopicCommand", "--alter", "--topic", topic, "--partitions", "4")
    described = tool("TopicCommand", "--describe", "--topic", topic)
    equal(described.count("Leader: "), 4)
    equal(topic in tool("TopicCommand", "--list").split(), True)
    again = tool("TopicCommand", "--create", "--topic", topic, fails=True)
    equal("already exists" in again, True)
    tool("TopicCommand", "--delete", "--topic", topic)
    equal(topic in tool("TopicCommand", "--list").split(), False)


CONFIG = "kafka.admin.ConfigCommand"


@check(f"{LABEL}.configs")
def _():
    topic = name("configs")
    tool("TopicCommand", "--create", "--topic", topic, "--config", "cleanup.policy=compact")
    entity = ["--bootstrap-server", BOOTSTRAP, "--entity-type", "topics", "--entity-name", topic]
    java(CONFIG, *entity, "--alter", "--add-config", "retention.ms=12345,min.insync.replicas=1")
    shown = java(CONFIG, *entity, "--describe")
    equal("retention.ms=12345" in shown and "cleanup.policy=compact" in shown, True)
    java(CONFIG, *entity, "--alter", "--delete-config", "retention.ms")
    equal("retention.ms" in java(CONFIG, *entity, "--describe"), False)
    everything = java(CONFIG, *entity, "--describe", "--all")
    equal("DEFAULT_CONFIG:log.segment.bytes" in everything and "unclean.leader.election.enable" in everything, True)
    broker = java(CONFIG, "--bootstrap-server", BOOTSTRAP, "--entity-type", "brokers", "--entity-name", "1", "--describe", "--all")
    equal("log.retention.ms" in broker and "socket.request.max.bytes" in broker, True)


def console(topic, lines, *arguments):
    server = "--bootstrap-server"
    java(PRODUCER, server, BOOTSTRAP, "--topic", topic, *arguments, input="".join(f"{it}\n" for it in lines))


PRODUCER = "kafka.tools.ConsoleProducer" if OLD else TOOLS + "ConsoleProducer"
CONSUMER = TOOLS + "consumer.ConsoleConsumer"


def read(topic, count, *arguments):
    seen = java(CONSUMER, "--bootstrap-server", BOOTSTRAP, "--topic", topic, "--from-beginning", "--max-messages", str(count),
                "--timeout-ms", "60000", *arguments, errors=False)
    # Advice on options goes to standard output.
    return sorted(it for it in seen.splitlines() if not it.startswith("Option --"))


@check(f"{LABEL}.console")
def _():
    topic, group = name("console"), name("console")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "3")
    lines = sorted(f"line {number}" for number in range(300))
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        console(topic, lines, "--compression-codec", codec)
    equal(read(topic, 1500, "--group", group), sorted(lines * 5))
    equal(read(topic, 1500, "--isolation-level", "read_committed"), sorted(lines * 5))


@check(f"{LABEL}.groups")
def _():
    topic, group = name("groups"), name("groups")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
    console(topic, [str(number) for number in range(20)])
    read(topic, 20, "--group", group)
    groups = "consumer.group.ConsumerGroupCommand"
    equal(group in tool(groups, "--list").split(), True)

    def lag():
        found = [it for it in rows(tool(groups, "--describe", "--group", group)) if topic in it]
        return found[0][3:6]

    equal(lag(), ["20", "20", "0"])
    shown = tool(groups, "--describe", "--group", group, "--state")
    equal("Empty" in shown, True)
    tool(groups, "--reset-offsets", "--group", group, "--topic", topic, "--to-offset", "5", "--execute")
    equal(lag(), ["5", "20", "15"])
    tool(groups, "--delete-offsets", "--group", group, "--topic", topic)
    tool(groups, "--delete", "--group", group)
    equal(group in tool(groups, "--list").split(), False)


@check(f"{LABEL}.members")
def _():
    topic, group = name("members"), name("members")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "2")
    console(topic, [str(number) for number in range(10)])
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*", CONSUMER]
    command += ["--bootstrap-server", BOOTSTRAP, "--topic", topic, "--group", group, "--from-beginning"]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        # It has read something, so it is a member with partitions.
        equal(reader.stdout.readline() != "", True)
        groups = "consumer.group.ConsumerGroupCommand"
        shown = tool(groups, "--describe", "--group", group, "--members", "--verbose", errors=False)
        member = next(it for it in rows(shown) if it[0] == group)
        equal("2" in member and any("0,1" in it for it in member), True)
        equal("Stable" in tool(groups, "--describe", "--group", group, "--state"), True)
        busy = tool(groups, "--delete", "--group", group, fails=None)
        equal("not empty" in busy or "GroupNotEmptyException" in busy, True)
        moved = tool(groups, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute", fails=None)
        equal("inactive" in moved, True)
    finally:
        reader.terminate()
        reader.wait()


@check(f"{LABEL}.transactions")
def _():
    topic, producer = name("transactions"), name("transactions")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
    java(TOOLS + "ProducerPerformance", "--topic", topic, "--num-records", "100", "--record-size", "10", "--throughput", "-1",
         "--transaction-duration-ms", "10", "--transactional-id", producer, "--producer-props", f"bootstrap.servers={BOOTSTRAP}")
    transactions = "TransactionsCommand"
    equal(producer in tool(transactions, "list"), True)
    equal("CompleteCommit" in tool(transactions, "describe", "--transactional-id", producer), True)
    equal("ProducerId" in tool(transactions, "describe-producers", "--topic", topic, "--partition", "0"), True)
    hanging = tool(transactions, "find-hanging", "--broker-id", "1", "--max-transaction-timeout", "15")
    equal(topic in hanging, False)


@check(f"{LABEL}.cluster")
def _():
    cluster = "kafka.tools.ClusterTool" if OLD else TOOLS + "ClusterTool"
    equal("Cluster ID: " in java(cluster, "cluster-id", "--bootstrap-server", BOOTSTRAP), True)


@check(f"{LABEL}.latency")
def _():
    topic = name("latency")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
    if OLD:
        seen = java("kafka.tools.EndToEndLatency", BOOTSTRAP, topic, "50", "all", "100")
    else:
        seen = tool("EndToEndLatency", "--topic", topic, "--num-records", "50", "--producer-acks", "all", "--record-size", "100")
    equal("Avg latency" in seen and "Percentiles" in seen, True)


if not OLD:

    @check(f"{LABEL}.groups.all")
    def _():
        topic, group = name("all"), name("all")
        tool("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
        console(topic, ["a"])
        read(topic, 1, "--group", group)
        listed = [it for it in rows(tool("GroupsCommand", "--list")) if it[0] == group]
        equal(listed, [[group, "Classic", "consumer"]])

    @check(f"{LABEL}.group.consumer")
    def _():
        topic, group = name("newer"), name("newer")
        tool("TopicCommand", "--create", "--topic", topic, "--partitions", "2")
        console(topic, ["a", "b"])
        equal(read(topic, 2, "--group", group, "--consumer-property", "group.protocol=consumer"), ["a", "b"])
        groups = "consumer.group.ConsumerGroupCommand"
        listed = tool(groups, "--list", "--type", "consumer", "--state", "empty")
        equal(group in listed, True)
        equal("Empty" in tool(groups, "--describe", "--group", group, "--state"), True)


@check(f"{LABEL}.get_offsets")
def _():
    topic = name("offsets")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
    console(topic, ["a", "b", "c"])
    offsets = "GetOffsetShell"
    for time, wanted in [("earliest", "0"), ("latest", "3"), ("max-timestamp", "2")]:
        seen = tool(offsets, "--topic", topic, "--time", time, errors=False).strip()
        # Records of one millisecond: any of them has the largest time.
        equal(seen.split(":")[-1] in (["0", "1", "2"] if time == "max-timestamp" else [wanted]), True)


@check(f"{LABEL}.verifiable")
def _():
    topic = name("verifiable")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "2")
    done = tool("VerifiableProducer", "--topic", topic, "--max-messages", "500")
    equal(done.count("producer_send_success"), 500)
    seen = tool("VerifiableConsumer", "--topic", topic, "--group-id", name("verifiable"), "--max-messages", "500",
                "--reset-policy", "earliest")
    equal('"offsets_committed"' in seen and '"shutdown_complete"' in seen, True)


@check(f"{LABEL}.perf")
def _():
    topic = name("perf")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "2")
    done = java(TOOLS + "ProducerPerformance", "--topic", topic, "--num-records", "2000", "--record-size", "1000",
                "--throughput", "-1", "--producer-props", f"bootstrap.servers={BOOTSTRAP}", "acks=all")
    equal("2000 records sent" in done, True)
    seen = tool("ConsumerPerformance", "--topic", topic, "--messages", "2000", "--timeout", "60000")
    equal(" 2000," in seen, True)


@check(f"{LABEL}.perf.transactional")
def _():
    topic = name("perf-transactional")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "2")
    done = java(TOOLS + "ProducerPerformance", "--topic", topic, "--num-records", "1000", "--record-size", "100",
                "--throughput", "-1", "--transaction-duration-ms", "50", "--transactional-id", name("perf"),
                "--producer-props", f"bootstrap.servers={BOOTSTRAP}")
    equal("1000 records sent" in done, True)


@check(f"{LABEL}.delete_records")
def _():
    topic = name("delete")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
    console(topic, ["a", "b", "c"])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as asked:
        asked.write('{"partitions":[{"topic":"%s","partition":0,"offset":2}],"version":1}' % topic)
        asked.flush()
        tool("DeleteRecordsCommand", "--offset-json-file", asked.name)
    equal(read(topic, 1), ["c"])


@check(f"{LABEL}.log_dirs")
def _():
    topic = name("dirs")
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
    console(topic, ["a"])
    shown = tool("LogDirsCommand", "--describe", "--topic-list", topic)
    equal('"partition":"%s-0"' % topic in shown and '"size":0' not in shown, True)


@check(f"{LABEL}.api_versions")
def _():
    shown = tool("BrokerApiVersionsCommand") if not OLD else java("kafka.admin.BrokerApiVersionsCommand", "--bootstrap-server", BOOTSTRAP)
    equal("ApiVersions(18)" in shown and "Produce(0)" in shown, True)
