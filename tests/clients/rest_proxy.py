"""The REST proxy by curl, as `SCRIPT ADDRESS`: sessions whose expected answers are those of the public API reference of the
Confluent REST Proxy (versions 2 and 3), with only addresses, ids and offsets filled in."""

import base64
import json
import sys
import tempfile

from check import check, equal, name
from rest_proxy_curl import Curl

address = sys.argv[1]
V2 = "application/vnd.kafka.v2+json"
JSON_V2 = "application/vnd.kafka.json.v2+json"
BINARY_V2 = "application/vnd.kafka.binary.v2+json"
JSON = "application/json"


curl = Curl(address)
refused, nothing, made, read = curl.refused, curl.nothing, curl.made, curl.read


@check("topics and partitions")
def _():
    topic = name("described")
    made(topic, 2)
    listed = curl("GET", "/topics", accept=V2)
    equal((listed.status, listed.media, topic in listed.json), (200, V2, True))
    partitions = curl("GET", f"/topics/{topic}", accept=V2).json["partitions"]
    equal([sorted(it) for it in partitions], [["leader", "partition", "replicas"]] * 2)
    leader = partitions[1]["leader"]
    equal(partitions[1], {"partition": 1, "leader": leader, "replicas": [{"broker": leader, "leader": True, "in_sync": True}]})
    equal(curl("GET", f"/topics/{topic}/partitions").json, partitions)
    equal(curl("GET", f"/topics/{topic}/partitions/1").json, partitions[1])
    equal(curl("GET", "/brokers").json, {"brokers": [leader]})


@check("negotiated content types")
def _():
    several = "application/vnd.kafka.v2+json, application/vnd.kafka+json, application/json"
    equal(curl("GET", "/topics", accept=several).media, V2)
    equal(curl("GET", "/topics", accept="application/vnd.kafka.v2+json; q=0.5, application/json; q=0.9").media, JSON)
    refused(curl("GET", "/topics", accept="text/html"), 406, 406)
    refused(curl("POST", f"/topics/{name('typed')}", "a=b", "application/x-www-form-urlencoded"), 415, 415)


@check("produce binary, as in the reference")
def _():
    topic = name("binary")
    made(topic, 2)
    records = [{"key": "a2V5", "value": "Y29uZmx1ZW50"}, {"value": "a2Fma2E=", "partition": 1}, {"value": "bG9ncw=="}]
    answer = curl("POST", f"/topics/{topic}", {"records": records}, BINARY_V2, V2)
    equal((answer.status, answer.media), (200, V2))
    equal((answer.json["key_schema_id"], answer.json["value_schema_id"]), (None, None))
    offsets = answer.json["offsets"]
    equal(len(offsets), 3)
    equal(offsets[1]["partition"], 1)
    equal([it.get("error_code") for it in offsets], [None] * 3)


@check("produce JSON to a partition, as in the reference")
def _():
    topic = name("json")
    made(topic, 2)
    records = [{"key": "somekey", "value": {"foo": "bar"}}, {"value": 53.5}]
    answer = curl("POST", f"/topics/{topic}/partitions/1", {"records": records}, JSON_V2, V2)
    equal([(it["partition"], it["offset"]) for it in answer.json["offsets"]], [(1, 0), (1, 1)])
    refused(curl("POST", f"/topics/{topic}/partitions/7", {"records": records}, JSON_V2), 404, 40402)
    equal(curl("GET", f"/topics/{topic}/partitions/1/offsets").json, {"beginning_offset": 0, "end_offset": 2})


@check("what the reference refuses")
def _():
    topic = name("refusals")
    made(topic, 1)
    refused(curl("GET", f"/topics/{name('nothing')}"), 404, 40401)
    refused(curl("GET", f"/topics/{topic}/partitions/9"), 404, 40402)
    empty = curl("POST", f"/topics/{topic}", {"records": []}, JSON_V2)
    equal((empty.status, empty.json), (422, {"error_code": 422, "message": "records may not be empty"}))
    avro = "application/vnd.kafka.avro.v2+json"
    refused(curl("POST", f"/topics/{topic}", {"records": [{"key": 1, "value": 12}]}, avro), 422, 42201)
    refused(curl("POST", f"/topics/{topic}", {"records": [{"value": 12}]}, avro), 422, 42202)


