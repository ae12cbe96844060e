//! The one place where real time and real randomness come from. Everything else takes them as parameters.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use records::{Clock, Random, Timestamp};

/// What the broker takes from the machine besides its configuration.
#[derive(Clone)]
pub(crate) struct Environment {
    /// The wall clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Random numbers.
    pub(crate) random: Arc<dyn Random>,
}

impl Environment {
    /// The machine's own.
    pub(crate) fn system() -> Environment {
        Environment { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
    }
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the implementation that everything else is given")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The operating system's random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn next(&self) -> u128 {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers to every process");
        u128::from_ne_bytes(bytes)
    }
}
