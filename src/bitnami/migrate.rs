//! From this format to the native one: what an object says, said in the other format, and its values sealed for it.
//!
//! [`translate`] works on public text alone and decides what can be said at all. What can't be said faithfully is refused with
//! its place, never dropped silently. [`migrate`] opens the items and seals them for recipients of the native format; whoever
//! may not see values has a controller do that.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::change::is_legacy;
use super::key::{KeyFingerprint, PrivateKey};
use super::resource::{
    API_VERSION, BitnamiSealedSecret, CLUSTER_WIDE, GROUP, KIND, MANAGED, NAMESPACE_WIDE, PATCH,
    SKIP_SET_OWNER_REFERENCES, scope_of,
};
use super::sealed::{OpenError, Operations, check, open, open_within, value_len};
use crate::item::padded_len;
use crate::metadata::{BITNAMI_KEY_LABEL, SEALING_KEY_TYPE, is_dropped_from_template, is_last_applied};
use crate::open::{Problems, Strictness, inspect};
use crate::recipient::{Fingerprint, NameSource, Target, Targets, TargetsError};
use crate::request::{self, BodyError};
use crate::reseal::Household;
use crate::resource::{SealedSecret, SealedSecretSpec, SecretTemplate, TemplateMetadata};
use crate::scope::{Place, PlaceError, Scope};
use crate::seal::{SealError, seal_all};
use crate::secret::{PlainSecret, SecretValue};
use crate::template::{self, Budget, Context, Dialect};

/// What the native format can't say, or says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The path of the field: `spec.template.metadata.annotations.KEY`.
    pub field: String,
    /// Why.
    pub why: Why,
}

/// Why a field is not translated.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Of another program, or of a newer version of the format.
    #[error("is no field that the native format has")]
    Unknown,
    /// The native controller never puts it on a Secret.
    #[error("is never put on a Secret by the native controller, where delivery tools would fight over it")]
    NeverOnASecret,
    /// A Secret without an owner stays when its SealedSecret goes.
    #[error("has no counterpart: a native SealedSecret always owns its Secret, and takes it along when it is deleted")]
    NoOwner,
    /// The template makes the key that an item has.
    #[error("is both an item and a template, and in the native format a key is one of them")]
    ItemAndTemplate,
    /// It is no template of the native kind.
    #[error("is no template of the native format")]
    Template,
    /// `null` takes an item out.
    #[error("is null, which leaves an item out of the Secret; the native format has no such thing: take the item out")]
    NullTemplate,
    /// A private key of a controller.
    #[error("marks a private key of a controller, which is never made from a sealed file")]
    SealingKey,
}

/// What somebody has to do besides, or should know.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Remark {
    /// The mark lets a controller take over a Secret that is there; it can't come with the Secret itself.
    #[error(
        "sealedsecrets.bitnami.com/managed is on the Secret itself in the native format: kubectl annotate secret NAME \
         bulla.dev/managed=true, unless a Bitnami SealedSecret owns the Secret now"
    )]
    Managed,
    /// The mark lets a controller add keys to somebody else's Secret.
    #[error(
        "sealedsecrets.bitnami.com/patch is on the Secret itself in the native format: kubectl annotate secret NAME \
         bulla.dev/patch=true, before the native object is applied"
    )]
    Patch,
    /// A template may ask for what is not there.
    #[error(
        "in the native format a template that asks for an item that is not there, or is not UTF-8, fails; here it gets \
         \"<no value>\", or bytes"
    )]
    StricterTemplates,
}

/// An object in the native format, without items and envelopes.
#[derive(Clone, Debug, PartialEq)]
pub struct Translation {
    /// Metadata, scope and template.
    pub shell: SealedSecret,
    /// What somebody should know.
    pub remarks: BTreeSet<Remark>,
}

/// Why an object is not translated.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum TranslateError {
    /// It is broken.
    #[error(transparent)]
    Broken(#[from] OpenError),
    /// It has no place that the native format knows.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The whole Secret is one sealed text: what else it says shows only when it is opened.
    #[error("it has spec.data, the older form, in which labels, annotations and keys are sealed too")]
    Legacy,
    /// Fields that can't be said, at least one.
    #[error("{}", .0.iter().map(|o| format!("{} {}", o.field, o.why)).collect::<Vec<_>>().join("; "))]
    Obstacles(Vec<Obstacle>),
}

