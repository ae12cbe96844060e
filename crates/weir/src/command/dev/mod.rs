//! `weir dev`: a broker for development, or several, with everything they need in one folder.
//!
//! The folder holds `tls/` (the development CA, and in `tls/peers/` the one of brokers), `store/` (the object store, unless
//! `--store` names another), and for each broker `NAME/weir.yaml` (the configuration, written for you to read and to reuse)
//! and `NAME/staging/`. One broker runs in this process; several are child processes (`many.rs`).

mod many;

use std::net::{TcpListener, UdpSocket};
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

/// What each broker's ports are further on than those of the one before.
const PORTS_APART: u16 = 100;
/// How much further on than the Kafka port a broker listens for others.
const PEER_PORT_AFTER: u16 = 3;
/// As many as the ports have room for, and more than a laptop wants.
const BROKERS_MAX: u16 = 32;

/// Run a broker for development, or several: everything embedded, data kept in a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir dev --set topics.num_partitions=4\n  \
    weir dev --brokers 3\n  \
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
    /// How many brokers. Each of several is a process of its own (`weir broker`), on ports that are 100 further on than
    /// those of the one before.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(BROKERS_MAX)))]
    brokers: u16,
    /// Leave a broker alone that ended, instead of starting it again after two seconds.
    #[arg(long)]
    no_restart: bool,
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
    if args.brokers > 1 && args.store.as_deref().is_some_and(|url| url.starts_with("memory:")) {
        return Err(Failure::usage("--brokers: several processes cannot share a store in the memory of one"));
    }
    let (mut prepared, mut free) = (Vec::new(), FreePorts::default());
    for nth in 0..args.brokers {
        prepared.push(prepare(&args, &data_dir, nth, &mut free, &environment)?);
    }
    drop(free);
    logging::start(&prepared[0].config.log)?;
    if args.create_bucket {
        create_bucket(&prepared[0].config.store).await?;
    }
    let place = Place { shape: args.output, data_dir, kept: temporary.is_none(), ca: prepared[0].ca.clone() };
    if args.brokers > 1 {
        return many::run(prepared, place, !args.no_restart).await;
    }
    let Prepared { config, file, .. } = prepared.remove(0);
    let announcement = Announcement { place, config: file, broker: config.broker.name.clone() };
    serve::serve(config, environment, announcement).await
}

