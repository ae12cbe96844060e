//! How a consumer behaves.

use std::time::Duration;

use super::Assignor;
use crate::Error;

/// Where to start reading a partition that has no committed offset, or whose offset is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StartAt {
    /// At its first record.
    Earliest,
    /// At its end: only what comes from now on.
    #[default]
    Latest,
    /// Nowhere: [`Consumer::poll`](super::Consumer::poll) gives [`Error::NoOffset`].
    Fail,
}

/// How a consumer behaves.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// The group to share partitions and committed offsets with. None: no commits, and partitions only by
    /// [`Consumer::assign`](super::Consumer::assign).
    pub group: Option<String>,
    /// A name that stays over restarts: the group then waits for the member to come back instead of rebalancing.
    pub instance: Option<String>,
    /// Where to start without a committed offset. [`StartAt::Latest`], as Kafka's clients do.
    pub start_at: StartAt,
    /// Commit what was returned by earlier polls this often, when the consumer is polled, closed or loses partitions.
    /// `None`: only [`Consumer::commit`](super::Consumer::commit) does. 5 s.
    pub auto_commit: Option<Duration>,
    /// Read only records of committed transactions. Off.
    pub committed_only: bool,
    /// Ways to divide partitions that this member offers, best first. [`Assignor::Range`]. Only with
    /// [`Assignor::CooperativeSticky`] alone does reading go on while the group changes.
    pub assignors: Vec<Assignor>,
    /// How long the group waits for a sign of life. 45 s.
    pub session_timeout: Duration,
    /// How often to give one. 3 s.
    pub heartbeat_interval: Duration,
    /// How long the consumer may go without [`Consumer::poll`](super::Consumer::poll) before it leaves its group; also how long the group waits
    /// for it when it changes. 5 min.
    pub max_poll_interval: Duration,
    /// The most records that one poll returns. 500.
    pub poll_records: usize,
    /// How long a broker may hold a fetch back while it has fewer than `fetch_bytes_min`. 500 ms.
    pub fetch_wait: Duration,
    /// 1 byte.
    pub fetch_bytes_min: usize,
    /// The most bytes in one answer. A single larger batch is still read. 16 MiB.
    pub fetch_bytes_max: usize,
    /// The most bytes of one partition in one answer. 2 MiB.
    pub partition_bytes: usize,
    /// The most bytes read ahead; one answer of each broker may come on top. 64 MiB.
    pub buffer_bytes: usize,
    /// The most bytes that one compressed batch may inflate to. 256 MiB.
    pub inflated_bytes: usize,
    /// The availability zone of this client, so that brokers can serve it from nearby.
    pub rack: String,
    /// Let the broker make topics that are subscribed to and do not exist. Off.
    pub create_topics: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group: None,
            instance: None,
            start_at: StartAt::default(),
            auto_commit: Some(Duration::from_secs(5)),
            committed_only: false,
            assignors: vec![Assignor::Range],
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            poll_records: 500,
            fetch_wait: Duration::from_millis(500),
            fetch_bytes_min: 1,
            fetch_bytes_max: 16 << 20,
            partition_bytes: 2 << 20,
            buffer_bytes: 64 << 20,
            inflated_bytes: 256 << 20,
            rack: String::new(),
            create_topics: false,
        }
    }
}

impl ConsumerConfig {
    /// The defaults for a member of a group.
    #[must_use]
    pub fn group(group: impl Into<String>) -> Self {
        Self { group: Some(group.into()), ..Self::default() }
    }

    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.max_poll_interval
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.assignors.is_empty() {
            return Err(Error::Config("a consumer needs at least one assignor".into()));
        }
        if self.heartbeat_interval >= self.session_timeout {
            return Err(Error::Config("heartbeat_interval must be below session_timeout".into()));
        }
        if self.poll_records == 0 || self.partition_bytes == 0 || self.buffer_bytes == 0 {
            return Err(Error::Config("poll_records, partition_bytes and buffer_bytes must be above 0".into()));
        }
        Ok(())
    }
}
