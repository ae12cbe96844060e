//! End-to-end tests: the real `weir` binary, real clients, a real object store.
//!
//! This library starts, kills and watches the processes and speaks the protocol where a test needs to know more than a
//! client library tells; `tests/tests` holds the tests, one file a theme; `tests/clients` the client programs. What the
//! tests need is installed by `cargo xtask setup`, and `cargo xtask test` runs all of it.

pub mod attack;
pub mod azure;
pub mod broker;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod connection;
pub mod dice;
pub mod faults;
pub mod history;
pub mod http;
pub mod load;
pub mod places;
pub mod process;
pub mod stores;
pub mod topic;
pub mod torn;
