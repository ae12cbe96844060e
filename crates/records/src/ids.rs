//! The names that every floor uses: offsets, epochs, positions and ids are types, so that one never meets another by accident.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($of:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $of);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$of> for $name {
            fn from(value: $of) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// The place of a record in its partition.
    Offset(i64)
}
number! {
    /// Raised at every change of a partition's leader; a leader of an older epoch is fenced.
    LeaderEpoch(i32)
}
number! {
    /// The number of a partition within its topic, from 0.
    Partition(i32)
}
number! {
    /// Names one idempotent or transactional producer; −1 is none.
    ProducerId(i64)
}
number! {
    /// Raised when a producer id is taken over; a producer of an older epoch is fenced.
    ProducerEpoch(i16)
}
number! {
    /// Milliseconds since the Unix epoch; −1 is none.
    Timestamp(i64)
}
number! {
    /// The numeric id that the controller gave to a broker's name, once.
    BrokerId(i32)
}
number! {
    /// Grows at every registration of a broker's name.
    Incarnation(u64)
}
number! {
    /// Names a journal; never used twice.
    JournalId(u64)
}
number! {
    /// A byte offset in a journal.
    Position(u64)
}

impl Offset {
    /// The offset `count` records later.
    ///
    /// # Panics
    /// When the sum leaves 63 bits: callers check counts that come from outside first.
    #[must_use]
    pub fn after(self, count: i64) -> Self {
        Self(self.0.checked_add(count).expect("offsets stay below 2^63"))
    }
}

impl Position {
    /// The position `bytes` further on.
    ///
    /// # Panics
    /// When the sum leaves 64 bits, which no journal lives to see.
    #[must_use]
    pub fn after(self, bytes: u64) -> Self {
        Self(self.0.checked_add(bytes).expect("positions stay below 2^64"))
    }
}

impl ProducerId {
    /// The producer id of batches that no idempotent producer made.
    pub const NONE: Self = Self(-1);
}

/// A topic's id: stable for its life, and never given to another topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub uuid::Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number within it.
    pub partition: Partition,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}
