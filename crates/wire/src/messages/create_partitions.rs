//! Raises the number of partitions of topics.

use crate::text::Text;

message! {
    CreatePartitions, "0-3", flexible "2+";

    /// The topics to enlarge.
    Request {
        topics: Vec<CreatePartitionsTopic> => "0+";
        timeout_ms: i32 => "0+";
        /// Check, but change nothing.
        validate_only: bool => "0+";
    }

    /// One topic and the number of partitions that it shall have in all.
    CreatePartitionsTopic {
        name: Text => "0+";
        /// Partitions in all, not in addition.
        count: i32 => "0+";
        /// Null leaves the placement to the cluster.
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new()) => "0+", nullable("0+");
    }

    /// Where the replicas of one new partition shall be.
    CreatePartitionsAssignment {
        broker_ids: Vec<i32> => "0+";
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        results: Vec<CreatePartitionsTopicResult> => "0+";
    }

    /// What became of one topic.
    CreatePartitionsTopicResult {
        name: Text => "0+";
        error_code: i16 => "0+";
        error_message: Option<Text> => "0+", nullable("0+");
    }
}
