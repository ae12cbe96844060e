use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use records::{LeaderEpoch, Offset, Timestamp};

use super::*;

#[test]
fn keys_are_kafkas() {
    let key = Key::Offset { group: "g1", topic: "log_topic", partition: 7 };
    assert_eq!(&key.encode()[..], b"\0\x01\0\x02g1\0\x09log_topic\0\0\0\x07");
    assert_eq!(key.encode().len(), offset_key_size("g1", "log_topic"));
    assert_eq!(Key::decode(&key.encode()), Ok(key));
    assert_eq!(Key::decode(b"\0\0\0\x02g1\0\x09log_topic\0\0\0\x07"), Ok(key), "version 0 looks the same");
    let key = Key::Group { group: "g1" };
    assert_eq!(&key.encode()[..], b"\0\x02\0\x02g1");
    assert_eq!(Key::decode(&key.encode()), Ok(key));
    assert_eq!(Key::decode(b"\0\x05whatever"), Ok(Key::Other(5)));
}

#[test]
fn offsets_are_kafkas_version_3() {
    let value = OffsetValue {
        offset: Offset(258),
        leader_epoch: LeaderEpoch(9),
        metadata: "meta",
        commit_timestamp: Timestamp(513),
        expire_timestamp: None,
    };
    let expected = b"\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\x09\0\x04meta\0\0\0\0\0\0\x02\x01";
    assert_eq!(&value.encode()[..], expected);
    assert_eq!(value.size(), expected.len());
    assert_eq!(OffsetValue::decode(expected), Ok(value));
}

#[test]
fn offsets_that_expire_by_themselves_are_kafkas_version_1() {
    let value = OffsetValue {
        offset: Offset(258),
        leader_epoch: LeaderEpoch(-1),
        metadata: "",
        commit_timestamp: Timestamp(513),
        expire_timestamp: Some(Timestamp(514)),
    };
    let expected = b"\0\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x02\x02";
    assert_eq!(&value.encode()[..], expected);
    assert_eq!(value.size(), expected.len());
    assert_eq!(OffsetValue::decode(expected), Ok(value));
    let never = b"\0\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\0\x02\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF";
    assert_eq!(OffsetValue::decode(never).unwrap().expire_timestamp, None);
}

#[test]
fn offsets_of_other_versions_are_read() {
    let plain = OffsetValue {
        offset: Offset(1),
        leader_epoch: LeaderEpoch(-1),
        metadata: "m",
        commit_timestamp: Timestamp(2),
        expire_timestamp: None,
    };
    for version in [0, 2] {
        let bytes = [&[0, version][..], b"\0\0\0\0\0\0\0\x01\0\x01m\0\0\0\0\0\0\0\x02"].concat();
        assert_eq!(OffsetValue::decode(&bytes), Ok(plain));
    }
    // Version 4: compact, and a topic id in a tagged field.
    let mut bytes = b"\0\x04\0\0\0\0\0\0\0\x01\0\0\0\x05\x02m\0\0\0\0\0\0\0\x02\x01\0\x10".to_vec();
    bytes.extend([7; 16]);
    assert_eq!(OffsetValue::decode(&bytes), Ok(OffsetValue { leader_epoch: LeaderEpoch(5), ..plain }));
    assert_eq!(OffsetValue::decode(b"\0\x05"), Err(RecordError::Version(5)));
}

fn group() -> GroupValue<'static> {
    GroupValue {
        protocol_type: "consumer",
        generation: 3,
        protocol: Some("range"),
        leader: Some("m1"),
        state_timestamp: Timestamp(77),
        members: vec![MemberValue {
            member_id: "m1",
            instance_id: Some("i"),
            client_id: "c",
            client_host: "/h",
            rebalance_timeout: 300,
            session_timeout: 10,
            subscription: b"sub",
            assignment: b"assigned",
        }],
    }
}

