//! What lies in the brokers' log directories.

use crate::text::Text;

message! {
    DescribeLogDirs, "1-4", flexible "2+";

    /// Asks about partitions, or about everything.
    Request {
        /// Null is every topic.
        topics: Option<Vec<DescribableLogDirTopic>> = Some(Vec::new()) => "0+", nullable("0+");
    }

    /// Partitions of one topic.
    DescribableLogDirTopic {
        topic: Text => "0+";
        partitions: Vec<i32> => "0+";
    }

    /// The directories.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        error_code: i16 => "3+", ignorable();
        results: Vec<DescribeLogDirsResult> => "0+";
    }

    /// One directory.
    DescribeLogDirsResult {
        error_code: i16 => "0+";
        log_dir: Text => "0+";
        topics: Vec<DescribeLogDirsTopic> => "0+";
        total_bytes: i64 = -1 => "4+", ignorable();
        usable_bytes: i64 = -1 => "4+", ignorable();
    }

    /// The partitions of one topic in it.
    DescribeLogDirsTopic {
        name: Text => "0+";
        partitions: Vec<DescribeLogDirsPartition> => "0+";
    }

    /// The size of one partition in it.
    DescribeLogDirsPartition {
        partition_index: i32 => "0+";
        /// Bytes.
        partition_size: i64 => "0+";
        /// How far the directory is behind, in offsets.
        offset_lag: i64 => "0+";
        is_future_key: bool => "0+";
    }
}
