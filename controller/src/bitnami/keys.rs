//! RSA keys: which open, which is the newest, and when another is made. [`plan`] decides, from what the watches have seen and
//! the time; [`run`] watches and writes. The layout of the Secrets is the established controller's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulla::bitnami::{
    ACTIVE, CERTIFICATE_MEMBER, Certificate, KEY_MEMBER, KeyFingerprint, KeyProblem, KeySecret, NewKey, PrivateKey,
    generate,
};
use bulla::digest::inputs_digest;
use bulla::metadata::{BITNAMI_KEY_LABEL, drop_copies};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::args::{BitnamiSettings, KeyOrder, Mode};
use super::metrics::Metrics;
use crate::api::{Api, Failure, core_path};
use crate::events::{Events, Note, reference};
use crate::keyring::watch_failed;
use crate::queue::back_off;
use crate::reconcile::Body;

/// One key that opens.
#[derive(Clone)]
pub struct RsaKey {
    /// Its Secret's name.
    pub name: Arc<str>,
    /// The private key.
    pub key: Arc<PrivateKey>,
    /// Whom it is sealed for.
    pub certificate: Arc<Certificate>,
    /// What it is ordered by.
    pub at: Timestamp,
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaKey({}, {})", self.name, self.key.fingerprint())
    }
}

/// The keys that open, the newest first.
#[derive(Clone, Debug, Default)]
pub struct RsaRing {
    /// Whether the watches have seen everything once.
    pub complete: bool,
    /// The keys.
    pub keys: Vec<RsaKey>,
}

impl RsaRing {
    /// What [`bulla::bitnami::open`] takes.
    pub fn private_keys(&self) -> Vec<&PrivateKey> {
        self.keys.iter().map(|key| key.key.as_ref()).collect()
    }

    /// The one that is sealed for.
    pub fn newest(&self) -> Option<&RsaKey> {
        self.keys.first()
    }

    /// The key whose fingerprint begins so.
    pub fn hinted(&self, begins: Option<u32>) -> Option<KeyFingerprint> {
        let begins = begins?;
        self.keys.iter().map(|key| key.key.fingerprint()).find(|fingerprint| fingerprint.begin() == begins)
    }

    fn same(&self, other: &Self) -> bool {
        let of =
            |ring: &Self| ring.keys.iter().map(|key| (key.name.clone(), key.key.fingerprint())).collect::<Vec<_>>();
        self.complete == other.complete && of(self) == of(other)
    }
}

/// What the watches have seen.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// By name: those with the label, whatever its value.
    pub labelled: BTreeMap<String, KeySecret>,
    /// The one that is named as the prefix says.
    pub legacy: BTreeMap<String, KeySecret>,
}

/// Why another key is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    First,
    /// The newest is older than `--key-renew-period`.
    Renewal,
    /// The newest is older than `--key-cutoff-time`.
    Cutoff,
    /// Somebody asked for it with SIGUSR1.
    Asked,
}

/// What is to be done, and what the ring is until then.
#[derive(Debug, Default)]
pub struct Plan {
    /// The ring.
    pub ring: RsaRing,
    /// Another key is to be made.
    pub make: Option<Why>,
    /// When time alone changes that.
    pub next: Option<Timestamp>,
    /// When the next key is due, also when that is over.
    pub due: Option<Timestamp>,
    /// Secrets that say they are active keys and can't be used.
    pub problems: BTreeMap<String, KeyProblem>,
}

