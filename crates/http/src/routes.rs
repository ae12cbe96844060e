//! The paths and their answers.

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use serde::Serialize;

use crate::Sources;
use crate::health::{Check, Finding, findings};

/// The content type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All routes.
pub(crate) fn router(sources: Sources, body_bytes_max: usize) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(sources)
}

/// An error as every path tells it.
#[derive(Serialize)]
struct Problem {
    error: Details,
}

#[derive(Serialize)]
struct Details {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<Finding>>,
}

pub(crate) fn problem(status: StatusCode, code: &'static str, message: impl Into<String>) -> Response {
    answer(status, code, message.into(), None)
}

fn answer(status: StatusCode, code: &'static str, message: String, checks: Option<Vec<Finding>>) -> Response {
    (status, Json(Problem { error: Details { code, message, checks } })).into_response()
}

#[derive(Serialize)]
struct Fine {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<Finding>>,
}

/// The process works: that this answer leaves is the proof.
async fn live() -> Response {
    Json(Fine { status: "live", checks: None }).into_response()
}

async fn ready(State(sources): State<Sources>, RawQuery(query): RawQuery) -> Response {
    checked(&sources.health.ready, "ready", "not_ready", verbose(query.as_deref()))
}

async fn started(State(sources): State<Sources>, RawQuery(query): RawQuery) -> Response {
    checked(&sources.health.started, "started", "not_started", verbose(query.as_deref()))
}

/// `?verbose` alone or with any value but `false` and `0`.
fn verbose(query: Option<&str>) -> bool {
    let pairs = query.unwrap_or_default().split('&');
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .any(|(name, value)| name == "verbose" && !matches!(value, "false" | "0"))
}

fn checked(checks: &[Check], fine: &'static str, code: &'static str, verbose: bool) -> Response {
    let found = findings(checks);
    let failed: Vec<&str> = found.iter().filter(|one| !one.ok).map(|one| one.name.as_str()).collect();
    if failed.is_empty() {
        return Json(Fine { status: fine, checks: verbose.then_some(found) }).into_response();
    }
    let more = if verbose { "" } else { "; ?verbose says why" };
    let message = format!("failing checks: {}{more}", failed.join(", "));
    answer(StatusCode::SERVICE_UNAVAILABLE, code, message, verbose.then_some(found))
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, &sources.metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the metrics cannot be encoded")
        }
    }
}

async fn not_found(uri: Uri) -> Response {
    let paths = "/livez, /readyz, /startupz and /metrics";
    problem(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {}; there are {paths}", uri.path()))
}

async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes GET only")
}
