//! Deletes a group's offsets for topics that it is not subscribed to.

use crate::text::Text;

message! {
    OffsetDelete, "0";

    /// The offsets to delete.
    Request {
        group_id: Text => "0+";
        topics: Vec<OffsetDeleteRequestTopic> => "0+";
    }

    /// Partitions of one topic.
    OffsetDeleteRequestTopic {
        name: Text => "0+";
        partitions: Vec<OffsetDeleteRequestPartition> => "0+";
    }

    /// One partition.
    OffsetDeleteRequestPartition {
        partition_index: i32 => "0+";
    }

    /// What became of each.
    Response {
        error_code: i16 => "0+";
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+", ignorable();
        topics: Vec<OffsetDeleteResponseTopic> => "0+";
    }

    /// The partitions of one topic.
    OffsetDeleteResponseTopic {
        name: Text => "0+";
        partitions: Vec<OffsetDeleteResponsePartition> => "0+";
    }

    /// What became of one offset.
    OffsetDeleteResponsePartition {
        partition_index: i32 => "0+";
        error_code: i16 => "0+";
    }
}
