//! The one table from our errors to Kafka's codes.

use log::{AppendError, FetchError, PartitionError, SequenceError};
use metadata::SubmitError;
use records::BatchError;
use wire::error_code::ErrorCode;

/// What a client is told of an error.
pub(crate) trait Code {
    fn code(&self) -> ErrorCode;
}

impl Code for PartitionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        }
    }
}

impl Code for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Self::Sequence(SequenceError::OutOfOrder { .. }) => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::Sequence(SequenceError::Fenced { .. }) => ErrorCode::INVALID_PRODUCER_EPOCH,
            // Nothing was appended, and trying again is right.
            Self::Busy => ErrorCode::NOT_ENOUGH_REPLICAS,
            Self::JournalEnded => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}

impl Code for FetchError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::Disk(_) | Self::Damaged(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            Self::Store(_) | Self::Metadata(_) | Self::Stopping => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}

impl Code for BatchError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Crc { .. } | Self::Truncated { .. } => ErrorCode::CORRUPT_MESSAGE,
            Self::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            Self::Magic(_) => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            _ => ErrorCode::INVALID_RECORD,
        }
    }
}

impl Code for SubmitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Unavailable(_) | Self::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
            Self::Fenced => ErrorCode::NOT_CONTROLLER,
        }
    }
}
