//! Records as text: one line of JSON each, the same form for what goes in and what comes out, so that
//! `weir consume --format json | weir produce --format json` copies records. Bytes that are no UTF-8 travel in a field
//! of their own, as base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The fields of a record as JSON.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JsonRecord {
    /// Where it was read; not heeded when it is produced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    /// Where it lies, or is to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<i32>,
    /// Where it lies; not heeded when it is produced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<i64>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<i64>,
    /// The key; null is no key.
    pub(crate) key: Option<String>,
    /// The key where it is no text, as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_base64: Option<String>,
    /// The value; null is a record without one (a tombstone). What is no string is taken as its own JSON text.
    #[serde(deserialize_with = "text_or_json")]
    pub(crate) value: Option<String>,
    /// The value where it is no text, as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value_base64: Option<String>,
    /// The headers, in order; a name may stand there twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<JsonHeader>,
}

/// One header.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JsonHeader {
    /// Its name.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: Option<String>,
    /// Its value where it is no text, as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value_base64: Option<String>,
}

fn text_or_json<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

/// Bytes as text where they are text, and as base64 where they are not.
pub(crate) fn split(bytes: Option<&Bytes>) -> (Option<String>, Option<String>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| STANDARD.encode(bytes))) {
        None => (None, None),
        Some(Ok(text)) => (Some(text.to_owned()), None),
        Some(Err(encoded)) => (None, Some(encoded)),
    }
}

/// The way back; an error says which field is wrong.
pub(crate) fn join(text: Option<String>, encoded: Option<String>, field: &str) -> Result<Option<Bytes>, String> {
    match (text, encoded) {
        (Some(_), Some(_)) => Err(format!("has both `{field}` and `{field}_base64`")),
        (text, None) => Ok(text.map(Bytes::from)),
        (None, Some(encoded)) => STANDARD
            .decode(encoded)
            .map(|bytes| Some(bytes.into()))
            .map_err(|_| format!("`{field}_base64` is no base64")),
    }
}

/// The white space that people write for separators on a command line: `\t`, `\n`, `\r`, `\0`, `\\`.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        let next = if one == '\\' { rest.clone().next() } else { None };
        let special = match next {
            Some('t') => Some('\t'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('0') => Some('\0'),
            Some('\\') => Some('\\'),
            _ => None,
        };
        if special.is_some() {
            rest.next();
        }
        out.push(special.unwrap_or(one));
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{join, split, unescape};

    #[test]
    fn bytes_that_are_no_text_survive_the_way_through_json() {
        for bytes in [&b"plain"[..], b"\xff\x00", "grün".as_bytes(), b""] {
            let (text, encoded) = split(Some(&Bytes::copy_from_slice(bytes)));
            assert_eq!(join(text, encoded, "value").unwrap().unwrap(), bytes);
        }
        assert_eq!(split(None), (None, None));
        assert!(join(None, Some("?".to_owned()), "value").unwrap_err().contains("`value_base64`"));
        assert!(join(Some(String::new()), Some(String::new()), "key").is_err());
    }

    #[test]
    fn separators_are_written_as_in_a_shell() {
        assert_eq!(unescape(r"\t"), "\t");
        assert_eq!(unescape(r"a\\t"), r"a\t");
        assert_eq!(unescape(r"\x\"), r"\x\");
    }
}
