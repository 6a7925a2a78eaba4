//! One SealedSecret of this format to one Secret: looks, opens, compares, writes what [`super::plan`] says, and reports. With
//! `--bitnami=observe` it stops before the first write.

use std::sync::Arc;
use std::time::Instant;

use bulla::bitnami::{
    API_VERSION, BitnamiSealedSecret, BitnamiSealedSecretSpec, BitnamiStatus, KIND, KeyFingerprint, MANAGED, Opened,
    SYNCED, is_synced, open_rendered, operations, skips_owner,
};
use bulla::policy::Refused;
use bulla::resource::Drift;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::core::{DeserializeGuard, ObjectMeta};
use zeroize::Zeroize as _;

use super::Shared;
use super::args::Mode;
use super::metrics::{Found, Unseal};
use super::plan::{self, Stand, Write};
use super::status::{self, Applied, Whose};
use crate::api::{Failure, core_path, their_path};
use crate::events::{Note, reference_of};
use crate::object::Rough;
use crate::queue::ObjectKey;
use crate::reconcile::{
    Context, Known, LOOKS, Outcome, Reported, Right, SecretId, after_conflict, denied, last_manager, left_by_us, pause,
    status_body, verdict_of_failure,
};
use crate::status::{Standing, Verdict};

/// Whether there is nothing to do: the status says so, of this very object, these settings and this very Secret.
pub fn is_settled(sealed: &BitnamiSealedSecret, secret: &Known, settings: &crate::args::Settings) -> bool {
    let status = sealed.status.as_ref();
    let Some(applied) = Applied::read(status) else { return false };
    settings.bitnami.mode == Mode::Own
        && sealed.metadata.deletion_timestamp.is_none()
        && is_synced(status, sealed.metadata.generation)
        && *secret == Known::Seen(applied.secret())
        && applied.inputs == plan::inputs(sealed, settings)
}

/// What is said of an object: to the queue, and to whoever reads its status and events.
struct Said {
    /// For the queue and the metrics.
    verdict: Verdict,
    /// The message of `Synced`, when it is not.
    error: Option<String>,
    /// The event.
    note: Option<Note>,
    /// The event is new each time, not only when the status changes.
    wrote: bool,
    /// The reason in `unseal_errors_total`.
    metric: Option<&'static str>,
    applied: Option<Applied>,
    secret: Option<Option<SecretId>>,
    /// Which Secret the queue takes for the one that was applied, where the status remembers another.
    rests_on: Option<SecretId>,
    failure: Option<(Failure, Right)>,
    repaired: Option<Option<String>>,
}

/// Events of the established controller.
const UNSEALED: &str = "Unsealed";
const UNSEAL_FAILED: &str = "ErrUnsealFailed";
const UPDATE_FAILED: &str = "ErrUpdateFailed";

impl Said {
    fn of(verdict: Verdict) -> Self {
        Self {
            verdict,
            error: None,
            note: None,
            wrote: false,
            metric: None,
            applied: None,
            secret: None,
            rests_on: None,
            failure: None,
            repaired: None,
        }
    }

    fn synced(applied: Applied) -> Self {
        let note = Some(Note::normal(UNSEALED, "SealedSecret unsealed successfully"));
        let secret = Some(Some(applied.secret()));
        Self { note, secret, rests_on: Some(applied.secret()), applied: Some(applied), ..Self::of(Verdict::ready()) }
    }

    /// It does not open, or not to something that may be made.
    fn closed(reason: &'static str, message: String) -> Self {
        let note = Some(Note::warning(UNSEAL_FAILED, format!("Failed to unseal: {message}")));
        Self {
            note,
            metric: Some("unseal"),
            error: Some(message.clone()),
            ..Self::of(Verdict::stalled(reason, message))
        }
    }

    /// The Secret can't be what it should be. The event has no prefix, as there.
    fn stuck(reason: &'static str, metric: &'static str, event: String, error: String) -> Self {
        let note = Some(Note::warning(UPDATE_FAILED, event));
        Self { note, metric: Some(metric), error: Some(error.clone()), ..Self::of(Verdict::stalled(reason, error)) }
    }

