//! Two brokers on the loopback: who gets in, what is bounded, and what a channel does when the other side comes back.

use std::sync::Arc;
use std::time::Duration;

use proto::cluster::brokers_client::BrokersClient;
use proto::cluster::brokers_server::{Brokers, BrokersServer};
use proto::cluster::{Announcement, HearsAnswer, HearsRequest, Noted};
use records::Timestamp;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::{PeerTls, Peers, Server, ServerLimits, Tcp};

const SOON: Duration = Duration::from_secs(20);

/// Certificates are checked against the real time.
pub(super) struct Real;

impl records::Clock for Real {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_millis()).unwrap())
    }
}

/// Hears from the controller after the one that was asked about.
struct Next;

#[tonic::async_trait]
impl Brokers for Next {
    async fn hears(&self, request: Request<HearsRequest>) -> Result<Response<HearsAnswer>, Status> {
        Ok(Response::new(HearsAnswer { controller_epoch: request.into_inner().controller_epoch + 1 }))
    }

    async fn announce(&self, _request: Request<Announcement>) -> Result<Response<Noted>, Status> {
        Ok(Response::new(Noted {}))
    }
}

pub(super) fn certificates(dir: &TempDir) -> PeerTls {
    let names = tls::dev::LOCAL_NAMES.map(str::to_owned);
    let files = tls::dev::ensure_peer(dir.path(), &names, &Real).unwrap();
    PeerTls { identity: files.server, ca: files.ca }
}

pub(super) async fn network(tls: PeerTls, address: &str) -> (Arc<Tcp>, String) {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (Arc::new(Tcp::new(listener, tls).unwrap()), format!("localhost:{port}"))
}

fn serve(network: Arc<Tcp>, limits: ServerLimits) -> Server {
    Server::start(network, Routes::new(BrokersServer::new(Next)), limits)
}

async fn ask(peers: &Peers, address: &str) -> Result<u64, Status> {
    let mut broker = BrokersClient::new(peers.channel(address).unwrap());
    let asked = timeout(SOON, broker.hears(HearsRequest { controller_epoch: 6 })).await.expect("an answer in time");
    Ok(asked?.into_inner().controller_epoch)
}

#[tokio::test]
async fn a_broker_answers_another_one_and_is_found_again_when_it_comes_back() {
    let dir = TempDir::new().unwrap();
    let (one, address) = network(certificates(&dir), "127.0.0.1:0").await;
    let (other, _) = network(certificates(&dir), "127.0.0.1:0").await;
    let server = serve(one, ServerLimits::default());
    let peers = Peers::new(other);
    assert_eq!(ask(&peers, &address).await.unwrap(), 7);
    server.stop(SOON).await;
    assert_eq!(ask(&peers, &address).await.unwrap_err().code(), Code::Unavailable);
    let (again, _) = network(certificates(&dir), &address.replace("localhost", "127.0.0.1")).await;
    let server = serve(again, ServerLimits::default());
    assert_eq!(ask(&peers, &address).await.unwrap(), 7);
    server.stop(SOON).await;
}

#[tokio::test]
async fn who_has_no_certificate_of_the_brokers_is_not_answered() {
    let (dir, stranger) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ours = certificates(&dir);
    let (one, address) = network(ours.clone(), "127.0.0.1:0").await;
    let server = serve(one, ServerLimits::default());
    // It trusts our CA, as anybody may who reads it, and shows a certificate of its own.
    let theirs = PeerTls { identity: certificates(&stranger).identity, ca: ours.ca.clone() };
    let (network_of_stranger, _) = network(theirs, "127.0.0.1:0").await;
    let refused = ask(&Peers::new(network_of_stranger), &address).await.unwrap_err();
    // By when the stranger hears that it is refused, it may have sent its request already.
    assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown), "{refused}");
    let (friend, _) = network(ours.clone(), "127.0.0.1:0").await;
    assert_eq!(ask(&Peers::new(friend), &address).await.unwrap(), 7, "with the right certificate it is answered");
    // And a broker does not call a stranger.
    let (listening, address) = network(certificates(&stranger), "127.0.0.1:0").await;
    let other = serve(listening, ServerLimits::default());
    let (ours, _) = network(ours, "127.0.0.1:0").await;
    assert_eq!(ask(&Peers::new(ours), &address).await.unwrap_err().code(), Code::Unavailable);
    server.stop(SOON).await;
    other.stop(SOON).await;
}

#[tokio::test]
async fn callers_that_say_nothing_make_room_for_others() {
    let dir = TempDir::new().unwrap();
    let (one, address) = network(certificates(&dir), "127.0.0.1:0").await;
    let limits =
        ServerLimits { handshakes_max: 2, handshake_timeout: Duration::from_millis(200), ..Default::default() };
    let server = serve(one, limits);
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let (other, _) = network(certificates(&dir), "127.0.0.1:0").await;
    let peers = Peers::new(other);
    let mut answer = ask(&peers, &address).await;
    for _ in 0..20 {
        // Whoever calls may wait longer behind strangers than a call for a connection takes.
        if answer.is_ok() {
            break;
        }
        answer = ask(&peers, &address).await;
    }
    assert_eq!(answer.unwrap(), 7);
    for mut socket in silent {
        let closed = timeout(SOON, socket.read(&mut [0; 16])).await.expect("the silent ones are closed");
        assert!(matches!(closed, Ok(0) | Err(_)));
    }
    server.stop(SOON).await;
}
