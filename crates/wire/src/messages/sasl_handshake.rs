//! Chooses how to authenticate. Version 0 is followed by tokens outside of the protocol, version 1 by SaslAuthenticate.

use crate::text::Text;

message! {
    SaslHandshake, "0-1";

    /// The mechanism that the client wants.
    Request {
        mechanism: Text => "0+";
    }

    /// The mechanisms that there are.
    Response {
        error_code: i16 => "0+";
        mechanisms: Vec<Text> => "0+";
    }
}
