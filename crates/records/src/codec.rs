//! The compressions of the Kafka protocol. A batch's records are compressed as one piece.
//!
//! Inflating reads as a stream and stops at the caller's limit: a few bytes that would inflate to gigabytes cost no more
//! than the limit, plus what a codec needs to look back (lz4 at most 8 MiB, zstd at most the 128 MiB window that its
//! highest level asks for, of which only what is written to is ever backed by memory).
//!
//! | codec | read | written |
//! | --- | --- | --- |
//! | gzip | any members, one after another | one member |
//! | snappy | the plain block, and the framing of Java's `SnappyOutputStream` ("xerial") | that framing, blocks of 32 KiB |
//! | lz4 | the frame format | one frame of independent blocks of 64 KiB, as Java's client demands |
//! | zstd | any frames | one frame |

use std::io::{Read, Write};

use bytes::Bytes;

/// How records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, in the framing of Java's `SnappyOutputStream`.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// Why bytes do not inflate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// They would be more than the caller allows.
    #[error("the {codec} data inflates to more than {bytes_max} bytes")]
    TooLarge {
        /// The codec.
        codec: Codec,
        /// The limit.
        bytes_max: usize,
    },
    /// They are not what the codec writes.
    #[error("the {codec} data is damaged: {reason}")]
    Damaged {
        /// The codec.
        codec: Codec,
        /// What the codec says.
        reason: String,
    },
    /// No codec has this name.
    #[error("no codec is called {0:?}: use none, gzip, snappy, lz4 or zstd")]
    UnknownName(String),
}

/// What opens Java's framing of snappy: a magic, then its version and the oldest that can read it, both 1.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_BLOCK_LEN: usize = 32 * 1024;

/// As Java's client: fast, and good enough for what is compressed once and read often.
const ZSTD_LEVEL: i32 = 3;
/// The largest window that zstd's own tools accept without being told to.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in a batch's attributes.
    #[must_use]
    pub fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec with this number.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.number() == number)
    }

    /// Kafka's name of it: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses `plain`.
    #[must_use]
    pub fn deflate(self, plain: Bytes) -> Bytes {
        // Every writer below writes into a Vec, which takes everything.
        const INFALLIBLE: &str = "writing to memory does not fail";
        match self {
            Self::None => plain,
            Self::Gzip => {
                let mut writer =
                    flate2::write::GzEncoder::new(Vec::with_capacity(plain.len() / 2), flate2::Compression::default());
                writer.write_all(&plain).expect(INFALLIBLE);
                writer.finish().expect(INFALLIBLE).into()
            }
            Self::Snappy => deflate_xerial(&plain),
            Self::Lz4 => {
                use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
                let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                let mut writer = FrameEncoder::with_frame_info(info, Vec::with_capacity(plain.len() / 2));
                writer.write_all(&plain).expect(INFALLIBLE);
                writer.finish().expect(INFALLIBLE).into()
            }
            Self::Zstd => {
                let mut writer = zstd::Encoder::new(Vec::with_capacity(plain.len() / 4), ZSTD_LEVEL)
                    .expect("the level is one that zstd has");
                // With its size the frame says what a reader must reserve.
                writer.set_pledged_src_size(Some(plain.len() as u64)).expect("nothing was written yet");
                writer.write_all(&plain).expect(INFALLIBLE);
                writer.finish().expect(INFALLIBLE).into()
            }
        }
    }

    /// Inflates `packed` to at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] beyond the limit, [`CodecError::Damaged`] when the data does not inflate.
    pub fn inflate(self, packed: &Bytes, bytes_max: usize) -> Result<Bytes, CodecError> {
        let io = |error: std::io::Error| self.damaged(error);
        match self {
            Self::None if packed.len() > bytes_max => Err(CodecError::TooLarge { codec: self, bytes_max }),
            Self::None => Ok(packed.clone()),
            Self::Gzip => self.read(flate2::bufread::MultiGzDecoder::new(&packed[..]), packed.len(), bytes_max),
            Self::Snappy => inflate_snappy(packed, bytes_max),
            Self::Lz4 => self.read(lz4_flex::frame::FrameDecoder::new(&packed[..]), packed.len(), bytes_max),
            Self::Zstd => {
                let mut reader = zstd::Decoder::with_buffer(&packed[..]).map_err(io)?;
                reader.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(io)?;
                self.read(reader, packed.len(), bytes_max)
            }
        }
    }

    /// Reads to the end, or to one byte beyond the limit.
    fn read(self, reader: impl Read, packed_len: usize, bytes_max: usize) -> Result<Bytes, CodecError> {
        let mut plain = Vec::with_capacity(packed_len.saturating_mul(3).min(bytes_max));
        let limit = (bytes_max as u64).saturating_add(1);
        reader.take(limit).read_to_end(&mut plain).map_err(|error| self.damaged(error))?;
        if plain.len() > bytes_max {
            return Err(CodecError::TooLarge { codec: self, bytes_max });
        }
        Ok(plain.into())
    }

    fn damaged(self, reason: impl ToString) -> CodecError {
        CodecError::Damaged { codec: self, reason: reason.to_string() }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Codec {
    type Err = CodecError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|codec| codec.name() == name);
        found.ok_or_else(|| CodecError::UnknownName(name.to_owned()))
    }
}

fn deflate_xerial(plain: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(XERIAL_HEADER_LEN + plain.len() / 2);
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1_u32.to_be_bytes());
    out.extend_from_slice(&1_u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(XERIAL_BLOCK_LEN)];
    for chunk in plain.chunks(XERIAL_BLOCK_LEN) {
        let len = encoder.compress(chunk, &mut block).expect("the block has room for the worst case");
        out.extend_from_slice(&u32::try_from(len).expect("a block is some 32 KiB").to_be_bytes());
        out.extend_from_slice(&block[..len]);
    }
    out.into()
}

fn inflate_snappy(packed: &[u8], bytes_max: usize) -> Result<Bytes, CodecError> {
    let mut plain = Vec::new();
    if !packed.starts_with(XERIAL_MAGIC) {
        inflate_block(packed, &mut plain, bytes_max)?;
        return Ok(plain.into());
    }
    let mut rest = packed;
    while !rest.is_empty() {
        // Java's reader lets streams follow one another.
        if rest.starts_with(XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).ok_or_else(|| Codec::Snappy.damaged("the framing is cut off"))?;
            continue;
        }
        let (len, after) =
            rest.split_first_chunk::<4>().ok_or_else(|| Codec::Snappy.damaged("a block's length is cut off"))?;
        let (block, after) = after
            .split_at_checked(u32::from_be_bytes(*len) as usize)
            .ok_or_else(|| Codec::Snappy.damaged("a block is cut off"))?;
        inflate_block(block, &mut plain, bytes_max)?;
        rest = after;
    }
    Ok(plain.into())
}

/// Appends the plain bytes of one block, whose own length field is believed only within the limit.
fn inflate_block(block: &[u8], plain: &mut Vec<u8>, bytes_max: usize) -> Result<(), CodecError> {
    let len = snap::raw::decompress_len(block).map_err(|error| Codec::Snappy.damaged(error))?;
    let start = plain.len();
    if len > bytes_max.saturating_sub(start) {
        return Err(CodecError::TooLarge { codec: Codec::Snappy, bytes_max });
    }
    plain.resize(start + len, 0);
    snap::raw::Decoder::new()
        .decompress(block, &mut plain[start..])
        .map_err(|error| Codec::Snappy.damaged(error))
        .map(|_| ())
}
