#!/usr/bin/env python3
"""Write the corpus that fuzzing starts from: seeds.py        needs kafka-python 3.0.12, lz4, python-snappy, zstandard

`frame` starts from the wire vectors (crates/wire/tests/vectors.txt): of every API the oldest and the newest version that
we have, both directions. `batch` starts from record batches of kafka-python, one of each codec and some special ones.
"""

import pathlib
import re
import struct

from kafka.record.default_records import DefaultRecordBatchBuilder

HERE = pathlib.Path(__file__).resolve().parent
WIRE = HERE.parent.parent / "crates/wire"


def tables():
    """Key, name, versions and first flexible version of every API that has a table."""
    keys = dict(re.findall(r"^    (\w+) = (\d+),$", (WIRE / "src/api.rs").read_text(), re.M))
    for path in (WIRE / "src/messages").glob("*.rs"):
        found = re.search(r'^    (\w+), "(\d+)(?:-(\d+))?"(?:, flexible "(\d+)\+")?;$', path.read_text(), re.M)
        if found:
            name, low, high, flexible = found.groups()
            yield int(keys[name]), path.stem, int(low), int(high or low), int(flexible) if flexible else 1 << 15


def frames(folder):
    vectors = {}
    for line in (WIRE / "tests/vectors.txt").read_text().splitlines():
        key, direction, version, mode, body = line.split(" ")
        vectors[int(key), direction, int(version), mode] = bytes.fromhex(body)
    for key, name, low, high, flexible in tables():
        for version in {low, high}:
            tags = b"\0" if version >= flexible else b""
            header = b"\0" + struct.pack(">hhih", key, version, 7, 4) + b"weir" + tags
            (folder / f"{name}-request-v{version}").write_bytes(header + vectors[key, "req", version, "fill"])
            header = b"\1" + struct.pack(">hhi", key, version, 7) + (b"" if name == "api_versions" else tags)
            (folder / f"{name}-response-v{version}").write_bytes(header + vectors[key, "resp", version, "fill"])


def batch(codec, count=3, producer=(-1, -1, -1), transactional=False):
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=transactional,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=producer[2],
        batch_size=1 << 20,
    )
    for n in range(count):
        headers = [("name", b"value"), ("name", None)][:n]
        builder.append(n, timestamp=1_700_000_000_000 + n, key=b"k%d" % n if n else None, value=b"value " * 20, headers=headers)
    return bytes(builder.build())


def batches(folder):
    for number, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
        (folder / codec).write_bytes(batch(number))
    (folder / "idempotent").write_bytes(batch(0, producer=(4000, 2, 17)))
    (folder / "transactional").write_bytes(batch(0, producer=(4000, 2, 17), transactional=True))
    (folder / "run").write_bytes(batch(0, count=1) + batch(1, count=2) + batch(0)[:40])


if __name__ == "__main__":
    for name, write in (("frame", frames), ("batch", batches)):
        folder = HERE / "corpus" / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        print(len(list(folder.iterdir())), "seeds of", name)
