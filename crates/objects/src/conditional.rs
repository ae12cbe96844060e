//! Who won a conditional write: put, and where the answer does not prove it, read back and compare.
//!
//! A client of an object store repeats a PUT whose answer was lost, and the store then tells the very winner that the
//! object already exists; some stores answer a conflict where nobody won. So neither "already exists" nor "precondition
//! failed" nor a time-out decides anything. What decides is what stands in the store, which a reader recognises because
//! **every value that is written here is unique** (it carries a random id): this is the caller's part.
//!
//! Cost: 1 PUT when all goes well; for a loser 1 PUT and 1 GET.

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

/// How often one write is tried, each time with the same value, before it is given up as unclear.
const TRIES: u32 = 6;
const BACKOFF_FIRST: Duration = Duration::from_millis(25);

/// A value that stands in the store.
#[derive(Debug, Clone)]
pub struct Current {
    /// Its bytes.
    pub value: Bytes,
    /// What [`replace`] needs to replace it.
    pub version: UpdateVersion,
}

/// How a conditional write ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Our value stands; with what [`replace`] needs to replace it.
    Won(UpdateVersion),
    /// Another value stands, and ours never will. (It may have stood for a moment, when its answer was lost and it was
    /// replaced before we looked.)
    Lost(Current),
}

/// Why a conditional write ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum ConditionalError {
    /// The store can not do it at all.
    #[error("the store does not support conditional writes: {0}")]
    Unsupported(#[source] Error),
    /// The store refused us; nothing was written.
    #[error("the store refused to write {key}: {source}")]
    Refused {
        /// The object's key.
        key: Path,
        /// What the store said.
        source: Error,
    },
    /// The object that was to be replaced is gone.
    #[error("{key} is not there any more")]
    Gone {
        /// The object's key.
        key: Path,
    },
    /// The store gave no answer that decides. The value may stand already, or come to stand later: read before acting.
    #[error("it is not known whether {key} was written: {source}")]
    Unclear {
        /// The object's key.
        key: Path,
        /// The last thing that the store said.
        source: Error,
    },
    /// The store accepted the write but named no version, so that nothing could be built on it.
    #[error("the store gives objects no entity tag or version ({key})")]
    NoVersion {
        /// The object's key.
        key: Path,
    },
}

/// Writes `value` as `key` if nothing stands there. `value` must be unique. Not cancellation safe: a write that was
/// abandoned may come to stand.
///
/// # Errors
/// When the store's answers do not decide it.
pub async fn create(store: &dyn ObjectStore, key: &Path, value: Bytes) -> Result<Outcome, ConditionalError> {
    decide(store, key, value, None).await
}

/// Writes `value` as `key` if `expected` still stands there. `value` must be unique. Not cancellation safe: a write that
/// was abandoned may come to stand.
///
/// # Errors
/// When the store's answers do not decide it, or nothing stands there.
pub async fn replace(
    store: &dyn ObjectStore,
    key: &Path,
    value: Bytes,
    expected: &UpdateVersion,
) -> Result<Outcome, ConditionalError> {
    decide(store, key, value, Some(expected)).await
}

/// What stands as `key`, if anything.
///
/// # Errors
/// When the store does not answer. Cancellation safe.
pub async fn read(store: &dyn ObjectStore, key: &Path) -> Result<Option<Current>, Error> {
    let found = match store.get(key).await {
        Ok(found) => found,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
    Ok(Some(Current { value: found.bytes().await?, version }))
}

async fn decide(
    store: &dyn ObjectStore,
    key: &Path,
    value: Bytes,
    expected: Option<&UpdateVersion>,
) -> Result<Outcome, ConditionalError> {
    let mode = expected.map_or(PutMode::Create, |expected| PutMode::Update(expected.clone()));
    let mut backoff = BACKOFF_FIRST;
    let mut attempt = 1;
    loop {
        let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
        let said = match store.put_opts(key, PutPayload::from_bytes(value.clone()), options).await {
            Ok(result) => return won(key, result.into()),
            Err(error @ (Error::NotImplemented { .. } | Error::NotSupported { .. })) => {
                return Err(ConditionalError::Unsupported(error));
            }
            Err(error) => error,
        };
        let undecided = match read(store, key).await {
            Ok(Some(current)) if current.value == value => return won(key, current.version),
            Ok(Some(current)) if expected.is_none_or(|expected| !same(expected, &current.version)) => {
                return Ok(Outcome::Lost(current));
            }
            // The store says that somebody else was first, and nobody was: or nothing happened (yet).
            Ok(Some(_)) => said,
            Ok(None) if expected.is_some() => return Err(ConditionalError::Gone { key: key.clone() }),
            Ok(None) => said,
            Err(error) => error,
        };
        if attempt == 1 && is_refusal(&undecided) {
            return Err(ConditionalError::Refused { key: key.clone(), source: undecided });
        }
        if attempt == TRIES {
            return Err(ConditionalError::Unclear { key: key.clone(), source: undecided });
        }
        // The same value again: if the write before comes to stand after all, this one fails, and reading back finds ours.
        attempt += 1;
        tokio::time::sleep(backoff).await;
        backoff *= 2;
    }
}

fn won(key: &Path, version: UpdateVersion) -> Result<Outcome, ConditionalError> {
    if version.e_tag.is_none() && version.version.is_none() {
        return Err(ConditionalError::NoVersion { key: key.clone() });
    }
    Ok(Outcome::Won(version))
}

/// Whether two versions can be of the same value: where both name a tag or a version, these are equal.
fn same(one: &UpdateVersion, other: &UpdateVersion) -> bool {
    let equal = |one: &Option<String>, other: &Option<String>| one.is_none() || other.is_none() || one == other;
    equal(&one.e_tag, &other.e_tag) && equal(&one.version, &other.version)
}

fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::InvalidPath { .. })
}

#[cfg(test)]
mod tests;
