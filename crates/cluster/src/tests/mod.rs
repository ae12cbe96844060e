//! Brokers on the loopback.

mod net;
mod node;
