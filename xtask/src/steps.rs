//! The steps of `cargo xtask test`: what each does, running them, counting tests, and the last line.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache::Context,
    instructions, links,
    process::{Log, Moment},
    s3::{Kind, Server},
    setup,
};

/// One step. Its tools are installed before the first step runs.
struct Step {
    name: &'static str,
    what: &'static str,
    tools: &'static [&'static str],
    run: fn(&Context, &setup::Outcome, &mut Log) -> Result<Count>,
}

/// What a step found. A step that is no test run is one test.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Count {
    passed: u32,
    failed: u32,
}

impl Count {
    const PASSED: Self = Self { passed: 1, failed: 0 };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

const STEPS: &[Step] = &[
    Step { name: "format", what: "rustfmt finds nothing to change", tools: &[], run: format },
    Step { name: "links", what: "links and anchors in the documents lead somewhere", tools: &[], run: docs_links },
    Step { name: "lint", what: "clippy on all targets, warnings are errors", tools: &[], run: lint },
    Step { name: "deny", what: "licences, bans and sources of dependencies", tools: &["cargo-deny"], run: deny },
    Step { name: "unit", what: "unit and property tests, wire vectors, with a MinIO", tools: &["minio"], run: unit },
    Step { name: "doc", what: "examples in the documentation of the code", tools: &[], run: doc },
    Step {
        name: "clients",
        what: "real clients and servers against a running broker",
        tools: &["python", "node", "go", "java", "kcat", "minio", "versitygw", "s3s-fs", "azurite"],
        run: clients,
    },
    Step {
        name: "instructions",
        what: "a produce and a fetch take as many instructions as they did",
        tools: &["valgrind"],
        run: instructions,
    },
    Step { name: "memory", what: "the fast end-to-end tests over a store in memory", tools: &[], run: memory },
    Step {
        name: "crash",
        what: "a loaded broker is killed again and again",
        tools: &["minio", "versitygw"],
        run: crash_step,
    },
    Step { name: "fuzz", what: "each fuzz target for 20 s, from its corpus", tools: &["cargo-fuzz"], run: fuzz },
];

/// What each file in `tests/tests` needs; a file that is not here needs nothing.
const TOOLS_OF_TESTS: &[(&str, &[&str])] = &[
    ("newcomer", &["python"]),
    ("clients_python", &["python"]),
    ("clients_node", &["node"]),
    ("clients_go", &["go"]),
    ("clients_java", &["java", "python"]),
    ("clients_kcat", &["kcat", "python"]),
    ("proxy_quic", &["python"]),
    ("object_store", &["minio", "versitygw"]),
    ("azure", &["azurite"]),
    ("cold_reads", &["versitygw"]),
    ("lost_answers", &["minio"]),
    ("store_weather", &["minio"]),
    ("doctor", &["minio", "versitygw", "s3s-fs"]),
    ("store_encryption", &["minio"]),
    ("retention", &["minio"]),
    ("stores", &["minio", "versitygw", "s3s-fs"]),
];

/// Tests of protocol and connections, in seconds: they need nothing that is installed, and start no broker twice.
const FAST_TESTS: &[&str] = &["every_version", "fetch_sessions"];

/// A step ends within this, or is killed.
const DEADLINE: Duration = Duration::from_secs(40 * 60);
const FUZZ_SECONDS: u32 = 20;
/// A long form ends within this, for each part of it.
const LONG: Duration = Duration::from_secs(12 * 3600);
/// So much of a failed step's output is shown; the log has all of it.
const SHOWN_LINES: usize = 2000;

/// One line per step.
pub(crate) fn help() -> String {
    STEPS.iter().map(|step| format!("  {:<12} {}\n", step.name, step.what)).collect()
}

/// `cargo xtask test`: whether everything passed.
pub(crate) fn test(context: &Context, names: &[&str]) -> Result<bool> {
    for name in names {
        if !STEPS.iter().any(|step| step.name == *name) {
            bail!("no step is called {name}; there are:\n{}", help());
        }
    }
    let steps: Vec<&Step> = STEPS.iter().filter(|s| names.is_empty() || names.contains(&s.name)).collect();
    let started = Moment::now();
    let mut total = Count::default();
    let tools: Vec<&str> = steps.iter().flat_map(|step| step.tools).copied().collect();
    let outcome = if tools.is_empty() {
        setup::Outcome::default()
    } else {
        println!("== setup: what the tests need, into {}", context.cache.display());
        setup::ensure(context, &tools)?
    };
    total.failed += u32::try_from(outcome.failed.len())?;
    for step in steps {
        total.add(run_step(context, &outcome, step));
    }
    println!("all steps: {:.0} s", started.elapsed().as_secs_f64());
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0 && total.passed > 0)
}