    /// The API server refuses.
    fn failed(failure: Failure, right: Right) -> Self {
        let verdict = verdict_of_failure(&failure, right.0, right.1);
        Self {
            note: Some(Note::warning(UPDATE_FAILED, verdict.message.clone())),
            metric: Some("update"),
            error: Some(verdict.message.clone()),
            failure: Some((failure, right)),
            ..Self::of(verdict)
        }
    }

    fn at(self, secret: Option<SecretId>) -> Self {
        Self { secret: Some(secret), ..self }
    }
}

/// The established controller's sentence.
fn immutable(key: &ObjectKey) -> Said {
    let text = format!(
        "Error updating {}/{}: the target Secret is immutable. Once a Secret is marked as immutable, it is not possible to \
         revert this change nor to mutate the contents of the data field. You can only delete and recreate the Secret.",
        key.namespace, key.name
    );
    Said::stuck("Immutable", "update", text.clone(), text)
}

/// Looks at one object, and does what is to be done. `given` is the object as the watch saw it.
pub async fn reconcile(
    context: &Context,
    shared: &Shared,
    key: &ObjectKey,
    given: Option<Box<BitnamiSealedSecret>>,
    known: Known,
    trust: bool,
) -> Outcome {
    let path = their_path(&key.namespace);
    let (mut given, mut known) = (given, known);
    if !shared.ring.borrow().complete {
        return Outcome { again: true, ..Outcome::nothing() };
    }
    shared.metrics.requests.inc();
    for _ in 0..LOOKS {
        let mut sealed = match given.take() {
            Some(sealed) => *sealed,
            None => match context.api.get::<DeserializeGuard<BitnamiSealedSecret>>(&path, &key.name).await {
                Ok(DeserializeGuard(Ok(sealed))) => sealed,
                Ok(DeserializeGuard(Err(_))) => return unreadable(context, shared, key).await,
                Err(Failure::NotFound) => return Outcome::gone(),
                Err(failure) => {
                    shared.failed(key, "fetch");
                    return Outcome::unreached(Some(&failure), ("get", "sealedsecrets.bitnami.com"));
                }
            },
        };
        sealed.metadata.managed_fields = None;
        if sealed.metadata.deletion_timestamp.is_some() {
            return Outcome::gone();
        }
        if trust && is_settled(&sealed, &known, &context.settings) {
            shared.metrics.stands(&key.namespace, &key.name, Some(true));
            let applied = Applied::read(sealed.status.as_ref()).map(|applied| applied.secret());
            return Outcome { verdict: Some(Verdict::ready()), applied, ..Outcome::nothing() };
        }
        let sealed = Arc::new(sealed);
        if context.settings.bitnami.mode == Mode::Observe {
            return observe(context, shared, key, &sealed, &known).await;
        }
        let Some(said) = look(context, shared, key, &sealed, &mut known).await else { continue };
        if let Some(reason) = said.metric {
            shared.failed(key, reason);
        }
        match report(context, shared, key, Arc::unwrap_or_clone(sealed), &said).await {
            Reported::Done(_) => {
                shared.metrics.stands(&key.namespace, &key.name, Some(said.error.is_none()));
                let failure = said.failure.as_ref();
                return Outcome {
                    gone: false,
                    verdict: Some(said.verdict),
                    secret: said.secret,
                    applied: said.rests_on,
                    pause: pause(failure.map(|(failure, _)| failure)),
                    repaired: said.repaired,
                    again: false,
                    denied: failure.and_then(|(failure, right)| denied(Some(failure), *right)),
                    failure: None,
                };
            }
            Reported::Gone => return Outcome::gone(),
            Reported::Changed => known = said.secret.map_or(known, |id| id.map_or(Known::Absent, Known::Seen)),
            Reported::Failed(failure) => {
                shared.failed(key, "status");
                let right = ("update", "sealedsecrets.bitnami.com/status");
                return Outcome { secret: said.secret, ..Outcome::unreached(Some(&failure), right) };
            }
        }
    }
    tracing::info!(object = %key, "somebody keeps writing at the same time; trying again later");
    Outcome { again: true, ..Outcome::nothing() }
}

impl Shared {
    fn failed(&self, key: &ObjectKey, reason: &'static str) {
        self.metrics.errors.get_or_create(&Unseal { reason, namespace: key.namespace.clone() }).inc();
    }
}

