//! How a broker finds the controller, follows it, or becomes it.
//!
//! ```text
//!            the seat is another's              it is lost, and nobody else hears it
//!  looking ────────────────────────► following ───────────────────────────────────► claim the seat
//!     ▲                                  ▲                                              │ won      │ lost
//!     │ fenced, or another was announced │ the seat is another's                        ▼          │
//!     └──────────────────────────────────┴──────────────────────────────────────── leading ◄───────┘ (looking)
//! ```
//!
//! Nothing here is needed for safety: two brokers that both take themselves for the controller fence each other at the
//! database, and commands that were not answered are submitted again. What is decided here is how soon there is one
//! controller, and that a short silence does not make a new one.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use metadata::election::{Claim, Election, Found, Seat};
use metadata::{Controller, Feed, Follower, Handle, Image, OpenError, StopReason};
use parking_lot::Mutex;
use proto::cluster::brokers_client::BrokersClient;
use proto::cluster::{Announcement, HearsRequest};
use proto::controller::FollowRequest;
use proto::controller::controller_client::ControllerClient;
use records::{BrokerId, Incarnation};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use crate::backend::Roaming;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::sessions::{Sessions, Verdict};

/// The name under which a broker registers where other brokers reach it.
pub const PEER_LISTENER: &str = "peer";
/// How often a controller looks whether the seat is still its own: 60 GET an hour.
const SEAT_LOOKS: Duration = Duration::from_secs(60);
/// Bytes of one message between brokers, at most: a commit of a hundred thousand extents.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How soon things are noticed.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two signs of life, in both directions.
    pub heartbeat: Duration,
    /// A controller that is silent for so long is looked for elsewhere.
    pub controller_timeout: Duration,
    /// A broker that is silent for so long is fenced.
    pub session_timeout: Duration,
    /// A broker whose connection broke is fenced when it is not back after so long.
    pub broken_timeout: Duration,
    /// Who lost the controller waits for a random time up to this, so that not all claim the seat at once.
    pub claim_spread: Duration,
    /// How long one question to another broker or the store's first answer is waited for before the next try.
    pub ask_timeout: Duration,
    /// Between two tries of what failed.
    pub pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            controller_timeout: Duration::from_millis(1000),
            session_timeout: Duration::from_millis(2000),
            broken_timeout: Duration::from_millis(500),
            claim_spread: Duration::from_millis(300),
            ask_timeout: Duration::from_millis(500),
            pause: Duration::from_millis(100),
        }
    }
}

/// What a broker needs to take part.
pub struct Options {
    /// How the metadata is opened, should this broker become the controller.
    pub metadata: metadata::Options,
    /// The seat, with this broker's name and where other brokers reach it.
    pub election: Election,
    /// The way to other brokers; a broker without one can only be the controller itself.
    pub peers: Option<Peers>,
    /// How soon things are noticed.
    pub timing: Timing,
    /// What is counted.
    pub metrics: Metrics,
}

/// How this broker stands to the metadata.
#[derive(Clone)]
pub(crate) enum Role {
    /// Nobody is known to be the controller.
    Looking,
    /// This one took the seat of this epoch, and opens the metadata.
    Opening(u64),
    /// Another broker is.
    Following(Followed),
    /// This one is.
    Leading(Arc<Leading>),
    /// Nothing is carried out any more, by this broker or by way of it.
    Ended(StopReason),
}

impl Role {
    /// Whether there is nobody yet who could be asked.
    pub(crate) fn is_looking(&self) -> bool {
        matches!(self, Self::Looking | Self::Opening(_))
    }
}

/// The controller, as seen by another broker.
#[derive(Clone)]
pub(crate) struct Followed {
    pub(crate) epoch: u64,
    pub(crate) channel: Channel,
}

/// The controller, on its own broker.
pub(crate) struct Leading {
    pub(crate) epoch: u64,
    pub(crate) handle: Handle,
    pub(crate) feed: Feed,
    pub(crate) sessions: Sessions,
    /// Cancelled when it is not the controller any more.
    pub(crate) ended: CancellationToken,
}

