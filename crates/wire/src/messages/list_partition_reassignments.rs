//! Partitions that are being moved to other brokers.

use crate::text::Text;

message! {
    ListPartitionReassignments, "0", flexible "0+";

    /// Asks about partitions, or about all that move.
    Request {
        timeout_ms: i32 = 60000 => "0+";
        /// Null is every partition that moves.
        topics: Option<Vec<ListPartitionReassignmentsTopics>> => "0+", nullable("0+");
    }

    /// Partitions of one topic.
    ListPartitionReassignmentsTopics {
        name: Text => "0+";
        partition_indexes: Vec<i32> => "0+";
    }

    /// The moves.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        error_code: i16 => "0+";
        error_message: Option<Text> => "0+", nullable("0+");
        topics: Vec<OngoingTopicReassignment> => "0+";
    }

    /// The partitions of one topic.
    OngoingTopicReassignment {
        name: Text => "0+";
        partitions: Vec<OngoingPartitionReassignment> => "0+";
    }

    /// One move.
    OngoingPartitionReassignment {
        partition_index: i32 => "0+";
        replicas: Vec<i32> => "0+";
        adding_replicas: Vec<i32> => "0+";
        removing_replicas: Vec<i32> => "0+";
    }
}
