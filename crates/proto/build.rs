//! Compiles every file in `proto/weir` with `protox`, so that no `protoc` is needed.
//!
//! A file `proto/weir/NAME.proto` has `package weir.NAME;` and becomes `weir.NAME.rs`, which `src/lib.rs` includes
//! as `pub mod NAME`. Services become gRPC clients and servers.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto/weir");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(root.join("weir"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(&files, [root])?;
    let mut config = tonic_prost_build::Config::new();
    config
        // Bytes fields are slices of the message they came in; maps keep their order, so that equal messages encode equally.
        .bytes(["."])
        .btree_map(["."]);
    // Connections are ours to make.
    tonic_prost_build::configure().build_transport(false).compile_fds_with_config(descriptors, config)?;
    Ok(())
}
