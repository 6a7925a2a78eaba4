//! Sealing keys: which open, which is preferred, what has to be written for it. [`plan`] decides, from what the watches
//! have seen and the time; [`run`] watches and writes. Every write is conditional, so that a plan from an old view fails; what a
//! write came to is known at once, because one watch can tell of what followed before another tells of the write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bulla::metadata::{
    KEY_SECRET_PREFIX, KEY_STATE_ANNOTATION, PREFERRED_AT_ANNOTATION, PUBLISHED_AT_ANNOTATION, SEALING_KEY_TYPE,
};
use bulla::proof::{Challenge, Prover};
use bulla::recipient::{Fingerprint, Identity, RecipientKind, parse_identities, parse_recipients};
use bulla::resource::{API_VERSION, KeyFormat, KeyState, SealingKey, SealingKeyStatus};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use tokio::sync::watch;
use zeroize::{Zeroize as _, Zeroizing};

use crate::api::{Api, Failure, core_path, own_path};
use crate::args::{Settings, parse_duration};
use crate::events::{Events, Note, reference};
use crate::metrics::Metrics;
use crate::reconcile::SecretId;
use crate::status::make_condition;

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
    /// Its metadata, without managedFields.
    pub metadata: ObjectMeta,
    /// The private key in it.
    pub identity: Result<Arc<Identity>, KeyProblem>,
}

impl KeySecret {
    /// Takes the key out of a Secret and clears what it was read from. `None` for what is no key Secret: another name, or
    /// an owner, which may be a SealedSecret.
    pub fn take(mut secret: Secret) -> Option<(String, Self)> {
        let name = secret.metadata.name.as_deref()?.strip_prefix(KEY_SECRET_PREFIX)?.to_owned();
        let owned = secret.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
        let mut data = secret.data.take().unwrap_or_default();
        let identity = match data.get("identity") {
            None => Err(KeyProblem::NoIdentity),
            Some(bytes) => parse_identity(&bytes.0, data.get("recipient").map(|bytes| bytes.0.as_slice())),
        };
        for value in data.values_mut() {
            value.0.zeroize();
        }
        secret.metadata.managed_fields = None;
        let is_key = !owned && secret.type_.as_deref() == Some(SEALING_KEY_TYPE) && !name.is_empty();
        is_key.then_some((name, Self { metadata: secret.metadata, identity }))
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
    /// Key Secrets by the key's name.
    pub secrets: BTreeMap<String, KeySecret>,
    /// The ConfigMap.
    pub config: Option<ConfigMap>,
    /// For whom objects are sealed, when that is known.
    pub needs: Option<Arc<Needs>>,
}

/// Why the controller makes a SealingKey by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    First,
    /// It was deleted, and its private key was not.
    Deleted,
    /// The newest is old (`--renew-after`).
    Renewal,
    /// All that could be sealed for are compromised.
    Compromised,
}

/// One write.
#[derive(Clone, Debug)]
pub enum Action {
    /// A SealingKey: for the first key, or one that was deleted while its Secret stayed.
    CreateSealingKey {
        /// Its name.
        name: String,
        /// Of what kind.
        format: KeyFormat,
        /// In which state.
        state: KeyState,
        /// Why.
        why: Why,
    },
    /// A new key's Secret.
    Generate {
        /// The SealingKey's name.
        name: String,
        /// Of what kind.
        kind: RecipientKind,
    },
    /// Annotations of a key's Secret.
    Annotate {
        /// The key's name.
        name: String,
        /// resourceVersion of what was seen.
        version: String,
        /// What they become.
        annotations: BTreeMap<&'static str, String>,
    },
    /// The ConfigMap.
    Publish {
        /// What it becomes.
        data: BTreeMap<String, String>,
    },
    /// The status of a SealingKey.
    Status {
        /// Its name.
        name: String,
        /// What it becomes.
        status: Box<SealingKeyStatus>,
    },
}

/// What is to be done, and what the ring is until then.
#[derive(Debug, Default)]
pub struct Plan {
    /// The ring.
    pub ring: Ring,
    /// The writes.
    pub actions: Vec<Action>,
    /// When time alone changes something.
    pub next: Option<Timestamp>,
    /// Key Secrets that can't be used, and why.
    pub problems: BTreeMap<String, KeyProblem>,
    /// SealingKeys whose private key was there and is gone.
    pub missing: BTreeSet<String>,
    /// When the key that is sealed for is renewed.
    pub renewal: Option<Timestamp>,
    /// What the metrics say of each key.
    pub told: BTreeMap<String, Told>,
}

/// What the metrics say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its state in effect.
    pub state: KeyState,
    /// Since when it is published.
    pub published: Option<Timestamp>,
    /// Since when it is the preferred one.
    pub preferred: Option<Timestamp>,
    /// Objects that no other loaded key opens.
    pub needed_by: Option<i64>,
}

