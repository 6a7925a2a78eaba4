//! HTTP: what repositories ask (`/v1`), what Kubernetes asks (`/healthz`, `/readyz`), and `/metrics` on a port of its own.
//!
//! Whoever asks is a stranger, and may be hostile: bodies, heads, connections and requests at once are bounded, and
//! nothing that is returned is readable to one who is not a recipient. Answers are JSON; an error is
//! `{"error": word, "message": sentence}`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bulla::envelope::Envelope;
use bulla::open::{OpenError, Strictness, inspect};
use bulla::resource::{API_VERSION, KIND, KeyState, SealedSecret};
use bulla::rewrap::rewrap;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::keyring::Ring;
use crate::metrics::{Metrics, Served, text};
use crate::reconcile::verdict_of_open;

/// Bytes of a body.
const MAX_BODY: usize = 2 << 20;
/// Envelopes in one request.
const MAX_ENVELOPES: usize = 1024;
/// Requests to `/v1` at once; more are told 429.
const MAX_REQUESTS: usize = 16;
/// Connections at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;
/// A request's head must be in after this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A request must be answered after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the handlers need.
pub struct Server {
    /// The key ring.
    pub ring: watch::Receiver<Arc<Ring>>,
    /// Whether the caches are in.
    pub synced: Arc<AtomicBool>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    requests: Semaphore,
    /// Decryption for strangers: one at a time, so that it never takes more than one core from reconciliation.
    crypto: Arc<Semaphore>,
}

impl Server {
    /// A server that has no requests.
    pub fn new(ring: watch::Receiver<Arc<Ring>>, synced: Arc<AtomicBool>, metrics: Arc<Metrics>) -> Arc<Self> {
        let (requests, crypto) = (Semaphore::new(MAX_REQUESTS), Arc::new(Semaphore::new(1)));
        Arc::new(Self { ring, synced, metrics, requests, crypto })
    }
}

/// The routes of `--http-addr`. `/v1/reseal` and `/v1/prove` are not there yet.
pub fn routes(server: Arc<Server>) -> Router {
    let v1 = Router::new()
        .route("/v1/verify", post(verify))
        .route("/v1/rewrap", post(rewrap_lines))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(server.clone(), bounded));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(v1)
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path") })
        .with_state(server)
}

/// The routes of `--metrics-addr`.
pub fn metrics_routes(registry: Registry) -> Router {
    let registry = Arc::new(registry);
    let answer = move || {
        let registry = registry.clone();
        async move {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text(&registry))
        }
    };
    Router::new().route("/metrics", get(answer))
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

fn problem(status: StatusCode, error: &str, message: &str) -> Response {
    answer(status, &json!({ "error": error, "message": message }))
}

/// So many requests at once, each so long.
async fn bounded(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let path = match request.uri().path() {
        "/v1/verify" => "/v1/verify",
        "/v1/rewrap" => "/v1/rewrap",
        _ => "other",
    };
    let response = match server.requests.try_acquire() {
        Err(_) => problem(StatusCode::TOO_MANY_REQUESTS, "busy", "too many requests at once; try again"),
        Ok(_permit) => match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => problem(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long"),
        },
    };
    server.metrics.http.get_or_create(&Served { path, code: response.status().as_u16() }).inc();
    response
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    let (keys, caches) = (server.ring.borrow().complete, server.synced.load(Ordering::Acquire));
    if keys && caches {
        return "ok\n".into_response();
    }
    problem(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "the keys or the caches are not in yet")
}

fn taken(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Box<Response>> {
    body.map_err(|rejection| {
        Box::new(match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "at most 2 MiB"),
            status => problem(status, "malformed", "the body could not be read"),
        })
    })
}

/// Runs what takes time off the asynchronous threads, one at a time.
async fn compute<T: Send + 'static>(
    server: &Server,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Box<Response>> {
    let failed = || Box::new(problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "shutting down"));
    let permit = server.crypto.clone().acquire_owned().await.map_err(|_| failed())?;
    let worked = tokio::task::spawn_blocking(move || {
        let worked = work();
        drop(permit);
        worked
    });
    worked.await.map_err(|_| failed())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: Option<String>,
    kind: Option<String>,
}

