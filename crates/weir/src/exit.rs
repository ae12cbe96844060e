//! How a command ends: its exit code, and the sentence on standard error that goes with it.

use std::fmt;
use std::process::ExitCode;

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did not work.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// Nobody answers.
    Unreachable = 4,
    /// The other side refused: authentication or permission.
    Refused = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code of the process.
    pub(crate) exit: Exit,
    /// What to tell the person; nothing when there is nothing to tell.
    pub(crate) error: Option<anyhow::Error>,
}

impl Failure {
    /// With this code and this sentence.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Failure {
        Failure { exit, error: Some(anyhow::Error::msg(message)) }
    }

    /// The command line asks for something that does not fit together.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message.into())
    }

    /// What was asked for is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(Exit::NotFound, message.into())
    }

    /// Ctrl-C: the person knows.
    pub(crate) fn interrupted() -> Failure {
        Failure { exit: Exit::Interrupted, error: None }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { exit: Exit::Failed, error: Some(error) }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        anyhow::Error::from(error).into()
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        anyhow::Error::from(error).into()
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Failure {
        anyhow::Error::from(error).into()
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let exit = match error.kind() {
            client::ErrorKind::Usage => Exit::Usage,
            client::ErrorKind::NotFound => Exit::NotFound,
            client::ErrorKind::Unreachable => Exit::Unreachable,
            client::ErrorKind::Refused => Exit::Refused,
            client::ErrorKind::Failed => Exit::Failed,
        };
        Failure { exit, error: Some(error.into()) }
    }
}

/// What every command returns.
pub(crate) type Outcome = Result<(), Failure>;
