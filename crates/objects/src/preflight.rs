//! Proves on the real bucket that conditional writes have one winner, before anything rests on it.
//!
//! A store that fails races passes any test made one request after the other: so several rounds are run, and in each
//! several writers race for one key, first to create it and then to replace it. Every value is unique, and who won is
//! decided as the election decides it ([`crate::conditional`]). The probes are deleted at the end, whatever it is.
//!
//! Cost: about 100 PUT, 100 GET and 5 DELETE, a fraction of a cent, and some 4 MiB each way; at each start and in
//! `weir doctor`.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, UpdateVersion};
use records::Random;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::Store;
use crate::conditional::{self, ConditionalError, Outcome};
use crate::keys;

const ROUNDS: usize = 5;
pub(crate) const WRITERS: usize = 8;
/// The size of a value: a store that checks first and writes later is caught between the two, the longer the writing
/// takes. With values of 60 bytes s3s-fs passed 2 starts of 200, with these none of 300.
const PROBE_BYTES: usize = 48 << 10;

/// What was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many races were run for creating, and as many for replacing.
    pub rounds: usize,
    /// How many writers took part in each.
    pub writers: usize,
    /// How many probes could not be deleted. They lie under `preflight/` and may be removed.
    pub leftover: usize,
}

/// Which kind of conditional write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Writing only if nothing is there (`If-None-Match: *`).
    Create,
    /// Writing only if the known version is there (`If-Match`).
    Replace,
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "conditional create (If-None-Match: *)",
            Self::Replace => "conditional replace (If-Match)",
        })
    }
}

/// Why a store cannot be used, or cannot be judged now. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The store lets several writers win one race: records would be lost on it.
    #[error(
        "{store} is not safe for Weir: {winners} of {WRITERS} writers won one race of {capability}. \
         Use a store that carries these out atomically (Amazon S3, MinIO, Google Cloud Storage, Azure Blob Storage), \
         or a newer version of this one."
    )]
    ManyWinners {
        /// The store.
        store: String,
        /// What was tried.
        capability: Capability,
        /// How many writers won.
        winners: usize,
    },
    /// The store let nobody win, or showed something else than what the winner wrote.
    #[error(
        "{store} is not safe for Weir: after a race of {capability}, {what}. \
         Use a store that reads what was written last, and let nothing else write under `preflight/`."
    )]
    Wrong {
        /// The store.
        store: String,
        /// What was tried.
        capability: Capability,
        /// What was seen.
        what: &'static str,
    },
    /// The store cannot do conditional writes.
    #[error(
        "{store} cannot do a {capability}: {reason}. \
         Use a store that can (Amazon S3, MinIO, Google Cloud Storage, Azure Blob Storage)."
    )]
    Unsupported {
        /// The store.
        store: String,
        /// What was tried.
        capability: Capability,
        /// What the store said.
        reason: String,
    },
    /// The store refused the credentials.
    #[error(
        "{store} refused a {capability}: {source}. \
         Check the credentials; they need to read, write, list and delete objects under this URL."
    )]
    Refused {
        /// The store.
        store: String,
        /// What was tried.
        capability: Capability,
        /// What the store said.
        source: Error,
    },
    /// The bucket is not there.
    #[error("{store} does not exist: {source}. Make the bucket, or correct `store.url`.")]
    NoBucket {
        /// The store.
        store: String,
        /// What the store said.
        source: Error,
    },
    /// The store did not answer so that it can be judged: the only variant that trying again can cure.
    #[error("{store} does not answer: {source}. Check its endpoint and the network; then try again.")]
    Unavailable {
        /// The store.
        store: String,
        /// What the store said last.
        source: Error,
    },
}

impl PreflightError {
    /// Whether trying again can help: the store was not judged.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Runs the probes. Cancellation safe but for probes that are left over.
///
/// # Errors
/// When the store is not safe to use, or could not be judged.
pub async fn run(store: &Store, random: &Arc<dyn Random>) -> Result<Report, PreflightError> {
    let probe = Probe {
        store: Arc::clone(store.object_store()),
        name: store.to_string(),
        random: Arc::clone(random),
        folder: keys::preflight_path(random.uuid()),
    };
    let mut outcome = Ok(());
    for round in 0..ROUNDS {
        outcome = probe.round(round).await;
        if outcome.is_err() {
            break;
        }
    }
    let leftover = probe.clean().await;
    outcome.map(|()| Report { rounds: ROUNDS, writers: WRITERS, leftover })
}

struct Probe {
    store: Arc<dyn ObjectStore>,
    name: String,
    random: Arc<dyn Random>,
    folder: Path,
}

/// A value, and how the write of it ended.
type Written = (Bytes, Result<Outcome, ConditionalError>);

impl Probe {
    fn key(&self, round: usize) -> Path {
        self.folder.clone().join(round.to_string())
    }