/// `cargo xtask crash`.
pub(crate) fn crash(context: &Context, rounds: u32) -> Result<bool> {
    let mut log = Log::create(context.log("crash-long")?, true)?;
    build_broker(context, &mut log)?;
    let mut command = test_command(context, &setup::Outcome::default(), &[]);
    command.args(["--test", "crash", "--", "--nocapture"]);
    command.env("WEIR_CRASH_ROUNDS", rounds.to_string());
    // Ten seconds a round are many times what one takes.
    let deadline = Duration::from_secs(600 + 10 * u64::from(rounds));
    let count = run_tests(&mut log, &mut command, deadline)?;
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(count.failed == 0 && count.passed > 0)
}

fn run_step(context: &Context, outcome: &setup::Outcome, step: &Step) -> Count {
    println!("== {}: {}", step.name, step.what);
    let started = Moment::now();
    let log = context.log(step.name).and_then(|path| Log::create(path, context.verbose));
    let result = log.and_then(|mut log| {
        let result = (step.run)(context, outcome, &mut log);
        let text = log.text()?;
        if !context.verbose && result.as_ref().map_or(true, |count| count.failed > 0) {
            print!("{}", tail(&text));
        }
        result
    });
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok(Count { passed, failed: 0 }) => {
            println!("   ok in {seconds:.1} s ({passed} passed)");
            Count { passed, failed: 0 }
        }
        Ok(count) => {
            println!("   FAILED in {seconds:.1} s ({} passed, {} failed)", count.passed, count.failed);
            count
        }
        Err(error) => {
            println!("   FAILED in {seconds:.1} s: {error:#}");
            Count { passed: 0, failed: 1 }
        }
    }
}

/// The end of a log, with a word where lines are left out.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(SHOWN_LINES);
    let mut shown = if skipped > 0 { format!("… {skipped} lines before\n") } else { String::new() };
    for line in &lines[skipped..] {
        shown += line;
        shown.push('\n');
    }
    shown
}

fn cargo(context: &Context) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(&context.root).env("CARGO_TERM_COLOR", "never");
    command
}

fn format(context: &Context, _: &setup::Outcome, log: &mut Log) -> Result<Count> {
    log.run(cargo(context).args(["fmt", "--all", "--check"]), DEADLINE)?;
    if context.root.join("tests/fuzz/Cargo.toml").exists() {
        log.run(cargo(context).args(["fmt", "--check", "--manifest-path", "tests/fuzz/Cargo.toml"]), DEADLINE)?;
    }
    Ok(Count::PASSED)
}

fn docs_links(context: &Context, _: &setup::Outcome, log: &mut Log) -> Result<Count> {
    let broken = links::broken(&context.root)?;
    for problem in &broken {
        log.line(problem)?;
    }
    Ok(if broken.is_empty() { Count::PASSED } else { Count { passed: 0, failed: u32::try_from(broken.len())? } })
}

fn lint(context: &Context, _: &setup::Outcome, log: &mut Log) -> Result<Count> {
    log.run(cargo(context).args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]), DEADLINE)?;
    Ok(Count::PASSED)
}

fn deny(context: &Context, _: &setup::Outcome, log: &mut Log) -> Result<Count> {
    // Advisories are left out: their database is a git repository that cannot be reached from where the tests run
    // (package registries only). `cargo deny check advisories` does it where it can be.
    let mut check = Command::new(context.bin("cargo-deny"));
    check.args(["--workspace", "check", "licenses", "bans", "sources"]).current_dir(&context.root);
    log.run(&mut check, DEADLINE)?;
    Ok(Count::PASSED)
}

fn unit(context: &Context, outcome: &setup::Outcome, log: &mut Log) -> Result<Count> {
    let servers = start_servers(context, outcome, &[Kind::MinIo])?;
    let mut command = test_command(context, outcome, &servers);
    command.args(["--lib", "--bins", "--examples"]);
    for name in crate_tests(context)? {
        command.args(["--test", &name]);
    }
    run_tests(log, &mut command, DEADLINE)
}

fn instructions(context: &Context, outcome: &setup::Outcome, log: &mut Log) -> Result<Count> {
    if !outcome.ready.contains("valgrind") {
        println!("   left out: there is no valgrind");
        return Ok(Count::default());
    }
    let (passed, failed) = instructions::guard(context, log)?;
    Ok(Count { passed, failed })
}

fn doc(context: &Context, outcome: &setup::Outcome, log: &mut Log) -> Result<Count> {
    let mut command = test_command(context, outcome, &[]);
    command.arg("--doc");
    run_tests(log, &mut command, DEADLINE)
}

