//! The way to the controller, whichever broker that is: what is submitted is carried to the next controller when one ends
//! before it answered. A caller that cannot wait sets a deadline.

use std::sync::Arc;

use async_trait::async_trait;
use metadata::{
    Backend, Command, ExtentQuery, Image, LocatedExtent, QueryError, Refusal, Reply, StopReason, SubmitError, codec,
};
use proto::controller::SubmitRequest;
use proto::controller::controller_client::ControllerClient;
use tokio::sync::watch;
use tokio::time::{Duration, sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

use crate::node::{MESSAGE_BYTES_MAX, Role, Shared};

/// How long a look at extents waits for a controller.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries with the same controller.
const RETRY: Duration = Duration::from_millis(50);

/// The backend of a node.
pub(crate) struct Roaming {
    pub(crate) shared: Arc<Shared>,
}

/// What became of one try.
enum Tried {
    Answered(Result<Reply, Refusal>, u64),
    /// The controller did not take it.
    NotTaken,
    /// The controller ended or is lost: it may have been carried out.
    Unknown,
}

impl Roaming {
    /// The role, once there is one that can be asked.
    async fn role(&self, roles: &mut watch::Receiver<Role>) -> Result<Role, StopReason> {
        match roles.wait_for(|role| !role.is_looking()).await.map(|role| role.clone()) {
            Ok(Role::Ended(reason)) => Err(reason),
            Ok(role) => Ok(role),
            Err(_) => Err(StopReason::Closed),
        }
    }

    async fn try_submit(&self, role: &Role, command: &Command) -> Result<Tried, SubmitError> {
        match role {
            Role::Leading(leading) => match leading.handle.submit(command.clone()).await {
                Ok(reply) => Ok(Tried::Answered(Ok(reply), leading.handle.image().revision)),
                Err(SubmitError::Refused(refusal)) => {
                    Ok(Tried::Answered(Err(refusal), leading.handle.image().revision))
                }
                Err(error @ SubmitError::Unavailable(StopReason::Corrupt(_))) => Err(error),
                Err(_) => Ok(Tried::Unknown),
            },
            Role::Following(followed) => {
                let request =
                    SubmitRequest { controller_epoch: followed.epoch, command: Some(codec::to_command(command)) };
                let answer = match client(&followed.channel).submit(request).await {
                    Ok(answer) => answer.into_inner(),
                    Err(status) if status.code() == Code::FailedPrecondition => return Ok(Tried::NotTaken),
                    Err(status) if status.code() == Code::InvalidArgument => {
                        let why = format!("the controller does not understand it: {}", status.message());
                        return Err(Refusal::Invalid(why).into());
                    }
                    Err(status) => {
                        tracing::debug!(%status, "a command was not answered");
                        return Ok(Tried::Unknown);
                    }
                };
                let revision = answer.revision;
                match codec::from_answer(answer) {
                    Ok(Some(outcome)) => Ok(Tried::Answered(outcome, revision)),
                    Ok(None) => Ok(Tried::Unknown),
                    Err(error) => Err(Refusal::Invalid(error.to_string()).into()),
                }
            }
            Role::Looking | Role::Opening(_) | Role::Ended(_) => Ok(Tried::NotTaken),
        }
    }

    /// Waits until the image that is shown has this revision.
    async fn seen(&self, revision: u64) {
        let mut images = self.shared.image.subscribe();
        let _ = images.wait_for(|image| image.revision >= revision).await;
    }
}

fn client(channel: &Channel) -> ControllerClient<Channel> {
    ControllerClient::new(channel.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Whether a refusal of a command that may have been carried out before says that it was.
fn is_done_already(command: &Command, refusal: &Refusal, image: &Image) -> bool {
    match (command, refusal) {
        (Command::DeleteTopic { id, .. }, Refusal::UnknownTopic(unknown)) => id == unknown,
        (Command::CreatePartitions { topic, total }, Refusal::InvalidPartitions(_)) => {
            image.topics.get(topic).is_some_and(|topic| topic.partitions.len() == *total as usize)
        }
        _ => false,
    }
}

#[async_trait]
impl Backend for Roaming {
    async fn submit(&self, command: Command) -> Result<Reply, SubmitError> {
        let mut roles = self.shared.role.subscribe();
        let mut may_be_done = false;
        loop {
            let role = self.role(&mut roles).await?;
            let mut changed = roles.clone();
            let tried = tokio::select! {
                tried = self.try_submit(&role, &command) => tried?,
                // It is not this broker's controller any more, whether it still answers or not.
                _ = changed.changed() => Tried::Unknown,
            };
            match tried {
                Tried::Answered(Ok(reply), revision) => {
                    if let Reply::Registered { broker, incarnation } = &reply {
                        *self.shared.identity.lock() = Some((*broker, *incarnation));
                    }
                    self.seen(revision).await;
                    return Ok(reply);
                }
                Tried::Answered(Err(refusal), revision) => {
                    // What stands in the way is seen, too.
                    self.seen(revision).await;
                    let image = self.shared.image.borrow().clone();
                    if may_be_done && is_done_already(&command, &refusal, &image) {
                        return Ok(Reply::Done);
                    }
                    return Err(refusal.into());
                }
                Tried::NotTaken => {}
                Tried::Unknown => may_be_done = true,
            }
            let _ = timeout(RETRY, changed.changed()).await;
        }
    }

    async fn extents(&self, query: ExtentQuery) -> Result<Vec<LocatedExtent>, QueryError> {
        let mut roles = self.shared.role.subscribe();
        let asked = async {
            loop {
                match self.role(&mut roles).await {
                    Err(reason) => return Err(QueryError::Unavailable(reason.to_string())),
                    Ok(Role::Leading(leading)) => return leading.handle.locate(query).await,
                    Ok(Role::Following(followed)) => {
                        let request = codec::to_query(&query, followed.epoch);
                        match client(&followed.channel).extents(request).await {
                            Ok(answer) => return codec::from_extents(answer.into_inner()),
                            Err(status) => tracing::debug!(%status, "extents were not answered"),
                        }
                    }
                    Ok(Role::Looking | Role::Opening(_) | Role::Ended(_)) => {}
                }
                sleep(RETRY).await;
            }
        };
        let late = || Err(QueryError::Unavailable("no controller answers".into()));
        timeout(QUERY_TIMEOUT, asked).await.unwrap_or_else(|_| late())
    }

    async fn stopped(&self) -> StopReason {
        let mut roles = self.shared.role.subscribe();
        match roles.wait_for(|role| matches!(role, Role::Ended(_))).await.as_deref() {
            Ok(Role::Ended(reason)) => reason.clone(),
            _ => StopReason::Closed,
        }
    }
}
