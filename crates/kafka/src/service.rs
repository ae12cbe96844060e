//! What answers requests: the seam between the transport below and the APIs above.

use bytes::Bytes;
use futures::future::BoxFuture;
use std::{borrow::Cow, fmt, future::Future, sync::Arc};
use tokio::time::Instant;

use crate::{Context, Reservation, Rope};

/// One request as it came from the wire, without its length prefix: header and body, 8 bytes at least.
#[derive(Debug, Clone)]
pub struct Frame {
    /// A slice of the connection's read buffer (of at most 64 KiB, which it keeps alive), or an allocation of its own
    /// when larger.
    pub payload: Bytes,
    /// When its last byte had been read.
    pub received_at: Instant,
}

/// An answer, length prefix included.
#[derive(Debug)]
pub struct Answer {
    /// Its bytes.
    pub bytes: Rope,
    /// What was reserved for them; without it they are counted when they are there.
    pub reserved: Option<Reservation>,
}

impl From<Rope> for Answer {
    fn from(bytes: Rope) -> Self {
        Self { bytes, reserved: None }
    }
}

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// Begins a request: decodes it, appends what it brings, and says how the answer comes.
    ///
    /// Within one connection calls come one at a time, in order of arrival; the next request is not begun before this
    /// future is done. So it awaits only what must happen in order, and puts the wait for anything else (a sync, a long
    /// poll) into [`Step::Later`].
    ///
    /// Cancellation: a connection that ends drops this future at an `.await` only when its client is gone or the grace
    /// of a shutdown is over. A panic ends the connection, not the process.
    fn start(&self, context: &Arc<Context>, request: Frame) -> impl Future<Output = Step> + Send;

    /// What a request will cost, as far as that can be told before it is begun. Without a default: one service in front of
    /// another must ask that.
    fn weight(&self, payload: &Bytes) -> Weight;
}

/// What a request costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// How many bytes of memory it counts as while it is worked on, by what it holds. Its own at least.
    pub bytes: usize,
    /// Whether it may keep a processor for so long that other connections are not to wait behind it.
    pub is_long: bool,
}

/// How a request is answered.
pub enum Step {
    /// The answer, length prefix included.
    Reply(Rope),
    /// The answer comes when this is done; `None` is no answer after all (`acks=0`).
    ///
    /// It is polled until it is done once all earlier answers are out, and perhaps before. It is dropped when the
    /// client disconnects, so nothing that must happen may depend on its being polled.
    Later(BoxFuture<'static, Option<Answer>>),
    /// The protocol has no answer to this request.
    NoReply,
    /// The connection must end, because no error format exists for what came. Earlier answers still go out.
    Close(Cow<'static, str>),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(_) => f.write_str("Reply"),
            Self::Later(_) => f.write_str("Later"),
            Self::NoReply => f.write_str("NoReply"),
            Self::Close(reason) => f.debug_tuple("Close").field(reason).finish(),
        }
    }
}