@check("a session of a JSON consumer")
def _():
    topic, group = name("consumed"), name("jsongroup")
    made(topic, 1)
    records = [{"key": "somekey", "value": {"foo": "bar"}}, {"key": "somekey", "value": ["foo", "bar"]}]
    equal(curl("POST", f"/topics/{topic}", {"records": records}, JSON_V2).status, 200)
    settings = {"name": "my_consumer", "format": "json", "auto.offset.reset": "earliest", "auto.commit.enable": "false"}
    created = curl("POST", f"/consumers/{group}/", settings, V2)
    equal((created.status, created.media), (200, V2))
    base = created.json["base_uri"]
    equal(created.json, {"instance_id": "my_consumer", "base_uri": f"http://{address}/consumers/{group}/instances/my_consumer"})
    refused(curl("POST", f"/consumers/{group}", settings, V2), 409, 40902)
    nothing(curl("POST", f"{base}/subscription", {"topics": [topic]}, V2))
    equal(curl("GET", f"{base}/subscription", accept=V2).json, {"topics": [topic]})
    place = {"topic": topic, "partition": 0}
    expected = [place | {"key": "somekey", "value": it["value"], "offset": at} for at, it in enumerate(records)]
    equal(read(base, JSON_V2, 2), expected)
    refused(curl("GET", f"{base}/records", accept=BINARY_V2), 406, 40601)
    equal(curl("GET", f"{base}/assignments").json, {"partitions": [place]})
    refused(curl("POST", f"{base}/assignments", {"partitions": [place]}, V2), 409, 40903)
    refused(curl("POST", f"{base}/subscription", {"topics": [topic], "topic_pattern": "a.*"}, V2), 409, 40903)

    asked = json.dumps({"partitions": [place]})
    nothing(curl("POST", f"{base}/offsets", {"offsets": [place | {"offset": 0}]}, V2))
    equal(curl("GET", f"{base}/offsets", asked, V2).json, {"offsets": [place | {"offset": 1, "metadata": ""}]})
    nothing(curl("POST", f"{base}/offsets"))
    equal(curl("GET", f"{base}/offsets", asked, V2).json, {"offsets": [place | {"offset": 2, "metadata": ""}]})

    nothing(curl("POST", f"{base}/positions", {"offsets": [place | {"offset": 1}]}, V2))
    equal(read(base, JSON_V2, 1), expected[1:])
    nothing(curl("POST", f"{base}/positions/beginning", {"partitions": [place]}, V2))
    equal(read(base, JSON_V2, 2), expected)
    nothing(curl("POST", f"{base}/positions/end", {"partitions": [place]}, V2))
    equal(curl("GET", f"{base}/records?timeout=500", accept=JSON_V2).json, [])

    nothing(curl("DELETE", f"{base}/subscription"))
    equal(curl("GET", f"{base}/subscription").json, {"topics": []})
    nothing(curl("DELETE", base, media=V2))
    refused(curl("DELETE", base), 404, 40403)
    refused(curl("GET", f"{base}/records", accept=JSON_V2), 404, 40403)


@check("a session of a binary consumer with partitions of its own")
def _():
    topic, group = name("assigned"), name("testgroup")
    made(topic, 2)
    records = [{"key": "a2V5", "value": "Y29uZmx1ZW50", "partition": 1}, {"value": "a2Fma2E=", "partition": 0}]
    equal(curl("POST", f"/topics/{topic}", {"records": records}, BINARY_V2).status, 200)
    base = curl("POST", f"/consumers/{group}", {"auto.offset.reset": "earliest"}, V2).json["base_uri"]
    equal(curl("GET", f"{base}/assignments").json, {"partitions": []})
    nothing(curl("POST", f"{base}/assignments", {"partitions": [{"topic": topic, "partition": 1}]}, V2))
    expected = {"topic": topic, "key": "a2V5", "value": "Y29uZmx1ZW50", "partition": 1, "offset": 0}
    equal(read(base, BINARY_V2, 1), [expected])
    refused(curl("POST", f"{base}/subscription", {"topics": [topic]}, V2), 409, 40903)
    nothing(curl("DELETE", base))


@check("consumer settings that are none")
def _():
    for settings in ({"format": "xml"}, {"auto.offset.reset": "now"}, {"fetch.min.bytes": -10}):
        refused(curl("POST", f"/consumers/{name('wrong')}", settings, V2), 422, 42204)


