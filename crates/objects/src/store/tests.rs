use object_store::ObjectStoreExt;

use super::*;

fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn error(url: &str, pairs: &[(&str, &str)]) -> String {
    open(url, &options(pairs)).expect_err(url).to_string()
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    assert!(error("s4://bucket", &[]).contains("did you mean `s3://`"));
    assert!(error("files:///tmp/x", &[]).contains("did you mean `file://`"));
    assert!(error("s3://b?regoin=x", &[]).contains("did you mean `region`"));
    assert!(error("s3://b", &[("acess_key", "x")]).contains("did you mean `access_key_id`"));
    assert!(error("az://b", &[("acces_key", "x")]).contains("did you mean `access_key`"));
    assert!(error("memory://", &[("fsync", "true")]).contains("unknown store option `fsync` for memory://"));
    assert!(error("file:///tmp/x?timeout_ms=1", &[]).contains("timeout_ms"));
}

#[test]
fn wrong_urls_say_how_a_right_one_looks() {
    assert!(error("./data", &[]).contains("file:///dir"));
    assert!(error("http://127.0.0.1:9000/bucket", &[]).contains("s3://bucket/prefix?endpoint="));
    assert!(error("file://relative/dir", &[]).contains("file:///absolute/path"));
    assert!(error("s3://", &[]).contains("bucket"));
    assert!(error("s3:///prefix", &[]).contains("bucket"));
}

#[test]
fn wrong_values_say_what_is_right() {
    assert!(error("s3://b?path_style=yes", &[]).contains("`path_style` must be `true` or `false`"));
    assert!(error("s3://b?request_timeout_ms=0", &[]).contains("a number from 10 to"));
    assert!(error("s3://b?retries_max=-1", &[]).contains("a number from 0 to 100"));
    assert!(error("s3://b?access_key_id=x", &[]).contains("`secret_access_key` must be given together"));
    assert!(error("s3://b?encryption=AES256", &[]).contains("`none`, `sse-s3` or `sse-kms`"));
    assert!(error("s3://b?encryption=sse-s3&kms_key_id=k", &[]).contains("`kms_key_id` must be given with `sse-kms`"));
    assert!(error("s3://b?ca_file=%2Fdoes%2Fnot%2Fexist", &[]).contains("ca_file"));
}

#[test]
fn secrets_are_never_shown() {
    let query = "s3://bucket/pre/fix?endpoint=http://127.0.0.1:1&access_key_id=KEYSECRET1&secret_access_key=KEYSECRET2";
    let store = open(query, &options(&[("session_token", "KEYSECRET3")])).unwrap();
    for shown in [format!("{store}"), format!("{store:?}")] {
        assert!(!shown.contains("KEYSECRET"), "{shown}");
        assert!(shown.contains("s3://bucket/pre/fix"), "{shown}");
    }
    for (url, pairs) in [
        ("s3://user:KEYSECRET@bucket", vec![]),
        ("s3://bucket?secret_access_key=KEYSECRET", vec![]),
        ("s3://bucket", vec![("secret_access_key", "KEYSECRET"), ("path_style", "KEYSECRET")]),
        ("gs://bucket", vec![("service_account_key", "KEYSECRET{")]),
        ("az://bucket", vec![("account", "a"), ("access_key", "KEYSECRET?")]),
        ("az://bucket", vec![("account", "a"), ("sas", "KEYSECRET")]),
    ] {
        let error = open(url, &options(&pairs)).expect_err(url);
        assert!(!format!("{error} {error:?}").contains("KEYSECRET"), "{error:?}");
    }
}

#[tokio::test]
async fn keys_are_relative_to_the_url() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("a b/c");
    let url = Url::from_directory_path(&inside).unwrap();
    let store = open(url.as_str(), &[]).unwrap();
    store.store.put(&Path::from("x/y"), "1".into()).await.unwrap();
    assert_eq!(std::fs::read(inside.join("x/y")).unwrap(), b"1");
    assert!(store.to_string().starts_with("file:///"));

    let store = open("memory:///some/prefix", &[]).unwrap();
    store.store.put(&Path::from("x"), "1".into()).await.unwrap();
    assert_eq!(store.store.head(&Path::from("x")).await.unwrap().location, Path::from("x"));
    assert_eq!(store.to_string(), "memory:///some/prefix");
}

#[test]
fn every_scheme_opens() {
    open("s3://b/p?region=eu-central-1&access_key_id=a&secret_access_key=b", &[]).unwrap();
    open("s3://b", &options(&[("endpoint", "http://127.0.0.1:9000/"), ("encryption", "sse-s3")])).unwrap();
    let account = r#"{"private_key":"x","private_key_id":"x","client_email":"x","disable_oauth":true}"#;
    open("gs://b/p", &options(&[("service_account_key", account)])).unwrap();
    open("az://c/p", &options(&[("use_emulator", "true")])).unwrap();
    open("az://c/p", &options(&[("account", "a"), ("access_key", "YQ==")])).unwrap();
}
