//! Sealing keys: which open, which is preferred, what has to be written for it. [`plan`] decides, from what the watches
//! have seen and the time; [`run`] watches and writes. Every write is conditional, so that a plan from an old view fails; what a
//! write came to is known at once, because one watch can tell of what followed before another tells of the write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bulla::metadata::{KEY_SECRET_PREFIX, KEY_STATE_ANNOTATION, SEALING_KEY_TYPE, drop_copies};
use bulla::proof::{Challenge, Prover};
use bulla::recipient::{Fingerprint, Identity, parse_identities};
use bulla::resource::{KeyState, SealingKey};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;
use zeroize::Zeroize as _;

mod plan;
mod seen;
mod work;

pub use plan::Told;
pub use seen::watch_failed;
pub use work::{Keyring, run};

/// The ConfigMap that says for whom to seal.
pub const RECIPIENTS: &str = "bulla-recipients";
/// Loaded keys of one format.
const MAX_KEYS: usize = 16;

/// Objects by the sets of recipients of their data keys: how many there are of each.
pub type Needs = HashMap<Arc<BTreeSet<BTreeSet<Fingerprint>>>, usize>;

/// One key that opens.
#[derive(Clone, Debug)]
pub struct RingKey {
    /// The SealingKey's name.
    pub name: Arc<str>,
    /// The private key.
    pub identity: Arc<Identity>,
    /// Its state in effect, never Retired.
    pub state: KeyState,
    /// Whether it answers challenges (docs/proofs.md): Active, or Standby after it was published in this cluster.
    pub answers: bool,
}

/// The keys that open, in the order in which lines are looked for: the most recently preferred first.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// Whether the watches have seen everything once.
    pub complete: bool,
    /// The keys.
    pub keys: Vec<RingKey>,
    /// Of `keys`, the one to wrap for.
    pub preferred: Option<usize>,
    /// All keys of this cluster, also those that open nothing.
    pub own: BTreeSet<Fingerprint>,
    /// What the ConfigMap says when this controller has written it.
    pub published: BTreeMap<String, String>,
}

impl Ring {
    /// What [`bulla::open`] takes.
    pub fn identities(&self) -> Vec<&Identity> {
        self.keys.iter().map(|key| key.identity.as_ref()).collect()
    }

    /// The key with this fingerprint.
    pub fn find(&self, fingerprint: Fingerprint) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.identity.recipient().fingerprint() == fingerprint)
    }

    /// The keys that are marked compromised.
    pub fn compromised(&self) -> BTreeSet<Fingerprint> {
        let compromised = self.keys.iter().filter(|key| key.state == KeyState::Compromised);
        compromised.map(|key| key.identity.recipient().fingerprint()).collect()
    }

    /// Whether a data key of these readers' sets is exposed, because one of its readers is compromised.
    pub fn exposes(&self, readers: &BTreeSet<BTreeSet<Fingerprint>>) -> bool {
        let compromised = self.compromised();
        readers.iter().any(|set| !set.is_disjoint(&compromised))
    }

    /// The key that opens a data key with these readers.
    pub fn opener(&self, readers: &BTreeSet<Fingerprint>) -> Option<&RingKey> {
        self.keys.iter().find(|key| readers.contains(&key.identity.recipient().fingerprint()))
    }

    /// Takes a challenge up, as it came in a header; `None` for whatever reason.
    pub fn accept(&self, challenge: &str) -> Option<(&RingKey, Prover)> {
        let challenge: Challenge = challenge.parse().ok()?;
        let key = self.find(challenge.fingerprint()).filter(|key| key.answers)?;
        challenge.accept(&key.identity).ok().map(|prover| (key, prover))
    }

    /// The key to wrap for.
    pub fn preferred(&self) -> Option<&RingKey> {
        self.keys.get(self.preferred?)
    }

    fn same(&self, other: &Self) -> bool {
        let of = |ring: &Self| -> Vec<_> {
            ring.keys.iter().map(|key| (key.identity.recipient().fingerprint(), key.state, key.answers)).collect()
        };
        self.complete == other.complete
            && self.preferred == other.preferred
            && of(self) == of(other)
            && self.own == other.own
            && self.published == other.published
    }
}

