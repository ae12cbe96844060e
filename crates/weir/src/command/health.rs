//! `weir health`: asks a broker whether it is ready, for probes in images that have no shell and no curl.

use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// How much of an answer is read: readiness is told in less.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Ask a broker whether it is ready.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir health --http 127.0.0.1:9080\n\n\
    Exits 0 when the broker is ready, 1 when it is not, 4 when nobody answers.")]
pub(crate) struct HealthArgs {
    /// The HTTP address of the broker.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9080")]
    http: String,
    /// How long to wait for the answer, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    timeout_ms: u64,
}

/// Runs the command.
pub(crate) async fn run(args: HealthArgs) -> Outcome {
    let address = args.http.trim_start_matches("http://").trim_end_matches('/');
    let asked = tokio::time::timeout(Duration::from_millis(args.timeout_ms), ask(address)).await;
    let answer = match asked {
        Err(_) => return Err(unreachable(address, format!("no answer within {} ms", args.timeout_ms))),
        Ok(Err(error)) => return Err(unreachable(address, format!("{error:#}"))),
        Ok(Ok(answer)) => answer,
    };
    if answer.status == 200 {
        return output::text("ready");
    }
    Err(Failure::new(Exit::Failed, format!("the broker at {address} is not ready: {}", answer.body.trim())))
}

fn unreachable(address: &str, why: String) -> Failure {
    Failure::new(Exit::Unreachable, format!("the broker at {address} does not answer: {why}"))
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    body: String,
}

/// Whether the broker whose HTTP address this is says that it is ready.
pub(crate) async fn is_ready(address: &str) -> bool {
    ask(address).await.is_ok_and(|answer| answer.status == 200)
}

async fn ask(address: &str) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz?verbose HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes)).context("what answers there is not a broker's HTTP address")
}

/// The status line and the body; the answer is whole, because the connection is closed after it.
fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Answer, parse};

    #[test]
    fn answers_are_taken_apart() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno");
        assert_eq!(answer, Some(Answer { status: 503, body: "no".to_owned() }));
        assert_eq!(parse("SSH-2.0-OpenSSH_9.2\r\n\r\n"), None);
        assert_eq!(parse(""), None);
    }
}
