//! How many instructions a produce and a fetch take, counted by valgrind, against the numbers in `benches/instructions.toml`.
//!
//! Each path runs a few times and many times, and the difference is what counts, so that a start costs nothing here. The build is
//! that of the tests: what a change does to a count is what matters, not the count by itself. Two runs are within a part in a
//! thousand of each other, whatever else the machine does.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache::Context, process::Log, setup};

const FILE: &str = "benches/instructions.toml";
/// A count this much off fails, in percent.
const OFF_MAX: u64 = 5;
/// The C library copies memory in the same way on every processor.
const SAME_COPIES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-ERMS,-FSRM";
/// Operations of the short run and of the long one.
const OPERATIONS: (u64, u64) = (50, 250);
const DEADLINE: Duration = Duration::from_secs(20 * 60);

/// One path, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    path: String,
    per_operation: u64,
    reason: String,
}

/// `cargo xtask instructions [--update REASON]`: whether all counts are as they were, or were written down.
pub(crate) fn command(context: &Context, arguments: &[String]) -> Result<bool> {
    let reason = match arguments {
        [] => None,
        [flag, reason] if flag == "--update" && !reason.trim().is_empty() => Some(reason.trim()),
        _ => bail!("only --update 'WHY THE COUNTS CHANGED' can be given: see cargo xtask --help"),
    };
    setup::ensure(context, &["valgrind"])?;
    let mut log = Log::create(context.log("instructions")?, false)?;
    let (mut kept, mut all_kept) = (read(context)?, true);
    for one in &mut kept {
        let counted = count(context, &mut log, &one.path)?;
        println!("{}", compare(one, counted));
        match reason {
            Some(reason) => *one = Kept { per_operation: counted, reason: reason.to_owned(), ..one.clone() },
            None => all_kept &= !is_off(one, counted),
        }
    }
    if reason.is_some() {
        fs::write(context.root.join(FILE), write(&kept))?;
    }
    Ok(all_kept)
}

/// The step of the tests: how many paths are as they were, and how many are not.
pub(crate) fn guard(context: &Context, log: &mut Log) -> Result<(u32, u32)> {
    let kept = read(context)?;
    let mut failed = 0;
    for one in &kept {
        let counted = count(context, log, &one.path)?;
        log.line(&compare(one, counted))?;
        if is_off(one, counted) {
            log.line("meant so? cargo xtask instructions --update 'WHY'")?;
            failed += 1;
        }
    }
    Ok((u32::try_from(kept.len())? - failed, failed))
}

/// In percent, more is positive.
#[allow(clippy::cast_precision_loss)] // Percents of some ten thousand.
fn change(one: &Kept, counted: u64) -> f64 {
    (counted as f64 / one.per_operation as f64 - 1.0) * 100.0
}

fn is_off(one: &Kept, counted: u64) -> bool {
    one.per_operation.abs_diff(counted) * 100 > one.per_operation * OFF_MAX
}

fn compare(one: &Kept, counted: u64) -> String {
    let (path, before, change) = (&one.path, one.per_operation, change(one, counted));
    format!("{path}: {counted} instructions an operation, {before} before: {change:+.1} % ({OFF_MAX} % are allowed)")
}

/// Instructions of one operation.
fn count(context: &Context, log: &mut Log, path: &str) -> Result<u64> {
    let mut build = Command::new("cargo");
    build.args(["build", "--workspace", "--bin", "instructions"]).current_dir(&context.root);
    log.run(&mut build, DEADLINE)?;
    let mut run = |operations: u64| {
        let mut valgrind = Command::new(context.bin("valgrind"));
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--fair-sched=yes"]).arg(binary(context));
        valgrind.args([path, &operations.to_string()]).env("RUST_LIB_BACKTRACE", "0");
        valgrind.env("GLIBC_TUNABLES", SAME_COPIES);
        let before = log.text()?.len();
        log.run(&mut valgrind, DEADLINE)?;
        collected(log.text()?.get(before..).unwrap_or_default())
    };
    let (few, many) = OPERATIONS;
    let (short, long) = (run(few)?, run(many)?);
    Ok(long.checked_sub(short).context("a longer run takes more instructions")? / (many - few))
}

fn binary(context: &Context) -> PathBuf {
    context.target().join("debug/instructions")
}

/// The number behind `Collected :` in what callgrind says.
fn collected(output: &str) -> Result<u64> {
    let line = output.lines().find_map(|line| line.split_once("Collected :")).context("callgrind gives no count")?;
    Ok(line.1.trim().parse()?)
}

fn read(context: &Context) -> Result<Vec<Kept>> {
    let path = context.root.join(FILE);
    parse(&fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?)
}

/// The little of TOML that the file needs.
fn parse(text: &str) -> Result<Vec<Kept>> {
    let mut all: Vec<Kept> = vec![];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(path) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            all.push(Kept { path: path.to_owned(), per_operation: 0, reason: String::new() });
            continue;
        }
        let one = all.last_mut().with_context(|| format!("{FILE}: `{line}` stands before the first path"))?;
        match line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("instructions", value)) => {
                one.per_operation = value.replace('_', "").parse().with_context(|| format!("{FILE}: {line}"))?;
            }
            Some(("reason", value)) => value.trim_matches('"').clone_into(&mut one.reason),
            _ => bail!("{FILE}: `{line}` is neither instructions nor a reason"),
        }
    }
    if let Some(one) = all.iter().find(|one| one.per_operation == 0 || one.reason.is_empty()) {
        bail!("{FILE}: {} needs a number and a reason", one.path);
    }
    ensure!(!all.is_empty(), "{FILE} names no path");
    Ok(all)
}

fn write(all: &[Kept]) -> String {
    let mut text = String::from(
        "# Instructions of one operation, counted by valgrind in the build of the tests (x86_64 Linux): one produce of 15 records of\n\
         # 1 KiB, one fetch of them from memory. Another run is within a part in a thousand.\n\
         # Written by `cargo xtask instructions --update 'REASON'`; the reason is that of the last change.\n",
    );
    for one in all {
        let reason = one.reason.replace('"', "'");
        text += &format!("\n[{}]\ninstructions = {}\nreason = \"{reason}\"\n", one.path, one.per_operation);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Vec<Kept> {
        let one = |path: &str, per_operation| Kept { path: path.into(), per_operation, reason: "first count".into() };
        vec![one("produce", 1000), one("fetch", 77)]
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        assert_eq!(parse(&write(&kept())).unwrap(), kept());
        assert!(parse("[produce]\ninstructions = 5\n").unwrap_err().to_string().contains("reason"));
        assert!(parse("").is_err());
        assert!(parse("instructions = 5").is_err());
    }

    #[test]
    fn a_count_may_be_off_by_so_much_both_ways() {
        let one = &kept()[0];
        assert!(!is_off(one, 1000 + 10 * OFF_MAX) && !is_off(one, 1000 - 10 * OFF_MAX));
        assert!(is_off(one, 1001 + 10 * OFF_MAX) && is_off(one, 999 - 10 * OFF_MAX));
    }

    #[test]
    fn the_count_is_found_in_what_callgrind_says() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 29221087\n==1== \n").unwrap(), 29_221_087);
        assert!(collected("==1== nothing").is_err());
    }
}
