//! Reading a shard's groups back from its log.

use records::Offset;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::rewrite::Log;
use super::{Inner, Phase};
use crate::group::Effects;
use crate::storage::{Storage, StorageError};

/// Loads everything and begins to take requests. False when the shard has to close.
pub(super) async fn load(inner: &Inner, storage: &dyn Storage, cancel: &CancellationToken) -> bool {
    let environment = &inner.environment;
    let started = environment.now().monotonic;
    let mut groups = environment.new_groups();
    let mut from = Offset(0);
    let (mut records, mut bytes, mut unreadable) = (0_usize, 0_usize, 0_usize);
    loop {
        let page = tokio::select! {
            () = cancel.cancelled() => return false,
            page = storage.load(from) => page,
        };
        let page = match page {
            Ok(page) => page,
            Err(StorageError::NotLeader) => return false,
            Err(error) => {
                tracing::warn!(partition = inner.partition, %error, "cannot read the groups' log; trying again");
                tokio::select! {
                    () = cancel.cancelled() => return false,
                    () = sleep(environment.config.retry_pause) => continue,
                }
            }
        };
        let now = environment.now();
        for stored in &page.entries {
            records += 1;
            bytes += stored.entry.size();
            if let Err(error) = groups.replay(now, stored) {
                unreadable += 1;
                if unreadable == 1 {
                    tracing::error!(partition = inner.partition, offset = %stored.offset, %error, "a record of the groups' log cannot be read; it is skipped");
                }
            }
        }
        from = page.next;
        if page.last {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut guard = inner.state.lock();
    let state = &mut *guard;
    let now = environment.now();
    let mut out = Effects::default();
    groups.loaded(now, &mut out);
    state.groups = groups;
    state.log = Log::loaded(from, bytes);
    state.phase = Phase::Active;
    inner.carry_out(state, out);
    drop(guard);
    inner.phase.send_replace(Phase::Active);
    let took = environment.now().monotonic - started;
    tracing::info!(
        partition = inner.partition,
        records,
        bytes,
        unreadable,
        ?took,
        "the groups of a partition are loaded"
    );
    true
}
