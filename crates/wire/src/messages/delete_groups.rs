//! Deletes groups that have no members, offsets included.

use crate::text::Text;

message! {
    DeleteGroups, "0-2", flexible "2+";

    /// The groups to delete.
    Request {
        groups_names: Vec<Text> => "0+";
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        results: Vec<DeletableGroupResult> => "0+";
    }

    /// What became of one group.
    DeletableGroupResult {
        group_id: Text => "0+";
        error_code: i16 => "0+";
    }
}
