//! Notices that a store which said nothing is back, and sends again what still waits for an answer of before.
//!
//! Requests may take as long as `request_timeout_ms` says, a minute by default: large ones on a slow line need it. But a
//! request to a store that fell silent (a firewall, a dead connection, a proxy that restarted) waits out its minute also
//! when the store is long back, and with it the producers that wait for room. So while a request takes long, a small one is
//! sent beside it. When that was not answered, and then is, the store is back, and what was sent before is sent anew.
//!
//! Cost: a HEAD every two seconds while a request takes longer than that; none otherwise.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// A request that takes longer is watched.
const SLOW: Duration = Duration::from_secs(2);
/// How long the small request may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between two of them while the store answers; while it does not, there is none but a short one.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const SILENT_INTERVAL: Duration = Duration::from_millis(100);
/// Nothing is there: the answer is as small as can be.
const PROBE: &str = "weir-probe";

#[derive(Debug)]
pub(crate) struct Watched {
    inner: Arc<dyn ObjectStore>,
    /// How often the store came back.
    returns: watch::Sender<u64>,
    /// Held by the one request that looks after the store for all that wait.
    looking: Semaphore,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, returns: watch::Sender::new(0), looking: Semaphore::new(1) }
    }

    /// The answer to a request; nothing when the store came back before there was one. Then the request is given up, and may
    /// have been carried out.
    async fn answer<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        let mut returns = self.returns.subscribe();
        let mut request = std::pin::pin!(request);
        if let Ok(answer) = timeout(SLOW, &mut request).await {
            return Some(answer);
        }
        let look = async {
            let _looking = self.looking.acquire().await.expect("it is never closed");
            self.until_back().await;
            self.returns.send_modify(|returns| *returns += 1);
        };
        tokio::select! {
            biased;
            answer = request => Some(answer),
            _ = returns.changed() => None,
            () = look => None,
        }
    }

    /// Waits until the store is silent, and then until it answers.
    async fn until_back(&self) {
        let mut was_silent = false;
        loop {
            let answered = match timeout(PROBE_TIMEOUT, self.inner.head(&Path::from(PROBE))).await {
                Err(_) | Ok(Err(Error::Generic { .. })) => false,
                // Also a refusal is an answer.
                Ok(_) => true,
            };
            if answered && was_silent {
                return;
            }
            was_silent |= !answered;
            sleep(if was_silent { SILENT_INTERVAL } else { PROBE_INTERVAL }).await;
        }
    }

    /// For a request that may be carried out twice.
    async fn repeated<T, F: Future<Output = Result<T>>>(&self, request: impl Fn() -> F) -> Result<T> {
        loop {
            if let Some(answer) = self.answer(request()).await {
                return answer;
            }
            tracing::info!(store = %self.inner, "the object store answers again: a request that waited is sent anew");
        }
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = || self.inner.put_opts(location, payload.clone(), options.clone());
        if options.mode == PutMode::Overwrite {
            return self.repeated(put).await;
        }
        // Whoever makes a conditional write has to find out what became of it.
        let given_up = || Error::Generic {
            store: "watched",
            source: format!("no answer to the conditional write of {location}, and now the store answers others")
                .into(),
        };
        self.answer(put()).await.unwrap_or_else(|| Err(given_up()))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.repeated(|| self.inner.get_opts(location, options.clone())).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.repeated(|| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests;
