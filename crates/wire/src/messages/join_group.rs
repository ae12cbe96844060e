//! Enters a group of the classic protocol, and waits for the others to do so. Subscriptions are opaque to the broker.

use bytes::Bytes;

use crate::text::Text;

message! {
    JoinGroup, "0-9", flexible "6+";

    /// Joins or rejoins a group.
    Request {
        group_id: Text => "0+";
        /// A member that is silent for longer is out.
        session_timeout_ms: i32 => "0+";
        /// How long the others wait for this member; −1 takes the session timeout.
        rebalance_timeout_ms: i32 = -1 => "1+", ignorable();
        /// Empty for a member that is new.
        member_id: Text => "0+";
        /// The name of a static member.
        group_instance_id: Option<Text> => "5+", nullable("5+");
        protocol_type: Text => "0+";
        protocols: Vec<JoinGroupRequestProtocol> => "0+";
        reason: Option<Text> => "8+", nullable("8+"), ignorable();
    }

    /// An assignment strategy that the member can do, and its subscription for it.
    JoinGroupRequestProtocol {
        name: Text => "0+";
        metadata: Bytes => "0+";
    }

    /// The new generation. Only the leader is told of the members.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "2+", ignorable();
        error_code: i16 => "0+";
        generation_id: i32 = -1 => "0+";
        protocol_type: Option<Text> => "7+", nullable("7+"), ignorable();
        /// Empty or, from version 7 on, null when there is an error.
        protocol_name: Option<Text> = Some(Text::default()) => "0+", nullable("7+");
        leader: Text => "0+";
        /// Whether the leader must not assign, as nothing changed.
        skip_assignment: bool => "9+";
        member_id: Text => "0+";
        members: Vec<JoinGroupResponseMember> => "0+";
    }

    /// A member and its subscription, for the leader to assign from.
    JoinGroupResponseMember {
        member_id: Text => "0+";
        group_instance_id: Option<Text> => "5+", nullable("5+"), ignorable();
        metadata: Bytes => "0+";
    }
}
