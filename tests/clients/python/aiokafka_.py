"""aiokafka."""

import asyncio
import ssl
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from scenarios import DEADLINE_S, Record, address, ca, identity, main

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wait(work, seconds=DEADLINE_S):
    """Runs a coroutine in the one event loop."""
    return asyncio.run_coroutine_threadsafe(work, LOOP).result(seconds)


def connection(security):
    options = {"bootstrap_servers": address(security)}
    if security != "plain":
        context = ssl.create_default_context(cafile=ca())
        certificate, key = identity(security)
        if certificate:
            context.load_cert_chain(certificate, key)
        options |= {"security_protocol": "SSL", "ssl_context": context}
    return options


class Producer:
    def __init__(self, security="plain", codec=None, acks=-1, request_bytes_max=1 << 20, patience_s=DEADLINE_S):
        async def start():
            producer = AIOKafkaProducer(
                **connection(security),
                acks=acks,
                enable_idempotence=acks == -1,
                compression_type=codec,
                max_request_size=request_bytes_max,
                max_batch_size=min(request_bytes_max, 1 << 20) if request_bytes_max > 1 << 20 else 16384,
                request_timeout_ms=patience_s * 1000,
                linger_ms=5,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            return producer

        self.producer = wait(start(), patience_s + 5)
        self.futures = []

    def send(self, topic, value, key=None, headers=(), partition=None, timestamp_ms=None):
        sending = self.producer.send(
            topic, value, key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers)
        )
        self.futures.append(wait(sending))

    def flush(self):
        async def all_sent():
            return [await future for future in self.futures]

        sent = wait(all_sent())
        self.futures = []
        return [(place.partition, place.offset) for place in sent if place]

    def close(self):
        wait(self.producer.stop())


class Consumer:
    def __init__(self, topic, group=None, security="plain", fetch_bytes_max=1 << 20):
        self.topic = topic
        self.group = group

        async def start():
            consumer = AIOKafkaConsumer(
                **connection(security),
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                max_partition_fetch_bytes=fetch_bytes_max,
                heartbeat_interval_ms=500,
                session_timeout_ms=10_000,
                max_poll_interval_ms=20_000,
            )
            if group:
                consumer.subscribe([topic])
            await consumer.start()
            if not group:
                while not (partitions := consumer.partitions_for_topic(topic)):
                    await consumer._client.add_topic(topic)
                    await consumer._client.force_metadata_update()
                consumer.assign([self.place(number) for number in sorted(partitions)])
            return consumer

        self.consumer = wait(start())

    def place(self, partition):
        return TopicPartition(self.topic, partition)

    def poll(self, seconds):
        found = wait(self.consumer.getmany(timeout_ms=int(seconds * 1000)))
        return [
            Record(r.partition, r.offset, r.timestamp, r.key, r.value, list(r.headers))
            for records in found.values()
            for r in records
        ]

    def assigned(self):
        return {place.partition for place in self.consumer.assignment()}

    def commit(self, offsets):
        wait(self.consumer.commit({self.place(p): offset for p, offset in offsets.items()}))

    def committed(self, partition):
        return wait(self.consumer.committed(self.place(partition)))

    def seek(self, partition, offset):
        self.consumer.seek(self.place(partition), offset)

    def seek_to_beginning(self):
        wait(self.consumer.seek_to_beginning())

    def seek_to_end(self):
        wait(self.consumer.seek_to_end())

    def position(self, partition):
        return wait(self.consumer.position(self.place(partition)))

    def offset_for_time(self, partition, timestamp_ms):
        found = wait(self.consumer.offsets_for_times({self.place(partition): timestamp_ms}))[self.place(partition)]
        return found.offset if found else None

    def close(self):
        wait(self.consumer.stop())


class Client:
    codecs = ["gzip", "snappy", "lz4", "zstd"]
    null_header = True
    null_record = False
    producer = Producer
    consumer = Consumer

    def create_topic(self, name, partitions, configs, security):
        async def create():
            admin = AIOKafkaAdminClient(**connection(security))
            await admin.start()
            try:
                await admin.create_topics(
                    [NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=configs)]
                )
            finally:
                await admin.close()

        wait(create())


if __name__ == "__main__":
    main(Client())
