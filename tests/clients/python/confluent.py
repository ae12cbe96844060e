"""confluent-kafka (librdkafka)."""

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer as LibraryConsumer, KafkaException
from confluent_kafka import Producer as LibraryProducer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from scenarios import DEADLINE_S, Record, address, ca, identity, main


def connection(security):
    options = {"bootstrap.servers": address(security)}
    if security != "plain":
        options |= {"security.protocol": "SSL", "ssl.ca.location": ca()}
        certificate, key = identity(security)
        if certificate:
            options |= {"ssl.certificate.location": certificate, "ssl.key.location": key}
    return options


class Producer:
    def __init__(self, security="plain", codec=None, acks=-1, request_bytes_max=1 << 20, patience_s=DEADLINE_S):
        options = {
            "acks": acks,
            "enable.idempotence": acks == -1,
            "message.max.bytes": request_bytes_max,
            "message.timeout.ms": patience_s * 1000,
            "compression.type": codec or "none",
            "linger.ms": 5,
            "reconnect.backoff.ms": 1000,
        }
        self.producer = LibraryProducer(connection(security) | options)
        self.places = []
        self.failures = []

    def delivered(self, error, message, index):
        if error:
            self.failures.append(KafkaException(error))
        else:
            self.places[index] = (message.partition(), message.offset())

    def send(self, topic, value, key=None, headers=(), partition=None, timestamp_ms=None):
        index = len(self.places)
        self.places.append(None)
        options = {} if partition is None else {"partition": partition}
        if timestamp_ms is not None:
            options["timestamp"] = timestamp_ms
        callback = lambda error, message: self.delivered(error, message, index)
        self.producer.produce(topic, value, key, on_delivery=callback, headers=list(headers), **options)

    def flush(self):
        left = self.producer.flush(DEADLINE_S)
        if self.failures:
            raise self.failures[0]
        if left:
            raise AssertionError(f"{left} records were not delivered")
        places, self.places = self.places, []
        return places

    def close(self):
        self.producer.flush(DEADLINE_S)


class Consumer:
    def __init__(self, topic, group=None, security="plain", fetch_bytes_max=1 << 20):
        self.topic = topic
        options = {
            "group.id": group or "none",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "max.partition.fetch.bytes": fetch_bytes_max,
            "heartbeat.interval.ms": 500,
            "session.timeout.ms": 10_000,
            "fetch.wait.max.ms": 100,
        }
        self.consumer = LibraryConsumer(connection(security) | options)
        if group:
            self.consumer.subscribe([topic])
        else:
            partitions = self.consumer.list_topics(topic, timeout=DEADLINE_S).topics[topic].partitions
            self.consumer.assign([self.place(number, OFFSET_BEGINNING) for number in sorted(partitions)])

    def place(self, partition, *offset):
        return TopicPartition(self.topic, partition, *offset)

    def poll(self, seconds):
        records = []
        for message in self.consumer.consume(500, seconds):
            if message.error():
                raise KafkaException(message.error())
            headers = message.headers() or []
            records.append(
                Record(message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(), headers)
            )
        return records

    def assigned(self):
        return {place.partition for place in self.consumer.assignment()}

    def commit(self, offsets):
        self.consumer.commit(offsets=[self.place(p, offset) for p, offset in offsets.items()], asynchronous=False)

    def committed(self, partition):
        return self.consumer.committed([self.place(partition)], timeout=DEADLINE_S)[0].offset

    def seek(self, partition, offset):
        self.consumer.seek(self.place(partition, offset))

    def everywhere(self, offset):
        for place in self.consumer.assignment():
            self.consumer.seek(self.place(place.partition, offset))

    def seek_to_beginning(self):
        self.everywhere(OFFSET_BEGINNING)

    def seek_to_end(self):
        self.everywhere(OFFSET_END)

    def position(self, partition):
        # The library knows a position only after a record; the end is asked for.
        return self.consumer.get_watermark_offsets(self.place(partition), timeout=DEADLINE_S)[1]

    def offset_for_time(self, partition, timestamp_ms):
        found = self.consumer.offsets_for_times([self.place(partition, timestamp_ms)], timeout=DEADLINE_S)[0]
        return found.offset if found.offset >= 0 else None

    def close(self):
        self.consumer.close()


class Client:
    codecs = ["gzip", "snappy", "lz4", "zstd"]
    null_header = True
    null_record = True
    producer = Producer
    consumer = Consumer

    def create_topic(self, name, partitions, configs, security):
        admin = AdminClient(connection(security))
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=configs)
        admin.create_topics([topic])[name].result(DEADLINE_S)


if __name__ == "__main__":
    main(Client())
