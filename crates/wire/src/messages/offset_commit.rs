//! Stores how far a group has read. Simple consumers commit with generation −1 and an empty member id.

use crate::text::Text;

message! {
    OffsetCommit, "2-9", flexible "8+";

    /// Offsets of a group.
    Request {
        group_id: Text => "0+";
        generation_id_or_member_epoch: i32 = -1 => "1+", ignorable();
        member_id: Text => "1+", ignorable();
        group_instance_id: Option<Text> => "7+", nullable("7+");
        /// How long the broker keeps the offsets; −1 leaves it to the broker.
        retention_time_ms: i64 = -1 => "2-4", ignorable();
        topics: Vec<OffsetCommitRequestTopic> => "0+";
    }

    /// The partitions of one topic.
    OffsetCommitRequestTopic {
        name: Text => "0-9", ignorable();
        partitions: Vec<OffsetCommitRequestPartition> => "0+";
    }

    /// The offset of one partition.
    OffsetCommitRequestPartition {
        partition_index: i32 => "0+";
        /// The next offset to read.
        committed_offset: i64 => "0+";
        committed_leader_epoch: i32 = -1 => "6+", ignorable();
        commit_timestamp: i64 = -1 => "1";
        committed_metadata: Option<Text> => "0+", nullable("0+");
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "3+", ignorable();
        topics: Vec<OffsetCommitResponseTopic> => "0+";
    }

    /// The partitions of one topic.
    OffsetCommitResponseTopic {
        name: Text => "0-9", ignorable();
        partitions: Vec<OffsetCommitResponsePartition> => "0+";
    }

    /// What became of one partition's offset.
    OffsetCommitResponsePartition {
        partition_index: i32 => "0+";
        error_code: i16 => "0+";
    }
}
