//! `store`: which object store, how to get in, and how long to wait for it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::{Secret, SecretError};

/// The object store that keeps everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// Which store: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, `file:///DIR`, or
    /// `memory://` (gone with the process). Required. It never holds a password.
    pub(crate) url: String,
    /// The address of a service that is not the cloud's own, for instance `http://127.0.0.1:9000` for MinIO.
    /// Default: the cloud's own.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    /// S3: the region of the bucket. Default: what the AWS environment and files say.
    #[serde(default)]
    pub(crate) region: Option<String>,
    /// S3: whether the bucket is named in the path instead of the host name, as MinIO and most others want it.
    /// Default: true when `endpoint` is set or the bucket's name has a dot, false otherwise.
    #[serde(default)]
    pub(crate) path_style: Option<bool>,
    /// S3: the id of the access key. Default: none, and the standard AWS chain of credentials is used (environment,
    /// shared files, web identity, instance role). Given together with `secret_access_key` or not at all.
    #[serde(default)]
    pub(crate) access_key_id: Option<String>,
    /// S3: the secret of the access key, as `{file: PATH}` or `{env: NAME}`. Default: none.
    #[serde(default)]
    pub(crate) secret_access_key: Option<Secret>,
    /// S3: the token of temporary credentials, as `{file: PATH}` or `{env: NAME}`. Default: none.
    #[serde(default)]
    pub(crate) session_token: Option<Secret>,
    /// S3: the profile in the shared AWS files. Default: none.
    #[serde(default)]
    pub(crate) profile: Option<String>,
    /// S3: encryption at rest by the store, asked for with each PUT: `none` (what the bucket does by itself), `sse-s3`
    /// (keys of the store) or `sse-kms` (a key of the key management service). Default: none.
    #[serde(default)]
    pub(crate) encryption: Encryption,
    /// S3: the id of the key for `sse-kms`. Default: the account's own key for S3.
    #[serde(default)]
    pub(crate) kms_key_id: Option<String>,
    /// Google: the file with the service account's key. Default: none, and the standard Google chain of credentials is
    /// used.
    #[serde(default)]
    pub(crate) service_account_file: Option<PathBuf>,
    /// Azure: the storage account. Default: what the Azure environment says.
    #[serde(default)]
    pub(crate) account: Option<String>,
    /// Azure: the account's access key, as `{file: PATH}` or `{env: NAME}`. Default: none, and the standard Azure chain
    /// of credentials is used.
    #[serde(default)]
    pub(crate) access_key: Option<Secret>,
    /// Azure: a shared access signature, as `{file: PATH}` or `{env: NAME}`. Default: none.
    #[serde(default)]
    pub(crate) sas: Option<Secret>,
    /// Azure: the tenant of a service principal. Default: none.
    #[serde(default)]
    pub(crate) tenant_id: Option<String>,
    /// Azure: the client id of a service principal. Default: none.
    #[serde(default)]
    pub(crate) client_id: Option<String>,
    /// Azure: the secret of a service principal, as `{file: PATH}` or `{env: NAME}`. Default: none.
    #[serde(default)]
    pub(crate) client_secret: Option<Secret>,
    /// Azure: whether the store is the Azurite emulator on this machine. Default: false.
    #[serde(default)]
    pub(crate) use_emulator: Option<bool>,
    /// A PEM file with the CA of the endpoint, where the system does not trust it. Default: none.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Whether requests may go unencrypted. Default: true when the endpoint begins with `http://`, false otherwise.
    #[serde(default)]
    pub(crate) allow_http: Option<bool>,
    /// How long one request may take, in milliseconds, before it is tried again. Default: 60000.
    #[serde(default = "request_timeout_ms")]
    #[schemars(range(min = 10, max = 240_000))]
    pub(crate) request_timeout_ms: u64,
    /// How long connecting may take, in milliseconds. Default: 5000.
    #[serde(default = "connect_timeout_ms")]
    #[schemars(range(min = 10, max = 240_000))]
    pub(crate) connect_timeout_ms: u64,
    /// How often a request is tried again, with growing pauses. Default: 10.
    #[serde(default = "retries_max")]
    #[schemars(range(max = 100))]
    pub(crate) retries_max: u64,
    /// For how long a request is tried again, in milliseconds. Default: 60000. What still fails then is told as the
    /// failure of what needed it; uploads begin anew.
    #[serde(default = "retry_timeout_ms")]
    #[schemars(range(min = 10, max = 240_000))]
    pub(crate) retry_timeout_ms: u64,
    /// How long, in milliseconds, an object stays in the store after nothing refers to it any more: readers that located
    /// it just before read it to their end. Default: 900000 (15 minutes).
    #[serde(default = "delete_grace_ms")]
    #[schemars(range(max = 31_536_000_000_u64))]
    pub(crate) delete_grace_ms: u64,
    /// How often, in milliseconds, the store is searched for objects that never became part of the log, because an
    /// upload was cut off. Default: 86400000 (a day). 0 is never; `weir store sweep` does it too.
    #[serde(default = "day_ms")]
    #[schemars(range(max = 31_536_000_000_u64))]
    pub(crate) sweep_interval_ms: u64,
    /// How old, in milliseconds, such an object must be to be deleted. Default: 86400000 (a day).
    #[serde(default = "day_ms")]
    #[schemars(range(max = 31_536_000_000_u64))]
    pub(crate) orphan_age_ms: u64,
}

