//! The built binary as scripts see it: exit codes, what goes to which stream, files, signals.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// How long anything here may take.
const DEADLINE: Duration = Duration::from_secs(60);

fn weir(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    // Nothing of the environment of the tests may reach the command, and no terminal.
    command.env_clear().current_dir(dir).stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    feeds(dir, args, b"")
}

/// Runs a command with something on its standard input, and gives up on one that does not end.
fn feeds(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child =
        weir(dir).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let pid = child.id().to_string();
    let (sender, ended) = sync_channel(1);
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(DEADLINE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
            panic!("{args:?} did not end in {DEADLINE:?}");
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs to a failure and gives what standard error says.
fn fails(dir: &Path, args: &[&str], code: i32) -> String {
    let output = run(dir, args);
    let said = text(&output.stderr).to_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?} wrote to standard output: {}", text(&output.stdout));
    said
}

fn succeeds(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

const CONFIG: &str = "version: 1\nbroker: {name: b1}\nstore: {url: 'memory://'}\nstaging: {dir: /tmp/x}\n";

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("weir.yaml"), CONFIG).unwrap();
    dir
}

#[test]
fn help_and_version_go_to_standard_output_and_wrong_usage_exits_2() {
    let dir = folder();
    assert!(succeeds(dir.path(), &["--version"]).starts_with("weir "));
    let help = succeeds(dir.path(), &["topic", "create", "--help"]);
    assert!(help.contains("Example:"), "{help}");
    assert!(fails(dir.path(), &["no-such-command"], 2).contains("no-such-command"));
    fails(dir.path(), &["broker"], 2);
    assert!(fails(dir.path(), &["topic", "list", "--to", "http://x"], 2).contains("--to"));
    assert!(fails(dir.path(), &["proxy", "--to", "kafka://localhost:1"], 2).contains("quic://"));
    assert!(fails(dir.path(), &["consume", "t", "--from", "yesterday"], 2).contains("yesterday"));
}

#[test]
fn configuration_is_checked_shown_and_described() {
    let dir = folder();
    assert_eq!(succeeds(dir.path(), &["config", "check", "weir.yaml"]), "weir.yaml: valid\n");
    let json =
        succeeds(dir.path(), &["config", "print", "weir.yaml", "--set", "topics.num_partitions=4", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    let found = list.as_array().unwrap().iter().find(|one| one["key"] == "topics.num_partitions").unwrap();
    assert_eq!(found, &serde_json::json!({"key": "topics.num_partitions", "value": 4, "source": "flag"}));
    let table = succeeds(dir.path(), &["config", "print", "weir.yaml"]);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["broker.name", "b1", "file:2"])), "{table}");
    let schema: serde_json::Value = serde_json::from_str(&succeeds(dir.path(), &["config", "schema"])).unwrap();
    assert_eq!(schema["type"], "object");

    std::fs::write(dir.path().join("weir.yaml"), format!("{CONFIG}topics: {{num_partition: 1}}\n")).unwrap();
    let said = fails(dir.path(), &["config", "check", "weir.yaml"], 1);
    assert_eq!(said, "weir: weir.yaml:5: unknown key `topics.num_partition`; did you mean `topics.num_partitions`?\n");
    assert!(fails(dir.path(), &["config", "check", "missing.yaml"], 3).contains("missing.yaml"));
}

#[test]
fn the_environment_counts() {
    let dir = folder();
    let output = weir(dir.path())
        .args(["config", "print", "weir.yaml", "-o", "yaml"])
        .env("WEIR__TOPICS__NUM_PARTITIONS", "7")
        .output()
        .unwrap();
    assert!(text(&output.stdout).contains("num_partitions: 7  # env:WEIR__TOPICS__NUM_PARTITIONS"));
}

#[test]
fn whoever_does_not_answer_is_not_reachable() {
    let dir = folder();
    // Bound and not listening: nobody else takes the port, and nobody answers.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(fails(dir.path(), &["health", "--http", &address], 4).contains("does not answer"));
}