#[test]
fn groups_are_kafkas_version_3() {
    let expected = [
        &b"\0\x03\0\x08consumer\0\0\0\x03\0\x05range\0\x02m1\0\0\0\0\0\0\0\x4D\0\0\0\x01"[..],
        b"\0\x02m1\0\x01i\0\x01c\0\x02/h\0\0\x01\x2C\0\0\0\x0A\0\0\0\x03sub\0\0\0\x08assigned",
    ]
    .concat();
    assert_eq!(&group().encode()[..], expected);
    assert_eq!(GroupValue::decode(&expected), Ok(group()));
    let empty =
        GroupValue { protocol_type: "consumer", generation: 4, state_timestamp: Timestamp(9), ..GroupValue::default() };
    assert_eq!(&empty.encode()[..], b"\0\x03\0\x08consumer\0\0\0\x04\xFF\xFF\xFF\xFF\0\0\0\0\0\0\0\x09\0\0\0\0");
    assert_eq!(GroupValue::decode(&empty.encode()), Ok(empty));
}

#[test]
fn groups_of_other_versions_are_read() {
    for version in 0..=2_u8 {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[0, version]);
        bytes.put_slice(b"\0\x08consumer\0\0\0\x03\0\x05range\0\x02m1");
        if version >= 2 {
            bytes.put_i64(77);
        }
        bytes.put_slice(b"\0\0\0\x01\0\x02m1\0\x01c\0\x02/h");
        if version >= 1 {
            bytes.put_i32(300);
        }
        bytes.put_slice(b"\0\0\0\x0A\0\0\0\x03sub\0\0\0\x08assigned");
        let mut expected = group();
        expected.members[0].instance_id = None;
        if version < 2 {
            expected.state_timestamp = Timestamp(-1);
        }
        if version < 1 {
            expected.members[0].rebalance_timeout = 10;
        }
        assert_eq!(GroupValue::decode(&bytes), Ok(expected));
    }
    let compact = [
        &b"\0\x04\x09consumer\0\0\0\x03\x06range\x03m1\0\0\0\0\0\0\0\x4D\x02"[..],
        b"\x03m1\x02i\x02c\x03/h\0\0\x01\x2C\0\0\0\x0A\x04sub\x09assigned\0\0",
    ]
    .concat();
    assert_eq!(GroupValue::decode(&compact), Ok(group()));
    assert_eq!(GroupValue::decode(b"\0\x09"), Err(RecordError::Version(9)));
}

#[test]
fn what_is_cut_short_or_goes_on_too_long_is_malformed() {
    let value = group().encode();
    for len in 2..value.len() {
        assert_eq!(GroupValue::decode(&value[..len]), Err(RecordError::Malformed), "{len}");
    }
    let longer = [&value[..], b"x"].concat();
    assert_eq!(GroupValue::decode(&longer), Err(RecordError::Malformed));
    assert_eq!(Key::decode(b"\0\x02\0\x02g1x"), Err(RecordError::Malformed));
    assert_eq!(Key::decode(b"\0\x02\xFF\xFF"), Err(RecordError::Malformed), "a group has a name");
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0_u8..6) {
        let _ = Key::decode(&bytes);
        let versioned = [&[0, version][..], &bytes].concat();
        let _ = Key::decode(&versioned);
        let _ = OffsetValue::decode(&versioned);
        let _ = GroupValue::decode(&versioned);
    }

    #[test]
    fn offsets_come_back_as_they_were(
        offset: i64, epoch: i32, metadata in ".{0,50}", at: i64, expires in proptest::option::of(0_i64..),
    ) {
        let value = OffsetValue {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(if expires.is_some() { -1 } else { epoch }),
            metadata: &metadata,
            commit_timestamp: Timestamp(at),
            expire_timestamp: expires.map(Timestamp),
        };
        let bytes: Bytes = value.encode();
        prop_assert_eq!(bytes.len(), value.size());
        prop_assert_eq!(OffsetValue::decode(&bytes), Ok(value));
    }
}
