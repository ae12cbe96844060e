//! The records of `__consumer_offsets`, in Kafka's own formats, so that its tools can read them.
//!
//! Keys: `OffsetCommitKey` versions 0 and 1, `GroupMetadataKey` version 2. Values: `OffsetCommitValue` and
//! `GroupMetadataValue` versions 0 to 4 are read; written is version 3 of both (of an offset with an expiry of its own
//! version 1, the only one that can say it; it has no leader epoch), as Kafka 2.1 to 4 write them. Keys of other
//! versions belong to kinds of groups that this broker does not keep; the loader skips them.

mod codec;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use records::{LeaderEpoch, Offset, Timestamp};
use thiserror::Error;

use crate::storage::Entry;
use codec::{Reader, Writer};

/// Why a record could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It ends before it should, or a length in it is wrong.
    #[error("the record is malformed")]
    Malformed,
    /// A version that is not known; a newer broker may have written it.
    #[error("version {0} of the value is not known")]
    Version(i16),
}

/// What a record is about, borrowed from its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// The committed offset of a partition.
    Offset {
        /// The group.
        group: &'a str,
        /// The topic's name.
        topic: &'a str,
        /// The partition's number.
        partition: i32,
    },
    /// The group itself.
    Group {
        /// The group.
        group: &'a str,
    },
    /// Something of another version.
    Other(i16),
}

impl<'a> Key<'a> {
    /// Reads a key.
    pub fn decode(key: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(key, false);
        let key = match reader.i16()? {
            0 | 1 => Self::Offset { group: reader.string()?, topic: reader.string()?, partition: reader.i32()? },
            2 => Self::Group { group: reader.string()? },
            version => return Ok(Self::Other(version)),
        };
        reader.end()?;
        Ok(key)
    }

    /// Writes a key.
    ///
    /// # Panics
    /// For [`Key::Other`], and for names longer than the protocol's strings.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match *self {
            Self::Offset { group, topic, partition } => {
                let mut writer = Writer::new(2 + 2 + group.len() + 2 + topic.len() + 4);
                writer.i16(1).string(group).string(topic).i32(partition);
                writer.finish()
            }
            Self::Group { group } => {
                let mut writer = Writer::new(2 + 2 + group.len());
                writer.i16(2).string(group);
                writer.finish()
            }
            Self::Other(_) => panic!("only keys of this broker's own kinds are written"),
        }
    }

    /// The record that says that there is no such thing any more.
    #[must_use]
    pub fn tombstone(&self) -> Entry {
        Entry { key: self.encode(), value: None }
    }
}

/// A committed offset, borrowed from its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetValue<'a> {
    /// The next offset to read.
    pub offset: Offset,
    /// −1 where unknown.
    pub leader_epoch: LeaderEpoch,
    /// Whatever the client keeps with it.
    pub metadata: &'a str,
    /// When it was committed.
    pub commit_timestamp: Timestamp,
    /// When it expires, where the commit said so itself.
    pub expire_timestamp: Option<Timestamp>,
}

impl<'a> OffsetValue<'a> {
    /// Reads a value.
    pub fn decode(value: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value, false);
        let version = reader.i16()?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::Version(version));
        }
        reader.set_flexible(version >= 4);
        let value = Self {
            offset: Offset(reader.i64()?),
            leader_epoch: LeaderEpoch(if version >= 3 { reader.i32()? } else { -1 }),
            metadata: reader.string()?,
            commit_timestamp: Timestamp(reader.i64()?),
            expire_timestamp: if version == 1 {
                Some(reader.i64()?).filter(|at| *at != -1).map(Timestamp)
            } else {
                None
            },
        };
        reader.tagged_fields()?;
        reader.end()?;
        Ok(value)
    }

    /// Writes a value.
    ///
    /// # Panics
    /// When the metadata is longer than the protocol's strings.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(self.size());
        if let Some(at) = self.expire_timestamp {
            writer.i16(1).i64(self.offset.0).string(self.metadata).i64(self.commit_timestamp.0).i64(at.0);
        } else {
            writer.i16(3).i64(self.offset.0).i32(self.leader_epoch.0).string(self.metadata);
            writer.i64(self.commit_timestamp.0);
        }
        writer.finish()
    }

    /// The length of the encoding.
    #[must_use]
    pub fn size(&self) -> usize {
        let rest = if self.expire_timestamp.is_some() { 8 } else { 4 };
        2 + 8 + rest + 2 + self.metadata.len() + 8
    }
}