#[test]
fn a_broker_that_is_not_ready_fails_its_health_check() {
    let dir = folder();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 16];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"GET /readyz?verb");
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\nit recovers").unwrap();
        // Read to the end, so that closing does not cut the answer off.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(fails(dir.path(), &["health", "--http", &address], 1).contains("not ready: it recovers"));
    answering.join().unwrap();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = folder();
    let mut child =
        weir(dir.path()).args(["config", "schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn completions_are_scripts() {
    let dir = folder();
    for shell in ["bash", "zsh", "fish"] {
        assert!(succeeds(dir.path(), &["completions", shell]).contains("weir"), "{shell}");
    }
}

/// A `weir dev` with the lines that it prints.
struct Dev {
    child: Child,
    lines: Receiver<String>,
}

impl Dev {
    fn start(dir: &Path, args: &[&str]) -> Dev {
        let common = ["dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json"];
        let mut child =
            weir(dir).args(common).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(16);
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Dev { child, lines }
    }

    fn line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(_) => {
                let _ = self.child.kill();
                let mut said = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("weir dev printed nothing more; it said: {said}");
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn dev_says_where_it_is_serves_and_drains_at_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &["--set", "topics.num_partitions=4"]);
    let started: serde_json::Value = serde_json::from_str(&dev.line()).unwrap();
    assert_eq!(dev.line(), "ready");
    let broker = &started["brokers"][0];
    assert_eq!(broker["pid"], dev.child.id());
    assert_eq!(broker["name"], "broker-1");
    let data = dir.path().canonicalize().unwrap().join("weir-data");
    assert_eq!(Path::new(broker["data_dir"].as_str().unwrap()), data.join("broker-1"));
    assert!(Path::new(started["ca"].as_str().unwrap()).is_file());
    let http = broker["http"].as_str().unwrap();
    assert_eq!(succeeds(dir.path(), &["health", "--http", http]), "ready\n");

    // The file that it wrote is a configuration, with what was set.
    let file = broker["config"].as_str().unwrap();
    let shown = succeeds(dir.path(), &["config", "print", file]);
    assert!(shown.lines().any(|line| line.starts_with("topics.num_partitions") && line.contains(" 4 ")), "{shown}");

    // The folder is taken.
    let said = fails(dir.path(), &["dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], 1);
    assert!(said.contains(&format!("in use by the process {}", dev.child.id())), "{said}");

    dev.signal("-TERM");
    let (code, said) = dev.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("ERROR"), "{said}");
}

#[test]
fn a_temporary_folder_is_gone_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &["--temp"]);
    let started: serde_json::Value = serde_json::from_str(&dev.line()).unwrap();
    let data = started["brokers"][0]["data_dir"].as_str().unwrap().to_owned();
    assert_eq!(dev.line(), "ready");
    assert!(Path::new(&data).is_dir());
    dev.signal("-INT");
    assert_eq!(dev.end().0, Some(0));
    assert!(!Path::new(&data).exists());
    assert!(!dir.path().join("weir-data").exists());
}

