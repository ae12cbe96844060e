//! What a broker that follows the controller is told, and what it makes of it: the rows of the image, then those of each
//! batch, in the order of the commits. Both sides have the same image at the same revision (M1).
//!
//! The newest batches are kept for those who follow. Who falls behind them begins anew with the whole state, so a slow
//! follower costs the controller no memory.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::controller::{Beginning, Followed, Row};
use records::Partition;
use tokio::sync::watch;
use uuid::Uuid;

use super::rows::{self, RowError, Rows};
use crate::machine::{Change, Image, Limits, NextIds};

/// Bytes of rows that are kept of batches that are over.
const KEPT_BYTES: usize = 8 << 20;
/// Bytes of rows in one message, about.
const MESSAGE_BYTES: usize = 1 << 20;

impl Rows for Vec<Row> {
    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        if rows::is_image(key) {
            self.push(Row { key: Bytes::copy_from_slice(key), value: Some(value.into()) });
        }
    }

    fn delete(&mut self, key: &[u8]) {
        if rows::is_image(key) {
            self.push(Row { key: Bytes::copy_from_slice(key), value: None });
        }
    }
}

/// The newest batches.
#[derive(Debug, Default)]
pub(super) struct Batches {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<Batch>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Batch {
    revision: u64,
    rows: Arc<Vec<Row>>,
    bytes: usize,
}

impl Batches {
    /// A batch is durable. Comes before its image is published.
    pub(super) fn push(&self, revision: u64, changes: &[Change]) {
        let mut rows = Vec::new();
        changes.iter().for_each(|change| rows::add(&mut rows, change));
        let bytes = rows.iter().map(len).sum();
        let mut kept = self.kept.lock();
        kept.bytes += bytes;
        kept.batches.push_back(Batch { revision, rows: Arc::new(rows), bytes });
        while kept.bytes > KEPT_BYTES && kept.batches.len() > 1 {
            if let Some(oldest) = kept.batches.pop_front() {
                kept.bytes -= oldest.bytes;
            }
        }
    }

    /// All batches from `revision` on, if the first of them is still there.
    fn from(&self, revision: u64) -> Option<Vec<Batch>> {
        let kept = self.kept.lock();
        let first = kept.batches.front()?.revision;
        let skipped = usize::try_from(revision.checked_sub(first)?).ok()?;
        Some(kept.batches.iter().skip(skipped).cloned().collect())
    }
}

/// What a row takes up in a message, about.
fn len(row: &Row) -> usize {
    row.key.len() + row.value.as_ref().map_or(0, Bytes::len) + 8
}

/// The controller's state for those who follow. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Feed {
    pub(super) image: watch::Receiver<Arc<Image>>,
    pub(super) batches: Arc<Batches>,
}

impl Feed {
    /// The state from now on, for one follower.
    #[must_use]
    pub fn follow(&self) -> Following {
        Following { feed: self.clone(), sent: None, queue: VecDeque::new() }
    }
}

/// What one follower is still to be told.
#[derive(Debug)]
pub struct Following {
    feed: Feed,
    /// The revision that it has once all of the queue is sent.
    sent: Option<u64>,
    queue: VecDeque<Followed>,
}

impl Following {
    /// The next message; nothing once the controller stopped. Cancellation safe.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                return Some(message);
            }
            let image = match self.sent {
                Some(sent) => self.feed.image.wait_for(|image| image.revision > sent).await.ok()?.clone(),
                None => self.feed.image.borrow_and_update().clone(),
            };
            match self.sent.and_then(|sent| self.feed.batches.from(sent + 1)) {
                Some(batches) => {
                    for batch in batches {
                        self.sent = Some(batch.revision);
                        self.queue.extend(messages(batch.rows.iter().cloned(), batch.revision));
                    }
                }
                None => {
                    self.sent = Some(image.revision);
                    self.queue.extend(whole(&image));
                }
            }
        }
    }
}

