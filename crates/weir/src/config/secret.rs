//! A secret is named by where it lies, `{file: PATH}` or `{env: NAME}`, and read when it is needed. So a
//! configuration never holds one, and printing it cannot give one away; the text itself refuses to be printed too.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The keys that hold secrets: what stands there instead of one is not repeated in messages.
pub(super) const SECRETS: [&str; 6] =
    ["secret_access_key", "session_token", "access_key", "sas", "client_secret", "quic_token_key"];

/// Where a secret lies: `{file: PATH}` or `{env: NAME}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Secret {
    /// A file that holds the secret; white space at its end does not count.
    File(PathBuf),
    /// The name of an environment variable that holds the secret.
    Env(String),
}

/// A secret's text. `Debug` shows nothing of it, and `Display` does not exist.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretText(String);

impl SecretText {
    /// The text, for the one who must have it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// Why a secret could not be read. It names the place, never the text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The file is not there, or may not be read.
    #[error("cannot read the secret in the file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The environment variable is not set, or is not text.
    #[error("the environment variable {0}, which should hold a secret, is not set or is not text")]
    Env(String),
    /// Found, but nothing in it.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

impl Secret {
    /// Reads the secret.
    pub(crate) fn read(&self) -> Result<SecretText, SecretError> {
        let text = match self {
            Secret::File(path) => std::fs::read_to_string(path)
                .map_err(|error| SecretError::File { path: path.clone(), error })?
                .trim_end()
                .to_owned(),
            Secret::Env(name) => std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?,
        };
        if text.is_empty() {
            return Err(SecretError::Empty(match self {
                Secret::File(path) => path.display().to_string(),
                Secret::Env(name) => name.clone(),
            }));
        }
        Ok(SecretText(text))
    }
}