/// A usable key, while a plan is made.
#[derive(Debug)]
struct Key {
    name: String,
    identity: Arc<Identity>,
    state: KeyState,
    published: Option<Timestamp>,
    preferred: Option<Timestamp>,
    prefer_after: Duration,
    /// Why it is not retired, though its SealingKey asks for it.
    still_needed: Option<String>,
}

impl Key {
    fn kind(&self) -> RecipientKind {
        self.identity.kind()
    }

    /// From when it may be preferred.
    fn ripe_at(&self) -> Option<Timestamp> {
        self.published.and_then(|at| at.checked_add(self.prefer_after).ok())
    }
}

/// The preferred one: the newest Active one that has been published for its time, else the oldest Active one. Hybrid
/// before classical. What has not been published is the newest. Names decide between equals.
fn preferred(keys: &[Key], now: Timestamp) -> Option<&Key> {
    let age = |key: &Key| (key.published.unwrap_or(Timestamp::MAX), key.name.clone());
    let pick = |kind: RecipientKind| {
        let active = || keys.iter().filter(move |key| key.state == KeyState::Active && key.kind() == kind);
        let ripe = active().filter(|key| key.ripe_at().is_some_and(|at| at <= now)).max_by_key(|key| age(key));
        ripe.or_else(|| active().min_by_key(|key| age(key)))
    };
    pick(RecipientKind::Hybrid).or_else(|| pick(RecipientKind::Classical))
}

/// The state in effect: what the SealingKey asks for; but Compromised is left only by editing the Secret.
fn effective(asked: Option<KeyState>, kept: Option<KeyState>, listed: bool) -> KeyState {
    match (asked, kept) {
        (_, Some(KeyState::Compromised)) => KeyState::Compromised,
        (Some(asked), _) => asked,
        // Without a SealingKey, and not known to this cluster: a Secret that a backup brought, say.
        (None, kept) => {
            let kept = kept.unwrap_or_default();
            if listed { kept } else { kept.max(KeyState::Standby) }
        }
    }
}

/// How many objects only this key opens, of the keys that are loaded.
fn needed_by(needs: &Needs, fingerprint: Fingerprint, loaded: &BTreeSet<Fingerprint>) -> usize {
    let only = |set: &BTreeSet<Fingerprint>| {
        set.contains(&fingerprint) && !set.iter().any(|other| *other != fingerprint && loaded.contains(other))
    };
    needs.iter().filter(|(sets, _)| sets.iter().any(only)).map(|(_, count)| count).sum()
}

/// What has to be done.
pub fn plan(observed: &Observed, settings: &Settings, now: Timestamp) -> Plan {
    let mut plan = Plan { ring: Ring { complete: true, ..Ring::default() }, ..Plan::default() };
    if observed.sealing_keys.is_empty() && observed.secrets.is_empty() {
        plan.actions.push(made(observed, RecipientKind::Hybrid, Why::First));
        return plan;
    }
    let published = published(observed.config.as_ref());
    let mut keys = Vec::new();
    for (name, secret) in &observed.secrets {
        let identity = match &secret.identity {
            Ok(identity) => identity.clone(),
            Err(problem) => {
                plan.problems.insert(name.clone(), *problem);
                continue;
            }
        };
        let sealing_key = observed.sealing_keys.get(name);
        // A SealingKey knows its recipient; another private key under its name is not its key.
        let known = sealing_key.and_then(|key| key.status.as_ref()).and_then(|status| status.recipient.as_deref());
        if known.is_some_and(|known| known != identity.recipient().as_str()) {
            plan.problems.insert(name.clone(), KeyProblem::Mismatch);
            continue;
        }
        let listed = published.contains(&identity.recipient().fingerprint());
        let state = effective(sealing_key.map(|key| key.spec.state), secret.state(), listed);
        let prefer_after = sealing_key
            .and_then(|key| parse_duration(key.spec.prefer_after.as_deref()?).ok())
            .unwrap_or(settings.prefer_after);
        if sealing_key.is_none() {
            let format = match identity.kind() {
                RecipientKind::Hybrid => KeyFormat::Hybrid,
                RecipientKind::Classical => KeyFormat::Classical,
            };
            plan.actions.push(Action::CreateSealingKey { name: name.clone(), format, state, why: Why::Deleted });
        }
        keys.push(Key {
            name: name.clone(),
            identity,
            state,
            published: secret.time(PUBLISHED_AT_ANNOTATION),
            preferred: secret.time(PREFERRED_AT_ANNOTATION),
            prefer_after,
            still_needed: None,
        });
    }
    drop_doubles(&mut keys, &mut plan);
    refuse_retirement(observed, &mut keys);
    for (name, sealing_key) in &observed.sealing_keys {
        let made_before = sealing_key.status.as_ref().is_some_and(|status| status.recipient.is_some());
        let deleted = sealing_key.metadata.deletion_timestamp.is_some();
        if made_before && !observed.secrets.contains_key(name) {
            plan.missing.insert(name.clone());
        }
        if observed.secrets.contains_key(name) || made_before || deleted {
            continue;
        }
        match sealing_key.spec.format {
            KeyFormat::Hybrid => {
                plan.actions.push(Action::Generate { name: name.clone(), kind: RecipientKind::Hybrid });
            }
            KeyFormat::Classical => {
                plan.actions.push(Action::Generate { name: name.clone(), kind: RecipientKind::Classical });
            }
            KeyFormat::Rsa => {}
        }
    }
    annotate(observed, &published, &mut keys, now, &mut plan);
    publish(observed, settings, &keys, now, &mut plan);
    fill_ring(&keys, now, &mut plan);
    statuses(observed, &keys, now, &mut plan);
    renew(observed, settings, &keys, now, &mut plan);
    let ripening = keys.iter().filter(|key| key.state == KeyState::Active).filter_map(Key::ripe_at);
    plan.next = ripening.chain(plan.renewal).filter(|at| *at > now).min();
    plan
}

