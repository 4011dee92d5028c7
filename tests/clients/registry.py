"""The schema registry with Confluent's Python client, as `SCRIPT BOOTSTRAP REGISTRY`: the client's calls, and its Avro
serializers from a producer to a consumer: references, names of subjects, evolution, ids in headers."""

import sys
from concurrent.futures import ThreadPoolExecutor

import through
from check import check, equal, name
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Metadata,
    MetadataProperties,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    ServerConfig,
    header_schema_id_serializer,
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

bootstrap, address = sys.argv[1:3]
client = SchemaRegistryClient({"url": f"http://{address}"})


def record(record_name, *fields):
    parts = []
    for field in fields:
        kind = '"string","default":""' if field.endswith("?") else '"string"'
        parts.append('{"name":"%s","type":%s}' % (field.rstrip("?"), kind))
    return '{"type":"record","name":"%s","namespace":"stream.playhouse","fields":[%s]}' % (record_name, ",".join(parts))


def refused(call):
    try:
        call()
    except SchemaRegistryError as error:
        return error.http_status_code, error.error_code
    return None


@check("register and find")
def _():
    subject = name("found")
    schema = Schema(record("Found", "user"))
    registered = client.register_schema_full_response(subject, schema)
    equal((registered.version, registered.subject), (1, subject))
    client.clear_caches()
    equal(client.register_schema(subject, schema), registered.schema_id)
    client.clear_caches()
    equal(client.get_schema(registered.schema_id).schema_str, schema.schema_str)
    equal(client.get_schema_by_guid(registered.guid).schema_str, schema.schema_str)
    equal(client.lookup_schema(subject, schema).schema_id, registered.schema_id)
    equal(client.get_latest_version(subject).guid, registered.guid)
    equal(client.get_version(subject, 1).schema.schema_str, schema.schema_str)
    equal(client.get_subjects_by_schema_id(registered.schema_id), [subject])
    versions = client.get_schema_versions(registered.schema_id)
    equal([(it.subject, it.version) for it in versions], [(subject, 1)])
    assert "AVRO" in client.get_schema_types()
    equal(client.get_contexts(), ["."])


@check("what is read back can be registered again")
def _():
    subject = name("again")
    schema = Schema(record("Again", "user"), metadata=Metadata(None, MetadataProperties({"owner": "us"}), None))
    first = client.register_schema_full_response(subject, schema)
    client.clear_caches()
    read = client.get_latest_version(subject)
    client.clear_caches()
    equal(client.register_schema_full_response(subject, read.schema).version, first.version)
    found = client.get_latest_with_metadata(subject, {"owner": "us"})
    equal(found.version, first.version)
    equal(refused(lambda: client.get_latest_with_metadata(subject, {"owner": "them"})), (404, 40402))


@check("subjects and versions are listed and deleted")
def _():
    subject = name("listed")
    for fields in (["a"], ["a", "b?"], ["a", "c?"]):
        client.register_schema(subject, Schema(record("Listed", *fields)))
    equal(client.get_subjects(subject_prefix=subject), [subject])
    equal(client.get_versions(subject), [1, 2, 3])
    equal(client.get_versions(subject, offset=1, limit=1), [2])
    equal(refused(lambda: client.delete_version(subject, 2, permanent=True)), (404, 40407))
    equal(client.delete_version(subject, 2), 2)
    equal(client.get_versions(subject), [1, 3])
    equal(client.get_versions(subject, deleted=True), [1, 2, 3])
    equal(client.delete_version(subject, 2, permanent=True), 2)
    equal(client.delete_subject(subject), [1, 3])
    equal(client.get_subjects(subject_prefix=subject), [])
    equal(client.get_subjects(subject_prefix=subject, deleted=True), [subject])
    equal(client.delete_subject(subject, permanent=True), [1, 3])
    equal(refused(lambda: client.get_versions(subject)), (404, 40401))


@check("errors have their codes")
def _():
    subject = name("errors")
    client.register_schema(subject, Schema(record("Errors", "a")))
    equal(refused(lambda: client.get_schema(2_000_000_000)), (404, 40403))
    equal(refused(lambda: client.get_version(subject, 9)), (404, 40402))
    equal(refused(lambda: client.lookup_schema(subject, Schema(record("Errors", "z")))), (404, 40403))
    equal(refused(lambda: client.register_schema(subject, Schema('{"type":"nothing"}'))), (422, 42201))
    status, _code = refused(lambda: client.register_schema(subject, Schema(record("Errors", "a", "b"))))
    equal(status, 409)
    equal(refused(lambda: client.set_compatibility(subject, "SOMEWHAT")), (422, 42203))


@check("compatibility is asked and set")
def _():
    subject = name("levels")
    client.register_schema(subject, Schema(record("Levels", "a")))
    more = Schema(record("Levels", "a", "b"))
    equal(client.test_compatibility(subject, more), False)
    equal(client.test_compatibility_all_versions(subject, more, verbose=True), False)
    equal(client.get_compatibility(), "BACKWARD")
    equal(refused(lambda: client.get_compatibility(subject)), (404, 40408))
    client.set_compatibility(subject, "forward")
    equal(client.get_compatibility(subject), "FORWARD")
    equal(client.test_compatibility(subject, more), True)
    client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE))
    equal(client.get_config(subject).compatibility_level.value, "FULL_TRANSITIVE")
    equal(client.delete_config(subject).compatibility_level.value, "FULL_TRANSITIVE")


