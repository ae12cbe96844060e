"""The console tools of Apache Kafka (Java), driven as people drive them. The scenarios are those of
../python/scenarios.py, with as few starts of a Java machine as they need."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
from scenarios import DEADLINE_S, address, ca, identity, main, same, unique, until

# Started often and for short: a small heap and the quick compiler.
JAVA = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true"]
JAVA += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", os.path.join(os.environ["WEIR_TEST_CACHE"], "java", "lib", "*")]
TOOLS = "org.apache.kafka.tools."
TOPICS, PRODUCER, OFFSETS = TOOLS + "TopicCommand", TOOLS + "ConsoleProducer", TOOLS + "GetOffsetShell"
CONSUMER, GROUPS = TOOLS + "consumer.ConsoleConsumer", TOOLS + "consumer.group.ConsumerGroupCommand"
VERIFIABLE_PRODUCER = TOOLS + "VerifiableProducer"
FOLDER = tempfile.TemporaryDirectory(prefix="weir-console-")


def settings(name, lines):
    path = pathlib.Path(FOLDER.name, name)
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    return str(path)


def connection(security):
    if security == "plain":
        return {}
    lines = {"security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": ca()}
    certificate, key = identity(security)
    if certificate:
        both = pathlib.Path(FOLDER.name, "identity.pem")
        both.write_text(pathlib.Path(key).read_text() + pathlib.Path(certificate).read_text())
        lines |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(both)}
    return lines


def command(tool, *arguments, security="plain", **options):
    """The tool's command line; `options` are settings of the client inside it, with _ for the dots."""
    lines = connection(security) | {key.replace("_", "."): value for key, value in options.items()}
    line = [*JAVA, tool, "--bootstrap-server", address(security), *arguments]
    if lines:
        line += ["--command-config", settings(unique("settings"), lines)]
    return line


def run(tool, *arguments, stdin=b"", fails=False, **options):
    line = command(tool, *arguments, **options)
    done = subprocess.run(line, input=stdin, capture_output=True, timeout=2 * DEADLINE_S)
    if fails != (done.returncode != 0):
        output = (done.stdout + done.stderr).decode(errors="replace")[-3000:]
        raise AssertionError(f"{line}: exit code {done.returncode}: {output}")
    return done.stdout


def create(topic, partitions, *configs, security="plain"):
    arguments = ["--create", "--topic", topic, "--partitions", str(partitions), "--replication-factor", "1"]
    for config in configs:
        arguments += ["--config", config]
    run(TOPICS, *arguments, security=security)


def produce(topic, lines, *arguments, **options):
    run(PRODUCER, "--topic", topic, *arguments, stdin=b"".join(line + b"\n" for line in lines), **options)


def consume(topic, count, *arguments, **options):
    """So many lines; the deadline of the tool makes fewer of them an error here."""
    arguments = ["--topic", topic, "--max-messages", str(count), "--timeout-ms", str(DEADLINE_S * 1000), *arguments]
    lines = run(CONSUMER, *arguments, **options).split(b"\n")[:-1]
    same(len(lines), count, f"lines from {topic}")
    return lines


KEYED = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]
SHOW_KEY = ["--formatter-property", "print.key=true", "--formatter-property", "key.separator=:"]
SHOW_PLACE = ["--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true"]


def produce_consume(client, security="plain"):
    topic = unique("plain")
    create(topic, 3, security=security)
    lines = [b"key-%d:value-%d" % (number % 10, number) for number in range(300)]
    produce(topic, lines, *KEYED, security=security)
    found = consume(topic, 300, "--from-beginning", *SHOW_KEY, *SHOW_PLACE, security=security)
    # `Partition:0:Offset:7:key-1:value-1`
    records = [line.split(b":") for line in found]
    same(sorted(b":".join(r[4:]) for r in records), sorted(lines), "what was produced")
    for partition in (b"0", b"1", b"2"):
        offsets = [int(r[3]) for r in records if r[1] == partition]
        same(offsets, list(range(len(offsets))), f"offsets of partition {partition}")
    for key in {r[4] for r in records}:
        values = [r[5] for r in records if r[4] == key]
        same(values, [line.split(b":")[1] for line in lines if line.startswith(key + b":")], f"values of {key}")
    described = run(TOPICS, "--describe", "--topic", topic, security=security).decode()
    same(described.count("Leader: "), 3, f"partitions in {described}")


class Member:
    """A console consumer in a group."""

    def __init__(self, topic, group, name):
        line = command(CONSUMER, "--topic", topic, "--group", group, "--from-beginning", client_id=name, session_timeout_ms="10000",
                       heartbeat_interval_ms="500")
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.values = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.values.append(line.strip())

    def leave(self):
        self.process.terminate()
        self.process.wait(DEADLINE_S)


def assignments(group):
    """Partitions of each member, by the client id it gave, as the group command shows them."""
    text = run(GROUPS, "--describe", "--group", group).decode()
    # The group is there from its first member on.
    if "Exception" in text and "GroupIdNotFoundException" not in text:
        raise AssertionError(text)
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 9 and words[0] == group and words[-1] != "-":
            found.setdefault(words[-1], set()).add(int(words[2]))
    return found