/// A SealingKey that the controller makes by itself: named by serial, so that two controllers that see the same can't make
/// two.
fn made(observed: &Observed, kind: RecipientKind, why: Why) -> Action {
    let format = match kind {
        RecipientKind::Hybrid => KeyFormat::Hybrid,
        RecipientKind::Classical => KeyFormat::Classical,
    };
    let serial = |name: &String| name.strip_prefix(&format!("{kind}-"))?.parse::<u32>().ok();
    let last = observed.sealing_keys.keys().chain(observed.secrets.keys()).filter_map(serial).max().unwrap_or_default();
    let name = format!("{kind}-{}", last.saturating_add(1));
    Action::CreateSealingKey { name, format, state: KeyState::Active, why }
}

/// Makes the next key when the newest of the kind that is sealed for was published long ago, or when there is none to seal
/// for because those that were are compromised.
fn renew(observed: &Observed, settings: &Settings, keys: &[Key], now: Timestamp, plan: &mut Plan) {
    // One that is not made or not published yet is newer than all others.
    let coming = |kind: RecipientKind| {
        let format = match kind {
            RecipientKind::Hybrid => KeyFormat::Hybrid,
            RecipientKind::Classical => KeyFormat::Classical,
        };
        let made = observed.sealing_keys.iter().any(|(name, key)| {
            key.spec.format == format
                && key.spec.state == KeyState::Active
                && !observed.secrets.contains_key(name)
                && !plan.missing.contains(name)
        });
        made || keys.iter().any(|key| key.kind() == kind && key.state == KeyState::Active && key.published.is_none())
    };
    let Some(kind) = preferred(keys, now).map(Key::kind) else {
        let compromised = keys.iter().any(|key| key.state == KeyState::Compromised);
        if compromised && !coming(RecipientKind::Hybrid) {
            plan.actions.push(made(observed, RecipientKind::Hybrid, Why::Compromised));
        }
        return;
    };
    if settings.renew_after.is_zero() || coming(kind) {
        return;
    }
    let active = keys.iter().filter(|key| key.kind() == kind && key.state == KeyState::Active);
    let newest = active.filter_map(|key| key.published).max();
    let Some(due) = newest.and_then(|at| at.checked_add(settings.renew_after).ok()) else { return };
    plan.renewal = Some(due);
    // One more than are loaded would put the oldest out of use: somebody has to retire one first, and the metric shows it.
    let room = keys.iter().filter(|key| key.kind() == kind && key.state != KeyState::Retired).count() < MAX_KEYS;
    if due <= now && room {
        plan.actions.push(made(observed, kind, Why::Renewal));
    }
}

/// Of several Secrets with one private key the one counts that says Compromised, else the one that was published first.
fn drop_doubles(keys: &mut Vec<Key>, plan: &mut Plan) {
    let rank = |key: &Key| {
        let published = key.published.unwrap_or(Timestamp::MAX);
        (key.state != KeyState::Compromised, published, key.name.clone())
    };
    let mut best: HashMap<String, (bool, Timestamp, String)> = HashMap::new();
    for key in keys.iter() {
        let recipient = key.identity.recipient().as_str().to_owned();
        let this = rank(key);
        let kept = best.entry(recipient).or_insert_with(|| this.clone());
        if this < *kept {
            *kept = this;
        }
    }
    keys.retain(|key| {
        let counts = best.get(key.identity.recipient().as_str()).is_some_and(|(.., name)| *name == key.name);
        if !counts {
            plan.problems.insert(key.name.clone(), KeyProblem::Doubled);
        }
        counts
    });
}

