//! The answers that name brokers' addresses, and how they are changed to name ours. Pure, but for the function that
//! says which address stands for which.

use bytes::{Buf, Bytes};
use wire::{
    ApiKey, DecodeError, EncodeError, Message, Rope, Text, decode_response_header, describe_cluster, encode_response,
    fetch, find_coordinator, metadata, produce,
};

/// One broker's address in an answer.
pub(super) struct Endpoint<'a> {
    host: &'a mut Text,
    port: &'a mut i32,
}

impl Endpoint<'_> {
    /// The host and port that the broker tells.
    pub(super) fn get(&self) -> Option<(&str, u16)> {
        // A coordinator that is not there has no host and the port −1.
        let port = u16::try_from(*self.port).ok().filter(|port| *port != 0)?;
        (!self.host.is_empty()).then_some((self.host.as_str(), port))
    }

    /// Puts another one in its place.
    pub(super) fn set(&mut self, host: &str, port: u16) {
        *self.host = host.into();
        *self.port = port.into();
    }
}

/// An answer that may name addresses.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// The cluster's brokers, for clients.
    Metadata(metadata::Response),
    /// The coordinator of a group.
    FindCoordinator(find_coordinator::Response),
    /// The cluster's brokers, for administrators.
    DescribeCluster(describe_cluster::Response),
    /// Who leads, where the one asked does not.
    Produce(produce::Response),
    /// The same for fetches.
    Fetch(fetch::Response),
}

/// Why an answer cannot be rewritten; it is then passed on as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum RewriteError {
    /// It does not read as what it should be.
    #[error("cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// It cannot be written again.
    #[error("cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// There is more than the answer in its frame.
    #[error("has {0} bytes too many")]
    Trailing(usize),
}

/// Whether answers of this API and version can name addresses; only those are kept back to be rewritten.
pub(super) fn names_addresses(key: i16, version: i16) -> Option<ApiKey> {
    let key = ApiKey::from_i16(key)?;
    let concerned = match key {
        ApiKey::Metadata | ApiKey::FindCoordinator | ApiKey::DescribeCluster => true,
        ApiKey::Produce => version >= 10,
        ApiKey::Fetch => version >= 16,
        _ => false,
    };
    (concerned && key.is_decodable(version)).then_some(key)
}

impl Answer {
    /// Reads an answer's frame (without its length), and gives its correlation id too.
    pub(super) fn decode(key: ApiKey, version: i16, mut frame: Bytes) -> Result<(i32, Answer), RewriteError> {
        fn body<M: Message>(frame: &mut Bytes, version: i16) -> Result<M, DecodeError> {
            M::decode(frame, version)
        }
        let input = &mut frame;
        let correlation_id = decode_response_header(key, version, input)?;
        let answer = match key {
            ApiKey::Metadata => Answer::Metadata(body(input, version)?),
            ApiKey::FindCoordinator => Answer::FindCoordinator(body(input, version)?),
            ApiKey::DescribeCluster => Answer::DescribeCluster(body(input, version)?),
            ApiKey::Produce => Answer::Produce(body(input, version)?),
            ApiKey::Fetch => Answer::Fetch(body(input, version)?),
            other => return Err(DecodeError::UnknownKey(other.code()).into()),
        };
        if input.has_remaining() {
            return Err(RewriteError::Trailing(input.remaining()));
        }
        Ok((correlation_id, answer))
    }

    /// Writes the answer's frame, with its length.
    pub(super) fn encode(&self, version: i16, correlation_id: i32) -> Result<Rope, RewriteError> {
        Ok(match self {
            Answer::Metadata(body) => encode_response(ApiKey::Metadata, version, correlation_id, body),
            Answer::FindCoordinator(body) => encode_response(ApiKey::FindCoordinator, version, correlation_id, body),
            Answer::DescribeCluster(body) => encode_response(ApiKey::DescribeCluster, version, correlation_id, body),
            Answer::Produce(body) => encode_response(ApiKey::Produce, version, correlation_id, body),
            Answer::Fetch(body) => encode_response(ApiKey::Fetch, version, correlation_id, body),
        }?)
    }

    /// Whether the answer lists all brokers of the cluster, so that one entry means one broker.
    pub(super) fn lists_all_brokers(&self) -> bool {
        matches!(self, Answer::Metadata(_) | Answer::DescribeCluster(_))
    }

    /// Every address in the answer.
    pub(super) fn endpoints(&mut self) -> Vec<Endpoint<'_>> {
        macro_rules! each {
            ($list:expr) => {
                $list.iter_mut().map(|one| Endpoint { host: &mut one.host, port: &mut one.port }).collect()
            };
        }
        match self {
            Answer::Metadata(body) => each!(body.brokers),
            Answer::DescribeCluster(body) => each!(body.brokers),
            Answer::Produce(body) => each!(body.node_endpoints),
            Answer::Fetch(body) => each!(body.node_endpoints),
            Answer::FindCoordinator(body) => {
                let mut list: Vec<Endpoint<'_>> = each!(body.coordinators);
                list.push(Endpoint { host: &mut body.host, port: &mut body.port });
                list
            }
        }
    }
}
