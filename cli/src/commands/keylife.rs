//! `bulla keys rollback|retire|backup|restore`: a key's life after it was made.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use bulla::backup::{Backup, BackupError, BackupKey, VERSION};
use bulla::metadata::{KEY_SECRET_PREFIX, KEY_STATE_ANNOTATION, PREFERRED_AT_ANNOTATION, SEALING_KEY_TYPE};
use bulla::recipient::{Fingerprint, Identity, RecipientKind, parse_identities};
use bulla::resource::{KeyFormat, KeyState, SealingKey, SealingKeySpec};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use zeroize::{Zeroize as _, Zeroizing};

use super::Done;
use super::keys::{entry, state_word};
use crate::cli::{KeysBackupArgs, KeysRestoreArgs, KeysRetireArgs, KeysRollbackArgs, ReportFormat};
use crate::cluster::{self, Cluster};
use crate::failure::{Exit, Failure, Result, shown};
use crate::output::plain::count;
use crate::policy::Policy;
use crate::{files, output, recipients};

/// How long a controller may take over what it does at once.
const GRACE: Duration = Duration::from_secs(60);

pub fn rollback(args: &KeysRollbackArgs) -> Result<Done> {
    let cluster = cluster::connect(&args.cluster)?;
    let keys = cluster.keys()?;
    let active: Vec<_> = keys.iter().filter(|key| state(key) == Some(KeyState::Active)).collect();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let preferred = cluster.published()?.preferred().map(|listed| listed.recipient.fingerprint().to_string());
            let found = active.iter().find(|key| key.status.as_ref().and_then(|s| s.fingerprint.clone()) == preferred);
            let found = found.and_then(|key| key.metadata.name.clone());
            found.ok_or_else(|| Failure::new("no key is preferred").help("bulla keys list"))?
        }
    };
    let key = cluster.key(&name)?;
    if state(&key) == Some(KeyState::Compromised) {
        return Err(Failure::new(format!("{name} is compromised, and is not sealed for anyway")));
    }
    if !active.iter().any(|other| other.metadata.name.as_ref() != Some(&name)) {
        return Err(Failure::new(format!("{name} is the only Active key: there is none to go back to"))
            .help("bulla keys create     or make another Active: kubectl patch sealingkey"));
    }
    let changed = cluster.set_key_state(&name, KeyState::Standby, None)?;
    let settled = settle(&cluster, &name, &changed)?;
    told(&settled, KeyState::Standby)?;
    report(&cluster, &settled, args.output)?;
    let now = cluster.published()?;
    let preferred = now.preferred().map(|listed| listed.recipient.fingerprint().to_string()).unwrap_or_default();
    output::say(&format!("rolled back {name} in {}: {preferred} is preferred", cluster.context));
    output::note("what was sealed for it goes on opening; bulla reseal PATH --live wraps it for the other key");
    Ok(Done::Well)
}

pub fn retire(args: &KeysRetireArgs) -> Result<Done> {
    let cluster = cluster::connect(&args.cluster)?;
    let name = &args.name;
    let before = cluster.key(name)?;
    let was = state(&before).unwrap_or(before.spec.state);
    match was {
        KeyState::Retired => {
            output::say(&format!("{name} is retired already"));
            return Ok(Done::Well);
        }
        KeyState::Compromised => {
            return Err(Failure::new(format!("{name} is compromised: only editing its Secret leaves that state"))
                .help(format!(
                    "kubectl annotate secret {KEY_SECRET_PREFIX}{name} {KEY_STATE_ANNOTATION}=Retired --overwrite"
                )));
        }
        KeyState::Active | KeyState::Standby => {}
    }
    // A wish that was refused before stands there still; force counts only in the update that changes the state.
    if before.spec.state == KeyState::Retired || before.spec.force.is_some() {
        cluster.set_key_state(name, was, None)?;
    }
    let changed = cluster.set_key_state(name, KeyState::Retired, args.force.then_some(true))?;
    let settled = settle(&cluster, name, &changed)?;
    if state(&settled) != Some(KeyState::Retired) {
        // Else it would be retired one day, when nobody thinks of it.
        cluster.set_key_state(name, was, None)?;
        let failure = refusal(&settled).help("bulla reseal PATH --live, and apply it; bulla keys list counts");
        return Err(if args.force { failure } else { failure.help("or, knowing what is lost: --force") });
    }
    report(&cluster, &settled, args.output)?;
    output::say(&format!("retired {name} in {}: it is kept, and opens nothing", cluster.context));
    output::note("Git may need it still: bulla reseal PATH --live --check. To take it back: set its state to Standby");
    Ok(Done::Well)
}

