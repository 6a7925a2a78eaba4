//! What is counted, for Prometheus.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

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
    /// A registry of them.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("bulla");
        registry.register("sealed_secrets", "SealedSecrets by the reason of Ready", self.objects.clone());
        registry.register("reconciliations", "Looks at a SealedSecret, by outcome", self.reconciliations.clone());
        registry.register("opened", "SealedSecrets decrypted", self.opened.clone());
        registry.register("secret_writes", "Writes of Secrets", self.secret_writes.clone());
        registry.register("status_writes", "Writes of statuses", self.status_writes.clone());
        registry.register("drift_repairs", "Secrets put back after somebody changed them", self.drift_repairs.clone());
        registry.register("queue_length", "SealedSecrets waiting for their turn", self.queue.clone());
        registry.register("sealing_keys", "Keys that open", self.keys.clone());
        registry.register("malformed_sealing_keys", "Key Secrets that can't be used", self.malformed_keys.clone());
        registry.register("http_requests", "Requests served", self.http.clone());
        registry.register("reconcile_seconds", "Time of a look at a SealedSecret, by outcome", self.looks.clone());
        registry.register("open_seconds", "Time of decrypting a SealedSecret", self.opening.clone());
        registry.register("api_request_seconds", "Time of requests to the API server", self.api.clone());
        registry.register("queue_seconds", "Time that SealedSecrets waited for their turn", self.waited.clone());
        registry.register("leader", "1 while this replica leads", self.leader.clone());
        registry
    }
}

/// The text of `/metrics`.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Only a writer that fails makes this fail, and a String does not.
    let _ = encode(&mut text, registry);
    text
}
