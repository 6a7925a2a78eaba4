//! One SealedSecret to one Secret: [`decide`] says what to do, [`secret_body`] with what, both pure; [`reconcile`] does it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulla::digest::{content_digest, inputs_digest};
use bulla::metadata::{
    CONTENT_ANNOTATION, MANAGED_ANNOTATION, PATCH_ANNOTATION, PATCHED_KEYS_ANNOTATION, RECONCILE_AT_ANNOTATION,
    SEALED_SECRET_ANNOTATION,
};
use bulla::open::{OpenError, ProblemKind, open, readers};
use bulla::policy::{Refused, output_metadata};
use bulla::resource::{
    API_VERSION, Applied, Drift, GROUP, KIND, KeyState, SealedSecret, SealedSecretSpec, SealedSecretStatus,
};
use bulla::secret::PlainSecret;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::{DeserializeGuard, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroize as _;

use crate::api::{Api, FIELD_MANAGER, Failure, Field, core_path, own_path};
use crate::args::Settings;
use crate::bitnami;
use crate::bitnami::args::Mode;
use crate::events::{Events, Note, reference};
use crate::keyring::Ring;
use crate::metrics::Metrics;
use crate::object::Rough;
use crate::queue::ObjectKey;
use crate::status::{self, Standing, Verdict, condition};

/// Goes into what is hashed as inputs: another one when the same object makes another Secret.
const RENDERER: &str = bulla::template::RENDERER;
/// How often an object is looked at again because somebody else wrote between look and write.
pub const LOOKS: usize = 4;

/// uid and resourceVersion of a Secret, in the room of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretId {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.resourceVersion`.
    pub version: Version,
}

/// A uid: the number that a UUID is, or a hash of anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uid(u128);

impl Uid {
    /// Of a text.
    pub fn new(text: &str) -> Self {
        let digits = text.bytes().filter(|byte| *byte != b'-');
        let is_uuid = text.len() == 36 && text.bytes().filter(|byte| byte.is_ascii_hexdigit()).count() == 32;
        let number = digits.clone().try_fold(0_u128, |number, digit| {
            let digit = char::from(digit).to_digit(16)?;
            Some(number << 4 | u128::from(digit))
        });
        match number {
            Some(number) if is_uuid => Self(number),
            _ => Self(hash(text.as_bytes())),
        }
    }
}

/// A resourceVersion: a number that grows, or a hash of a text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

/// Versions that are hashes have this bit, which etcd's revisions never have.
const OPAQUE: u64 = 1 << 63;

impl Version {
    /// Before all others.
    pub const FIRST: Self = Self(0);

    /// Of a text.
    pub fn new(text: &str) -> Self {
        match text.parse::<u64>() {
            Ok(number) if number < OPAQUE => Self(number),
            _ => Self(u64::try_from(hash(text.as_bytes()) >> 64).unwrap_or_default() | OPAQUE),
        }
    }

    /// Whether it comes before another. What is no number is before and after nothing.
    pub const fn is_before(self, other: Self) -> bool {
        self.0 < other.0 && other.0 & OPAQUE == 0
    }
}

fn hash(bytes: &[u8]) -> u128 {
    let text = inputs_digest(&[bytes]);
    text.bytes().skip(1).take(26).fold(0_u128, |number, byte| number << 5 | u128::from(byte & 31))
}

impl SecretId {
    /// Of the two texts.
    pub fn new(uid: &str, version: &str) -> Self {
        Self { uid: Uid::new(uid), version: Version::new(version) }
    }

    /// Of an object that the API server returned.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self::new(metadata.uid.as_deref().unwrap_or_default(), metadata.resource_version.as_deref().unwrap_or_default())
    }

    /// What a status says was written.
    pub fn applied(applied: &Applied) -> Self {
        Self::new(&applied.secret_uid, &applied.secret_version)
    }

    /// Whether this is an older version of the same Secret.
    pub fn is_older(self, than: Self) -> bool {
        self.uid == than.uid && self.version.is_before(than.version)
    }
}

/// What is known of the Secret before a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The watch has seen none.
    Absent,
    /// The watch has seen this.
    Seen(SecretId),
    /// Only the API server can tell.
    Unknown,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing but to say so.
    Settle(Verdict),
    /// To open it, and then this.
    Write(Write),
}

/// How the Secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// There is none.
    Create,
    /// It is ours.
    Replace,
    /// It is ours and may be immutable: read it, and write only when its content is the same.
    ReplaceIfEqual,
    /// It is somebody else's, who lets us add keys.
    Patch,
    /// It is ours, was changed, and is to be left so: read it, and say whether its content is another.
    Compare,
}

/// Whose a Secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Made from this SealedSecret, or from one of this name that a backup brought back.
    Ours,
    /// Somebody else's, who hands it over.
    HandedOver,
    /// Somebody else's, who lets us add keys.
    Patched,
    /// Of the SealedSecret of bitnami.com of this name, which this controller serves too: the native one takes its place.
    Twin,
    /// Another controller's.
    OtherController,
    /// Nobody's that we know.
    Unowned,
}

