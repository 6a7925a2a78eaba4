//! What is counted, for Prometheus.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::keyring::{Told, word};

/// One label, `reason` or `result`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A word of a fixed set.
    pub reason: String,
}

/// Labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Served {
    /// The path, of a fixed set.
    pub path: &'static str,
    /// The answer's status.
    pub code: u16,
}

/// Labels of a request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Requested {
    /// get, create, update, patch.
    pub verb: &'static str,
    /// The resource, of a fixed set.
    pub resource: &'static str,
    /// done, or the kind of failure.
    pub outcome: &'static str,
}

/// Which of two priorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Turn {
    /// high, low.
    pub priority: &'static str,
}

/// From half a millisecond to a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 18))
}

/// From a tenth of a millisecond to some seconds.
fn short_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 16))
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyName {
    /// Its SealingKey's name.
    pub key: String,
}

/// What one key was used for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyUse {
    /// Its SealingKey's name.
    pub key: String,
    /// `open`, `rewrap`, `reseal` or `prove`.
    pub purpose: &'static str,
}

/// In which state one key is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyInState {
    /// Its SealingKey's name.
    pub key: String,
    /// Active, Standby, Retired or Compromised.
    pub state: &'static str,
}

/// All of them.
pub struct Metrics {
    /// SealedSecrets by the reason of their condition Ready.
    pub objects: Family<Reason, Gauge>,
    /// Reconciliations by their outcome's reason.
    pub reconciliations: Family<Reason, Counter>,
    /// Secrets opened.
    pub opened: Counter,
    /// Secrets written.
    pub secret_writes: Counter,
    /// Statuses written.
    pub status_writes: Counter,
    /// Secrets that were put back.
    pub drift_repairs: Counter,
    /// Objects waiting for their turn.
    pub queue: Gauge,
    /// Keys that open.
    pub keys: Gauge,
    /// Key Secrets that can't be used.
    pub malformed_keys: Gauge<i64, AtomicI64>,
    /// SealingKeys whose private key is gone.
    pub missing_keys: Gauge,
    /// When the newest key is renewed, in seconds since 1970; 0 when it is not.
    pub renewal_due: Gauge,
    /// 1 for the state that a key is in.
    pub key_state: Family<KeyInState, Gauge>,
    /// Since when a key is published, in seconds since 1970.
    pub key_published: Family<KeyName, Gauge>,
    /// Since when a key is preferred, in seconds since 1970.
    pub key_preferred: Family<KeyName, Gauge>,
    /// 1 for the key that is sealed for.
    pub key_in_use: Family<KeyName, Gauge>,
    /// Objects that no other key opens.
    pub key_needed_by: Family<KeyName, Gauge>,
    /// Data keys opened and challenges answered with a key.
    pub key_uses: Family<KeyUse, Counter>,
    /// HTTP requests.
    pub http: Family<Served, Counter>,
    /// Seconds from the beginning of a look to its end, by outcome.
    pub looks: Family<Reason, Histogram>,
    /// Seconds that opening took.
    pub opening: Histogram,
    /// Seconds that requests to the API server took.
    pub api: Family<Requested, Histogram>,
    /// Seconds that objects waited for their turn.
    pub waited: Family<Turn, Histogram>,
    /// 1 while this replica leads.
    pub leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            objects: Family::default(),
            reconciliations: Family::default(),
            opened: Counter::default(),
            secret_writes: Counter::default(),
            status_writes: Counter::default(),
            drift_repairs: Counter::default(),
            queue: Gauge::default(),
            keys: Gauge::default(),
            malformed_keys: Gauge::default(),
            missing_keys: Gauge::default(),
            renewal_due: Gauge::default(),
            key_state: Family::default(),
            key_published: Family::default(),
            key_preferred: Family::default(),
            key_in_use: Family::default(),
            key_needed_by: Family::default(),
            key_uses: Family::default(),
            http: Family::default(),
            looks: Family::new_with_constructor(seconds),
            opening: short_seconds(),
            api: Family::new_with_constructor(seconds),
            waited: Family::new_with_constructor(seconds),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Says of each key how it stands; those that are gone are not spoken of any more.
    pub fn tell_keys(&self, before: &BTreeMap<String, Told>, now: &BTreeMap<String, Told>, preferred: Option<&str>) {
        let name = |key: &str| KeyName { key: key.to_owned() };
        let in_state = |key: &str, told: &Told| KeyInState { key: key.to_owned(), state: word(told.state) };
        for (key, old) in before {
            let new = now.get(key);
            if new.is_none_or(|new| new.state != old.state) {
                self.key_state.remove(&in_state(key, old));
            }
            if new.is_none() {
                for family in [&self.key_published, &self.key_preferred, &self.key_in_use, &self.key_needed_by] {
                    family.remove(&name(key));
                }
            }
        }
        for (key, told) in now {
            self.key_state.get_or_create(&in_state(key, told)).set(1);
            self.key_in_use.get_or_create(&name(key)).set(i64::from(preferred == Some(key.as_str())));
            let times = [(&self.key_published, told.published), (&self.key_preferred, told.preferred)];
            for (family, at) in times {
                if let Some(at) = at {
                    family.get_or_create(&name(key)).set(at.as_second());
                }
            }
            if let Some(count) = told.needed_by {
                self.key_needed_by.get_or_create(&name(key)).set(count);
            }
        }
    }

