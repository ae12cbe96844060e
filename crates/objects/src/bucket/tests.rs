use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// A server that knows an answer to some requests, and 404 NoSuchBucket to all others. Ends when dropped.
struct Canned {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Canned {
    /// `answers`: method, path and query, to status and body.
    async fn start(answers: &[(&str, u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let own = |(asked, status, body): &(&str, u16, &str)| ((*asked).to_owned(), (*status, (*body).to_owned()));
        let answers: HashMap<String, (u16, String)> = answers.iter().map(own).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (mut task, seen) = (JoinSet::new(), Arc::clone(&asked));
        task.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if client.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let asked: Vec<&str> = text.split(' ').take(2).collect();
                assert!(text.to_lowercase().contains("authorization: aws4-hmac-sha256 credential=id/"), "{text}");
                let key = asked.join(" ");
                let missing = (404, "<Error><Code>NoSuchBucket</Code></Error>".to_owned());
                let (status, body) = answers.get(&key).cloned().unwrap_or(missing);
                seen.lock().unwrap().push(key);
                let length = body.len();
                let body = if text.starts_with("HEAD") { String::new() } else { body };
                let head = format!(
                    "HTTP/1.1 {status} X\r\nDate: Sun, 22 Nov 2026 21:13:03 GMT\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{body}"
                );
                client.write_all(head.as_bytes()).await.unwrap();
            }
        });
        Self { address, asked, _task: task }
    }

    fn bucket(&self) -> Bucket {
        let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let url = "s3://b/pre/fix?region=eu-central-1";
        let options =
            [option("endpoint", &self.address), option("access_key_id", "id"), option("secret_access_key", "secret")];
        Bucket::open(url, &options).unwrap().expect("it is S3")
    }
}

#[tokio::test]
async fn settings_are_asked_for_and_what_is_not_there_is_not_set() {
    let not_set = "<Error><Code>ServerSideEncryptionConfigurationNotFoundError</Code></Error>";
    let rule = "<LifecycleConfiguration><Rule><ID>all</ID><Status>Enabled</Status><Expiration><Days>1</Days></Expiration>\
        </Rule></LifecycleConfiguration>";
    let store = Canned::start(&[
        ("GET /b?versioning", 200, "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"),
        ("GET /b?lifecycle", 200, rule),
        ("GET /b?encryption", 404, not_set),
        ("GET /b?object-lock", 501, "<Error><Code>NotImplemented</Code></Error>"),
        ("GET /b?publicAccessBlock", 403, "<Error><Code>AccessDenied</Code></Error>"),
    ])
    .await;
    let bucket = store.bucket();
    assert_eq!(bucket.versioning().await.unwrap(), Setting::Is(true));
    let Setting::Is(lifecycle) = bucket.lifecycle().await.unwrap() else { panic!("there is a rule") };
    assert_eq!(lifecycle.deletes, ["all"]);
    assert_eq!(bucket.encryption().await.unwrap(), Setting::NotSet);
    let Setting::Untold(why) = bucket.object_lock().await.unwrap() else { panic!("it is not implemented") };
    assert!(why.contains("501 NotImplemented"), "{why}");
    let Setting::Untold(why) = bucket.public_access().await.unwrap() else { panic!("it may not be read") };
    assert!(why.contains("may not read it"), "{why}");
    assert_eq!(bucket.date().await.unwrap().as_deref(), Some("Sun, 22 Nov 2026 21:13:03 GMT"));
}

#[tokio::test]
async fn a_bucket_is_made_where_it_is_missing_and_another_ones_is_told() {
    let store = Canned::start(&[("PUT /b", 200, "")]).await;
    assert!(store.bucket().create().await.unwrap());
    assert_eq!(*store.asked.lock().unwrap(), ["HEAD /b", "PUT /b"]);

    let there = Canned::start(&[("HEAD /b", 200, "")]).await;
    assert!(!there.bucket().create().await.unwrap());
    assert_eq!(*there.asked.lock().unwrap(), ["HEAD /b"]);

    let raced = Canned::start(&[("PUT /b", 409, "<Error><Code>BucketAlreadyOwnedByYou</Code></Error>")]).await;
    assert!(!raced.bucket().create().await.unwrap());

    let others = "<Error><Code>BucketAlreadyExists</Code></Error>";
    let taken = Canned::start(&[("HEAD /b", 403, ""), ("PUT /b", 409, others)]).await;
    let refused = taken.bucket().create().await.unwrap_err();
    assert!(
        matches!(&refused, BucketError::Refused { status: 409, code } if code == "BucketAlreadyExists"),
        "{refused}"
    );

    let missing = Canned::start(&[]).await;
    assert!(matches!(missing.bucket().versioning().await, Err(BucketError::Refused { status: 404, .. })));
}

#[test]
fn only_s3_has_buckets() {
    assert!(Bucket::open("memory://", &[]).unwrap().is_none());
    assert!(Bucket::open("file:///tmp/x", &[]).unwrap().is_none());
    assert!(Bucket::open("gs://b", &[]).unwrap().is_none());
    let error = Bucket::open("s3://b?regoin=x", &[]).unwrap_err().to_string();
    assert!(error.contains("did you mean `region`"), "{error}");
}
