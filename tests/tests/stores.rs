//! The pre-flight on real stores: a start passes on those that let one writer win a race, and is refused in one sentence
//! on one that lets several win.

use anyhow::{Result, ensure};
use weir_tests::broker::{Options, Weir};
use weir_tests::stores::{Kind, S3};

/// A store that fails races must fail each of so many starts: one that passes by luck loses records later.
const REFUSALS: usize = 20;

fn start_on(store: &S3) -> Result<Weir> {
    let (url, environment) = (Some(store.new_store()), S3::credentials());
    Weir::start_with(Options { store: url, environment, ..Options::default() })
}

#[test]
fn a_start_passes_on_minio() -> Result<()> {
    start_on(&S3::start(Kind::MinIo)?)?.finish()
}

#[test]
fn a_start_passes_on_versitygw() -> Result<()> {
    start_on(&S3::start(Kind::VersityGw)?)?.finish()
}

#[test]
fn every_start_is_refused_on_s3s_fs_which_lets_several_writers_win() -> Result<()> {
    let store = S3::start(Kind::S3sFs)?;
    for start in 1..=REFUSALS {
        let said = match start_on(&store) {
            Ok(_) => "the broker is ready".to_owned(),
            Err(error) => error.to_string(),
        };
        ensure!(said.contains("exit status: 1"), "start {start}: {said}");
        let sentence = said.contains("is not safe for Weir") && said.contains("writers won one race of conditional");
        ensure!(sentence && said.contains("Use a store that carries these out atomically"), "start {start}: {said}");
    }
    Ok(())
}