/// A key is not retired while something needs it, or while there is no other Active one: it stays what it was.
fn refuse_retirement(observed: &Observed, keys: &mut [Key]) {
    let opening: BTreeSet<_> = keys
        .iter()
        .filter(|key| key.state != KeyState::Retired)
        .map(|key| key.identity.recipient().fingerprint())
        .collect();
    let another = keys.iter().any(|key| key.state == KeyState::Active);
    for key in keys.iter_mut().filter(|key| key.state == KeyState::Retired) {
        let forced = observed.sealing_keys.get(&key.name).is_some_and(|asked| asked.spec.force == Some(true));
        // Without a SealingKey the Secret's word stands.
        let asked = observed.sealing_keys.contains_key(&key.name);
        let kept = observed.secrets.get(&key.name).and_then(KeySecret::state).unwrap_or_default();
        if !asked || kept == KeyState::Retired || (forced && another) {
            continue;
        }
        let needed = observed.needs.as_ref().map(|n| needed_by(n, key.identity.recipient().fingerprint(), &opening));
        key.still_needed = match needed {
            _ if !another => Some("it is the last Active key".to_owned()),
            None => Some("it is not known yet what needs it".to_owned()),
            Some(0) => None,
            Some(count) => Some(format!("{count} SealedSecrets are opened by no other key")),
        };
        if key.still_needed.is_some() {
            key.state = kept;
        }
    }
}

fn published(config: Option<&ConfigMap>) -> BTreeSet<Fingerprint> {
    let text = config.and_then(|config| config.data.as_ref()?.get("recipients")).map(String::as_str);
    let listed = parse_recipients(text.unwrap_or_default()).unwrap_or_default();
    listed.iter().map(|listed| listed.recipient.fingerprint()).collect()
}

/// Keeps state and times with the keys. A key counts as published when it is seen in the ConfigMap.
fn annotate(observed: &Observed, listed: &BTreeSet<Fingerprint>, keys: &mut [Key], now: Timestamp, plan: &mut Plan) {
    for key in keys.iter_mut() {
        if key.state == KeyState::Active
            && key.published.is_none()
            && listed.contains(&key.identity.recipient().fingerprint())
        {
            key.published = Some(now);
        }
    }
    let chosen = preferred(keys, now).map(|key| key.name.clone());
    let newest = keys.iter().filter_map(|key| key.preferred).max();
    for key in keys.iter_mut() {
        // Chosen again after another was: its time is the later one, and orders the ring.
        let again = key.preferred.is_none() || key.preferred < newest;
        if chosen.as_deref() == Some(&key.name) && key.published.is_some() && again {
            key.preferred = Some(now);
        }
        let Some(secret) = observed.secrets.get(&key.name) else { continue };
        let mut annotations = BTreeMap::new();
        let mut want = |name: &'static str, value: Option<String>| {
            if let Some(value) = value
                && secret.annotation(name) != Some(value.as_str())
            {
                annotations.insert(name, value);
            }
        };
        want(KEY_STATE_ANNOTATION, Some(word(key.state).to_owned()));
        // The time as it stands there, if it stands there: another spelling of it is not a change.
        if secret.time(PUBLISHED_AT_ANNOTATION) != key.published {
            want(PUBLISHED_AT_ANNOTATION, key.published.map(rfc3339));
        }
        if secret.time(PREFERRED_AT_ANNOTATION) != key.preferred {
            want(PREFERRED_AT_ANNOTATION, key.preferred.map(rfc3339));
        }
        if !annotations.is_empty() {
            let version = secret.metadata.resource_version.clone().unwrap_or_default();
            plan.actions.push(Action::Annotate { name: key.name.clone(), version, annotations });
        }
    }
}

fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The order in which lines are looked for.
fn ordered(keys: &[Key]) -> Vec<&Key> {
    let mut ordered: Vec<&Key> = keys.iter().collect();
    let newest_first = |key: &&Key| (key.preferred, key.published, key.name.clone());
    ordered.sort_by_key(|key| std::cmp::Reverse(newest_first(key)));
    ordered
}

fn fill_ring(keys: &[Key], now: Timestamp, plan: &mut Plan) {
    let chosen = preferred(keys, now).map(|key| key.name.as_str());
    plan.ring.own = keys.iter().map(|key| key.identity.recipient().fingerprint()).collect();
    let mut loaded = ordered(keys);
    loaded.retain(|key| key.state != KeyState::Retired);
    // The one to wrap for first, also in the moment before its time is written down.
    loaded.sort_by_key(|key| chosen != Some(key.name.as_str()));
    let mut count: HashMap<RecipientKind, usize> = HashMap::new();
    for key in loaded {
        let count = count.entry(key.kind()).or_default();
        *count += 1;
        if *count <= MAX_KEYS {
            let (name, identity) = (key.name.as_str().into(), key.identity.clone());
            let answers = match key.state {
                KeyState::Active => true,
                KeyState::Standby => key.published.is_some(),
                KeyState::Retired | KeyState::Compromised => false,
            };
            plan.ring.keys.push(RingKey { name, identity, state: key.state, answers });
        }
    }
    plan.ring.preferred = chosen.and_then(|name| plan.ring.keys.iter().position(|key| &*key.name == name));
}

