//! What a request will cost, found out before anything is allocated for it.

use bytes::Bytes;
use uuid::Uuid;

use crate::field::At;
use crate::reader::{DecodeError, Reader};
use crate::tags::Tags;
use crate::{ApiKey, RequestHeader};

/// How many topics and partitions a Produce request names, of a whole frame with its header. Allocates nothing that
/// grows with the request but for tagged fields that nobody knows, which are let go one by one. Reads no records.
///
/// # Errors
/// The bytes are no such request, or stop being one where the error is found; decoding would fail there too.
pub fn produced_partitions(frame: &Bytes) -> Result<usize, DecodeError> {
    let mut body = frame.clone();
    let header = RequestHeader::decode(&mut body)?;
    let (key, version) = (ApiKey::Produce, header.api_version);
    if header.api_key != key as i16 || !(3..=13).contains(&version) {
        return Err(DecodeError::Version { api: key.name(), version });
    }
    let at = At { version, flexible: key.is_flexible(version) };
    let mut reader = Reader::new(body);
    // The transactional id, the acknowledgements that are wanted, the time.
    let len = reader.string_length(at)?.unwrap_or(0);
    reader.skip(len)?;
    reader.skip(size_of::<i16>() + size_of::<i32>())?;
    let mut count = 0;
    for _ in 0..reader.length(at)?.unwrap_or(0) {
        count += 1;
        match version {
            13.. => reader.skip(size_of::<Uuid>())?,
            _ => {
                let len = reader.string_length(at)?.unwrap_or(0);
                reader.skip(len)?;
            }
        }
        for _ in 0..reader.length(at)?.unwrap_or(0) {
            count += 1;
            reader.skip(size_of::<i32>())?;
            let len = reader.length(at)?.unwrap_or(0);
            reader.skip(len)?;
            tags(&mut reader, at)?;
        }
        tags(&mut reader, at)?;
    }
    Ok(count)
}

fn tags(reader: &mut Reader, at: At) -> Result<(), DecodeError> {
    if at.flexible { reader.tagged_fields(&mut Tags::default(), |_, _| Ok(false)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Records, encode_request, produce};

    fn request(partitions: &[usize], version: i16) -> Bytes {
        let topic = |(number, count): (usize, &usize)| {
            let data = |index| produce::PartitionProduceData {
                index,
                records: (index % 2 == 0).then(|| Records::from(Bytes::from_static(&[7; 300]))),
                ..Default::default()
            };
            let partition_data = (0..i32::try_from(*count).unwrap()).map(data).collect();
            let (name, topic_id) = if version > 12 {
                (String::new(), Uuid::from_u128(number as u128))
            } else {
                (format!("topic {number}"), Uuid::nil())
            };
            produce::TopicProduceData { name: name.as_str().into(), topic_id, partition_data, ..Default::default() }
        };
        let topic_data = partitions.iter().enumerate().map(topic).collect();
        let body = produce::Request { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() };
        let (api_key, client_id) = (ApiKey::Produce as i16, Some("a client".into()));
        let header = RequestHeader { api_key, api_version: version, correlation_id: 1, client_id };
        encode_request(&header, &body).unwrap().into_bytes().slice(4..)
    }

    #[test]
    fn topics_and_partitions_are_counted_in_every_version() {
        for version in 3..=13 {
            assert_eq!(produced_partitions(&request(&[], version)), Ok(0), "version {version}");
            assert_eq!(produced_partitions(&request(&[1], version)), Ok(2), "version {version}");
            assert_eq!(produced_partitions(&request(&[3, 0, 500], version)), Ok(506), "version {version}");
        }
    }

    #[test]
    fn what_is_cut_off_or_lies_about_its_length_is_an_error() {
        let whole = request(&[3, 2], 9);
        for end in 0..whole.len() - 1 {
            assert!(produced_partitions(&whole.slice(..end)).is_err(), "cut at {end}");
        }
        let mut longer = request(&[2], 3).to_vec();
        // The number of topics, after header, transactional id, acks and timeout.
        let at = 8 + 2 + 8 + 2 + 2 + 4;
        longer[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(produced_partitions(&longer.into()), Err(DecodeError::Truncated));
    }
}