/// The name of a broker, counted from 0.
fn name_of(nth: u16) -> String {
    format!("broker-{}", nth + 1)
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

/// The ports of one broker.
struct Ports {
    kafka: u16,
    tls: u16,
    peer: u16,
    http: u16,
}

impl Ports {
    /// Those of a broker, counted from 0, when the first one's are given; 0 is any free one.
    fn of(nth: u16, brokers: u16, kafka: u16, http: u16, free: &mut FreePorts) -> Result<Self, Failure> {
        let mut further = |port: u16, by: u16| match port {
            // Others are told of it before it is bound, where there are others.
            0 if brokers > 1 => free.take(),
            0 => Ok(0),
            port => port.checked_add(by).ok_or_else(|| {
                Failure::usage(format!("--listen, --http: a port after {port} is needed, and there is none"))
            }),
        };
        let by = nth * PORTS_APART;
        Ok(Self {
            kafka: further(kafka, by)?,
            tls: further(kafka, by + 1)?,
            peer: further(kafka, by + PEER_PORT_AFTER)?,
            http: further(http, by)?,
        })
    }
}

/// Ports that are free, for TCP and for UDP. None is given twice: they are kept until all are found.
#[derive(Default)]
struct FreePorts(Vec<(TcpListener, UdpSocket)>);

impl FreePorts {
    fn take(&mut self) -> Result<u16, Failure> {
        // One that is free for TCP is mostly free for UDP, too.
        for _ in 0..100 {
            let tcp = TcpListener::bind(("127.0.0.1", 0))?;
            let port = tcp.local_addr()?.port();
            if let Ok(udp) = UdpSocket::bind(("127.0.0.1", port)) {
                self.0.push((tcp, udp));
                return Ok(port);
            }
        }
        Err(anyhow::anyhow!("no port is free").into())
    }
}

fn prepare(
    args: &DevArgs,
    data_dir: &Path,
    nth: u16,
    free: &mut FreePorts,
    environment: &Environment,
) -> Result<Prepared, Failure> {
    let name = name_of(nth);
    let (host, port) = split_host_port(&args.listen)
        .ok_or_else(|| Failure::usage(format!("--listen {} must be HOST:PORT", args.listen)))?;
    let (http_host, http_port) =
        split_host_port(&args.http).ok_or_else(|| Failure::usage(format!("--http {} must be HOST:PORT", args.http)))?;
    let ports = Ports::of(nth, args.brokers, port, http_port, free)?;
    let mut names: Vec<String> = tls::dev::LOCAL_NAMES.iter().map(|name| (*name).to_owned()).collect();
    if !is_wildcard(host) {
        names.push(host.to_owned());
    }
    let tls_dir = data_dir.join("tls");
    let files = tls::dev::ensure(&tls_dir, &names, environment.clock.as_ref()).map_err(anyhow::Error::from)?;
    let [host, http_host] = [host, http_host].map(bracketed);
    let advertised_host =
        if is_wildcard(host.trim_matches(['[', ']'])) { "localhost".to_owned() } else { host.clone() };
    let listener = |name: &str, protocol: &str, port: u16, tls: bool| {
        json!({
            "name": name, "protocol": protocol, "tls": tls,
            "address": format!("{host}:{port}"), "advertised": format!("{advertised_host}:{port}"),
        })
    };
    let mut listeners = vec![
        listener("kafka", "kafka", ports.kafka, false),
        listener("tls", "kafka", ports.tls, true),
        listener("quic", "quic", ports.kafka, false),
        json!({"name": "http", "protocol": "http", "address": format!("{http_host}:{}", ports.http)}),
    ];
    let mut tls = json!({"certificate_file": files.server.certificate, "key_file": files.server.key});
    if args.brokers > 1 {
        let peers = tls::dev::ensure_peer(&tls_dir.join("peers"), &names, environment.clock.as_ref());
        let peers = peers.map_err(anyhow::Error::from)?;
        listeners.push(listener("peer", "peer", ports.peer, false));
        tls["peer_certificate_file"] = json!(peers.server.certificate);
        tls["peer_key_file"] = json!(peers.server.key);
        tls["peer_ca_file"] = json!(peers.ca);
    }
    let base = json!({
        "version": 1,
        "broker": {"name": name},
        "store": {"url": store_url(args, data_dir)},
        "staging": {"dir": staging_dir(args, data_dir, &name)?},
        "listeners": listeners,
        "tls": tls,
        "topics": {"auto_create": true},
        "groups": {"initial_rebalance_delay_ms": 0, "session_timeout_min_ms": 1},
        "log": {"level": "warn"},
    });
    let file = data_dir.join(&name).join("weir.yaml");
    let text = write_config(&file, &base, &args.set)?;
    let loaded = parse(&file.display().to_string(), &text, &args.set)?;
    Ok(Prepared { config: loaded.config, file, ca: files.ca })
}

/// A host as it stands before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// What was staged for a store in memory belongs to nothing once its process is gone: it has a folder of its own, which
/// begins empty.
fn staging_dir(args: &DevArgs, data_dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let broker = data_dir.join(name);
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

/// Where everything lies, and how it is told.
struct Place {
    shape: Shape,
    data_dir: PathBuf,
    kept: bool,
    ca: PathBuf,
}

impl Place {
    /// The line that is printed instead of the block.
    fn say_json(&self, brokers: Vec<StartedBroker<'_>>) -> Outcome {
        say(&serde_json::to_string(&Started { brokers, ca: &self.ca })?);
        Ok(())
    }

    fn kept(&self) -> &'static str {
        if self.kept { "kept between runs" } else { "thrown away at the end" }
    }

    /// What a line to paste needs to find the CA; nothing where it is found without being named.
    fn ca_option(&self) -> String {
        let found = crate::connection::development_ca().is_some_and(|ca| ca == self.ca);
        if found { String::new() } else { format!(" --ca {}", self.ca.display()) }
    }
}

/// What is printed when the broker listens, and when it is ready.
struct Announcement {
    place: Place,
    config: PathBuf,
    broker: String,
}

#[derive(Serialize)]
struct Started<'a> {
    brokers: Vec<StartedBroker<'a>>,
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
        let place = &self.place;
        match place.shape {
            Shape::Json => {
                let data_dir = place.data_dir.join(&self.broker);
                let (name, pid, config) = (self.broker.as_str(), std::process::id(), self.config.as_path());
                place.say_json(vec![StartedBroker { name, pid, kafka, quic, http, data_dir, config }])?;
            }
            Shape::Table => {
                let tls = address(Protocol::Kafka, true);
                let (version, data, ca) = (env!("CARGO_PKG_VERSION"), place.data_dir.display(), place.ca.display());
                let (kept, ca_option) = (place.kept(), place.ca_option());
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
