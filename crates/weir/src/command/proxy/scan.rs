//! Follows the requests of one connection without keeping them: which answers will come, in which order. Pure: bytes
//! go in as they arrive, in pieces of any size, and what is known of each request comes out.

use wire::ApiKey;

/// How much of a request is looked at. Only of a Produce more than the first eight bytes is needed, up to `acks`,
/// which stands behind two strings of at most 32767 bytes.
const HEAD_BYTES_MAX: usize = 70_000;
/// The key, the version and the correlation id.
const FIXED: usize = 8;

/// A request that will be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The API's number, known to us or not.
    pub(super) key: i16,
    /// The version.
    pub(super) version: i16,
    /// What the answer will begin with.
    pub(super) correlation_id: i32,
}

/// The client sends what is not the Kafka protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client sends what is not the Kafka protocol: {0}")]
pub(super) struct Violation(pub(super) &'static str);

/// Where in the stream of requests we are.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: State,
}

#[derive(Debug)]
enum State {
    /// In the four bytes of the length.
    Length { bytes: [u8; 4], have: usize },
    /// In the part that is looked at; so many bytes of the frame are still to come.
    Head { bytes: Vec<u8>, left: usize },
    /// In the rest of the frame.
    Rest { left: usize },
}

impl Default for State {
    fn default() -> State {
        State::Length { bytes: [0; 4], have: 0 }
    }
}

/// What the head of a request says.
enum Head {
    /// It will be answered.
    Answered(Request),
    /// It will not: a Produce with `acks` 0.
    Silent,
    /// More bytes are needed.
    Incomplete,
}

impl Scanner {
    /// Takes the next bytes and adds the requests whose head is now known.
    pub(super) fn feed(&mut self, mut input: &[u8], found: &mut Vec<Request>) -> Result<(), Violation> {
        while !input.is_empty() {
            input = match &mut self.state {
                State::Length { bytes, have } => {
                    let (taken, rest) = input.split_at(input.len().min(4 - *have));
                    bytes[*have..*have + taken.len()].copy_from_slice(taken);
                    *have += taken.len();
                    if *have == 4 {
                        let length = i32::from_be_bytes(*bytes);
                        let left = usize::try_from(length).map_err(|_| Violation("a negative length"))?;
                        if left < FIXED {
                            return Err(Violation("a frame without a header"));
                        }
                        self.state = State::Head { bytes: Vec::with_capacity(FIXED), left };
                    }
                    rest
                }
                State::Head { bytes, left } => {
                    let (taken, rest) = input.split_at(input.len().min(*left).min(HEAD_BYTES_MAX - bytes.len()));
                    bytes.extend_from_slice(taken);
                    *left -= taken.len();
                    match head(bytes) {
                        Head::Answered(request) => found.push(request),
                        Head::Silent => {}
                        Head::Incomplete if *left == 0 || bytes.len() == HEAD_BYTES_MAX => {
                            return Err(Violation("a Produce request that ends too early"));
                        }
                        Head::Incomplete => {
                            input = rest;
                            continue;
                        }
                    }
                    self.state = State::after(*left);
                    rest
                }
                State::Rest { left } => {
                    let (taken, rest) = input.split_at(input.len().min(*left));
                    let left = *left - taken.len();
                    self.state = State::after(left);
                    rest
                }
            };
        }
        Ok(())
    }
}

impl State {
    fn after(left: usize) -> State {
        if left == 0 { State::default() } else { State::Rest { left } }
    }
}

fn head(bytes: &[u8]) -> Head {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Head::Incomplete };
    let [k0, k1, v0, v1, c0, c1, c2, c3] = *fixed;
    let request = Request {
        key: i16::from_be_bytes([k0, k1]),
        version: i16::from_be_bytes([v0, v1]),
        correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
    };
    if request.key != ApiKey::Produce.code() {
        return Head::Answered(request);
    }
    match acks(&bytes[FIXED..], request.version) {
        None => Head::Incomplete,
        Some(0) => Head::Silent,
        Some(_) => Head::Answered(request),
    }
}

/// The `acks` of a Produce request, from what stands behind its correlation id.
fn acks(bytes: &[u8], version: i16) -> Option<i16> {
    let mut reader = Reader(bytes);
    reader.text()?;
    if ApiKey::Produce.is_flexible(version) {
        for _ in 0..reader.varint()? {
            reader.varint()?;
            let length = reader.varint()?;
            reader.skip(length)?;
        }
        // Compact: the length plus one, 0 for null.
        let length = reader.varint()?.saturating_sub(1);
        reader.skip(length)?;
    } else if version >= 3 {
        reader.text()?;
    }
    reader.number()
}

/// Reads from the front; nothing where the bytes end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<i16> {
        let (bytes, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(i16::from_be_bytes(*bytes))
    }

    /// A nullable string in the old form.
    fn text(&mut self) -> Option<()> {
        let length = self.number()?;
        // Null is −1.
        self.skip(u32::try_from(length).unwrap_or(0))
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some(value)
    }

    fn skip(&mut self, length: u32) -> Option<()> {
        self.0 = self.0.get(usize::try_from(length).ok()?..)?;
        Some(())
    }
}
