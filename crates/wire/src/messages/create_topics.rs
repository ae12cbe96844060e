//! Creates topics. −1 partitions or replicas are the broker's defaults; so is a replica assignment that is empty.

use uuid::Uuid;

use crate::text::Text;

message! {
    CreateTopics, "2-7", flexible "5+";

    /// The topics to create.
    Request {
        topics: Vec<CreatableTopic> => "0+";
        /// How long the client waits.
        timeout_ms: i32 = 60000 => "0+";
        /// Check, but create nothing.
        validate_only: bool => "1+";
    }

    /// One topic.
    CreatableTopic {
        name: Text => "0+";
        num_partitions: i32 => "0+";
        replication_factor: i16 => "0+";
        assignments: Vec<CreatableReplicaAssignment> => "0+";
        configs: Vec<CreatableTopicConfig> => "0+";
    }

    /// Where the replicas of one partition shall be.
    CreatableReplicaAssignment {
        partition_index: i32 => "0+";
        broker_ids: Vec<i32> => "0+";
    }

    /// One setting of the topic.
    CreatableTopicConfig {
        name: Text => "0+";
        value: Option<Text> => "0+", nullable("0+");
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "2+", ignorable();
        topics: Vec<CreatableTopicResult> => "0+";
    }

    /// What became of one topic.
    CreatableTopicResult {
        name: Text => "0+";
        topic_id: Uuid => "7+", ignorable();
        error_code: i16 => "0+";
        error_message: Option<Text> => "1+", nullable("0+"), ignorable();
        /// Why `configs` is empty, if the client may not see it.
        topic_config_error_code: i16 => "5+", tagged(0, "5+"), ignorable();
        num_partitions: i32 = -1 => "5+", ignorable();
        replication_factor: i16 = -1 => "5+", ignorable();
        configs: Option<Vec<CreatableTopicConfigs>> = Some(Vec::new()) => "5+", nullable("5+"), ignorable();
    }

    /// A setting that the topic was created with.
    CreatableTopicConfigs {
        name: Text => "5+";
        value: Option<Text> => "5+", nullable("5+");
        read_only: bool => "5+";
        config_source: i8 = -1 => "5+", ignorable();
        is_sensitive: bool => "5+";
    }
}
