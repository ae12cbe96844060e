//! InitProducerId: an id for an idempotent producer (KIP-98). Ids come in blocks from the metadata, so that a new
//! producer seldom waits for a commit. Transactional ids are not served yet and get a clear error.

use std::sync::Arc;

use metadata::{Command, Reply};
use tokio::sync::Mutex;
use wire::error_code::ErrorCode;
use wire::init_producer_id::{Request, Response};

use super::Api;
use super::error::Code;

/// Ids taken from the metadata at once.
const BLOCK: u32 = 1000;

/// The ids that are left of the block. An async lock: it is held while a new block is fetched, so that one is.
#[derive(Debug, Default)]
pub(super) struct ProducerIds(Mutex<std::ops::Range<i64>>);

impl ProducerIds {
    async fn next(&self, metadata: &metadata::Handle) -> Result<i64, ErrorCode> {
        let mut left = self.0.lock().await;
        if left.is_empty() {
            match metadata.submit(Command::AllocateProducerIds { count: BLOCK }).await {
                Ok(Reply::ProducerIds { first, count }) => *left = first.0..first.0 + i64::from(count),
                Ok(_) => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
                Err(error) => return Err(error.code()),
            }
        }
        left.next().ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)
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
    match api.producer_ids.next(&api.metadata).await {
        Ok(producer_id) => Response { producer_id, producer_epoch: 0, ..Response::default() },
        Err(code) => refused(code),
    }
}
