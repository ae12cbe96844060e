//! The Kafka front door.
//!
//! The transport is here: doors ([`Listener`] for TCP, TLS and QUIC), connections (one handler for all of them, in
//! `connection.rs`) and what a request handler learns about its connection ([`Context`]). It knows frames and their
//! order, nothing of what they say: that is the [`Service`]'s.
//!
//! Promises: answers leave in the order of their requests; everything is bounded ([`Limits`]); a panic ends one
//! connection; a shutdown finishes what was begun. All errors of accepting, handshakes and framing end here, logged once.

mod amplification;
mod answers;
pub mod api;
mod connection;
mod context;
mod frames;
mod front;
mod limits;
mod listener;
mod metrics;
mod quic;
mod requests;
mod service;
mod threads;
mod windows;

#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod listener_tests;
#[cfg(test)]
mod test_service;

pub use answers::{Answers, Reservation};
pub use context::{Address, AddressError, ClientInfo, Context, ListenerInfo, Peer, Session};
pub use front::Front;
pub use limits::Limits;
pub use listener::{BindError, Listener, ListenerConfig, Protocol};
pub use metrics::{Metrics, Transport};
pub use quic::QuicTokenKey;
pub use service::{Answer, Frame, Service, Step, Weight};
pub use threads::Threads;

pub use wire::Rope;
