//! Where a leader epoch ended: how a consumer finds out that its log was cut (KIP-320).

use crate::text::Text;

message! {
    OffsetForLeaderEpoch, "2-4", flexible "4+";

    /// Asks for ends of epochs.
    Request {
        /// −1 for consumers; −2 in old requests that do not say.
        replica_id: i32 = -2 => "3+", ignorable();
        topics: Vec<OffsetForLeaderTopic> => "0+";
    }

    /// The partitions of one topic.
    OffsetForLeaderTopic {
        topic: Text => "0+";
        partitions: Vec<OffsetForLeaderPartition> => "0+";
    }

    /// The epoch to look up in one partition.
    OffsetForLeaderPartition {
        partition: i32 => "0+";
        /// The epoch that the client believes in; −1 is not checked.
        current_leader_epoch: i32 = -1 => "2+", ignorable();
        leader_epoch: i32 => "0+";
    }

    /// The ends.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "2+", ignorable();
        topics: Vec<OffsetForLeaderTopicResult> => "0+";
    }

    /// The partitions of one topic.
    OffsetForLeaderTopicResult {
        topic: Text => "0+";
        partitions: Vec<EpochEndOffset> => "0+";
    }

    /// The end of the largest epoch that is not above the one asked for.
    EpochEndOffset {
        error_code: i16 => "0+";
        partition: i32 => "0+";
        leader_epoch: i32 = -1 => "1+", ignorable();
        end_offset: i64 = -1 => "0+";
    }
}
