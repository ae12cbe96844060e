//! Standard input as records: lines, lines of JSON, or all of it as one value. Reading happens on a thread of its own,
//! which stops when what it has read is not wanted yet.

use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::text::{JsonRecord, join};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// The longest line, and the largest raw input.
const RECORD_BYTES_MAX: usize = 100 << 20;
/// How many reads may wait to be sent.
const BATCHES_MAX: usize = 8;

/// A record as it was read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct InputRecord {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(Bytes, Option<Bytes>)>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<i64>,
}

/// How the input is divided and read.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// One record a line; what stands before the separator, if there is one, is the key.
    Lines { key_separator: Option<String> },
    /// One JSON object a line.
    Json,
    /// All of the input is one value.
    Raw,
}

/// Reads until the end of the input and gives the records in batches, each what one read brought.
pub(super) fn start(
    input: impl Read + Send + 'static,
    layout: Layout,
) -> mpsc::Receiver<Result<Vec<InputRecord>, String>> {
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    // The thread ends with the input or when the receiver is gone; the process does not wait for it.
    std::thread::spawn(move || {
        let mut splitter = Splitter { layout, pending: BytesMut::new(), searched: 0, line: 0 };
        let failed = read_all(input, &mut splitter, &sender).err();
        if let Some(problem) = failed {
            // Whoever does not listen any more does not need to know.
            let _ = sender.blocking_send(Err(problem));
        }
    });
    receiver
}

