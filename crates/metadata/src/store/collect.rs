//! Deletes objects that nothing refers to any more, once their grace time is over (O1), and forgets them.
//!
//! An object is garbage for good: its id is never used again, so nothing can come to refer to it. The object goes first
//! and its row after it: whoever finds the row again after a crash finds no object, which is as good as deleting it.
//! Where there is no garbage nothing is asked of the store. A store that is away only delays it.
//!
//! Cost: one multi-object DELETE (one request on S3, one for each object elsewhere) and one PUT for each thousand objects.

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use objects::Path;
use records::Timestamp;
use tokio::sync::oneshot;

use super::Options;
use super::local::{Local, Swept, Work};
use crate::handle::QueryError;
use crate::machine::{Change, ObjectMeta};

/// How many objects are deleted with one request.
const CHUNK: usize = 1000;
/// Between two looks at what waits: never longer, whatever the grace time.
const PAUSE_MAX: Duration = Duration::from_secs(60);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// Why nothing more was deleted.
#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{0}")]
    Store(StoreError),
    #[error("the controller stopped")]
    Stopped,
}

/// Deletes until the controller stops.
pub(super) async fn run(local: Local, options: Options) {
    let mut delay = RETRY_FIRST;
    // Garbage comes bit by bit: that of some time is deleted together.
    let pause = (options.delete_grace / 4).min(PAUSE_MAX);
    loop {
        match collect(&local, &options).await {
            Ok(None) => {
                delay = RETRY_FIRST;
                local.shared.garbage.more.notified().await;
            }
            Ok(Some(due_in)) => {
                delay = RETRY_FIRST;
                tokio::time::sleep(due_in.max(pause)).await;
            }
            Err(CollectError::Stopped) => return,
            Err(error) => {
                options.metrics.failed();
                tracing::warn!(
                    %error, retry_ms = delay.as_millis(),
                    "objects that are no longer needed could not be deleted yet"
                );
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_LAST);
            }
        }
    }
}

/// Deletes what is due. Says in how long the next object is, if any waits.
async fn collect(local: &Local, options: &Options) -> Result<Option<Duration>, CollectError> {
    let grace = i64::try_from(options.delete_grace.as_millis()).unwrap_or(i64::MAX);
    let (mut after, mut next): (_, Option<Timestamp>) = (None, None);
    let (mut objects, mut bytes) = (0_u64, 0_u64);
    loop {
        let page = local.garbage_after(after, CHUNK).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.id);
        let now = options.clock.now();
        let (due, early): (Vec<_>, Vec<_>) =
            page.into_iter().partition(|(_, since)| since.0.saturating_add(grace) <= now.0);
        next = early.iter().map(|(_, since)| *since).chain(next).min();
        if due.is_empty() {
            continue;
        }
        let due: Vec<ObjectMeta> = due.into_iter().map(|(object, _)| object).collect();
        let (gone, failure) = delete(options.store.object_store().as_ref(), &due).await;
        let (gone_objects, gone_bytes) = (gone.len() as u64, gone.iter().map(|object| object.size).sum::<u64>());
        forget(local, gone).await?;
        options.metrics.deleted(gone_objects, gone_bytes);
        (objects, bytes) = (objects + gone_objects, bytes + gone_bytes);
        if let Some(error) = failure {
            return Err(CollectError::Store(error));
        }
    }
    if objects > 0 {
        tracing::info!(objects, bytes, "objects that were no longer needed are deleted");
    }
    let now = options.clock.now();
    Ok(next.map(|since| {
        let left = since.0.saturating_add(grace).saturating_sub(now.0);
        // A clock that was wrong for a while makes nobody wait for longer than this.
        Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(options.delete_grace)
    }))
}

/// Deletes objects, and gives those that are gone; with it, what kept the others.
async fn delete(store: &dyn ObjectStore, objects: &[ObjectMeta]) -> (Vec<ObjectMeta>, Option<StoreError>) {
    let keys = objects.iter().filter_map(|object| Path::parse(&object.key).ok()).collect();
    let (gone, failure) = delete_keys(store, keys).await;
    (objects.iter().filter(|object| gone.contains(object.key.as_str())).cloned().collect(), failure)
}

/// Deletes keys; those that were gone before are gone too.
pub(super) async fn delete_keys(store: &dyn ObjectStore, keys: Vec<Path>) -> (HashSet<String>, Option<StoreError>) {
    let mut gone = HashSet::with_capacity(keys.len());
    let (mut missing, mut failure) = (false, None);
    let mut deleting = store.delete_stream(stream::iter(keys.clone().into_iter().map(Ok)).boxed());
    while let Some(deleted) = deleting.next().await {
        match deleted {
            Ok(key) => {
                gone.insert(key.into());
            }
            Err(StoreError::NotFound { .. }) => missing = true,
            Err(error) => failure = Some(error),
        }
    }
    if missing && failure.is_none() {
        // A store that tells what was not there does not always tell by which key: each is asked again.
        for key in keys {
            if gone.contains(key.as_ref()) {
                continue;
            }
            match store.delete(&key).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {
                    gone.insert(key.into());
                }
                Err(error) => failure = Some(error),
            }
        }
    }
    (gone, failure)
}

/// Forgets garbage that is deleted.
async fn forget(local: &Local, gone: Vec<ObjectMeta>) -> Result<(), CollectError> {
    if gone.is_empty() {
        return Ok(());
    }
    for object in &gone {
        tracing::debug!(key = object.key, size = object.size, "object deleted");
        local.shared.objects.invalidate(&object.id).await;
    }
    let (done, forgotten) = oneshot::channel();
    let changes = gone.into_iter().map(Change::EndGarbage).collect();
    let swept = Swept { changes, bytes: Default::default(), ends: Vec::new(), done };
    if local.shared.work.send(Work::Sweep(swept)).await.is_err() || forgotten.await.is_err() {
        return Err(CollectError::Stopped);
    }
    Ok(())
}
