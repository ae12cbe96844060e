//! `staging`, `cache` and `limits`: what the broker may take of its machine, and clients of the broker.
//!
//! Defaults of what is held in memory follow from the memory that the process may use (`memory.rs`); what stands in the
//! `Default`s here for them counts only where nobody looked.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The local disk where records stand until they are uploaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Staging {
    /// The folder of the journal, on a local SSD. Required; made where it is missing. Records are acknowledged when
    /// they are synced here, and may be lost with this disk until they are uploaded.
    pub(crate) dir: PathBuf,
    /// How many bytes the folder may hold. Default: 17179869184 (16 GiB). Uploaded segments stay as a second cache
    /// while there is room. When what is not yet uploaded fills it, producers wait, and are then refused with a
    /// retriable error.
    #[serde(default = "staging_bytes_max")]
    #[schemars(range(min = 16_777_216))]
    pub(crate) bytes_max: u64,
    /// The size in bytes at which a segment is sealed and uploaded. Default: 67108864 (64 MiB). Larger segments mean
    /// fewer requests to the store and more bytes that stand only on this disk.
    #[serde(default = "segment_bytes")]
    #[schemars(range(min = 1_048_576, max = 1_073_741_824))]
    pub(crate) segment_bytes: u64,
    /// How long after its first byte, in milliseconds, a segment is sealed and uploaded though it is not full.
    /// Default: 10000. Shorter means less at risk and more requests to the store; a broker without writes makes none.
    #[serde(default = "seal_interval_ms")]
    #[schemars(range(min = 50, max = 3_600_000))]
    pub(crate) seal_interval_ms: u64,
}

fn staging_bytes_max() -> u64 {
    16 << 30
}

fn segment_bytes() -> u64 {
    64 << 20
}

fn seal_interval_ms() -> u64 {
    10_000
}

/// The cache of what is read back from the object store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cache {
    /// How many bytes of memory the cache may take. Default: an eighth of the memory that the process may use (the
    /// limit of its control group, else the machine's), 16 MiB to 512 MiB.
    #[schemars(range(min = 8_388_608))]
    pub(crate) memory_bytes: u64,
    /// How many of these are for readers that go through much (more than eight chunks in sequence): what they read is
    /// seldom read again, and takes no other room. Default: half of `memory_bytes`.
    #[schemars(range(min = 4_194_304))]
    pub(crate) scan_bytes: u64,
    /// How many bytes of the newest batches of all partitions are kept in memory for readers. Default: a sixteenth of
    /// the memory, 8 MiB to 128 MiB. Readers of what left go to the staging disk.
    #[schemars(range(min = 1_048_576))]
    pub(crate) tail_bytes: u64,
    /// The size in bytes of what is fetched from the store and cached at once. Default: 1048576 (1 MiB). Larger means
    /// fewer requests for those who read in sequence, and more waste for those who do not.
    #[schemars(range(min = 65_536, max = 16_777_216))]
    pub(crate) chunk_bytes: u32,
    /// How many chunks may be fetched at once for readers who wait. Default: 32.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) fetches_max: u32,
    /// How many chunks may be fetched at once ahead of readers who read in sequence. Default: 16; 0 turns reading ahead
    /// off.
    #[schemars(range(max = 1024))]
    pub(crate) prefetches_max: u32,
    /// How many threads of low priority fetch from the store for readers; four times as many read the staging disk for
    /// them and check what was read. Default: 0, which is half of the processors. Fewer leave more to producers where
    /// processors are short, and slow readers that are behind.
    #[schemars(range(max = 256))]
    pub(crate) threads: u32,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            memory_bytes: 256 << 20,
            scan_bytes: 128 << 20,
            tail_bytes: 128 << 20,
            chunk_bytes: 1 << 20,
            fetches_max: 32,
            prefetches_max: 16,
            threads: 0,
        }
    }
}

