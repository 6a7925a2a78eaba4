//! The other format: SealedSecrets of `bitnami.com/v1alpha1`, their RSA keys, their endpoints and metrics
//! (docs/coming-from-sealed-secrets.md). What differs from the native kind is here; queue, index, lease, fence and pages are the same.

pub mod args;
pub mod compat;
pub mod hints;
pub mod http;
pub mod keys;
pub mod metrics;
pub mod migrate;
pub mod observed;
pub mod plan;
pub mod reconcile;
pub mod status;

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use hints::Hints;
use keys::RsaRing;
use metrics::Metrics;
use observed::Observed;

/// What is shared by whoever opens items of this format.
#[derive(Clone)]
pub struct Shared {
    /// The RSA keys.
    pub ring: watch::Receiver<Arc<RsaRing>>,
    /// Which key opened what.
    pub hints: Arc<Hints>,
    /// What is counted, under the established controller's names.
    pub metrics: Arc<Metrics>,
    /// What observing has found.
    pub observed: Arc<Observed>,
    /// Events that are written at once, beside everything else.
    pub telling: Arc<Semaphore>,
}
