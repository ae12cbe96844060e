//! Everything about groups of the classic protocol.

use bytes::Bytes;

use crate::text::Text;

message! {
    DescribeGroups, "0-6", flexible "5+";

    /// Asks about groups.
    Request {
        groups: Vec<Text> => "0+";
        include_authorized_operations: bool => "3+";
    }

    /// The groups.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        groups: Vec<DescribedGroup> => "0+";
    }

    /// A group and its state.
    DescribedGroup {
        error_code: i16 => "0+";
        error_message: Option<Text> => "6+", nullable("6+");
        group_id: Text => "0+";
        group_state: Text => "0+";
        protocol_type: Text => "0+";
        /// The name of the assignment strategy in use.
        protocol_data: Text => "0+";
        members: Vec<DescribedGroupMember> => "0+";
        /// A set of bits; the lowest number when it was not asked for.
        authorized_operations: i32 = i32::MIN => "3+";
    }

    /// A member, with its subscription and assignment as the clients wrote them.
    DescribedGroupMember {
        member_id: Text => "0+";
        group_instance_id: Option<Text> => "4+", nullable("4+"), ignorable();
        client_id: Text => "0+";
        client_host: Text => "0+";
        member_metadata: Bytes => "0+";
        member_assignment: Bytes => "0+";
    }
}
