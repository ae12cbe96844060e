//! What the micro-benchmarks and the instruction counts share: a broker's API without sockets, on a disk and a store in
//! memory ([`Ground`]), and the requests that are put to it ([`requests`]).
//!
//! The runner of `cargo xtask bench`, which measures whole processes, is the binary of this package.

mod ground;
pub mod requests;
mod void;

pub use ground::Ground;
pub use void::Void;