/// The definition lets in what no Secret could have: labels that are numbers, say.
async fn unreadable(context: &Context, shared: &Shared, key: &ObjectKey) -> Outcome {
    shared.failed(key, "unseal");
    tracing::warn!(object = %key, "the SealedSecret is not of the form that its definition demands");
    let text = "it can't be read: a field is not of the form that it must have (spec.template.metadata, say: labels and annotations \
                are texts)";
    let said = Said::closed("Malformed", text.to_owned());
    let told = || Outcome { verdict: Some(said.verdict.clone()), ..Outcome::nothing() };
    if context.settings.bitnami.mode == Mode::Observe {
        return told();
    }
    let right = ("get", "sealedsecrets.bitnami.com");
    let rough = context.api.get::<Rough<BitnamiStatus>>(&their_path(&key.namespace), &key.name).await;
    let Rough { metadata, status } = match rough {
        Ok(rough) => rough,
        Err(Failure::NotFound) => return Outcome::gone(),
        Err(failure) => return Outcome::unreached(Some(&failure), right),
    };
    if metadata.deletion_timestamp.is_some() {
        return Outcome::gone();
    }
    let sealed = BitnamiSealedSecret { metadata, spec: BitnamiSealedSecretSpec::default(), status };
    match report(context, shared, key, sealed, &said).await {
        Reported::Done(_) => {
            shared.metrics.stands(&key.namespace, &key.name, Some(false));
            told()
        }
        Reported::Gone => Outcome::gone(),
        Reported::Changed => Outcome { again: true, ..Outcome::nothing() },
        Reported::Failed(failure) => Outcome::unreached(Some(&failure), ("update", "sealedsecrets.bitnami.com/status")),
    }
}

