//! What the watches tell.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulla::metadata::KEY_SECRET_PREFIX;
use bulla::resource::SealingKey;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::watcher::Event;

use super::{KeySecret, Observed};
use crate::api::Failure;
use crate::reconcile::SecretId;

pub(super) type Seen<K> = Option<Result<Event<K>, kube::runtime::watcher::Error>>;

/// Whether a watch tells of an older version than is known from an answer.
fn is_older(told: &ObjectMeta, known: Option<&ObjectMeta>) -> bool {
    known.is_some_and(|known| SecretId::of(told).is_older(SecretId::of(known)))
}

pub(super) fn see_keys(observed: &mut Observed, event: Seen<DeserializeGuard<SealingKey>>, complete: bool) -> bool {
    match event {
        Some(Ok(Event::Init)) => {
            observed.sealing_keys.clear();
            false
        }
        Some(Ok(Event::InitApply(DeserializeGuard(key)) | Event::Apply(DeserializeGuard(key)))) => {
            match key {
                Ok(mut key) => {
                    key.metadata.managed_fields = None;
                    let name = key.metadata.name.clone().unwrap_or_default();
                    observed.unreadable.remove(&name);
                    if !is_older(&key.metadata, observed.sealing_keys.get(&name).map(|known| &known.metadata)) {
                        observed.sealing_keys.insert(name, key);
                    }
                }
                Err(invalid) => {
                    let name = invalid.metadata.name.unwrap_or_default();
                    if !observed.unreadable.contains(&name) {
                        tracing::warn!(key = name, "a SealingKey can't be read and is left out: of an unknown format?");
                        observed.unreadable.insert(name);
                    }
                }
            }
            complete
        }
        Some(Ok(Event::Delete(key))) => {
            let name = kube::Resource::meta(&key).name.as_deref().unwrap_or_default();
            observed.sealing_keys.remove(name);
            observed.unreadable.remove(name);
            complete
        }
        Some(Ok(Event::InitDone)) => true,
        Some(Err(error)) => watch_failed("sealingkeys", &error, complete),
        None => complete,
    }
}

pub(super) fn see_secrets(observed: &mut Observed, event: Seen<DeserializeGuard<Secret>>, complete: bool) -> bool {
    match event {
        Some(Ok(Event::Init)) => {
            observed.secrets.clear();
            false
        }
        Some(Ok(Event::InitApply(DeserializeGuard(secret)) | Event::Apply(DeserializeGuard(secret)))) => {
            if let Ok(secret) = secret {
                let full_name = secret.metadata.name.clone().unwrap_or_default();
                match KeySecret::take(secret) {
                    Some((name, key)) => {
                        if !is_older(&key.metadata, observed.secrets.get(&name).map(|known| &known.metadata)) {
                            observed.secrets.insert(name, key);
                        }
                    }
                    // It may have been one before it got an owner.
                    None => {
                        observed.secrets.remove(full_name.strip_prefix(KEY_SECRET_PREFIX).unwrap_or_default());
                    }
                }
            }
            complete
        }
        Some(Ok(Event::Delete(secret))) => {
            let name = kube::Resource::meta(&secret).name.as_deref().and_then(|n| n.strip_prefix(KEY_SECRET_PREFIX));
            observed.secrets.remove(name.unwrap_or_default());
            if let DeserializeGuard(Ok(secret)) = secret {
                drop(KeySecret::take(secret));
            }
            complete
        }
        Some(Ok(Event::InitDone)) => true,
        Some(Err(error)) => watch_failed("secrets of the own namespace", &error, complete),
        None => complete,
    }
}

pub(super) fn see_config(observed: &mut Observed, event: Seen<ConfigMap>, complete: bool) -> bool {
    match event {
        Some(Ok(Event::Init)) => {
            observed.config = None;
            false
        }
        Some(Ok(Event::InitApply(mut config) | Event::Apply(mut config))) => {
            config.metadata.managed_fields = None;
            if !is_older(&config.metadata, observed.config.as_ref().map(|known| &known.metadata)) {
                observed.config = Some(config);
            }
            complete
        }
        Some(Ok(Event::Delete(_))) => {
            observed.config = None;
            complete
        }
        Some(Ok(Event::InitDone)) => true,
        Some(Err(error)) => watch_failed("configmaps of the own namespace", &error, complete),
        None => complete,
    }
}

/// Logs why a watch is interrupted, without the server's text; it is taken up again by itself. The same is logged once in ten
/// minutes.
pub fn watch_failed(what: &'static str, error: &kube::runtime::watcher::Error, complete: bool) -> bool {
    use kube::runtime::watcher::Error as Watch;
    static TOLD: Mutex<BTreeMap<&str, (Failure, Instant)>> = Mutex::new(BTreeMap::new());
    let (Watch::InitialListFailed(error) | Watch::WatchStartFailed(error) | Watch::WatchFailed(error)) = error else {
        tracing::debug!(what, "a watch was interrupted");
        return complete;
    };
    let failure = match error {
        kube::Error::Api(status) => Failure::of(status),
        _ => Failure::Unavailable,
    };
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let again = |(before, at): &(Failure, Instant)| *before == failure && at.elapsed() < Duration::from_secs(600);
    if !told.get(what).is_some_and(again) {
        match &failure {
            Failure::NotFound => {
                tracing::warn!(
                    what,
                    "the API server does not know the resource: install the custom resource definitions"
                );
            }
            Failure::Denied => tracing::warn!(what, "the service account has no right to list and watch"),
            failure => tracing::warn!(what, %failure, "a watch was interrupted"),
        }
        told.insert(what, (failure, Instant::now()));
    }
    complete
}
