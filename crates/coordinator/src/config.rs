//! What an operator can set: time-outs, limits, retention, and how the records are written.
//!
//! Every limit has a default that bounds memory; what happens at a limit stands beside it.

use std::time::Duration;

/// The configuration of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members after its first joined.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`: shorter session time-outs are refused with `INVALID_SESSION_TIMEOUT`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`: longer session time-outs are refused with `INVALID_SESSION_TIMEOUT`.
    pub session_timeout_max: Duration,
    /// How long a member that never completed a join may wait for its first generation.
    pub new_member_join_timeout: Duration,
    /// `group.max.size`: further members are refused with `GROUP_MAX_SIZE_REACHED`.
    pub group_size_max: usize,
    /// Member ids given out (`MEMBER_ID_REQUIRED`) and not used yet, per group; further ones are refused with
    /// `GROUP_MAX_SIZE_REACHED`.
    pub pending_members_max: usize,
    /// The bytes of a member's names and protocol metadata; more is refused with `INVALID_REQUEST`.
    pub member_bytes_max: usize,
    /// The groups of the whole coordinator; further ones are refused with `POLICY_VIOLATION`.
    pub groups_max: usize,
    /// The partitions with a committed offset per group; further ones are refused with `INVALID_COMMIT_OFFSET_SIZE`.
    pub offsets_per_group_max: usize,
    /// `offset.metadata.max.bytes`: longer metadata is refused with `OFFSET_METADATA_TOO_LARGE`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`: how long offsets outlive their group's last member (or, where no member ever was,
    /// their commit).
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`: how often expired offsets and empty groups are looked for.
    pub retention_check_interval: Duration,
    /// The bytes of records that may wait in one shard to be stored; further commits are refused with
    /// `COORDINATOR_NOT_AVAILABLE`.
    pub queued_bytes_max: usize,
    /// The appends of one shard under way at once.
    pub appends_in_flight_max: usize,
    /// A shard's log is rewritten once it has grown by this much since the last time …
    pub rewrite_bytes_min: usize,
    /// … and by this many times the size of what is live in it.
    pub rewrite_factor: usize,
    /// The bytes of one append of a rewrite, so that commits get their turn between.
    pub rewrite_chunk_bytes: usize,
    /// The pause before a failed load, rewrite or truncation is tried again.
    pub retry_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            new_member_join_timeout: Duration::from_secs(5 * 60),
            group_size_max: 10_000,
            pending_members_max: 1_000,
            member_bytes_max: 1 << 20,
            groups_max: 100_000,
            offsets_per_group_max: 200_000,
            offset_metadata_bytes_max: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            retention_check_interval: Duration::from_secs(600),
            queued_bytes_max: 16 << 20,
            appends_in_flight_max: 4,
            rewrite_bytes_min: 1 << 20,
            rewrite_factor: 4,
            rewrite_chunk_bytes: 256 << 10,
            retry_pause: Duration::from_millis(500),
        }
    }
}
