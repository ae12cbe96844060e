//! One member of a group.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Token;
use crate::JoinRequest;

/// Names and metadata, the most wanted first.
pub(super) type Protocols = Vec<(Arc<str>, Bytes)>;

/// A member of a group, by its id in the group's map.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(super) protocols: Protocols,
    /// What the leader gave it in the current generation.
    pub(crate) assignment: Bytes,
    /// When it joined the group, as a number that grows: the oldest becomes leader when the leader goes.
    pub(crate) order: u64,
    /// The join that waits for the generation to begin.
    pub(crate) joining: Option<Token>,
    /// The sync that waits for the leader's.
    pub(crate) syncing: Option<Token>,
    /// It was told of the generation and has not asked for its assignment yet.
    pub(crate) owes_sync: bool,
    /// It never got an answer to a join.
    pub(crate) is_new: bool,
    /// When it is given up; none while it waits for the group.
    pub(crate) deadline: Option<Duration>,
}

/// A time-out of the protocol; negative ones are none.
pub(crate) fn timeout(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A time-out for a record.
pub(crate) fn timeout_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

impl Member {
    pub(crate) fn new(request: &JoinRequest, order: u64) -> Self {
        Self {
            instance_id: request.instance_id.clone(),
            client_id: Arc::clone(&request.client_id),
            client_host: Arc::clone(&request.client_host),
            session_timeout: timeout(request.session_timeout_ms),
            rebalance_timeout: timeout(request.rebalance_timeout_ms),
            protocols: detached(&request.protocols),
            assignment: Bytes::new(),
            order,
            joining: None,
            syncing: None,
            owes_sync: false,
            is_new: true,
            deadline: None,
        }
    }

    /// Takes over what a join says, but the protocols (whose votes the group counts).
    pub(crate) fn update(&mut self, request: &JoinRequest) {
        self.client_id = Arc::clone(&request.client_id);
        self.client_host = Arc::clone(&request.client_host);
        self.session_timeout = timeout(request.session_timeout_ms);
        self.rebalance_timeout = timeout(request.rebalance_timeout_ms);
    }

    /// Its metadata for a protocol; empty for one that it does not speak.
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(&**name) == protocol)
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default()
    }
}

/// Copies of the metadata, so that a member does not keep the frame of its join alive.
pub(super) fn detached(protocols: &Protocols) -> Protocols {
    protocols.iter().map(|(name, bytes)| (Arc::clone(name), Bytes::copy_from_slice(bytes))).collect()
}
