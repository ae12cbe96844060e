//! What tables promise beyond plain bytes: defaults, versions, nulls, headers, unknown tagged fields.

use wire::{
    ApiKey, Bytes, DecodeError, EncodeError, ErrorCode, Message, RequestHeader, Rope, Text, api_versions,
    decode_response_header, describe_topic_partitions, encode_request, encode_response, fetch, join_group, metadata,
    produce,
};

fn encoded(body: &impl Message, version: i16) -> Result<Bytes, EncodeError> {
    let mut out = Rope::new();
    body.encode(&mut out, version)?;
    Ok(out.into_bytes())
}

#[test]
fn a_field_that_a_version_lacks_takes_its_default() {
    let request = metadata::Request { topics: None, allow_auto_topic_creation: true, ..Default::default() };
    let read = metadata::Request::decode(&mut encoded(&request, 1).unwrap(), 1).unwrap();
    assert_eq!(read, request);
    assert!(read.allow_auto_topic_creation, "version 1 always creates");

    let request = fetch::Request { topics: vec![fetch::FetchTopic::default()], ..Default::default() };
    let read = fetch::Request::decode(&mut encoded(&request, 4).unwrap(), 4).unwrap();
    assert_eq!((read.session_epoch, read.replica_id), (-1, -1));
}

#[test]
fn a_value_that_a_version_cannot_say_is_an_error_unless_it_may_be_dropped() {
    let request = metadata::Request { allow_auto_topic_creation: false, ..Default::default() };
    let error = EncodeError::NotInVersion { field: "Request.allow_auto_topic_creation", version: 3 };
    assert_eq!(encoded(&request, 3), Err(error));
    assert!(encoded(&request, 4).is_ok());

    let response = metadata::Response { throttle_time_ms: 9, ..Default::default() };
    let read = metadata::Response::decode(&mut encoded(&response, 2).unwrap(), 2).unwrap();
    assert_eq!(read.throttle_time_ms, 0, "a throttle time may be dropped");
}

#[test]
fn null_is_refused_where_a_version_has_none() {
    let request = metadata::Request { topics: None, ..Default::default() };
    assert_eq!(encoded(&request, 0), Err(EncodeError::Null("Request.topics")));
    let null = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(metadata::Request::decode(&mut null.clone(), 0), Err(DecodeError::Null("Request.topics")));
    assert_eq!(metadata::Request::decode(&mut null.clone(), 1).unwrap().topics, None);
    // Null in an array of names, and where the type has no null at all.
    let names = Bytes::from_static(&[0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0]);
    let error = wire::delete_topics::Request::decode(&mut names.clone(), 1);
    assert_eq!(error, Err(DecodeError::Null("Request.topic_names")));
    let handshake = Bytes::from_static(&[0xff, 0xff]);
    let error = wire::sasl_handshake::Request::decode(&mut handshake.clone(), 0);
    assert_eq!(error, Err(DecodeError::Null("Request.mechanism")));

    let response = join_group::Response { protocol_name: None, ..Default::default() };
    assert!(encoded(&response, 7).is_ok());
    assert_eq!(encoded(&response, 6), Err(EncodeError::Null("Response.protocol_name")));
    assert!(encoded(&join_group::Response::default(), 6).is_ok(), "the default can be said in every version");
}

#[test]
fn a_structure_may_be_null() {
    let cursor = describe_topic_partitions::Cursor { topic_name: "t".into(), partition_index: 5, ..Default::default() };
    for cursor in [None, Some(cursor)] {
        let request = describe_topic_partitions::Request { cursor, ..Default::default() };
        let bytes = encoded(&request, 0).unwrap();
        assert_eq!(describe_topic_partitions::Request::decode(&mut bytes.clone(), 0), Ok(request));
    }
}

#[test]
fn versions_outside_of_the_table_are_refused_both_ways() {
    for version in [-1, 2, 14, i16::MAX] {
        let error = produce::Request::decode(&mut Bytes::from_static(&[0; 64]), version);
        assert_eq!(error, Err(DecodeError::Version { api: "Produce", version }));
        let error = encoded(&produce::Request::default(), version);
        assert_eq!(error, Err(EncodeError::Version { api: "Produce", version }));
    }
}

#[test]
fn unknown_tagged_fields_are_passed_on_in_their_order() {
    // ApiVersions response v3: no error, no APIs, no throttle; tags 1 (known: epoch 5), 2 (known, empty), 9 and 300.
    let tail = [4, 1, 8, 0, 0, 0, 0, 0, 0, 0, 5, 2, 1, 1, 9, 2, 0xaa, 0xbb, 0xac, 2, 0];
    let bytes = Bytes::from([&[0, 0, 1, 0, 0, 0, 0][..], &tail].concat());
    let mut input = bytes.clone();
    let response = api_versions::Response::decode(&mut input, 3).unwrap();
    assert!(input.is_empty());
    assert_eq!(response.finalized_features_epoch, 5);
    let unknown = response.unknown_tagged_fields.as_slice();
    assert_eq!(unknown, [(9, Bytes::from_static(&[0xaa, 0xbb])), (300, Bytes::new())]);
    // Passed on, but for the empty list, which is its default and therefore not written.
    let tail = [3, 1, 8, 0, 0, 0, 0, 0, 0, 0, 5, 9, 2, 0xaa, 0xbb, 0xac, 2, 0];
    assert_eq!(encoded(&response, 3).unwrap()[7..], tail);
    assert_eq!(response.size(3), 7 + tail.len());

    // A field that this version lacks stands before one that it has: fetch v17 knows tag 0, not tag 1.
    let newer = fetch::FetchPartition { high_watermark: 8, ..Default::default() };
    let newer = fetch::Request {
        topics: vec![fetch::FetchTopic { partitions: vec![newer], ..Default::default() }],
        ..Default::default()
    };
    let bytes = encoded(&newer, 18).unwrap();
    let older = fetch::Request::decode(&mut bytes.clone(), 17).unwrap();
    assert_eq!(older.topics[0].partitions[0].unknown_tagged_fields.len(), 1);
    assert_eq!(encoded(&older, 17).unwrap(), bytes);
}

