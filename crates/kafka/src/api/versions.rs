//! ApiVersions: what is served, at which versions (KIP-35, KIP-511).

use std::sync::Arc;

use wire::api_versions::{ApiVersion, Request, Response};
use wire::error_code::ErrorCode;
use wire::{ApiKey, RequestHeader};

use super::Api;
use crate::{ClientInfo, Step};

/// Every API that is served in full: lowest advertised, lowest served, highest.
///
/// Produce is advertised from 0 on because librdkafka before 2.11.1 takes the lack of 0 for a lack of gzip and lz4; a
/// real request of versions 0 to 2 closes the connection.
pub const SERVED: &[(ApiKey, i16, i16, i16)] = &[
    (ApiKey::Produce, 0, 3, 13),
    (ApiKey::Fetch, 4, 4, 18),
    (ApiKey::ListOffsets, 1, 1, 10),
    (ApiKey::Metadata, 0, 0, 13),
    (ApiKey::OffsetCommit, 2, 2, 9),
    (ApiKey::OffsetFetch, 1, 1, 9),
    (ApiKey::FindCoordinator, 0, 0, 6),
    (ApiKey::JoinGroup, 0, 0, 9),
    (ApiKey::Heartbeat, 0, 0, 4),
    (ApiKey::LeaveGroup, 0, 0, 5),
    (ApiKey::SyncGroup, 0, 0, 5),
    (ApiKey::DescribeGroups, 0, 0, 6),
    (ApiKey::ListGroups, 0, 0, 5),
    (ApiKey::ApiVersions, 0, 0, 4),
    (ApiKey::CreateTopics, 2, 2, 7),
    (ApiKey::DeleteTopics, 1, 1, 6),
    (ApiKey::DeleteRecords, 0, 0, 2),
    (ApiKey::InitProducerId, 0, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 2, 4),
    (ApiKey::DescribeConfigs, 1, 1, 4),
    (ApiKey::AlterConfigs, 0, 0, 2),
    (ApiKey::DescribeLogDirs, 1, 1, 4),
    (ApiKey::CreatePartitions, 0, 0, 3),
    (ApiKey::DeleteGroups, 0, 0, 2),
    (ApiKey::ElectLeaders, 0, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 0, 1),
    (ApiKey::ListPartitionReassignments, 0, 0, 0),
    (ApiKey::OffsetDelete, 0, 0, 0),
    (ApiKey::DescribeCluster, 0, 0, 2),
    (ApiKey::DescribeProducers, 0, 0, 0),
    (ApiKey::ListConfigResources, 0, 0, 1),
    (ApiKey::DescribeTopicPartitions, 0, 0, 0),
];

/// The API, if it is served at this version.
pub(super) fn served(key: i16, version: i16) -> Option<ApiKey> {
    let (key, ..) = SERVED.iter().find(|(k, _, low, high)| *k as i16 == key && (*low..=*high).contains(&version))?;
    Some(*key)
}

pub(super) async fn answer(_api: &Arc<Api>, request: &super::Request, body: Request) -> Response {
    if request.version() >= 3 {
        let client = ClientInfo {
            id: request.header.client_id.as_ref().map(ToString::to_string),
            software_name: Some(body.client_software_name.to_string()),
            software_version: Some(body.client_software_version.to_string()),
        };
        request.context.set_client(client);
    }
    response(ErrorCode::NONE)
}

/// A version that is not known is answered in version 0, which every client can read.
pub(super) fn unsupported(header: &RequestHeader) -> Step {
    let mut response = response(ErrorCode::UNSUPPORTED_VERSION);
    response.api_keys.retain(|api| api.api_key == ApiKey::ApiVersions as i16);
    match wire::encode_response(header.api_key, 0, header.correlation_id, &response) {
        Ok(rope) => Step::Reply(rope),
        Err(error) => Step::Close(format!("an answer could not be encoded: {error}").into()),
    }
}

fn response(error: ErrorCode) -> Response {
    let mut api_keys: Vec<ApiVersion> = SERVED
        .iter()
        .map(|(key, advertised, _, max)| ApiVersion {
            api_key: *key as i16,
            min_version: *advertised,
            max_version: *max,
            ..ApiVersion::default()
        })
        .collect();
    api_keys.sort_unstable_by_key(|api| api.api_key);
    Response { error_code: error.code(), api_keys, ..Response::default() }
}
