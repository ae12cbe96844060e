//! A member of a classic group says that it lives, and learns of rebalances by the error code.

use crate::text::Text;

message! {
    Heartbeat, "0-4", flexible "4+";

    /// I am here.
    Request {
        group_id: Text => "0+";
        generation_id: i32 => "0+";
        member_id: Text => "0+";
        group_instance_id: Option<Text> => "3+", nullable("3+");
    }

    /// Stay, or rejoin.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        error_code: i16 => "0+";
    }
}