/// What has to be done.
pub fn plan(observed: &Observed, settings: &BitnamiSettings, now: Timestamp) -> Plan {
    let mut plan = Plan { ring: RsaRing { complete: true, keys: Vec::new() }, ..Plan::default() };
    let all = observed.legacy.iter().chain(&observed.labelled);
    let secrets: BTreeMap<&String, &KeySecret> = all.collect();
    for (name, secret) in secrets {
        if !secret.is_active(&settings.prefix) {
            continue;
        }
        match &secret.pair {
            Ok((key, certificate)) => {
                let made = secret.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
                let from = Timestamp::from_second(certificate.not_before()).unwrap_or(Timestamp::UNIX_EPOCH);
                let at = if settings.order == KeyOrder::CertNotBefore { from } else { made };
                let (key, certificate) = (key.clone(), certificate.clone());
                plan.ring.keys.push(RsaKey { name: name.as_str().into(), key, certificate, at });
            }
            Err(problem) => {
                plan.problems.insert(name.clone(), *problem);
            }
        }
    }
    let made = |key: &RsaKey| {
        let secret = observed.labelled.get(&*key.name).or_else(|| observed.legacy.get(&*key.name));
        secret.and_then(|secret| secret.metadata.creation_timestamp.clone())
    };
    // Of two that are equally new the one counts that was there first, as there.
    plan.ring
        .keys
        .sort_by_cached_key(|key| (std::cmp::Reverse(key.at), made(key).map(|time| time.0), key.name.clone()));
    // Under two names a key is still one.
    let mut seen = BTreeSet::new();
    plan.ring.keys.retain(|key| seen.insert(key.key.fingerprint()));
    if settings.mode == Mode::Own {
        (plan.make, plan.next) = renewal(plan.ring.newest(), settings, now);
        let renewed = plan.ring.newest().filter(|_| !settings.renew.is_zero());
        plan.due = renewed.and_then(|newest| newest.at.checked_add(settings.renew).ok());
    }
    plan
}

/// Whether another key is to be made now, and if not, when.
fn renewal(newest: Option<&RsaKey>, settings: &BitnamiSettings, now: Timestamp) -> (Option<Why>, Option<Timestamp>) {
    let Some(newest) = newest else { return (Some(Why::First), None) };
    // A cutoff in the future would make one key after another.
    if settings.cutoff.is_some_and(|cutoff| newest.at < cutoff && cutoff <= now) {
        return (Some(Why::Cutoff), None);
    }
    if settings.renew.is_zero() {
        return (None, settings.cutoff.filter(|cutoff| *cutoff > now && newest.at < *cutoff));
    }
    match newest.at.checked_add(settings.renew) {
        Ok(due) if due <= now => (Some(Why::Renewal), None),
        Ok(due) => (None, Some(due)),
        Err(_) => (None, None),
    }
}

/// The name of the next key: of what is there already. Two controllers that see the same make the same name, and one of them
/// is told that it is there. One that is `taken` by what nobody sees, a key whose label was removed for one, is not tried again.
fn next_name(observed: &Observed, prefix: &str, taken: &BTreeSet<String>) -> String {
    let names = observed.legacy.iter().chain(&observed.labelled).map(|(name, secret)| (name, &secret.metadata.uid));
    let mut text: String =
        names.map(|(name, uid)| format!("{name}\n{}\n", uid.as_deref().unwrap_or_default())).collect();
    loop {
        let digest = inputs_digest(&[b"bulla/v1/rsa-key-name", text.as_bytes()]);
        let name = format!("{prefix}{}", digest.get(1..6).unwrap_or("00001"));
        if !taken.contains(&name) {
            return name;
        }
        text.push_str("taken\n");
    }
}

/// The longest pause between tries to make a key.
const MOST: Duration = Duration::from_secs(300);

/// What tries to make a key came to: each costs seconds of computing, so that they become rare where none can be stored.
#[derive(Debug, Default)]
struct Tries {
    /// Names that are there: of Secrets that are no keys, or that nobody sees yet.
    taken: BTreeSet<String>,
    /// How often in a row it failed, and why last.
    failed: u32,
    failure: Option<Failure>,
    /// The next is not before this.
    after: Option<Instant>,
}

impl Tries {
    /// How long to wait for the next.
    fn wait(&self, now: Instant) -> Duration {
        self.after.map(|after| after.saturating_duration_since(now)).unwrap_or_default()
    }

    /// Nothing is to be made any more, or something else.
    fn forget(&mut self) {
        *self = Self { taken: std::mem::take(&mut self.taken), ..Self::default() };
    }

    /// One failed. Returns whether that is news.
    fn failed(&mut self, failure: Failure, now: Instant) -> bool {
        self.after = now.checked_add(back_off(self.failed, MOST));
        self.failed = self.failed.saturating_add(1);
        let is_news = self.failure.as_ref() != Some(&failure);
        self.failure = Some(failure);
        is_news
    }
}

/// The key ring's task.
pub struct Keys {
    /// The API server.
    pub api: Api,
    /// Events.
    pub events: Events,
    /// The settings.
    pub settings: BitnamiSettings,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where the ring goes.
    pub ring: watch::Sender<Arc<RsaRing>>,
    /// Changes when etcd was restored from a backup: a watch from a later version than there is would tell nothing.
    pub rewound: watch::Receiver<u64>,
}

