//! Why the coordinator refuses a request: one variant for each of Kafka's error codes that it answers with.
//!
//! The names are Kafka's; `code` gives the number for the wire. Whether a client retries follows from the code.

use thiserror::Error;

/// A refusal. Each variant is exactly one error code of the Kafka protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum GroupError {
    /// The records of the change could not be stored for a reason that another try does not mend.
    #[error("the change could not be stored")]
    UnknownServerError,
    /// The metadata beside a committed offset is longer than allowed.
    #[error("the metadata of the committed offset is too long")]
    OffsetMetadataTooLarge,
    /// The coordinator of this group is still reading its records; try again soon.
    #[error("the coordinator is still loading this group")]
    CoordinatorLoadInProgress,
    /// The coordinator cannot do it now (its log refuses, too much is waiting, the group is being deleted); try again.
    #[error("the coordinator is not available now")]
    CoordinatorNotAvailable,
    /// Another broker coordinates this group; look it up again.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// The generation is not the group's current one.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// The protocol type differs from the group's, or no protocol is supported by all its members.
    #[error("the member's protocols do not fit those of the group")]
    InconsistentGroupProtocol,
    /// The group id may not be empty here.
    #[error("the group id is not valid")]
    InvalidGroupId,
    /// The group has no member of this id.
    #[error("the group has no such member")]
    UnknownMemberId,
    /// The session time-out lies outside the configured limits.
    #[error("the session time-out is outside the allowed range")]
    InvalidSessionTimeout,
    /// The group is rebalancing; join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The commit cannot be stored because of its size: its record is too large, or the group has too many offsets.
    #[error("the group has too many offsets, or the commit is too large")]
    InvalidCommitOffsetSize,
    /// The request is malformed or larger than a member may be.
    #[error("the request is not valid")]
    InvalidRequest,
    /// The coordinator has as many groups as it may have.
    #[error("no further group is allowed here")]
    PolicyViolation,
    /// The group still has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// Join again with the member id that came with this error.
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// The group has as many members as it may have.
    #[error("the group has as many members as it may have")]
    GroupMaxSizeReached,
    /// Another member has taken over this static member's instance id.
    #[error("another member took over this group.instance.id")]
    FencedInstanceId,
    /// Members of the group are subscribed to the topic.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
}

impl GroupError {
    /// Kafka's error code.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::UnknownServerError => -1,
            Self::OffsetMetadataTooLarge => 12,
            Self::CoordinatorLoadInProgress => 14,
            Self::CoordinatorNotAvailable => 15,
            Self::NotCoordinator => 16,
            Self::IllegalGeneration => 22,
            Self::InconsistentGroupProtocol => 23,
            Self::InvalidGroupId => 24,
            Self::UnknownMemberId => 25,
            Self::InvalidSessionTimeout => 26,
            Self::RebalanceInProgress => 27,
            Self::InvalidCommitOffsetSize => 28,
            Self::InvalidRequest => 42,
            Self::PolicyViolation => 44,
            Self::NonEmptyGroup => 68,
            Self::GroupIdNotFound => 69,
            Self::MemberIdRequired => 79,
            Self::GroupMaxSizeReached => 81,
            Self::FencedInstanceId => 82,
            Self::GroupSubscribedToTopic => 86,
        }
    }
}