/// What the node, its backend and its services share.
pub(crate) struct Shared {
    pub(crate) role: watch::Sender<Role>,
    pub(crate) image: watch::Sender<Arc<Image>>,
    /// Who this broker is, once it has registered.
    pub(crate) identity: Mutex<Option<(BrokerId, Incarnation)>>,
    /// The highest epoch of the seat that somebody told of.
    pub(crate) announced: watch::Sender<u64>,
    pub(crate) timing: Timing,
    metrics: Metrics,
}

impl Shared {
    fn becomes(&self, role: Role) {
        self.metrics.changed(&role);
        self.role.send_replace(role);
    }

    /// The controller that this broker hears from or is, or 0.
    pub(crate) fn epoch(&self) -> u64 {
        match &*self.role.borrow() {
            Role::Opening(epoch) => *epoch,
            Role::Following(followed) => followed.epoch,
            Role::Leading(leading) => leading.epoch,
            Role::Looking | Role::Ended(_) => 0,
        }
    }

    /// Takes an image in; an older one changes nothing.
    fn show(&self, image: Arc<Image>) {
        self.image.send_if_modified(|shown| {
            let newer = image.revision >= shown.revision;
            if newer {
                *shown = image;
            }
            newer
        });
    }
}

/// A broker's part in the cluster.
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    handle: Handle,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("controller_epoch", &self.shared.epoch()).finish_non_exhaustive()
    }
}

impl Node {
    /// Begins to take part. Needs a tokio runtime.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let nothing = Image::new(uuid::Uuid::nil(), options.metadata.limits);
        let shared = Arc::new(Shared {
            role: watch::Sender::new(Role::Looking),
            image: watch::Sender::new(Arc::new(nothing)),
            identity: Mutex::default(),
            announced: watch::Sender::new(0),
            timing: options.timing,
            metrics: options.metrics.clone(),
        });
        let handle = Handle::new(shared.image.subscribe(), Arc::new(Roaming { shared: shared.clone() }));
        let stop = CancellationToken::new();
        let task = Task { shared: shared.clone(), options, stop: stop.clone(), has_led: false };
        Self { shared, handle, stop, running: tokio::spawn(task.run()) }
    }

    /// Waits until the metadata are there, and gives them. They stay the same ones, whoever the controller is. Cancellation
    /// safe.
    ///
    /// # Errors
    /// Why they never will be: a person must look.
    pub async fn joined(&self) -> Result<Handle, StopReason> {
        let mut role = self.shared.role.subscribe();
        match &*role.wait_for(|role| !role.is_looking()).await.map_err(|_| StopReason::Closed)? {
            Role::Ended(reason) => Err(reason.clone()),
            _ => Ok(self.handle.clone()),
        }
    }

    /// Takes part no more. A controller answers what was submitted, and closes the metadata. Waits for a store that does not
    /// answer: callers set a time-out, after which everything stops as it is, and nothing that was answered is lost.
    pub async fn close(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.running).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.running.abort();
    }
}

struct Task {
    shared: Arc<Shared>,
    options: Options,
    stop: CancellationToken,
    /// Whether this process was the controller before.
    has_led: bool,
}

/// What is done next.
enum Next {
    Look,
    /// With the seat that is ours, after this broker.
    Lead(Seat, Option<String>),
    End(StopReason),
}

