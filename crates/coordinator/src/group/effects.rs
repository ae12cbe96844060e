//! What a state machine wants done: answers to deliver and records to store.

use std::sync::Arc;

use records::Offset;

use crate::storage::Entry;
use crate::types::Now;
use crate::{Config, GroupError, JoinRefused, Joined, PartitionResults, Synced};

/// Names a request whose answer comes later. Every token gets exactly one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// Names one change of one group that waits for its records to be stored. A group's changes are settled in the order in
/// which it asked for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To a join.
    Join(Result<Box<Joined>, JoinRefused>),
    /// To a sync.
    Sync(Synced),
    /// To a commit, or a deletion of offsets.
    Partitions(PartitionResults),
    /// To a deletion.
    Done,
    /// To any of them.
    Refused(GroupError),
}

/// Records to be stored for one change of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    /// The group.
    pub(crate) group: Arc<str>,
    /// The change.
    pub(crate) ticket: Ticket,
    /// Its records, at least one.
    pub(crate) entries: Vec<Entry>,
}

/// How storing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Stored and durable; no record of the change lies before this offset.
    Stored(Offset),
    /// Nothing of it is stored.
    Failed(StoreFailure),
}

/// Why nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreFailure {
    /// The log refuses now.
    Unavailable,
    /// A record is larger than the log takes.
    TooLarge,
}

/// What a state machine wants done, in order.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Answers to deliver.
    pub(crate) answers: Vec<(Token, Answer)>,
    /// Records to store.
    pub(crate) stores: Vec<Store>,
}

impl Effects {
    pub(crate) fn answer(&mut self, token: Token, answer: Answer) {
        self.answers.push((token, answer));
    }

    pub(crate) fn refuse(&mut self, token: Token, error: GroupError) {
        self.answer(token, Answer::Refused(error));
    }

    pub(crate) fn refuse_join(&mut self, token: Token, error: GroupError, member_id: &str) {
        self.answer(token, Answer::Join(Err(JoinRefused { error, member_id: member_id.into() })));
    }
}

/// What every input comes with.
pub(crate) struct Env<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a Config,
    pub(crate) out: &'a mut Effects,
}