/// Whose a Secret is, from its metadata (point 2 of "What it does with a SealedSecret"). `takes_over` where this controller makes
/// the Secrets of bitnami.com.
pub fn ownership(secret: &ObjectMeta, uid: &str, name: &str, takes_over: bool) -> Ownership {
    let annotated = |key: &str| secret.annotations.as_ref().and_then(|map| map.get(key)).map(String::as_str);
    let controller = secret.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let ours = match controller {
        Some(owner) => owner.uid == uid || is_of_name(owner, name),
        None => annotated(SEALED_SECRET_ANNOTATION) == Some(name),
    };
    let yes = |key: &str| annotated(key) == Some("true");
    match controller {
        _ if ours => Ownership::Ours,
        Some(owner) if takes_over && is_twin(owner, name) => Ownership::Twin,
        _ if yes(PATCH_ANNOTATION) => Ownership::Patched,
        Some(_) => Ownership::OtherController,
        None if yes(MANAGED_ANNOTATION) => Ownership::HandedOver,
        None => Ownership::Unowned,
    }
}

fn is_of_name(owner: &OwnerReference, name: &str) -> bool {
    is_sealed_secret(owner, GROUP, name)
}

/// Whether an owner is the SealedSecret of bitnami.com of this name.
pub fn is_twin(owner: &OwnerReference, name: &str) -> bool {
    is_sealed_secret(owner, bulla::bitnami::GROUP, name)
}

/// Whether an owner is a SealedSecret of this group and name, whatever its uid: a backup brings objects back with others.
pub fn is_sealed_secret(owner: &OwnerReference, group: &str, name: &str) -> bool {
    owner.api_version.split_once('/').is_some_and(|(found, _)| found == group)
        && owner.kind == KIND
        && owner.name == name
}

/// Hash of everything that goes into the Secret, but the key ring.
pub fn inputs(sealed: &SealedSecret, settings: &Settings) -> String {
    let uid = sealed.metadata.uid.as_deref().unwrap_or_default();
    let generation = sealed.metadata.generation.unwrap_or_default().to_be_bytes();
    let policy = format!("{:?}", settings.policy);
    inputs_digest(&[uid.as_bytes(), &generation, RENDERER.as_bytes(), policy.as_bytes()])
}

/// The value of `bulla.dev/reconcile-at`.
pub fn asked_at(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(RECONCILE_AT_ANNOTATION).map(String::as_str)
}

/// Whether there is nothing to do: the status says so, of this very object, these settings and this very Secret.
pub fn is_settled(sealed: &SealedSecret, secret: &Known, settings: &Settings) -> bool {
    let Some(status) = &sealed.status else { return false };
    let (Some(applied), Known::Seen(seen)) = (&status.applied, secret) else { return false };
    let ready = condition(&status.conditions, "Ready");
    sealed.spec.suspend != Some(true)
        && sealed.metadata.deletion_timestamp.is_none()
        && status.observed_generation == sealed.metadata.generation
        && ready.is_some_and(|c| c.status == "True" && c.reason == Verdict::ready().reason)
        && status.last_handled_reconcile_at.as_deref() == asked_at(&sealed.metadata)
        && SecretId::applied(applied) == *seen
        && applied.inputs == inputs(sealed, settings)
}

/// What to do about an object whose Secret has this metadata. Without `trust` the status counts for nothing.
pub fn decide(sealed: &SealedSecret, secret: Option<&ObjectMeta>, settings: &Settings, trust: bool) -> Decision {
    let (namespace, name) = (text(sealed.metadata.namespace.as_ref()), text(sealed.metadata.name.as_ref()));
    if sealed.spec.suspend == Some(true) {
        return Decision::Settle(Verdict::suspended());
    }
    let template = sealed.spec.template.clone().unwrap_or_default();
    if let Err(refused) = settings.policy.check(namespace, name, &template) {
        let reason = if refused == Refused::Templates { "TemplatesOff" } else { "Refused" };
        return Decision::Settle(Verdict::stalled(reason, refused.to_string()));
    }
    let applied = sealed.status.as_ref().and_then(|status| status.applied.as_ref());
    let asked = asked_at(&sealed.metadata);
    let answered = sealed.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
    let nothing_asked = asked == answered && applied.is_some_and(|applied| applied.inputs == inputs(sealed, settings));
    let only_warn = sealed.spec.drift.unwrap_or(settings.drift) == Drift::Warn && nothing_asked;
    let Some(secret) = secret else {
        if only_warn {
            let text = "the Secret was deleted, and spec.drift is warn: annotate the SealedSecret with \
                        bulla.dev/reconcile-at to have it made again";
            return Decision::Settle(Verdict::stalled("SecretDeleted", text));
        }
        return Decision::Write(Write::Create);
    };
    if secret.deletion_timestamp.is_some() {
        let text = "a Secret of this name is being deleted; the new one is made when it is gone";
        return Decision::Settle(Verdict::reconciling("SecretTerminating", text));
    }
    let may_be_immutable = managed_fields(secret).any(|(_, fields)| fields.get("f:immutable").is_some());
    let takes_over = settings.bitnami.mode == Mode::Own;
    match ownership(secret, text(sealed.metadata.uid.as_ref()), name, takes_over) {
        Ownership::OtherController => Decision::Settle(Verdict::stalled(
            "Unowned",
            "a Secret of this name belongs to another controller, and is left alone",
        )),
        Ownership::Unowned => Decision::Settle(Verdict::stalled(
            "Unowned",
            "a Secret of this name is there that this SealedSecret did not make; annotate it with \
             bulla.dev/managed=true to hand it over, or with bulla.dev/patch=true to have keys added to it",
        )),
        Ownership::Patched if may_be_immutable => Decision::Settle(immutable()),
        Ownership::Patched => Decision::Write(Write::Patch),
        Ownership::Ours
            if applied.is_some_and(|a| trust && nothing_asked && SecretId::applied(a) == SecretId::of(secret)) =>
        {
            Decision::Settle(Verdict::ready())
        }
        Ownership::Ours if only_warn => Decision::Write(Write::Compare),
        Ownership::Ours | Ownership::HandedOver | Ownership::Twin if may_be_immutable => {
            Decision::Write(Write::ReplaceIfEqual)
        }
        Ownership::Ours | Ownership::HandedOver | Ownership::Twin => Decision::Write(Write::Replace),
    }
}

