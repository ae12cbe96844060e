//! Brokers, topics and the leaders of their partitions: how a client finds whom to talk to. Topics are asked for by name,
//! from version 10 on also by id. No topics at all: every topic in version 0; from version 1 on null means every topic and
//! an empty list means none.

use uuid::Uuid;

use crate::text::Text;

message! {
    Metadata, "0-13", flexible "9+";

    /// Asks about topics, or about the brokers alone.
    Request {
        /// Null is every topic (from version 1 on).
        topics: Option<Vec<MetadataRequestTopic>> = Some(Vec::new()) => "0+", nullable("1+");
        allow_auto_topic_creation: bool = true => "4+";
        include_cluster_authorized_operations: bool => "8-10";
        include_topic_authorized_operations: bool => "8+";
    }

    /// A topic, by id or by name.
    MetadataRequestTopic {
        topic_id: Uuid => "10+", ignorable();
        name: Option<Text> => "0+", nullable("10+");
    }

    /// The cluster as this broker sees it.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "3+", ignorable();
        brokers: Vec<MetadataResponseBroker> => "0+";
        cluster_id: Option<Text> => "2+", nullable("2+"), ignorable();
        controller_id: i32 = -1 => "1+", ignorable();
        /// One for each topic asked for.
        topics: Vec<MetadataResponseTopic> => "0+";
        /// A set of bits; the lowest number when it was not asked for.
        cluster_authorized_operations: i32 = i32::MIN => "8-10";
        error_code: i16 => "13+", ignorable();
    }

    /// A broker, at the address that the client can reach it at.
    MetadataResponseBroker {
        node_id: i32 => "0+";
        host: Text => "0+";
        port: i32 => "0+";
        rack: Option<Text> => "1+", nullable("1+"), ignorable();
    }

    /// A topic, or why there is nothing to say about it.
    MetadataResponseTopic {
        error_code: i16 => "0+";
        name: Option<Text> => "0+", nullable("12+");
        topic_id: Uuid => "10+", ignorable();
        is_internal: bool => "1+", ignorable();
        partitions: Vec<MetadataResponsePartition> => "0+";
        /// A set of bits; the lowest number when it was not asked for.
        topic_authorized_operations: i32 = i32::MIN => "8+";
    }

    /// A partition and its leader.
    MetadataResponsePartition {
        error_code: i16 => "0+";
        partition_index: i32 => "0+";
        /// −1 when there is none.
        leader_id: i32 => "0+";
        leader_epoch: i32 = -1 => "7+", ignorable();
        replica_nodes: Vec<i32> => "0+";
        isr_nodes: Vec<i32> => "0+";
        offline_replicas: Vec<i32> => "5+", ignorable();
    }
}
