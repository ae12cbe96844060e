//! An answer that comes later: the request has already been taken in, whether or not anyone waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use crate::group::Answer;
use crate::{GroupError, JoinRefused, Joined, PartitionResults, Synced};

/// The answer to a request that was taken in when the method returned this.
///
/// Await it whenever convenient. Dropping it is safe: the request takes its course and nobody hears its outcome; a
/// member whose client has gone is removed when its session time-out is over, as in Kafka.
#[must_use = "the answer tells whether the request succeeded"]
#[derive(Debug)]
pub struct Pending<T>(Inner<T>);

#[derive(Debug)]
enum Inner<T> {
    Ready(Option<T>),
    Waiting { receiver: oneshot::Receiver<Answer>, convert: fn(Answer) -> T },
}

impl<T> Pending<T> {
    /// An answer that is known already.
    pub(crate) fn ready(answer: T) -> Self {
        Self(Inner::Ready(Some(answer)))
    }

    /// An answer that a shard will give.
    pub(crate) fn waiting(receiver: oneshot::Receiver<Answer>, convert: fn(Answer) -> T) -> Self {
        Self(Inner::Waiting { receiver, convert })
    }
}

impl<T: Unpin> Future for Pending<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            Inner::Ready(answer) => Poll::Ready(answer.take().expect("a future is not polled after it was ready")),
            Inner::Waiting { receiver, convert } => {
                // A shard that ended dropped the sender: another broker may coordinate the group now.
                let answer = ready!(Pin::new(receiver).poll(context));
                Poll::Ready(convert(answer.unwrap_or(Answer::Refused(GroupError::NotCoordinator))))
            }
        }
    }
}

const MISMATCH: &str = "the state machine answers a request with its own kind of answer";

pub(crate) fn joined(answer: Answer) -> Result<Joined, JoinRefused> {
    match answer {
        Answer::Join(result) => result.map(|joined| *joined),
        Answer::Refused(error) => Err(JoinRefused { error, member_id: "".into() }),
        other => unreachable!("{MISMATCH}: {other:?}"),
    }
}

pub(crate) fn synced(answer: Answer) -> Result<Synced, GroupError> {
    match answer {
        Answer::Sync(synced) => Ok(synced),
        Answer::Refused(error) => Err(error),
        other => unreachable!("{MISMATCH}: {other:?}"),
    }
}

pub(crate) fn partitions(answer: Answer) -> Result<PartitionResults, GroupError> {
    match answer {
        Answer::Partitions(results) => Ok(results),
        Answer::Refused(error) => Err(error),
        other => unreachable!("{MISMATCH}: {other:?}"),
    }
}

pub(crate) fn done(answer: Answer) -> Result<(), GroupError> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Refused(error) => Err(error),
        other => unreachable!("{MISMATCH}: {other:?}"),
    }
}