/// The ConfigMap's data: the preferred recipient first, then the other Active ones, the newest first.
fn publish(observed: &Observed, settings: &Settings, keys: &[Key], now: Timestamp, plan: &mut Plan) {
    let first = preferred(keys, now);
    if first.is_none() && observed.config.is_none() {
        return;
    }
    // None to seal for is said too: what is compromised or set aside is not published any longer.
    let is_first = |key: &Key| first.is_some_and(|first| first.name == key.name);
    let mut active: Vec<&Key> = keys.iter().filter(|key| key.state == KeyState::Active).collect();
    active.sort_by_key(|key| std::cmp::Reverse((is_first(key), key.published, key.name.clone())));
    let mut recipients = String::new();
    for key in active {
        recipients.push_str(&format!("# key: {}\n", key.name));
        // One name, one recipient: only what is to be sealed for bears the cluster's name.
        if let Some(name) = settings.cluster_name.as_ref().filter(|_| is_first(key)) {
            recipients.push_str(&format!("# name: {name}\n"));
        }
        recipients.push_str(key.identity.recipient().as_str());
        recipients.push('\n');
    }
    let mut data = BTreeMap::from([("recipients".to_owned(), recipients)]);
    if let Some(name) = &settings.cluster_name {
        data.insert("cluster".to_owned(), name.clone());
    }
    // Whoever is limited to some namespaces is not to be sealed for everywhere.
    let everywhere = settings.configured.iter().filter(|configured| configured.namespaces.is_none());
    let recovery: String =
        everywhere.map(|one| format!("# name: {}\n{}\n", one.name, one.recipient.as_str())).collect();
    if !recovery.is_empty() {
        data.insert("recovery".to_owned(), recovery);
    }
    let config = observed.config.as_ref();
    let is = config.and_then(|config| config.data.as_ref());
    let binary = config.and_then(|config| config.binary_data.as_ref()).is_some_and(|data| !data.is_empty());
    if is != Some(&data) || binary {
        plan.actions.push(Action::Publish { data: data.clone() });
    }
    plan.ring.published = data;
}

fn statuses(observed: &Observed, keys: &[Key], now: Timestamp, plan: &mut Plan) {
    let loaded: BTreeSet<_> = plan.ring.keys.iter().map(|key| key.identity.recipient().fingerprint()).collect();
    for (name, sealing_key) in &observed.sealing_keys {
        let key = keys.iter().find(|key| key.name == *name);
        let old = sealing_key.status.clone().unwrap_or_default();
        let chosen = |key: &Key| plan.ring.preferred().is_some_and(|preferred| *preferred.name == *key.name);
        let waits =
            |key: &Key| key.state == KeyState::Active && key.ripe_at().is_some_and(|at| at > now) && !chosen(key);
        let too_many = || !plan.ring.keys.iter().any(|key| *key.name == **name);
        let (ready, reason, message) = match key {
            Some(key) if key.state == KeyState::Retired => ("False", "Retired", "kept, and opens nothing".to_owned()),
            Some(_) if too_many() => ("False", "TooMany", format!("at most {MAX_KEYS} keys of a format are loaded")),
            Some(key) if waits(key) => {
                let at = key.ripe_at().map(rfc3339).unwrap_or_default();
                ("True", "Ripening", format!("published, and preferred from {at} on"))
            }
            Some(_) => ("True", "Loaded", "opens what is sealed for it".to_owned()),
            None if sealing_key.spec.format == KeyFormat::Rsa => {
                ("False", "FormatUnsupported", "rsa keys are not supported by this version".to_owned())
            }
            None => match plan.problems.get(name) {
                Some(problem) => {
                    let text = format!("the Secret {KEY_SECRET_PREFIX}{name} can't be used: {problem}");
                    ("False", "Malformed", text)
                }
                None if old.recipient.is_some() => {
                    let text = format!(
                        "the Secret {KEY_SECRET_PREFIX}{name} is gone: restore it, or delete this SealingKey and create another"
                    );
                    ("False", "KeyMissing", text)
                }
                None => ("False", "Generating", "the key is being made".to_owned()),
            },
        };
        let generation = sealing_key.metadata.generation;
        let mut conditions = vec![make_condition(&old.conditions, "Ready", ready, reason, &message, generation, now)];
        let mut refused = |type_: &str, reason: &str, text: &str| {
            conditions.push(make_condition(&old.conditions, type_, "True", reason, text, generation, now));
        };
        match key {
            Some(Key { still_needed: Some(why), .. }) => {
                refused(
                    "StillNeeded",
                    "StillNeeded",
                    &format!("not retired: {why} (spec.force retires it all the same)"),
                );
            }
            Some(key) if key.state != sealing_key.spec.state => {
                let text = format!("the Secret says {}; only editing it leaves that", word(key.state));
                refused("StateRefused", "Compromised", &text);
            }
            _ => {}
        }
        let recipient = key.map(|key| key.identity.recipient());
        let needed = recipient.zip(observed.needs.as_ref()).map(|(recipient, needs)| {
            i64::try_from(needed_by(needs, recipient.fingerprint(), &loaded)).unwrap_or(i64::MAX)
        });
        if let Some(key) = key {
            let told = Told {
                state: key.state,
                published: key.published,
                preferred: key.preferred,
                needed_by: needed.or(old.needed_by),
            };
            plan.told.insert(name.clone(), told);
        }
        let status = SealingKeyStatus {
            observed_generation: generation,
            state: key.map(|key| key.state),
            fingerprint: recipient.map(|r| r.fingerprint().to_string()).or(old.fingerprint),
            recipient: recipient.map(|r| r.as_str().to_owned()).or(old.recipient),
            published_at: key.and_then(|key| key.published).map(rfc3339),
            preferred_at: key.and_then(|key| key.preferred).map(rfc3339),
            needed_by: needed.or(old.needed_by),
            conditions,
        };
        if sealing_key.status.as_ref() != Some(&status) {
            plan.actions.push(Action::Status { name: name.clone(), status: Box::new(status) });
        }
    }
}

