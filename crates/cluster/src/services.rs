//! What a broker answers others: as the controller, and as any broker.

use std::sync::Arc;
use std::time::Duration;

use metadata::codec;
use proto::cluster::brokers_server::{Brokers, BrokersServer};
use proto::cluster::{Announcement, HearsAnswer, HearsRequest, Noted};
use proto::controller::controller_server::{Controller, ControllerServer};
use proto::controller::{ExtentsAnswer, ExtentsRequest, FollowRequest, Followed, SubmitAnswer, SubmitRequest};
use records::{BrokerId, Incarnation};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::node::{Leading, MESSAGE_BYTES_MAX, Node, Role, Shared, Timing};

/// Messages to one follower that wait to be sent.
const WAITING_MAX: usize = 4;

impl Node {
    /// The services that other brokers call.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let shared = self.shared.clone();
        let controller = ControllerServer::new(OfController(shared.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Routes::new(controller).add_service(BrokersServer::new(OfAny(shared)))
    }
}

struct OfController(Arc<Shared>);

impl OfController {
    /// The controller of this broker, when it is the one that is meant.
    fn leading(&self, epoch: u64) -> Result<Arc<Leading>, Status> {
        match &*self.0.role.borrow() {
            Role::Leading(leading) if leading.epoch == epoch => Ok(leading.clone()),
            _ => Err(Status::failed_precondition("this broker is not the controller of that epoch")),
        }
    }
}

#[tonic::async_trait]
impl Controller for OfController {
    type FollowStream = ReceiverStream<Result<Followed, Status>>;

    async fn follow(&self, request: Request<Streaming<FollowRequest>>) -> Result<Response<Self::FollowStream>, Status> {
        let mut signs = request.into_inner();
        let silent = || Status::deadline_exceeded("the follower does not say who it is");
        let first = timeout(self.0.timing.session_timeout, signs.message()).await.map_err(|_| silent())??;
        let first = first.ok_or_else(silent)?;
        let opening = matches!(&*self.0.role.borrow(), Role::Opening(epoch) if *epoch == first.controller_epoch);
        if !opening {
            self.leading(first.controller_epoch)?;
        }
        let (sender, messages) = mpsc::channel(WAITING_MAX);
        tokio::spawn(serve(self.0.clone(), first, signs, sender));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitAnswer>, Status> {
        let SubmitRequest { controller_epoch, command } = request.into_inner();
        let leading = self.leading(controller_epoch)?;
        let command = command.ok_or_else(|| Status::invalid_argument("no command"))?;
        let command = codec::from_command(command).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let outcome = leading.handle.submit(command).await;
        if let Ok(metadata::Reply::Registered { broker, incarnation }) = &outcome {
            leading.sessions.heard(*broker, *incarnation, Instant::now());
        }
        Ok(Response::new(codec::to_answer(outcome, leading.handle.image().revision)))
    }

    async fn extents(&self, request: Request<ExtentsRequest>) -> Result<Response<ExtentsAnswer>, Status> {
        let request = request.into_inner();
        let leading = self.leading(request.controller_epoch)?;
        let query = codec::from_query(&request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(codec::to_extents(leading.handle.locate(query).await)))
    }
}

/// Serves one follower until one of both is gone.
async fn serve(
    shared: Arc<Shared>,
    first: FollowRequest,
    signs: Streaming<FollowRequest>,
    sender: mpsc::Sender<Result<Followed, Status>>,
) {
    let Timing { heartbeat, session_timeout, .. } = shared.timing;
    let Some(leading) = opened(&shared, first.controller_epoch, &sender).await else { return };
    let ended = leading.ended.clone();
    tracing::info!(follower = %first.name, "a broker follows");
    let mut session = Session { leading, identity: None };
    session.heard(&first);
    tokio::select! {
        () = ended.cancelled() => {}
        () = session.serve(signs, sender, heartbeat, session_timeout) => {}
    }
    tracing::info!(follower = %first.name, "a broker does not follow any more");
}

/// The controller once it has opened the metadata. Until then the follower only hears that it lives.
async fn opened(shared: &Shared, epoch: u64, sender: &mpsc::Sender<Result<Followed, Status>>) -> Option<Arc<Leading>> {
    let mut roles = shared.role.subscribe();
    let mut beats = interval(shared.timing.heartbeat);
    loop {
        match &*roles.borrow_and_update() {
            Role::Leading(leading) if leading.epoch == epoch => return Some(leading.clone()),
            Role::Opening(opening) if *opening == epoch => {}
            _ => return None,
        }
        tokio::select! {
            changed = roles.changed() => changed.ok()?,
            () = sender.closed() => return None,
            _ = beats.tick() => drop(sender.try_send(Ok(Followed::default()))),
        }
    }
}

/// One follower's session.
struct Session {
    leading: Arc<Leading>,
    identity: Option<BrokerId>,
}

impl Session {
    fn heard(&mut self, sign: &FollowRequest) {
        if sign.broker > 0 {
            let broker = BrokerId(sign.broker);
            self.identity = Some(broker);
            self.leading.sessions.heard(broker, Incarnation(sign.incarnation), Instant::now());
        }
    }

    /// Tells the follower everything until one of both is gone.
    async fn serve(
        &mut self,
        mut signs: Streaming<FollowRequest>,
        sender: mpsc::Sender<Result<Followed, Status>>,
        heartbeat: Duration,
        patience: Duration,
    ) {
        let mut following = self.leading.feed.follow();
        let mut beats = interval(heartbeat);
        loop {
            tokio::select! {
                sign = signs.message() => match sign {
                    Ok(Some(sign)) => self.heard(&sign),
                    _ => return,
                },
                message = following.next() => {
                    let Some(message) = message else { return };
                    if !matches!(timeout(patience, sender.send(Ok(message))).await, Ok(Ok(()))) {
                        return;
                    }
                }
                // One that waits to be sent says the same.
                _ = beats.tick() => drop(sender.try_send(Ok(Followed::default()))),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(broker) = self.identity {
            self.leading.sessions.broke(broker, Instant::now());
        }
    }
}

struct OfAny(Arc<Shared>);

#[tonic::async_trait]
impl Brokers for OfAny {
    async fn hears(&self, _request: Request<HearsRequest>) -> Result<Response<HearsAnswer>, Status> {
        Ok(Response::new(HearsAnswer { controller_epoch: self.0.epoch() }))
    }

    async fn announce(&self, request: Request<Announcement>) -> Result<Response<Noted>, Status> {
        let epoch = request.into_inner().controller_epoch;
        self.0.announced.send_if_modified(|known| {
            let newer = epoch > *known;
            *known = epoch.max(*known);
            newer
        });
        Ok(Response::new(Noted {}))
    }
}
