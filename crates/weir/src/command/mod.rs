//! The commands, one module each: its command line, its help, and what it does.

pub(crate) mod broker;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod health;
pub(crate) mod proxy;
