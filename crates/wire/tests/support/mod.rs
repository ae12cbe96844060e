//! The vectors made by `tests/vectors/wire_vectors.py` with a codec that is not ours, and both directions as one.

#![allow(dead_code, reason = "each test file uses a part of it")]

use wire::{ApiKey, Bytes, DecodeError, EncodeError, Request, Response, Rope};

/// A request or a response of any API.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Any {
    Request(Request),
    Response(Response),
}

impl Any {
    pub(crate) fn decode(response: bool, key: ApiKey, version: i16, input: &mut Bytes) -> Result<Self, DecodeError> {
        if response {
            Response::decode(key, version, input).map(Self::Response)
        } else {
            Request::decode(key, version, input).map(Self::Request)
        }
    }

    pub(crate) fn encode(&self, version: i16) -> Result<Rope, EncodeError> {
        let mut out = Rope::new();
        match self {
            Self::Request(body) => body.encode(&mut out, version)?,
            Self::Response(body) => body.encode(&mut out, version)?,
        }
        Ok(out)
    }

    pub(crate) fn size(&self, version: i16) -> usize {
        match self {
            Self::Request(body) => body.size(version),
            Self::Response(body) => body.size(version),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub(crate) key: ApiKey,
    pub(crate) response: bool,
    pub(crate) version: i16,
    pub(crate) nulls: bool,
    pub(crate) bytes: Bytes,
}

impl Vector {
    pub(crate) fn is_served(&self) -> bool {
        self.key.is_decodable(self.version)
    }

    pub(crate) fn name(&self) -> String {
        let (direction, mode) =
            (if self.response { "response" } else { "request" }, if self.nulls { "nulls" } else { "filled" });
        format!("{} {direction} v{} {mode}", self.key, self.version)
    }
}

pub(crate) fn vectors() -> Vec<Vector> {
    include_str!("../vectors.txt").lines().map(vector).collect()
}

fn vector(line: &str) -> Vector {
    let [key, direction, version, mode, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
        panic!("five columns: {line}");
    };
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    Vector {
        key: ApiKey::from_i16(key.parse().expect("a key")).expect("a key that has a name"),
        response: direction == "resp",
        version: version.parse().expect("a version"),
        nulls: mode == "null",
        bytes: (0..hex.len()).step_by(2).map(digits).collect(),
    }
}