/// The Secret, whole: it is compared with what should be there. Whoever takes it clears it.
async fn read_secret(context: &Context, key: &ObjectKey) -> Result<Option<Held>, Failure> {
    match context.api.get::<Secret>(&core_path(&key.namespace, "secrets"), &key.name).await {
        Ok(secret) => Ok(Some(Held(secret))),
        Err(Failure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A Secret whose values are cleared when it goes.
struct Held(Secret);

impl Drop for Held {
    fn drop(&mut self) {
        for value in self.0.data.iter_mut().flat_map(|data| data.values_mut()) {
            value.0.zeroize();
        }
    }
}

/// Opens it where it holds nobody up, with the key that opened it the last time first.
async fn open_aside(
    context: &Context,
    shared: &Shared,
    key: &ObjectKey,
    sealed: &Arc<BitnamiSealedSecret>,
) -> Result<Opened, Said> {
    let settings = &context.settings;
    let templates = sealed.spec.template.as_ref().is_some_and(|template| !template.data.is_empty());
    if settings.policy.no_templates && templates {
        return Err(Said::closed("TemplatesOff", Refused::Templates.to_string()));
    }
    let interrupted = || Said::of(Verdict::reconciling("Unavailable", "opening it was interrupted"));
    let _turn = context.opening.acquire().await.map_err(|_| interrupted())?;
    let ring = shared.ring.borrow().clone();
    let remembered = shared.hints.get(&key.namespace, &key.name);
    let hint = remembered.or_else(|| Applied::read(sealed.status.as_ref())?.keys.first().copied());
    context.metrics.opened.inc();
    let object = sealed.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        (open_rendered(&object, &ring.private_keys(), ring.hinted(hint)), started.elapsed())
    });
    let (opened, took) = opened.await.map_err(|_| interrupted())?;
    context.metrics.opening.observe(took.as_secs_f64());
    let opened = opened.map_err(|error| {
        let reason = match &error {
            bulla::bitnami::OpenError::NoKey(_) => "NoKey",
            bulla::bitnami::OpenError::Template { .. } => "TemplateFailed",
            _ => "Malformed",
        };
        Said::closed(reason, error.to_string())
    })?;
    if let Some(fingerprint) = opened.key() {
        shared.hints.set(&key.namespace, &key.name, fingerprint);
    }
    let theirs = &settings.bitnami;
    if let Err(refused) = settings.policy.check_secret(&opened.secret, (&theirs.namespace, &theirs.prefix)) {
        let text = refused.to_string();
        return Err(Said::stuck("Refused", "unmanaged", text.clone(), text));
    }
    Ok(opened)
}

/// Decides, opens, writes. `None`: what was looked at has changed meanwhile, look again.
async fn look(
    context: &Context,
    shared: &Shared,
    key: &ObjectKey,
    sealed: &Arc<BitnamiSealedSecret>,
    known: &mut Known,
) -> Option<Said> {
    let secrets = core_path(&key.namespace, "secrets");
    let before = Applied::read(sealed.status.as_ref());
    let inputs = plan::inputs(sealed, &context.settings);
    let nothing_new = before.as_ref().is_some_and(|before| before.inputs == inputs);
    let uid = sealed.metadata.uid.as_deref().unwrap_or_default();
    let existing = match known {
        Known::Absent => None,
        Known::Seen(_) | Known::Unknown => match read_secret(context, key).await {
            Ok(found) => found,
            Err(failure) => return Some(Said::failed(failure, ("get", "secrets"))),
        },
    };
    let seen = existing.as_ref().map(|held| SecretId::of(&held.0.metadata));
    *known = seen.map_or(Known::Absent, Known::Seen);
    let applied = |whose: Whose, metadata: &ObjectMeta, opened: Option<&Opened>| Applied {
        whose,
        uid: metadata.uid.clone().unwrap_or_default(),
        version: metadata.resource_version.clone().unwrap_or_default(),
        inputs: inputs.clone(),
        keys: opened.map(|opened| opened.keys.iter().map(KeyFingerprint::begin).collect()).unwrap_or_default(),
    };
    let stand = existing.as_ref().map(|held| plan::stand(&held.0.metadata, uid, &key.name, before.as_ref()));
    match (&existing, stand) {
        (Some(held), Some(Stand::Superseded)) => return Some(superseded(&held.0.metadata, before, &inputs)),
        (Some(held), _) if held.0.metadata.deletion_timestamp.is_some() => {
            let text = "a Secret of this name is being deleted; the new one is made when it is gone";
            let said = Said::stuck("SecretTerminating", "update", text.to_owned(), text.to_owned());
            return Some(Said { verdict: Verdict::reconciling("SecretTerminating", text), ..said }.at(seen));
        }
        // Merely patched, or made without an owner: whoever deleted it meant it.
        (None, _) if nothing_new && before.as_ref().is_some_and(|before| !before.whose.is_recreated()) => {
            return Some(Said { rests_on: None, ..Said::of(Verdict::ready()) }.at(None));
        }
        _ => {}
    }
    let opened = match open_aside(context, shared, key, sealed).await {
        Ok(opened) => opened,
        Err(said) => return Some(said.at(seen)),
    };
    let plain = &opened.secret;
    let made = || {
        let managed = plain.annotations.get(MANAGED).is_some_and(|value| value == "true");
        match (skips_owner(sealed), managed) {
            (false, _) => Whose::Owned,
            (true, true) => Whose::Managed,
            (true, false) => Whose::Made,
        }
    };
    let (whose, verb, written) = match (existing.as_ref(), stand) {
        (Some(held), Some(Stand::Ours(whose))) => {
            let metadata = &held.0.metadata;
            // The established controller looked at this very object: what it left is what it meant.
            let exact = match &before {
                Some(_) => !nothing_new,
                None => !is_synced(sealed.status.as_ref(), sealed.metadata.generation),
            };
            match plan::compare(&held.0, plain, whose, plan::keeps_owner(sealed, metadata, whose), exact) {
                Write::Nothing => {
                    let said = Said::synced(applied(whose, metadata, Some(&opened)));
                    return Some(said);
                }
                _ if nothing_new && context.settings.drift == Drift::Warn => return Some(drifted(seen)),
                Write::Immutable => return Some(immutable(key).at(seen)),
                Write::Replace => {
                    let body = plan::body(sealed, plain, Some(&held.0));
                    (made(), "update", context.api.replace(&secrets, &key.name, body).await)
                }
                Write::Patch => {
                    let body = plan::merged(sealed, plain, &held.0, whose);
                    (whose, "update", context.api.replace(&secrets, &key.name, body).await)
                }
            }
        }
        // Made without an owner, and nothing of that was kept: by whose it is and what is in it.
        (Some(held), _)
            if skips_owner(sealed)
                && left_by_us(&held.0.metadata)
                && plan::compare(&held.0, plain, Whose::Made, true, true) == Write::Nothing =>
        {
            return Some(Said::synced(applied(Whose::Made, &held.0.metadata, Some(&opened))));
        }
        (Some(_), _) => {
            let text = format!("Resource {:?} already exists and is not managed by SealedSecret", &*key.name);
            return Some(Said::stuck("Unowned", "unmanaged", text.clone(), format!("failed update: {text}")).at(seen));
        }
        (None, _) => (made(), "create", context.api.create(&secrets, plan::body(sealed, plain, None)).await),
    };
    match written {
        Ok(metadata) => {
            context.metrics.secret_writes.inc();
            // The same object was applied before: somebody changed the Secret.
            let repaired = nothing_new.then(|| existing.as_ref().and_then(|held| last_manager(&held.0.metadata)));
            if repaired.is_some() {
                context.metrics.drift_repairs.inc();
            }
            Some(Said { wrote: true, repaired, ..Said::synced(applied(whose, &metadata, Some(&opened))) })
        }
        Err(Failure::Conflict | Failure::AlreadyExists) => {
            *known = Known::Unknown;
            None
        }
        Err(Failure::NotFound) if existing.is_some() => {
            *known = Known::Absent;
            None
        }
        Err(failure) => Some(Said::failed(failure, (verb, "secrets"))),
    }
}

/// Somebody changed the Secret, and it is left so.
fn drifted(seen: Option<SecretId>) -> Said {
    let message = "somebody changed the Secret, and it is left so: --drift is warn".to_owned();
    let verdict = Verdict { standing: Standing::Ready, reason: "Drifted", message };
    Said { rests_on: seen, ..Said::of(verdict) }.at(seen)
}

/// The native twin makes the Secret now. That is said once, and the status stays `Synced`.
fn superseded(secret: &ObjectMeta, before: Option<Applied>, inputs: &str) -> Said {
    let id = SecretId::of(secret);
    // It may have to be opened again one day.
    let keys = before.as_ref().map(|before| before.keys.clone()).unwrap_or_default();
    let known = before.filter(|before| before.whose == Whose::Superseded && before.inputs == inputs);
    let applied = known.unwrap_or_else(|| Applied {
        whose: Whose::Superseded,
        uid: secret.uid.clone().unwrap_or_default(),
        version: secret.resource_version.clone().unwrap_or_default(),
        inputs: inputs.to_owned(),
        keys,
    });
    let verdict = Verdict {
        standing: Standing::Ready,
        reason: "Superseded",
        message: "the native SealedSecret of this name makes the Secret".to_owned(),
    };
    Said { applied: Some(applied), secret: Some(Some(id)), rests_on: Some(id), ..Said::of(verdict) }
}

/// Opens it and compares, and writes nothing.
async fn observe(
    context: &Context,
    shared: &Shared,
    key: &ObjectKey,
    sealed: &Arc<BitnamiSealedSecret>,
    known: &Known,
) -> Outcome {
    let uid = sealed.metadata.uid.as_deref().unwrap_or_default();
    let existing = match known {
        Known::Absent => None,
        Known::Seen(_) | Known::Unknown => match read_secret(context, key).await {
            Ok(found) => found,
            Err(failure) => return Outcome::unreached(Some(&failure), ("get", "secrets")),
        },
    };
    let seen = existing.as_ref().map(|held| SecretId::of(&held.0.metadata));
    // What does not open is looked at again when there are other keys; what differs, when its Secret changes.
    let mut standing = Standing::Ready;
    let (result, message) = match open_aside(context, shared, key, sealed).await {
        Err(said) => {
            standing = Standing::Stalled;
            (said.verdict.reason, said.verdict.message)
        }
        Ok(opened) => match &existing {
            None => ("Missing", "there is no Secret of this name".to_owned()),
            Some(held) => match plan::stand(&held.0.metadata, uid, &key.name, None) {
                Stand::Superseded => ("Superseded", "the native SealedSecret of this name makes the Secret".to_owned()),
                Stand::Unmanaged => ("Unowned", "the Secret is not managed by the SealedSecret".to_owned()),
                Stand::Ours(whose) => {
                    let exact = !is_synced(sealed.status.as_ref(), sealed.metadata.generation);
                    let keeps = plan::keeps_owner(sealed, &held.0.metadata, whose);
                    match plan::compare(&held.0, &opened.secret, whose, keeps, exact) {
                        Write::Nothing => ("Same", "the Secret is what the SealedSecret says".to_owned()),
                        Write::Immutable => ("Immutable", "the Secret is immutable and differs".to_owned()),
                        Write::Replace | Write::Patch => ("Different", "the Secret differs".to_owned()),
                    }
                }
            },
        },
    };
    if result == "Same" {
        tracing::debug!(object = %key, result, "observed");
    } else {
        tracing::info!(object = %key, result, message, "observed");
    }
    let verdict = Verdict { standing, reason: result, message };
    Outcome { verdict: Some(verdict), secret: Some(seen), applied: seen, ..Outcome::nothing() }
}

/// Writes the status, when it is another, and the event that belongs to it.
async fn report(
    context: &Context,
    shared: &Shared,
    key: &ObjectKey,
    mut sealed: BitnamiSealedSecret,
    said: &Said,
) -> Reported {
    let path = their_path(&key.namespace);
    for _ in 0..LOOKS {
        let old = sealed.status.as_ref();
        let generation = sealed.metadata.generation;
        let next = status::next(old, generation, said.error.as_deref(), said.applied.as_ref(), Timestamp::now());
        if old == Some(&next) {
            return Reported::Done(None);
        }
        // Its own memory is nobody's news.
        let news = old.and_then(|old| old.conditions.iter().find(|condition| condition.type_ == SYNCED))
            != next.conditions.first();
        match context
            .api
            .replace_status(&path, &key.name, status_body(&sealed, serde_json::json!({"encryptedData": {}}), &next))
            .await
        {
            Ok(_) => {
                context.metrics.status_writes.inc();
                if let Some(note) = said.note.as_ref().filter(|_| news || said.wrote) {
                    tracing::debug!(object = %key, reason = note.reason, message = note.message, "reported");
                    shared.tell(context, &sealed.metadata, note);
                }
                return Reported::Done(None);
            }
            Err(Failure::NotFound) => return Reported::Gone,
            Err(Failure::Conflict) => match after_conflict(context, &path, &key.name, &sealed).await {
                // Annotations say the scope, and count for no generation.
                Ok(fresh) if fresh.metadata.annotations != sealed.metadata.annotations => return Reported::Changed,
                Ok(fresh) => sealed = fresh,
                Err(reported) => return reported,
            },
            Err(failure) => return Reported::Failed(failure),
        }
    }
    Reported::Failed(Failure::Conflict)
}

impl Shared {
    /// Writes an event beside what goes on: nobody waits for it.
    fn tell(&self, context: &Context, about: &ObjectMeta, note: &Note) {
        let (events, reference, note) = (context.events.clone(), reference_of(API_VERSION, KIND, about), note.clone());
        let turns = self.telling.clone();
        tokio::spawn(async move {
            if let Ok(_turn) = turns.acquire().await {
                events.publish(reference, &note).await;
            }
        });
    }

    /// How it stood with an object, for who observes: counted by result.
    pub fn observed(&self, key: &ObjectKey, before: Option<&'static str>, now: Option<&Verdict>) {
        self.observed.note(key, before, now);
        if let Some(result) = before {
            self.metrics.observed.get_or_create(&Found { result }).dec();
        }
        if let Some(result) = now.map(|verdict| verdict.reason) {
            self.metrics.observed.get_or_create(&Found { result }).inc();
        }
    }
}

/// About how many bytes an object takes.
pub fn weight(sealed: &BitnamiSealedSecret) -> usize {
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, text)| key.len() + text.len() + 100).sum::<usize>()
    };
    let template = sealed.spec.template.as_ref().map_or(0, |template| {
        let texts = template.data.iter().map(|(key, text)| key.len() + text.as_ref().map_or(0, String::len) + 100);
        let metadata = template.metadata.as_ref();
        let metadata = metadata.into_iter().flat_map(|metadata| [&metadata.labels, &metadata.annotations]).flatten();
        texts.sum::<usize>() + metadata.map(pairs).sum::<usize>() + 512
    });
    let own = [&sealed.metadata.labels, &sealed.metadata.annotations].into_iter().flatten();
    1024 + pairs(&sealed.spec.encrypted_data)
        + sealed.spec.data.as_ref().map_or(0, String::len)
        + template
        + own.map(pairs).sum::<usize>()
        + operations(sealed) * 16
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
