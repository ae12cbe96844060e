//! A progress bar on standard error, for work that takes longer than a second, when a person watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::output::stderr_is_terminal;

/// Work shorter than this shows nothing.
const DELAY: Duration = Duration::from_secs(1);
/// How often a bar of seconds moves.
const TICK: Duration = Duration::from_secs(1);
/// How often the bar is drawn, per second.
const DRAWS_PER_SECOND: u8 = 5;

/// Counts what is done; shows it when there is someone to see it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    watched: bool,
}

impl Progress {
    /// Counts things of this name, towards a total where one is known.
    pub(crate) fn new(things: &'static str, total: Option<u64>) -> Progress {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = match total {
            Some(_) => "{bar:30} {human_pos}/{human_len} {msg} {per_sec} {eta}",
            None => "{spinner} {human_pos} {msg} {per_sec} {elapsed}",
        };
        // The templates are ours; one that is wrong would only look plain.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(things);
        Progress { bar, begun: Instant::now(), watched: stderr_is_terminal() }
    }

    /// So many more are done.
    pub(crate) fn add(&mut self, count: u64) {
        self.bar.inc(count);
        if self.watched && self.begun.elapsed() >= DELAY {
            self.watched = false;
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Runs work that is known to take so long, with a bar of seconds.
pub(crate) async fn timed<T>(length: Duration, work: impl Future<Output = T>) -> T {
    let mut progress = Progress::new("seconds", Some(length.as_secs()));
    let mut seconds = tokio::time::interval_at(Instant::now() + TICK, TICK);
    let mut work = std::pin::pin!(work);
    let outcome = loop {
        tokio::select! {
            outcome = work.as_mut() => break outcome,
            _ = seconds.tick() => progress.add(1),
        }
    };
    progress.finish();
    outcome
}
