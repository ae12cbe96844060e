//! Keeping the log short: once it is several times as long as what is live in it, all live records are appended again,
//! a chunk at a time between the others, and the log before them is given up.
//!
//! Cost: a byte that is committed is written about one and a third times. A start reads at most about `rewrite_factor + 1`
//! times the live records.

use std::time::Duration;

use records::Offset;

use super::queue::{Batch, End};
use super::{Inner, State};
use crate::group::Effects;
use crate::groups::{Rewrite, RewriteStep};

/// What a shard knows of its log.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The offset after the last record known to be committed.
    end: Offset,
    /// From the last truncation on.
    bytes: usize,
    rewriting: Option<Rewriting>,
    /// Records before this may go.
    truncate: Option<Offset>,
    /// After a failure.
    not_before: Duration,
    /// Where the change began whose pieces are being stored.
    pub(super) cut: Option<Offset>,
}

#[derive(Debug)]
struct Rewriting {
    rewrite: Rewrite,
    /// The length of the log when it began.
    bytes_before: usize,
    /// Stores under way.
    outstanding: usize,
}

impl Log {
    /// The log was read up to here.
    pub(super) fn loaded(end: Offset, bytes: usize) -> Self {
        Self { end, bytes, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An append was committed.
    pub(super) fn appended(&mut self, base: Offset, batch: &Batch) {
        let count = i64::try_from(batch.count).expect("an append's records fit in memory");
        self.end = self.end.max(base.after(count));
        self.bytes += batch.bytes;
    }

    /// A change was settled.
    pub(super) fn settled(&mut self, end: &End) {
        if let Some(rewriting) = self.rewriting.as_mut().filter(|_| end.rewrite) {
            rewriting.outstanding -= 1;
        }
    }

    /// Something failed: the next try comes later.
    pub(super) fn pause(&mut self, until: Duration) {
        self.not_before = until;
    }

    /// Before which offset the log is to be truncated now.
    pub(super) fn truncation_due(&self, now: Duration) -> Option<Offset> {
        self.truncate.filter(|_| now >= self.not_before)
    }

    pub(super) fn truncated(&mut self) {
        self.truncate = None;
    }

    /// When something that failed is tried again.
    pub(super) fn retry_at(&self, now: Duration) -> Option<Duration> {
        let waits = self.truncate.is_some() || self.rewriting.as_ref().is_some_and(|it| it.outstanding == 0);
        Some(self.not_before).filter(|at| waits && now < *at)
    }
}

impl Inner {
    /// Begins a rewriting, or goes on with one.
    pub(super) fn advance_rewrite(&self, state: &mut State) {
        let now = self.environment.now();
        let config = &self.environment.config;
        let State { groups, queue, log, .. } = state;
        if now.monotonic < log.not_before {
            return;
        }
        if log.rewriting.is_none() {
            let allowed = config.rewrite_bytes_min.max(config.rewrite_factor.saturating_mul(groups.live_bytes()));
            if log.truncate.is_some() || log.bytes <= allowed {
                return;
            }
            // What is under way lies at the end or later, but the first pieces of a change that is cut.
            let rewrite = groups.rewrite(log.cut.unwrap_or(log.end));
            tracing::debug!(
                partition = self.partition,
                log_bytes = log.bytes,
                live_bytes = groups.live_bytes(),
                "rewriting the live records"
            );
            log.rewriting = Some(Rewriting { rewrite, bytes_before: log.bytes, outstanding: 0 });
        }
        let Some(rewriting) = log.rewriting.as_mut().filter(|it| it.outstanding == 0) else { return };
        let mut out = Effects::default();
        let step = groups.rewrite_step(now, &mut out, &mut rewriting.rewrite);
        debug_assert!(out.answers.is_empty(), "a rewriting answers nobody");
        rewriting.outstanding = out.stores.len();
        for store in out.stores {
            queue.push(store, true);
        }
        match step {
            RewriteStep::Finished => {
                log.truncate = Some(rewriting.rewrite.start);
                log.bytes -= rewriting.bytes_before;
                log.rewriting = None;
            }
            // It only looked at some groups: look at the next ones.
            RewriteStep::More if rewriting.outstanding == 0 => self.wake.notify_one(),
            RewriteStep::More | RewriteStep::Waits => {}
        }
    }
}
