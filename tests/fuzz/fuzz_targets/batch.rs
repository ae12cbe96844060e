//! A run of record batches as a client or a store might hand it to us.
//!
//! Nothing may panic, hang, or inflate beyond the limit; batches that decode are written back to the same bytes. Every
//! input is tried as it is and with its CRC set right, so that what lies behind the check is reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use records::{Batch, HEADER_LEN, LeaderEpoch, Offset, Timestamp};
use wire::Bytes;

/// What the records of one batch may inflate to.
const INFLATED_MAX: usize = 1 << 20;
/// Where the CRC lies, and where what it covers begins.
const CRC: std::ops::Range<usize> = 17..21;

fn batch(mut batch: Batch, bytes: &[u8]) {
    assert_eq!(batch.len(), bytes.len());
    assert_eq!(batch.to_bytes(), bytes, "a batch is written as it was read");
    let produced = batch.check_produced(1 << 20);
    if let Ok(records) = batch.records(INFLATED_MAX) {
        let mut held = 0;
        for record in records {
            let Ok(record) = record else { break };
            held += record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len());
        }
        assert!(held <= INFLATED_MAX.max(bytes.len()), "{held} bytes of records");
    }
    if produced.is_ok() {
        batch.assign(Offset(1 << 40), LeaderEpoch(7));
        assert_eq!(batch.check_crc(), Ok(()), "offset and epoch lie outside of the CRC");
        batch.stamp_log_append_time(Timestamp(1));
        assert_eq!(batch.check_crc(), Ok(()), "the CRC follows the stamp");
    }
}

fn run(bytes: Bytes) {
    if let Ok(whole) = Batch::decode(bytes.clone()) {
        batch(whole, &bytes);
    }
    let mut rest = bytes.clone();
    loop {
        let before = rest.clone();
        let Ok(Some(next)) = Batch::split_first(&mut rest) else { break };
        assert_eq!(before.len() - rest.len(), next.len());
        batch(next, &before[..before.len() - rest.len()]);
    }
}

fuzz_target!(|data: &[u8]| {
    run(Bytes::copy_from_slice(data));
    if data.len() >= HEADER_LEN {
        let mut right = data.to_vec();
        let crc = crc32c::crc32c(&right[CRC.end..]);
        right[CRC].copy_from_slice(&crc.to_be_bytes());
        run(Bytes::from(right));
    }
});
