//! `POST /v1/migrate`: an object of this format as a native one, in its own place (docs/controller.md, docs/migrate.md).
//!
//! Whoever asks is a stranger, who chooses the object and nothing else. What comes back is readable only to this cluster and to the
//! recipients of its configuration; nothing is rendered; and the older form, in which labels and keys are secret too, is refused.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::Response;
use bulla::bitnami::{MigrateError, OpenError, Operations, TranslateError, migrate, parse_request, place, targets_of};
use bulla::request::BodyError;
use bulla::reseal::Household;
use bulla::scope::Place;

use super::http::OPERATIONS;
use crate::http::{Server, answer, compute, problem, taken};

/// Why there is no native object.
enum Refused {
    NoKey,
    Recipients(String),
    Migrate(MigrateError),
}

/// Makes a native object of one of this format.
pub async fn native(State(server): State<Arc<Server>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match taken(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let sealed = match parse_request(&body) {
        Ok(sealed) => sealed,
        Err(BodyError::Kind) => {
            let message = "not a bitnami.com/v1alpha1 SealedSecret";
            return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown-kind", message);
        }
        Err(error) => {
            let message = format!("{error}; wanted: {{\"object\": SealedSecret of bitnami.com/v1alpha1}}");
            return problem(StatusCode::BAD_REQUEST, "malformed", &message);
        }
    };
    let Some(shared) = server.bitnami.clone() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no-key", "there is no RSA key yet");
    };
    let (ring, settings, metrics) = (server.ring.borrow().clone(), server.settings.clone(), server.metrics.clone());
    let migrated = compute(&server, move || {
        let preferred = ring.preferred().ok_or(Refused::NoKey)?;
        let identities = ring.identities();
        let household = Household {
            name: settings.cluster_name.as_deref(),
            identities: &identities,
            preferred: preferred.identity.recipient(),
            own: &ring.own,
            configured: &settings.configured,
        };
        let metadata = &sealed.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let broken = |error| Refused::Migrate(TranslateError::Place(error).into());
        let (scope, _) = place(&sealed).map_err(broken)?;
        let place = Place::new(scope, namespace, name).map_err(broken)?;
        let targets = targets_of(&household, &place).map_err(|error| Refused::Recipients(error.to_string()))?;
        let theirs = shared.ring.borrow().clone();
        let hint = theirs.hinted(shared.hints.get(namespace.unwrap_or_default(), name.unwrap_or_default()));
        let mut operations = Operations::at_most(OPERATIONS);
        let migrated =
            migrate(&sealed, &theirs.private_keys(), hint, &targets, &mut operations).map_err(Refused::Migrate)?;
        metrics.used(&preferred.name, "migrate");
        Ok(migrated.sealed)
    });
    match migrated.await {
        Err(response) => *response,
        Ok(Ok(object)) => answer(StatusCode::OK, &object),
        Ok(Err(refused)) => told(&refused),
    }
}

fn told(refused: &Refused) -> Response {
    let error = match refused {
        Refused::NoKey => {
            let message = "there is no Active key to seal for";
            return problem(StatusCode::SERVICE_UNAVAILABLE, "no-key", message);
        }
        Refused::Recipients(message) => return problem(StatusCode::CONFLICT, "recipients", message),
        Refused::Migrate(error) => error,
    };
    let (status, word) = match error {
        MigrateError::Open(OpenError::Operations) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
        MigrateError::Open(error) if error.is_malformed() => (StatusCode::BAD_REQUEST, "malformed"),
        MigrateError::Open(_) => (StatusCode::CONFLICT, "does-not-open"),
        MigrateError::Translate(TranslateError::Broken(_) | TranslateError::Place(_)) => {
            (StatusCode::BAD_REQUEST, "malformed")
        }
        MigrateError::Translate(_) => (StatusCode::CONFLICT, "not-translated"),
        _ => (StatusCode::CONFLICT, "too-large"),
    };
    problem(status, word, &error.to_string())
}
