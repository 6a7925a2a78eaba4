//! The established controller's endpoints: `/v1/cert.pem`, `/v1/verify`, `/v1/rotate`. The first is for everybody; the others
//! tell of a SealedSecret whether it opens, and seal its values for the newest key, in the place that the object's own
//! metadata says. Nothing is rendered, and what a template claims has no say.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bulla::bitnami::{
    BitnamiSealedSecret, OpenError, Operations, ResealError, parse_sealed, reseal_within, verify_within,
};
use serde_json::{Value, json};

use super::Shared;
use super::metrics::{Answered, Asked};
use crate::http::{Server, answer, compute, problem};

/// RSA operations that one request may cost; more are told 413.
pub const OPERATIONS: usize = 2000;

/// A SealedSecret of this format, and all that was sent of it.
pub type Sent = (BitnamiSealedSecret, Value);

/// The newest certificate, as PEM.
pub async fn certificate(State(server): State<Arc<Server>>) -> Response {
    let newest = server.bitnami.as_ref().and_then(|shared| shared.ring.borrow().newest().cloned());
    match newest {
        Some(newest) => {
            let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
            (kind, newest.certificate.pem().to_owned()).into_response()
        }
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "no-key", "there is no RSA key yet"),
    }
}

/// Takes a body that says it is of this kind, where this format is served.
///
/// # Errors
/// The answer for what is of this kind and malformed. What is of another kind, or nothing at all, is none.
pub fn taken(server: &Server, body: &[u8]) -> Result<Option<(Shared, Sent)>, Box<Response>> {
    let Some(shared) = &server.bitnami else { return Ok(None) };
    match parse_sealed(body) {
        Ok(sent) => Ok(sent.map(|sent| (shared.clone(), sent))),
        Err(bulla::request::BodyError::NotJson) => Ok(None),
        Err(error) => {
            let message = format!("{error}; wanted: one SealedSecret of bitnami.com/v1alpha1, JSON or YAML");
            Err(Box::new(problem(StatusCode::BAD_REQUEST, "malformed", &message)))
        }
    }
}

fn place(sealed: &BitnamiSealedSecret) -> (&str, &str) {
    let metadata = &sealed.metadata;
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Whether it opens.
pub async fn verify(server: &Server, shared: Shared, (sealed, _): Sent) -> Response {
    let opened = compute(server, move || {
        let ring = shared.ring.borrow().clone();
        let (namespace, name) = place(&sealed);
        let hint = ring.hinted(shared.hints.get(namespace, name));
        let mut operations = Operations::at_most(OPERATIONS);
        verify_within(&sealed, &ring.private_keys(), hint, &mut operations).map(drop)
    });
    match opened.await {
        Err(response) => *response,
        Ok(Ok(())) => answer(StatusCode::OK, &json!({ "opens": true })),
        Ok(Err(error)) => closed(&error),
    }
}

/// What is told of an object that does not open.
fn closed(error: &OpenError) -> Response {
    let message = error.to_string();
    match error {
        OpenError::Operations => problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", &message),
        error => {
            // As there: whatever does not open is told 409, what anybody can see too.
            let reason = if error.is_malformed() { "Malformed" } else { "NoKey" };
            let body = json!({ "opens": false, "error": "closed", "reason": reason, "message": message });
            answer(StatusCode::CONFLICT, &body)
        }
    }
}

/// The object with its values sealed for the newest key, and nothing else changed.
pub async fn rotate(server: &Server, shared: Shared, (sealed, mut sent): Sent) -> Response {
    let Some(newest) = shared.ring.borrow().newest().cloned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no-key", "there is no RSA key yet");
    };
    let rotated = compute(server, move || {
        let ring = shared.ring.borrow().clone();
        let (namespace, name) = place(&sealed);
        let hint = ring.hinted(shared.hints.get(namespace, name));
        let mut operations = Operations::at_most(OPERATIONS);
        reseal_within(&sealed, &ring.private_keys(), hint, &newest.certificate, &mut operations)
    });
    match rotated.await {
        Err(response) => *response,
        Ok(Ok(texts)) => {
            texts.apply_to_json(&mut sent);
            answer(StatusCode::OK, &sent)
        }
        Ok(Err(ResealError::Open(error))) => closed(&error),
        Ok(Err(ResealError::Randomness(_))) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the values could not be sealed")
        }
    }
}

/// Counts requests under the established controller's names.
pub async fn counted(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let path = match request.uri().path() {
        "/v1/cert.pem" => "/v1/cert.pem",
        "/v1/verify" => "/v1/verify",
        "/v1/rotate" => "/v1/rotate",
        _ => return next.run(request).await,
    };
    let method = if request.method() == Method::GET { "get" } else { "post" };
    let started = Instant::now();
    let response = next.run(request).await;
    if let Some(shared) = &server.bitnami {
        let code = response.status().as_u16();
        shared.metrics.http.get_or_create(&Answered { path, code, method }).inc();
        let seconds = started.elapsed().as_secs_f64();
        shared.metrics.seconds.get_or_create(&Asked { path, method }).observe(seconds);
    }
    response
}
