"""Confluent's serializers of all three formats, as `SCRIPT BOOTSTRAP REGISTRY`: from a producer to a consumer, by way of topics
whose values are checked. References, the names of subjects, ids before payloads and guids in headers; and what becomes of a
payload that is not what its schema says."""

import itertools
import json
import pathlib
import sys
import tempfile

import grpc_tools
from check import check, equal, name, until
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    header_schema_id_serializer,
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc
from through import deserialized, read, send, sent_and_read, serialized

bootstrap, address = sys.argv[1:3]


numbers = itertools.count()


def fresh(what):
    """A name that no other check has."""
    return name(f"{what}{next(numbers)}")


def registry():
    """With nothing cached."""
    return SchemaRegistryClient({"url": f"http://{address}"})


def topic(what, subject_of=None, **settings):
    """A topic whose values are checked by these settings."""
    made = fresh(what)
    if subject_of:
        settings["subject"] = subject_of(made)
    config = {f"playhouse.{key.replace('_', '.')}": value for key, value in settings.items()}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(made, 1, config=config)])[made].result(30)
    return made


def refused(topic, count):
    """The keywords of the reasons for which records of the topic became bad events, by their offsets."""

    def found():
        rows = []
        for message in read(bootstrap, "bad_events", 1):
            headers = dict(message.headers())
            if headers["__connect.errors.topic"] == topic.encode():
                keyword = headers["__connect.errors.exception.class.name"].decode().removeprefix("playhouse.")
                rows.append((int(headers["__connect.errors.offset"]), keyword))
        return sorted(rows) if len(rows) >= count else None

    return [keyword for _offset, keyword in until(found)]


def messages(files):
    """Classes of the message types in `.proto` files, as protoc reads them."""
    with tempfile.TemporaryDirectory() as directory:
        for path, text in files.items():
            (pathlib.Path(directory) / path).write_text(text)
        out = f"{directory}/set"
        includes = [f"-I{directory}", f"-I{pathlib.Path(grpc_tools.__file__).parent}/_proto"]
        equal(protoc.main(["", *includes, f"--descriptor_set_out={out}", "--include_imports", *files]), 0)
        described = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    return lambda full: message_factory.GetMessageClass(pool.FindMessageTypeByName(full))


class Avro:
    """A viewer, whose home is a type of its own."""

    home = '{"type":"record","name":"Home","namespace":"stream.%s","fields":[{"name":"street","type":"string"}]}'

    def __init__(self):
        self.space = fresh("avro").replace("-", "_")
        self.record, self.home_name = f"stream.{self.space}.Viewer", f"stream.{self.space}.Home"
        self.home = self.home % self.space
        self.values = [{"user": f"u{number}", "home": {"street": "s" * number}} for number in range(5)]

    def text(self, home):
        fields = f'{{"name":"user","type":"string"}},{{"name":"home","type":{home}}}'
        return f'{{"type":"record","name":"Viewer","namespace":"stream.{self.space}","fields":[{fields}]}}'

    def serializer(self, client, **settings):
        return AvroSerializer(client, self.text(self.home), conf=settings)

    def with_reference(self, client):
        client.register_schema(self.home_name, Schema(self.home))
        reference = SchemaReference(self.home_name, self.home_name, 1)
        return AvroSerializer(client, Schema(self.text(f'"{self.home_name}"'), "AVRO", [reference])), self.values

    def deserializer(self, **settings):
        return AvroDeserializer(registry(), conf=settings)

    # The last byte is missing: a street of one letter fewer than it says.
    damaged, keyword = staticmethod(lambda payload: payload[:-1]), "avro"


