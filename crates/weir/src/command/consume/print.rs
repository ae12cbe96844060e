//! Records to standard output, as lines, lines of JSON, or their bare bytes.

use std::io::{self, Write};

use bytes::Bytes;
use clap::ValueEnum;
use client::Record;

use crate::text::{JsonHeader, JsonRecord, split};

/// How a record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// The value and a line end; the key in front where a separator is given.
    #[default]
    Lines,
    /// One JSON object a line, with everything that the record has.
    Json,
    /// The value's bytes and nothing else.
    Raw,
}

/// Writes records.
#[derive(Clone, Debug)]
pub(super) struct Printer {
    pub(super) format: RecordFormat,
    pub(super) key_separator: Option<String>,
}

impl Printer {
    pub(super) fn print(&self, out: &mut impl Write, record: &Record) -> io::Result<()> {
        match self.format {
            RecordFormat::Raw => out.write_all(record.value.as_deref().unwrap_or_default()),
            RecordFormat::Lines => {
                if let Some(separator) = &self.key_separator {
                    out.write_all(record.key.as_deref().unwrap_or_default())?;
                    out.write_all(separator.as_bytes())?;
                }
                out.write_all(record.value.as_deref().unwrap_or_default())?;
                out.write_all(b"\n")
            }
            RecordFormat::Json => {
                serde_json::to_writer(&mut *out, &json(record)).map_err(io::Error::from)?;
                out.write_all(b"\n")
            }
        }
    }
}

fn json(record: &Record) -> JsonRecord {
    let (key, key_base64) = split(record.key.as_ref());
    let (value, value_base64) = split(record.value.as_ref());
    let header = |(key, value): &(Bytes, Option<Bytes>)| {
        let (value, value_base64) = split(value.as_ref());
        JsonHeader { key: String::from_utf8_lossy(key).into_owned(), value, value_base64 }
    };
    JsonRecord {
        topic: Some(record.topic.to_string()),
        partition: Some(record.partition),
        offset: Some(record.offset.0),
        timestamp: Some(record.timestamp.0),
        key,
        key_base64,
        value,
        value_base64,
        headers: record.headers.iter().map(header).collect(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use client::{Offset, Record, Timestamp};

    use super::{Printer, RecordFormat};

    fn print(format: RecordFormat, key_separator: Option<&str>, record: &Record) -> String {
        let printer = Printer { format, key_separator: key_separator.map(str::to_owned) };
        let mut out = Vec::new();
        printer.print(&mut out, record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_are_written_in_every_form() {
        let mut record = Record {
            topic: "t".into(),
            partition: 2,
            offset: Offset(7),
            timestamp: Timestamp(9),
            key: Some("k".into()),
            value: Some("v".into()),
            headers: vec![("h".into(), None)],
        };
        assert_eq!(print(RecordFormat::Lines, None, &record), "v\n");
        assert_eq!(print(RecordFormat::Lines, Some("\t"), &record), "k\tv\n");
        assert_eq!(print(RecordFormat::Raw, None, &record), "v");
        assert_eq!(
            print(RecordFormat::Json, None, &record),
            "{\"topic\":\"t\",\"partition\":2,\"offset\":7,\"timestamp\":9,\"key\":\"k\",\"value\":\"v\",\
             \"headers\":[{\"key\":\"h\",\"value\":null}]}\n"
        );
        record.value = Some(Bytes::from_static(b"\xff"));
        record.key = None;
        record.headers.clear();
        assert_eq!(
            print(RecordFormat::Json, None, &record),
            "{\"topic\":\"t\",\"partition\":2,\"offset\":7,\"timestamp\":9,\"key\":null,\"value\":null,\
             \"value_base64\":\"/w==\"}\n"
        );
        record.value = None;
        assert_eq!(print(RecordFormat::Lines, Some(":"), &record), ":\n");
    }
}
