//! What is counted, for Prometheus.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
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

/// All of them.
#[derive(Default)]
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