@check("modes close a subject")
def _():
    subject = name("modes")
    client.register_schema(subject, Schema(record("Modes", "a")))
    equal(client.get_global_mode(), "READWRITE")
    equal(client.update_mode(subject, "READONLY"), "READONLY")
    equal(client.get_mode(subject), "READONLY")
    equal(refused(lambda: client.register_schema(subject, Schema(record("Modes", "a", "b?")))), (422, 42205))
    client.delete_mode(subject)
    equal(refused(lambda: client.get_mode(subject)), (404, 40409))
    client.register_schema(subject, Schema(record("Modes", "a", "b?")))


@check("many register at once")
def _():
    subject, schema = name("many"), Schema(record("Many", "a"))
    clients = [SchemaRegistryClient({"url": f"http://{address}"}) for _ in range(16)]
    with ThreadPoolExecutor(len(clients)) as threads:
        ids = list(threads.map(lambda one: one.register_schema(subject, schema), clients))
    equal(len(set(ids)), 1)
    equal(client.get_versions(subject), [1])


def sent_and_read(topic, serializer, deserializer, values):
    return sorted(through.sent_and_read(bootstrap, topic, serializer, deserializer, values), key=str)


@check("avro goes round")
def _():
    topic = name("avro")
    serializer = AvroSerializer(client, record("Round", "user", "track"))
    values = [{"user": f"u{number}", "track": "t"} for number in range(9)]
    # Another client has nothing cached.
    reader = AvroDeserializer(SchemaRegistryClient({"url": f"http://{address}"}))
    equal(sent_and_read(topic, serializer, reader, values), values)
    equal(client.get_versions(f"{topic}-value"), [1])


@check("avro with references")
def _():
    topic, address_subject = name("references"), name("address")
    client.register_schema(address_subject, Schema(record("Address", "street")))
    reference = SchemaReference("stream.playhouse.Address", address_subject, 1)
    text = (
        '{"type":"record","name":"Viewer","namespace":"stream.playhouse",'
        '"fields":[{"name":"home","type":"stream.playhouse.Address"}]}'
    )
    serializer = AvroSerializer(client, Schema(text, "AVRO", [reference]))
    values = [{"home": {"street": f"s{number}"}} for number in range(3)]
    reader = AvroDeserializer(SchemaRegistryClient({"url": f"http://{address}"}))
    equal(sent_and_read(topic, serializer, reader, values), values)
    latest = client.get_latest_version(f"{topic}-value")
    equal([(it.name, it.subject, it.version) for it in latest.schema.references], [(reference.name, address_subject, 1)])
    equal(client.get_referenced_by(address_subject, 1), [latest.schema_id])
    equal(refused(lambda: client.delete_subject(address_subject)), (422, 42206))


@check("subjects are named by record, and by topic and record")
def _():
    record_name = name("Named").replace("-", "_")
    full, values = f"stream.playhouse.{record_name}", [{"user": "u"}]
    for strategy, prefix in ((record_subject_name_strategy, ""), (topic_record_subject_name_strategy, "topic-")):
        topic = name(strategy.__name__)
        settings = {"subject.name.strategy": strategy}
        serializer = AvroSerializer(client, record(record_name, "user"), conf=settings)
        reader = AvroDeserializer(SchemaRegistryClient({"url": f"http://{address}"}), conf=settings)
        equal(sent_and_read(topic, serializer, reader, values), values)
        equal(client.get_versions(prefix.replace("topic", topic) + full), [1])


@check("readers and writers evolve")
def _():
    topic = name("evolution")
    subject = f"{topic}-value"
    old, new = record("Evolved", "user"), record("Evolved", "user", "track?")
    reader = AvroDeserializer(SchemaRegistryClient({"url": f"http://{address}"}), new)
    equal(sent_and_read(topic, AvroSerializer(client, old), reader, [{"user": "u"}]), [{"user": "u", "track": ""}])
    # Nothing is registered by itself: the latest is taken, and what is not there is an error.
    strict = {"auto.register.schemas": False}
    unknown = AvroSerializer(client, new, conf=strict)
    context = SerializationContext(topic, MessageField.VALUE)
    equal(refused(lambda: unknown({"user": "u", "track": "t"}, context)), (404, 40403))
    client.register_schema(subject, Schema(new))
    latest = AvroSerializer(client, old, conf={"auto.register.schemas": False, "use.latest.version": True})
    client.clear_caches()
    payload = latest({"user": "u", "track": "t"}, context)
    equal(int.from_bytes(payload[1:5], "big"), client.get_latest_version(subject).schema_id)
    equal(reader(payload, context), {"user": "u", "track": "t"})
    bad = AvroSerializer(client, record("Evolved", "user", "needed"))
    status, _code = refused(lambda: bad({"user": "u", "needed": "n"}, context))
    equal(status, 409)


@check("guids in headers")
def _():
    topic = name("guids")
    serializer = AvroSerializer(client, record("Guided", "user"), conf={"schema.id.serializer": header_schema_id_serializer})
    # The client takes no payload of less than six bytes, header or not.
    values = [{"user": f"user {number}"} for number in range(3)]
    reader = AvroDeserializer(SchemaRegistryClient({"url": f"http://{address}"}))
    equal(sent_and_read(topic, serializer, reader, values), values)


@check("normalized schemas are one")
def _():
    subject = name("normal")
    first = client.register_schema(subject, Schema('{"type":"string","b":1,"a":2}'), normalize_schemas=True)
    second = client.register_schema(subject, Schema('{"a":2,"b":1,"type":"string"}'), normalize_schemas=True)
    equal(first, second)
