//! `topics` and `groups`: what a topic gets that says nothing else, and the rules of consumer groups.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Defaults for topics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Topics {
    /// How many partitions a topic gets that is made without a number. Default: 1.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) num_partitions: i32,
    /// Whether a topic is made when a client first asks for it by name and allows it. Default: true.
    pub(crate) auto_create: bool,
    /// The replication factor that is reported to clients for every topic. Default: 1. Durability does not hang on
    /// it: records stand on the journal's members and then in the object store.
    #[schemars(range(min = 1, max = 32))]
    pub(crate) default_replication_factor: i16,
    /// Whether a topic may be made with a larger replication factor than the cluster has brokers for; the number is
    /// then kept and reported. Default: false, which refuses it as Kafka does.
    pub(crate) replication_factor_lenient: bool,
    /// The largest record batch in bytes, for topics that do not set `max.message.bytes`. Default: 1048588. A larger
    /// batch is refused with MESSAGE_TOO_LARGE.
    #[schemars(range(min = 1024, max = 104_857_600))]
    pub(crate) message_bytes_max: i32,
}

impl Default for Topics {
    fn default() -> Topics {
        Topics {
            num_partitions: 1,
            auto_create: true,
            default_replication_factor: 1,
            replication_factor_lenient: false,
            message_bytes_max: 1_048_588,
        }
    }
}

/// The rules of consumer groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Groups {
    /// How many milliseconds an empty group waits for more members before its first rebalance. Default: 3000. With 0
    /// the first member starts at once, and each one that follows causes a rebalance.
    #[schemars(range(max = 600_000))]
    pub(crate) initial_rebalance_delay_ms: u32,
    /// The shortest session time-out that a member may ask for, in milliseconds. Default: 6000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(crate) session_timeout_min_ms: u32,
    /// The longest session time-out that a member may ask for, in milliseconds. Default: 1800000 (30 minutes).
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(crate) session_timeout_max_ms: u32,
    /// How many members a group may have. Default: 10000. One more is refused with GROUP_MAX_SIZE_REACHED.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) members_max: u32,
    /// How many groups there may be. Default: 100000. One more is refused with POLICY_VIOLATION.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) groups_max: u32,
    /// How many milliseconds the committed offsets of a group are kept that has no members. Default: 604800000 (7
    /// days). A group without offsets and members is forgotten.
    #[schemars(range(min = 1000))]
    pub(crate) offsets_retention_ms: u64,
    /// The largest metadata text in bytes that may go with a committed offset. Default: 4096.
    #[schemars(range(max = 65_536))]
    pub(crate) offset_metadata_bytes_max: u32,
}

impl Default for Groups {
    fn default() -> Groups {
        Groups {
            initial_rebalance_delay_ms: 3000,
            session_timeout_min_ms: 6000,
            session_timeout_max_ms: 1_800_000,
            members_max: 10_000,
            groups_max: 100_000,
            offsets_retention_ms: 604_800_000,
            offset_metadata_bytes_max: 4096,
        }
    }
}