    /// A key was used.
    pub fn used(&self, key: &str, purpose: &'static str) {
        self.key_uses.get_or_create(&KeyUse { key: key.to_owned(), purpose }).inc();
    }

    /// A registry of them.
    pub fn registry(&self) -> Registry {
        let mut all = Registry::default();
        let registry = all.sub_registry_with_prefix("bulla");
        registry.register("sealed_secrets", "SealedSecrets by the reason of Ready", self.objects.clone());
        registry.register("reconciliations", "Looks at a SealedSecret, by outcome", self.reconciliations.clone());
        registry.register("opened", "SealedSecrets decrypted", self.opened.clone());
        registry.register("secret_writes", "Writes of Secrets", self.secret_writes.clone());
        registry.register("status_writes", "Writes of statuses", self.status_writes.clone());
        registry.register("drift_repairs", "Secrets put back after somebody changed them", self.drift_repairs.clone());
        registry.register("queue_length", "SealedSecrets waiting for their turn", self.queue.clone());
        registry.register("sealing_keys", "Keys that open", self.keys.clone());
        registry.register("malformed_sealing_keys", "Key Secrets that can't be used", self.malformed_keys.clone());
        registry.register("missing_sealing_keys", "SealingKeys whose private key is gone", self.missing_keys.clone());
        let due = "When the newest key is renewed, in seconds since 1970; 0 when it is not";
        registry.register("key_renewal_due_timestamp_seconds", due, self.renewal_due.clone());
        registry.register("key_state", "1 for the state that a key is in", self.key_state.clone());
        let published = "Since when a key is published, in seconds since 1970";
        registry.register("key_published_timestamp_seconds", published, self.key_published.clone());
        let preferred = "When a key became the preferred one, in seconds since 1970";
        registry.register("key_preferred_timestamp_seconds", preferred, self.key_preferred.clone());
        registry.register("key_preferred", "1 for the key that is sealed for, 0 for others", self.key_in_use.clone());
        registry.register("key_needed_by", "SealedSecrets that no other key opens", self.key_needed_by.clone());
        registry.register("key_uses", "Data keys opened, and challenges answered, with a key", self.key_uses.clone());
        registry.register("http_requests", "Requests served", self.http.clone());
        registry.register("reconcile_seconds", "Time of a look at a SealedSecret, by outcome", self.looks.clone());
        registry.register("open_seconds", "Time of decrypting a SealedSecret", self.opening.clone());
        registry.register("api_request_seconds", "Time of requests to the API server", self.api.clone());
        registry.register("queue_seconds", "Time that SealedSecrets waited for their turn", self.waited.clone());
        registry.register("leader", "1 while this replica leads", self.leader.clone());
        all
    }
}

/// The text of `/metrics`.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Only a writer that fails makes this fail, and a String does not.
    let _ = encode(&mut text, registry);
    text
}

#[cfg(test)]
#[path = "monitoring_tests.rs"]
mod monitoring;