fn state(key: &SealingKey) -> Option<KeyState> {
    key.status.as_ref()?.state
}

/// Waits until the controller has seen a change.
fn settle(cluster: &Cluster, name: &str, changed: &SealingKey) -> Result<SealingKey> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let key = cluster.key(name)?;
        let seen = key.status.as_ref().and_then(|status| status.observed_generation);
        if seen >= changed.metadata.generation {
            return Ok(key);
        }
        if begin.elapsed() > GRACE {
            return Err(Failure::unavailable(format!(
                "the controller has not seen the change of {name} in {} s: is it running?",
                GRACE.as_secs()
            ))
            .help("the change stays; bulla keys list shows what becomes of it"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Why the controller does not do what it was asked.
fn refusal(key: &SealingKey) -> Box<Failure> {
    let name = key.metadata.name.as_deref().unwrap_or_default();
    let conditions = key.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let why = conditions.iter().find(|c| matches!(c.type_.as_str(), "StillNeeded" | "StateRefused"));
    let why = why.map_or("no reason is given", |condition| condition.message.as_str());
    let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
    Failure::new(format!("the controller refuses for {name}: {why}"))
}

fn told(key: &SealingKey, wanted: KeyState) -> Result<()> {
    if state(key) == Some(wanted) { Ok(()) } else { Err(refusal(key)) }
}

fn report(cluster: &Cluster, key: &SealingKey, format: ReportFormat) -> Result<()> {
    if format == ReportFormat::Json {
        output::document(json!({ "context": cluster.context, "key": entry(key) }))?;
    }
    Ok(())
}

pub fn backup(args: &KeysBackupArgs) -> Result<Done> {
    if files::is_stdin(&args.write) {
        return Err(Failure::usage("a backup goes into a file: -w FILE"));
    }
    let Some(targets) = recipients::named(&args.recipients, None)? else {
        return Err(Failure::usage("whom is the backup for?").help("bulla keys backup -R recovery.pub -w backup.age"));
    };
    let cluster = cluster::connect(&args.cluster)?;
    let mut keys = Vec::new();
    for secret in cluster.key_secrets()? {
        let Some((name, key)) = read(secret) else { continue };
        match key {
            Some(key) => keys.push(key),
            None => output::warn(&format!("{KEY_SECRET_PREFIX}{name} holds no usable key and is left out")),
        }
    }
    if keys.is_empty() {
        return Err(Failure::missing(format!(
            "there is no key in namespace {} of {}",
            cluster.namespace, cluster.context
        )));
    }
    let own: BTreeSet<_> = keys.iter().map(|key| key.identity.recipient().fingerprint()).collect();
    let to: Vec<_> = targets.as_slice().iter().map(|target| &target.recipient).collect();
    if to.iter().all(|recipient| own.contains(&recipient.fingerprint())) {
        return Err(Failure::new("the backup would open only with the keys that are in it")
            .help("bulla keygen -w recovery.txt, keep it offline, and -R recovery.txt.pub"));
    }
    let count_of = keys.len();
    let backup = Backup { version: VERSION, keys };
    let file = backup.seal(&to).map_err(|error| Failure::new(error.to_string()))?;
    files::create_private(&args.write, &file)?;
    output::say(&format!(
        "backed up {} of {} to {}, for {}",
        count(count_of, "key"),
        cluster.context,
        shown(&args.write),
        targets.names()
    ));
    Ok(Done::Well)
}

/// A key out of its Secret, which is cleared: its name, and the key if it can be used. `None` for what is no key Secret.
fn read(mut secret: Secret) -> Option<(String, Option<BackupKey>)> {
    let name = secret.metadata.name.as_deref()?.strip_prefix(KEY_SECRET_PREFIX)?.to_owned();
    let owned = secret.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
    let mut data = secret.data.take().unwrap_or_default();
    let identity = data.get("identity").and_then(|bytes| single(&bytes.0));
    for value in data.values_mut() {
        value.0.zeroize();
    }
    if owned || secret.type_.as_deref() != Some(SEALING_KEY_TYPE) {
        return None;
    }
    let annotations = secret.metadata.annotations.unwrap_or_default();
    let key = identity.map(|identity| BackupKey {
        name: Some(name.clone()),
        identity,
        state: match annotations.get(KEY_STATE_ANNOTATION).map(String::as_str) {
            Some("Standby") => KeyState::Standby,
            Some("Retired") => KeyState::Retired,
            Some("Compromised") => KeyState::Compromised,
            _ => KeyState::Active,
        },
        preferred_at: annotations.get(PREFERRED_AT_ANNOTATION).cloned(),
    });
    Some((name, key))
}

fn single(bytes: &[u8]) -> Option<Identity> {
    let mut identities = parse_identities(std::str::from_utf8(bytes).ok()?).ok()?;
    identities.pop().filter(|_| identities.is_empty())
}

pub fn restore(args: &KeysRestoreArgs) -> Result<Done> {
    let file = shown(&args.file);
    let held = recipients::identities(&args.identities)?;
    let bytes = files::read(&args.file)?;
    let backup = Backup::open(&bytes, &held.all()).map_err(|error| {
        let failure = Failure::new(format!("{file}: {error}")).in_file(&file);
        match error {
            BackupError::Closed => failure.help("-i takes an identity whose recipient the backup was made for"),
            _ => failure,
        }
    })?;
    let newest = backup
        .keys
        .iter()
        .filter(|key| key.state == KeyState::Active)
        .max_by_key(|key| key.preferred_at.clone())
        .map(|key| key.identity.recipient().fingerprint());
    for key in &backup.keys {
        let recipient = key.identity.recipient();
        let mark = if Some(recipient.fingerprint()) == newest { ", the most recently preferred" } else { "" };
        output::say(&format!(
            "{}  {} {} {}{mark}",
            key.name.as_deref().unwrap_or("(no name)"),
            recipient.fingerprint(),
            recipient.kind(),
            state_word(Some(key.state)),
        ));
    }
    if backup.keys.is_empty() {
        return Err(Failure::new(format!("there is no key in {file}")).in_file(&file));
    }
    if args.activate && newest.is_none() {
        return Err(Failure::new("no key in the backup was Active: none is made so").help("leave --activate out"));
    }
    if args.dry_run {
        return Ok(Done::Well);
    }
    let cluster = cluster::connect(&args.cluster)?;
    let mut names = BTreeSet::new();
    let mut there = Vec::new();
    for secret in cluster.key_secrets()? {
        names.extend(secret.metadata.name.clone());
        if let Some((name, Some(key))) = read(secret) {
            there.push((key.identity.recipient().as_str().to_owned(), name));
        }
    }
    let mut restored = Vec::new();
    for key in &backup.keys {
        let recipient = key.identity.recipient();
        let known = there.iter().find(|(other, _)| other == recipient.as_str()).map(|(_, name)| name.clone());
        let activates = args.activate && newest == Some(recipient.fingerprint());
        let name = match known {
            Some(name) => {
                output::say(&format!("{} is there already, as {name}", recipient.fingerprint()));
                name
            }
            None => {
                let name = free_name(key, &names);
                cluster.create_key_secret(&secret_of(&name, key))?;
                restored.push(name.clone());
                name
            }
        };
        if activates {
            activate(&cluster, &name, recipient.kind())?;
        }
    }
    if args.output == ReportFormat::Json {
        let fingerprints: Vec<_> =
            backup.keys.iter().map(|key| key.identity.recipient().fingerprint().to_string()).collect();
        let newest = newest.map(|fingerprint| fingerprint.to_string());
        output::document(json!({
            "context": cluster.context,
            "restored": restored,
            "fingerprints": fingerprints,
            "newest": newest,
            "activated": args.activate,
        }))?;
    }
    // Somebody who restores what a repository pins sees that nothing in it has to change.
    let pinned = |fingerprint: Fingerprint| {
        let policy = Policy::above(Path::new(".")).ok().flatten()?;
        let pin = policy.pins().ok()?.into_iter().find(|pin| pin.listed.recipient.fingerprint() == fingerprint)?;
        Some(format!(" (pinned as {})", pin.name))
    };
    let newest = newest.map_or_else(String::new, |fingerprint| {
        format!("; newest {fingerprint}{}", pinned(fingerprint).unwrap_or_default())
    });
    output::say(&format!(
        "restored {}{newest}. What is sealed for them opens within seconds",
        count(restored.len(), "key")
    ));
    if !args.activate {
        output::note("they open, and are not sealed for: bulla keys restore … --activate, or bulla reseal PATH --live");
    }
    Ok(Done::Well)
}

/// The key's own name, if no Secret has it; else one of its fingerprint.
fn free_name(key: &BackupKey, names: &BTreeSet<String>) -> String {
    let own = key.name.as_deref().filter(|name| {
        bulla::scope::is_dns_subdomain(&format!("{KEY_SECRET_PREFIX}{name}"))
            && !names.contains(&format!("{KEY_SECRET_PREFIX}{name}"))
    });
    own.map_or_else(|| format!("restored-{}", key.identity.recipient().fingerprint()), str::to_owned)
}

/// A key's Secret: opening only, whatever the key was, and never as published here.
fn secret_of(name: &str, key: &BackupKey) -> Secret {
    let state = match key.state {
        KeyState::Active => KeyState::Standby,
        state => state,
    };
    let mut annotations: std::collections::BTreeMap<_, _> =
        [(KEY_STATE_ANNOTATION.to_owned(), state_word(Some(state)).to_owned())].into();
    if let Some(at) = &key.preferred_at {
        annotations.insert(PREFERRED_AT_ANNOTATION.to_owned(), at.clone());
    }
    let line = Zeroizing::new(format!("{}\n", key.identity.expose().as_str()));
    let data = [
        ("identity".to_owned(), ByteString(line.as_bytes().to_vec())),
        ("recipient".to_owned(), ByteString(key.identity.recipient().as_str().as_bytes().to_vec())),
    ];
    let mut secret = Secret { type_: Some(SEALING_KEY_TYPE.to_owned()), data: Some(data.into()), ..Secret::default() };
    secret.metadata.name = Some(format!("{KEY_SECRET_PREFIX}{name}"));
    secret.metadata.annotations = Some(annotations);
    secret
}

/// Seals for it from now on. The controller makes the SealingKey by itself, at most Standby; whoever is first, it becomes
/// Active here.
fn activate(cluster: &Cluster, name: &str, kind: RecipientKind) -> Result<()> {
    let spec = SealingKeySpec {
        format: match kind {
            RecipientKind::Hybrid => KeyFormat::Hybrid,
            RecipientKind::Classical => KeyFormat::Classical,
        },
        prefer_after: Some("0s".to_owned()),
        ..SealingKeySpec::default()
    };
    let mut key = SealingKey::new(name, spec);
    key.metadata.namespace = Some(cluster.namespace.clone());
    match cluster.create_key(name, false, &key) {
        Ok(_) => Ok(()),
        Err(failure) if failure.exit == Exit::Failed => cluster.activate_key(name).map(drop),
        Err(failure) => Err(failure),
    }
}
