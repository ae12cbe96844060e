//! Health and metrics over HTTP: `/livez`, `/readyz`, `/startupz` and `/metrics`.
//!
//! Promises: health answers come from what the checks say at that moment and never from a cache; `/livez` asks
//! nobody; connections, header times, bodies and the time of an answer are bounded, so that whoever can reach the
//! port cannot hurt the broker; errors are JSON.
//! Leaves to others: what is checked and what is counted (both are given), TLS and authentication (there are none:
//! the address belongs inside the cluster's network).

mod health;
mod routes;
mod server;

#[cfg(test)]
mod tests;

pub use health::{Check, Health};
pub use server::{Limits, Server, StartError};

use std::sync::Arc;

use prometheus_client::registry::Registry;

/// What the server tells.
#[derive(Clone)]
pub struct Sources {
    /// Whether the broker has started and can serve.
    pub health: Arc<Health>,
    /// Everything that is counted. Collectors in it are asked at each `GET /metrics`.
    pub metrics: Arc<Registry>,
}