/// Encryption at rest, as S3 has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encryption {
    /// What the bucket does by itself.
    #[default]
    None,
    /// With keys of the store: SSE-S3.
    SseS3,
    /// With a key of the key management service: SSE-KMS.
    SseKms,
}

impl Encryption {
    /// As `objects::open` takes it; nothing for stores that know no such option.
    fn option(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::SseS3 => Some("sse-s3".to_owned()),
            Self::SseKms => Some("sse-kms".to_owned()),
        }
    }
}

fn request_timeout_ms() -> u64 {
    60_000
}

fn connect_timeout_ms() -> u64 {
    5000
}

fn retries_max() -> u64 {
    10
}

fn retry_timeout_ms() -> u64 {
    60_000
}

fn delete_grace_ms() -> u64 {
    15 * 60_000
}

fn day_ms() -> u64 {
    86_400_000
}

impl Store {
    /// The options that `objects::open` takes beside the URL; secrets are read now.
    pub(crate) fn options(&self) -> Result<Vec<(String, String)>, SecretError> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let flag = |flag: Option<bool>| flag.map(|on| on.to_string());
        let all = [
            ("endpoint", self.endpoint.clone()),
            ("region", self.region.clone()),
            ("path_style", flag(self.path_style)),
            ("access_key_id", self.access_key_id.clone()),
            ("secret_access_key", read(&self.secret_access_key)?),
            ("session_token", read(&self.session_token)?),
            ("profile", self.profile.clone()),
            ("encryption", self.encryption.option()),
            ("kms_key_id", self.kms_key_id.clone()),
            ("service_account_file", path(&self.service_account_file)),
            ("account", self.account.clone()),
            ("access_key", read(&self.access_key)?),
            ("sas", read(&self.sas)?),
            ("tenant_id", self.tenant_id.clone()),
            ("client_id", self.client_id.clone()),
            ("client_secret", read(&self.client_secret)?),
            ("use_emulator", flag(self.use_emulator)),
            ("ca_file", path(&self.ca_file)),
            ("allow_http", flag(self.allow_http)),
            ("request_timeout_ms", Some(self.request_timeout_ms.to_string())),
            ("connect_timeout_ms", Some(self.connect_timeout_ms.to_string())),
            ("retries_max", Some(self.retries_max.to_string())),
            ("retry_timeout_ms", Some(self.retry_timeout_ms.to_string())),
        ];
        Ok(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

fn read(secret: &Option<Secret>) -> Result<Option<String>, SecretError> {
    secret.as_ref().map(|secret| secret.read().map(|text| text.reveal().to_owned())).transpose()
}
