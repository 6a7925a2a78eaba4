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
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bulla::envelope::Envelope;
use bulla::open::{OpenError, Strictness, inspect, readers};
use bulla::proof::{CHALLENGE_HEADER, Exchange, PROOF_HEADER, PROVE_PATH, state};
use bulla::request::{
    BodyError, MAX_BODY, MAX_ENVELOPES, RewrapAnswer, RewrapRequest, Rewrapped, parse, parse_reseal, parse_sealed,
};
use bulla::reseal::{Household, reseal};
use bulla::resource::KeyState;
use bulla::rewrap::rewrap;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::args::Settings;
use crate::bitnami;
use crate::keyring::Ring;
use crate::metrics::{Metrics, Served, text};
use crate::reconcile::verdict_of_open;

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
    /// The settings: the cluster's name, and recipients besides its keys.
    pub settings: Arc<Settings>,
    /// Whether the caches are in.
    pub synced: Arc<AtomicBool>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The other format, where it is on.
    pub bitnami: Option<bitnami::Shared>,
    requests: Semaphore,
    /// Decryption for strangers: one at a time, so that it never takes more than one core from reconciliation.
    crypto: Arc<Semaphore>,
}

impl Server {
    /// A server that has no requests.
    pub fn new(
        ring: watch::Receiver<Arc<Ring>>,
        settings: Arc<Settings>,
        synced: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
        bitnami: Option<bitnami::Shared>,
    ) -> Arc<Self> {
        let (requests, crypto) = (Semaphore::new(MAX_REQUESTS), Arc::new(Semaphore::new(1)));
        Arc::new(Self { ring, settings, synced, metrics, bitnami, requests, crypto })
    }
}

/// The routes of `--http-addr`.
pub fn routes(server: Arc<Server>) -> Router {
    let mut v1 = Router::new();
    if server.bitnami.is_some() {
        v1 = v1.route("/v1/cert.pem", get(bitnami::http::certificate)).route("/v1/rotate", post(rotate));
        v1 = v1.route("/v1/migrate", post(bitnami::migrate::native));
    }
    let v1 = v1
        .route("/v1/verify", post(verify))
        .route("/v1/rewrap", post(rewrap_lines))
        .route("/v1/reseal", post(reseal_object))
        .route(PROVE_PATH, post(prove))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(server.clone(), proven))
        .layer(from_fn_with_state(server.clone(), bounded))
        .layer(from_fn_with_state(server.clone(), bitnami::http::counted));
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

/// JSON.
pub fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

/// An error.
pub fn problem(status: StatusCode, error: &str, message: &str) -> Response {
    answer(status, &json!({ "error": error, "message": message }))
}

/// So many requests at once, each so long.
async fn bounded(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let path = match request.uri().path() {
        "/v1/verify" => "/v1/verify",
        "/v1/rewrap" => "/v1/rewrap",
        "/v1/reseal" => "/v1/reseal",
        "/v1/cert.pem" => "/v1/cert.pem",
        "/v1/rotate" => "/v1/rotate",
        "/v1/migrate" => "/v1/migrate",
        PROVE_PATH => PROVE_PATH,
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

/// What whoever sends a challenge that is not taken up is told, whatever the reason.
fn refused() -> Response {
    problem(StatusCode::UNPROCESSABLE_ENTITY, "challenge-refused", "no key here answers this challenge")
}

/// Proves the answer to a request that carries a challenge (docs/proofs.md). A challenge that is not taken up ends the
/// request before anything else is done for it.
async fn proven(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let (parts, body) = request.into_parts();
    let challenge = {
        let mut challenges = parts.headers.get_all(CHALLENGE_HEADER).iter();
        match (challenges.next(), challenges.next()) {
            (None, _) if path != PROVE_PATH => return next.run(Request::from_parts(parts, body)).await,
            (Some(one), None) => one.to_str().unwrap_or_default().to_owned(),
            // None, where it is all that is asked for, or two.
            _ => String::new(),
        }
    };
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "at most 2 MiB");
    };
    let ring = server.ring.borrow().clone();
    let state = if path == PROVE_PATH { state(&ring.published) } else { Vec::new() };
    let metrics = server.metrics.clone();
    let accept = move || {
        let (key, prover) = ring.accept(&challenge)?;
        metrics.used(&key.name, "prove");
        Some(prover)
    };
    let prover = match compute(&server, accept).await {
        Ok(Some(prover)) => prover,
        Ok(None) => return refused(),
        Err(response) => return *response,
    };
    let response = next.run(Request::from_parts(parts, Body::from(body.clone()))).await;
    let (mut parts, answer) = response.into_parts();
    let Ok(answer) = to_bytes(answer, usize::MAX).await else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "unavailable", "there is no answer");
    };
    let exchange =
        Exchange { path: &path, request: &body, status: parts.status.as_u16(), response: &answer, state: &state };
    if let Ok(proof) = HeaderValue::from_str(&prover.prove(&exchange)) {
        parts.headers.insert(PROOF_HEADER, proof);
    }
    Response::from_parts(parts, Body::from(answer))
}

/// Its proof is the answer.
async fn prove(body: Result<Bytes, BytesRejection>) -> Response {
    match taken(body) {
        Ok(body) if body.is_empty() => answer(StatusCode::OK, &json!({})),
        Ok(_) => problem(StatusCode::BAD_REQUEST, "malformed", "wanted: no body"),
        Err(response) => *response,
    }
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    let (keys, caches) = (server.ring.borrow().complete, server.synced.load(Ordering::Acquire));
    let theirs = server.bitnami.as_ref().is_none_or(|shared| shared.ring.borrow().complete);
    if keys && theirs && caches {
        return "ok\n".into_response();
    }
    problem(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "the keys or the caches are not in yet")
}