/// What the key ring works with.
pub struct Keyring {
    /// The API server.
    pub api: Api,
    /// Events.
    pub events: Events,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What was published last, to tell one's own work from somebody else's.
    pub published: Mutex<Option<BTreeMap<String, String>>>,
    /// Where the ring goes.
    pub ring: watch::Sender<Arc<Ring>>,
    /// For whom objects are sealed.
    pub needs: watch::Receiver<Option<Arc<Needs>>>,
    /// Changes when etcd was restored from a backup: a watch from a later version than there is would tell nothing.
    pub rewound: watch::Receiver<u64>,
}

/// Watches keys and does what [`plan`] says, until it is dropped.
pub async fn run(mut keyring: Keyring) {
    let namespace = keyring.settings.namespace.clone();
    let client = keyring.api.client();
    let keys = kube::Api::<DeserializeGuard<SealingKey>>::namespaced(client.clone(), &namespace);
    let secrets = kube::Api::<DeserializeGuard<Secret>>::namespaced(client.clone(), &namespace);
    let configs = kube::Api::<ConfigMap>::namespaced(client, &namespace);
    let of_type = Config::default().fields(&format!("type={SEALING_KEY_TYPE}"));
    let of_name = Config::default().fields(&format!("metadata.name={RECIPIENTS}"));
    let open = || {
        let keys = watcher(keys.clone(), Config::default()).default_backoff().boxed();
        let secrets = watcher(secrets.clone(), of_type.clone()).default_backoff().boxed();
        (keys, secrets, watcher(configs.clone(), of_name.clone()).default_backoff().boxed())
    };
    let (mut keys, mut secrets, mut configs) = open();
    let mut observed = Observed::default();
    // Which of the three watches have seen everything.
    let mut complete = [false; 3];
    let mut next: Option<Timestamp> = None;
    let mut told = Spoken::default();
    // A write that failed for another reason than an old view is tried again after this.
    let mut again = false;
    loop {
        let mut pause = Duration::from_secs(3600);
        if let Some(at) = next {
            let left = at.duration_since(Timestamp::now());
            pause = pause.min(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(20));
        }
        if again {
            pause = pause.min(Duration::from_secs(2));
        }
        tokio::select! {
            event = keys.next() => complete[0] = see_keys(&mut observed, event, complete[0]),
            event = secrets.next() => complete[1] = see_secrets(&mut observed, event, complete[1]),
            event = configs.next() => complete[2] = see_config(&mut observed, event, complete[2]),
            Ok(()) = keyring.rewound.changed() => (keys, secrets, configs) = open(),
            Ok(()) = keyring.needs.changed() => observed.needs = keyring.needs.borrow_and_update().clone(),
            () = tokio::time::sleep(pause) => {}
        }
        if complete != [true; 3] {
            continue;
        }
        let plan = plan(&observed, &keyring.settings, Timestamp::now());
        keyring.tell(&plan, &observed, &mut told).await;
        next = plan.next;
        // While another replica leads it writes; when this one does, this is what it begins with.
        again = !keyring.api.may_write() && !plan.actions.is_empty();
        if again {
            continue;
        }
        for action in &plan.actions {
            if let Err(failure) = keyring.perform(action, &mut observed).await {
                // An old view: the watch brings the new one.
                use Failure::{AlreadyExists, Conflict, NotFound, NotLeading};
                if !matches!(failure, Conflict | AlreadyExists | NotFound | NotLeading) {
                    tracing::warn!(%failure, action = describe(action), "a write of the key ring failed");
                }
                again = true;
            }
        }
    }
}

/// What has been told already.
#[derive(Debug, Default)]
struct Spoken {
    problems: BTreeMap<String, KeyProblem>,
    missing: BTreeSet<String>,
    keys: BTreeMap<String, Told>,
}

fn describe(action: &Action) -> &'static str {
    match action {
        Action::CreateSealingKey { .. } => "create a SealingKey",
        Action::Generate { .. } => "create the Secret of a key",
        Action::Annotate { .. } => "annotate the Secret of a key",
        Action::Publish { .. } => "write the ConfigMap bulla-recipients",
        Action::Status { .. } => "write the status of a SealingKey",
    }
}

