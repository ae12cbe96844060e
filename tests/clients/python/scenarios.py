"""What every client must be able to do against a broker, written once over a small adapter of each Python client.

`PROGRAM SCENARIO…` runs the named scenarios (all of them without a name). The broker comes from the environment:
WEIR_TEST_BOOTSTRAP (plain), WEIR_TEST_TLS, WEIR_TEST_MTLS, WEIR_TEST_CA, WEIR_TEST_CERT, WEIR_TEST_KEY. It may be any
broker that speaks the protocol: the scenarios themselves are checked against Apache Kafka.

An adapter is a class with:
  codecs                      the compression codecs that the client can send and read
  null_header, null_record    whether the client can send a header without a value; a record with neither key nor value
  create_topic(name, partitions, configs, security)
  producer(security, codec, acks, request_bytes_max, patience_s) with
      send(topic, value, key, headers, partition, timestamp_ms), flush() -> [(partition, offset)], close()
  consumer(topic, group, security, fetch_bytes_max) with poll(seconds) -> [Record], close() and, for members of a
      group, assigned() -> {partition}, commit({partition: offset}), committed(partition); without a group, for all
      partitions of the topic, seek(partition, offset), seek_to_beginning(), seek_to_end(), position(partition),
      offset_for_time(partition, timestamp_ms)
"""

import dataclasses
import os
import random
import sys
import threading
import time
import traceback
import uuid

DEADLINE_S = 40


@dataclasses.dataclass
class Record:
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list


def address(security):
    return os.environ[{"plain": "WEIR_TEST_BOOTSTRAP", "tls": "WEIR_TEST_TLS", "mtls": "WEIR_TEST_MTLS", "no-certificate": "WEIR_TEST_MTLS"}[security]]


def ca():
    return os.environ["WEIR_TEST_CA"]


def identity(security):
    """The client's certificate and key, where this kind of connection has them."""
    return (os.environ["WEIR_TEST_CERT"], os.environ["WEIR_TEST_KEY"]) if security == "mtls" else (None, None)


def unique(name):
    return f"{name}-{uuid.uuid4().hex[:12]}"


