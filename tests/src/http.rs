//! The little of an HTTP client that tests need.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

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
/// No answer within some seconds.
pub fn metric(address: &str, name: &str) -> Result<f64> {
    let (_, text) = http_get(address, "/metrics")?;
    let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}