/// The length of the key of an offset.
#[must_use]
pub(crate) const fn offset_key_size(group: &str, topic: &str) -> usize {
    2 + 2 + group.len() + 2 + topic.len() + 4
}

/// A group as it was when its last generation got its assignment (or when it lost its last member).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupValue<'a> {
    /// The type of its members' protocols.
    pub protocol_type: &'a str,
    /// Its generation.
    pub generation: i32,
    /// The protocol chosen, where it has members.
    pub protocol: Option<&'a str>,
    /// The leader's member id, where it has members.
    pub leader: Option<&'a str>,
    /// Since when it is in this state; −1 where unknown.
    pub state_timestamp: Timestamp,
    /// Its members.
    pub members: Vec<MemberValue<'a>>,
}

/// A member in a [`GroupValue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberValue<'a> {
    /// Its id.
    pub member_id: &'a str,
    /// Its `group.instance.id`.
    pub instance_id: Option<&'a str>,
    /// Its client id.
    pub client_id: &'a str,
    /// Where it joined from.
    pub client_host: &'a str,
    /// Its rebalance time-out in milliseconds.
    pub rebalance_timeout: i32,
    /// Its session time-out in milliseconds.
    pub session_timeout: i32,
    /// Its metadata for the protocol chosen.
    pub subscription: &'a [u8],
    /// Its assignment.
    pub assignment: &'a [u8],
}

impl<'a> GroupValue<'a> {
    /// Reads a value.
    pub fn decode(value: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value, false);
        let version = reader.i16()?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::Version(version));
        }
        reader.set_flexible(version >= 4);
        let mut group = Self {
            protocol_type: reader.string()?,
            generation: reader.i32()?,
            protocol: reader.nullable_string()?,
            leader: reader.nullable_string()?,
            state_timestamp: Timestamp(if version >= 2 { reader.i64()? } else { -1 }),
            members: Vec::new(),
        };
        // The count is checked by what follows: nothing is reserved for it.
        for _ in 0..reader.array_len()? {
            group.members.push(MemberValue::decode(&mut reader, version)?);
        }
        reader.tagged_fields()?;
        reader.end()?;
        Ok(group)
    }

    /// Writes a value.
    ///
    /// # Panics
    /// When a name is longer than the protocol's strings.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let members: usize =
            self.members.iter().map(|member| 64 + member.subscription.len() + member.assignment.len()).sum();
        let mut writer = Writer::new(64 + members);
        writer.i16(3).string(self.protocol_type).i32(self.generation);
        writer.nullable_string(self.protocol).nullable_string(self.leader).i64(self.state_timestamp.0);
        writer.array_len(self.members.len());
        for member in &self.members {
            writer.string(member.member_id).nullable_string(member.instance_id);
            writer.string(member.client_id).string(member.client_host);
            writer.i32(member.rebalance_timeout).i32(member.session_timeout);
            writer.bytes(member.subscription).bytes(member.assignment);
        }
        writer.finish()
    }
}

impl<'a> MemberValue<'a> {
    fn decode(reader: &mut Reader<'a>, version: i16) -> Result<Self, RecordError> {
        let mut member = Self {
            member_id: reader.string()?,
            instance_id: if version >= 3 { reader.nullable_string()? } else { None },
            client_id: reader.string()?,
            client_host: reader.string()?,
            rebalance_timeout: if version >= 1 { reader.i32()? } else { 0 },
            session_timeout: reader.i32()?,
            subscription: reader.bytes()?,
            assignment: reader.bytes()?,
        };
        if version == 0 {
            // As Kafka: what had no rebalance time-out of its own used the session's.
            member.rebalance_timeout = member.session_timeout;
        }
        reader.tagged_fields()?;
        Ok(member)
    }
}
