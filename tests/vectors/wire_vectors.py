#!/usr/bin/env python3
"""Write wire vectors made by a codec that shares nothing with ours: kafka-python's.

    wire_vectors.py OUT [KEY …]        needs kafka-python 3.0.12

A line is one vector: KEY req|resp VERSION fill|null HEX. In a `fill` vector every field that the version has is set,
each to a value of its own, so that two swapped fields show; in a `null` vector all that may be null is null.
With keys given, only their APIs are written. The file in crates/wire/tests is made by running this with the keys that
the crate has tables for: `wire_vectors.py crates/wire/tests/vectors.txt 0 1 2 3 8 9 …`.
"""

import importlib
import inspect
import pkgutil
import sys
import uuid
import warnings

import kafka.protocol
from kafka.protocol.api_message import ApiMessage

warnings.filterwarnings("ignore")

MODES = ("fill", "null")


def messages():
    """All request and response classes by key and direction."""
    found = {}
    for module in pkgutil.walk_packages(kafka.protocol.__path__, "kafka.protocol."):
        if ".old" in module.name or "generate" in module.name:
            continue
        try:
            loaded = importlib.import_module(module.name)
        except ImportError:
            continue
        for name, cls in inspect.getmembers(loaded, inspect.isclass):
            if not issubclass(cls, ApiMessage) or cls is ApiMessage:
                continue
            if name.endswith("Request"):
                found[cls.API_KEY, "req"] = cls
            elif name.endswith("Response"):
                found[cls.API_KEY, "resp"] = cls
    return found


class Values:
    """Values for the fields of messages, no two alike where the type has room."""

    def __init__(self):
        self.last = 0

    def plain(self, kind):
        self.last += 1
        n = self.last
        return {
            "bool": True,
            "int8": n % 100,
            "int16": n % 30000,
            "uint16": n % 60000,
            "int32": n * 7,
            "uint32": n * 7,
            "int64": n * 100003,
            "float64": n + 0.5,
            "string": f"s{n}",
            "bytes": b"b%d" % n,
            "records": b"b%d" % n,
            "uuid": uuid.UUID(int=n + (1 << 100)),
            "bitfield": {1, 3, 5},
        }[kind]

    def field(self, field, version, mode, owner):
        if mode == "null" and field.nullable_for_version_q(version):
            return None
        kind = getattr(field, "_type_str", None) or field.type_str
        if field.is_struct_array():
            return [self.struct(field, version, mode, owner) for _ in range(2)]
        if field.is_struct():
            return self.struct(field, version, mode, owner)
        if field.is_array():
            return [self.plain(kind.removeprefix("[]")) for _ in range(2)]
        return self.plain(kind)

    def struct(self, field, version, mode, owner):
        cls = getattr(owner, field.type_str.replace("[]", ""))
        return cls(version=version, **self.fields(cls, version, mode))

    def fields(self, cls, version, mode):
        present = (field for field in cls._struct._fields if field.for_version_q(version))
        return {field.name: self.field(field, version, mode, cls) for field in present}


def main(path, keys):
    values, written, refused = Values(), 0, []
    with open(path, "w") as out:
        for (key, direction), cls in sorted(messages().items()):
            if keys and key not in keys:
                continue
            for version in range(cls.max_version + 1):
                for mode in MODES:
                    try:
                        body = cls(version=version, **values.fields(cls, version, mode)).encode(version=version)
                    except Exception as error:
                        refused.append(f"{key} {direction} {version} {mode}: {error!r}")
                        continue
                    print(key, direction, version, mode, bytes(body).hex(), file=out)
                    written += 1
    print(written, "vectors")
    for line in refused:
        print("kafka-python cannot make", line)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], {int(key) for key in sys.argv[2:]})
