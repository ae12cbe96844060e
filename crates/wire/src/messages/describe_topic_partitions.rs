//! Metadata of topics in pages, for topics of very many partitions (KIP-966).

use uuid::Uuid;

use crate::text::Text;

message! {
    DescribeTopicPartitions, "0", flexible "0+";

    /// Asks about topics, from a cursor on.
    Request {
        topics: Vec<TopicRequest> => "0+";
        response_partition_limit: i32 = 2000 => "0+";
        cursor: Option<Cursor> => "0+", nullable("0+");
    }

    /// One topic.
    TopicRequest {
        name: Text => "0+";
    }

    /// The topic and partition that a page begins with.
    Cursor {
        topic_name: Text => "0+";
        partition_index: i32 => "0+";
    }

    /// A page, and where the next one begins.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+", ignorable();
        topics: Vec<DescribeTopicPartitionsResponseTopic> => "0+";
        /// Null on the last page.
        next_cursor: Option<Cursor> => "0+", nullable("0+");
    }

    /// One topic, perhaps only some of its partitions.
    DescribeTopicPartitionsResponseTopic {
        error_code: i16 => "0+";
        name: Option<Text> => "0+", nullable("0+");
        topic_id: Uuid => "0+", ignorable();
        is_internal: bool => "0+", ignorable();
        partitions: Vec<DescribeTopicPartitionsResponsePartition> => "0+";
        /// A set of bits; the lowest number when it was not asked for.
        topic_authorized_operations: i32 = i32::MIN => "0+";
    }

    /// A partition and its leader.
    DescribeTopicPartitionsResponsePartition {
        error_code: i16 => "0+";
        partition_index: i32 => "0+";
        leader_id: i32 => "0+";
        leader_epoch: i32 = -1 => "0+", ignorable();
        replica_nodes: Vec<i32> => "0+";
        isr_nodes: Vec<i32> => "0+";
        eligible_leader_replicas: Option<Vec<i32>> => "0+", nullable("0+");
        last_known_elr: Option<Vec<i32>> => "0+", nullable("0+");
        offline_replicas: Vec<i32> => "0+", ignorable();
    }
}
