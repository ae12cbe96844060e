//! The log: structured lines on standard error, as text or JSON. Standard output belongs to results.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging for a broker, as its configuration says.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.level).with_context(|| {
        format!(
            "`log.level` is {:?}; it must be a level such as info, or directives such as info,kafka=debug",
            log.level
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let set = match log.format {
        LogFormat::Text => builder.with_ansi(colours()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

/// Starts logging for a command that is not a broker: warnings, or what `WEIR_LOG` says.
pub(crate) fn start_for_commands() {
    let directives = std::env::var("WEIR_LOG").unwrap_or_else(|_| "warn".to_owned());
    let filter = EnvFilter::builder().parse_lossy(directives);
    // A second start in one process changes nothing, and nothing is lost by that.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours()).try_init();
}

/// Colours are for people who look, and who have not said that they want none.
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
