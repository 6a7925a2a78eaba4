//! What is counted, under the names that dashboards of the established controller ask for.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Labels of `unseal_errors_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Unseal {
    /// `fetch`, `unseal`, `unmanaged`, `update` or `status`.
    pub reason: &'static str,
    /// The object's.
    pub namespace: Arc<str>,
}

/// Labels of `condition_info`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfObject {
    /// The object's.
    pub namespace: Arc<str>,
    /// The object's.
    pub name: Arc<str>,
    /// `Synced`.
    pub condition: &'static str,
}

/// Labels of `build_info`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Build {
    /// The version.
    pub revision: &'static str,
}

/// Labels of `http_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answered {
    /// The path, of a fixed set.
    pub path: &'static str,
    /// The answer's status.
    pub code: u16,
    /// `get` or `post`.
    pub method: &'static str,
}

/// Labels of `http_request_duration_seconds`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Asked {
    /// The path, of a fixed set.
    pub path: &'static str,
    /// `get` or `post`.
    pub method: &'static str,
}

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    /// 1, with the version.
    pub build: Family<Build, Gauge>,
    /// Looks at a SealedSecret.
    pub requests: Counter,
    /// Looks that ended in an error.
    pub errors: Family<Unseal, Counter>,
    /// How it stands with each object: -1, 0, 1.
    pub condition: Family<OfObject, Gauge>,
    /// HTTP requests.
    pub http: Family<Answered, Counter>,
    /// Seconds that they took.
    pub seconds: Family<Asked, Histogram>,
    /// What observing has found, by what differs.
    pub observed: Family<Found, Gauge>,
    /// RSA keys that open.
    pub keys: Gauge,
    /// Key Secrets that can't be used.
    pub malformed: Gauge,
    /// Until when the newest certificate is valid; 0 for none. kubeseal does not seal with it afterwards.
    pub expiry: Gauge,
    /// When the next key is made; 0 for never.
    pub renewal_due: Gauge,
    /// Whether `condition_info` names objects.
    names: bool,
}

/// Labels of `bulla_bitnami_observed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Found {
    /// One word: how it stands with the object.
    pub result: &'static str,
}

/// The bounds that Prometheus' own libraries begin with.
fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Metrics {
    /// With `names` one series an object tells how it stands.
    pub fn new(names: bool) -> Self {
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { revision: concat!("v", env!("CARGO_PKG_VERSION")) }).set(1);
        Self {
            build,
            requests: Counter::default(),
            errors: Family::default(),
            condition: Family::default(),
            http: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            observed: Family::default(),
            keys: Gauge::default(),
            malformed: Gauge::default(),
            expiry: Gauge::default(),
            renewal_due: Gauge::default(),
            names,
        }
    }

    /// How it stands with an object; `None` when it is gone.
    pub fn stands(&self, namespace: &Arc<str>, name: &Arc<str>, synced: Option<bool>) {
        if !self.names {
            return;
        }
        let labels = OfObject { namespace: namespace.clone(), name: name.clone(), condition: bulla::bitnami::SYNCED };
        match synced {
            Some(synced) => {
                self.condition.get_or_create(&labels).set(if synced { 1 } else { -1 });
            }
            None => {
                self.condition.remove(&labels);
            }
        }
    }

    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let theirs = registry.sub_registry_with_prefix("sealed_secrets_controller");
        theirs.register("build_info", "Build information", self.build.clone());
        theirs.register("unseal_requests", "Looks at a SealedSecret of bitnami.com", self.requests.clone());
        theirs.register("unseal_errors", "Looks that ended in an error, by reason", self.errors.clone());
        let condition = "How it stands with a SealedSecret: -1 (false), 0 (unknown), 1 (true)";
        theirs.register("condition_info", condition, self.condition.clone());
        theirs.register("http_requests", "Requests to the endpoints of bitnami.com", self.http.clone());
        theirs.register("http_request_duration_seconds", "Seconds that they took", self.seconds.clone());
        let ours = registry.sub_registry_with_prefix("bulla_bitnami");
        let observed = "SealedSecrets of bitnami.com by what --bitnami=observe has found";
        ours.register("observed", observed, self.observed.clone());
        ours.register("sealing_keys", "RSA keys that open", self.keys.clone());
        ours.register("malformed_sealing_keys", "Key Secrets that can't be used", self.malformed.clone());
        let expiry = "Until when the newest certificate is valid, 0 for none";
        ours.register("certificate_expiry_timestamp_seconds", expiry, self.expiry.clone());
        let due = "When the next RSA key is made, 0 for never";
        ours.register("key_renewal_due_timestamp_seconds", due, self.renewal_due.clone());
    }
}
