//! The groups of a shard without a shard: requests, time and the fate of every store come from the test.

mod admin;
mod bench;
mod join;
mod liveness;
mod offsets;
mod random;
mod rebalance;
mod reload;
mod static_members;
mod sync;
