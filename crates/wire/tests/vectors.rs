//! Every vector of an API that we have decodes to the end and encodes to the same bytes.

mod support;

use std::collections::BTreeMap;

use support::{Any, vectors};
use wire::{ApiKey, VERSIONS_DECODABLE};

#[test]
fn vectors_of_an_independent_codec_decode_and_encode_to_the_same_bytes() {
    let mut checked: BTreeMap<ApiKey, usize> = BTreeMap::new();
    let mut skipped = Vec::new();
    for vector in vectors() {
        if !vector.is_served() {
            skipped.push(vector.name());
            continue;
        }
        let (name, mut input) = (vector.name(), vector.bytes.clone());
        let body = Any::decode(vector.response, vector.key, vector.version, &mut input)
            .unwrap_or_else(|error| panic!("{name} does not decode: {error}"));
        assert!(input.is_empty(), "{name}: {} bytes are left of {body:?}", input.len());
        let out = body.encode(vector.version).unwrap_or_else(|error| panic!("{name} does not encode: {error}"));
        assert_eq!(out.len(), body.size(vector.version), "{name}: size and encode differ");
        assert_eq!(out.into_bytes(), vector.bytes, "{name}: {body:?}");
        *checked.entry(vector.key).or_default() += 1;
    }
    // Each version of each API: both directions, with everything set and with everything null.
    for api in VERSIONS_DECODABLE {
        let versions = usize::try_from(api.versions.1 - api.versions.0 + 1).unwrap();
        assert_eq!(checked.get(&api.key).copied(), Some(versions * 4), "vectors of {}", api.key);
    }
    // Left out are only versions that we do not have: older ones, and the newest of these.
    let newest = ["ListOffsets request v11", "OffsetCommit request v10", "InitProducerId request v6"];
    for name in newest {
        assert!(skipped.iter().any(|skipped| skipped.starts_with(name)), "{name} is skipped on purpose");
    }
    assert!(skipped.len() <= 132, "more is left out than was decided: {}", skipped.len());
}

#[test]
fn the_table_of_versions_is_the_one_that_was_decided() {
    let decided = "Produce 3-13, Fetch 4-18, ListOffsets 1-10, Metadata 0-13, OffsetCommit 2-9, OffsetFetch 1-9, \
        FindCoordinator 0-6, JoinGroup 0-9, Heartbeat 0-4, LeaveGroup 0-5, SyncGroup 0-5, DescribeGroups 0-6, \
        ListGroups 0-5, SaslHandshake 0-1, ApiVersions 0-4, CreateTopics 2-7, DeleteTopics 1-6, DeleteRecords 0-2, \
        InitProducerId 0-5, OffsetForLeaderEpoch 2-4, DescribeConfigs 1-4, AlterConfigs 0-2, DescribeLogDirs 1-4, \
        SaslAuthenticate 0-2, CreatePartitions 0-3, DeleteGroups 0-2, ElectLeaders 0-2, IncrementalAlterConfigs 0-1, \
        ListPartitionReassignments 0-0, OffsetDelete 0-0, DescribeCluster 0-2, DescribeProducers 0-0, \
        ListConfigResources 0-1, DescribeTopicPartitions 0-0";
    let ours: Vec<_> =
        VERSIONS_DECODABLE.iter().map(|api| format!("{} {}-{}", api.key, api.versions.0, api.versions.1)).collect();
    assert_eq!(ours.join(", "), decided);
    assert!(VERSIONS_DECODABLE.is_sorted_by_key(|api| api.key), "the table is searched by key");
}
