//! Opens a store from a URL: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage, a directory, memory.
//!
//! All requests have time-outs and a bounded number of retries with growing pauses, so that a store that throttles slows
//! us and nothing more. Credentials come from options, from the URL's query, or from the platform's usual chain, and are
//! never shown: a [`Store`] displays as its scheme, bucket and prefix.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::local::LocalStore;
use crate::profile;
use crate::watched::Watched;

const SCHEMES: &[&str] = &["s3", "gs", "az", "file", "memory"];
/// Options of every scheme.
const COMMON: &[&str] =
    &["request_timeout_ms", "connect_timeout_ms", "retries_max", "retry_timeout_ms", "allow_http", "ca_file"];
pub(crate) const S3: &[&str] = &[
    "endpoint",
    "region",
    "path_style",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "profile",
    "encryption",
    "kms_key_id",
];
const GS: &[&str] = &["endpoint", "service_account_file", "service_account_key"];
const AZ: &[&str] =
    &["endpoint", "account", "access_key", "sas", "tenant_id", "client_id", "client_secret", "use_emulator"];
const FILE: &[&str] = &["fsync"];

/// An open store. Cheap to clone; all clones share connections.
#[derive(Clone)]
pub struct Store {
    store: Arc<dyn ObjectStore>,
    reading: Arc<dyn ObjectStore>,
    name: Arc<str>,
}

impl Store {
    /// A store made elsewhere (by a test, by the simulator). `name` is what it displays as.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, name: &str) -> Self {
        Self { reading: store.clone(), store, name: name.into() }
    }

    /// The store itself. Keys are relative to the URL's prefix.
    #[must_use]
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The same store with connections of its own, for a reader in a [`crate::Lane`]: no upload waits for these.
    #[must_use]
    pub fn for_reading(&self) -> &Arc<dyn ObjectStore> {
        &self.reading
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.name).finish()
    }
}

/// Why a store could not be opened. Nothing of it goes away by trying again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is no URL.
    #[error("the store URL is not one ({reason}): write s3://bucket/prefix, gs://…, az://…, file:///dir or memory://")]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// The scheme is none that we know.
    #[error("unknown scheme `{scheme}` in the store URL: did you mean `{nearest}://`?")]
    Scheme {
        /// What was written.
        scheme: String,
        /// The nearest that exists.
        nearest: &'static str,
    },
    /// The option is none that the scheme knows.
    #[error("unknown store option `{option}` for {scheme}://: did you mean `{nearest}`?")]
    Option {
        /// The URL's scheme.
        scheme: String,
        /// What was written.
        option: String,
        /// The nearest that exists.
        nearest: &'static str,
    },
    /// The option's value cannot be used. The value is not shown: it may be a secret.
    #[error("the store option `{option}` must be {expected}")]
    Value {
        /// The option.
        option: &'static str,
        /// What it must be.
        expected: String,
    },
    /// The store cannot be opened with these options.
    #[error("cannot open {store}: {reason}")]
    Store {
        /// The store, as it displays.
        store: String,
        /// Why.
        reason: String,
    },
}

/// Opens the store at `url`. Options come from the URL's query and from `options`, which win. Does not ask the store
/// anything yet. Every opening of `memory://` is a new, empty store.
///
/// # Errors
/// When the URL or an option is wrong; the sentence names the nearest that is right.
pub fn open(url: &str, options: &[(String, String)]) -> Result<Store, OpenError> {
    let reason = |reason: &str| OpenError::Url { reason: reason.to_owned() };
    let url = Url::parse(url).map_err(|error| reason(&error.to_string()))?;
    if matches!(url.scheme(), "http" | "https") {
        return Err(reason("for a store that speaks S3 at that address use s3://bucket/prefix?endpoint=ADDRESS"));
    }
    let own = match url.scheme() {
        "s3" => S3,
        "gs" => GS,
        "az" => AZ,
        "file" => FILE,
        "memory" => &[],
        other => {
            return Err(OpenError::Scheme {
                scheme: other.to_owned(),
                nearest: nearest(other, SCHEMES.iter().copied()),
            });
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(reason("it carries credentials before the `@`; give them as options"));
    }
    if url.fragment().is_some() {
        return Err(reason("it has a `#` part"));
    }
    let options = Options::new(&url, own, options)?;
    if url.scheme() == "file" {
        return directory(&url, &options);
    }
    let prefix = Path::from_url_path(url.path()).map_err(|error| reason(&error.to_string()))?;
    let host = url.host_str().unwrap_or_default();
    let name = match (host, prefix.as_ref()) {
        (host, "") => format!("{}://{host}", url.scheme()),
        (host, prefix) => format!("{}://{host}/{prefix}", url.scheme()),
    };
    if url.scheme() != "memory" && host.is_empty() {
        return Err(reason("it names no bucket"));
    }
    let build = || -> Result<Arc<dyn ObjectStore>, OpenError> {
        let built = match url.scheme() {
            "s3" => options.s3(host)?.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
            "gs" => options.gs(host)?.build().map(|store| Arc::new(store) as _),
            "az" => options.az(host)?.build().map(|store| Arc::new(store) as _),
            _ => Ok(Arc::new(InMemory::new()) as _),
        };
        let store = built.map_err(|error| OpenError::Store { store: name.clone(), reason: error.to_string() })?;
        let store = if url.scheme() == "memory" { store } else { Arc::new(Watched::new(store)) };
        let prefix = prefix.clone();
        Ok(if prefix.as_ref().is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix)) })
    };
    let store = Store::new(build()?, &name);
    // Memory is not there twice.
    let reading = if url.scheme() == "memory" { store.reading.clone() } else { build()? };
    Ok(Store { reading, ..store })
}

