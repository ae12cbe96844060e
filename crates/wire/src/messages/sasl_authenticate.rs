//! One step of an authentication.

use bytes::Bytes;

use crate::text::Text;

message! {
    SaslAuthenticate, "0-2", flexible "2+";

    /// The client's token.
    Request {
        auth_bytes: Bytes => "0+";
    }

    /// The broker's token, or why it refuses.
    Response {
        error_code: i16 => "0+";
        error_message: Option<Text> => "0+", nullable("0+");
        auth_bytes: Bytes => "0+";
        /// After this time the client must authenticate again; 0 is never.
        session_lifetime_ms: i64 => "1+", ignorable();
    }
}
