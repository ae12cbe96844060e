//! Which broker coordinates a group or a transactional id. One key a request up to version 3, several from 4 on.

use crate::text::Text;

message! {
    FindCoordinator, "0-6", flexible "3+";

    /// Asks for the coordinators of keys of one kind.
    Request {
        key: Text => "0-3";
        /// 0 group, 1 transactional id, 2 share group.
        key_type: i8 => "1+";
        coordinator_keys: Vec<Text> => "4+";
    }

    /// The coordinators; the fields outside of `coordinators` answer versions up to 3.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        error_code: i16 => "0-3";
        error_message: Option<Text> => "1-3", nullable("1-3"), ignorable();
        node_id: i32 => "0-3";
        host: Text => "0-3";
        port: i32 => "0-3";
        coordinators: Vec<Coordinator> => "4+";
    }

    /// The coordinator of one key.
    Coordinator {
        key: Text => "4+";
        node_id: i32 => "4+";
        host: Text => "4+";
        port: i32 => "4+";
        error_code: i16 => "4+";
        error_message: Option<Text> => "4+", nullable("4+"), ignorable();
    }
}