/// Says what an object says in the native format, without its values.
///
/// # Errors
/// [`TranslateError`]; all obstacles at once.
pub fn translate(sealed: &BitnamiSealedSecret) -> Result<Translation, TranslateError> {
    check(&sealed.spec)?;
    if is_legacy(&sealed.spec) {
        return Err(TranslateError::Legacy);
    }
    let template = sealed.spec.template.clone().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let mut obstacles = Vec::new();
    for (field, there) in [
        ("finalizers", metadata.finalizers.is_some()),
        ("generateName", metadata.generate_name.is_some()),
        ("ownerReferences", metadata.owner_references.is_some()),
    ] {
        if there {
            obstacles.push(Obstacle { field: format!("spec.template.metadata.{field}"), why: Why::Unknown });
        }
    }
    let plain = PlainSecret {
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
        type_: template.type_.filter(|type_| !type_.is_empty()),
        immutable: template.immutable,
        ..PlainSecret::default()
    };
    said(sealed, plain, &template.data, obstacles)
}

/// The shell of what an object and its Secret say. `plain` holds no values.
fn said(
    sealed: &BitnamiSealedSecret,
    plain: PlainSecret,
    templates: &BTreeMap<String, Option<String>>,
    mut obstacles: Vec<Obstacle>,
) -> Result<Translation, TranslateError> {
    let own = &sealed.metadata;
    let scope = scope_of(own.annotations.as_ref());
    Place::new(scope, own.namespace.as_deref(), own.name.as_deref())?;
    let mut remarks = BTreeSet::new();
    let mut obstacle = |field: String, why| obstacles.push(Obstacle { field, why });
    let PlainSecret { labels, mut annotations, type_, immutable, .. } = plain;
    annotations.retain(|key, value| {
        let on = value == "true";
        match key.as_str() {
            MANAGED if on => _ = remarks.insert(Remark::Managed),
            PATCH if on => _ = remarks.insert(Remark::Patch),
            SKIP_SET_OWNER_REFERENCES if on => {
                obstacle(format!("spec.template.metadata.annotations.{key}"), Why::NoOwner);
            }
            NAMESPACE_WIDE | CLUSTER_WIDE | MANAGED | PATCH | SKIP_SET_OWNER_REFERENCES => {}
            // It repeats what was applied, and is wrong as soon as anything changes.
            _ if is_last_applied(key) => {}
            _ => return true,
        }
        false
    });
    for (within, map) in [("labels", &labels), ("annotations", &annotations)] {
        for key in map.keys() {
            if key == BITNAMI_KEY_LABEL {
                obstacle(format!("spec.template.metadata.{within}.{key}"), Why::SealingKey);
            } else if is_dropped_from_template(key) {
                obstacle(format!("spec.template.metadata.{within}.{key}"), Why::NeverOnASecret);
            }
        }
    }
    if type_.as_deref() == Some(SEALING_KEY_TYPE) {
        obstacle("spec.template.type".into(), Why::SealingKey);
    }
    let dialect = Dialect::native();
    let mut data = BTreeMap::new();
    for (key, source) in templates {
        let why = if source.is_none() {
            Why::NullTemplate
        } else if sealed.spec.encrypted_data.contains_key(key) {
            Why::ItemAndTemplate
        } else if let Some(source) = source.as_ref().filter(|text| template::check(key, text, &dialect).is_ok()) {
            remarks.insert(Remark::StricterTemplates);
            data.insert(key.clone(), source.clone());
            continue;
        } else {
            Why::Template
        };
        obstacle(format!("spec.template.data.{key}"), why);
    }
    if !obstacles.is_empty() {
        return Err(TranslateError::Obstacles(obstacles));
    }
    let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
    let kept = |map: Option<&BTreeMap<String, String>>| {
        let mut map = map.cloned().unwrap_or_default();
        map.retain(|key, _| !is_last_applied(key) && !key.starts_with(&format!("sealedsecrets.{GROUP}/")));
        some(map)
    };
    let metadata = (!labels.is_empty() || !annotations.is_empty()).then_some(TemplateMetadata { labels, annotations });
    let template = SecretTemplate { metadata, type_, immutable, data };
    let shell = SealedSecret {
        metadata: ObjectMeta {
            name: own.name.clone(),
            namespace: own.namespace.clone(),
            labels: kept(own.labels.as_ref()),
            annotations: kept(own.annotations.as_ref()),
            ..ObjectMeta::default()
        },
        spec: SealedSecretSpec {
            scope: (scope != Scope::Strict).then_some(scope),
            template: (template != SecretTemplate::default()).then_some(template),
            ..SealedSecretSpec::default()
        },
        status: None,
    };
    Ok(Translation { shell, remarks })
}