/// Which problem of which version was told.
type Told = (KeyProblem, Option<String>);

type Seen = Option<Result<Event<DeserializeGuard<Secret>>, kube::runtime::watcher::Error>>;

/// Keeps the ring for ever.
pub async fn run(mut keys: Keys) {
    let api = kube::Api::<DeserializeGuard<Secret>>::namespaced(keys.api.client(), &keys.settings.namespace);
    let by_label = Config::default().labels(BITNAMI_KEY_LABEL);
    let by_name = Config::default().fields(&format!("metadata.name={}", keys.settings.prefix));
    let open = || {
        let labelled = watcher(api.clone(), by_label.clone()).default_backoff().boxed();
        (labelled, watcher(api.clone(), by_name.clone()).default_backoff().boxed())
    };
    let (mut labelled, mut legacy) = open();
    let mut observed = Observed::default();
    let mut complete = [false; 2];
    let mut told = BTreeMap::new();
    let (mut next, mut again) = (None::<Timestamp>, false);
    let mut signals = signal(SignalKind::user_defined1()).ok();
    // Somebody wants another key; its name is the same however often it is tried, so that it is one.
    let (mut asked, mut asked_name) = (false, None);
    let (mut tries, mut before) = (Tries::default(), None);
    loop {
        let until = next.map(|at| at.duration_since(Timestamp::now()));
        let until = until.and_then(|left| Duration::try_from(left).ok()).unwrap_or(Duration::from_secs(3600));
        // A timestamp's fraction, and a clock that is set.
        let pause = if again {
            tries.wait(Instant::now()).max(Duration::from_secs(1))
        } else {
            until.min(Duration::from_secs(3600))
        };
        tokio::select! {
            event = labelled.next() => complete[0] = see(&mut observed.labelled, event, complete[0]),
            event = legacy.next() => complete[1] = see(&mut observed.legacy, event, complete[1]),
            Ok(()) = keys.rewound.changed() => (labelled, legacy) = open(),
            () = received(&mut signals) => {
                asked = keys.may_be_asked();
                tries.forget();
            }
            () = tokio::time::sleep(pause.max(Duration::from_millis(10))) => {}
        }
        if complete != [true; 2] {
            continue;
        }
        let plan = plan(&observed, &keys.settings, Timestamp::now());
        keys.tell(&plan, &observed, &mut told).await;
        next = plan.next;
        let make = plan.make.or(asked.then_some(Why::Asked));
        again = make.is_some();
        if std::mem::replace(&mut before, make) != make {
            tries.forget();
        }
        let is_time = tries.wait(Instant::now()).is_zero();
        let Some(why) = make.filter(|_| is_time && keys.api.may_write()) else { continue };
        let mut name = next_name(&observed, &keys.settings.prefix, &tries.taken);
        if why == Why::Asked {
            name = asked_name.get_or_insert(name).clone();
        }
        match keys.make(&name, why).await {
            // Known at once: the other watch may tell of something first, and the next would be made on account of that.
            Ok(made) => {
                (asked, asked_name) = (false, None);
                observed.labelled.insert(name, made);
                tries.forget();
            }
            // An answer was lost, and the watch brings the key; or it is one that nobody sees.
            Err(Failure::AlreadyExists) => {
                if tries.failure == Some(Failure::Unavailable) {
                    asked = false;
                }
                asked_name = None;
                tracing::warn!(
                    secret = name,
                    "a Secret of the next RSA key's name is there; if it is no key, another name is taken"
                );
                tries.taken.insert(name);
                tries.failed(Failure::AlreadyExists, Instant::now());
            }
            Err(Failure::NotLeading) => {}
            Err(failure) => {
                if tries.failed(failure.clone(), Instant::now()) {
                    tracing::warn!(%failure, "an RSA key could not be made; trying again, more and more rarely");
                }
            }
        }
    }
}

fn see(secrets: &mut BTreeMap<String, KeySecret>, event: Seen, complete: bool) -> bool {
    match event {
        Some(Ok(Event::Init)) => {
            secrets.clear();
            false
        }
        Some(Ok(Event::InitApply(DeserializeGuard(secret)) | Event::Apply(DeserializeGuard(secret)))) => {
            if let Ok(secret) = secret
                && let Some((name, key)) = KeySecret::take(secret)
            {
                secrets.insert(name, key);
            }
            complete
        }
        Some(Ok(Event::Delete(secret))) => {
            secrets.remove(kube::Resource::meta(&secret).name.as_deref().unwrap_or_default());
            if let DeserializeGuard(Ok(secret)) = secret {
                drop(KeySecret::take(secret));
            }
            complete
        }
        Some(Ok(Event::InitDone)) => true,
        Some(Err(error)) => watch_failed("secrets of --bitnami-namespace", &error, complete),
        None => complete,
    }
}

