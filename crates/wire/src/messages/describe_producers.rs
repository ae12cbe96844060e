//! The idempotent and transactional producers that a partition remembers.

use crate::text::Text;

message! {
    DescribeProducers, "0", flexible "0+";

    /// Asks about partitions.
    Request {
        topics: Vec<TopicRequest> => "0+";
    }

    /// Partitions of one topic.
    TopicRequest {
        name: Text => "0+";
        partition_indexes: Vec<i32> => "0+";
    }

    /// The producers.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        topics: Vec<TopicResponse> => "0+";
    }

    /// The partitions of one topic.
    TopicResponse {
        name: Text => "0+";
        partitions: Vec<PartitionResponse> => "0+";
    }

    /// The producers of one partition.
    PartitionResponse {
        partition_index: i32 => "0+";
        error_code: i16 => "0+";
        error_message: Option<Text> => "0+", nullable("0+");
        active_producers: Vec<ProducerState> => "0+";
    }

    /// What is known about one producer.
    ProducerState {
        producer_id: i64 => "0+";
        producer_epoch: i32 => "0+";
        last_sequence: i32 = -1 => "0+";
        /// The time of its last append, in milliseconds since 1970; −1 is none.
        last_timestamp: i64 = -1 => "0+";
        coordinator_epoch: i32 => "0+";
        /// Where its open transaction begins; −1 is none.
        current_txn_start_offset: i64 = -1 => "0+";
    }
}
