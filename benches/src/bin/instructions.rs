//! What runs under callgrind: a path, so many times, on one request after another. `cargo xtask instructions` counts the
//! instructions of a short and of a long run, and takes the difference: what a start costs is in both.
//!
//!   instructions PATH OPERATIONS

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use weir_benches::{Ground, requests};

/// A batch as the Java client makes it by default, of records of 1 KiB.
const RECORDS: u32 = 15;
const RECORD_BYTES: usize = 1024;
/// Of the requests that are made before anything is counted, and used in turn.
const REQUESTS: i32 = 16;
/// Far more than the journal's thread takes for one append, on a busy machine too.
const PAUSE: Duration = Duration::from_millis(20);
const TAIL: usize = 8 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(bytes) => {
            println!("{bytes} bytes answered");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize> {
    let mut words = std::env::args().skip(1);
    let path = words.next().context("which path")?;
    let operations: usize = words.next().context("how many operations")?.parse()?;
    // One thread, beside the journal's own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (bytes, ground) = runtime.block_on(async {
        let ground = Ground::open(TAIL).await?;
        let bytes = match path.as_str() {
            "produce" => ask(&ground, &produces(), operations, PAUSE).await?,
            "fetch" => {
                ask(&ground, &produces(), 64, PAUSE).await?;
                // From the memory of the newest batches, one batch an answer.
                let fetches: Vec<Bytes> =
                    (0..REQUESTS).map(|n| requests::fetch(i64::from(n) * i64::from(RECORDS), 1, n)).collect();
                ask(&ground, &fetches, operations, Duration::ZERO).await?
            }
            _ => bail!("the paths are produce and fetch, not {path}"),
        };
        anyhow::Ok((bytes, ground))
    })?;
    // Nothing is closed: how much would still be uploaded depends on the moment.
    std::mem::forget((runtime, ground));
    Ok(bytes)
}

fn produces() -> Vec<Bytes> {
    let batch = requests::batch(RECORDS, RECORD_BYTES);
    (0..REQUESTS).map(|n| requests::produce(&batch, n)).collect()
}

/// So many of the requests, one after another; the bytes of all answers, put together as a socket would take them.
async fn ask(ground: &Ground, requests: &[Bytes], operations: usize, pause: Duration) -> Result<usize> {
    let mut bytes = 0;
    for request in requests.iter().cycle().take(operations) {
        bytes += ground.ask_slowly(request.clone(), pause).await?.into_segments().iter().map(Bytes::len).sum::<usize>();
    }
    Ok(bytes)
}