/// An immutable Secret with another content.
pub fn immutable() -> Verdict {
    Verdict::stalled(
        "Immutable",
        "the Secret is immutable and its content would change; delete it to have it made again",
    )
}

fn text(text: Option<&String>) -> &str {
    text.map(String::as_str).unwrap_or_default()
}

/// `managedFields`: manager and fields of each entry.
fn managed_fields(secret: &ObjectMeta) -> impl Iterator<Item = (&str, &serde_json::Value)> {
    secret.managed_fields.iter().flatten().filter_map(|entry| {
        let fields = entry.fields_v1.as_ref()?;
        Some((entry.manager.as_deref().unwrap_or_default(), &fields.0))
    })
}

/// Who changed a Secret last, other than we.
pub fn last_manager(secret: &ObjectMeta) -> Option<String> {
    let others = secret.managed_fields.iter().flatten().filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0)).and_then(|entry| entry.manager.clone())
}

/// Whether nobody owns a Secret and nobody but us has written it.
pub fn left_by_us(secret: &ObjectMeta) -> bool {
    let managers = secret.managed_fields.as_deref().unwrap_or_default();
    let ours = !managers.is_empty() && managers.iter().all(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    ours && secret.owner_references.as_ref().is_none_or(Vec::is_empty)
}

/// The labels or annotations of a Secret that an earlier write of ours set.
fn set_by_us(secret: &ObjectMeta, which: &str) -> BTreeSet<String> {
    managed_fields(secret)
        .filter(|(manager, _)| *manager == FIELD_MANAGER)
        .filter_map(|(_, fields)| fields.get("f:metadata")?.get(which)?.as_object())
        .flat_map(|map| map.keys().filter_map(|key| key.strip_prefix("f:")).map(str::to_owned))
        .collect()
}

/// A Secret as it is sent. Its values are encoded as they are written, into the request's body and nowhere else.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutable: Option<bool>,
    data: BTreeMap<&'a str, Encoded<'a>>,
}

impl<'a> Body<'a> {
    /// The Secret with this metadata.
    pub fn bytes(metadata: ObjectMeta, plain: &'a PlainSecret, immutable: Option<bool>) -> Vec<u8> {
        let data = plain.data.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        Self::of(metadata, plain.type_.as_deref().unwrap_or("Opaque"), immutable, data)
    }

    /// The same, of values from wherever they are.
    pub fn of(
        metadata: ObjectMeta,
        type_: &'a str,
        immutable: Option<bool>,
        data: BTreeMap<&'a str, &'a [u8]>,
    ) -> Vec<u8> {
        let body = Self {
            api_version: "v1",
            kind: "Secret",
            metadata,
            type_,
            immutable: immutable.filter(|immutable| *immutable),
            data: data.into_iter().map(|(key, value)| (key, Encoded(value))).collect(),
        };
        encode(&body)
    }
}

struct Encoded<'a>(&'a [u8]);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&base64::display::Base64Display::new(self.0, &base64::engine::general_purpose::STANDARD))
    }
}

