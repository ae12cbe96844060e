//! Several brokers, each a child process on the file that was written for it. They live as long as this process: what they
//! read from it ends with it, however it ends.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Place, Prepared, Shape, StartedBroker, say};
use crate::command::health;
use crate::config::{Config, Protocol};
use crate::exit::{Failure, Outcome};
use crate::serve::Stop;

/// Before a broker that ended is started again.
const RESTART_AFTER: Duration = Duration::from_secs(2);
/// Between two looks whether a broker is ready.
const LOOKS: Duration = Duration::from_millis(50);

/// Runs them until this process is asked to stop.
pub(super) async fn run(prepared: Vec<Prepared>, place: Place, restarts: bool) -> Outcome {
    let mut asked = Stop::listen()?;
    let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
    let (ended, mut early) = mpsc::channel(prepared.len());
    let (mut keepers, mut started) = (JoinSet::new(), Vec::new());
    for one in &prepared {
        let keeper = Keeper {
            name: one.config.broker.name.clone(),
            file: one.file.clone(),
            restarts,
            ended: ended.clone(),
            stop: stop.clone(),
            kill: kill.clone(),
        };
        let child = keeper.spawn()?;
        started.push(child.0.id().unwrap_or_default());
        keepers.spawn(keeper.keep(child));
    }
    announce(&prepared, &started, &place)?;
    let ready = async {
        for one in &prepared {
            let http = address(&one.config, Protocol::Http, false);
            while !health::is_ready(&http).await {
                sleep(LOOKS).await;
            }
        }
    };
    let outcome = tokio::select! {
        () = asked.asked() => Ok(()),
        Some(name) = early.recv() => {
            Err(Failure::from(anyhow::anyhow!("{name} ended before all brokers were ready; it says above why")))
        }
        () = ready => {
            say("ready");
            tokio::select! {
                () = asked.asked() => {}
                // With --no-restart there may be nobody left.
                () = all(&mut keepers) => {}
            }
            Ok(())
        }
    };
    stop.cancel();
    tokio::select! {
        () = all(&mut keepers) => {}
        () = asked.asked() => {
            kill.cancel();
            all(&mut keepers).await;
        }
    }
    outcome
}

async fn all(keepers: &mut JoinSet<()>) {
    while keepers.join_next().await.is_some() {}
}

/// Keeps one broker running.
struct Keeper {
    name: String,
    file: PathBuf,
    restarts: bool,
    /// Told when the broker ended by itself, and was not killed.
    ended: mpsc::Sender<String>,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Keeper {
    /// A new process, and what it reads from: it ends when that is dropped.
    fn spawn(&self) -> anyhow::Result<(Child, ChildStdin)> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.args(["broker", "--until-input-ends", "--config"]).arg(&self.file);
        command.stdin(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C at a terminal reaches all processes of a group: these are asked by us, once.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        // Taken out: whoever waits for a process closes what it reads from first.
        let input = child.stdin.take().context("a pipe was asked for")?;
        Ok((child, input))
    }

    async fn keep(self, (mut child, mut input): (Child, ChildStdin)) {
        loop {
            let name = &self.name;
            let status = tokio::select! {
                status = child.wait() => status,
                () = self.stop.cancelled() => return self.end(child, input).await,
            };
            match &status {
                Ok(status) => tracing::warn!(broker = %name, %status, restarts = self.restarts, "a broker ended"),
                Err(error) => tracing::warn!(broker = %name, %error, "a broker cannot be waited for"),
            }
            if status.is_ok_and(|status| status.code().is_some()) {
                let _ = self.ended.try_send(name.clone());
            }
            if !self.restarts {
                return;
            }
            loop {
                tokio::select! {
                    () = sleep(RESTART_AFTER) => {}
                    () = self.stop.cancelled() => return,
                }
                match self.spawn() {
                    Ok(again) => break (child, input) = again,
                    Err(error) => tracing::error!(error = %format_args!("{error:#}"), "a broker is not started"),
                }
            }
        }
    }

    /// Asks the broker to drain, and waits for it.
    async fn end(&self, mut child: Child, _input: ChildStdin) {
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            tracing::debug!(%error, broker = %self.name, "it has ended already");
        }
        tokio::select! {
            _ = child.wait() => {}
            () = self.kill.cancelled() => {
                tracing::warn!(broker = %self.name, "stopped at once, before everything was drained");
                let _ = child.kill().await;
            }
        }
    }
}

fn announce(prepared: &[Prepared], pids: &[u32], place: &Place) -> Outcome {
    let brokers = prepared.iter().zip(pids).map(|(Prepared { config, file, .. }, pid)| StartedBroker {
        name: &config.broker.name,
        pid: *pid,
        kafka: address(config, Protocol::Kafka, false),
        quic: address(config, Protocol::Quic, false),
        http: address(config, Protocol::Http, false),
        data_dir: place.data_dir.join(&config.broker.name),
        config: file,
    });
    let brokers: Vec<_> = brokers.collect();
    match place.shape {
        Shape::Json => place.say_json(brokers)?,
        Shape::Table => {
            let (version, data, ca) = (env!("CARGO_PKG_VERSION"), place.data_dir.display(), place.ca.display());
            let (count, kept) = (brokers.len(), place.kept());
            let mut text = format!("Weir {version}, {count} brokers for development; data in {data}, {kept}\n\n");
            for (StartedBroker { name, pid, kafka, http, .. }, one) in brokers.iter().zip(prepared) {
                let tls = address(&one.config, Protocol::Kafka, true);
                text +=
                    &format!("  {name}  Kafka and QUIC {kafka}, TLS {tls}, HTTP http://{http}/readyz, process {pid}\n");
            }
            let all = brokers.iter().map(|broker| broker.kafka.as_str()).collect::<Vec<_>>().join(",");
            let (quic, ca_option) = (&brokers[0].quic, place.ca_option());
            text += &format!(
                "\n  CA        {ca}\n\n\
                 Any Kafka client:  kcat -b {all} -L\n\
                 Over QUIC:         echo hello | weir produce greetings --to quic://{quic}{ca_option}\n"
            );
            say(&text);
        }
    }
    Ok(())
}

/// What clients are told to connect to, or an empty text where `--set` has taken the listener away.
fn address(config: &Config, protocol: Protocol, tls: bool) -> String {
    let found = config.listeners.iter().find(|listener| listener.protocol == protocol && listener.tls == tls);
    found.map(|found| found.advertised.clone().unwrap_or_else(|| found.address.clone())).unwrap_or_default()
}