/// Bounds on what clients may ask for. At a bound the broker first slows down, then refuses with a retriable error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// How many connections the broker takes, on all listeners together; a QUIC stream counts as one. Default: 10000.
    /// Above it new connections are closed at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) connections_max: u32,
    /// How many connections one address may have open (one /64 network with IPv6); streams do not count. Default:
    /// 2000. Above it new connections from there are closed at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) connections_per_address_max: u32,
    /// How many streams one QUIC connection may have open. Default: 100. A client above it waits for one to close.
    #[schemars(range(min = 1, max = 65_536))]
    pub(crate) streams_per_connection_max: u32,
    /// How many bytes clients may send on QUIC connections before they are read, of all connections together. Default:
    /// a sixty-fourth of the memory, 16 MiB to 512 MiB. A connection begins with 65536 (64 KiB) of them, and more are given
    /// to busy ones, up to 8 MiB, while half is free; one for which there is no room is refused.
    #[schemars(range(min = 1_048_576))]
    pub(crate) quic_windows_bytes: u64,
    /// How many requests of one connection may be worked on at once. Default: 64. Above it the broker stops reading
    /// from the connection.
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) requests_in_flight_max: u32,
    /// The largest request in bytes. Default: 104857600 (100 MiB), or `requests_memory_bytes` where that is less. A
    /// connection that sends a larger one is closed.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub(crate) request_bytes_max: u32,
    /// How many bytes of requests may be in memory, of all connections together, those included that have come in
    /// part. Default: an eighth of the memory, 16 MiB to 1 GiB. At the bound the broker stops reading from sockets;
    /// clients that then do not go on with a large request are disconnected.
    #[schemars(range(min = 1_048_576))]
    pub(crate) requests_memory_bytes: u64,
    /// The largest answer to a fetch in bytes, whatever the client asks for. Default: 57671680 (55 MiB), or half of
    /// `answers_memory_bytes` where that is less. A single batch that is larger is still sent whole.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub(crate) fetch_bytes_max: u32,
    /// How many bytes of answers may wait to be taken by clients, of all connections together. Default: an eighth of
    /// the memory, 16 MiB to 1 GiB. The nearer the bound, the smaller the answers to fetches; at the bound they wait,
    /// and clients that take their answers slowly are disconnected.
    #[schemars(range(min = 1_048_576))]
    pub(crate) answers_memory_bytes: u64,
    /// How many bytes of objects may be put at once; one always may, and no more than four are. Default: a sixteenth of
    /// the memory, 64 MiB to 256 MiB. What is still among the newest batches counts in both and is there once. With
    /// less, what is on the staging disk takes longer to reach the store.
    #[schemars(range(min = 1_048_576))]
    pub(crate) uploads_memory_bytes: u64,
    /// How many bytes of batches may be appended and not yet committed. Default: a thirty-second of the memory, 8 MiB to
    /// 256 MiB. At the bound producers wait, and are then refused with a retriable error.
    #[schemars(range(min = 1_048_576, max = 4_294_967_295_u64))]
    pub(crate) appends_memory_bytes: u64,
    /// How many bytes compressed batches may be inflated to at once, where the broker has to look at their records.
    /// Default: an eighth of the memory, 256 MiB to 1 GiB. At the bound requests wait for their turn.
    #[schemars(range(min = 268_435_456))]
    pub(crate) inflated_memory_bytes: u64,
    /// How many fetch sessions are kept. Default: 1000; 0 turns them off. At the bound, a session that was unused for two
    /// minutes makes room, else the client gets none and names its partitions each time.
    #[schemars(range(max = 1_000_000))]
    pub(crate) fetch_sessions_max: u32,
    /// How many partitions all fetch sessions may name together, some 150 bytes each. Default: 200000. At the bound as
    /// above.
    #[schemars(range(max = 10_000_000))]
    pub(crate) fetch_session_partitions_max: u32,
    /// How many topics the cluster may have. Default: 10000. One more is refused with POLICY_VIOLATION.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) topics_max: u32,
    /// How many partitions all topics may have together. Default: 100000. More are refused with POLICY_VIOLATION.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) partitions_max: u32,
    /// After how many milliseconds without a request a connection is closed. Default: 600000 (10 minutes).
    #[schemars(range(min = 1000))]
    pub(crate) idle_timeout_ms: u64,
    /// How many milliseconds a client has for its TLS or QUIC handshake. Default: 10000.
    #[schemars(range(min = 100, max = 600_000))]
    pub(crate) handshake_timeout_ms: u64,
    /// How many TLS and QUIC handshakes may be under way at once, on all listeners together. Default: 512. More wait
    /// for their turn; their time runs.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) handshakes_max: u32,
    /// How many of them one address may have (one /64 network with IPv6). Default: 64. More TLS handshakes wait for
    /// their turn; more QUIC handshakes are refused.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) handshakes_per_address_max: u32,
    /// From how many QUIC handshakes on, whose clients have not shown yet that they receive at their address, a new
    /// client is asked to show it first (a stateless retry, one round trip more). Default: 64; 0 asks all.
    #[schemars(range(max = 100_000))]
    pub(crate) unvalidated_handshakes_max: u32,
    /// After how many milliseconds a client is disconnected that takes not one byte of its answers. Default: 30000.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub(crate) write_timeout_ms: u64,
    /// How many milliseconds a broker that is told to stop has to answer what it took and to upload what it holds.
    /// Default: 30000. What is not uploaded by then stays in the staging folder and is uploaded after the next start.
    #[schemars(range(max = 3_600_000))]
    pub(crate) drain_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            connections_per_address_max: 2000,
            streams_per_connection_max: 100,
            quic_windows_bytes: 64 << 20,
            requests_in_flight_max: 64,
            request_bytes_max: 100 << 20,
            requests_memory_bytes: 256 << 20,
            fetch_bytes_max: 55 << 20,
            answers_memory_bytes: 256 << 20,
            uploads_memory_bytes: 256 << 20,
            appends_memory_bytes: 64 << 20,
            inflated_memory_bytes: 256 << 20,
            fetch_sessions_max: 1000,
            fetch_session_partitions_max: 200_000,
            topics_max: 10_000,
            partitions_max: 100_000,
            idle_timeout_ms: 600_000,
            handshake_timeout_ms: 10_000,
            handshakes_max: 512,
            handshakes_per_address_max: 64,
            unvalidated_handshakes_max: 64,
            write_timeout_ms: 30_000,
            drain_timeout_ms: 30_000,
        }
    }
}
