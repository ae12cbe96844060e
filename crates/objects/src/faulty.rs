//! Stores that misbehave, for the tests: what the field has shown stores to do, made deterministic.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use records::Random;
use tokio::sync::Barrier;

/// What a store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Checks the condition, and writes later: right one after the other, wrong in a race.
    ChecksThenWrites,
    /// Ignores conditions.
    IgnoresConditions,
    /// Ignores conditions of replaces only.
    IgnoresReplaceConditions,
    /// Writes, and answers with an error that says nothing.
    LosesAnswers,
    /// Writes, and tells the winner that the object exists, or that the condition failed.
    TellsWinnersTheyLost,
    /// Answers a conflict without having written, and nobody else has either; the next request works.
    ConflictsWithoutWinner,
    /// Names neither tag nor version.
    NoTags,
    /// Cannot do conditional replaces.
    NoReplace,
    /// Refuses to write.
    Denies,
    /// Never answers usefully.
    Down,
    /// Cannot delete.
    KeepsAll,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: InMemory,
    fault: Fault,
    puts: AtomicU64,
    checked: Barrier,
}

impl Faulty {
    pub(crate) fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            fault,
            puts: AtomicU64::new(0),
            checked: Barrier::new(crate::preflight::WRITERS),
        })
    }

    async fn check(&self, location: &Path, mode: &PutMode) -> Result<()> {
        let current = self.inner.head(location).await;
        match (mode, current) {
            (PutMode::Create, Ok(_)) => Err(exists(location)),
            (PutMode::Update(expected), Ok(current)) if current.e_tag != expected.e_tag => Err(failed(location)),
            (PutMode::Update(_), Err(_)) => Err(failed(location)),
            _ => Ok(()),
        }
    }
}

fn exists(location: &Path) -> Error {
    Error::AlreadyExists { path: location.to_string(), source: "409".into() }
}

fn failed(location: &Path) -> Error {
    Error::Precondition { path: location.to_string(), source: "412".into() }
}

fn generic(why: &'static str) -> Error {
    Error::Generic { store: "faulty", source: why.into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.fault)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let number = self.puts.fetch_add(1, Ordering::SeqCst);
        let replaces = matches!(options.mode, PutMode::Update(_));
        let refusal = if replaces { failed(location) } else { exists(location) };
        match self.fault {
            Fault::ChecksThenWrites => {
                self.check(location, &options.mode).await?;
                // The race at its worst: all writers have checked before the first one writes.
                self.checked.wait().await;
                self.inner.put(location, payload).await
            }
            Fault::IgnoresConditions => self.inner.put(location, payload).await,
            Fault::IgnoresReplaceConditions if replaces => self.inner.put(location, payload).await,
            Fault::LosesAnswers => {
                let _lost = self.inner.put_opts(location, payload, options).await;
                Err(generic("the connection was reset"))
            }
            Fault::TellsWinnersTheyLost => match self.inner.put_opts(location, payload, options).await {
                Ok(_) => Err(refusal),
                error => error,
            },
            Fault::ConflictsWithoutWinner if number.is_multiple_of(2) => Err(refusal),
            Fault::NoReplace if replaces => {
                Err(Error::NotImplemented { operation: "replace".into(), implementer: "faulty".into() })
            }
            Fault::Denies => Err(Error::PermissionDenied { path: location.to_string(), source: "403".into() }),
            Fault::Down => Err(generic("connection refused")),
            Fault::NoTags => {
                let done = self.inner.put_opts(location, payload, options).await?;
                Ok(PutResult { e_tag: None, version: None, ..done })
            }
            _ => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.fault == Fault::Down {
            return Err(generic("connection refused"));
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if matches!(self.fault, Fault::KeepsAll | Fault::Down) {
            return Box::pin(futures::StreamExt::map(locations, |_| Err(generic("no deletes here"))));
        }
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Numbers that do not repeat.
#[derive(Debug, Default)]
pub(crate) struct Counting(Mutex<u128>);

impl Random for Counting {
    fn next(&self) -> u128 {
        let mut last = self.0.lock().unwrap();
        *last += 1;
        *last << 64
    }
}
