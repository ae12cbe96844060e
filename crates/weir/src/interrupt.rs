//! Ctrl-C in commands that are not brokers: the command ends with exit code 130, at once or after it has put things
//! in order.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::exit::{Failure, Outcome};

/// How long a command may take to put things in order (leave its group, send what it has read).
const GRACE: Duration = Duration::from_secs(5);

/// Runs a command that can be dropped at any moment.
pub(crate) async fn interruptible(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        outcome = Box::pin(command) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    }
}

/// Runs a command that watches the token: at Ctrl-C it has a few seconds to end by itself, until the second Ctrl-C.
pub(crate) async fn graceful<F: Future<Output = Outcome>>(command: impl FnOnce(CancellationToken) -> F) -> Outcome {
    let token = CancellationToken::new();
    let mut running = Box::pin(command(token.clone()));
    tokio::select! {
        outcome = &mut running => return outcome,
        _ = tokio::signal::ctrl_c() => token.cancel(),
    }
    tokio::select! {
        // What went wrong while ending is less than that the person asked for the end.
        _ = running => {}
        _ = tokio::signal::ctrl_c() => {}
        () = tokio::time::sleep(GRACE) => {}
    }
    Err(Failure::interrupted())
}