/// Rows as messages, of which the last names the revision.
fn messages(rows: impl Iterator<Item = Row>, revision: u64) -> Vec<Followed> {
    let (mut messages, mut bytes) = (vec![Followed::default()], 0);
    for row in rows {
        if bytes >= MESSAGE_BYTES {
            messages.push(Followed::default());
            bytes = 0;
        }
        bytes += len(&row);
        messages.last_mut().expect("there is one at least").rows.push(row);
    }
    messages.last_mut().expect("there is one at least").revision = Some(revision);
    messages
}

/// What followers are told of a batch, in tests.
#[cfg(test)]
pub(crate) fn told(changes: &[Change], revision: u64) -> Vec<Followed> {
    let mut rows = Vec::new();
    changes.iter().for_each(|change| rows::add(&mut rows, change));
    messages(rows.into_iter(), revision)
}

/// The whole state as messages.
fn whole(image: &Image) -> Vec<Followed> {
    let mut rows = Vec::new();
    for_each_row(image, |change| rows::add(&mut rows, &change));
    let mut messages = messages(rows.into_iter(), image.revision);
    messages[0].beginning =
        Some(Beginning { cluster_id: Bytes::copy_from_slice(image.cluster_id.as_bytes()), layout: rows::LAYOUT });
    messages
}

/// The changes that make an image out of nothing, in the order in which they can be applied.
fn for_each_row(image: &Image, mut f: impl FnMut(Change)) {
    f(Change::PutCounters(NextIds(image.counters)));
    image.brokers.values().for_each(|broker| f(Change::PutBroker(broker.clone())));
    image.broker_configs.iter().for_each(|(of, configs)| f(Change::PutBrokerConfigs(*of, configs.clone())));
    image.journals.values().for_each(|journal| f(Change::PutJournal(journal.clone())));
    for topic in image.topics.values() {
        let (id, name, configs) = (topic.id, topic.name.clone(), topic.configs.clone());
        f(Change::PutTopic { id, name, configs, created_at: topic.created_at });
        for (partition, state) in (0..).map(Partition).zip(&topic.partitions) {
            f(Change::PutPartition(records::TopicPartition { topic: id, partition }, state.clone()));
        }
    }
    image.deleted.iter().for_each(|(id, deleted)| f(Change::PutDeleted(*id, *deleted)));
    image.trims.iter().for_each(|of| f(Change::PutTrim(*of)));
}

/// Why a follower cannot go on. Nothing of the message is part of its image.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The controller writes rows that this version does not know.
    #[error("the controller writes layout {0} of the metadata, which this version does not know: upgrade this broker")]
    Layout(u32),
    /// A message cannot be understood.
    #[error("the controller's state cannot be understood: {0}")]
    Corrupt(String),
}

impl From<RowError> for FollowError {
    fn from(error: RowError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// Makes images of what a controller sends.
#[derive(Debug)]
pub struct Follower {
    limits: Limits,
    /// The image as far as it came.
    image: Option<Image>,
}

impl Follower {
    /// One that knows nothing yet. The bounds are this broker's own.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, image: None }
    }

    /// Takes the next message in, and gives the image once it is whole.
    ///
    /// # Errors
    /// [`FollowError`]: the stream must begin anew.
    pub fn take(&mut self, message: Followed) -> Result<Option<Arc<Image>>, FollowError> {
        if let Some(Beginning { cluster_id, layout }) = message.beginning {
            if layout > rows::LAYOUT {
                return Err(FollowError::Layout(layout));
            }
            let id = Uuid::from_slice(&cluster_id).map_err(|error| FollowError::Corrupt(error.to_string()))?;
            self.image = Some(Image::new(id, self.limits));
        }
        if message.rows.is_empty() && message.revision.is_none() {
            return Ok(None);
        }
        let image = self.image.as_mut().ok_or_else(|| FollowError::Corrupt("it has no beginning".into()))?;
        for Row { key, value } in message.rows {
            let change = match value {
                Some(value) => Some(rows::decode(&key, &value)?),
                None => rows::ended(&key, image)?,
            };
            if let Some(change) = change {
                image.apply(&[change]);
            }
        }
        let Some(revision) = message.revision else { return Ok(None) };
        image.revision = revision;
        Ok(Some(Arc::new(image.clone())))
    }
}
