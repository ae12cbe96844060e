"""Makes vectors.hex: record batches written by kafka-python, an implementation that shares no code with ours.

    pip install kafka-python==3.0.12 lz4 zstandard python-snappy
    python make_vectors.py > vectors.hex

Each line: a name, then the batch in hex. The records are those of `expected` in vectors.rs.
"""
import io
import struct

import snappy
import zstandard
import lz4.frame
from kafka.record.default_records import DefaultRecordBatchBuilder

BASE = 1_700_000_000_000


def records():
    yield BASE, b"key", b"value", []
    yield BASE + 5, None, b"only a value", []
    yield BASE - 1_000, b"tombstone", None, []
    yield BASE + 10_000_000_000, b"", b"", [("name", b"one"), ("name", b"two"), ("nothing", None), ("", b"")]
    yield BASE, "schlüssel".encode(), b"0123456789" * 200, [("übung", bytes(range(256)))]
    yield BASE, None, None, []


def batch(codec, producer=(-1, -1, -1), transactional=False):
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=transactional,
        producer_id=producer[0], producer_epoch=producer[1], base_sequence=producer[2], batch_size=1 << 20)
    for offset, (timestamp, key, value, headers) in enumerate(records()):
        builder.append(offset, timestamp, key, value, headers)
    return bytes(builder.build())


def plain():
    return batch(0)[61:]


def with_body(codec, body):
    """A batch with this compressed body: for variants of a codec that kafka-python itself does not write."""
    header = bytearray(batch(0)[:61])
    struct.pack_into(">i", header, 8, 49 + len(body))
    struct.pack_into(">h", header, 21, codec)
    from kafka.record.util import calc_crc32c
    struct.pack_into(">I", header, 17, calc_crc32c(bytes(header[21:]) + body))
    return bytes(header) + body


def gzip_members(data):
    import gzip
    return gzip.compress(data[:100], mtime=0) + gzip.compress(data[100:], mtime=0)


def main():
    out = {
        "none": batch(0),
        "gzip": batch(1),
        "snappy": batch(2),
        "lz4": batch(3),
        "zstd": batch(4),
        "idempotent": batch(0, (4_000_000_000, 7, 2_147_483_640)),
        "transactional": batch(4, (5, 0, 0), True),
        "gzip-two-members": with_body(1, gzip_members(plain())),
        "snappy-raw": with_body(2, snappy.compress(plain())),
        "lz4-linked-checked": with_body(3, lz4.frame.compress(
            plain() , block_linked=True, content_checksum=True, block_checksum=True, store_size=True)),
        "lz4-independent-4mb": with_body(3, lz4.frame.compress(
            plain(), block_linked=False, block_size=lz4.frame.BLOCKSIZE_MAX4MB, store_size=False)),
        "zstd-level-19-unsized": with_body(4, zstandard.ZstdCompressor(
            level=19, write_content_size=False, write_checksum=True).compress(plain())),
    }
    for name, data in out.items():
        print(name, data.hex())


main()
