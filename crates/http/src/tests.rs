//! The server as a client sees it: plain sockets, no HTTP library.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Check, Health, Limits, Server, Sources};

const DEADLINE: Duration = Duration::from_secs(10);

struct Fixture {
    server: Server,
    ready: Arc<AtomicBool>,
}

async fn start(limits: Limits) -> Fixture {
    let ready = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ready);
    let is_ready = move || flag.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "it rests".to_owned());
    let health = Health {
        started: vec![Check::new("recovery", || Ok(()))],
        ready: vec![Check::new("store", || Ok(())), Check::new("journal", is_ready)],
    };
    let mut registry = Registry::default();
    let counter = Counter::<u64>::default();
    counter.inc_by(7);
    registry.register("weir_test", "A counter of the test", counter);
    let sources = Sources { health: Arc::new(health), metrics: Arc::new(registry) };
    let server = Server::start("127.0.0.1:0".parse().unwrap(), sources, limits).await.unwrap();
    Fixture { server, ready }
}

impl Fixture {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address()).await.unwrap()
    }

    async fn request(&self, text: &str) -> (u16, String, String) {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String, String) {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn readiness_follows_its_checks_and_verbose_names_the_one_that_fails() {
    let fixture = start(Limits::default()).await;
    let (status, head, body) = fixture.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(json(&body)["error"]["code"], "not_ready");
    assert!(json(&body)["error"]["message"].as_str().unwrap().contains("journal"));
    assert!(json(&body)["error"].get("checks").is_none());

    let (status, _, body) = fixture.get("/readyz?verbose").await;
    assert_eq!(status, 503);
    let checks = json(&body)["error"]["checks"].clone();
    assert_eq!(checks[0], serde_json::json!({"name": "store", "ok": true}));
    assert_eq!(checks[1], serde_json::json!({"name": "journal", "ok": false, "message": "it rests"}));

    fixture.ready.store(true, Ordering::SeqCst);
    let (status, _, body) = fixture.get("/readyz?verbose").await;
    assert_eq!(status, 200);
    assert_eq!(json(&body)["status"], "ready");
    assert_eq!(json(&body)["checks"][1]["ok"], true);
    assert_eq!(fixture.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn liveness_and_startup_do_not_hang_on_readiness() {
    let fixture = start(Limits::default()).await;
    assert_eq!(fixture.get("/livez").await.0, 200);
    assert_eq!(fixture.get("/startupz").await.0, 200);
}

#[tokio::test]
async fn metrics_are_in_the_openmetrics_text_format() {
    let fixture = start(Limits::default()).await;
    let (status, head, body) = fixture.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("weir_test_total 7\n"), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn errors_are_json() {
    let fixture = start(Limits::default()).await;
    let (status, _, body) = fixture.get("/nothing/here").await;
    assert_eq!((status, json(&body)["error"]["code"].as_str()), (404, Some("not_found")));
    let request = "POST /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let (status, _, body) = fixture.request(request).await;
    assert_eq!((status, json(&body)["error"]["code"].as_str()), (405, Some("method_not_allowed")));
}

#[tokio::test]
async fn a_client_that_sends_no_whole_request_is_cut_off() {
    let fixture = start(Limits { header_timeout: Duration::from_millis(50), ..Limits::default() }).await;
    let mut stream = fixture.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: te").await.unwrap();
    let mut answer = Vec::new();
    // The end of the stream is what is waited for; what is said before it does not matter.
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_over_the_bound_wait_for_a_place() {
    let fixture = start(Limits { connections_max: 1, ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    timeout(DEADLINE, first.read_exact(&mut byte)).await.unwrap().unwrap();
    // The first connection is held open by its client, so the second one is not served until it goes.
    let mut second = fixture.connect().await;
    second.write_all(b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(timeout(Duration::from_millis(100), second.read_exact(&mut byte)).await.is_err());
    drop(first);
    timeout(DEADLINE, second.read_exact(&mut byte)).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_frees_the_port() {
    let fixture = start(Limits::default()).await;
    let address = fixture.server.address();
    let mut idle = fixture.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    timeout(DEADLINE, idle.read_exact(&mut byte)).await.unwrap().unwrap();
    timeout(DEADLINE, fixture.server.stop()).await.unwrap();
    let mut rest = Vec::new();
    timeout(DEADLINE, idle.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
