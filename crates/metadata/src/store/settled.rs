//! The object store as SlateDB is given it: "already exists" means that something is there.
//!
//! S3 answers a conditional create with 409 when another request for the key is under way, and that may be an earlier
//! attempt of the very same create; `object_store` reports it as "already exists" although nobody won. SlateDB takes the
//! answer for a fence: its writer would stop, or a new one would leave a gap in the log. So when nothing is there, the
//! create is made again. When something is there, SlateDB finds out itself whose it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// How often one create is made again.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Settled {
    inner: Arc<dyn ObjectStore>,
}

impl Settled {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner }
    }
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Settled {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mut pause = PAUSE;
        for _ in 0..TRIES {
            let put = self.inner.put_opts(location, payload.clone(), options.clone()).await;
            let conflict = options.mode == PutMode::Create && matches!(put, Err(Error::AlreadyExists { .. }));
            if !conflict {
                return put;
            }
            match self.inner.head(location).await {
                Err(Error::NotFound { .. }) => {}
                // Something is there, or it is not known: both are for SlateDB to judge.
                Ok(_) | Err(_) => return put,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        // Not a loss: nobody won. What is generic is tried again.
        Err(Error::Generic {
            store: "settled",
            source: format!("{location} is reported to exist, but does not").into(),
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
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
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