def same(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: found {str(found)[:2000]}, expected {str(expected)[:2000]}")


def read(consumer, count, what):
    """Exactly so many records; one that is too many fails."""
    records = []
    end = time.monotonic() + DEADLINE_S
    while len(records) < count:
        if time.monotonic() > end:
            raise AssertionError(f"{what}: {len(records)} of {count} records after {DEADLINE_S} s")
        records += consumer.poll(0.5)
    same(len(records), count, f"{what}: number of records")
    return records


def until(condition, what):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not so after {DEADLINE_S} s: {what}")
        time.sleep(0.02)


def produce_consume(client, security="plain"):
    topic = unique("plain")
    client.create_topic(topic, 3, {}, security)
    producer = client.producer(security=security)
    sent = {}
    for number in range(300):
        key = b"key-%d" % (number % 10)
        producer.send(topic, b"value-%d" % number, key=key)
        sent.setdefault(key, []).append(b"value-%d" % number)
    places = producer.flush()
    producer.close()
    for partition in range(3):
        offsets = [offset for found, offset in places if found == partition]
        same(sorted(offsets), list(range(len(offsets))), f"offsets of partition {partition}")
    consumer = client.consumer(topic, security=security)
    records = read(consumer, 300, "what was produced")
    consumer.close()
    same(sorted((r.partition, r.offset) for r in records), sorted(places), "places of the records")
    for key, values in sent.items():
        mine = [r for r in records if r.key == key]
        same(len({r.partition for r in mine}), 1, f"partitions of {key}")
        same([r.value for r in sorted(mine, key=lambda r: r.offset)], values, f"values of {key}")
        same([r.value for r in mine], values, f"order in which {key} is read")


def acks(client):
    topic = unique("acks")
    client.create_topic(topic, 1, {}, "plain")
    for level in (0, 1, -1):
        producer = client.producer(acks=level)
        for number in range(10):
            producer.send(topic, b"%d/%d" % (level, number))
        producer.flush()
        producer.close()
    consumer = client.consumer(topic)
    values = sorted(r.value for r in read(consumer, 30, "three levels of acknowledgement"))
    consumer.close()
    same(values, sorted(b"%d/%d" % (level, number) for level in (0, 1, -1) for number in range(10)), "values")


class Member:
    """A member of a group, polled in its own thread as an application would."""

    def __init__(self, client, topic, group):
        self.consumer = client.consumer(topic, group=group)
        self.values = []
        self.partitions = set()
        self.failure = None
        self.leaving = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while not self.leaving.is_set():
                records = self.consumer.poll(0.2)
                self.values += [r.value for r in records]
                self.partitions = self.consumer.assigned()
            self.consumer.close()
        except BaseException as failure:  # Shown by whoever waits.
            self.failure = failure

    def leave(self):
        self.leaving.set()
        self.thread.join(DEADLINE_S)
        if self.thread.is_alive():
            raise AssertionError("the member did not leave")
        if self.failure:
            raise self.failure


def group_rebalance(client):
    topic, group = unique("group"), unique("members")
    client.create_topic(topic, 4, {}, "plain")

    def produce(word):
        producer = client.producer()
        values = {b"%s-%d" % (word, number) for number in range(100)}
        for number, value in enumerate(sorted(values)):
            producer.send(topic, value, partition=number % 4)
        producer.flush()
        producer.close()
        return values

    def healthy(*members):
        for member in members:
            if member.failure:
                raise member.failure
        return True

    first = Member(client, topic, group)
    until(lambda: healthy(first) and first.partitions == {0, 1, 2, 3}, "the only member has all partitions")
    alone = produce(b"alone")
    until(lambda: healthy(first) and alone <= set(first.values), "the only member reads everything")
    second = Member(client, topic, group)
    until(
        lambda: healthy(first, second) and len(first.partitions) == 2 and first.partitions | second.partitions == {0, 1, 2, 3},
        "two members share the partitions",
    )
    shared = produce(b"shared")
    until(lambda: healthy(first, second) and shared <= set(first.values) | set(second.values), "two members read everything")
    # A member may still have been reading what is the other's now, and so have been the first to see all of it.
    for member in (first, second):
        until(lambda: healthy(member) and shared & set(member.values), "a member with partitions reads something")
    second.leave()
    until(lambda: healthy(first) and first.partitions == {0, 1, 2, 3}, "the member that stays gets all partitions back")
    again = produce(b"again")
    until(lambda: healthy(first) and again <= set(first.values), "the member that stays reads everything")
    first.leave()


def commit_resume(client):
    topic, group = unique("commit"), unique("resume")
    client.create_topic(topic, 1, {}, "plain")
    producer = client.producer()
    for number in range(100):
        producer.send(topic, b"%d" % number)
    producer.flush()
    first = client.consumer(topic, group=group)
    seen = read_some(first, 40)
    same(seen[0].offset, 0, "first offset of a new group")
    first.commit({0: 40})
    same(first.committed(0), 40, "committed offset")
    first.close()
    second = client.consumer(topic, group=group)
    rest = read(second, 60, "after the committed offset")
    same([r.offset for r in rest], list(range(40, 100)), "offsets after the committed one")
    second.commit({0: 100})
    second.close()
    for number in range(100, 105):
        producer.send(topic, b"%d" % number)
    producer.flush()
    producer.close()
    third = client.consumer(topic, group=group)
    same([r.offset for r in read(third, 5, "after the end")], list(range(100, 105)), "offsets after the second commit")
    third.close()
    other = client.consumer(topic, group=unique("other"))
    same(read_some(other, 1)[0].offset, 0, "first offset of another group")
    other.close()


def read_some(consumer, count):
    """At least so many records."""
    records = []
    end = time.monotonic() + DEADLINE_S
    while len(records) < count:
        if time.monotonic() > end:
            raise AssertionError(f"{len(records)} of {count} records after {DEADLINE_S} s")
        records += consumer.poll(0.5)
    return records


def seek(client):
    topic = unique("seek")
    client.create_topic(topic, 1, {}, "plain")
    base = int(time.time() * 1000) - 600_000
    producer = client.producer()
    for number in range(100):
        producer.send(topic, b"%d" % number, partition=0, timestamp_ms=base + number * 1000)
        if number % 7 == 0:
            producer.flush()
    producer.flush()
    producer.close()
    consumer = client.consumer(topic)
    same(read_some(consumer, 1)[0].offset, 0, "first offset")

    def after(what):
        record = read_some(consumer, 1)[0]
        same(record.value, b"%d" % record.offset, what)
        same(record.timestamp_ms, base + record.offset * 1000, f"timestamp, {what}")
        return record.offset

    consumer.seek(0, 37)
    same(after("after a seek"), 37, "offset after a seek")
    consumer.seek_to_beginning()
    same(after("from the beginning"), 0, "offset at the beginning")
    consumer.seek_to_end()
    same(consumer.position(0), 100, "position at the end")
    same(consumer.offset_for_time(0, base), 0, "offset at the first timestamp")
    same(consumer.offset_for_time(0, base + 50_000), 50, "offset at a record's timestamp")
    same(consumer.offset_for_time(0, base + 50_500), 51, "offset between two timestamps")
    same(consumer.offset_for_time(0, base + 99_001), None, "offset after the last timestamp")
    consumer.seek(0, consumer.offset_for_time(0, base + 50_500))
    same(after("after a seek by time"), 51, "offset after a seek by time")
    consumer.close()


def compression(client):
    for codec in client.codecs:
        topic = unique(f"codec-{codec}")
        client.create_topic(topic, 1, {}, "plain")
        producer = client.producer(codec=codec)
        values = [b"%d " % number + b"the same words again and again " * 40 for number in range(200)]
        for value in values:
            producer.send(topic, value)
        producer.flush()
        producer.close()
        consumer = client.consumer(topic)
        same([r.value for r in read(consumer, 200, codec)], values, f"values through {codec}")
        consumer.close()


def headers_nulls(client):
    topic = unique("headers")
    client.create_topic(topic, 1, {}, "plain")
    many = [("a", b"1"), ("a", b"2"), ("empty", b""), ("ü", "größe".encode())]
    if client.null_header:
        many.append(("null", None))
    sent = [
        (None, b"no key", []),
        (b"no value", None, []),
        (b"", b"", []),
        (b"with headers", b"value", many),
        (b"\x00\xff", bytes(range(256)), [("bytes", bytes(range(256)))]),
    ]
    if client.null_record:
        sent.append((None, None, []))
    producer = client.producer()
    for key, value, headers in sent:
        producer.send(topic, value, key=key, headers=headers, partition=0)
    producer.flush()
    producer.close()
    consumer = client.consumer(topic)
    found = [(r.key, r.value, list(r.headers)) for r in read(consumer, len(sent), "headers and nulls")]
    consumer.close()
    same(found, sent, "keys, values and headers")


def large(client):
    topic = unique("large")
    client.create_topic(topic, 1, {"max.message.bytes": str(2 << 20)}, "plain")
    dice = random.Random(20)
    values = [dice.randbytes(1 << 20) for _ in range(6)]
    producer = client.producer(request_bytes_max=2 << 20)
    for value in values:
        producer.send(topic, value)
    producer.flush()
    producer.close()
    consumer = client.consumer(topic, fetch_bytes_max=2 << 20)
    found = [r.value for r in read(consumer, len(values), "records of 1 MiB")]
    consumer.close()
    if found != values:
        raise AssertionError("a record of 1 MiB came back changed")


def tls(client):
    produce_consume(client, "tls")


def mutual_tls(client):
    produce_consume(client, "mtls")
    try:
        producer = client.producer(security="no-certificate", patience_s=3)
        try:
            producer.send(unique("refused"), b"value")
            producer.flush()
        finally:
            producer.close()
    except Exception as refusal:
        print(f"  without a certificate: {type(refusal).__name__}: {str(refusal)[:200]}")
    else:
        raise AssertionError("a client without a certificate was served")


SCENARIOS = [produce_consume, acks, group_rebalance, commit_resume, seek, compression, headers_nulls, large, tls, mutual_tls]


def main(client, scenarios=SCENARIOS, finish=lambda: None):
    by_name = {scenario.__name__: scenario for scenario in scenarios}
    names = sys.argv[1:] or list(by_name)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        sys.exit(f"unknown scenarios {unknown}; there are {list(by_name)}")
    failed = []
    for name in names:
        started = time.monotonic()
        try:
            by_name[name](client)
        except BaseException:
            traceback.print_exc()
            failed.append(name)
        print(f"{'FAILED' if name in failed else 'ok'} {name} {time.monotonic() - started:.1f} s", flush=True)
    finish()
    # Without waiting for threads that a failed scenario left behind.
    sys.stderr.flush()
    os._exit(1 if failed else 0)
