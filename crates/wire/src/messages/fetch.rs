//! Reads record batches. Topics are named up to version 12 and given by id from 13 on. The request's sessions (KIP-227)
//! let a client send only what changed. Record data goes out by reference.

use uuid::Uuid;

use crate::records::Records;
use crate::text::Text;

message! {
    Fetch, "4-18", flexible "12+";

    /// Asks for records from an offset on, in each of several partitions.
    Request {
        cluster_id: Option<Text> => "12+", nullable("12+"), tagged(0, "12+"), ignorable();
        /// −1 for consumers.
        replica_id: i32 = -1 => "0-14";
        replica_state: ReplicaState => "15+", tagged(1, "15+");
        /// How long to wait for `min_bytes`.
        max_wait_ms: i32 => "0+";
        min_bytes: i32 => "0+";
        max_bytes: i32 = i32::MAX => "3+", ignorable();
        /// 0 reads everything below the high watermark, 1 what is committed.
        isolation_level: i8 => "4+", ignorable();
        /// 0: no session yet.
        session_id: i32 => "7+", ignorable();
        /// −1: no session wanted; 0: a new one; else the number of this request in its session.
        session_epoch: i32 = -1 => "7+", ignorable();
        topics: Vec<FetchTopic> => "0+";
        forgotten_topics_data: Vec<ForgottenTopic> => "7+";
        rack_id: Text => "11+", ignorable();
    }

    /// Who a following replica is; consumers leave it at its default.
    ReplicaState {
        replica_id: i32 = -1 => "15+";
        replica_epoch: i64 = -1 => "15+";
    }

    /// The partitions of one topic.
    FetchTopic {
        topic: Text => "0-12", ignorable();
        topic_id: Uuid => "13+", ignorable();
        partitions: Vec<FetchPartition> => "0+";
    }

    /// Where to read in one partition.
    FetchPartition {
        partition: i32 => "0+";
        /// The epoch that the client believes in; −1 is not checked.
        current_leader_epoch: i32 = -1 => "9+", ignorable();
        fetch_offset: i64 => "0+";
        /// The epoch of the last record the client has; −1 is not checked.
        last_fetched_epoch: i32 = -1 => "12+";
        log_start_offset: i64 = -1 => "5+", ignorable();
        partition_max_bytes: i32 => "0+";
        replica_directory_id: Uuid => "17+", tagged(0, "17+"), ignorable();
        high_watermark: i64 = i64::MAX => "18+", tagged(1, "18+"), ignorable();
    }

    /// Partitions to take out of the session.
    ForgottenTopic {
        topic: Text => "7-12", ignorable();
        topic_id: Uuid => "13+", ignorable();
        partitions: Vec<i32> => "7+";
    }

    /// Records, as far as there were any.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        error_code: i16 => "7+", ignorable();
        session_id: i32 => "7+";
        responses: Vec<FetchableTopicResponse> => "0+";
        node_endpoints: Vec<NodeEndpoint> => "16+", tagged(0, "16+");
    }

    /// The partitions of one topic.
    FetchableTopicResponse {
        topic: Text => "0-12", ignorable();
        topic_id: Uuid => "13+", ignorable();
        partitions: Vec<PartitionData> => "0+";
    }

    /// What was read from one partition.
    PartitionData {
        partition_index: i32 => "0+";
        error_code: i16 => "0+";
        high_watermark: i64 => "0+";
        last_stable_offset: i64 = -1 => "4+", ignorable();
        log_start_offset: i64 = -1 => "5+", ignorable();
        diverging_epoch: EpochEndOffset => "12+", tagged(0, "12+");
        current_leader: LeaderIdAndEpoch => "12+", tagged(1, "12+");
        snapshot_id: SnapshotId => "12+", tagged(2, "12+");
        /// Null when the isolation level does not need them.
        aborted_transactions: Option<Vec<AbortedTransaction>> = Some(Vec::new()) => "4+", nullable("4+"), ignorable();
        /// Another broker to read from; −1 is none.
        preferred_read_replica: i32 = -1 => "11+";
        /// Never null in an answer to a client: librdkafka fails on null.
        records: Option<Records> => "0+", nullable("0+");
    }

    /// Where the reader's log went another way than the leader's.
    EpochEndOffset {
        epoch: i32 = -1 => "12+";
        end_offset: i64 = -1 => "12+";
    }

    /// Who leads the partition, told with NOT_LEADER_OR_FOLLOWER (KIP-951).
    LeaderIdAndEpoch {
        leader_id: i32 = -1 => "12+";
        leader_epoch: i32 = -1 => "12+";
    }

    /// The snapshot to load instead; for metadata logs only.
    SnapshotId {
        end_offset: i64 = -1 => "0+";
        epoch: i32 = -1 => "0+";
    }

    /// A producer whose records from an offset on were aborted.
    AbortedTransaction {
        producer_id: i64 => "4+";
        first_offset: i64 => "4+";
    }

    /// The address of a leader that the response names (KIP-951).
    NodeEndpoint {
        node_id: i32 => "16+";
        host: Text => "16+";
        port: i32 => "16+";
        rack: Option<Text> => "16+", nullable("16+");
    }
}
