//! Names of all groups that this broker coordinates.

use crate::text::Text;

message! {
    ListGroups, "0-5", flexible "3+";

    /// Asks for groups, of certain states and types where filters are given.
    Request {
        states_filter: Vec<Text> => "4+";
        types_filter: Vec<Text> => "5+";
    }

    /// The groups.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        error_code: i16 => "0+";
        groups: Vec<ListedGroup> => "0+";
    }

    /// One group.
    ListedGroup {
        group_id: Text => "0+";
        protocol_type: Text => "0+";
        group_state: Text => "4+", ignorable();
        group_type: Text => "5+", ignorable();
    }
}
