"""aiokafka: produce and consume, a group, and transactions."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from check import check, equal, name

BOOTSTRAP = sys.argv[1]


async def create(topic, partitions=1):
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])
    await admin.close()


async def consume(reader, count, seconds=30):
    seen = []
    deadline = asyncio.get_running_loop().time() + seconds
    while len(seen) < count and asyncio.get_running_loop().time() < deadline:
        for records in (await reader.getmany(timeout_ms=200)).values():
            seen.extend(record.value.decode() for record in records)
    return seen


def consumer(*topics, **config):
    return AIOKafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", **config)


@check("aiokafka.produce_and_consume")
def _():
    async def run():
        topic, sent = name("aio"), []
        await create(topic, 2)
        for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
            producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type=codec, enable_idempotence=True)
            await producer.start()
            for number in range(100):
                await producer.send(topic, f"{codec} {number}".encode())
                sent.append(f"{codec} {number}")
            await producer.stop()
        reader = consumer(topic, group_id=name("aio"))
        await reader.start()
        equal(sorted(await consume(reader, len(sent))), sorted(sent))
        await reader.commit()
        await reader.stop()
        again = consumer(topic, group_id=name("aio"))
        await again.start()
        equal(await consume(again, 1, 2), [])
        await again.stop()

    asyncio.run(run())


@check("aiokafka.transactions")
def _():
    async def run():
        topic = name("aio-transactions")
        await create(topic)
        producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=name("aio"))
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed")
        try:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"aborted")
                raise RuntimeError("changed its mind")
        except RuntimeError:
            pass
        async with producer.transaction():
            await producer.send_and_wait(topic, b"after")
        await producer.stop()
        reader = consumer(topic, isolation_level="read_committed")
        await reader.start()
        equal(await consume(reader, 3, 3), ["committed", "after"])
        equal(await reader.end_offsets([TopicPartition(topic, 0)]) != {}, True)
        await reader.stop()

    asyncio.run(run())
