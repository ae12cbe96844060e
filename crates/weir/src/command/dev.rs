//! `weir dev`: a broker for development, with everything it needs in one folder.
//!
//! The folder holds `tls/` (the development CA), `store/` (the object store, unless `--store` names another),
//! `NAME/weir.yaml` (the configuration, written for you to read and to reuse) and `NAME/staging/`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use crate::broker::{Address, Broker};
use crate::command::config::parse;
use crate::config::{self, Config, Input, Protocol, is_wildcard, split_host_port};
use crate::environment::Environment;
use crate::exit::{Failure, Outcome};
use crate::lock::Lock;
use crate::logging;
use crate::output;
use crate::serve::{self, Hooks};

/// The name of the one broker.
const NAME: &str = "broker-1";

/// Run a broker for development: everything embedded, data kept in a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir dev --set topics.num_partitions=4\n  \
    weir dev --store \"s3://weir?endpoint=http://127.0.0.1:9000\" --create-bucket\n\n\
    It listens for Kafka clients on TCP, on TLS (the port + 1) and on QUIC (UDP, the same port), prints where, and \
    then one line `ready`. Groups rebalance at once, short session time-outs are allowed, topics are made on first use.")]
pub(crate) struct DevArgs {
    /// The folder for all data; kept between runs.
    #[arg(long, value_name = "DIR", default_value = "weir-data")]
    data_dir: PathBuf,
    /// Where to listen for Kafka clients; TLS takes the port + 1, QUIC the same port on UDP.
    #[arg(long, value_name = "ADDR", default_value = "localhost:9092")]
    listen: String,
    /// Where to listen for health and metrics over HTTP.
    #[arg(long, value_name = "ADDR", default_value = "localhost:9080")]
    http: String,
    /// The object store, instead of a folder in the data folder.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Make the bucket of `--store s3://…` where it is not there yet.
    #[arg(long, requires = "store")]
    create_bucket: bool,
    /// Use a new folder and throw it away at the end.
    #[arg(long, conflicts_with = "data_dir")]
    temp: bool,
    /// Set a configuration key; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What is printed at the start: a block for people, or one line of JSON.
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    output: Shape,
}

/// What is printed at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    /// A block for people.
    #[default]
    Table,
    /// One line of JSON.
    Json,
}

/// Runs the command.
pub(crate) async fn run(args: DevArgs) -> Outcome {
    let temporary = if args.temp { Some(temporary()?) } else { None };
    let data_dir = temporary.as_ref().map_or(args.data_dir.as_path(), |dir| dir.path());
    let data_dir = absolute(data_dir)?;
    let _lock = Lock::take(data_dir.join("weir.lock"))?;
    let environment = Environment::system();
    let prepared = prepare(&args, &data_dir, &environment)?;
    logging::start(&prepared.config.log)?;
    if args.create_bucket {
        create_bucket(&prepared.config.store).await?;
    }
    let announcement = Announcement {
        shape: args.output,
        data_dir,
        kept: temporary.is_none(),
        config: prepared.file,
        ca: prepared.ca,
        broker: prepared.config.broker.name.clone(),
    };
    serve::serve(prepared.config, environment, announcement).await
}

async fn create_bucket(store: &config::Store) -> Outcome {
    let options = store.options().context("the object store's credentials")?;
    let bucket = objects::Bucket::open(&store.url, &options).context("the object store cannot be opened")?;
    let bucket = bucket.ok_or_else(|| Failure::usage("--create-bucket: only buckets of s3:// are made"))?;
    let new = bucket.create().await.with_context(|| format!("cannot make the bucket {}", bucket.name()))?;
    tracing::info!(bucket = bucket.name(), new, "the bucket is there");
    Ok(())
}

fn temporary() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("weir-dev-").tempdir().context("cannot make a temporary folder")
}

/// The folder, made where it is missing, by its absolute name: the configuration file is to work from anywhere.
fn absolute(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    dir.canonicalize().with_context(|| format!("cannot find the folder {}", dir.display()))
}

/// Everything that lies in the folder before the broker starts.
struct Prepared {
    config: Config,
    file: PathBuf,
    ca: PathBuf,
}

fn prepare(args: &DevArgs, data_dir: &Path, environment: &Environment) -> Result<Prepared, Failure> {
    let (host, port) = split_host_port(&args.listen)
        .ok_or_else(|| Failure::usage(format!("--listen {} must be HOST:PORT", args.listen)))?;
    split_host_port(&args.http).ok_or_else(|| Failure::usage(format!("--http {} must be HOST:PORT", args.http)))?;
    let tls_port = match port {
        0 => 0,
        port => {
            port.checked_add(1).ok_or_else(|| Failure::usage("--listen: TLS takes the port + 1, and 65535 has none"))?
        }
    };
    let mut names: Vec<String> = tls::dev::LOCAL_NAMES.iter().map(|name| (*name).to_owned()).collect();
    if !is_wildcard(host) {
        names.push(host.to_owned());
    }
    let tls_dir = data_dir.join("tls");
    let files = tls::dev::ensure(&tls_dir, &names, environment.clock.as_ref()).map_err(anyhow::Error::from)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let advertised_host =
        if is_wildcard(host.trim_matches(['[', ']'])) { "localhost".to_owned() } else { host.clone() };
    let listener = |name: &str, protocol: &str, port: u16, tls: bool| {
        json!({
            "name": name, "protocol": protocol, "tls": tls,
            "address": format!("{host}:{port}"), "advertised": format!("{advertised_host}:{port}"),
        })
    };
    let base = json!({
        "version": 1,
        "broker": {"name": NAME},
        "store": {"url": store_url(args, data_dir)},
        "staging": {"dir": staging_dir(args, data_dir)?},
        "listeners": [
            listener("kafka", "kafka", port, false),
            listener("tls", "kafka", tls_port, true),
            listener("quic", "quic", port, false),
            {"name": "http", "protocol": "http", "address": args.http},
        ],
        "tls": {"certificate_file": files.server.certificate, "key_file": files.server.key},
        "topics": {"auto_create": true},
        "groups": {"initial_rebalance_delay_ms": 0, "session_timeout_min_ms": 1},
        "log": {"level": "warn"},
    });
    let file = data_dir.join(NAME).join("weir.yaml");
    let text = write_config(&file, &base, &args.set)?;
    let loaded = parse(&file.display().to_string(), &text, &args.set)?;
    Ok(Prepared { config: loaded.config, file, ca: files.ca })
}

