//! What has to be done about keys, from what the watches have seen and the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bulla::metadata::{KEY_SECRET_PREFIX, KEY_STATE_ANNOTATION, PREFERRED_AT_ANNOTATION, PUBLISHED_AT_ANNOTATION};
use bulla::recipient::{Fingerprint, Identity, RecipientKind, parse_recipients};
use bulla::resource::{KeyFormat, KeyState, SealingKeyStatus};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;

use super::{KeyProblem, KeySecret, MAX_KEYS, Needs, Observed, Ring, RingKey, word};
use crate::args::{Settings, parse_duration};
use crate::status::make_condition;

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
pub(super) fn effective(asked: Option<KeyState>, kept: Option<KeyState>, listed: bool) -> KeyState {
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
pub(super) fn needed_by(needs: &Needs, fingerprint: Fingerprint, loaded: &BTreeSet<Fingerprint>) -> usize {
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
    // A double gets none: it would be made a key of its own when its Secret goes.
    for Key { name, identity, state, .. } in keys.iter().filter(|key| !observed.sealing_keys.contains_key(&key.name)) {
        let (name, format, state) = (name.clone(), format_of(identity.kind()), *state);
        plan.actions.push(Action::CreateSealingKey { name, format, state, why: Why::Deleted });
    }
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
        let kind = match sealing_key.spec.format {
            KeyFormat::Hybrid => RecipientKind::Hybrid,
            KeyFormat::Classical => RecipientKind::Classical,
        };
        plan.actions.push(Action::Generate { name: name.clone(), kind });
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

const fn format_of(kind: RecipientKind) -> KeyFormat {
    match kind {
        RecipientKind::Hybrid => KeyFormat::Hybrid,
        RecipientKind::Classical => KeyFormat::Classical,
    }
}

/// A SealingKey that the controller makes by itself: named by serial, so that two controllers that see the same can't make
/// two.
fn made(observed: &Observed, kind: RecipientKind, why: Why) -> Action {
    let format = format_of(kind);
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
        let format = format_of(kind);
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

pub(super) fn rfc3339(at: Timestamp) -> String {
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
