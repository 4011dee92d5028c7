"""The REST proxy's formats with schemas by curl, as `SCRIPT ADDRESS REGISTRY BOOTSTRAP`: sessions as the public API reference of the
Confluent REST Proxy has them, and what curl sends is read by Confluent's serializers, and the other way round."""

import json
import sys

from check import check, equal, name
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from rest_proxy_curl import Curl
from through import deserialized, read, send, serialized

address, registry, bootstrap = sys.argv[1:4]
V2, JSON = "application/vnd.kafka.v2+json", "application/json"
client = SchemaRegistryClient({"url": f"http://{registry}"})
curl = Curl(address)

USER = '{"type":"record","name":"User","fields":[{"name":"name","type":"string"},{"name":"age","type":["null","int"]}]}'
PLAIN_USER = '{"title":"User","type":"object","required":["name"],"properties":{"name":{"type":"string"}}}'
PLAY = 'syntax = "proto3"; message Play { string user = 1; int32 ms = 2; }'


def media(form):
    return f"application/vnd.kafka.{form}.v2+json"


def records(topic, form, count):
    """All of a topic, in a format."""
    base = curl("POST", f"/consumers/{name('readers')}", {"format": form, "auto.offset.reset": "earliest"}, V2).json["base_uri"]
    curl.nothing(curl("POST", f"{base}/subscription", {"topics": [topic]}, V2))
    found = curl.read(base, media(form), count)
    curl.nothing(curl("DELETE", base))
    return sorted(found, key=lambda record: (record["partition"], record["offset"]))


@check("avro, as in the reference")
def _():
    topic = name("testavro")
    curl.made(topic, 1)
    body = {"value_schema": '{"name":"int","type": "int"}', "records": [{"value": 12}, {"value": 24, "partition": 0}]}
    answer = curl("POST", f"/topics/{topic}", body, media("avro"))
    equal((answer.status, answer.media), (200, V2))
    id = client.get_latest_version(f"{topic}-value").schema_id
    equal((answer.json["key_schema_id"], answer.json["value_schema_id"]), (None, id))
    equal([it["error_code"] for it in answer.json["offsets"]], [None, None])
    equal([it["offset"] for it in answer.json["offsets"]], [0, 1])
    again = curl("POST", f"/topics/{topic}/partitions/0", {"value_schema_id": id, "records": [{"value": 25}]}, media("avro"))
    equal((again.status, again.json["value_schema_id"]), (200, id))
    expected = [{"topic": topic, "key": None, "value": value, "partition": 0, "offset": offset} for offset, value in enumerate([12, 24, 25])]
    equal(records(topic, "avro", 3), expected)


@check("what the reference refuses")
def _():
    topic = name("refusedavro")
    curl.made(topic, 1)
    for body, code in [
        ({"records": [{"key": 1, "value": 1}]}, 42201),
        ({"records": [{"value": 1}]}, 42202),
        ({"value_schema": '"nothing"', "records": [{"value": 1}]}, 42205),
        ({"value_schema": '"int"', "records": [{"value": "x"}]}, 42203),
    ]:
        curl.refused(curl("POST", f"/topics/{topic}", body, media("avro")), 422, code)


@check("avro of curl is read by the deserializer, and the serializer's by curl")
def _():
    topic = name("bothavro")
    curl.made(topic, 1)
    body = {"value_schema": USER, "records": [{"value": {"name": "a", "age": {"int": 7}}}, {"value": {"name": "b", "age": None}}]}
    equal(curl("POST", f"/topics/{topic}", body, media("avro")).status, 200)
    reader = AvroDeserializer(client)
    equal([deserialized(topic, reader, it) for it in read(bootstrap, topic, 2)], [{"name": "a", "age": 7}, {"name": "b", "age": None}])
    equal(send(bootstrap, topic, [serialized(topic, AvroSerializer(client, USER), {"name": "c", "age": 8})]), [None])
    equal(client.get_versions(f"{topic}-value"), [1])
    equal([it["value"] for it in records(topic, "avro", 3)][2], {"name": "c", "age": {"int": 8}})


@check("JSON under a schema of curl is read by the deserializer, and the serializer's by curl")
def _():
    topic = name("bothjson")
    curl.made(topic, 1)
    body = {"value_schema": PLAIN_USER, "records": [{"value": {"name": "a"}}]}
    equal(curl("POST", f"/topics/{topic}", body, media("jsonschema")).status, 200)
    reader = JSONDeserializer(None, schema_registry_client=client)
    equal([deserialized(topic, reader, it) for it in read(bootstrap, topic, 1)], [{"name": "a"}])
    equal(send(bootstrap, topic, [serialized(topic, JSONSerializer(PLAIN_USER, client), {"name": "b"})]), [None])
    equal([it["value"] for it in records(topic, "jsonschema", 2)], [{"name": "a"}, {"name": "b"}])


@check("protobuf of curl comes back")
def _():
    topic = name("protobuf")
    curl.made(topic, 1)
    body = {"value_schema": PLAY, "records": [{"value": {"user": "a", "ms": 7}}, {"value": {"user": "b"}}]}
    equal(curl("POST", f"/topics/{topic}", body, media("protobuf")).status, 200)
    equal([it["value"] for it in records(topic, "protobuf", 2)], [{"user": "a", "ms": 7}, {"user": "b", "ms": 0}])
    # The path to the first message type is its short form.
    [first, _second] = read(bootstrap, topic, 2)
    equal(first.value()[5:], b"\x00\x0a\x01a\x10\x07")


@check("version 3 with schemas")
def _():
    topic = name("streamed")
    path = curl.made(topic, 1)
    value = {"name": "a", "age": {"int": 7}}
    sent = [
        {"value": {"type": "AVRO", "schema": USER, "data": value}},
        {"value": {"schema_version": 1, "data": value}},
        {"value": {"data": value}},
        {"value": {"data": {"name": "a"}}},
    ]
    answer = curl("POST", f"{path}/records", "".join(json.dumps(it) for it in sent), JSON)
    equal((answer.status, answer.media), (200, JSON))
    reports = [json.loads(line) for line in answer.text.splitlines() if line]
    equal([it["error_code"] for it in reports], [200, 200, 200, 400])
    id = client.get_latest_version(f"{topic}-value").schema_id
    told = {"type": "AVRO", "subject": f"{topic}-value", "schema_id": id, "schema_version": 1, "size": 9}
    equal([it["value"] for it in reports[:3]], [told] * 3)
    reader = AvroDeserializer(client)
    equal([deserialized(topic, reader, it) for it in read(bootstrap, topic, 3)], [{"name": "a", "age": 7}] * 3)


@check("what curl sends passes the gate")
def _():
    topic = name("checked")
    path = curl.made(topic, 1)
    setting = {"data": [{"name": "playhouse.validation", "value": "full"}, {"name": "playhouse.on.invalid", "value": "reject"}]}
    curl.nothing(curl("POST", f"{path}/configs:alter", setting, JSON))
    body = {"value_schema": PLAY, "records": [{"value": {"user": "a"}}]}
    equal(curl("POST", f"/topics/{topic}", body, media("protobuf")).json["offsets"][0]["error_code"], None)
    plain = curl("POST", f"/topics/{topic}", {"records": [{"value": {"user": "a"}}]}, media("json"))
    equal(plain.json["offsets"][0]["error_code"], 1)