fn read_all(
    mut input: impl Read,
    splitter: &mut Splitter,
    sender: &mpsc::Sender<Result<Vec<InputRecord>, String>>,
) -> Result<(), String> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = match input.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("cannot read standard input: {error}")),
        };
        let (records, problem) = if length == 0 { splitter.finish() } else { splitter.feed(&buffer[..length]) };
        // What was right before a wrong line is sent.
        if !records.is_empty() && sender.blocking_send(Ok(records)).is_err() {
            return Ok(());
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// Divides bytes into records; pure.
struct Splitter {
    layout: Layout,
    pending: BytesMut,
    /// How much of `pending` is known to hold no line end.
    searched: usize,
    line: u64,
}

/// Records, and what was wrong behind them.
type Split = (Vec<InputRecord>, Option<String>);

impl Splitter {
    fn feed(&mut self, bytes: &[u8]) -> Split {
        self.pending.extend_from_slice(bytes);
        let mut records = Vec::new();
        if !matches!(self.layout, Layout::Raw) {
            while let Some(at) = memchr::memchr(b'\n', &self.pending[self.searched..]) {
                let line = self.pending.split_to(self.searched + at).freeze();
                self.pending.advance(1);
                self.searched = 0;
                match self.record(line) {
                    Ok(record) => records.extend(record),
                    Err(problem) => return (records, Some(problem)),
                }
            }
        }
        self.searched = self.pending.len();
        let too_long = self.pending.len() > RECORD_BYTES_MAX;
        (records, too_long.then(|| format!("line {}: longer than {RECORD_BYTES_MAX} bytes", self.line + 1)))
    }

    fn finish(&mut self) -> Split {
        let rest = self.pending.split().freeze();
        match self.layout {
            Layout::Raw => (vec![InputRecord { value: Some(rest), ..InputRecord::default() }], None),
            _ if rest.is_empty() => (Vec::new(), None),
            _ => match self.record(rest) {
                Ok(record) => (record.into_iter().collect(), None),
                Err(problem) => (Vec::new(), Some(problem)),
            },
        }
    }

    /// The record of a line; none for an empty line between JSON objects.
    fn record(&mut self, line: Bytes) -> Result<Option<InputRecord>, String> {
        self.line += 1;
        let at = self.line;
        let line = if line.ends_with(b"\r") { line.slice(..line.len() - 1) } else { line };
        match &self.layout {
            Layout::Json if line.trim_ascii().is_empty() => Ok(None),
            Layout::Json => json(&line).map(Some).map_err(|problem| format!("line {at}: {problem}")),
            Layout::Lines { key_separator: Some(separator) } => {
                match memchr::memmem::find(&line, separator.as_bytes()) {
                    None => Err(format!("line {at}: has no key: the separator {separator:?} is not in it")),
                    Some(found) => {
                        let key = Some(line.slice(..found));
                        let value = Some(line.slice(found + separator.len()..));
                        Ok(Some(InputRecord { key, value, ..InputRecord::default() }))
                    }
                }
            }
            Layout::Lines { key_separator: None } | Layout::Raw => {
                Ok(Some(InputRecord { value: Some(line), ..InputRecord::default() }))
            }
        }
    }
}

fn json(line: &[u8]) -> Result<InputRecord, String> {
    let record: JsonRecord = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let headers = record
        .headers
        .into_iter()
        .map(|header| Ok((Bytes::from(header.key), join(header.value, header.value_base64, "value")?)));
    Ok(InputRecord {
        key: join(record.key, record.key_base64, "key")?,
        value: join(record.value, record.value_base64, "value")?,
        headers: headers.collect::<Result<_, String>>()?,
        partition: record.partition,
        timestamp: record.timestamp,
    })
}

#[cfg(test)]
mod tests {
    use super::{InputRecord, Layout, start};

    fn read(layout: Layout, text: &'static [u8]) -> (Vec<InputRecord>, Option<String>) {
        let mut receiver = start(text, layout);
        let (mut records, mut problem) = (Vec::new(), None);
        while let Some(batch) = receiver.blocking_recv() {
            match batch {
                Ok(batch) => records.extend(batch),
                Err(error) => problem = Some(error),
            }
        }
        (records, problem)
    }

    fn plain(key: Option<&'static str>, value: &'static str) -> InputRecord {
        InputRecord { key: key.map(Into::into), value: Some(value.into()), ..InputRecord::default() }
    }

    #[test]
    fn lines_are_records_with_or_without_a_last_line_end() {
        let layout = Layout::Lines { key_separator: None };
        let expected = vec![plain(None, "one"), plain(None, ""), plain(None, "three")];
        assert_eq!(read(layout.clone(), b"one\n\r\nthree"), (expected, None));
        assert_eq!(read(layout.clone(), b"one\n"), (vec![plain(None, "one")], None));
        assert_eq!(read(layout, b""), (vec![], None));
    }

    #[test]
    fn keys_stand_before_the_first_separator() {
        let layout = Layout::Lines { key_separator: Some("::".to_owned()) };
        let (records, problem) = read(layout, b"k::v::w\n::empty\nnone\nk::never sent\n");
        assert_eq!(records, [plain(Some("k"), "v::w"), plain(Some(""), "empty")]);
        assert_eq!(problem.unwrap(), "line 3: has no key: the separator \"::\" is not in it");
    }

    #[test]
    fn json_lines_have_all_fields() {
        let text =
            br#"{"key":"k","value":"v","headers":[{"key":"h","value":"1"},{"key":"h"}],"partition":3,"timestamp":9}

{"value":{"a":[1]},"key_base64":"/w=="}
{"value":null}
{"valeu":1}
"#;
        let (records, problem) = read(Layout::Json, text);
        assert_eq!(records[0].headers, [("h".into(), Some("1".into())), ("h".into(), None)]);
        assert_eq!((records[0].partition, records[0].timestamp), (Some(3), Some(9)));
        assert_eq!(records[1].value.as_deref(), Some(&br#"{"a":[1]}"#[..]));
        assert_eq!(records[1].key.as_deref(), Some(&b"\xff"[..]));
        assert_eq!(records[2], InputRecord::default());
        assert_eq!(records.len(), 3);
        assert!(problem.unwrap().starts_with("line 5: unknown field `valeu`"));
    }

    #[test]
    fn raw_input_is_one_value() {
        assert_eq!(read(Layout::Raw, b"a\nb\n"), (vec![plain(None, "a\nb\n")], None));
    }
}
