//! Removes, in the background and bit by bit, the extents of deleted topics and those below log starts, and marks objects
//! that no extent refers to any more.
//!
//! What is to be done is in the image (`deleted`, `trims`) and so survives a crash; a chunk that is done twice finds nothing
//! the second time. Only the sweeper changes the row of an object once it exists, and it waits for each chunk to be
//! durable before it reads the next: so the number of live extents that it reads is right.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use objects::Extent;
use records::{Clock, Offset, TopicPartition};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::database::{read_options, scan_options};
use super::local::{self, Local, SweepEnd, Work};
use super::rows;
use crate::handle::QueryError;
use crate::machine::{Change, Image};

/// How many extents are removed in one batch.
const CHUNK: usize = 1000;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// Sweeps until the controller stops.
pub(super) async fn run(local: Local, clock: Arc<dyn Clock>) {
    let mut images = local.watch();
    let mut delay = RETRY_FIRST;
    loop {
        let image = images.borrow_and_update().clone();
        match sweep(&local, &image, clock.as_ref()).await {
            Ok(Swept::Nothing) => {
                delay = RETRY_FIRST;
                if images.changed().await.is_err() {
                    return;
                }
            }
            Ok(Swept::Some) => delay = RETRY_FIRST,
            Ok(Swept::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, retry_ms = delay.as_millis(), "extents could not be removed yet");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_LAST);
            }
        }
    }
}

enum Swept {
    Nothing,
    Some,
    Stopped,
}

/// Removes one chunk of whatever is to be removed; small things share it, for a chunk is one PUT.
async fn sweep(local: &Local, image: &Image, clock: &dyn Clock) -> Result<Swept, QueryError> {
    let deleted = image.deleted.keys().map(|topic| (rows::extents_of_topic(*topic), SweepEnd::Deleted(*topic)));
    let trims = image.trims.iter().map(|of| {
        let log_start = image.partition(*of).map_or(Offset(0), |state| state.log_start);
        (rows::extents(*of, Offset(0), log_start), SweepEnd::Trim(*of, log_start))
    });
    let (mut found, mut ends) = (Vec::new(), Vec::new());
    for (range, end) in deleted.chain(trims).take(CHUNK) {
        let is_whole = extents(local, range, &mut found).await?;
        if is_whole {
            ends.push(end);
        }
        if found.len() >= CHUNK {
            break;
        }
    }
    if found.is_empty() && ends.is_empty() {
        return Ok(Swept::Nothing);
    }
    let changes = remove(local, &found, clock).await?;
    let mut bytes: BTreeMap<TopicPartition, u64> = BTreeMap::new();
    for extent in &found {
        *bytes.entry(extent.topic_partition).or_default() += extent.len;
    }
    let (done, swept) = oneshot::channel();
    let work = Work::Sweep(local::Swept { changes, bytes, ends, done });
    if local.shared.work.send(work).await.is_err() || swept.await.is_err() {
        return Ok(Swept::Stopped);
    }
    Ok(Swept::Some)
}

/// Adds the extents in this range, until there are as many as one chunk takes. Says whether those were all.
async fn extents(local: &Local, range: Range<Vec<u8>>, found: &mut Vec<Extent>) -> Result<bool, QueryError> {
    let db = local.shared.db.load_full();
    let mut scan = db.scan_with_options(range, &scan_options()).await?;
    while let Some(row) = scan.next().await? {
        if found.len() == CHUNK {
            return Ok(false);
        }
        found.push(rows::decode_extent(&row.key, &row.value)?);
    }
    Ok(true)
}

/// The changes that remove these extents.
async fn remove(local: &Local, extents: &[Extent], clock: &dyn Clock) -> Result<Vec<Change>, QueryError> {
    let mut changes = Vec::with_capacity(extents.len() * 2 + 1);
    let mut dead: BTreeMap<Uuid, u32> = BTreeMap::new();
    for extent in extents {
        let (topic_partition, end_offset) = (extent.topic_partition, extent.end_offset);
        changes.push(Change::DeleteExtent { topic_partition, end_offset });
        *dead.entry(extent.object).or_default() += 1;
    }
    let db = local.shared.db.load_full();
    for (id, dead) in dead {
        let row = db.get_with_options(rows::object_key(id), &read_options()).await?;
        let Some(row) = row else {
            return Err(QueryError::Corrupt(format!("object {id} has extents but no row")));
        };
        let (object, live) = rows::decode_object(id, &row)?;
        match live.checked_sub(dead) {
            Some(0) => {
                changes.push(Change::DeleteObject(id));
                changes.push(Change::PutGarbage { object, since: clock.now() });
            }
            Some(live) => changes.push(Change::PutObject { object, live }),
            None => {
                return Err(QueryError::Corrupt(format!("object {id} has {live} live extents, but {dead} were found")));
            }
        }
    }
    Ok(changes)
}
