//! Commands, answers and extents as brokers send them to each other (`proto::controller`).
//!
//! What comes in is checked for its shape only: whether a command is possible is the machine's to say.

mod answer;
mod command;
#[cfg(test)]
pub(crate) mod tests;

use bytes::Bytes;
use objects::{Extent, Path};
use proto::controller as wire;
use records::{Offset, Partition, Timestamp, TopicId, TopicPartition};
use uuid::Uuid;

use crate::handle::{ExtentQuery, LocatedExtent, QueryError};

pub use answer::{from_answer, to_answer};
pub use command::{from_command, to_command};

/// A message that no broker of a version we know sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message between brokers cannot be understood: {0}")]
pub struct CodecError(&'static str);

fn bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn uuid(bytes: &[u8]) -> Result<Uuid, CodecError> {
    Uuid::from_slice(bytes).map_err(|_| CodecError("an id has not 16 bytes"))
}

fn topic_partition(topic: &[u8], partition: i32) -> Result<TopicPartition, CodecError> {
    Ok(TopicPartition { topic: TopicId(uuid(topic)?), partition: Partition(partition) })
}

/// A query as it is sent to the controller of this epoch.
#[must_use]
pub fn to_query(query: &ExtentQuery, controller_epoch: u64) -> wire::ExtentsRequest {
    wire::ExtentsRequest {
        controller_epoch,
        topic: bytes(query.of.topic.0),
        partition: query.of.partition.0,
        from: query.from.0,
        at_least: query.at_least.map(|at| at.0),
        limit: u32::try_from(query.limit).unwrap_or(u32::MAX),
    }
}

/// The query that was sent.
///
/// # Errors
/// [`CodecError`].
pub fn from_query(request: &wire::ExtentsRequest) -> Result<ExtentQuery, CodecError> {
    Ok(ExtentQuery {
        of: topic_partition(&request.topic, request.partition)?,
        from: Offset(request.from),
        at_least: request.at_least.map(Timestamp),
        limit: usize::try_from(request.limit).unwrap_or(usize::MAX),
    })
}

/// What was found, or why nothing was.
#[must_use]
pub fn to_extents(found: Result<Vec<LocatedExtent>, QueryError>) -> wire::ExtentsAnswer {
    use wire::extents_answer::Failure;
    let located = |located: &LocatedExtent| wire::LocatedExtent {
        extent: Some(located.extent.to_proto()),
        object: bytes(located.extent.object),
        key: located.key.to_string(),
        size: located.size,
    };
    let (extents, failure) = match found {
        Ok(extents) => (extents.iter().map(located).collect(), None),
        Err(QueryError::Unavailable(why)) => (Vec::new(), Some(Failure::Unavailable(why))),
        Err(QueryError::Corrupt(why)) => (Vec::new(), Some(Failure::Corrupt(why))),
    };
    wire::ExtentsAnswer { extents, failure }
}

/// What the controller answered.
///
/// # Errors
/// What it says, or that its answer cannot be understood.
pub fn from_extents(answer: wire::ExtentsAnswer) -> Result<Vec<LocatedExtent>, QueryError> {
    use wire::extents_answer::Failure;
    match answer.failure {
        Some(Failure::Unavailable(why)) => return Err(QueryError::Unavailable(why)),
        Some(Failure::Corrupt(why)) => return Err(QueryError::Corrupt(why)),
        None => {}
    }
    let located = |located: wire::LocatedExtent| {
        let corrupt = |why: String| QueryError::Corrupt(why);
        let object = uuid(&located.object).map_err(|error| corrupt(error.to_string()))?;
        let extent = located.extent.ok_or_else(|| corrupt("an extent is missing".into()))?;
        Ok(LocatedExtent {
            extent: Extent::from_proto(&extent, object).map_err(|error| corrupt(error.to_string()))?,
            key: Path::parse(&located.key).map_err(|error| corrupt(error.to_string()))?,
            size: located.size,
        })
    };
    answer.extents.into_iter().map(located).collect()
}