impl Task {
    async fn run(mut self) {
        let mut next = Next::Look;
        let reason = loop {
            let stop = self.stop.clone();
            next = match next {
                Next::Look => {
                    self.shared.becomes(Role::Looking);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break StopReason::Closed,
                        next = self.look() => next,
                    }
                }
                Next::Lead(seat, before) => self.lead(&seat, before.as_deref()).await,
                Next::End(reason) => break reason,
            };
        };
        self.shared.becomes(Role::Ended(reason));
    }

    /// Looks at the seat, and follows who holds it or claims it.
    async fn look(&mut self) -> Next {
        let timing = self.shared.timing;
        let found = match self.options.election.look().await {
            Ok(found) => found,
            Err(error @ metadata::election::ElectionError::Corrupt(_)) => {
                return Next::End(StopReason::Corrupt(error.to_string()));
            }
            Err(error) => {
                tracing::warn!(%error, "who the controller is cannot be read yet");
                sleep(timing.pause).await;
                return Next::Look;
            }
        };
        let Some(seat) = found.seat.clone() else { return self.claim(found).await };
        if self.options.election.is_ours(&seat) {
            return Next::Lead(seat, None);
        }
        if seat.name == self.options.election.name() {
            if self.has_led {
                // A newer process runs under this name: it is the broker now.
                return Next::End(StopReason::Fenced);
            }
            return self.claim(found).await;
        }
        let (Some(peers), false) = (self.options.peers.clone(), seat.address.is_empty()) else {
            if self.has_led {
                // One of two brokers that cannot speak with each other: the newer one has it.
                return Next::End(StopReason::Fenced);
            }
            tracing::warn!(holder = %seat.name, "the controller before cannot be reached by design: its seat is taken over");
            return self.claim(found).await;
        };
        let was_followed = self.follow(&peers, &seat).await;
        if *self.shared.announced.borrow() > seat.epoch.0 {
            return Next::Look;
        }
        self.shared.becomes(Role::Looking);
        sleep(self.spread()).await;
        match self.heard_by_others(&peers, &seat).await {
            Some(newer) if newer > seat.epoch.0 => return Next::Look,
            Some(_) => {
                tracing::warn!(controller = %seat.name, "the controller does not answer this broker, and others hear it");
                sleep(timing.pause).await;
                return Next::Look;
            }
            None => {}
        }
        tracing::info!(controller = %seat.name, epoch = %seat.epoch, was_followed, "nobody hears the controller any more");
        self.claim(found).await
    }

    async fn claim(&self, found: Found) -> Next {
        match self.options.election.claim(&found).await {
            Ok(Claim::Won(seat)) => Next::Lead(seat, found.seat.map(|before| before.name)),
            Ok(Claim::Lost(seat)) => {
                tracing::debug!(holder = %seat.name, epoch = %seat.epoch, "another broker took the seat");
                Next::Look
            }
            Err(error) => {
                tracing::warn!(%error, "the controller's seat could not be taken yet");
                sleep(self.shared.timing.pause).await;
                Next::Look
            }
        }
    }

    /// A random time.
    fn spread(&self) -> Duration {
        let nanos = self.options.metadata.random.next() % self.shared.timing.claim_spread.as_nanos().max(1);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// Follows the controller for as long as it is heard. Says whether it ever was.
    async fn follow(&self, peers: &Peers, seat: &Seat) -> bool {
        let Ok(channel) = peers.channel(&seat.address) else { return false };
        let mut announced = self.shared.announced.subscribe();
        let mut heard = false;
        let begun = Instant::now();
        let following = async {
            loop {
                match self.follow_stream(&channel, seat, &mut heard).await {
                    Ok(()) => return tracing::info!(controller = %seat.name, "the controller ended"),
                    // It has only just taken the seat, or it has lost it.
                    Err(FollowFailure::Call(status))
                        if status.code() == Code::FailedPrecondition
                            && begun.elapsed() < self.shared.timing.controller_timeout =>
                    {
                        sleep(self.shared.timing.pause).await;
                    }
                    Err(error) => return tracing::info!(controller = %seat.name, %error, "the controller is lost"),
                }
            }
        };
        tokio::select! {
            () = following => {}
            newer = announced.wait_for(|epoch| *epoch > seat.epoch.0) => drop(newer),
        }
        heard
    }

    async fn follow_stream(&self, channel: &Channel, seat: &Seat, heard: &mut bool) -> Result<(), FollowFailure> {
        let Timing { heartbeat, controller_timeout, .. } = self.shared.timing;
        let (signs, outgoing) = mpsc::channel(2);
        let sign = || {
            let (broker, incarnation) = self.shared.identity.lock().unwrap_or((BrokerId(0), Incarnation(0)));
            FollowRequest {
                controller_epoch: seat.epoch.0,
                name: self.options.election.name().to_owned(),
                broker: broker.0,
                incarnation: incarnation.0,
            }
        };
        let _ = signs.try_send(sign());
        let mut client = ControllerClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let call = client.follow(ReceiverStream::new(outgoing));
        let mut stream = timeout(controller_timeout, call).await.map_err(|_| FollowFailure::Silent)??.into_inner();
        let mut follower = Follower::new(self.options.metadata.limits);
        let mut beats = interval(heartbeat);
        let mut last_heard = Instant::now();
        loop {
            tokio::select! {
                message = stream.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    last_heard = Instant::now();
                    if let Some(image) = follower.take(message)? {
                        self.shared.show(image);
                        if !*heard {
                            *heard = true;
                            tracing::info!(controller = %seat.name, epoch = %seat.epoch, "following the controller");
                            let followed = Followed { epoch: seat.epoch.0, channel: channel.clone() };
                            self.shared.becomes(Role::Following(followed));
                        }
                    }
                }
                _ = beats.tick() => {
                    if last_heard.elapsed() > controller_timeout {
                        return Err(FollowFailure::Silent);
                    }
                    // One that is not sent yet says the same.
                    let _ = signs.try_send(sign());
                }
            }
        }
    }

    /// The newest controller that a broker that we know of hears from, if that is this one or a newer one.
    async fn heard_by_others(&self, peers: &Peers, seat: &Seat) -> Option<u64> {
        let image = self.shared.image.borrow().clone();
        let own = self.options.election.name();
        let asked = image.brokers.values().filter(|broker| *broker.name != *own && *broker.name != *seat.name);
        let answers = asked.filter_map(|broker| peer_address(broker)).map(|address| async move {
            let mut broker = BrokersClient::new(peers.channel(&address).ok()?);
            let asked = broker.hears(HearsRequest { controller_epoch: seat.epoch.0 });
            let answer = timeout(self.shared.timing.ask_timeout, asked).await.ok()?.ok()?;
            Some(answer.into_inner().controller_epoch).filter(|epoch| *epoch >= seat.epoch.0)
        });
        join_all(answers).await.into_iter().flatten().max()
    }

    /// Is the controller until it is fenced, or another one is announced. `before` is the broker that was it before.
    async fn lead(&mut self, seat: &Seat, before: Option<&str>) -> Next {
        let timing = self.shared.timing;
        self.shared.becomes(Role::Opening(seat.epoch.0));
        let opened = tokio::select! {
            () = self.stop.cancelled() => return Next::End(StopReason::Closed),
            opened = Controller::open(self.options.metadata.clone()) => opened,
        };
        let controller = match opened {
            Ok(controller) => controller,
            Err(OpenError::Fenced) => return Next::Look,
            Err(OpenError::Unavailable(error)) => {
                tracing::warn!(%error, "the metadata cannot be opened yet");
                sleep(timing.pause).await;
                return Next::Look;
            }
            Err(error) => return Next::End(StopReason::Corrupt(error.to_string())),
        };
        self.has_led = true;
        let image = controller.handle().image();
        let lost = before.and_then(|name| image.broker(name)).map(|broker| broker.id);
        let leading = Arc::new(Leading {
            epoch: seat.epoch.0,
            handle: controller.handle(),
            feed: controller.feed(),
            sessions: Sessions::new(Instant::now(), timing.session_timeout, timing.broken_timeout, lost),
            ended: CancellationToken::new(),
        });
        let mut images = leading.handle.watch();
        self.shared.show(images.borrow_and_update().clone());
        self.shared.becomes(Role::Leading(leading.clone()));
        tracing::info!(epoch = %seat.epoch, revision = leading.handle.image().revision, "this broker is the controller");
        let mut announced = self.shared.announced.subscribe();
        let next = tokio::select! {
            () = self.stop.cancelled() => Next::End(StopReason::Closed),
            newer = announced.wait_for(|epoch| *epoch > seat.epoch.0) => { drop(newer); Next::Look }
            reason = leading.handle.stopped() => match reason {
                StopReason::Fenced => Next::Look,
                reason => Next::End(reason),
            },
            never = self.show_images(images) => match never {},
            never = self.keep_sessions(&leading) => match never {},
            never = self.announce(&leading) => match never {},
            () = self.seat_is_lost() => Next::Look,
        };
        // Whoever follows looks for the next one; what was submitted is answered first.
        self.shared.becomes(Role::Looking);
        controller.close().await;
        leading.ended.cancel();
        self.shared.show(leading.handle.image());
        match next {
            // Nobody else can hold it who could be followed.
            Next::Look if self.options.peers.is_none() => Next::End(StopReason::Fenced),
            next => next,
        }
    }

    /// Waits until the seat is another's: a controller that writes nothing is not told by the database.
    async fn seat_is_lost(&self) {
        loop {
            sleep(SEAT_LOOKS).await;
            if let Ok(Found { seat: Some(seat), .. }) = self.options.election.look().await
                && !self.options.election.is_ours(&seat)
            {
                return tracing::warn!(holder = %seat.name, epoch = %seat.epoch, "another broker took the controller's seat");
            }
        }
    }

    async fn show_images(&self, mut images: watch::Receiver<Arc<Image>>) -> std::convert::Infallible {
        while images.changed().await.is_ok() {
            self.shared.show(images.borrow_and_update().clone());
        }
        std::future::pending().await
    }

    /// Writes down who is not heard of, and who is again.
    async fn keep_sessions(&self, leading: &Leading) -> std::convert::Infallible {
        let mut looks = interval(self.shared.timing.heartbeat / 2);
        loop {
            looks.tick().await;
            let own = self.shared.identity.lock().map(|(broker, _)| broker);
            for Verdict { broker, incarnation, fenced } in
                leading.sessions.verdicts(&leading.handle.image(), own, Instant::now())
            {
                let command = metadata::Command::FenceBroker { broker, incarnation, fenced };
                match leading.handle.submit(command).await {
                    Ok(_) if fenced => tracing::warn!(%broker, "a broker is not heard of any more: it is fenced"),
                    Ok(_) => tracing::info!(%broker, "a broker is heard of again"),
                    Err(error) => tracing::debug!(%error, %broker, "a broker's session could not be written down"),
                }
            }
        }
    }

    /// Tells brokers that do not follow yet that there is a new controller.
    async fn announce(&self, leading: &Leading) -> std::convert::Infallible {
        let Some(peers) = self.options.peers.clone() else { return std::future::pending().await };
        let begun = Instant::now();
        while begun.elapsed() < self.shared.timing.session_timeout {
            let image = leading.handle.image();
            let own = self.options.election.name();
            let others = image.brokers.values().filter(|broker| *broker.name != *own);
            let told = others.filter_map(|broker| peer_address(broker)).map(|address| {
                let peers = peers.clone();
                async move {
                    let mut broker = BrokersClient::new(peers.channel(&address).ok()?);
                    let told = broker.announce(Announcement { controller_epoch: leading.epoch });
                    timeout(self.shared.timing.ask_timeout, told).await.ok()?.ok()
                }
            });
            join_all(told).await;
            sleep(self.shared.timing.pause * 2).await;
        }
        std::future::pending().await
    }
}

/// Why a controller is not followed any more.
#[derive(Debug, thiserror::Error)]
enum FollowFailure {
    #[error("it is silent")]
    Silent,
    #[error("{}", describe(.0))]
    Call(#[from] tonic::Status),
    #[error(transparent)]
    State(#[from] metadata::FollowError),
}

/// What a failed call comes down to, for logs.
pub(crate) fn describe(status: &tonic::Status) -> String {
    match status.code() {
        Code::Unavailable => format!("it cannot be reached: {}", status.message()),
        _ => status.message().to_owned(),
    }
}

/// Where other brokers reach it, `HOST:PORT`.
#[must_use]
pub fn peer_address(broker: &metadata::Broker) -> Option<String> {
    let peer = broker.endpoints.iter().find(|endpoint| endpoint.listener == PEER_LISTENER)?;
    let (host, port) = (&peer.host, peer.port);
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}
