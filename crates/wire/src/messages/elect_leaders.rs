//! Asks for an election of partition leaders.

use crate::text::Text;

message! {
    ElectLeaders, "0-2", flexible "2+";

    /// The partitions to elect leaders for.
    Request {
        /// 0 the preferred leader, 1 any, even one that lost records.
        election_type: i8 => "1+";
        /// Null is every partition.
        topic_partitions: Option<Vec<TopicPartitions>> = Some(Vec::new()) => "0+", nullable("0+");
        timeout_ms: i32 = 60000 => "0+";
    }

    /// Partitions of one topic.
    TopicPartitions {
        topic: Text => "0+";
        partitions: Vec<i32> => "0+";
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        error_code: i16 => "1+";
        replica_election_results: Vec<ReplicaElectionResult> => "0+";
    }

    /// The partitions of one topic.
    ReplicaElectionResult {
        topic: Text => "0+";
        partition_result: Vec<PartitionResult> => "0+";
    }

    /// What became of one election.
    PartitionResult {
        partition_id: i32 => "0+";
        error_code: i16 => "0+";
        error_message: Option<Text> => "0+", nullable("0+");
    }
}