#[test]
fn records_go_in_over_one_transport_and_come_out_over_every_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &[]);
    let started: serde_json::Value = serde_json::from_str(&dev.line()).unwrap();
    assert_eq!(dev.line(), "ready");
    let address = |name: &str| started["brokers"][0][name].as_str().unwrap().to_owned();
    let (quic, tcp) = (format!("quic://{}", address("quic")), format!("kafka://{}", address("kafka")));
    let to = |args: &[&'static str], url: &str| -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).chain(["--to".to_owned(), url.to_owned()]).collect()
    };
    let run = |args: &[&'static str], url: &str| -> String {
        let args = to(args, url);
        succeeds(dir.path(), &args.iter().map(String::as_str).collect::<Vec<_>>())
    };

    assert_eq!(run(&["topic", "create", "t", "--partitions", "3"], &quic), "created t with 3 partitions\n");
    // Values, tombstones, bytes that are no text, headers: all of it survives the way in and out.
    let records = concat!(
        r#"{"key":"a","value":"1","headers":[{"key":"h","value":"x"},{"key":"h","value":null}]}"#,
        "\n",
        r#"{"key":"b","value":null}"#,
        "\n",
        r#"{"key":null,"value":null,"value_base64":"/wA="}"#,
        "\n",
    );
    let args = to(&["produce", "t", "--format", "json", "--compression", "zstd"], &quic);
    let output = feeds(dir.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), records.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).starts_with("3 records (5 bytes) written to t in "), "{}", text(&output.stderr));
    let read = run(&["consume", "t", "--until-end", "--format", "json"], &tcp);
    let strip = |line: &str| -> serde_json::Value {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        for place in ["topic", "partition", "offset", "timestamp"] {
            assert!(record.as_object_mut().unwrap().remove(place).is_some(), "{line}");
        }
        record
    };
    let mut read: Vec<String> = read.lines().map(|line| strip(line).to_string()).collect();
    let mut sent: Vec<String> =
        records.lines().map(|line| line.parse::<serde_json::Value>().unwrap().to_string()).collect();
    read.sort();
    sent.sort();
    assert_eq!(read, sent);

    // A group reads each record once, and can be moved.
    let group = ["consume", "t", "--group", "g", "--until-end", "--format", "json", "--from", "start"];
    assert_eq!(run(&group, &quic).lines().count(), 3);
    assert_eq!(run(&group, &quic), "");
    run(&["group", "reset", "g", "--from", "start"], &quic);
    assert_eq!(run(&group, &quic), "", "nothing moves without --execute");
    run(&["group", "reset", "g", "--from", "start", "--execute"], &quic);
    let described: serde_json::Value =
        serde_json::from_str(&run(&["group", "describe", "g", "-o", "json"], &quic)).unwrap();
    let lag: i64 = described["offsets"].as_array().unwrap().iter().map(|one| one["lag"].as_i64().unwrap()).sum();
    assert_eq!(lag, 3, "{described}");

    // A client of TCP that goes through the proxy stays with it, whatever the broker advertises.
    let mut proxy = weir(dir.path())
        .args(["proxy", "--listen", "127.0.0.1:0", "--to", &quic])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(proxy.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let local = line.strip_prefix("listening on ").and_then(|rest| rest.split(',').next()).unwrap();
    let through = run(
        &[
            "consume",
            "t",
            "--until-end",
            "--format",
            "json",
            "--partition",
            "0",
            "--partition",
            "1",
            "--partition",
            "2",
        ],
        &format!("kafka://{local}"),
    );
    assert_eq!(through.lines().count(), 3);
    proxy.kill().unwrap();
    proxy.wait().unwrap();

    let missing = to(&["consume", "missing"], &quic);
    assert!(fails(dir.path(), &missing.iter().map(String::as_str).collect::<Vec<_>>(), 3).contains("missing"));
    let list = to(&["topic", "list"], "kafka://127.0.0.1:1");
    fails(dir.path(), &list.iter().map(String::as_str).collect::<Vec<_>>(), 4);
}

#[test]
fn a_consumer_that_is_interrupted_exits_130() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &[]);
    let started: serde_json::Value = serde_json::from_str(&dev.line()).unwrap();
    assert_eq!(dev.line(), "ready");
    let url = format!("quic://{}", started["brokers"][0]["quic"].as_str().unwrap());
    assert_eq!(feeds(dir.path(), &["produce", "t", "--to", &url], b"one\n").status.code(), Some(0));
    let mut consumer = weir(dir.path())
        .args(["consume", "t", "--group", "g", "--to", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(consumer.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    assert!(Command::new("kill").args(["-INT", &consumer.id().to_string()]).status().unwrap().success());
    assert_eq!(consumer.wait().unwrap().code(), Some(130));
    // It left its group and committed what it had written out: the next member goes on at once.
    let again = succeeds(dir.path(), &["consume", "t", "--group", "g", "--until-end", "--to", &url]);
    assert_eq!(again, "");
}