/// What was staged for a store in memory belongs to nothing once its process is gone: it has a folder of its own, which
/// begins empty.
fn staging_dir(args: &DevArgs, data_dir: &Path) -> anyhow::Result<PathBuf> {
    let broker = data_dir.join(NAME);
    if !args.store.as_deref().is_some_and(|url| url.starts_with("memory:")) {
        return Ok(broker.join("staging"));
    }
    let staging = broker.join("staging-of-memory");
    match std::fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot empty {}", staging.display()))
        }
        _ => Ok(staging),
    }
}

fn store_url(args: &DevArgs, data_dir: &Path) -> String {
    args.store.clone().unwrap_or_else(|| {
        // A path in a URL: everything that is not plain is percent-encoded.
        let mut url = "file://".to_owned();
        for byte in data_dir.join("store").display().to_string().bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
                url.push(char::from(byte));
            } else {
                url.push_str(&format!("%{byte:02X}"));
            }
        }
        url
    })
}

/// Writes the configuration file and gives its text. `--set` values are in it, so that it can be used again as it is.
fn write_config(file: &Path, base: &Value, sets: &[String]) -> Result<String, Failure> {
    let name = file.display().to_string();
    let text = serde_saphyr::to_string(base).map_err(anyhow::Error::from)?;
    let memory_bytes = config::memory::available();
    let loaded = config::load(&Input { name: "weir dev", text: &text, environment: Vec::new(), sets, memory_bytes })?;
    let mut chosen = config::chosen(&loaded)?;
    // The version comes first, as people write it.
    if let Some(map) = chosen.as_object_mut() {
        map.remove("version");
    }
    let body = serde_saphyr::to_string(&chosen).map_err(anyhow::Error::from)?;
    let text = format!(
        "# Written by `weir dev`, which writes it anew at each start.\n# To use it: weir broker --config {name}\n\
         version: {}\n{}\n",
        loaded.config.version,
        body.trim_end(),
    );
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    std::fs::write(file, &text).with_context(|| format!("cannot write {name}"))?;
    Ok(text)
}

/// What is printed when the broker listens, and when it is ready.
struct Announcement {
    shape: Shape,
    data_dir: PathBuf,
    kept: bool,
    config: PathBuf,
    ca: PathBuf,
    broker: String,
}

#[derive(Serialize)]
struct Started<'a> {
    brokers: [StartedBroker<'a>; 1],
    ca: &'a Path,
}

#[derive(Serialize)]
struct StartedBroker<'a> {
    name: &'a str,
    pid: u32,
    kafka: String,
    quic: String,
    http: String,
    data_dir: PathBuf,
    config: &'a Path,
}

impl Hooks for Announcement {
    fn listening(&self, broker: &Broker) -> Outcome {
        let address = |protocol, tls| find(&broker.addresses, protocol, tls);
        let kafka = address(Protocol::Kafka, false);
        let quic = address(Protocol::Quic, true);
        let http = address(Protocol::Http, false);
        match self.shape {
            Shape::Json => {
                let data_dir = self.data_dir.join(&self.broker);
                let (name, pid, config) = (self.broker.as_str(), std::process::id(), self.config.as_path());
                let brokers = [StartedBroker { name, pid, kafka, quic, http, data_dir, config }];
                let line = serde_json::to_string(&Started { brokers, ca: &self.ca })?;
                say(&line);
            }
            Shape::Table => {
                let tls = address(Protocol::Kafka, true);
                let (version, data, ca) = (env!("CARGO_PKG_VERSION"), self.data_dir.display(), self.ca.display());
                let kept = if self.kept { "kept between runs" } else { "thrown away at the end" };
                // Where the CA is found without being named, the line to paste does without it.
                let found = crate::connection::development_ca().is_some_and(|ca| ca == self.ca);
                let ca_option = if found { String::new() } else { format!(" --ca {ca}") };
                say(&format!(
                    "Weir {version}, one broker for development; data in {data}, {kept}\n\n  \
                       Kafka  {kafka}\n  \
                       TLS    {tls}\n  \
                       QUIC   {quic} (UDP)\n  \
                       HTTP   http://{http}/readyz\n  \
                       CA     {ca}\n\n\
                     Any Kafka client:  kcat -b {kafka} -L\n\
                     Over QUIC:         echo hello | weir produce greetings --to quic://{quic}{ca_option}\n"
                ));
            }
        }
        Ok(())
    }

    fn ready(&self) -> Outcome {
        say("ready");
        Ok(())
    }
}

/// A broker goes on when nobody reads what it prints.
fn say(text: &str) {
    if output::text(text).is_err() {
        tracing::debug!("standard output is closed");
    }
}

/// What clients are told to connect to, or an empty text where `--set` has taken the listener away.
fn find(addresses: &[Address], protocol: Protocol, tls: bool) -> String {
    let found = addresses.iter().find(|address| address.protocol == protocol && address.tls == tls);
    found.map(Address::advertised).unwrap_or_default()
}