/// Waits for a signal, or for ever.
async fn received(signals: &mut Option<Signal>) {
    let one = match signals {
        Some(signals) => signals.recv().await,
        None => None,
    };
    if one.is_none() {
        std::future::pending().await
    }
}

impl Keys {
    /// Whether SIGUSR1 makes a key here: one of several replicas does.
    fn may_be_asked(&self) -> bool {
        let makes = self.settings.mode == Mode::Own && self.api.may_write();
        if !makes {
            tracing::warn!("SIGUSR1: only the replica that leads makes keys, with --bitnami=own");
        }
        makes
    }

    /// The ring to who opens, the problems to whom it concerns.
    async fn tell(&self, plan: &Plan, observed: &Observed, told: &mut BTreeMap<String, Told>) {
        self.metrics.keys.set(i64::try_from(plan.ring.keys.len()).unwrap_or_default());
        self.metrics.malformed.set(i64::try_from(plan.problems.len()).unwrap_or_default());
        self.metrics.expiry.set(plan.ring.newest().map_or(0, |key| key.certificate.not_after()));
        self.metrics.renewal_due.set(plan.due.map_or(0, Timestamp::as_second));
        if !self.ring.borrow().same(&plan.ring) {
            let newest = plan.ring.newest().map(|key| key.name.to_string());
            tracing::info!(keys = plan.ring.keys.len(), newest, "the RSA keys are loaded");
            self.ring.send_replace(Arc::new(plan.ring.clone()));
        }
        told.retain(|name, _| plan.problems.contains_key(name));
        for (name, problem) in &plan.problems {
            let Some(secret) = observed.labelled.get(name).or_else(|| observed.legacy.get(name)) else { continue };
            let now = (*problem, secret.metadata.resource_version.clone());
            if told.get(name) == Some(&now) {
                continue;
            }
            tracing::error!(secret = name, %problem, "an RSA key can't be used");
            told.insert(name.clone(), now);
            if self.settings.mode == Mode::Own {
                let note = Note::warning("KeyMalformed", format!("this key is not used: {problem}"));
                self.events.publish(reference("Secret", &secret.metadata), &note).await;
            }
        }
    }

    async fn make(&self, name: &str, why: Why) -> Result<KeySecret, Failure> {
        let now = Timestamp::now();
        let until = now.checked_add(self.settings.ttl).map_err(|_| Failure::Refused(0))?;
        let common_name = self.settings.common_name.clone();
        // This takes seconds.
        let made = tokio::task::spawn_blocking(move || generate(now.as_second(), until.as_second(), &common_name));
        let made = made.await.map_err(|_| Failure::Unavailable)?.map_err(|_| Failure::Unavailable)?;
        let mut metadata =
            self.api.create(&core_path(&self.settings.namespace, "secrets"), self.body(name, &made)).await?;
        drop_copies(&mut metadata);
        let certificate = made.certificate.trim_end();
        tracing::info!(secret = name, ?why, certificate, "made an RSA key");
        if matches!(why, Why::Renewal | Why::Asked) {
            let note = Note::normal("Renewed", "a new RSA key: what is sealed for older ones still opens");
            self.events.publish(reference("Secret", &metadata), &note).await;
        }
        let pair = KeySecret::pair(made.certificate.as_bytes(), made.private_key.as_bytes());
        Ok(KeySecret { metadata, pair })
    }

    /// The Secret of a new key.
    fn body(&self, name: &str, made: &NewKey) -> Vec<u8> {
        let mut labels = self.settings.labels.clone();
        labels.insert(BITNAMI_KEY_LABEL.to_owned(), ACTIVE.to_owned());
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.settings.namespace.clone()),
            labels: Some(labels),
            annotations: Some(self.settings.annotations.clone()).filter(|annotations| !annotations.is_empty()),
            ..ObjectMeta::default()
        };
        let data = [(CERTIFICATE_MEMBER, made.certificate.as_bytes()), (KEY_MEMBER, made.private_key.as_bytes())];
        Body::of(metadata, "kubernetes.io/tls", None, data.into())
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
