//! What "ready" and "started" mean: lists of named checks, each a closure over state that its owner keeps.

use std::fmt;

use serde::Serialize;

/// One named condition.
pub struct Check {
    name: String,
    test: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    /// A check that passes when `test` gives `Ok`; otherwise the text says in one sentence what is missing. The
    /// closure must answer from memory: it may not block, wait or ask others.
    pub fn new(name: impl Into<String>, test: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Check {
        Check { name: name.into(), test: Box::new(test) }
    }

    fn run(&self) -> Finding {
        match (self.test)() {
            Ok(()) => Finding { name: self.name.clone(), ok: true, message: None },
            Err(message) => Finding { name: self.name.clone(), ok: false, message: Some(message) },
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All checks of a broker.
#[derive(Debug, Default)]
pub struct Health {
    /// It has started: what was left by the run before has been recovered. Once true, true for ever.
    pub started: Vec<Check>,
    /// It can serve clients now.
    pub ready: Vec<Check>,
}

/// What one check said.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// What all checks of a list said.
pub(crate) fn findings(checks: &[Check]) -> Vec<Finding> {
    checks.iter().map(Check::run).collect()
}
