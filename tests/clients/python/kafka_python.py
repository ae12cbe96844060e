"""kafka-python."""

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from scenarios import DEADLINE_S, Record, address, ca, identity, main


def connection(security):
    options = {"bootstrap_servers": address(security)}
    if security != "plain":
        certificate, key = identity(security)
        options |= {"security_protocol": "SSL", "ssl_cafile": ca(), "ssl_certfile": certificate, "ssl_keyfile": key}
    return options


class Producer:
    def __init__(self, security="plain", codec=None, acks=-1, request_bytes_max=1 << 20, patience_s=DEADLINE_S):
        self.producer = KafkaProducer(
            **connection(security),
            acks=acks,
            enable_idempotence=acks == -1,
            compression_type=codec,
            max_request_size=request_bytes_max,
            bootstrap_timeout_ms=patience_s * 1000,
            max_block_ms=patience_s * 1000,
            request_timeout_ms=patience_s * 1000,
            delivery_timeout_ms=patience_s * 1000 + 100,
            linger_ms=5,
        )
        self.futures = []

    def send(self, topic, value, key=None, headers=(), partition=None, timestamp_ms=None):
        self.futures.append(
            self.producer.send(topic, value, key=key, headers=list(headers), partition=partition, timestamp_ms=timestamp_ms)
        )

    def flush(self):
        self.producer.flush(timeout=DEADLINE_S)
        places = [(sent.partition, sent.offset) for sent in (future.get(timeout=DEADLINE_S) for future in self.futures)]
        self.futures = []
        return places

    def close(self):
        self.producer.close(timeout=DEADLINE_S)


class Consumer:
    def __init__(self, topic, group=None, security="plain", fetch_bytes_max=1 << 20):
        self.topic = topic
        self.consumer = KafkaConsumer(
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
            self.consumer.subscribe([topic])
        else:
            self.consumer.assign([self.place(number) for number in sorted(self.consumer.partitions_for_topic(topic))])

    def place(self, partition):
        return TopicPartition(self.topic, partition)

    def poll(self, seconds):
        return [
            Record(r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
            for records in self.consumer.poll(timeout_ms=int(seconds * 1000)).values()
            for r in records
        ]

    def assigned(self):
        return {place.partition for place in self.consumer.assignment()}

    def commit(self, offsets):
        self.consumer.commit({self.place(p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()})

    def committed(self, partition):
        return self.consumer.committed(self.place(partition))

    def seek(self, partition, offset):
        self.consumer.seek(self.place(partition), offset)

    def seek_to_beginning(self):
        self.consumer.seek_to_beginning()

    def seek_to_end(self):
        self.consumer.seek_to_end()

    def position(self, partition):
        return self.consumer.position(self.place(partition))

    def offset_for_time(self, partition, timestamp_ms):
        found = self.consumer.offsets_for_times({self.place(partition): timestamp_ms})[self.place(partition)]
        return found.offset if found else None

    def close(self):
        self.consumer.close(autocommit=False)


class Client:
    codecs = ["gzip", "snappy", "lz4", "zstd"]
    null_header = False
    null_record = False
    producer = Producer
    consumer = Consumer

    def create_topic(self, name, partitions, configs, security):
        admin = KafkaAdminClient(**connection(security))
        admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}})
        admin.close()


if __name__ == "__main__":
    main(Client())
