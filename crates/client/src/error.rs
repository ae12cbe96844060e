//! What can go wrong, said so that the caller knows what to do: try again, give up, or tell a person.

use std::sync::Arc;
use std::time::Duration;

use wire::ErrorCode;

use crate::Address;

/// An error of the client. Cheap to clone: one failed request may fail many records.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL of the cluster cannot be understood.
    #[error(
        "cannot use {url:?} as the address of a cluster: {problem}; use quic://host:port, kafka://host:port or kafkas://host:port"
    )]
    Target {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] Arc<tls::Error>),
    /// Settings that cannot work together.
    #[error("{0}")]
    Config(String),
    /// No connection could be made.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Who does not answer.
        address: Address,
        /// What the system said.
        reason: String,
    },
    /// The connection ended while an answer was due. Whether the request was carried out is not known.
    #[error("lost the connection to {address}: {reason}")]
    Disconnected {
        /// The other end.
        address: Address,
        /// Why it ended.
        reason: String,
    },
    /// Something took longer than the configuration allows. Whether a request was carried out is not known.
    #[error("{what} took longer than {after:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The broker answered with an error.
    #[error("{what}: {}{}", describe(*code), message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Broker {
        /// Kafka's error.
        code: ErrorCode,
        /// What was asked for.
        what: String,
        /// What the broker said of it.
        message: Option<String>,
    },
    /// The broker does not serve what is needed.
    #[error("{address} does not serve {api} in a version that this client speaks")]
    Unsupported {
        /// The broker.
        address: Address,
        /// The API.
        api: &'static str,
    },
    /// The broker sent what is not the Kafka protocol.
    #[error("{address} does not speak the Kafka protocol as it should: {reason}")]
    Protocol {
        /// The broker.
        address: Address,
        /// What is wrong.
        reason: String,
    },
    /// The record does not fit.
    #[error("a record of {len} bytes is larger than the {bytes_max} bytes that are allowed")]
    TooLarge {
        /// Its size.
        len: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Record batches that the broker sent are damaged.
    #[error("{topic}/{partition} at offset {offset}: {source}")]
    Records {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where reading stands.
        offset: i64,
        /// What is wrong.
        source: records::BatchError,
    },
    /// A partition has no committed offset, or one that is gone, and the consumer was told not to choose.
    #[error("{topic}/{partition} has no offset to start from: commit or seek to one, or choose a reset policy")]
    NoOffset {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The batch that this record was in may or may not have been written: the connection ended or the time ran out
    /// before the broker's answer, and sending it again could write it twice.
    #[error("whether the record was written is not known: {0}")]
    Unknown(Box<Error>),
    /// The producer or consumer was closed.
    #[error("the {0} is closed")]
    Closed(&'static str),
}

/// What an error means to a person or a script; `weir` makes its exit codes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It was asked for wrongly: nothing but another question helps.
    Usage,
    /// The topic, partition, group or other thing is not there.
    NotFound,
    /// The cluster cannot be reached, or does not answer in time.
    Unreachable,
    /// Authentication or permission is missing.
    Refused,
    /// Anything else.
    Failed,
}

impl Error {
    pub(crate) fn broker(code: impl Into<ErrorCode>, what: impl Into<String>) -> Self {
        Self::Broker { code: code.into(), what: what.into(), message: None }
    }

    pub(crate) fn with_message(self, text: Option<&wire::Text>) -> Self {
        match self {
            Self::Broker { code, what, .. } => Self::Broker { code, what, message: text.map(ToString::to_string) },
            other => other,
        }
    }

    /// Whether the same request may succeed when it is sent again.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } => true,
            Self::Broker { code, .. } => code.retriable(),
            _ => false,
        }
    }

    /// The broker's error, if it was one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// What it means to a person.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Target { .. } | Self::Config(_) | Self::TooLarge { .. } => ErrorKind::Usage,
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } => ErrorKind::Unreachable,
            Self::Unknown(inner) => inner.kind(),
            Self::Broker { code, .. } => match *code {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::GROUP_ID_NOT_FOUND
                | ErrorCode::RESOURCE_NOT_FOUND => ErrorKind::NotFound,
                ErrorCode::TOPIC_AUTHORIZATION_FAILED
                | ErrorCode::GROUP_AUTHORIZATION_FAILED
                | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | ErrorCode::SASL_AUTHENTICATION_FAILED => ErrorKind::Refused,
                _ => ErrorKind::Failed,
            },
            _ => ErrorKind::Failed,
        }
    }
}

/// Gives an error of the broker, or nothing for code 0.
pub(crate) fn check(code: i16, what: impl FnOnce() -> String) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::broker(code, what())) }
}

/// A sentence for the errors that people meet most, Kafka's name for the others.
fn describe(code: ErrorCode) -> String {
    let known = match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => "there is no such topic or partition",
        ErrorCode::TOPIC_ALREADY_EXISTS => "the topic exists already",
        ErrorCode::INVALID_TOPIC_EXCEPTION => "the name is not one that a topic can have",
        ErrorCode::GROUP_ID_NOT_FOUND => "there is no such group",
        ErrorCode::NON_EMPTY_GROUP => "the group has members",
        ErrorCode::MESSAGE_TOO_LARGE => "the records are larger than the broker allows",
        ErrorCode::OFFSET_OUT_OF_RANGE => "the offset is not in the log",
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => "not permitted",
        _ => return code.to_string(),
    };
    format!("{known} ({})", code.name())
}
