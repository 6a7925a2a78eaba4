//! What observing has found, for people: how many objects stand how, and which ones not as they should. It is kept in the ConfigMap
//! `bulla-observed` of the controller's own namespace, the one thing that observing writes: who may read that is said by Kubernetes'
//! own rights. `bulla status --observed` shows it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulla::bitnami::{OBSERVED_CONFIG_MAP, OBSERVED_KEY, ObservedObject, ObservedReport};
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::{Notify, watch};

use crate::api::{Api, Failure, core_path};
use crate::lease::Role;
use crate::queue::ObjectKey;
use crate::status::Verdict;

/// Objects that are named; of more only the number is told.
const MOST: usize = 1000;
/// Characters of what is said of one. A ConfigMap takes 1 MiB: names have at most 316 bytes.
const WORDS: usize = 150;
/// What has changed within this time is written at once.
const GATHER: Duration = Duration::from_secs(1);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// How an object stands that needs nobody's attention.
fn is_well(result: &str) -> bool {
    matches!(result, "Same" | "Superseded")
}

/// What is known so far.
#[derive(Debug, Default)]
pub struct Observed {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<&'static str, usize>,
    /// By namespace and name.
    named: BTreeMap<(Arc<str>, Arc<str>), Odd>,
}

/// What is said of an object.
#[derive(Debug)]
struct Odd {
    result: &'static str,
    message: String,
}

impl Observed {
    /// How it stood with an object, and how it stands: `None` when it was not looked at, or is gone.
    pub fn note(&self, key: &ObjectKey, before: Option<&'static str>, now: Option<&Verdict>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = before.and_then(|before| state.counts.get_mut(before)) {
            *count = count.saturating_sub(1);
        }
        let place = (key.namespace.clone(), key.name.clone());
        state.named.remove(&place);
        if let Some(verdict) = now {
            *state.counts.entry(verdict.reason).or_default() += 1;
            if !is_well(verdict.reason) && state.named.len() < MOST {
                let message: String =
                    verdict.message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect();
                state.named.insert(place, Odd { result: verdict.reason, message });
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// As it is kept.
    fn report(&self) -> ObservedReport {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = state.counts.iter().filter(|(_, count)| **count > 0);
        let results: BTreeMap<_, _> = counted.map(|(result, count)| ((*result).to_owned(), *count)).collect();
        let odd: usize = results.iter().filter(|(result, _)| !is_well(result)).map(|(_, count)| *count).sum();
        let objects: Vec<_> = state
            .named
            .iter()
            .map(|((namespace, name), Odd { result, message })| ObservedObject {
                namespace: namespace.to_string(),
                name: name.to_string(),
                result: (*result).to_owned(),
                message: message.clone(),
            })
            .collect();
        let unnamed = odd.saturating_sub(objects.len());
        ObservedReport { observed: results.values().sum(), results, objects, unnamed }
    }
}

/// Keeps the ConfigMap up to date while this replica leads. What an earlier one has written is replaced at once.
pub async fn publish(api: Api, namespace: String, observed: Arc<Observed>, mut role: watch::Receiver<Role>) {
    let mut written = None;
    loop {
        if role.wait_for(|role| *role == Role::Leading).await.is_err() {
            return;
        }
        let report = observed.report();
        if written.as_ref() != Some(&report) {
            match write(&api, &namespace, &report).await {
                Ok(()) => written = Some(report),
                Err(failure) => {
                    if !matches!(failure, Failure::NotLeading) {
                        tracing::warn!(%failure, "what was observed can't be written to the ConfigMap {OBSERVED_CONFIG_MAP}; trying again");
                    }
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
        }
        observed.changed.notified().await;
        tokio::time::sleep(GATHER).await;
    }
}

async fn write(api: &Api, namespace: &str, report: &ObservedReport) -> Result<(), Failure> {
    let path = core_path(namespace, "configmaps");
    let (mut config, is_there) = match api.get::<ConfigMap>(&path, OBSERVED_CONFIG_MAP).await {
        Ok(found) => (found, true),
        Err(Failure::NotFound) => (ConfigMap::default(), false),
        Err(failure) => return Err(failure),
    };
    config.metadata.name = Some(OBSERVED_CONFIG_MAP.to_owned());
    config.metadata.namespace = Some(namespace.to_owned());
    config.metadata.managed_fields = None;
    let text = serde_json::to_string(report).map_err(|_| Failure::Refused(0))?;
    config.data = Some([(OBSERVED_KEY.to_owned(), text)].into());
    let body = serde_json::to_vec(&config).map_err(|_| Failure::Refused(0))?;
    match is_there {
        true => api.replace(&path, OBSERVED_CONFIG_MAP, body).await.map(drop),
        false => api.create(&path, body).await.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::queue::Kind;
    use crate::status::Standing;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::Bitnami, namespace: "shop".into(), name: name.into() }
    }

    fn verdict(reason: &'static str, message: &str) -> Verdict {
        Verdict { standing: Standing::Ready, reason, message: message.to_owned() }
    }

    #[test]
    fn what_is_well_is_counted_and_the_others_are_named() {
        let observed = Observed::default();
        observed.note(&key("a"), None, Some(&verdict("Same", "")));
        observed.note(&key("b"), None, Some(&verdict("NoKey", "no key\nfits")));
        observed.note(&key("c"), None, Some(&verdict("Different", "the Secret differs")));
        observed.note(&key("c"), Some("Different"), Some(&verdict("Same", "")));
        observed.note(&key("a"), Some("Same"), None);
        let expected = json!({
            "observed": 2, "results": {"NoKey": 1, "Same": 1}, "unnamed": 0,
            "objects": [{"namespace": "shop", "name": "b", "result": "NoKey", "message": "no key fits"}],
        });
        assert_eq!(serde_json::to_value(observed.report()).unwrap(), expected);
    }

    #[test]
    fn a_report_of_very_many_fits_into_a_config_map() {
        let observed = Observed::default();
        let long = "x".repeat(10_000);
        for number in 0..MOST + 5 {
            let name = format!("{number:0253}");
            let key = ObjectKey { namespace: "n".repeat(63).into(), ..key(&name) };
            observed.note(&key, None, Some(&verdict("TemplateFailed", &long)));
        }
        let report = observed.report();
        assert_eq!(report.unnamed, 5);
        let report = serde_json::to_string(&report).unwrap();
        // JSON in JSON: its quotation marks are escaped.
        assert!(Value::String(report).to_string().len() < 1 << 20);
    }
}
