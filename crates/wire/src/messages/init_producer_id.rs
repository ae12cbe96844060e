//! Gives an idempotent producer its id and epoch, or raises the epoch of a transactional one.

use crate::text::Text;

message! {
    InitProducerId, "0-5", flexible "2+";

    /// Asks for a producer id.
    Request {
        /// Null for a producer that is only idempotent.
        transactional_id: Option<Text> => "0+", nullable("0+");
        transaction_timeout_ms: i32 => "0+";
        /// The id that the producer has, to have its epoch raised; −1 is none.
        producer_id: i64 = -1 => "3+";
        producer_epoch: i16 = -1 => "3+";
    }

    /// The producer id and epoch to use.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+", ignorable();
        error_code: i16 => "0+";
        producer_id: i64 = -1 => "0+";
        producer_epoch: i16 => "0+";
    }
}
