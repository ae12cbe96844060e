"""kcat, driven as people drive it: lines in, lines out. The scenarios are those of ../python/scenarios.py.

kcat makes no topics: where a topic needs more than the broker's defaults, kafka-python makes it.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
from kafka_python import Client
from scenarios import DEADLINE_S, address, ca, identity, main, same, unique, until

KCAT = os.path.join(os.environ["WEIR_TEST_CACHE"], "bin", "kcat")


def connection(security):
    options = ["-b", address(security)]
    if security != "plain":
        options += ["-X", "security.protocol=ssl", "-X", f"ssl.ca.location={ca()}"]
        certificate, key = identity(security)
        if certificate:
            options += ["-X", f"ssl.certificate.location={certificate}", "-X", f"ssl.key.location={key}"]
    return options


def kcat(*arguments, stdin=b"", security="plain", fails=False):
    command = [KCAT, *connection(security), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=DEADLINE_S)
    if fails != (done.returncode != 0):
        raise AssertionError(f"{command}: exit code {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def produce(topic, lines, *options, security="plain"):
    kcat("-P", "-t", topic, *options, stdin=b"".join(line + b"\n" for line in lines), security=security)


def consume(topic, *options, security="plain"):
    """Everything up to the end, as JSON envelopes."""
    output = kcat("-C", "-t", topic, "-e", "-q", "-J", *options, security=security)
    return [json.loads(line) for line in output.splitlines()]


def produce_consume(client, security="plain"):
    topic = unique("plain")
    lines = [b"key-%d:value-%d" % (number % 10, number) for number in range(300)]
    produce(topic, lines, "-K:", security=security)
    found = consume(topic, security=security)
    same(sorted(f"{r['key']}:{r['payload']}".encode() for r in found), sorted(lines), "what was produced")
    for partition in {r["partition"] for r in found}:
        offsets = [r["offset"] for r in found if r["partition"] == partition]
        same(offsets, list(range(len(offsets))), f"offsets of partition {partition}")
    for key in {r["key"] for r in found}:
        mine = [r["payload"].encode() for r in found if r["key"] == key]
        same(mine, [line.split(b":")[1] for line in lines if line.startswith(key.encode() + b":")], f"values of {key}")
    listed = json.loads(kcat("-L", "-J", "-t", topic, security=security))
    same([t["topic"] for t in listed["topics"]], [topic], "topics in the metadata")


class Member:
    """One member of a group."""

    def __init__(self, topic, group, *options):
        command = [KCAT, *connection("plain"), "-G", group, "-X", "auto.offset.reset=earliest", "-u"]
        command += ["-X", "session.timeout.ms=10000", "-X", "heartbeat.interval.ms=500", "-f", "%p %o %s\\n", *options, topic]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.values = []
        self.partitions = set()
        threading.Thread(target=self.read, daemon=True).start()
        threading.Thread(target=self.watch, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.values.append(line.split()[2])

    def watch(self):
        # `% Group g rebalanced (memberid m): assigned: topic [0], topic [2]`
        for line in self.process.stderr:
            if "rebalanced" in line:
                word, _, places = line.partition("): ")[2].partition(": ")
                partitions = {int(place.split("[")[1].split("]")[0]) for place in places.split(", ") if "[" in place}
                self.partitions = partitions if word.startswith("assigned") else set()

    def leave(self):
        self.process.terminate()
        self.process.wait(DEADLINE_S)


def group_rebalance(client):
    topic, group = unique("group"), unique("members")
    total = 4
    client.create_topic(topic, total, {}, "plain")
    produce(topic, [b"first"], "-p", "0")
    members = [Member(topic, group)]
    try:
        first = members[0]
        until(lambda: first.partitions == set(range(total)), "the only member has all partitions")
        until(lambda: "first" in first.values, "the only member reads")
        members.append(Member(topic, group))
        second = members[1]
        until(
            lambda: len(first.partitions) == 2 and first.partitions | second.partitions == set(range(total)),
            "two members share the partitions",
        )
        lines = [f"shared-{number}".encode() for number in range(100)]
        for partition in range(total):
            produce(topic, lines[partition::total], "-p", str(partition))
        until(
            lambda: {line.decode() for line in lines} <= set(first.values) | set(second.values),
            "two members read everything",
        )
        second.leave()
        until(lambda: first.partitions == set(range(total)), "the member that stays gets all partitions back")
        produce(topic, [b"last"], "-p", str(total - 1))
        until(lambda: "last" in first.values, "the member that stays reads everything")
    finally:
        for member in members:
            member.leave()


def commit_resume(client):
    topic, group = unique("commit"), unique("resume")
    produce(topic, [b"%d" % number for number in range(100)], "-p", "0")
    options = ["-X", "auto.offset.reset=earliest", "-q", "-e", "-o", "stored", "-f", "%o %s\\n"]
    first = kcat("-G", group, *options, "-c", "40", topic).splitlines()
    same(first, [b"%d %d" % (number, number) for number in range(40)], "what the first member read")
    second = kcat("-G", group, *options, topic).splitlines()
    same(second, [b"%d %d" % (number, number) for number in range(40, 100)], "what the second member read")
    produce(topic, [b"100", b"101"], "-p", "0")
    third = kcat("-G", group, *options, topic).splitlines()
    same(third, [b"100 100", b"101 101"], "what the third member read")


def seek(client):
    topic = unique("seek")
    produce(topic, [b"early-%d" % number for number in range(50)], "-p", "0")
    stamps = [r["ts"] for r in consume(topic, "-p", "0")]
    # The next records are later than the first ones by the clock that stamps them.
    until(lambda: time.time() * 1000 > stamps[-1] + 5, "the clock moves")
    produce(topic, [b"late-%d" % number for number in range(50)], "-p", "0")
    found = consume(topic, "-p", "0", "-o", "37")
    same([r["offset"] for r in found], list(range(37, 100)), "offsets after a seek")
    same(found[0]["payload"], "early-37", "value after a seek")
    same([r["offset"] for r in consume(topic, "-p", "0", "-o", "-3")], [97, 98, 99], "the last three")
    same(consume(topic, "-p", "0", "-o", "end"), [], "nothing after the end")
    found = consume(topic, "-p", "0", "-o", f"s@{stamps[-1] + 1}")
    same([r["payload"] for r in found], [f"late-{number}" for number in range(50)], "values after a seek by time")
    asked = kcat("-Q", "-t", f"{topic}:0:{stamps[-1] + 1}")
    same(asked.split()[-1], b"50", f"offset by time, in {asked}")


def compression(client):
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        topic = unique(f"codec-{codec}")
        values = [b"%d " % number + b"the same words again and again " * 40 for number in range(200)]
        produce(topic, values, "-z", codec, "-p", "0")
        same([r["payload"].encode() for r in consume(topic, "-p", "0")], values, f"values through {codec}")


def headers_nulls(client):
    topic = unique("headers")
    produce(topic, [b"value"], "-p", "0", "-H", "a=1", "-H", "a=2", "-H", "empty=")
    produce(topic, [b"key:"], "-p", "0", "-K:", "-Z")
    produce(topic, [b"only value"], "-p", "0")
    found = [(r["key"], r["payload"], r.get("headers", [])) for r in consume(topic, "-p", "0")]
    expected = [(None, "value", ["a", "1", "a", "2", "empty", ""]), ("key", None, []), (None, "only value", [])]
    same(found, expected, "keys, values and headers")


def large(client):
    topic = unique("large")
    client.create_topic(topic, 1, {"max.message.bytes": str(2 << 20)}, "plain")
    values = [bytes([65 + number]) * (1 << 20) for number in range(4)]
    produce(topic, values, "-p", "0", "-X", "message.max.bytes=2097152")
    found = [r["payload"].encode() for r in consume(topic, "-p", "0")]
    same([len(value) for value in found], [len(value) for value in values], "sizes of large records")
    if found != values:
        raise AssertionError("a large record came back changed")


def tls(client):
    produce_consume(client, "tls")


def mutual_tls(client):
    produce_consume(client, "mtls")
    kcat("-L", "-m", "3", security="no-certificate", fails=True)


if __name__ == "__main__":
    main(Client(), [produce_consume, group_rebalance, commit_resume, seek, compression, headers_nulls, large, tls, mutual_tls])
