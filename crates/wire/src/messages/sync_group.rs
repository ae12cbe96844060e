//! Hands out the leader's assignment after a rebalance. Assignments are opaque to the broker.

use bytes::Bytes;

use crate::text::Text;

message! {
    SyncGroup, "0-5", flexible "4+";

    /// Asks for the member's assignment; the leader brings all of them along.
    Request {
        group_id: Text => "0+";
        generation_id: i32 => "0+";
        member_id: Text => "0+";
        group_instance_id: Option<Text> => "3+", nullable("3+");
        protocol_type: Option<Text> => "5+", nullable("5+"), ignorable();
        protocol_name: Option<Text> => "5+", nullable("5+"), ignorable();
        assignments: Vec<SyncGroupRequestAssignment> => "0+";
    }

    /// One member's assignment.
    SyncGroupRequestAssignment {
        member_id: Text => "0+";
        assignment: Bytes => "0+";
    }

    /// The member's assignment.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        error_code: i16 => "0+";
        protocol_type: Option<Text> => "5+", nullable("5+"), ignorable();
        protocol_name: Option<Text> => "5+", nullable("5+"), ignorable();
        assignment: Bytes => "0+";
    }
}
