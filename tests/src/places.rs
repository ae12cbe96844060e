//! Where things lie: the broker's binary, the client programs, the tools that set-up installed.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};

/// The broker: `WEIR_BIN`, else the one that cargo built beside this test.
///
/// # Errors
/// There is none.
pub fn weir() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEIR_BIN") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    let beside = this.ancestors().nth(2).context("a test lies in target/PROFILE/deps")?.join("weir");
    if !beside.exists() {
        bail!("there is no {}: run `cargo build --package weir` first", beside.display());
    }
    Ok(beside)
}

/// What set-up installed: `WEIR_TEST_CACHE`, else `weir-test` in the user's cache folder.
///
/// # Errors
/// No such folder is named.
pub fn cache() -> Result<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = named("WEIR_TEST_CACHE") {
        return Ok(folder);
    }
    let folder = named("XDG_CACHE_HOME").or_else(|| {
        let cache = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        Some(named("HOME")?.join(cache))
    });
    Ok(folder.context("set WEIR_TEST_CACHE or HOME")?.join("weir-test"))
}

/// An installed program or folder.
///
/// # Errors
/// It is not there.
pub fn installed(path: &str) -> Result<PathBuf> {
    let found = cache()?.join(path);
    if !found.exists() {
        bail!("there is no {}: run `cargo xtask setup` first", found.display());
    }
    Ok(found)
}

/// A file of `tests/clients`.
#[must_use]
pub fn client(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(path)
}

/// How many ports one test takes at once: Kafka, TLS, HTTP, and one to spare.
const PORTS: u16 = 4;
/// Below the ports that the system gives to outgoing connections, so that a broker finds its ports free again when it
/// is started again.
const FIRST_PORT: u16 = 20_000;
const SLOTS: u16 = 3_000;

/// The first of four free ports in a row on this machine, for TCP and UDP, never given twice while this process lives: a
/// lock on a file keeps other test programs from them, which may look whether they are free at the same moment.
///
/// # Errors
/// All are taken.
pub fn ports() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    /// Kept until the process ends.
    static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let locks = std::env::temp_dir().join("weir-test-ports");
    std::fs::create_dir_all(&locks)?;
    // Test programs that run at the same time start looking at different places.
    let start = u16::try_from(std::process::id() % u32::from(SLOTS)).expect("less than the number of slots");
    for _ in 0..SLOTS {
        let slot = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % SLOTS;
        let lock = File::create(locks.join(slot.to_string()))?;
        if lock.try_lock().is_err() {
            continue;
        }
        let first = FIRST_PORT + slot * PORTS;
        let free =
            |port| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if (first..first + PORTS).all(free) {
            LOCKS.lock().map_err(|_| anyhow!("a test panicked while it took ports"))?.push(lock);
            return Ok(first);
        }
    }
    bail!("no free ports from {FIRST_PORT} on");
}
