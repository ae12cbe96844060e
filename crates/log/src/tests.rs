//! The log over a store in memory, a real controller and a staging folder that can be crashed, damaged or lost.

mod admission;
mod cluster;
mod disk;
mod model;
mod producers;
mod reading;
mod recovery;
mod retention;
mod room;
mod uploading;