class Json:
    home = '{"title":"Home","type":"object","required":["street"],"properties":{"street":{"type":"string"}}}'

    def __init__(self):
        self.record = fresh("Json")
        self.home_name = fresh("home.json")
        self.values = [{"user": f"u{number}", "home": {"street": "s" * number}} for number in range(5)]

    def text(self, home):
        properties = f'"user":{{"type":"string"}},"home":{home}'
        return f'{{"title":"{self.record}","type":"object","required":["user","home"],"properties":{{{properties}}}}}'

    def serializer(self, client, **settings):
        return JSONSerializer(self.text(self.home), client, conf=settings)

    def with_reference(self, client):
        client.register_schema(self.home_name, Schema(self.home, "JSON"))
        reference = SchemaReference(self.home_name, self.home_name, 1)
        text = self.text(f'{{"$ref":"{self.home_name}"}}')
        return JSONSerializer(Schema(text, "JSON", [reference]), client), self.values

    def deserializer(self, **settings):
        return JSONDeserializer(None, schema_registry_client=registry(), conf=settings)

    damaged, keyword = staticmethod(lambda payload: payload.replace(b'"street"', b'"place"')), "required"


class Protobuf:
    """A message type within another, the second of its file: the path to it is not the short one."""

    def __init__(self):
        space = fresh("protobuf").replace("-", "_")
        self.record = f"stream.{space}.Outer.Viewer"
        home = "message Home { string street = 1; }"
        before = f'syntax = "proto3"; package stream.{space};'
        outer = "message First {} message Outer { message Skipped {} message Viewer { string user = 1; Home home = 2; } }"
        self.types = messages({"viewer.proto": f"{before} {home} {outer}"})
        # An import, and a well-known type, which nobody registers.
        self.home_path, viewer = f"{space}_home.proto", f"{space}_viewer.proto"
        well_known = 'import "google/protobuf/timestamp.proto";'
        at = outer.replace("Home home = 2;", "Home home = 2; google.protobuf.Timestamp at = 3;")
        files = {self.home_path: f"{before} {home}", viewer: f'{before} import "{self.home_path}"; {well_known} {at}'}
        self.importing = messages(files)
        self.values = [self.value(self.types, number) for number in range(5)]

    def value(self, types, number):
        home = {"street": "s" * number}
        return json_format.ParseDict({"user": f"u{number}", "home": home}, types(self.record)())

    def serializer(self, client, **settings):
        return ProtobufSerializer(self.types(self.record), client, settings)

    def with_reference(self, client):
        values = [self.value(self.importing, number) for number in range(5)]
        values[0].at.FromJsonString("2025-08-31T12:00:00Z")
        return ProtobufSerializer(self.importing(self.record), client, {}), values

    def deserializer(self, importing=False, **settings):
        types = self.importing if importing else self.types
        return ProtobufDeserializer(types(self.record), settings, registry())

    # `user` as a number.
    damaged, keyword = staticmethod(lambda payload: payload.replace(b"\x0a\x02u", b"\x08\x02u")), "type"


FORMATS = [Avro, Json, Protobuf]
STRATEGIES = {
    "topic": (topic_subject_name_strategy, lambda topic, record: f"{topic}-value"),
    "record": (record_subject_name_strategy, lambda topic, record: record),
    "topic-record": (topic_record_subject_name_strategy, lambda topic, record: f"{topic}-{record}"),
}

