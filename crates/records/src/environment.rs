//! Where time and randomness come in: the binary gives real ones, tests and the simulator give their own.

use crate::Timestamp;

/// Reads the wall clock. Nothing that safety rests on may depend on it.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// Draws random numbers, for ids that must not repeat.
pub trait Random: Send + Sync + 'static {
    /// The next 128 random bits.
    fn next(&self) -> u128;

    /// A random (version 4) UUID.
    fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.next().to_be_bytes()).into_uuid()
    }
}
