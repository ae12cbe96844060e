//! The bucket itself, where it is one of S3: its settings, its clock, and making it. `object_store` knows objects only;
//! it lends its client, its credentials and its signatures ([decision 0007] says why not more).
//!
//! Many stores that speak S3 know no such settings: then they cannot be told ([`Setting::Untold`]), which is no failure.
//! Nothing here is repeated; each request costs one GET, HEAD or PUT.
//!
//! [decision 0007]: ../../../docs/decisions/0007-bucket-settings-without-the-sdk.md

mod answers;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_types::{Method, Request, header};
use object_store::aws::{AmazonS3, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequestBody, ReqwestConnector};
use object_store::path::Path;
use object_store::signer::Signer;
use url::Url;

use crate::OpenError;
use crate::store::{Options, S3};

pub use answers::{Lifecycle, PublicAccess};

/// No answer about a bucket is longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long the signature that only tells the bucket's address would be valid.
const SIGNED_FOR: Duration = Duration::from_secs(1);

/// A bucket of S3, or of what speaks its protocol.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    prefix: Path,
    region: String,
    store: AmazonS3,
    client: HttpClient,
}

/// What a bucket says of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting<T> {
    /// It is this.
    Is(T),
    /// It is not set.
    NotSet,
    /// The store does not say, and why.
    Untold(String),
}

/// Why a bucket could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// No answer: look at the endpoint and the network.
    #[error("the store does not answer: {0}")]
    Unreachable(#[source] HttpError),
    /// There are no usable credentials.
    #[error("the credentials cannot be used: {0}")]
    Credentials(#[source] object_store::Error),
    /// The store refused, for this reason.
    #[error("the store refuses ({status} {code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// S3's code.
        code: String,
    },
}

/// An answer of the store.
struct Answer {
    status: u16,
    date: Option<String>,
    body: String,
}

impl Answer {
    fn code(&self) -> String {
        answers::error_code(&self.body).unwrap_or_else(|| "no code".to_owned())
    }

    fn refused(&self) -> BucketError {
        BucketError::Refused { status: self.status, code: self.code() }
    }
}

impl Bucket {
    /// The bucket of a store URL with its options, as [`crate::open`] takes them; nothing where the store is not S3.
    /// Does not ask the store anything yet.
    ///
    /// # Errors
    /// When the URL or an option is wrong.
    pub fn open(url: &str, options: &[(String, String)]) -> Result<Option<Self>, OpenError> {
        let reason = |reason: String| OpenError::Url { reason };
        let url = Url::parse(url).map_err(|error| reason(error.to_string()))?;
        let (true, Some(name)) = (url.scheme() == "s3", url.host_str().filter(|host| !host.is_empty())) else {
            return Ok(None);
        };
        let prefix = Path::from_url_path(url.path()).map_err(|error| reason(error.to_string()))?;
        let options = Options::new(&url, S3, options)?;
        let builder = options.s3(name)?;
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let failed =
            |error: object_store::Error| OpenError::Store { store: format!("s3://{name}"), reason: error.to_string() };
        let client = ReqwestConnector::default().connect(&options.client()?).map_err(failed)?;
        let store = builder.build().map_err(failed)?;
        Ok(Some(Self { name: name.to_owned(), prefix, region, store, client }))
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `Date` header of the store's answer, whatever it answers.
    ///
    /// # Errors
    /// No answer, or no credentials.
    pub async fn date(&self) -> Result<Option<String>, BucketError> {
        Ok(self.ask(Method::HEAD, "", Bytes::new()).await?.date)
    }

    /// Makes the bucket; says whether it was not there before. Cancellation: it may be made.
    ///
    /// # Errors
    /// The store refuses: the name belongs to somebody else, or the credentials may not do it.
    pub async fn create(&self) -> Result<bool, BucketError> {
        if self.ask(Method::HEAD, "", Bytes::new()).await?.status == 200 {
            return Ok(false);
        }
        let body = match self.region.as_str() {
            // The one region that may not be named.
            "us-east-1" => String::new(),
            region => answers::create_bucket(region),
        };
        let answer = self.ask(Method::PUT, "", body.into()).await?;
        match (answer.status, answer.code().as_str()) {
            (200..300, _) => Ok(true),
            // Also when the answer to an earlier try was lost.
            (409, "BucketAlreadyOwnedByYou") => Ok(false),
            _ => Err(answer.refused()),
        }
    }

    /// Whether replaced and deleted objects are kept as versions.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn versioning(&self) -> Result<Setting<bool>, BucketError> {
        self.setting("versioning", answers::versioning).await
    }

    /// What happens to the objects under the URL's prefix as time goes by.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn lifecycle(&self) -> Result<Setting<Lifecycle>, BucketError> {
        self.setting("lifecycle", |body| answers::lifecycle(body, self.prefix.as_ref())).await
    }

    /// How objects are encrypted that are stored without asking for it.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn encryption(&self) -> Result<Setting<String>, BucketError> {
        self.setting("encryption", answers::encryption).await
    }

    /// For how long new objects are locked, in words, where they are.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn object_lock(&self) -> Result<Setting<Option<String>>, BucketError> {
        self.setting("object-lock", answers::object_lock).await
    }

    /// What keeps the public out.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn public_access(&self) -> Result<Setting<PublicAccess>, BucketError> {
        self.setting("publicAccessBlock", answers::public_access).await
    }

    async fn setting<T>(
        &self,
        query: &str,
        read: impl FnOnce(&str) -> Option<Setting<T>>,
    ) -> Result<Setting<T>, BucketError> {
        let answer = self.ask(Method::GET, query, Bytes::new()).await?;
        let code = answer.code();
        Ok(match answer.status {
            200 => read(&answer.body).unwrap_or_else(|| Setting::Untold("the store answers something else".to_owned())),
            404 if code == "NoSuchBucket" => return Err(answer.refused()),
            404 if answers::means_not_set(&code) => Setting::NotSet,
            403 => Setting::Untold(format!("the credentials may not read it ({code})")),
            status => Setting::Untold(format!("the store answers {status} {code}")),
        })
    }

    async fn ask(&self, method: Method, query: &str, body: Bytes) -> Result<Answer, BucketError> {
        let mut url = self.url().await?;
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::CONTENT_LENGTH, body.len())
            .body(HttpRequestBody::from(body))
            .expect("method and address are valid");
        if let Ok(credential) = self.store.credentials().get_credential().await {
            let signer = AwsAuthorizer::new(&credential, "s3", &self.region);
            signer.try_authorize(&mut request, None).map_err(BucketError::Credentials)?;
        }
        let response = self.client.execute(request).await.map_err(BucketError::Unreachable)?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let mut chunks = response.into_body().bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(BucketError::Unreachable)?);
            if body.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok(Answer { status, date, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// Where the bucket is: what `object_store` makes of endpoint, region and style, without an object's key.
    async fn url(&self) -> Result<Url, BucketError> {
        let signed = self.store.signed_url(Method::GET, &Path::from("x"), SIGNED_FOR).await;
        let mut url = signed.map_err(BucketError::Credentials)?;
        url.path_segments_mut().expect("an HTTP address has a path").pop();
        url.set_query(None);
        Ok(url)
    }
}

#[cfg(test)]
mod tests;
