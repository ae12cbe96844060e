//! Finds offsets by time, or the ends of a log by special times: −1 its end (for a committed reader the last stable
//! offset), −2 its start, −3 the record with the largest time, −4 the start of what is local, −5 the end of what is not.

use crate::text::Text;

message! {
    ListOffsets, "1-10", flexible "6+";

    /// Asks for one offset in each of several partitions.
    Request {
        /// −1 for consumers.
        replica_id: i32 => "0+";
        /// 0 counts everything below the high watermark, 1 what is committed.
        isolation_level: i8 => "2+";
        topics: Vec<ListOffsetsTopic> => "0+";
        timeout_ms: i32 => "10+", ignorable();
    }

    /// The partitions of one topic.
    ListOffsetsTopic {
        name: Text => "0+";
        partitions: Vec<ListOffsetsPartition> => "0+";
    }

    /// The time to look for in one partition.
    ListOffsetsPartition {
        partition_index: i32 => "0+";
        /// The epoch that the client believes in; −1 is not checked.
        current_leader_epoch: i32 = -1 => "4+", ignorable();
        /// Milliseconds since 1970, or one of the special times.
        timestamp: i64 => "0+";
    }

    /// The offsets found.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "2+", ignorable();
        topics: Vec<ListOffsetsTopicResponse> => "0+";
    }

    /// The partitions of one topic.
    ListOffsetsTopicResponse {
        name: Text => "0+";
        partitions: Vec<ListOffsetsPartitionResponse> => "0+";
    }

    /// The first record at or after the time, in one partition.
    ListOffsetsPartitionResponse {
        partition_index: i32 => "0+";
        error_code: i16 => "0+";
        timestamp: i64 = -1 => "1+";
        /// −1 when no record is that late.
        offset: i64 = -1 => "1+";
        leader_epoch: i32 = -1 => "4+";
    }
}