/// The Secret that stands where `existing` stood: its data wholly ours, of its metadata what others set.
pub fn secret_body(sealed: &SealedSecret, plain: &PlainSecret, digest: &str, existing: Option<&ObjectMeta>) -> Vec<u8> {
    let name = text(sealed.metadata.name.as_ref());
    let uid = text(sealed.metadata.uid.as_ref());
    let (labels, mut annotations) = output_metadata(&sealed.spec.template.clone().unwrap_or_default());
    annotations.insert(SEALED_SECRET_ANNOTATION.to_owned(), name.to_owned());
    annotations.insert(CONTENT_ANNOTATION.to_owned(), digest.to_owned());
    let mut metadata = existing.cloned().unwrap_or_default();
    let merged = |which: &str, kept: Option<BTreeMap<String, String>>, ours: BTreeMap<String, String>| {
        let before = existing.map(|secret| set_by_us(secret, which)).unwrap_or_default();
        let mut all: BTreeMap<_, _> = kept.into_iter().flatten().filter(|(key, _)| !before.contains(key)).collect();
        all.extend(ours);
        (!all.is_empty()).then_some(all)
    };
    metadata.labels = merged("f:labels", metadata.labels.take(), labels);
    metadata.annotations = merged("f:annotations", metadata.annotations.take(), annotations);
    metadata.managed_fields = None;
    metadata.name = sealed.metadata.name.clone();
    metadata.namespace = sealed.metadata.namespace.clone();
    let mut owners = metadata.owner_references.take().unwrap_or_default();
    owners.retain(|owner| owner.uid != uid && !is_of_name(owner, name));
    // The twin of the other format stays an owner, so that the Secret outlives either of them.
    for owner in owners.iter_mut().filter(|owner| is_twin(owner, name)) {
        owner.controller = Some(false);
    }
    owners.push(OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    });
    metadata.owner_references = Some(owners);
    Body::bytes(metadata, plain, plain.immutable)
}

/// Into one buffer of the right size: growing would leave copies behind, and more would be kept for each that is under way.
fn encode(body: &impl Serialize) -> Vec<u8> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Into memory, with text keys: neither can fail.
    let _ = serde_json::to_writer(&mut count, body);
    let mut bytes = Vec::with_capacity(count.0);
    let _ = serde_json::to_writer(&mut bytes, body);
    bytes
}

/// What is merged into somebody else's Secret: our keys, and not those any more that were ours.
fn patch_body(plain: &PlainSecret, existing: &ObjectMeta) -> Vec<u8> {
    #[derive(Serialize)]
    struct Patch<'a> {
        metadata: serde_json::Value,
        data: BTreeMap<&'a str, Option<Encoded<'a>>>,
    }
    let annotations = existing.annotations.as_ref();
    let before = annotations.and_then(|map| map.get(PATCHED_KEYS_ANNOTATION)).map(String::as_str).unwrap_or_default();
    let mut data: BTreeMap<&str, Option<Encoded<'_>>> =
        before.split(',').filter(|key| !key.is_empty()).map(|key| (key, None)).collect();
    data.extend(plain.data.iter().map(|(key, value)| (key.as_str(), Some(Encoded(value.expose())))));
    let keys = plain.data.keys().map(String::as_str).collect::<Vec<_>>().join(",");
    let metadata = serde_json::json!({
        "resourceVersion": existing.resource_version,
        "annotations": { PATCHED_KEYS_ANNOTATION: keys },
    });
    encode(&Patch { metadata, data })
}

/// What a failure to open says.
pub fn verdict_of_open(error: &OpenError) -> Verdict {
    match error {
        OpenError::NoEnvelope { .. } => {
            Verdict::reconciling("NoKey", error.to_string().replace("identity given", "key here"))
        }
        OpenError::Failed(_) => Verdict::stalled("DecryptionFailed", error.to_string()),
        OpenError::Template { .. } => Verdict::stalled("TemplateFailed", error.to_string()),
        OpenError::Problems(problems) => {
            let misplaced = problems.as_slice().iter().any(|p| matches!(p.kind, ProblemKind::Misplaced(_)));
            Verdict::stalled(if misplaced { "Misplaced" } else { "Malformed" }, error.to_string())
        }
    }
}

