//! Takes members out of a group: one up to version 2, several from 3 on.

use crate::text::Text;

message! {
    LeaveGroup, "0-5", flexible "4+";

    /// The members that leave.
    Request {
        group_id: Text => "0+";
        member_id: Text => "0-2";
        members: Vec<MemberIdentity> => "3+";
    }

    /// A member, by its id or its static name.
    MemberIdentity {
        member_id: Text => "3+";
        group_instance_id: Option<Text> => "3+", nullable("3+");
        reason: Option<Text> => "5+", nullable("5+"), ignorable();
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        error_code: i16 => "0+";
        members: Vec<MemberResponse> => "3+";
    }

    /// What became of one member.
    MemberResponse {
        member_id: Text => "3+";
        group_instance_id: Option<Text> => "3+", nullable("3+");
        error_code: i16 => "3+";
    }
}