/// Whether a SealedSecret opens here. What it says depends on public text and on whether each item is authentic, never on
/// a value or a template.
async fn verify(State(server): State<Arc<Server>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match taken(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let malformed = |message: &str| problem(StatusCode::BAD_REQUEST, "malformed", message);
    let Ok(kind) = serde_json::from_slice::<Kind>(&body) else { return malformed("not a JSON object") };
    match (kind.api_version.as_deref(), kind.kind.as_deref()) {
        (Some(API_VERSION), Some(KIND)) => {}
        (Some(_), Some(_)) => {
            return problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unknown-kind",
                "not a bulla.dev/v1alpha1 SealedSecret",
            );
        }
        _ => return malformed("apiVersion or kind is missing"),
    }
    let Ok(sealed) = serde_json::from_slice::<SealedSecret>(&body) else {
        return malformed("not of the form that the custom resource definition demands");
    };
    let ring = server.ring.borrow().clone();
    let opened = compute(&server, move || match inspect(&sealed, Strictness::Reader) {
        Ok(inspected) => inspected.open(&ring.identities()).map(drop),
        Err(problems) => Err(OpenError::Problems(problems)),
    });
    match opened.await {
        Err(response) => *response,
        Ok(Ok(())) => answer(StatusCode::OK, &json!({ "opens": true })),
        Ok(Err(error)) => {
            let verdict = verdict_of_open(&error);
            if verdict.reason == "Malformed" {
                return malformed(&verdict.message);
            }
            let body = json!({ "opens": false, "reason": verdict.reason, "message": verdict.message });
            answer(StatusCode::CONFLICT, &body)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RewrapRequest {
    envelopes: Vec<String>,
}

#[derive(Serialize)]
struct Rewrapped {
    #[serde(rename = "in")]
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// Wraps data keys anew, for the preferred key and nobody else.
async fn rewrap_lines(State(server): State<Arc<Server>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match taken(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let Ok(request) = serde_json::from_slice::<RewrapRequest>(&body) else {
        return problem(StatusCode::BAD_REQUEST, "malformed", "wanted: {\"envelopes\": [text…]}");
    };
    if request.envelopes.len() > MAX_ENVELOPES {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "at most 1024 envelopes");
    }
    let ring = server.ring.borrow().clone();
    if ring.preferred().is_none() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no-key", "there is no Active key to wrap for");
    }
    let results = compute(&server, move || {
        let one = |text: String| {
            let (out, error) = match rewrap_line(&ring, &text) {
                Ok(out) => (Some(out), None),
                Err(reason) => (None, Some(reason)),
            };
            Rewrapped { from: text, out, error }
        };
        request.envelopes.into_iter().map(one).collect::<Vec<_>>()
    });
    match results.await {
        Ok(results) => answer(StatusCode::OK, &json!({ "results": results })),
        Err(response) => *response,
    }
}

/// A line that is for the preferred key already stays as it is.
fn rewrap_line(ring: &Ring, text: &str) -> Result<String, &'static str> {
    let line: Envelope = text.parse().map_err(|_| "malformed")?;
    let key = ring.find(line.fingerprint()).ok_or("unknown-recipient")?;
    let preferred = ring.preferred().ok_or("no-key")?.identity.recipient();
    if preferred.fingerprint() == line.fingerprint() {
        return Ok(text.to_owned());
    }
    let compromised = key.state == KeyState::Compromised;
    rewrap(&line, &key.identity, preferred, compromised)
        .map(|made| made.to_string())
        .map_err(|refused| refused.reason())
}

/// Listens, and says where.
///
/// # Errors
/// When the address can't be listened on.
pub async fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for {what}"))?;
    let address = listener.local_addr().with_context(|| format!("no address for {what}"))?;
    tracing::info!(what, %address, "listening");
    Ok(listener)
}

/// Serves until `stop`, and then ends what is going on.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => continue,
            accepted = async { (permits.clone().acquire_owned().await, listener.accept().await) } => match accepted {
                (Ok(permit), Ok((stream, _))) => (permit, stream),
                // Out of file descriptors, say.
                _ => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (permit, stream) = stream;
        let (service, mut stop) = (TowerToHyperService::new(router.clone()), stop.clone());
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                _ = stop.changed() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(Duration::from_secs(10), connection).await;
                }
            }
            drop(permit);
        });
    }
    while connections.join_next().await.is_some() {}
}
