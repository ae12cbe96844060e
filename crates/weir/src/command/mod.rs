//! The commands, one module each: its command line, its help, and what it does.

pub(crate) mod bench;
pub(crate) mod broker;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod group;
pub(crate) mod health;
pub(crate) mod produce;
pub(crate) mod proxy;
pub(crate) mod store;
pub(crate) mod topic;