type Seen<K> = Option<Result<Event<K>, kube::runtime::watcher::Error>>;

/// Whether a watch tells of an older version than is known from an answer.
fn is_older(told: &ObjectMeta, known: Option<&ObjectMeta>) -> bool {
    known.is_some_and(|known| SecretId::of(told).is_older(SecretId::of(known)))
}

fn see_keys(observed: &mut Observed, event: Seen<DeserializeGuard<SealingKey>>, complete: bool) -> bool {
    match event {
        Some(Ok(Event::Init)) => {
            observed.sealing_keys.clear();
            false
        }
        Some(Ok(Event::InitApply(DeserializeGuard(key)) | Event::Apply(DeserializeGuard(key)))) => {
            if let Ok(mut key) = key {
                key.metadata.managed_fields = None;
                let name = key.metadata.name.clone().unwrap_or_default();
                if !is_older(&key.metadata, observed.sealing_keys.get(&name).map(|known| &known.metadata)) {
                    observed.sealing_keys.insert(name, key);
                }
            }
            complete
        }
        Some(Ok(Event::Delete(key))) => {
            observed.sealing_keys.remove(kube::Resource::meta(&key).name.as_deref().unwrap_or_default());
            complete
        }
        Some(Ok(Event::InitDone)) => true,
        Some(Err(error)) => watch_failed("sealingkeys", &error, complete),
        None => complete,
    }
}