def group_rebalance(client):
    topic, group = unique("group"), unique("members")
    create(topic, 4)
    first, second = Member(topic, group, "first"), Member(topic, group, "second")
    try:
        # One look costs a start of Java: the condition itself paces the loop.
        until(lambda: sorted(map(len, assignments(group).values())) == [2, 2], "two members share the partitions")
        values = {f"shared-{number}" for number in range(200)}
        produce(topic, [f"{value}:{value}".encode() for value in sorted(values)], *KEYED)
        until(lambda: values <= set(first.values) | set(second.values), "two members read everything")
        # A member may still have been reading what is the other's now, and so have been the first to see all of it.
        until(lambda: first.values and second.values, "a member with partitions reads something")
        second.leave()
        until(lambda: assignments(group) == {"first": {0, 1, 2, 3}}, "the member that stays gets all partitions back")
        values = {f"again-{number}" for number in range(50)}
        produce(topic, [f"{value}:{value}".encode() for value in sorted(values)], *KEYED)
        until(lambda: values <= set(first.values), "the member that stays reads everything")
    finally:
        first.leave()
        second.leave()


def commit_resume(client):
    topic, group = unique("commit"), unique("resume")
    create(topic, 1)
    produce(topic, [b"%d" % number for number in range(100)])
    # The console consumer commits what it has shown when it ends.
    first = consume(topic, 40, "--group", group, "--from-beginning", max_poll_records="40")
    same(first, [b"%d" % number for number in range(40)], "what the first member read")
    second = consume(topic, 60, "--group", group)
    same(second, [b"%d" % number for number in range(40, 100)], "what the second member read")
    described = run(GROUPS, "--describe", "--group", group).decode()
    row = next((line.split() for line in described.splitlines() if line.startswith(group)), [described])
    same(row[3:6], ["100", "100", "0"], f"committed offset, end and lag in {described}")
    run(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-offset", "90", "--execute")
    third = consume(topic, 10, "--group", group)
    same(third, [b"%d" % number for number in range(90, 100)], "what a member read after the reset")


def seek(client):
    topic = unique("seek")
    create(topic, 1)
    produce(topic, [b"early-%d" % number for number in range(50)])
    middle = int(time.time() * 1000) + 1
    until(lambda: time.time() * 1000 > middle, "the clock moves")
    produce(topic, [b"late-%d" % number for number in range(50)])
    found = consume(topic, 63, "--partition", "0", "--offset", "37")
    same((found[0], found[-1]), (b"early-37", b"late-49"), "values after a seek")

    def offset(time_spec):
        return run(OFFSETS, "--topic", topic, "--time", str(time_spec)).strip()

    same(offset(-1), f"{topic}:0:100".encode(), "latest offset")
    same(offset(-2), f"{topic}:0:0".encode(), "earliest offset")
    same(offset(-3).split(b":")[:2], [topic.encode(), b"0"], "offset of the largest timestamp")
    same(offset(middle), f"{topic}:0:50".encode(), "offset by time")
    group = unique("by-time")
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(middle // 1000)) + f".{middle % 1000:03}Z"
    run(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-datetime", moment, "--execute")
    same(consume(topic, 50, "--group", group)[0], b"late-0", "first value after a seek by time")


def compression(client):
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        topic = unique(f"codec-{codec}")
        values = [b"%d " % number + b"the same words again and again " * 40 for number in range(200)]
        produce(topic, values, "--compression-codec", codec)
        same(consume(topic, 200, "--from-beginning"), values, f"values through {codec}")


def headers_nulls(client):
    topic = unique("headers")
    create(topic, 1)
    arguments = [*KEYED, "--reader-property", "parse.headers=true", "--reader-property", "headers.delimiter=|"]
    arguments += ["--reader-property", "null.marker=NULL"]
    produce(topic, [b"a:1,a:2,empty:|key:value", b"NULL|NULL:no key", b"NULL|no value:NULL", b"NULL|NULL:NULL"], *arguments)
    shown = consume(topic, 4, "--from-beginning", *SHOW_KEY, "--formatter-property", "print.headers=true",
                    "--formatter-property", "null.literal=NULL")
    # Headers without values are shown as empty.
    expected = [b"a:1,a:2,empty::key:value", b"NO_HEADERS:NULL:no key", b"NO_HEADERS:no value:NULL", b"NO_HEADERS:NULL:NULL"]
    same(shown, expected, "keys, values and headers")


def large(client):
    topic = unique("large")
    create(topic, 1, f"max.message.bytes={2 << 20}")
    dice = random.Random(20)
    values = [bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz", k=1 << 20)) for _ in range(4)]
    produce(topic, values, "--max-memory-bytes", str(64 << 20), max_request_size=str(2 << 20), batch_size="1")
    if consume(topic, 4, "--from-beginning") != values:
        raise AssertionError("a record of 1 MiB came back changed")


def verifiable(client):
    """The producer of Kafka's own system tests: idempotent, and it counts what was acknowledged."""
    topic = unique("verifiable")
    create(topic, 3)
    output = run(VERIFIABLE_PRODUCER, "--topic", topic, "--max-messages", "2000", "--acks", "-1")
    events = [json.loads(line) for line in output.splitlines()]
    same(sum(event["name"] == "producer_send_success" for event in events), 2000, "acknowledged records")
    found = consume(topic, 2000, "--from-beginning")
    same(sorted(int(value) for value in found), list(range(2000)), "records")


def tls(client):
    produce_consume(client, "tls")


def mutual_tls(client):
    produce_consume(client, "mtls")
    run(TOPICS, "--list", security="no-certificate", fails=True, default_api_timeout_ms="4000", request_timeout_ms="3000")


if __name__ == "__main__":
    scenarios = [produce_consume, group_rebalance, commit_resume, seek, compression, headers_nulls, large, verifiable, tls, mutual_tls]
    main(None, scenarios, FOLDER.cleanup)
