//! InitProducerId: an id for an idempotent producer (KIP-98). Ids come in blocks from the metadata, fetched before they are
//! needed: a new producer is served also while the object store is away. Transactional ids are not served yet and get a
//! clear error.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use metadata::{Command, Reply};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use wire::error_code::ErrorCode;
use wire::init_producer_id::{Request, Response};

use super::Api;

/// Ids taken from the metadata at once: so many new producers are served while the store is away, half of them at least.
const BLOCK: u32 = 10_000;
/// The next block is fetched when no more are left.
const REFILL_BELOW: u64 = BLOCK as u64 / 2;
/// How long a producer waits where none is left.
const WAIT: Duration = Duration::from_secs(5);
/// Between two tries to fetch a block.
const RETRY: Duration = Duration::from_secs(1);

/// The ids that are left, and the task that fetches more.
pub(super) struct ProducerIds {
    metadata: metadata::Handle,
    left: watch::Sender<Blocks>,
    refill: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What is left of the older block, and the newer one.
#[derive(Debug, Default)]
struct Blocks([Range<i64>; 2]);

impl Blocks {
    fn take(&mut self) -> Option<i64> {
        self.0.iter_mut().find_map(Iterator::next)
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|block| block.end.abs_diff(block.start)).sum()
    }

    fn add(&mut self, block: Range<i64>) {
        let [older, newer] = &mut self.0;
        if older.is_empty() {
            *older = std::mem::take(newer);
        }
        // One that is not used up is given up: ids are many.
        *newer = block;
    }
}

impl ProducerIds {
    pub(super) fn new(metadata: metadata::Handle) -> Self {
        Self { metadata, left: watch::Sender::default(), refill: Mutex::default() }
    }

    /// Fetches a block in the background, unless there are enough or it is being fetched. Needs a tokio runtime.
    pub(super) fn refill(&self) {
        if self.left.borrow().count() >= REFILL_BELOW {
            return;
        }
        let mut refill = self.refill.lock();
        if refill.as_ref().is_some_and(|refill| !refill.is_finished()) {
            return;
        }
        let (metadata, left) = (self.metadata.clone(), self.left.clone());
        *refill = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            while left.borrow().count() < REFILL_BELOW {
                match metadata.submit(Command::AllocateProducerIds { count: BLOCK }).await {
                    Ok(Reply::ProducerIds { first, count }) => {
                        left.send_modify(|left| left.add(first.0..first.0 + i64::from(count)));
                    }
                    other => {
                        tracing::debug!(?other, "no ids for producers can be had yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        })));
    }

    async fn next(&self) -> Option<i64> {
        let mut filled = self.left.subscribe();
        let taking = async {
            loop {
                let mut id = None;
                // Whoever waits is woken by a new block, not by what others take.
                self.left.send_if_modified(|left| {
                    id = left.take();
                    false
                });
                self.refill();
                if id.is_some() || filled.changed().await.is_err() {
                    return id;
                }
            }
        };
        timeout(WAIT, taking).await.ok().flatten()
    }
}

pub(super) async fn answer(api: &Arc<Api>, _request: &super::Request, body: Request) -> Response {
    let refused = |code: ErrorCode| Response {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Response::default()
    };
    if let Some(id) = body.transactional_id {
        tracing::info!(transactional_id = %id, "a client asked for transactions, which are not served yet");
        return refused(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    match api.producer_ids.next().await {
        Some(producer_id) => Response { producer_id, producer_epoch: 0, ..Response::default() },
        // What Apache Kafka says in this place; clients ask again.
        None => refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
    }
}
