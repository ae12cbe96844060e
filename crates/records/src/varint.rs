//! Signed numbers in as few bytes as they need: zigzag, then seven bits a byte, lowest first (as in Protocol Buffers).

use bytes::{BufMut, BytesMut};

/// Writes a number.
pub(crate) fn put(out: &mut impl BufMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8((rest & 0x7f) as u8);
}

/// Writes a length and bytes; null is the length −1.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put(out, -1),
        Some(bytes) => {
            put(out, i64::try_from(bytes.len()).expect("a length is below 2^63"));
            out.extend_from_slice(bytes);
        }
    }
}

/// The most bytes that [`put`] writes.
pub(crate) const LEN_MAX: usize = 10;

/// Bytes that [`put`] writes.
pub(crate) fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads a number of up to 64 bits off the start of `input`; `None` when it is cut off or too long.
pub(crate) fn get(input: &mut &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// Reads a number of up to 32 bits.
pub(crate) fn get_i32(input: &mut &[u8]) -> Option<i32> {
    i32::try_from(get(input)?).ok()
}