/// What a refusal of the API server says. `verb` and `resource` name the right that may be missing.
pub fn verdict_of_failure(failure: &Failure, verb: &str, resource: &str) -> Verdict {
    match failure {
        Failure::Denied => Verdict::reconciling(
            "Forbidden",
            format!("the controller's service account has no right to {verb} {resource} in this namespace"),
        ),
        Failure::NamespaceTerminating => Verdict::reconciling("NamespaceTerminating", "the namespace is being deleted"),
        Failure::NotFound => Verdict::reconciling("NotFound", "the namespace or the Secret went away meanwhile"),
        Failure::Conflict | Failure::AlreadyExists => {
            Verdict::reconciling("Conflict", "somebody else keeps writing the Secret at the same time")
        }
        Failure::Quota => Verdict::reconciling("QuotaExceeded", "a ResourceQuota of the namespace is exceeded"),
        Failure::Admission => {
            Verdict::reconciling("AdmissionDenied", "an admission webhook or policy of the cluster refuses the Secret")
        }
        Failure::Throttled(_) => Verdict::reconciling("Throttled", "the API server asks to slow down"),
        Failure::NotLeading => Verdict::reconciling("Unavailable", "another replica of the controller leads"),
        Failure::Unavailable | Failure::Expired(_) => {
            Verdict::reconciling("Unavailable", "the API server does not answer, or not in time")
        }
        Failure::TooLarge => Verdict::stalled("TooLarge", "the Secret is larger than the API server takes (1 MiB)"),
        Failure::Refused(code) => {
            Verdict::reconciling("Refused", format!("the API server refuses the Secret with status {code}"))
        }
        Failure::Invalid(fields) => {
            if fields.contains(&Field::Immutable) {
                return immutable();
            }
            if fields.contains(&Field::Type) {
                let text = "the type of the Secret that is there is another, or the type is invalid; a type can't be \
                            changed: delete the Secret to have it made again";
                return Verdict::stalled("TypeImmutable", text);
            }
            let mut named: Vec<_> = fields.iter().map(ToString::to_string).collect();
            named.dedup();
            let named = if named.is_empty() { Field::Other.to_string() } else { named.join(", ") };
            Verdict::stalled("Invalid", format!("the API server finds the Secret invalid: {named}"))
        }
    }
}

/// What reconciliation needs.
pub struct Context {
    /// The API server.
    pub api: Api,
    /// Events.
    pub events: Events,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The key ring.
    pub ring: watch::Receiver<Arc<Ring>>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// How many are opened at once: as many as there are cores. It takes time, so it runs off the asynchronous threads.
    pub opening: Semaphore,
    /// The other format, where it is on.
    pub bitnami: Option<bitnami::Shared>,
}

/// A right that was missing: a verb and a resource.
pub type Right = (&'static str, &'static str);

/// How a look ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The object is gone, or going.
    pub gone: bool,
    /// What was said; `None` when the object was not reached.
    pub verdict: Option<Verdict>,
    /// The Secret, when it was written or looked at.
    pub secret: Option<Option<SecretId>>,
    /// What the status says was written.
    pub applied: Option<SecretId>,
    /// The API server asked for a pause.
    pub pause: Option<Duration>,
    /// Who had changed the Secret that was put back; `None` when nothing was.
    pub repaired: Option<Option<String>>,
    /// The object could not be read or its status not written: to be tried again, whatever the verdict.
    pub again: bool,
    /// The right that was missing.
    pub denied: Option<Right>,
    /// Why the object was not reached.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// The object is gone, or going.
    pub fn gone() -> Self {
        Self { gone: true, ..Self::nothing() }
    }

    /// Nothing was done and nothing is known.
    pub fn nothing() -> Self {
        Self::unreached(None, ("", ""))
    }

    /// The object was not reached.
    pub fn unreached(failure: Option<&Failure>, right: Right) -> Self {
        Self {
            gone: false,
            verdict: None,
            secret: None,
            applied: None,
            pause: pause(failure),
            repaired: None,
            again: failure.is_some(),
            denied: denied(failure, right),
            failure: failure.cloned(),
        }
    }
}

/// The right that was missing.
pub fn denied(failure: Option<&Failure>, right: Right) -> Option<Right> {
    (failure == Some(&Failure::Denied)).then_some(right)
}

/// The pause that the API server asked for.
pub fn pause(failure: Option<&Failure>) -> Option<Duration> {
    match failure {
        Some(Failure::Throttled(pause)) => *pause,
        _ => None,
    }
}

/// What became of the Secret in one look.
struct Attempt {
    verdict: Verdict,
    applied: Option<Applied>,
    secret: Option<Option<SecretId>>,
    pause: Option<Duration>,
    repaired: Option<Option<String>>,
    note: Option<Note>,
    denied: Option<Right>,
}

impl Attempt {
    fn said(verdict: Verdict) -> Self {
        Self { verdict, applied: None, secret: None, pause: None, repaired: None, note: None, denied: None }
    }

    fn failed(failure: &Failure, verb: &'static str, resource: &'static str) -> Self {
        Self {
            pause: pause(Some(failure)),
            denied: denied(Some(failure), (verb, resource)),
            ..Self::said(verdict_of_failure(failure, verb, resource))
        }
    }
}