fn directory(url: &Url, options: &Options) -> Result<Store, OpenError> {
    let folder = url
        .to_file_path()
        .map_err(|()| OpenError::Url { reason: "a directory is written file:///absolute/path".to_owned() })?;
    let name = format!("file://{}", folder.display());
    let store = LocalStore::open(&folder, options.flag("fsync", true)?)
        .map_err(|error| OpenError::Store { store: name.clone(), reason: error.to_string() })?;
    Ok(Store::new(Arc::new(store), &name))
}

fn nearest(written: &str, known: impl Iterator<Item = &'static str>) -> &'static str {
    known
        .max_by(|one, other| strsim::jaro_winkler(written, one).total_cmp(&strsim::jaro_winkler(written, other)))
        .expect("there is always one that is known")
}

/// The options of one opening, all of them known to the scheme.
pub(crate) struct Options(BTreeMap<&'static str, String>);

impl Options {
    pub(crate) fn new(url: &Url, own: &'static [&'static str], given: &[(String, String)]) -> Result<Self, OpenError> {
        let query = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned()));
        let mut options = BTreeMap::new();
        for (key, value) in query.chain(given.iter().cloned()) {
            let known = || own.iter().chain(COMMON).copied();
            let Some(option) = known().find(|known| *known == key) else {
                let nearest = nearest(&key, known());
                return Err(OpenError::Option { scheme: url.scheme().to_owned(), option: key, nearest });
            };
            options.insert(option, value);
        }
        Ok(Self(options))
    }

    fn get(&self, option: &'static str) -> Option<&str> {
        self.0.get(option).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn flag(&self, option: &'static str, default: bool) -> Result<bool, OpenError> {
        match self.get(option) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(OpenError::Value { option, expected: "`true` or `false`".to_owned() }),
        }
    }

    fn number(&self, option: &'static str, default: u64, min: u64, max: u64) -> Result<u64, OpenError> {
        let value = self.get(option).map_or(Ok(default), str::parse);
        value
            .ok()
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| OpenError::Value { option, expected: format!("a number from {min} to {max}") })
    }

    fn duration(&self, option: &'static str, default_ms: u64) -> Result<Duration, OpenError> {
        // The upper bound keeps retries within the life of a request's signature.
        self.number(option, default_ms, 10, 240_000).map(Duration::from_millis)
    }

    pub(crate) fn client(&self) -> Result<ClientOptions, OpenError> {
        let plain = self.get("endpoint").is_some_and(|endpoint| endpoint.starts_with("http://"));
        let mut client = ClientOptions::new()
            .with_timeout(self.duration("request_timeout_ms", 60_000)?)
            .with_connect_timeout(self.duration("connect_timeout_ms", 5_000)?)
            .with_allow_http(self.flag("allow_http", plain)?);
        if let Some(file) = self.get("ca_file") {
            let wrong = |why: String| OpenError::Value {
                option: "ca_file",
                expected: format!("a file of PEM certificates: {why}"),
            };
            let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
            for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))? {
                client = client.with_root_certificate(certificate);
            }
        }
        Ok(client)
    }

    fn retry(&self) -> Result<RetryConfig, OpenError> {
        let max_retries = self.number("retries_max", 10, 0, 100)?;
        Ok(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                // Short, so that little time passes unused once a store that was away is back.
                max_backoff: Duration::from_secs(1),
                base: 2.0,
            },
            max_retries: usize::try_from(max_retries).expect("at most 100"),
            retry_timeout: self.duration("retry_timeout_ms", 60_000)?,
        })
    }

    pub(crate) fn s3(&self, bucket: &str) -> Result<AmazonS3Builder, OpenError> {
        let env = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
        let mut builder = match (self.get("access_key_id"), self.get("secret_access_key")) {
            // Given keys are complete: nothing of the environment's credentials may mix in.
            (Some(id), Some(secret)) => {
                let mut builder = AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret);
                if let Some(token) = self.get("session_token") {
                    builder = builder.with_token(token);
                }
                if let Some(region) = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")) {
                    builder = builder.with_region(region);
                }
                builder
            }
            (Some(_), None) => return Err(both("secret_access_key", "access_key_id")),
            (None, Some(_)) => return Err(both("access_key_id", "secret_access_key")),
            (None, None) => {
                let mut builder = AmazonS3Builder::from_env();
                let wanted = self.get("profile");
                if wanted.is_some() || env("AWS_ACCESS_KEY_ID").is_none() {
                    let found = profile::load(wanted, &env);
                    if wanted.is_some() && found.keys.is_none() {
                        let expected = "a profile with an access key in the shared AWS files".to_owned();
                        return Err(OpenError::Value { option: "profile", expected });
                    }
                    if let Some(keys) = found.keys {
                        builder = builder.with_access_key_id(keys.id).with_secret_access_key(keys.secret);
                        builder = match keys.token {
                            Some(token) => builder.with_token(token),
                            None => builder,
                        };
                    }
                    if let (Some(region), None, None) = (found.region, env("AWS_REGION"), env("AWS_DEFAULT_REGION")) {
                        builder = builder.with_region(region);
                    }
                }
                builder
            }
        };
        if let Some(region) = self.get("region") {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = self.get("endpoint") {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        builder = self.encrypted(builder)?;
        let path_style = self.flag("path_style", self.get("endpoint").is_some() || bucket.contains('.'))?;
        Ok(builder
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(!path_style)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(self.client()?)
            .with_retry(self.retry()?))
    }

    /// With the headers that make S3 encrypt what it is given.
    fn encrypted(&self, builder: AmazonS3Builder) -> Result<AmazonS3Builder, OpenError> {
        let kms_key_id = self.get("kms_key_id");
        let algorithm = match (self.get("encryption"), kms_key_id) {
            (Some("sse-kms"), _) => "aws:kms",
            (_, Some(_)) => {
                return Err(OpenError::Value {
                    option: "kms_key_id",
                    expected: "given with `sse-kms` only".to_owned(),
                });
            }
            (None | Some("none"), None) => return Ok(builder),
            (Some("sse-s3"), None) => "AES256",
            (Some(_), None) => {
                let expected = "`none`, `sse-s3` or `sse-kms`".to_owned();
                return Err(OpenError::Value { option: "encryption", expected });
            }
        };
        let set = |builder: AmazonS3Builder, key: &str, value: &str| {
            let key: AmazonS3ConfigKey = key.parse().expect("object_store knows its own keys");
            builder.with_config(key, value)
        };
        let builder = set(builder, "aws_server_side_encryption", algorithm);
        Ok(match kms_key_id {
            Some(id) => set(builder, "aws_sse_kms_key_id", id),
            None => builder,
        })
    }

    fn gs(&self, bucket: &str) -> Result<GoogleCloudStorageBuilder, OpenError> {
        let mut builder = GoogleCloudStorageBuilder::from_env();
        if let Some(file) = self.get("service_account_file") {
            builder = builder.with_service_account_path(file);
        }
        if let Some(key) = self.get("service_account_key") {
            builder = builder.with_service_account_key(key);
        }
        if let Some(endpoint) = self.get("endpoint") {
            builder = builder.with_base_url(endpoint.trim_end_matches('/'));
        }
        Ok(builder.with_bucket_name(bucket).with_client_options(self.client()?).with_retry(self.retry()?))
    }

    fn az(&self, container: &str) -> Result<MicrosoftAzureBuilder, OpenError> {
        let mut builder = MicrosoftAzureBuilder::from_env();
        for (option, key) in [
            ("account", AzureConfigKey::AccountName),
            ("access_key", AzureConfigKey::AccessKey),
            ("sas", AzureConfigKey::SasKey),
            ("tenant_id", AzureConfigKey::AuthorityId),
            ("client_id", AzureConfigKey::ClientId),
            ("client_secret", AzureConfigKey::ClientSecret),
            ("endpoint", AzureConfigKey::Endpoint),
        ] {
            if let Some(value) = self.get(option) {
                builder = builder.with_config(key, value);
            }
        }
        if self.flag("use_emulator", false)? {
            builder = builder.with_use_emulator(true);
        }
        Ok(builder.with_container_name(container).with_client_options(self.client()?).with_retry(self.retry()?))
    }
}

fn both(missing: &'static str, given: &str) -> OpenError {
    OpenError::Value { option: missing, expected: format!("given together with `{given}`") }
}

#[cfg(test)]
mod tests;