for make in FORMATS:
    for strategy, (function, subject_of) in STRATEGIES.items():

        @check(f"{make.__name__}: subjects by {strategy}")
        def _():
            form, client = make(), registry()
            of = topic("strategy", validation="full", on_invalid="reject", subject="*")
            settings = {"subject.name.strategy": function}
            found = sent_and_read(
                bootstrap, of, form.serializer(client, **settings), form.deserializer(**settings), form.values
            )
            equal(found, form.values)
            equal(client.get_versions(subject_of(of, form.record)), [1])

        @check(f"{make.__name__}: a topic takes the subject by {strategy} only")
        def _():
            form, client = make(), registry()
            of = topic("bound", lambda topic: subject_of(topic, form.record), validation="full")
            mine = form.serializer(client, **{"subject.name.strategy": function})
            other = make()
            others = other.serializer(client, **{"subject.name.strategy": lambda ctx, record: fresh("elsewhere")})
            records = [serialized(of, mine, form.values[0]), serialized(of, others, other.values[1])]
            equal(send(bootstrap, of, records), [None, None])
            equal(refused(of, 1), ["schema_id"])
            [kept] = read(bootstrap, of, 1)
            equal(deserialized(of, form.deserializer(), kept), form.values[0])

    @check(f"{make.__name__}: references")
    def _():
        form, client = make(), registry()
        of = topic("references", validation="full", on_invalid="reject")
        serializer, values = form.with_reference(client)
        deserializer = form.deserializer(importing=True) if make is Protobuf else form.deserializer()
        equal(sent_and_read(bootstrap, of, serializer, deserializer, values), values)
        registered = client.get_latest_version(f"{of}-value")
        equal(len(registered.schema.references), 1)
        [reference] = registered.schema.references
        equal(client.get_referenced_by(reference.subject, reference.version), [registered.schema_id])
        # What it refers to is part of what a payload is checked against.
        payload, headers = serialized(of, serializer, values[2])
        [error] = send(bootstrap, of, [(form.damaged(payload), headers)])
        equal(error.name(), "INVALID_RECORD")

    @check(f"{make.__name__}: guids in headers")
    def _():
        form, client = make(), registry()
        of = topic("guids", validation="full", on_invalid="reject")
        serializer = form.serializer(client, **{"schema.id.serializer": header_schema_id_serializer})
        # The client takes no payload of less than six bytes, header or not.
        values = form.values[2:]
        equal(sent_and_read(bootstrap, of, serializer, form.deserializer(), values), values)
        payload, headers = serialized(of, serializer, values[0])
        assert headers, "the guid is in a header"
        [damaged, unnamed] = [(form.damaged(payload), headers), (payload, None)]
        equal([error.name() for error in send(bootstrap, of, [damaged])], ["INVALID_RECORD"])
        [error] = send(bootstrap, of, [unnamed])
        # Bare JSON is checked against the latest version.
        equal(error and error.name(), None if make is Json else "INVALID_RECORD")

    @check(f"{make.__name__}: full quarantines what is not valid")
    def _():
        form, client = make(), registry()
        of = topic("quarantine", validation="full")
        serializer = form.serializer(client)
        records = [serialized(of, serializer, value) for value in form.values]
        for index in (1, 3):
            payload, headers = records[index]
            assert form.damaged(payload) != payload
            records[index] = (form.damaged(payload), headers)
        unknown = b"\0\x7f\xff\xff\xff" + records[0][0][5:]
        records.append((unknown, None))
        equal(send(bootstrap, of, records), [None] * 6)
        kept = read(bootstrap, of, 3)
        equal([deserialized(of, form.deserializer(), message) for message in kept], form.values[::2])
        equal([message.offset() for message in kept], [0, 2, 4])
        equal(refused(of, 3), [form.keyword, form.keyword, "schema_id"])

    @check(f"{make.__name__}: full refuses a batch with what is not valid")
    def _():
        form, client = make(), registry()
        of = topic("reject", validation="full", on_invalid="reject")
        serializer = form.serializer(client)
        good, bad = (serialized(of, serializer, value) for value in form.values[1:3])
        [first, second] = send(bootstrap, of, [good, (form.damaged(bad[0]), None)])
        equal((first.name(), second.name()), ("INVALID_RECORD", "INVALID_RECORD"))
        equal(send(bootstrap, of, [good]), [None])
        equal([message.offset() for message in read(bootstrap, of, 1)], [0])

    @check(f"{make.__name__}: id takes any payload of a schema that it knows")
    def _():
        form, client = make(), registry()
        of = topic("id", validation="id")
        serializer = form.serializer(client)
        payload, _headers = serialized(of, serializer, form.values[1])
        records = [(payload, None), (form.damaged(payload), None), (b"bare", None), (json.dumps({}).encode(), None)]
        equal(send(bootstrap, of, records), [None] * 4)
        equal([message.value() for message in read(bootstrap, of, 2)], [payload, form.damaged(payload)])
        equal(refused(of, 2), ["schema_id", "schema_id"])