/// Looks at one object, and does what is to be done. `given` is the object as the watch saw it.
pub async fn reconcile(
    context: &Context,
    key: &ObjectKey,
    given: Option<Box<SealedSecret>>,
    known: Known,
    trust: bool,
) -> Outcome {
    let own = own_path(&key.namespace, "sealedsecrets");
    let (mut given, mut known) = (given, known);
    for _ in 0..LOOKS {
        let mut sealed = match given.take() {
            Some(sealed) => *sealed,
            None => match context.api.get::<DeserializeGuard<SealedSecret>>(&own, &key.name).await {
                Ok(DeserializeGuard(Ok(sealed))) => sealed,
                Ok(DeserializeGuard(Err(_))) => return unreadable(context, key).await,
                Err(Failure::NotFound) => return Outcome::gone(),
                Err(failure) => return Outcome::unreached(Some(&failure), ("get", "sealedsecrets")),
            },
        };
        sealed.metadata.managed_fields = None;
        if sealed.metadata.deletion_timestamp.is_some() {
            return Outcome::gone();
        }
        let exposed = is_exposed(context, &sealed);
        let told = sealed.status.as_ref().is_some_and(|status| status::says_compromised(status) == exposed);
        if trust && told && is_settled(&sealed, &known, &context.settings) {
            let applied = sealed.status.and_then(|status| status.applied).map(|a| SecretId::applied(&a));
            return Outcome { verdict: Some(Verdict::ready()), applied, ..Outcome::nothing() };
        }
        let sealed = Arc::new(sealed);
        let Some(attempt) = look(context, key, &sealed, &mut known, trust).await else { continue };
        match report(context, key, Arc::unwrap_or_clone(sealed), &attempt).await {
            Reported::Done(applied) => {
                return Outcome {
                    gone: false,
                    verdict: Some(attempt.verdict),
                    secret: attempt.secret,
                    applied,
                    pause: attempt.pause,
                    repaired: attempt.repaired,
                    again: false,
                    denied: attempt.denied,
                    failure: None,
                };
            }
            Reported::Gone => return Outcome::gone(),
            Reported::Changed => known = attempt.secret.map_or(known, |id| id.map_or(Known::Absent, Known::Seen)),
            Reported::Failed(failure) => {
                let right = ("update", "sealedsecrets/status");
                return Outcome { secret: attempt.secret, ..Outcome::unreached(Some(&failure), right) };
            }
        }
    }
    tracing::info!(object = %key, "somebody keeps writing at the same time; trying again later");
    Outcome { again: true, ..Outcome::nothing() }
}

/// Whether a data key of the object is one that a compromised key opens.
fn is_exposed(context: &Context, sealed: &SealedSecret) -> bool {
    let ring = context.ring.borrow();
    let any = ring.keys.iter().any(|key| key.state == KeyState::Compromised);
    any && ring.exposes(&readers(&sealed.spec))
}

/// One that the definition lets in and this version can't read: of a later version, say.
async fn unreadable(context: &Context, key: &ObjectKey) -> Outcome {
    tracing::warn!(object = %key, "the SealedSecret is not of the form that its definition demands");
    let own = own_path(&key.namespace, "sealedsecrets");
    let Rough { metadata, status } = match context.api.get::<Rough<SealedSecretStatus>>(&own, &key.name).await {
        Ok(rough) => rough,
        Err(Failure::NotFound) => return Outcome::gone(),
        Err(failure) => return Outcome::unreached(Some(&failure), ("get", "sealedsecrets")),
    };
    if metadata.deletion_timestamp.is_some() {
        return Outcome::gone();
    }
    let text = "it can't be read: a field is not of the form that this version of the controller knows";
    let attempt = Attempt::said(Verdict::stalled("Malformed", text));
    let sealed = SealedSecret { metadata, spec: SealedSecretSpec::default(), status };
    match report(context, key, sealed, &attempt).await {
        Reported::Done(_) => Outcome { verdict: Some(attempt.verdict), ..Outcome::nothing() },
        Reported::Gone => Outcome::gone(),
        Reported::Changed => Outcome { again: true, ..Outcome::nothing() },
        Reported::Failed(failure) => Outcome::unreached(Some(&failure), ("update", "sealedsecrets/status")),
    }
}