fn see_secrets(observed: &mut Observed, event: Seen<DeserializeGuard<Secret>>, complete: bool) -> bool {
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

fn see_config(observed: &mut Observed, event: Seen<ConfigMap>, complete: bool) -> bool {
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

impl Keyring {
    /// The ring to who opens, the problems to whom it concerns.
    async fn tell(&self, plan: &Plan, observed: &Observed, told: &mut Spoken) {
        self.metrics.keys.set(i64::try_from(plan.ring.keys.len()).unwrap_or_default());
        self.metrics.malformed_keys.set(i64::try_from(plan.problems.len()).unwrap_or_default());
        self.metrics.missing_keys.set(i64::try_from(plan.missing.len()).unwrap_or_default());
        self.metrics.renewal_due.set(plan.renewal.map_or(0, Timestamp::as_second));
        self.metrics.tell_keys(&told.keys, &plan.told, plan.ring.preferred().map(|key| &*key.name));
        told.keys.clone_from(&plan.told);
        let is_new = !self.ring.borrow().same(&plan.ring);
        if is_new {
            let preferred = plan.ring.preferred().map(|key| key.identity.recipient().fingerprint().to_string());
            tracing::info!(keys = plan.ring.keys.len(), preferred, "the key ring is loaded");
            self.ring.send_replace(Arc::new(plan.ring.clone()));
        }
        for (name, problem) in &plan.problems {
            if told.problems.get(name) != Some(problem)
                && let Some(secret) = observed.secrets.get(name)
            {
                tracing::error!(secret = format!("{KEY_SECRET_PREFIX}{name}"), %problem, "a key can't be used");
                let note = Note::warning("KeyMalformed", format!("this key is not used: {problem}"));
                self.events.publish(reference("Secret", &secret.metadata), &note).await;
            }
        }
        told.problems.clone_from(&plan.problems);
        for name in plan.missing.difference(&told.missing) {
            if let Some(key) = observed.sealing_keys.get(name) {
                tracing::error!(key = name, "the private key is gone");
                let note =
                    Note::warning("KeyMissing", format!("the Secret {KEY_SECRET_PREFIX}{name} is gone: restore it"));
                self.events.publish(reference("SealingKey", &key.metadata), &note).await;
            }
        }
        told.missing.clone_from(&plan.missing);
    }

    /// Carries it out, and takes down what it came to.
    async fn perform(&self, action: &Action, observed: &mut Observed) -> Result<(), Failure> {
        let namespace = &self.settings.namespace;
        match action {
            Action::CreateSealingKey { name, format, state, why } => {
                let mut key = SealingKey::new(name, bulla::resource::SealingKeySpec::default());
                key.spec.format = *format;
                key.spec.state = *state;
                let body = serde_json::to_vec(&key).map_err(|_| Failure::Refused(0))?;
                key.metadata = self.api.create(&own_path(namespace, "sealingkeys"), body).await?;
                tracing::info!(key = name, state = word(*state), "created a SealingKey");
                let note = match why {
                    Why::First => None,
                    Why::Deleted => {
                        Some(Note::warning("Recreated", "the SealingKey was deleted, and its private key was not"))
                    }
                    Why::Renewal => {
                        Some(Note::warning("Renewed", "the key before it is old: reseal what is sealed for it"))
                    }
                    Why::Compromised => {
                        Some(Note::warning("Replaced", "no key was left to seal for that is not compromised"))
                    }
                };
                if let Some(note) = note {
                    self.events.publish(reference("SealingKey", &key.metadata), &note).await;
                }
                observed.sealing_keys.insert(name.clone(), key);
            }
            Action::Generate { name, kind } => {
                let identity = Identity::generate(*kind).map_err(|_| Failure::Unavailable)?;
                let body = key_body(namespace, name, &identity);
                let metadata = self.api.create(&core_path(namespace, "secrets"), body).await?;
                let fingerprint = identity.recipient().fingerprint();
                tracing::info!(key = name, %fingerprint, "made a sealing key");
                observed.secrets.insert(name.clone(), KeySecret { metadata, identity: Ok(Arc::new(identity)) });
            }
            Action::Annotate { name, version, annotations } => {
                let patch =
                    serde_json::json!({ "metadata": { "resourceVersion": version, "annotations": annotations } });
                let secret = format!("{KEY_SECRET_PREFIX}{name}");
                let body = patch.to_string().into_bytes();
                let metadata = self.api.merge(&core_path(namespace, "secrets"), &secret, body).await?;
                if let Some(secret) = observed.secrets.get_mut(name) {
                    secret.metadata = metadata;
                }
            }
            Action::Publish { data } => observed.config = Some(self.publish(data, observed.config.as_ref()).await?),
            Action::Status { name, status } => {
                let Some(key) = observed.sealing_keys.get_mut(name) else { return Ok(()) };
                let body = serde_json::json!({
                    "apiVersion": API_VERSION,
                    "kind": "SealingKey",
                    "metadata": {
                        "name": name,
                        "namespace": namespace,
                        "uid": key.metadata.uid,
                        "resourceVersion": key.metadata.resource_version,
                    },
                    "spec": key.spec,
                    "status": status,
                });
                let path = own_path(namespace, "sealingkeys");
                key.metadata = self.api.replace_status(&path, name, body.to_string().into_bytes()).await?;
                key.status = Some(status.as_ref().clone());
            }
        }
        Ok(())
    }

    async fn publish(
        &self,
        data: &BTreeMap<String, String>,
        existing: Option<&ConfigMap>,
    ) -> Result<ConfigMap, Failure> {
        let mut config = ConfigMap { data: Some(data.clone()), ..ConfigMap::default() };
        config.metadata = existing.map(|existing| existing.metadata.clone()).unwrap_or_default();
        config.metadata.name = Some(RECIPIENTS.to_owned());
        config.metadata.namespace = Some(self.settings.namespace.clone());
        let body = serde_json::to_vec(&config).map_err(|_| Failure::Refused(0))?;
        let path = core_path(&self.settings.namespace, "configmaps");
        let before = existing.and_then(|existing| existing.data.as_ref());
        config.metadata = match existing {
            Some(_) => self.api.replace(&path, RECIPIENTS, body).await?,
            None => self.api.create(&path, body).await?,
        };
        tracing::info!("published the recipients");
        let last = self.published.lock().unwrap_or_else(PoisonError::into_inner).replace(data.clone());
        // Somebody else wrote it when it held neither what was published last nor, after a restart, what some set of our
        // keys makes.
        let ours = before.is_some_and(|before| {
            if let Some(last) = &last {
                return last == before;
            }
            parse_recipients(before.get("recipients").map(String::as_str).unwrap_or_default()).is_ok_and(|listed| {
                let ring = self.ring.borrow();
                listed.iter().all(|listed| ring.find(listed.recipient.fingerprint()).is_some())
            })
        });
        if existing.is_some() && !ours {
            let note = Note::warning("RecipientsRestored", "somebody else had changed the recipients");
            self.events.publish(reference("ConfigMap", &config.metadata), &note).await;
        }
        Ok(config)
    }
}

/// The Secret of a new key. No owner: deleting the SealingKey does not delete it.
fn key_body(namespace: &str, name: &str, identity: &Identity) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Data<'a> {
        identity: &'a str,
        recipient: &'a str,
    }
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        api_version: &'static str,
        kind: &'static str,
        metadata: serde_json::Value,
        #[serde(rename = "type")]
        type_: &'static str,
        data: Data<'a>,
    }
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let line = Zeroizing::new(format!("{}\n", identity.expose().as_str()));
    let (secret, public) = (Zeroizing::new(encode(&line)), encode(identity.recipient().as_str()));
    let body = Body {
        api_version: "v1",
        kind: "Secret",
        metadata: serde_json::json!({
            "name": format!("{KEY_SECRET_PREFIX}{name}"),
            "namespace": namespace,
            "annotations": { KEY_STATE_ANNOTATION: word(KeyState::Active) },
        }),
        type_: SEALING_KEY_TYPE,
        data: Data { identity: &secret, recipient: &public },
    };
    let mut bytes = Vec::with_capacity(16 * 1024);
    // Into memory, with text keys: it can't fail.
    let _ = serde_json::to_writer(&mut bytes, &body);
    bytes
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