/// Takes fields out of an object that stand in the way, by the paths of their [`Obstacle`]s. Which of them were there.
pub fn leave_out<'f>(sealed: &mut BitnamiSealedSecret, fields: impl IntoIterator<Item = &'f str>) -> BTreeSet<String> {
    let mut gone = BTreeSet::new();
    let Some(template) = &mut sealed.spec.template else { return gone };
    for field in fields {
        let Some(field_of_template) = field.strip_prefix("spec.template.") else { continue };
        let take = |map: &mut Option<BTreeMap<String, String>>, key: &str| {
            map.as_mut().is_some_and(|map| map.remove(key).is_some())
        };
        let metadata = template.metadata.get_or_insert_default();
        let was = if let Some(key) = field_of_template.strip_prefix("metadata.annotations.") {
            take(&mut metadata.annotations, key)
        } else if let Some(key) = field_of_template.strip_prefix("metadata.labels.") {
            take(&mut metadata.labels, key)
        } else if let Some(key) = field_of_template.strip_prefix("data.") {
            template.data.remove(key).is_some()
        } else {
            false
        };
        if was {
            gone.insert(field.to_owned());
        }
    }
    gone
}

/// Why an object does not become a native one.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum MigrateError {
    /// It can't be said.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its values can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What it would become is not sound.
    #[error(transparent)]
    Result(#[from] Problems),
    /// Templates that render to something else in the native format, by key.
    #[error("spec.template.data.{0} renders to something else in the native format")]
    Renders(String),
}

/// What an object became.
#[derive(Clone, Debug, PartialEq)]
pub struct Migrated {
    /// The native object.
    pub sealed: SealedSecret,
    /// What somebody should know.
    pub remarks: BTreeSet<Remark>,
    /// The key that opened; try it first the next time.
    pub key: Option<KeyFingerprint>,
}

/// Opens an object and seals it in the native format for `targets`, in its own place. Nothing is rendered: for whoever asks for
/// this and may not see values, nothing depends on them but whether they are authentic. The older form (`spec.data`) is refused,
/// since labels, annotations and keys in it are as secret as values are.
///
/// # Errors
/// [`MigrateError`]; [`OpenError::Operations`] when it costs more than `operations`.
pub fn migrate(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
    targets: &Targets,
    operations: &mut Operations,
) -> Result<Migrated, MigrateError> {
    let translation = translate(sealed)?;
    let opened = open_within(sealed, keys, hint, operations)?;
    let sealed = seal_into(translation.shell, &opened.secret.data, targets)?;
    Ok(Migrated { sealed, remarks: translation.remarks, key: opened.key() })
}