@check("version 3: clusters and topics")
def _():
    clusters = curl("GET", "/v3/clusters")
    equal((clusters.media, clusters.json["kind"]), (JSON, "KafkaClusterList"))
    cluster = clusters.json["data"][0]["cluster_id"]
    url = f"http://{address}/v3/clusters/{cluster}"
    equal(curl("GET", url).json["metadata"], {"self": url, "resource_name": f"crn:///kafka={cluster}"})
    topic = name("topic-X")
    configs = [{"name": "cleanup.policy", "value": "compact"}]
    body = {"topic_name": topic, "partitions_count": 3, "replication_factor": 1, "configs": configs}
    created = curl("POST", f"{url}/topics", body, JSON)
    this = f"{url}/topics/{topic}"
    equal(created.status, 201)
    wanted = {
        "kind": "KafkaTopic",
        "metadata": {"self": this, "resource_name": f"crn:///kafka={cluster}/topic={topic}"},
        "cluster_id": cluster,
        "topic_name": topic,
        "is_internal": False,
        "replication_factor": 1,
        "partitions_count": 3,
        "partitions": {"related": f"{this}/partitions"},
        "configs": {"related": f"{this}/configs"},
    }
    equal({member: created.json[member] for member in wanted}, wanted)
    refused(curl("POST", f"{url}/topics", body, JSON), 400, 40002)
    equal(curl("GET", this).json["partitions_count"], 3)
    partitions = curl("GET", f"{this}/partitions").json
    equal([it["partition_id"] for it in partitions["data"]], [0, 1, 2])
    refused(curl("GET", f"{this}/partitions/3"), 404, 40403)
    policy = curl("GET", f"{this}/configs/cleanup.policy").json
    equal((policy["kind"], policy["value"], policy["source"]), ("KafkaTopicConfig", "compact", "DYNAMIC_TOPIC_CONFIG"))
    nothing(curl("DELETE", this))
    missing = curl("GET", this)
    equal(missing.json, {"error_code": 40403, "message": "This server does not host this topic-partition."})
    refused(curl("GET", "/v3/clusters/my-cluster"), 404, 404)


@check("version 3: a stream of records")
def _():
    topic = made(name("streamed"), 2)
    record = {
        "partition_id": 1,
        "headers": [{"name": "Header-1", "value": "SGVhZGVyLTE="}],
        "key": {"type": "BINARY", "data": "Zm9vYmFy"},
        "value": {"type": "JSON", "data": {"foo": "bar"}},
        "timestamp": "2021-02-05T19:14:42Z",
    }
    stream = "\n".join(json.dumps(it) for it in [record, {"value": {"type": "BINARY", "data": "?"}}, record])
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(stream)
        file.flush()
        chunked = ("-H", "Transfer-Encoding: chunked", "-T", file.name)
        answer = curl("POST", f"{topic}/records", None, JSON, None, *chunked)
    equal((answer.status, answer.media), (200, JSON))
    reports = [json.loads(line) for line in answer.text.splitlines() if line]
    equal([it["error_code"] for it in reports], [200, 400, 200])
    report = {"error_code": 200, "partition_id": 1, "offset": 0, "timestamp": "2021-02-05T19:14:42Z"}
    report |= {"key": {"type": "BINARY", "size": 6}, "value": {"type": "JSON", "size": len('{"foo": "bar"}')}}
    equal({member: reports[0][member] for member in report}, report)
    equal(reports[2]["offset"], 1)

    # The other version reads what this one wrote.
    plain = topic.rsplit("/", 1)[1]
    base = curl("POST", f"/consumers/{name('both')}", {"auto.offset.reset": "earliest"}, V2).json["base_uri"]
    nothing(curl("POST", f"{base}/assignments", {"partitions": [{"topic": plain, "partition": 1}]}, V2))
    value = base64.b64encode(b'{"foo": "bar"}').decode()
    equal([it["value"] for it in read(base, BINARY_V2, 2)], [value, value])
    refused(curl("POST", f"{topic}/records", "{'key': 1}", JSON), 400, 400)
    refused(curl("POST", f"{topic}-nowhere/records", "{}", JSON), 404, 40403)