/// Decides, opens, writes. `None`: what was looked at has changed meanwhile, look again.
async fn look(
    context: &Context,
    key: &ObjectKey,
    sealed: &Arc<SealedSecret>,
    known: &mut Known,
    trust: bool,
) -> Option<Attempt> {
    let secrets = core_path(&key.namespace, "secrets");
    let skip = sealed.spec.suspend == Some(true);
    let existing = match known {
        _ if skip => None,
        Known::Absent => None,
        Known::Seen(_) | Known::Unknown => match context.api.get_metadata(&secrets, &key.name).await {
            Ok(metadata) => Some(metadata),
            Err(Failure::NotFound) => None,
            Err(failure) => return Some(Attempt::failed(&failure, "get", "secrets")),
        },
    };
    let seen = existing.as_ref().map(SecretId::of);
    *known = seen.map_or(Known::Absent, Known::Seen);
    let write = match decide(sealed, existing.as_ref(), &context.settings, trust) {
        Decision::Settle(verdict) => {
            let secret = (!skip).then_some(seen);
            return Some(Attempt { secret, ..Attempt::said(verdict) });
        }
        Decision::Write(write) => write,
    };
    let Some(opened) = open_aside(context, sealed).await else {
        return Some(Attempt::said(Verdict::reconciling("Unavailable", "opening it was interrupted")));
    };
    let plain = match opened {
        Ok(plain) => plain,
        Err(error) => return Some(Attempt { secret: Some(seen), ..Attempt::said(verdict_of_open(&error)) }),
    };
    let ring = context.ring.borrow().clone();
    for set in readers(&sealed.spec) {
        if let Some(key) = ring.opener(&set) {
            context.metrics.used(&key.name, "open");
        }
    }
    let digest = content_digest(sealed).unwrap_or_default();
    let done = |metadata: &ObjectMeta| Applied {
        secret_uid: metadata.uid.clone().unwrap_or_default(),
        secret_version: metadata.resource_version.clone().unwrap_or_default(),
        inputs: inputs(sealed, &context.settings),
    };
    let (verb, written) = match (write, &existing) {
        (Write::Create, _) => {
            ("create", context.api.create(&secrets, secret_body(sealed, &plain, &digest, None)).await)
        }
        (Write::Patch, Some(existing)) => {
            ("patch", context.api.merge(&secrets, &key.name, patch_body(&plain, existing)).await)
        }
        (Write::Replace, existing) => {
            let body = secret_body(sealed, &plain, &digest, existing.as_ref());
            ("update", context.api.replace(&secrets, &key.name, body).await)
        }
        (Write::ReplaceIfEqual | Write::Compare | Write::Patch, _) => {
            let (equal, is_immutable, found) = match compare(context, &secrets, &key.name, &plain).await {
                Ok(found) => found,
                Err(Failure::NotFound) => {
                    *known = Known::Absent;
                    return None;
                }
                Err(failure) => return Some(Attempt::failed(&failure, "get", "secrets")),
            };
            let id = SecretId::of(&found);
            if seen != Some(id) {
                *known = Known::Unknown;
                return None;
            }
            if write == Write::Compare {
                return Some(compared(equal, id, done(&found), existing.as_ref()));
            }
            if is_immutable && !(equal && plain.immutable == Some(true)) {
                return Some(Attempt { secret: Some(seen), ..Attempt::said(immutable()) });
            }
            let body = secret_body(sealed, &plain, &digest, existing.as_ref());
            ("update", context.api.replace(&secrets, &key.name, body).await)
        }
    };
    drop(plain);
    match written {
        Ok(metadata) => {
            context.metrics.secret_writes.inc();
            let id = SecretId::of(&metadata);
            let changed = seen != Some(id);
            let applied = done(&metadata);
            let before = sealed.status.as_ref().and_then(|status| status.applied.as_ref());
            // The same object was applied before, and the Secret is not what was written: somebody changed it.
            let drifted = changed && before.is_some_and(|before| before.inputs == applied.inputs);
            let repaired = drifted.then(|| existing.as_ref().and_then(last_manager));
            let note = repaired.as_ref().map(|manager| {
                context.metrics.drift_repairs.inc();
                let what = match (&existing, manager) {
                    (None, _) => "it had been deleted".to_owned(),
                    (Some(_), Some(manager)) => format!("{manager:?} had changed it"),
                    (Some(_), None) => "it had been changed".to_owned(),
                };
                Note::warning("DriftRepaired", format!("the Secret was put back: {what}"))
            });
            Some(Attempt {
                applied: Some(applied),
                secret: Some(Some(id)),
                repaired,
                note,
                ..Attempt::said(Verdict::ready())
            })
        }
        Err(Failure::Conflict | Failure::AlreadyExists) => {
            *known = Known::Unknown;
            None
        }
        Err(Failure::NotFound) if write != Write::Create => {
            *known = Known::Absent;
            None
        }
        Err(failure) => Some(Attempt::failed(&failure, verb, "secrets")),
    }
}

/// Opens it where it holds nobody up.
async fn open_aside(context: &Context, sealed: &Arc<SealedSecret>) -> Option<Result<PlainSecret, OpenError>> {
    let _turn = context.opening.acquire().await.ok()?;
    let (ring, sealed) = (context.ring.borrow().clone(), sealed.clone());
    context.metrics.opened.inc();
    let opened = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        (open(&sealed, &ring.identities()), started.elapsed())
    });
    let (opened, took) = opened.await.ok()?;
    context.metrics.opening.observe(took.as_secs_f64());
    Some(opened)
}

/// Reads the Secret, once: whether its content and type are these, whether it is immutable, and which it is. What was
/// read is cleared.
async fn compare(
    context: &Context,
    secrets: &str,
    name: &str,
    plain: &PlainSecret,
) -> Result<(bool, bool, ObjectMeta), Failure> {
    let mut found: Secret = context.api.get(secrets, name).await?;
    let data = found.data.get_or_insert_default();
    let equal = found.type_.as_deref().unwrap_or("Opaque") == plain.type_.as_deref().unwrap_or("Opaque")
        && data.len() == plain.data.len()
        && plain.data.iter().all(|(key, value)| data.get(key).is_some_and(|found| found.0 == value.expose()));
    for value in data.values_mut() {
        value.0.zeroize();
    }
    Ok((equal, found.immutable == Some(true), found.metadata))
}