fn clients(context: &Context, outcome: &setup::Outcome, log: &mut Log) -> Result<Count> {
    let mut chosen = vec![];
    for name in test_files(context)? {
        let tools = TOOLS_OF_TESTS.iter().find(|(test, _)| *test == name).map_or(&[] as &[&str], |(_, tools)| tools);
        match tools.iter().find(|tool| !outcome.ready.contains(*tool)) {
            None if name != "crash" => chosen.push(name),
            None => {}
            Some(tool) => println!("   left out: {name}, for it needs {tool}"),
        }
    }
    if chosen.is_empty() {
        bail!("nothing that these tests need is installed");
    }
    build_broker(context, log)?;
    let servers = start_servers(context, outcome, &Kind::ALL)?;
    let mut command = test_command(context, outcome, &servers);
    command.env("WEIR_TEST_STORE", stores(context, &servers)?);
    for name in &chosen {
        command.args(["--test", name]);
    }
    // Most of them wait for a server, a clock or a killed process; those that measure take a lock against each other.
    command.args(["--", "--test-threads=4"]);
    run_tests(log, &mut command, DEADLINE)
}

fn memory(context: &Context, outcome: &setup::Outcome, log: &mut Log) -> Result<Count> {
    build_broker(context, log)?;
    let mut command = test_command(context, outcome, &[]);
    command.env("WEIR_TEST_STORE", "memory");
    for name in FAST_TESTS {
        command.args(["--test", name]);
    }
    run_tests(log, &mut command, DEADLINE)
}

fn crash_step(context: &Context, outcome: &setup::Outcome, log: &mut Log) -> Result<Count> {
    build_broker(context, log)?;
    let servers = start_servers(context, outcome, &Kind::ALL)?;
    let mut command = test_command(context, outcome, &servers);
    command.env("WEIR_TEST_STORE", stores(context, &servers)?);
    command.args(["--test", "crash", "--", "--nocapture"]);
    run_tests(log, &mut command, DEADLINE)
}

/// `cargo xtask fuzz`: each target for so many executions, without a sanitizer (none of our code is unsafe), which is
/// some times as fast.
pub(crate) fn fuzz_long(context: &Context, runs: u32) -> Result<bool> {
    setup::ensure(context, &["cargo-fuzz"])?;
    let mut log = Log::create(context.log("fuzz-long")?, true)?;
    let count = fuzz_targets_with(context, &mut log, &["--sanitizer", "none"], &format!("-runs={runs}"), LONG)?;
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(count.failed == 0 && count.passed > 0)
}

fn fuzz(context: &Context, outcome: &setup::Outcome, log: &mut Log) -> Result<Count> {
    if outcome.left_out.contains("cargo-fuzz") {
        println!("   left out: there is no cargo-fuzz");
        return Ok(Count::default());
    }
    fuzz_targets_with(context, log, &[], &format!("-max_total_time={FUZZ_SECONDS}"), DEADLINE)
}

fn fuzz_targets_with(
    context: &Context,
    log: &mut Log,
    build: &[&str],
    until: &str,
    deadline: Duration,
) -> Result<Count> {
    let mut count = Count::default();
    for target in fuzz_targets(context)? {
        let kept = context.cache.join("fuzz").join(&target);
        fs::create_dir_all(&kept)?;
        let mut command = Command::new(context.bin("cargo-fuzz"));
        // `cargo +nightly fuzz` spelled so that this cargo-fuzz is the one that runs.
        command.current_dir(context.root.join("tests")).env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO");
        command.args(["fuzz", "run", "--fuzz-dir", "fuzz"]).args(build).arg(&target);
        // New inputs go to the first folder: the corpus in the repository only grows on purpose.
        command.arg(&kept);
        let corpus = context.root.join("tests/fuzz/corpus").join(&target);
        if corpus.exists() {
            command.arg(corpus);
        }
        command.args(["--", until, "-timeout=10"]);
        match log.run(&mut command, deadline) {
            Ok(()) => count.passed += 1,
            Err(error) => {
                log.line(&format!("fuzz target {target}: {error:#}"))?;
                count.failed += 1;
            }
        }
    }
    if count == Count::default() {
        bail!("tests/fuzz has no targets");
    }
    Ok(count)
}

fn fuzz_targets(context: &Context) -> Result<Vec<String>> {
    names_in(context, "tests/fuzz/fuzz_targets")
}

/// The end-to-end tests.
fn test_files(context: &Context) -> Result<Vec<String>> {
    names_in(context, "tests/tests")
}

/// The integration tests of the crates.
fn crate_tests(context: &Context) -> Result<Vec<String>> {
    let mut names = vec![];
    for entry in fs::read_dir(context.root.join("crates"))? {
        let tests = entry?.path().join("tests");
        if tests.is_dir() {
            names.append(&mut names_in(context, tests)?);
        }
    }
    Ok(names)
}

