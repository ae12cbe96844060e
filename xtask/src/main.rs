//! `cargo xtask`: sets up everything that the tests need, runs all of them, and says what happened.
//!
//! Promises: what it installs goes to one cache folder outside the checkout; every process it starts has ended when it
//! ends; the last line of `cargo xtask test` is `N passed, N failed` alone. It leaves what a test checks to the tests.

mod bench;
mod cache;
mod instructions;
mod links;
mod process;
mod s3;
mod setup;
mod steps;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::cache::Context;

const HELP: &str = "\
Sets up and runs Weir's tests.

Usage:
  cargo xtask test [--verbose] [--store STORE] [STEP…]
                                         run all steps, or only those named (see below)
  cargo xtask setup [TOOL…]              only install what the tests need
  cargo xtask crash [--rounds N]         the long crash test: N rounds of kill -9 (default 500)
  cargo xtask fuzz [--runs N]            each fuzz target N times (default 100 million: hours)
  cargo xtask bench [--quick] [NAME…]    measure Weir against Apache Kafka, and write docs/benchmarks.md (hours); --quick
                                         takes minutes, prints and writes nothing; --list names the scenarios
  cargo xtask instructions [--update REASON]  count the instructions of a produce and a fetch; --update keeps new counts
  cargo xtask --help

Options of `test`:
  --store STORE     where brokers keep their objects in end-to-end tests that leave it open: minio, versitygw, folder or
                    memory (default: minio and versitygw by turns, where they are installed)

Environment:
  WEIR_TEST_CACHE   where tools are installed (default: weir-test in the user's cache folder)
  CI                when `true`, a missing prerequisite is a failure; otherwise the tests that need it are left out
  WEIR_CRASH_ROUNDS, WEIR_CRASH_SEED     rounds of the crash test in `test`; the seed that a failed run printed

Examples:
  cargo xtask test
  cargo xtask test format lint unit
  cargo xtask crash --rounds 500
  cargo xtask bench produce rate
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything went well; an error means that the command line or the environment was wrong.
fn run(arguments: &[String]) -> Result<bool> {
    let wants_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    let Some((command, rest)) = arguments.split_first().filter(|_| !wants_help) else {
        print!("{HELP}\nSteps of `test`, in order:\n{}\nTools of `setup`:\n{}", steps::help(), setup::help());
        return if wants_help { Ok(true) } else { bail!("name a command") };
    };
    let mut context = Context::new()?;
    match command.as_str() {
        "test" => {
            let mut names = Vec::new();
            let mut arguments = rest.iter().map(String::as_str);
            while let Some(argument) = arguments.next() {
                match argument {
                    "--verbose" | "-v" => context.verbose = true,
                    "--store" => {
                        let store = arguments.next().context("--store needs a value: see cargo xtask --help")?;
                        context.store = Some(store.to_owned());
                    }
                    flag if flag.starts_with('-') => bail!("unknown flag {flag}: see cargo xtask --help"),
                    name => names.push(name),
                }
            }
            steps::test(&context, &names)
        }
        "setup" => setup::command(&context, &rest.iter().map(String::as_str).collect::<Vec<_>>()),
        "instructions" => instructions::command(&context, rest),
        "bench" => bench::run(&context, rest),
        "crash" => steps::crash(&context, number(rest, "--rounds", 500)?),
        "fuzz" => steps::fuzz_long(&context, number(rest, "--runs", 100_000_000)?),
        _ => bail!("unknown command {command}: see cargo xtask --help"),
    }
}

/// The number behind the one flag that a command has.
fn number(arguments: &[String], flag: &str, default: u32) -> Result<u32> {
    let text = match arguments {
        [] => return Ok(default),
        [given, value] if given == flag => value,
        [given] => match given.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            Some(value) => value,
            None => bail!("unknown argument {given}: see cargo xtask --help"),
        },
        _ => bail!("only {flag} N can be given: see cargo xtask --help"),
    };
    let number = text.parse().with_context(|| format!("{flag} {text}: not a number"))?;
    if number == 0 {
        bail!("{flag} 0 would test nothing");
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_spellings() {
        let read = |arguments: &[&str]| {
            number(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>(), "--rounds", 500)
        };
        assert_eq!(read(&[]).unwrap(), 500);
        assert_eq!(read(&["--rounds", "7"]).unwrap(), 7);
        assert_eq!(read(&["--rounds=9"]).unwrap(), 9);
        assert!(read(&["--rounds", "0"]).is_err());
        assert!(read(&["--rounds", "many"]).is_err());
        assert!(read(&["--seed=1"]).is_err());
    }
}
