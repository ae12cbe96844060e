//! Appends record batches. Topics are named up to version 12 and given by id from 13 on; record data is a slice of the
//! frame on the way in, and goes by reference on the way out. With `acks` 0 there is no response.

use uuid::Uuid;

use crate::records::Records;
use crate::text::Text;

message! {
    Produce, "3-13", flexible "9+";

    /// One append to each of several partitions.
    Request {
        transactional_id: Option<Text> => "3+", nullable("3+");
        /// 0: no answer; 1: the leader has it; −1: the whole quorum has it.
        acks: i16 => "0+";
        /// How long the client waits for the quorum.
        timeout_ms: i32 => "0+";
        topic_data: Vec<TopicProduceData> => "0+";
    }

    /// The partitions of one topic.
    TopicProduceData {
        name: Text => "0-12", ignorable();
        topic_id: Uuid => "13+", ignorable();
        partition_data: Vec<PartitionProduceData> => "0+";
    }

    /// What to append to one partition.
    PartitionProduceData {
        index: i32 => "0+";
        records: Option<Records> => "0+", nullable("0+");
    }

    /// What became of each append.
    Response {
        responses: Vec<TopicProduceResponse> => "0+";
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        node_endpoints: Vec<NodeEndpoint> => "10+", tagged(0, "10+");
    }

    /// The partitions of one topic.
    TopicProduceResponse {
        name: Text => "0-12", ignorable();
        topic_id: Uuid => "13+", ignorable();
        partition_responses: Vec<PartitionProduceResponse> => "0+";
    }

    /// What became of the append to one partition.
    PartitionProduceResponse {
        index: i32 => "0+";
        error_code: i16 => "0+";
        /// The offset of the first record.
        base_offset: i64 => "0+";
        /// The time that the broker gave to the records, −1 where the producer's time stands.
        log_append_time_ms: i64 = -1 => "2+", ignorable();
        log_start_offset: i64 = -1 => "5+", ignorable();
        record_errors: Vec<BatchIndexAndErrorMessage> => "8+", ignorable();
        error_message: Option<Text> => "8+", nullable("8+"), ignorable();
        current_leader: LeaderIdAndEpoch => "10+", tagged(0, "10+");
    }

    /// A record that made its batch be refused.
    BatchIndexAndErrorMessage {
        /// The place of the record in its batch.
        batch_index: i32 => "8+";
        batch_index_error_message: Option<Text> => "8+", nullable("8+");
    }

    /// Who leads the partition, told with NOT_LEADER_OR_FOLLOWER (KIP-951).
    LeaderIdAndEpoch {
        leader_id: i32 = -1 => "10+";
        leader_epoch: i32 = -1 => "10+";
    }

    /// The address of a leader that the response names (KIP-951).
    NodeEndpoint {
        node_id: i32 => "10+";
        host: Text => "10+";
        port: i32 => "10+";
        rack: Option<Text> => "10+", nullable("10+");
    }
}