/// What is said of a Secret that is left as somebody changed it.
fn compared(equal: bool, id: SecretId, applied: Applied, existing: Option<&ObjectMeta>) -> Attempt {
    if equal {
        return Attempt { applied: Some(applied), secret: Some(Some(id)), ..Attempt::said(Verdict::ready()) };
    }
    let who = existing.and_then(last_manager).map_or_else(|| "somebody".to_owned(), |manager| format!("{manager:?}"));
    let message = format!("{who} changed the Secret, and it is left so: drift is warn");
    let verdict = Verdict { standing: Standing::Ready, reason: "Drifted", message: message.clone() };
    Attempt { secret: Some(Some(id)), note: Some(Note::warning("Drifted", message)), ..Attempt::said(verdict) }
}

/// What became of a status.
pub enum Reported {
    /// It says what it should; with what it says was written.
    Done(Option<SecretId>),
    /// The object is gone.
    Gone,
    /// The object is another now: look again.
    Changed,
    /// It could not be written.
    Failed(Failure),
}

/// Writes the status, when it is another, and the event that belongs to it.
async fn report(context: &Context, key: &ObjectKey, mut sealed: SealedSecret, attempt: &Attempt) -> Reported {
    let own = own_path(&key.namespace, "sealedsecrets");
    for _ in 0..LOOKS {
        let old = sealed.status.as_ref();
        let applied = attempt.applied.clone().or_else(|| old.and_then(|status| status.applied.clone()));
        let handled = if matches!(attempt.verdict.standing, Standing::Suspended) {
            old.and_then(|status| status.last_handled_reconcile_at.clone())
        } else {
            asked_at(&sealed.metadata).map(str::to_owned)
        };
        let (generation, now) = (sealed.metadata.generation, Timestamp::now());
        let mut next = status::next(old, generation, &attempt.verdict, applied, handled, now);
        status::mark_compromised(&mut next, old, is_exposed(context, &sealed), generation, now);
        let applied = next.applied.as_ref().map(SecretId::applied);
        if old == Some(&next) {
            return Reported::Done(applied);
        }
        let note = attempt.note.clone().or_else(|| changed(old, &next, &attempt.verdict));
        match context.api.replace_status(&own, &key.name, status_body(&sealed, serde_json::json!({}), &next)).await {
            Ok(_) => {
                context.metrics.status_writes.inc();
                let verdict = &attempt.verdict;
                tracing::debug!(object = %key, reason = verdict.reason, "status written");
                if let Some(note) = note {
                    tracing::info!(object = %key, reason = note.reason, message = note.message, "reported");
                    context.events.publish(reference(KIND, &sealed.metadata), &note).await;
                }
                return Reported::Done(applied);
            }
            Err(Failure::NotFound) => return Reported::Gone,
            Err(Failure::Conflict) => match after_conflict(context, &own, &key.name, &sealed).await {
                Ok(fresh) => sealed = fresh,
                Err(reported) => return reported,
            },
            Err(failure) => return Reported::Failed(failure),
        }
    }
    Reported::Failed(Failure::Conflict)
}

/// The object as it is after somebody else has written to it, when what was looked at is still so: then its status can be written
/// again.
pub async fn after_conflict<K>(context: &Context, path: &str, name: &str, before: &K) -> Result<K, Reported>
where
    K: Resource + DeserializeOwned,
{
    let fresh = match context.api.get::<DeserializeGuard<K>>(path, name).await {
        Ok(DeserializeGuard(Ok(fresh))) => fresh,
        Ok(_) | Err(Failure::NotFound) => return Err(Reported::Gone),
        Err(failure) => return Err(Reported::Failed(failure)),
    };
    let (now, then) = (fresh.meta(), before.meta());
    let same = now.uid == then.uid && now.generation == then.generation && now.deletion_timestamp.is_none();
    if same { Ok(fresh) } else { Err(Reported::Changed) }
}

/// The body of a write to `/status`: the API server takes nothing else of it, and wants a `spec` of the right form. uid and
/// version are conditions.
pub fn status_body<K>(object: &K, spec: serde_json::Value, status: &impl Serialize) -> Vec<u8>
where
    K: Resource<DynamicType = ()>,
{
    let metadata = object.meta();
    let body = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        },
        "spec": spec,
        "status": status,
    });
    body.to_string().into_bytes()
}

/// The event that a change of status is worth: a failure that is new, or its end.
fn changed(old: Option<&SealedSecretStatus>, next: &SealedSecretStatus, verdict: &Verdict) -> Option<Note> {
    let before = old.and_then(|status| condition(&status.conditions, "Ready"));
    let now = condition(&next.conditions, "Ready")?;
    match verdict.standing {
        Standing::Ready if before.is_some_and(|before| before.status == "False") => {
            Some(Note::normal("Recovered", verdict.message.clone()))
        }
        Standing::Reconciling | Standing::Stalled
            if before.is_none_or(|b| b.reason != now.reason || b.message != now.message || b.status != now.status) =>
        {
            Some(Note::warning(verdict.reason, verdict.message.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
pub mod tests;