    async fn round(&self, round: usize) -> Result<(), PreflightError> {
        let key = self.key(round);
        let created = self.race(&key, None).await;
        let first = self.judge(&key, Capability::Create, created).await?;
        let replaced = self.race(&key, Some(&first)).await;
        self.judge(&key, Capability::Replace, replaced).await?;
        // The version that was replaced is worth nothing any more, also without a race.
        let late = conditional::replace(&*self.store, &key, self.value("late"), &first).await;
        match late {
            Ok(Outcome::Lost(_)) => Ok(()),
            Ok(Outcome::Won(_)) => {
                Err(self.wrong(Capability::Replace, "a version that was replaced could be replaced again"))
            }
            Err(error) => Err(self.failed(Capability::Replace, error)),
        }
    }

    /// Lets all writers start at once, each with its own value.
    async fn race(&self, key: &Path, expected: Option<&UpdateVersion>) -> Vec<Written> {
        let start = Arc::new(Barrier::new(WRITERS));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let value = self.value(&writer.to_string());
            let (store, key, expected) = (Arc::clone(&self.store), key.clone(), expected.cloned());
            let start = Arc::clone(&start);
            writers.spawn(async move {
                start.wait().await;
                let outcome = match &expected {
                    None => conditional::create(&*store, &key, value.clone()).await,
                    Some(expected) => conditional::replace(&*store, &key, value.clone(), expected).await,
                };
                (value, outcome)
            });
        }
        writers.join_all().await
    }

    /// Exactly one writer won, and what it wrote stands.
    async fn judge(
        &self,
        key: &Path,
        capability: Capability,
        race: Vec<Written>,
    ) -> Result<UpdateVersion, PreflightError> {
        let mut won = Vec::new();
        let mut failed = None;
        for (value, outcome) in race {
            match outcome {
                Ok(Outcome::Won(version)) => won.push((value, version)),
                Ok(Outcome::Lost(_)) => {}
                Err(error) => failed = Some(error),
            }
        }
        // Two winners condemn a store, whatever else went wrong.
        if won.len() > 1 {
            return Err(PreflightError::ManyWinners { store: self.name.clone(), capability, winners: won.len() });
        }
        if let Some(error) = failed {
            return Err(self.failed(capability, error));
        }
        let Some((value, version)) = won.pop() else {
            return Err(self.wrong(capability, "no writer had won"));
        };
        let read = conditional::read(&*self.store, key).await;
        match read.map_err(|source| self.unavailable(source))? {
            Some(current) if current.value == value => Ok(version),
            Some(_) => Err(self.wrong(capability, "something else was read than the winner wrote")),
            None => Err(self.wrong(capability, "nothing could be read")),
        }
    }

    async fn clean(&self) -> usize {
        let keys = (0..ROUNDS).map(|round| Ok(self.key(round))).collect::<Vec<_>>();
        let deleted = self.store.delete_stream(stream::iter(keys).boxed());
        let failed = deleted.filter(|deleted| {
            let failed = matches!(deleted, Err(error) if !matches!(error, Error::NotFound { .. }));
            async move { failed }
        });
        let leftover = failed.count().await;
        if leftover > 0 {
            tracing::warn!(folder = %self.folder, leftover, "probes of the pre-flight could not be deleted");
        }
        leftover
    }

    /// A value that nobody else writes.
    fn value(&self, who: &str) -> Bytes {
        format!("{:PROBE_BYTES$}\n", format!("weir pre-flight {} {who}", self.random.uuid())).into()
    }

    fn wrong(&self, capability: Capability, what: &'static str) -> PreflightError {
        PreflightError::Wrong { store: self.name.clone(), capability, what }
    }

    fn unavailable(&self, source: Error) -> PreflightError {
        PreflightError::Unavailable { store: self.name.clone(), source }
    }

    fn failed(&self, capability: Capability, error: ConditionalError) -> PreflightError {
        let store = self.name.clone();
        match error {
            ConditionalError::Unsupported(source) => {
                PreflightError::Unsupported { store, capability, reason: source.to_string() }
            }
            ConditionalError::NoVersion { .. } => {
                PreflightError::Unsupported { store, capability, reason: "it gives objects no entity tag".to_owned() }
            }
            ConditionalError::Refused { source, .. } => PreflightError::Refused { store, capability, source },
            ConditionalError::Gone { .. } => self.wrong(capability, "the object was gone"),
            ConditionalError::Unclear { source: source @ Error::NotFound { .. }, .. } => {
                PreflightError::NoBucket { store, source }
            }
            ConditionalError::Unclear { source, .. } => self.unavailable(source),
        }
    }
}

#[cfg(test)]
mod tests;
