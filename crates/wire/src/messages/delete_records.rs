//! Moves the start of logs forward.

use crate::text::Text;

message! {
    DeleteRecords, "0-2", flexible "2+";

    /// The partitions and their new starts.
    Request {
        topics: Vec<DeleteRecordsTopic> => "0+";
        timeout_ms: i32 => "0+";
    }

    /// The partitions of one topic.
    DeleteRecordsTopic {
        name: Text => "0+";
        partitions: Vec<DeleteRecordsPartition> => "0+";
    }

    /// The first offset to keep; −1 keeps nothing.
    DeleteRecordsPartition {
        partition_index: i32 => "0+";
        offset: i64 => "0+";
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        topics: Vec<DeleteRecordsTopicResult> => "0+";
    }

    /// The partitions of one topic.
    DeleteRecordsTopicResult {
        name: Text => "0+";
        partitions: Vec<DeleteRecordsPartitionResult> => "0+";
    }

    /// The start of one log afterwards.
    DeleteRecordsPartitionResult {
        partition_index: i32 => "0+";
        low_watermark: i64 => "0+";
        error_code: i16 => "0+";
    }
}
