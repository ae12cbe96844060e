//! The APIs of the protocol: their keys and names, and for those that have a table in this crate, the versions that
//! decode and encode. The broker builds its ApiVersions answer from [`VERSIONS_DECODABLE`].

use bytes::Bytes;

use crate::encode::EncodeError;
use crate::message::Message;
use crate::messages;
use crate::reader::DecodeError;
use crate::rope::Rope;

macro_rules! keys {
    ($($name:ident = $key:literal),* $(,)?) => {
        /// The APIs that clients know, served by us or not yet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("API ", stringify!($key), ".")] $name = $key,)*
        }

        impl ApiKey {
            /// Every API, by key.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The API of a key as it stands in a request header.
            pub const fn from_i16(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name for it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

keys! {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    SaslHandshake = 17,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    WriteTxnMarkers = 27,
    TxnOffsetCommit = 28,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35,
    SaslAuthenticate = 36,
    CreatePartitions = 37,
    CreateDelegationToken = 38,
    RenewDelegationToken = 39,
    ExpireDelegationToken = 40,
    DescribeDelegationToken = 41,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    AlterClientQuotas = 49,
    DescribeUserScramCredentials = 50,
    AlterUserScramCredentials = 51,
    DescribeQuorum = 55,
    UpdateFeatures = 57,
    DescribeCluster = 60,
    DescribeProducers = 61,
    UnregisterBroker = 64,
    DescribeTransactions = 65,
    ListTransactions = 66,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    GetTelemetrySubscriptions = 71,
    PushTelemetry = 72,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
    ShareGroupHeartbeat = 76,
    ShareGroupDescribe = 77,
    ShareFetch = 78,
    ShareAcknowledge = 79,
    AddRaftVoter = 80,
    RemoveRaftVoter = 81,
    StreamsGroupHeartbeat = 88,
    StreamsGroupDescribe = 89,
    DescribeShareGroupOffsets = 90,
    AlterShareGroupOffsets = 91,
    DeleteShareGroupOffsets = 92,
}

impl ApiKey {
    /// The key as it stands in a request header.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// What this crate has for the API, if anything.
    pub fn api(self) -> Option<&'static Api> {
        VERSIONS_DECODABLE.binary_search_by_key(&self, |api| api.key).ok().map(|at| &VERSIONS_DECODABLE[at])
    }

    /// The lowest and the highest version that decode and encode.
    pub fn versions_decodable(self) -> Option<(i16, i16)> {
        self.api().map(|api| api.versions)
    }

    /// Whether this crate decodes that version.
    pub fn is_decodable(self, version: i16) -> bool {
        self.versions_decodable().is_some_and(|(min, max)| min <= version && version <= max)
    }

    /// Whether the version has compact lengths and tagged fields, in body and header.
    pub fn is_flexible(self, version: i16) -> bool {
        self.api().and_then(|api| api.flexible_from).is_some_and(|from| version >= from)
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl From<ApiKey> for i16 {
    fn from(key: ApiKey) -> Self {
        key.code()
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = DecodeError;

    fn try_from(key: i16) -> Result<Self, DecodeError> {
        Self::from_i16(key).ok_or(DecodeError::UnknownKey(key))
    }
}

/// What this crate can do with an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// The API.
    pub key: ApiKey,
    /// The lowest and the highest version that decode and encode, requests and responses alike.
    pub versions: (i16, i16),
    /// The first version with compact lengths and tagged fields.
    pub flexible_from: Option<i16>,
}

macro_rules! tables {
    ($($name:ident: $module:ident),* $(,)?) => {
        /// All APIs that decode and encode, by key.
        pub const VERSIONS_DECODABLE: &[Api] = &[$(Api {
            key: messages::$module::KEY,
            versions: messages::$module::VERSIONS_DECODABLE,
            flexible_from: messages::$module::FLEXIBLE_FROM,
        }),*];

        tables! { @any "request", Request, $($name: $module,)* }
        tables! { @any "response", Response, $($name: $module,)* }
    };
    (@any $what:literal, $any:ident, $($name:ident: $module:ident,)*) => {
        #[doc = concat!("Any ", $what, ".")]
        #[derive(Debug, Clone, PartialEq)]
        pub enum $any {
            $(#[doc = concat!("See [`", stringify!($module), "`](crate::", stringify!($module), ").")]
            $name(messages::$module::$any),)*
        }

        impl $any {
            #[doc = concat!("Reads the ", $what, " of that key and version from the start of `input`.")]
            pub fn decode(key: ApiKey, version: i16, input: &mut Bytes) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => messages::$module::$any::decode(input, version).map(Self::$name),)*
                    _ => Err(DecodeError::UnknownKey(key.code())),
                }
            }

            #[doc = concat!("Writes the ", $what, " to the end of `out`.")]
            pub fn encode(&self, out: &mut Rope, version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(body) => body.encode(out, version),)*
                }
            }

            /// The bytes that `encode` writes.
            pub fn size(&self, version: i16) -> usize {
                match self {
                    $(Self::$name(body) => body.size(version),)*
                }
            }

            /// The API that it belongs to.
            pub const fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }
        }

        $(impl From<messages::$module::$any> for $any {
            fn from(body: messages::$module::$any) -> Self {
                Self::$name(body)
            }
        })*
    };
}

// By key, ascending: `ApiKey::api` searches it.
tables! {
    Produce: produce,
    Fetch: fetch,
    ListOffsets: list_offsets,
    Metadata: metadata,
    OffsetCommit: offset_commit,
    OffsetFetch: offset_fetch,
    FindCoordinator: find_coordinator,
    JoinGroup: join_group,
    Heartbeat: heartbeat,
    LeaveGroup: leave_group,
    SyncGroup: sync_group,
    DescribeGroups: describe_groups,
    ListGroups: list_groups,
    SaslHandshake: sasl_handshake,
    ApiVersions: api_versions,
    CreateTopics: create_topics,
    DeleteTopics: delete_topics,
    DeleteRecords: delete_records,
    InitProducerId: init_producer_id,
    OffsetForLeaderEpoch: offset_for_leader_epoch,
    DescribeConfigs: describe_configs,
    AlterConfigs: alter_configs,
    DescribeLogDirs: describe_log_dirs,
    SaslAuthenticate: sasl_authenticate,
    CreatePartitions: create_partitions,
    DeleteGroups: delete_groups,
    ElectLeaders: elect_leaders,
    IncrementalAlterConfigs: incremental_alter_configs,
    ListPartitionReassignments: list_partition_reassignments,
    OffsetDelete: offset_delete,
    DescribeCluster: describe_cluster,
    DescribeProducers: describe_producers,
    ListConfigResources: list_config_resources,
    DescribeTopicPartitions: describe_topic_partitions,
}