#[test]
fn tagged_fields_out_of_order_or_of_a_wrong_length_are_refused() {
    let body = |tail: &[u8]| Bytes::from([&[0, 0, 1, 0, 0, 0, 0][..], tail].concat());
    for tail in [
        &[2, 9, 0, 9, 0][..],                  // the same twice
        &[2, 9, 0, 8, 0],                      // descending
        &[1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0], // one byte more than the field has
        &[1, 3, 0],                            // one byte less
    ] {
        let result = api_versions::Response::decode(&mut body(tail), 3);
        assert!(matches!(result, Err(DecodeError::Tags | DecodeError::Truncated)), "{tail:?}: {result:?}");
    }
}

#[test]
fn strings_are_utf8_and_not_longer_than_the_protocol_allows() {
    let not_utf8 = Bytes::from_static(&[0, 2, 0xc3, 0x28]);
    let error = wire::sasl_handshake::Request::decode(&mut not_utf8.clone(), 0);
    assert_eq!(error, Err(DecodeError::NotUtf8("Request.mechanism")));
    for version in [0, 3] {
        let request = wire::find_coordinator::Request { key: "k".repeat(0x8000).into(), ..Default::default() };
        assert_eq!(encoded(&request, version), Err(EncodeError::TooLong("Request.key")));
        let request = wire::find_coordinator::Request { key: "k".repeat(0x7fff).into(), ..Default::default() };
        let bytes = encoded(&request, version).unwrap();
        assert_eq!(wire::find_coordinator::Request::decode(&mut bytes.clone(), version), Ok(request));
    }
}

#[test]
fn an_error_leaves_the_input_where_it_was() {
    let mut input = Bytes::from_static(&[0, 9, 1]);
    assert_eq!(wire::sasl_handshake::Request::decode(&mut input, 0), Err(DecodeError::Truncated));
    assert_eq!(input.len(), 3);
}

#[test]
fn requests_and_responses_go_through_their_frames() {
    for (version, flexible) in [(0, false), (3, true)] {
        let header = RequestHeader {
            api_key: ApiKey::ApiVersions.code(),
            api_version: version,
            correlation_id: 42,
            client_id: Some(Text::from("weir")),
        };
        let frame = encode_request(&header, &api_versions::Request::default()).unwrap().into_bytes();
        assert_eq!(frame[..4], u32::try_from(frame.len() - 4).unwrap().to_be_bytes());
        let mut input = frame.slice(4..);
        assert_eq!(RequestHeader::decode(&mut input), Ok(header));
        assert!(api_versions::Request::decode(&mut input, version).is_ok());
        assert!(input.is_empty());

        // The answer's header never has tagged fields, so that any client can read it.
        let response =
            api_versions::Response { error_code: ErrorCode::UNSUPPORTED_VERSION.code(), ..Default::default() };
        let frame = encode_response(ApiKey::ApiVersions, version, 42, &response).unwrap().into_bytes();
        assert_eq!(frame[8..10], [0, 35]);
        let mut input = frame.slice(4..);
        assert_eq!(decode_response_header(ApiKey::ApiVersions, version, &mut input), Ok(42));
        assert_eq!(api_versions::Response::decode(&mut input, version), Ok(response));
        assert_eq!(ApiKey::ApiVersions.is_flexible(version), flexible);
    }
    // That of every other flexible API has.
    let frame = encode_response(ApiKey::Heartbeat, 4, 42, &wire::heartbeat::Response::default()).unwrap().into_bytes();
    assert_eq!(frame, Bytes::from_static(&[0, 0, 0, 12, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 0]));
    let mismatched = encode_response(ApiKey::Fetch, 4, 42, &wire::heartbeat::Response::default());
    assert!(matches!(mismatched, Err(EncodeError::Header)));
}

#[test]
fn a_header_of_an_unknown_api_or_version_can_be_read() {
    let mut input = Bytes::from_static(&[3, 0xe8, 0, 1, 0, 0, 0, 7, 0xff, 0xff]);
    let header = RequestHeader::decode(&mut input).unwrap();
    assert_eq!((header.api_key, header.api_version, header.correlation_id, header.client_id), (1000, 1, 7, None));
    assert_eq!(ApiKey::from_i16(header.api_key), None);
    // ApiVersions from the future: the header is of the new form, with a tagged field to skip.
    let mut input = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 8, 0, 1, b'x', 1, 5, 2, 1, 1, 0xee]);
    let header = RequestHeader::decode(&mut input).unwrap();
    assert_eq!((header.api_version, header.client_id.as_deref()), (99, Some("x")));
    assert_eq!(input, Bytes::from_static(&[0xee]));
}

#[test]
fn error_codes_are_kafkas() {
    for (at, code) in ErrorCode::ALL.iter().enumerate() {
        assert_eq!(i32::from(code.code()), i32::try_from(at).unwrap() - 1, "{code}: no code is left out");
    }
    assert_eq!(ErrorCode::from_code(6).to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
    assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.retriable());
    assert!(!ErrorCode::MESSAGE_TOO_LARGE.retriable());
    assert_eq!(ErrorCode::from_code(4000).name(), "UNKNOWN");
}
