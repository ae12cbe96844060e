//! The little of an HTTP client that tests need.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// An answer that takes longer means that the server hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Status and body of a GET.
///
/// # Errors
/// No answer within some seconds.
pub fn http_get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).context("an HTTP status line")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// The sum over all its labels of a metric of the broker whose HTTP address this is.
///
/// # Errors
/// No answer within some seconds, or there is no such metric.
pub fn metric(address: &str, name: &str) -> Result<f64> {
    let (_, text) = http_get(address, "/metrics")?;
    let value = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
    };
    let values: Vec<f64> = text.lines().filter_map(value).collect();
    ensure!(!values.is_empty(), "/metrics has no {name}");
    Ok(values.iter().sum())
}
