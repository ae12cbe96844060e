//! What reading records costs in memory, whatever they hold.

use allocation_counter::measure;
use records::{Batch, Builder, Codec, Headers, Timestamp};

/// Two bytes each, as they lie in the record: the smallest headers there are.
const HEADERS: usize = 500_000;

#[test]
fn a_record_of_the_smallest_headers_takes_no_more_memory_than_its_batch() {
    let headers: Headers = std::iter::repeat_n(("", None::<&str>), HEADERS).collect();
    let mut builder = Builder::new(Codec::None);
    builder.push(Timestamp(1), None, None, &headers).unwrap();
    let bytes = builder.build().to_bytes();
    assert!(bytes.len() < 2 * HEADERS + 200);
    let memory = measure(|| {
        let batch = Batch::decode(bytes.clone()).unwrap();
        let mut found = 0;
        for record in batch.records(1 << 20).unwrap() {
            found += record.unwrap().headers.iter().filter(|(name, value)| name.is_empty() && value.is_none()).count();
        }
        assert_eq!(found, HEADERS);
    });
    assert!(memory.bytes_max < 1000, "{} bytes for a batch of {}", memory.bytes_max, bytes.len());
}