/// Why the Secret of a key can't be used.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// No `data.identity`.
    #[error("it has no data.identity")]
    NoIdentity,
    /// Not one identity.
    #[error("data.identity is not one age identity")]
    Malformed,
    /// `data.recipient` is another.
    #[error("data.recipient does not belong to data.identity")]
    Mismatch,
    /// The same private key under two names.
    #[error("another Secret holds the same key, and is the one that counts")]
    Doubled,
}

/// The Secret of a key, as far as it counts.
#[derive(Clone, Debug)]
pub struct KeySecret {
    /// Its metadata, without managedFields and what repeats the values.
    pub metadata: ObjectMeta,
    /// The private key in it.
    pub identity: Result<Arc<Identity>, KeyProblem>,
}

impl KeySecret {
    /// Takes the key out of a Secret and clears what it was read from. `None` for what is no key Secret: another name, or
    /// an owner, which may be a SealedSecret.
    pub fn take(mut secret: Secret) -> Option<(String, Self)> {
        let name =
            secret.metadata.name.as_deref().and_then(|name| name.strip_prefix(KEY_SECRET_PREFIX)).map(str::to_owned);
        let owned = secret.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
        let mut data = secret.data.take().unwrap_or_default();
        let identity = match data.get("identity") {
            None => Err(KeyProblem::NoIdentity),
            Some(bytes) => parse_identity(&bytes.0, data.get("recipient").map(|bytes| bytes.0.as_slice())),
        };
        for value in data.values_mut() {
            value.0.zeroize();
        }
        drop_copies(&mut secret.metadata);
        let is_key = !owned && secret.type_.as_deref() == Some(SEALING_KEY_TYPE);
        let name = name.filter(|name| is_key && !name.is_empty())?;
        Some((name, Self { metadata: secret.metadata, identity }))
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn time(&self, key: &str) -> Option<Timestamp> {
        self.annotation(key)?.parse().ok()
    }

    fn state(&self) -> Option<KeyState> {
        match self.annotation(KEY_STATE_ANNOTATION)? {
            "Active" => Some(KeyState::Active),
            "Standby" => Some(KeyState::Standby),
            "Retired" => Some(KeyState::Retired),
            "Compromised" => Some(KeyState::Compromised),
            _ => None,
        }
    }
}

fn parse_identity(bytes: &[u8], recipient: Option<&[u8]>) -> Result<Arc<Identity>, KeyProblem> {
    let text = std::str::from_utf8(bytes).map_err(|_| KeyProblem::Malformed)?;
    let mut identities = parse_identities(text).map_err(|_| KeyProblem::Malformed)?;
    let (Some(identity), true) = (identities.pop(), identities.is_empty()) else { return Err(KeyProblem::Malformed) };
    let given = recipient.map(|bytes| std::str::from_utf8(bytes).unwrap_or_default().trim());
    if given.is_some_and(|given| given != identity.recipient().as_str()) {
        return Err(KeyProblem::Mismatch);
    }
    Ok(Arc::new(identity))
}

/// A state as it is written.
pub const fn word(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => "Active",
        KeyState::Standby => "Standby",
        KeyState::Retired => "Retired",
        KeyState::Compromised => "Compromised",
    }
}

/// What the watches have seen.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// SealingKeys by name.
    pub sealing_keys: BTreeMap<String, SealingKey>,
    /// Names of those that can't be read: of a format that was taken once, for one.
    pub unreadable: BTreeSet<String>,
    /// Key Secrets by the key's name.
    pub secrets: BTreeMap<String, KeySecret>,
    /// The ConfigMap.
    pub config: Option<ConfigMap>,
    /// For whom objects are sealed, when that is known.
    pub needs: Option<Arc<Needs>>,
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