/// As [`migrate`], by somebody who holds the private keys and so may see everything: the older form is taken, and a template
/// that renders to something else in the native format is refused.
///
/// # Errors
/// [`MigrateError`].
pub fn migrate_with_values(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
    targets: &Targets,
) -> Result<Migrated, MigrateError> {
    if !is_legacy(&sealed.spec) {
        let opened = open(sealed, keys, hint)?;
        let translation = translate(sealed)?;
        let templates = translation.shell.spec.template.as_ref().map(|template| &template.data);
        if let Some(templates) = templates {
            renders_equally(templates, &opened.secret.data)?;
        }
        let mut remarks = translation.remarks;
        remarks.remove(&Remark::StricterTemplates);
        let sealed = seal_into(translation.shell, &opened.secret.data, targets)?;
        return Ok(Migrated { sealed, remarks, key: opened.key() });
    }
    check(&sealed.spec).map_err(TranslateError::from)?;
    let opened = open(sealed, keys, hint)?;
    let PlainSecret { data, .. } = &opened.secret;
    let plain = PlainSecret { data: BTreeMap::new(), ..opened.secret.clone() };
    let translation = said(sealed, plain, &BTreeMap::new(), Vec::new())?;
    let sealed = seal_into(translation.shell, data, targets)?;
    Ok(Migrated { sealed, remarks: translation.remarks, key: opened.key() })
}

fn seal_into(
    mut shell: SealedSecret,
    values: &BTreeMap<String, SecretValue>,
    targets: &Targets,
) -> Result<SealedSecret, MigrateError> {
    let metadata = &shell.metadata;
    let place =
        Place::new(shell.spec.scope.unwrap_or_default(), metadata.namespace.as_deref(), metadata.name.as_deref())
            .map_err(SealError::Place)?;
    let (items, envelopes) = seal_all(values, &place, targets)?;
    shell.spec.items = items;
    shell.spec.envelopes = envelopes;
    inspect(&shell, Strictness::Writer)?;
    Ok(shell)
}

fn renders_equally(
    templates: &BTreeMap<String, String>,
    values: &BTreeMap<String, SecretValue>,
) -> Result<(), MigrateError> {
    let render = |key: &str, source: &str, dialect: Dialect| {
        let context = Context::of_items(values, &dialect);
        template::render(key, source, &context, &dialect, &mut Budget::default())
    };
    for (key, source) in templates {
        let (there, here) = (render(key, source, Dialect::bitnami()), render(key, source, Dialect::native()));
        // One that fails there makes no Secret there; it may fail here too.
        if there.as_ref().is_ok_and(|there| here.as_ref() != Ok(there)) {
            return Err(MigrateError::Renders(key.clone()));
        }
    }
    Ok(())
}

/// Reads the body of `POST /v1/migrate`: `{"object": SealedSecret}`. Fields that the format does not have are refused here, since
/// nobody else would see them.
///
/// # Errors
/// [`BodyError`].
pub fn parse_request(body: &[u8]) -> Result<BitnamiSealedSecret, BodyError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Request {
        object: Value,
    }
    let Request { object } = request::parse(body)?;
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    match (text("apiVersion"), text("kind")) {
        (Some(API_VERSION), Some(KIND)) => {}
        (Some(_), Some(_)) => return Err(BodyError::Kind),
        _ => return Err(BodyError::Form),
    }
    let known = |value: Option<&Value>, fields: &[&str]| {
        value.and_then(Value::as_object).is_none_or(|map| map.keys().all(|key| fields.contains(&key.as_str())))
    };
    let spec = object.get("spec");
    let template = spec.and_then(|spec| spec.get("template"));
    let all_known = known(Some(&object), &["apiVersion", "kind", "metadata", "spec", "status"])
        && known(spec, &["encryptedData", "data", "template"])
        && known(template, &["apiVersion", "kind", "metadata", "type", "immutable", "data"]);
    if !all_known {
        return Err(BodyError::Form);
    }
    BitnamiSealedSecret::deserialize(object).map_err(|_| BodyError::Form)
}

/// Whom a cluster seals for what it migrates: its preferred key, and all recipients of its configuration that may read there.
///
/// # Errors
/// [`TargetsError`], when these don't go together.
pub fn targets_of(household: &Household<'_>, place: &Place) -> Result<Targets, TargetsError> {
    let name = household.name.map_or(NameSource::None, |name| NameSource::Comment(name.to_owned()));
    let mut given = vec![(household.preferred.clone(), name)];
    let others = household.configured.iter().filter(|configured| configured.recipient != *household.preferred);
    for configured in others.filter(|configured| configured.may_read(place)) {
        given.push((configured.recipient.clone(), NameSource::Comment(configured.name.clone())));
    }
    Targets::new(given, false)
}

