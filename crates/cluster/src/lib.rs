//! What brokers say to each other: gRPC over mutual TLS; and how they come to one controller.
//!
//! | file | is |
//! | --- | --- |
//! | `net.rs` | byte streams between brokers, over TCP with mutual TLS; the simulator has its own |
//! | `server.rs` | the side that is called: a listener, its bounds, and the services behind it |
//! | `peers.rs` | the side that calls: one channel to each address |
//! | `node.rs` | looking for the controller, following it, becoming it |
//! | `backend.rs` | the metadata as everybody in this process uses them, wherever the controller is |
//! | `services.rs` | what others are answered |
//! | `metrics.rs` | the figures of all that |
//! | `sessions.rs` | whom the controller hears from (pure) |
//!
//! **Who may call.** A caller shows a certificate of the peers' CA, or it gets no further than the handshake.
//!
//! **Bounds.** Handshakes at once, time for a handshake, connections, streams and bytes in flight of a connection.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod metrics;
mod net;
mod node;
mod peers;
mod server;
mod services;
mod sessions;
#[cfg(test)]
mod tests;

pub use metrics::Metrics;
pub use net::{Network, PeerTls, Stream, Tcp};
pub use node::{Node, Options, PEER_LISTENER, Timing, peer_address};
pub use peers::Peers;
pub use server::{Server, ServerLimits};
