//! The brokers, without topics: Metadata for administrators.

use crate::text::Text;

message! {
    DescribeCluster, "0-2", flexible "0+";

    /// Asks about the cluster.
    Request {
        include_cluster_authorized_operations: bool => "0+";
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 = 1 => "1+";
        include_fenced_brokers: bool => "2+";
    }

    /// The cluster.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        error_code: i16 => "0+";
        error_message: Option<Text> => "0+", nullable("0+");
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 = 1 => "1+";
        cluster_id: Text => "0+";
        controller_id: i32 = -1 => "0+";
        brokers: Vec<DescribeClusterBroker> => "0+";
        /// A set of bits; the lowest number when it was not asked for.
        cluster_authorized_operations: i32 = i32::MIN => "0+";
    }

    /// A broker, at the address that the client can reach it at.
    DescribeClusterBroker {
        broker_id: i32 => "0+";
        host: Text => "0+";
        port: i32 => "0+";
        rack: Option<Text> => "0+", nullable("0+");
        is_fenced: bool => "2+";
    }
}
