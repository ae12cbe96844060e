//! Record data, strings and bytes are never copied: decoded values lie in the frame, encoded records by reference.

use wire::{ApiKey, Bytes, Message, Records, Rope, Uuid, encode_response, fetch, produce};

fn lies_in(part: &[u8], whole: &Bytes) -> bool {
    let whole = whole.as_ptr_range();
    let part = part.as_ptr_range();
    whole.start <= part.start && part.end <= whole.end
}

#[test]
fn decoded_names_and_records_lie_in_the_frame() {
    for version in 3..=13 {
        let request = produce::Request {
            transactional_id: Some("transactional".into()),
            topic_data: vec![produce::TopicProduceData {
                name: if version < 13 { "topic".into() } else { "".into() },
                topic_id: if version < 13 { Uuid::nil() } else { Uuid::from_u128(7) },
                partition_data: vec![produce::PartitionProduceData {
                    index: 3,
                    records: Some(Records::from(Bytes::from(vec![9; 5000]))),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut out = Rope::new();
        request.encode(&mut out, version).unwrap();
        let frame = out.into_bytes();
        let read = produce::Request::decode(&mut frame.clone(), version).unwrap();
        assert_eq!(read, request);
        assert!(lies_in(read.transactional_id.as_ref().unwrap().as_bytes(), &frame));
        let records = read.topic_data[0].partition_data[0].records.clone().unwrap();
        assert!(lies_in(&records.segments()[0], &frame));
        assert!(lies_in(&records.into_bytes(), &frame));
        if version < 13 {
            assert!(lies_in(read.topic_data[0].name.as_bytes(), &frame));
            assert!(!lies_in(read.topic_data[0].name.detach().as_bytes(), &frame));
        }
    }
}

#[test]
fn encoded_records_go_by_reference_between_gathered_fields() {
    let batches = [Bytes::from(vec![1; 61]), Bytes::from(vec![2; 4000]), Bytes::from(vec![3; 10])];
    let partition = |index, records: Records| fetch::PartitionData {
        partition_index: index,
        records: Some(records),
        ..Default::default()
    };
    let response = fetch::Response {
        responses: vec![fetch::FetchableTopicResponse {
            topic: "topic".into(),
            partitions: vec![
                partition(0, batches.iter().take(2).cloned().collect()),
                partition(1, Records::new()),
                partition(2, Records::from(batches[2].clone())),
            ],
            ..Default::default()
        }],
        ..Default::default()
    };
    let out = encode_response(ApiKey::Fetch, 12, 77, &response).unwrap();
    let len = out.len();
    let whole = out.clone().into_bytes();
    let segments = out.into_segments();
    assert_eq!(segments.len(), 6, "fields, two slices, fields, one slice, fields: {segments:?}");
    for (segment, batch) in [(1, 0), (2, 1), (4, 2)] {
        assert_eq!(segments[segment].as_ptr(), batches[batch].as_ptr(), "segment {segment} is a copy");
    }
    assert_eq!(segments.concat(), whole);
    assert_eq!(whole.len(), len);
    assert_eq!(whole[..4], i32::try_from(len - 4).unwrap().to_be_bytes(), "the frame's length");

    let mut input = whole.slice(4..);
    assert_eq!(wire::decode_response_header(ApiKey::Fetch, 12, &mut input), Ok(77));
    assert_eq!(fetch::Response::decode(&mut input, 12), Ok(response));
    assert!(input.is_empty());
}