/// The targets in a folder, sorted: its Rust files without their ending, and the folders that have a `main.rs`.
fn names_in(context: &Context, folder: impl AsRef<Path>) -> Result<Vec<String>> {
    let folder = context.root.join(folder);
    let mut names = vec![];
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if (path.join("main.rs").is_file() || path.extension().is_some_and(|extension| extension == "rs"))
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn build_broker(context: &Context, log: &mut Log) -> Result<()> {
    log.run(cargo(context).args(["build", "--workspace", "--bin", "weir"]), DEADLINE)
}

/// Those that are installed.
fn start_servers(context: &Context, outcome: &setup::Outcome, kinds: &[Kind]) -> Result<Vec<Server>> {
    let installed = kinds.iter().filter(|kind| outcome.ready.contains(kind.tool()));
    installed.map(|kind| Server::start(context, *kind)).collect()
}

/// Where brokers keep their objects in tests that leave it open, as `WEIR_TEST_STORE` says it: by turns.
fn stores(context: &Context, servers: &[Server]) -> Result<String> {
    let urls = |wanted: Option<&str>| {
        let servers = servers.iter().filter(|server| wanted.is_none_or(|wanted| wanted == server.kind.tool()));
        servers.map(|server| server.url.as_str()).collect::<Vec<_>>().join(",")
    };
    match context.store.as_deref() {
        Some(store @ ("folder" | "memory")) => Ok(store.to_owned()),
        None if servers.is_empty() => Ok("folder".to_owned()),
        wanted => match urls(wanted) {
            found if found.is_empty() => bail!("--store {}: no such store is installed", wanted.unwrap_or_default()),
            found => Ok(found),
        },
    }
}

fn test_command(context: &Context, outcome: &setup::Outcome, servers: &[Server]) -> Command {
    let mut command = cargo(context);
    // Of the whole workspace, whatever runs: which features a dependency has, and so what is built, follows from what is chosen.
    command.args(["test", "--no-fail-fast", "--workspace"]).env("WEIR_TEST_CACHE", &context.cache);
    // A test that returns an error says what went wrong; where it was made helps nobody.
    command.env("RUST_LIB_BACKTRACE", "0");
    if let Some(minio) = servers.iter().find(|server| server.kind == Kind::MinIo) {
        command.env("WEIR_TEST_S3", &minio.url);
    }
    if !outcome.left_out.is_empty() {
        // A test that can do with less says so by itself.
        command.env("WEIR_TEST_WITHOUT", outcome.left_out.iter().copied().collect::<Vec<_>>().join(","));
    }
    command
}

fn run_tests(log: &mut Log, command: &mut Command, deadline: Duration) -> Result<Count> {
    let before = log.text()?.len();
    let status = log.status(command, deadline)?;
    let (mut count, ignored) = count_tests(&log.text()?[before..]);
    if ignored > 0 {
        log.line(&format!("{ignored} tests are ignored: nothing may be"))?;
        count.failed += ignored;
    }
    if !status.success() && count.failed == 0 {
        log.line(&format!("cargo test: {status}"))?;
        count.failed += 1;
    }
    if status.success() && count == Count::default() {
        log.line("no test ran")?;
    }
    Ok(count)
}

/// Adds up the lines `test result: ok. 3 passed; 1 failed; 0 ignored; …`: the count, and how many were ignored.
fn count_tests(output: &str) -> (Count, u32) {
    let mut count = Count::default();
    let mut ignored = 0;
    for line in output.lines() {
        let Some((_, numbers)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            continue;
        };
        for part in numbers.split("; ") {
            match part.split_once(' ').map(|(number, word)| (number.parse::<u32>(), word)) {
                Some((Ok(number), "passed")) => count.passed += number,
                Some((Ok(number), "failed")) => count.failed += number,
                Some((Ok(number), "ignored")) => ignored += number,
                _ => {}
            }
        }
    }
    (count, ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_programs_are_added_up() {
        let output = "running 4 tests\ntest a ... ok\n\
            test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s\n";
        assert_eq!(count_tests(output), (Count { passed: 42, failed: 1 }, 1));
        assert_eq!(count_tests("error: could not compile"), (Count::default(), 0));
    }

    #[test]
    fn a_long_log_is_shown_from_its_end() {
        let text: String = (0..SHOWN_LINES + 5).map(|line| format!("{line}\n")).collect();
        let shown = tail(&text);
        assert!(shown.starts_with("… 5 lines before\n5\n"));
        assert!(shown.ends_with(&format!("{}\n", SHOWN_LINES + 4)));
    }

    #[test]
    fn every_step_names_tools_that_exist() {
        let known = setup::help();
        let tools = STEPS.iter().flat_map(|step| step.tools).chain(TOOLS_OF_TESTS.iter().flat_map(|(_, tools)| *tools));
        for tool in tools {
            assert!(known.contains(&format!("  {tool} ")), "{tool}");
        }
    }
}