/// Gives the envelopes of an answer that was checked the names of `targets`: a name is a label, and a repository has its own.
pub fn rename(answer: &mut SealedSecret, targets: &[Target]) {
    let own = answer.spec.items.values_mut().filter_map(|item| item.envelopes.as_mut());
    for map in own.chain([&mut answer.spec.envelopes]) {
        let lines = std::mem::take(map).into_iter().map(|(old, text)| {
            let fingerprint = crate::diff::fingerprint(&text);
            let target = targets.iter().find(|target| Some(target.recipient.fingerprint()) == fingerprint);
            (target.map_or(old, |target| target.name.clone()), text)
        });
        *map = lines.collect();
    }
}

/// Why what a cluster made of an object is not taken.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum AnswerRefused {
    /// It is broken.
    #[error("it is broken: {0}")]
    Broken(#[from] Problems),
    /// What was sent can't have become anything.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// Something besides items and envelopes is another.
    #[error("its {0} is not what the object that was sent says")]
    Changed(&'static str),
    /// An item is another in length.
    #[error("item {0:?} does not have the length of the one that was sent")]
    Item(String),
    /// Somebody who is not to read it.
    #[error("it is sealed for {0}, who is not among the recipients here")]
    Reader(String),
    /// Somebody who is to read it does not.
    #[error("it is not sealed for {0}")]
    Lost(String),
}

/// Checks what a cluster made of an object, whoever proved it: what [`translate`] says in everything but items and envelopes;
/// items of the same keys and of values of the same lengths; envelopes for all of `targets` and for nobody else.
///
/// # Errors
/// [`AnswerRefused`].
pub fn check_answer(
    sent: &BitnamiSealedSecret,
    answer: &SealedSecret,
    targets: &[Target],
) -> Result<(), AnswerRefused> {
    let Translation { shell, .. } = translate(sent)?;
    let metadata = |sealed: &SealedSecret| {
        let m = &sealed.metadata;
        (m.name.clone(), m.namespace.clone(), m.labels.clone(), m.annotations.clone())
    };
    let (wanted, got) = (&shell.spec, &answer.spec);
    let same = [
        ("metadata", metadata(&shell) == metadata(answer)),
        ("scope", wanted.scope.unwrap_or_default() == got.scope.unwrap_or_default()),
        ("template", wanted.template == got.template),
        ("drift", got.drift.is_none()),
        ("suspend", got.suspend.is_none()),
        ("set of items", sent.spec.encrypted_data.keys().eq(got.items.keys())),
    ];
    if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
        return Err(AnswerRefused::Changed(what));
    }
    let inspected = inspect(answer, Strictness::Writer)?;
    for item in &inspected.items {
        let sent = sent.spec.encrypted_data.get(item.key).and_then(|text| value_len(text).ok());
        if sent.map(|length| padded_len(4 + length)) != Some(item.sealed.body_len()) {
            return Err(AnswerRefused::Item(item.key.to_owned()));
        }
    }
    // Every line, also one that no item refers to: it would be written too.
    let lines = got.items.values().filter_map(|item| item.envelopes.as_ref()).chain([&got.envelopes]);
    let mut maps = 0;
    for map in lines.filter(|map| !map.is_empty()) {
        maps += 1;
        let readers: BTreeSet<Option<Fingerprint>> = map.values().map(|text| crate::diff::fingerprint(text)).collect();
        let wanted = |fingerprint: Fingerprint| targets.iter().any(|t| t.recipient.fingerprint() == fingerprint);
        if let Some(other) = readers.iter().flatten().find(|fingerprint| !wanted(**fingerprint)) {
            return Err(AnswerRefused::Reader(other.to_string()));
        }
        let lost = targets.iter().find(|target| !readers.contains(&Some(target.recipient.fingerprint())));
        if let Some(lost) = lost {
            return Err(AnswerRefused::Lost(lost.name.clone()));
        }
    }
    if maps > usize::from(!got.items.is_empty()) {
        return Err(AnswerRefused::Changed("set of envelopes"));
    }
    Ok(())
}
