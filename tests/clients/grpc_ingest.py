"""The gRPC door with Python's grpcio, as `SCRIPT ADDRESS PROTO_DIRECTORY`: stubs made by grpcio-tools from `proto/`, the
same service found by reflection, health, a batch, a stream, refusals."""

import json
import sys
import tempfile

import grpc
from check import check, equal
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

address, proto = sys.argv[1:3]
generated = tempfile.mkdtemp()
source = "playhouse/v1/ingest.proto"
arguments = ["protoc", f"-I{proto}", f"--python_out={generated}", f"--grpc_python_out={generated}", source]
if protoc.main(arguments) != 0:
    sys.exit("grpcio-tools cannot compile the proto files")
sys.path.insert(0, generated)

from playhouse.v1 import ingest_pb2, ingest_pb2_grpc  # noqa: E402  (generated above)

SERVICE = "playhouse.v1.Ingest"
channel = grpc.insecure_channel(address)
stub = ingest_pb2_grpc.IngestStub(channel)


def event(identity, **more):
    fields = {"id": identity, "timestamp": "2025-08-31T12:00:00Z", "type": "play", "user": f"user of {identity}"}
    return json.dumps(fields | more).encode()


def refused(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return None


@check("health")
def _():
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        equal(answer.status, health_pb2.HealthCheckResponse.SERVING)


@check("a batch")
def _():
    events = [event("a"), event("b", position_ms=-1), b"{broken", event("c")]
    reply = stub.Send(ingest_pb2.SendRequest(events=events), timeout=20)
    equal((reply.topic, reply.accepted, reply.rejected), ("multimedia_events", 2, 2))
    equal([result.WhichOneof("status") for result in reply.results], ["accepted", "rejected", "rejected", "accepted"])
    equal([result.id for result in reply.results], ["a", "b", "", "c"])
    equal(reply.results[1].rejected.reasons[0].path, "/position_ms")
    equal(reply.results[2].rejected.reasons[0].keyword, "json")


@check("a stream of batches")
def _():
    batches = (ingest_pb2.SendRequest(events=[event(f"s-{n}-{m}") for m in range(50)]) for n in range(100))
    answers = list(stub.SendStream(batches, timeout=60))
    equal(len(answers), 100)
    equal([answer.results[7].id for answer in answers], [f"s-{n}-7" for n in range(100)])
    equal(sum(answer.accepted for answer in answers), 5000)


@check("a slow reader holds nobody up")
def _():
    many = [event(f"slow-{n}") for n in range(5000)]
    slow = stub.SendStream((ingest_pb2.SendRequest(events=many) for _ in range(40)), timeout=60)
    for n in range(20):
        equal(stub.Send(ingest_pb2.SendRequest(events=[event(f"beside-{n}")]), timeout=20).accepted, 1)
    equal(sum(answer.accepted for answer in slow), 40 * 5000)


@check("refusals")
def _():
    send = ingest_pb2.SendRequest
    equal(refused(lambda: stub.Send(send(topic="nowhere", events=[b"{}"]), timeout=20)), grpc.StatusCode.NOT_FOUND)
    equal(refused(lambda: stub.Send(send(), timeout=20)), grpc.StatusCode.INVALID_ARGUMENT)
    large = send(events=[b"x" * (1 << 20)] * 20)
    equal(refused(lambda: stub.Send(large, timeout=20)), grpc.StatusCode.OUT_OF_RANGE)


@check("a deadline")
def _():
    many = ingest_pb2.SendRequest(events=[event(f"late-{n}") for n in range(20000)])
    equal(refused(lambda: stub.Send(many, timeout=0.001)), grpc.StatusCode.DEADLINE_EXCEEDED)
    equal(stub.Send(ingest_pb2.SendRequest(events=[event("after")]), timeout=20).accepted, 1)


@check("bytes that are no message")
def _():
    raw = channel.unary_unary(f"/{SERVICE}/Send", request_serializer=bytes, response_deserializer=bytes)
    equal(refused(lambda: raw(b"\xff" * 11, timeout=20)), grpc.StatusCode.INTERNAL)
    squeezed = lambda: stub.Send(  # noqa: E731
        ingest_pb2.SendRequest(events=[event("squeezed")]), timeout=20, compression=grpc.Compression.Gzip
    )
    equal(refused(squeezed), grpc.StatusCode.UNIMPLEMENTED)


@check("who reads no answer")
def _():
    """Its stream is not taken further; others go on; it ends when its reader leaves."""
    many = [event(f"unread-{n}") for n in range(2000)]
    unread = stub.SendStream((ingest_pb2.SendRequest(events=many) for _ in range(200)), timeout=60)
    for n in range(50):
        equal(stub.Send(ingest_pb2.SendRequest(events=[event(f"meanwhile-{n}")]), timeout=20).accepted, 1)
    unread.cancel()
    equal(stub.Send(ingest_pb2.SendRequest(events=[event("then")]), timeout=20).accepted, 1)


@check("reflection")
def _():
    database = ProtoReflectionDescriptorDatabase(channel)
    wanted = {SERVICE, "grpc.health.v1.Health"}
    equal(wanted & set(database.get_services()), wanted)
    pool = DescriptorPool(database)
    method = pool.FindServiceByName(SERVICE).methods_by_name["Send"]
    request, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{SERVICE}/Send", request_serializer=request.SerializeToString, response_deserializer=reply.FromString
    )
    equal(call(request(events=[event("reflected")]), timeout=20).accepted, 1)
