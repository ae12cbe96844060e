//! Deletes topics: by name up to version 5, by name or id from 6 on.

use uuid::Uuid;

use crate::text::Text;

message! {
    DeleteTopics, "1-6", flexible "4+";

    /// The topics to delete.
    Request {
        topics: Vec<DeleteTopicState> => "6+";
        topic_names: Vec<Text> => "0-5", ignorable();
        timeout_ms: i32 => "0+";
    }

    /// A topic, by name or by id.
    DeleteTopicState {
        name: Option<Text> => "6+", nullable("6+");
        topic_id: Uuid => "6+";
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        responses: Vec<DeletableTopicResult> => "0+";
    }

    /// What became of one topic.
    DeletableTopicResult {
        name: Option<Text> => "0+", nullable("6+");
        topic_id: Uuid => "6+", ignorable();
        error_code: i16 => "0+";
        error_message: Option<Text> => "5+", nullable("5+"), ignorable();
    }
}