/// The body, where it could be read.
///
/// # Errors
/// What is answered where it couldn't.
pub fn taken(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Box<Response>> {
    body.map_err(|rejection| {
        Box::new(match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "at most 2 MiB"),
            status => problem(status, "malformed", "the body could not be read"),
        })
    })
}

/// Runs what takes time off the asynchronous threads, one at a time.
pub async fn compute<T: Send + 'static>(
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

/// What a body that can't be used is told.
fn unusable(error: BodyError, wanted: &str) -> Response {
    match error {
        BodyError::Kind => {
            problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown-kind", "not a bulla.dev/v1alpha1 SealedSecret")
        }
        BodyError::NotJson | BodyError::Form => {
            problem(StatusCode::BAD_REQUEST, "malformed", &format!("{error}; wanted: {wanted}"))
        }
    }
}

/// Whether a SealedSecret opens here. What it says depends on public text and on whether each item is authentic, never on
/// a value or a template.
async fn verify(State(server): State<Arc<Server>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match taken(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    match bitnami::http::taken(&server, &body) {
        Ok(Some((shared, sent))) => return bitnami::http::verify(&server, shared, sent).await,
        Ok(None) => {}
        Err(response) => return *response,
    }
    let sealed = match parse_sealed(&body) {
        Ok(sealed) => sealed,
        Err(error) => return unusable(error, "a SealedSecret as its custom resource definition demands it"),
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
                return problem(StatusCode::BAD_REQUEST, "malformed", &verdict.message);
            }
            let body = json!({ "opens": false, "reason": verdict.reason, "message": verdict.message });
            answer(StatusCode::CONFLICT, &body)
        }
    }
}

/// Seals an object of the other format for its newest key.
async fn rotate(State(server): State<Arc<Server>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match taken(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    match bitnami::http::taken(&server, &body) {
        Ok(Some((shared, sent))) => bitnami::http::rotate(&server, shared, sent).await,
        Ok(None) => problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unknown-kind",
            "not a bitnami.com/v1alpha1 SealedSecret; for those of bulla.dev there are /v1/rewrap and /v1/reseal",
        ),
        Err(response) => *response,
    }
}

/// Wraps data keys anew, for the preferred key and nobody else.
async fn rewrap_lines(State(server): State<Arc<Server>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match taken(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let request: RewrapRequest = match parse(&body) {
        Ok(request) => request,
        Err(error) => return unusable(error, "{\"envelopes\": [text…]}"),
    };
    if request.envelopes.len() > MAX_ENVELOPES {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "at most 1024 envelopes");
    }
    let ring = server.ring.borrow().clone();
    if ring.preferred().is_none() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no-key", "there is no Active key to wrap for");
    }
    let metrics = server.metrics.clone();
    let results = compute(&server, move || {
        let one = |text: String| {
            let (output, error) = match rewrap_line(&ring, &metrics, &text) {
                Ok(out) => (Some(out), None),
                Err(reason) => (None, Some(reason.to_owned())),
            };
            Rewrapped { input: text, output, error }
        };
        RewrapAnswer { results: request.envelopes.into_iter().map(one).collect() }
    });
    match results.await {
        Ok(results) => answer(StatusCode::OK, &results),
        Err(response) => *response,
    }
}

/// Seals an object afresh in its own place, for those who read it and recipients of the configuration.
async fn reseal_object(State(server): State<Arc<Server>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match taken(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let request = match parse_reseal(&body) {
        Ok(request) => request,
        Err(error) => return unusable(error, "{\"object\": SealedSecret, \"add\": [NAME…]}"),
    };
    let (ring, settings) = (server.ring.borrow().clone(), server.settings.clone());
    let metrics = server.metrics.clone();
    let resealed = compute(&server, move || {
        let identities = ring.identities();
        let household = Household {
            name: settings.cluster_name.as_deref(),
            identities: &identities,
            preferred: ring.preferred()?.identity.recipient(),
            own: &ring.own,
            configured: &settings.configured,
        };
        let made = reseal(&request.object, &household, &request.add);
        if made.is_ok() {
            for key in readers(&request.object.spec).iter().filter_map(|set| ring.opener(set)) {
                metrics.used(&key.name, "reseal");
            }
        }
        Some(made)
    });
    match resealed.await {
        Err(response) => *response,
        Ok(None) => problem(StatusCode::SERVICE_UNAVAILABLE, "no-key", "there is no Active key to wrap for"),
        Ok(Some(Ok(object))) => answer(StatusCode::OK, &object),
        Ok(Some(Err(refused))) => {
            let status = match refused.reason() {
                "malformed" => StatusCode::BAD_REQUEST,
                "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::CONFLICT,
            };
            problem(status, refused.reason(), &refused.to_string())
        }
    }
}

/// A line that is for the preferred key already stays as it is.
fn rewrap_line(ring: &Ring, metrics: &Metrics, text: &str) -> Result<String, &'static str> {
    let line: Envelope = text.parse().map_err(|_| "malformed")?;
    let key = ring.find(line.fingerprint()).ok_or("unknown-recipient")?;
    let preferred = ring.preferred().ok_or("no-key")?.identity.recipient();
    if preferred.fingerprint() == line.fingerprint() {
        return Ok(text.to_owned());
    }
    let compromised = key.state == KeyState::Compromised;
    let made = rewrap(&line, &key.identity, preferred, compromised).map_err(|refused| refused.reason())?;
    metrics.used(&key.name, "rewrap");
    Ok(made.to_string())
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
