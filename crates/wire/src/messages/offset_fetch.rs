//! Reads back how far groups have read: one group up to version 7, several from 8 on. Null topics are all topics.
//! What was never committed is offset −1 without an error.

use crate::text::Text;

message! {
    OffsetFetch, "1-9", flexible "6+";

    /// Asks for offsets of groups.
    Request {
        group_id: Text => "0-7";
        /// Null is every topic that has offsets.
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()) => "0-7", nullable("2-7");
        groups: Vec<OffsetFetchRequestGroup> => "8+";
        /// Answer UNSTABLE_OFFSET_COMMIT while a transaction may still change an offset.
        require_stable: bool => "7+";
    }

    /// Partitions of one topic, up to version 7.
    OffsetFetchRequestTopic {
        name: Text => "0-7";
        partition_indexes: Vec<i32> => "0-7";
    }

    /// One group, from version 8 on.
    OffsetFetchRequestGroup {
        group_id: Text => "8+";
        member_id: Option<Text> => "9+", nullable("9+"), ignorable();
        member_epoch: i32 = -1 => "9+", ignorable();
        /// Null is every topic that has offsets.
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(Vec::new()) => "8+", nullable("8+");
    }

    /// Partitions of one topic, from version 8 on.
    OffsetFetchRequestTopics {
        name: Text => "8-9", ignorable();
        partition_indexes: Vec<i32> => "8+";
    }

    /// The offsets.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "3+", ignorable();
        topics: Vec<OffsetFetchResponseTopic> => "0-7";
        error_code: i16 => "2-7", ignorable();
        groups: Vec<OffsetFetchResponseGroup> => "8+";
    }

    /// The partitions of one topic, up to version 7.
    OffsetFetchResponseTopic {
        name: Text => "0-7";
        partitions: Vec<OffsetFetchResponsePartition> => "0-7";
    }

    /// The offset of one partition, up to version 7.
    OffsetFetchResponsePartition {
        partition_index: i32 => "0-7";
        committed_offset: i64 => "0-7";
        committed_leader_epoch: i32 = -1 => "5-7", ignorable();
        metadata: Option<Text> => "0-7", nullable("0-7");
        error_code: i16 => "0-7";
    }

    /// One group, from version 8 on.
    OffsetFetchResponseGroup {
        group_id: Text => "8+";
        topics: Vec<OffsetFetchResponseTopics> => "8+";
        error_code: i16 => "8+";
    }

    /// The partitions of one topic, from version 8 on.
    OffsetFetchResponseTopics {
        name: Text => "8-9", ignorable();
        partitions: Vec<OffsetFetchResponsePartitions> => "8+";
    }

    /// The offset of one partition, from version 8 on.
    OffsetFetchResponsePartitions {
        partition_index: i32 => "8+";
        committed_offset: i64 => "8+";
        committed_leader_epoch: i32 = -1 => "8+", ignorable();
        metadata: Option<Text> => "8+", nullable("8+");
        error_code: i16 => "8+";
    }
}
