//! `bulla recipients`

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use bulla::recipient::{Fingerprint, ListedRecipient, NameSource, Recipient, RecipientKind, is_envelope_name};
use serde_json::json;

use super::Done;
use crate::cli::{
    ClusterArgs, RecipientsAddArgs, RecipientsShowArgs, RecipientsUpdateArgs, ReportFormat, USUAL_NAMESPACE,
};
use crate::cluster::{self, Cluster};
use crate::failure::{self, Failure, Result, shown};
use crate::files::{self, Original};
use crate::output;
use crate::policy::{Glob, NAME, Pinned, Policy, edit};
use crate::rsa::{self, Rsa};

pub fn show(args: &RecipientsShowArgs) -> Result<Done> {
    let names_cluster = args.cluster.context.is_some() || args.cluster.kubeconfig.is_some() || args.all;
    if !names_cluster && let Some(policy) = Policy::above(Path::new("."))? {
        return show_policy(&policy, args);
    }
    let published = cluster::published(&args.cluster)?;
    // That the file which this becomes can be used is found out here, not later.
    crate::recipients::targets(published.targets(), false)?;
    let role = |index: usize| if index < published.own { "preferred" } else { "recovery" };
    if args.output == ReportFormat::Json {
        let entry = |listed: &ListedRecipient, role: &str| {
            json!({
                "name": listed.name,
                "role": role,
                "kind": listed.recipient.kind().to_string(),
                "fingerprint": listed.recipient.fingerprint().to_string(),
                "fullFingerprint": listed.recipient.full_fingerprint(),
                "recipient": listed.recipient.as_str(),
                "created": listed.created,
            })
        };
        let mut entries: Vec<_> =
            published.listed.iter().enumerate().map(|(index, listed)| entry(listed, role(index))).collect();
        if args.all {
            entries.extend(published.overlap.iter().map(|listed| entry(listed, "overlap")));
        }
        let (context, cluster) = (&published.context, &published.name);
        output::document(json!({ "context": context, "cluster": cluster, "recipients": entries }))?;
        return Ok(Done::Well);
    }
    let mut text = String::new();
    for (index, listed) in published.listed.iter().enumerate() {
        // Writing to a String can't fail.
        _ = writeln!(text, "# {}: {} {}", role(index), listed.recipient.fingerprint(), listed.recipient.kind());
        if let Some(name) = &listed.name {
            _ = writeln!(text, "# name: {name}");
        }
        if let Some(created) = &listed.created {
            _ = writeln!(text, "# created: {created}");
        }
        _ = writeln!(text, "{}", listed.recipient.as_str());
    }
    if args.all {
        for listed in &published.overlap {
            _ = writeln!(text, "# overlap: {} {}", listed.recipient.fingerprint(), listed.recipient.kind());
            _ = writeln!(text, "# {}", listed.recipient.as_str());
        }
    }
    output::data(text.as_bytes())?;
    if published.listed.len() == published.own {
        output::warn(
            "the cluster has no recovery recipient: if it is lost, so is every secret\n         \
             bulla keygen -w recovery.txt, and give the controller recovery.txt.pub",
        );
    }
    Ok(Done::Well)
}

/// Whom this repository seals for.
fn show_policy(policy: &Policy, args: &RecipientsShowArgs) -> Result<Done> {
    let pins = policy.pins()?;
    let mut shown = Vec::new();
    for pinned in &policy.recipients {
        match pins.iter().find(|pin| pin.name == pinned.name.value) {
            Some(pin) => shown.push((pinned, Ok(pin))),
            // What is no recipient of the native format is a certificate for the other.
            None => shown.extend(policy.certificate(pinned)?.map(|rsa| (pinned, Err(rsa)))),
        }
    }
    if args.output == ReportFormat::Json {
        let entries: Vec<_> = shown
            .iter()
            .map(|(pinned, key)| {
                let native = key.as_ref().ok().map(|pin| &pin.listed);
                let rsa = key.as_ref().err().map(|rsa| rsa.certificate.fingerprint().to_string());
                json!({
                    "name": pinned.name.value,
                    "kind": native.map_or_else(|| "rsa".to_owned(), |listed| listed.recipient.kind().to_string()),
                    "fingerprint": native.map(|listed| listed.recipient.fingerprint().to_string()).or(rsa.clone()),
                    "fullFingerprint": native.map(|listed| listed.recipient.full_fingerprint()).or(rsa),
                    "recipient": native.map(|listed| listed.recipient.as_str()),
                    "created": native.and_then(|listed| listed.created.as_ref()),
                    "file": pinned.file.value,
                    "context": pinned.context.as_ref().map(|at| &at.value),
                    "cluster": pinned.cluster.as_ref().map(|at| &at.value),
                    "always": pinned.is_always(),
                    "rules": rules_of(policy, pinned),
                })
            })
            .collect();
        output::document(json!({ "policy": policy.file, "recipients": entries }))?;
        return Ok(Done::Well);
    }
    let mut rows = vec![["NAME", "FINGERPRINT", "KIND", "CREATED", "FROM", "FOR"].map(str::to_owned)];
    for (pinned, key) in &shown {
        let from = match (&pinned.context, &pinned.cluster) {
            (Some(context), _) => format!("{} ({})", pinned.file.value, context.value),
            (None, Some(cluster)) => format!("{} ({})", pinned.file.value, cluster.value),
            _ => pinned.file.value.clone(),
        };
        let rules = rules_of(policy, pinned);
        let (fingerprint, kind, created) = match key {
            Ok(pin) => {
                let recipient = &pin.listed.recipient;
                (recipient.fingerprint().to_string(), recipient.kind().to_string(), pin.listed.created.clone())
            }
            Err(rsa) => (rsa::short(&rsa.certificate.fingerprint()), "rsa".to_owned(), None),
        };
        rows.push([
            pinned.name.value.clone(),
            fingerprint,
            kind,
            created.unwrap_or_else(|| "-".to_owned()),
            from,
            match (pinned.is_always(), rules.as_slice()) {
                (true, _) => "everything".to_owned(),
                (false, []) => "-".to_owned(),
                (false, rules) => rules.join(", "),
            },
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        // Writing to a String can't fail.
        _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    output::data(text.as_bytes())?;
    if policy.always().next().is_none() {
        output::warn("nobody is a recipient of everything: bulla recipients add recovery FILE.pub --always");
    }
    Ok(Done::Well)
}

fn rules_of(policy: &Policy, pinned: &Pinned) -> Vec<String> {
    let of = |rule: &&crate::policy::Rule| rule.recipients.iter().any(|name| name.value == pinned.name.value);
    policy.rules.iter().filter(of).map(|rule| rule.path.value.as_str().to_owned()).collect()
}

/// A key to be pinned, and where it comes from.
pub struct ClusterPin {
    pub listed: ListedRecipient,
    /// Recovery recipients of the cluster.
    pub recovery: Vec<ListedRecipient>,
    pub context: Option<String>,
    pub cluster: Option<String>,
    /// Where it isn't the usual one.
    pub controller_namespace: Option<String>,
    /// For people.
    pub from: String,
    /// What it may be called.
    stem: String,
}

/// The key that a cluster publishes.
pub fn from_cluster(args: &ClusterArgs) -> Result<ClusterPin> {
    let cluster = cluster::connect(args)?;
    let mut published = cluster.published()?;
    let recovery = published.listed.split_off(published.own.min(published.listed.len()));
    let Some(listed) = published.listed.into_iter().next() else {
        return Err(Failure::unavailable(format!("{} publishes no recipient", cluster.context)));
    };
    Ok(ClusterPin {
        listed,
        recovery,
        context: Some(cluster.context.clone()),
        controller_namespace: (cluster.namespace != USUAL_NAMESPACE).then(|| cluster.namespace.clone()),
        from: format!("{} ({}/bulla)", cluster.context, cluster.namespace),
        stem: published.name.clone().unwrap_or_default(),
        cluster: published.name,
    })
}

/// The key in a file.
pub fn from_file(path: &Path) -> Result<ClusterPin> {
    let file = shown(path);
    let listed = crate::policy::parse_pin(&file, &files::read(path)?)?;
    let stem = listed.name.clone().unwrap_or_else(|| crate::recipients::stem(path));
    Ok(ClusterPin {
        listed,
        recovery: Vec::new(),
        context: None,
        cluster: None,
        controller_namespace: None,
        from: file,
        stem,
    })
}

/// What a recipient is to be called.
pub fn name(given: Option<&str>, pin: &ClusterPin) -> Result<String> {
    name_of(given, &pin.stem)
}

/// A recipient in one line.
pub fn line(name: &str, width: usize, listed: &ListedRecipient, from: &str) -> String {
    let created = listed.created.as_ref().map(|date| format!("  created {date}")).unwrap_or_default();
    let recipient = &listed.recipient;
    format!("{name:width$}{}  {}{created}  from {from}", recipient.fingerprint(), recipient.kind())
}

fn pin_text(listed: &ListedRecipient, replaces: &[String]) -> String {
    let mut text = String::new();
    if let Some(created) = listed.created.as_ref().filter(|date| date.len() == 10) {
        text.push_str(&format!("# created: {created}\n"));
    }
    for old in replaces {
        text.push_str(&format!("# replaces: {old}\n"));
    }
    text.push_str(listed.recipient.as_str());
    text.push('\n');
    text
}

/// Writes a pin that is not there yet; one with the same key is left as it is.
pub fn write_pin(root: &Path, file: &str, listed: &ListedRecipient) -> Result<()> {
    write_once(root, file, &pin_text(listed, &[]), |bytes| {
        crate::policy::parse_pin(file, bytes).is_ok_and(|pin| pin.recipient == listed.recipient)
    })
}

/// Writes a certificate that is not there yet; the same one is left as it is.
pub fn write_certificate(root: &Path, file: &str, rsa: &Rsa) -> Result<()> {
    let own = rsa.certificate.fingerprint();
    write_once(root, file, rsa.certificate.pem(), |bytes| {
        rsa::read(file, bytes, String::new()).is_ok_and(|there| there.certificate.fingerprint() == own)
    })
}

fn write_once(root: &Path, file: &str, text: &str, is_same: impl Fn(&[u8]) -> bool) -> Result<()> {
    let path = root.join(file);
    if std::fs::symlink_metadata(&path).is_ok() {
        let there = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if there && is_same(&files::read(&path)?) {
            return Ok(());
        }
        return Err(Failure::new(format!("{file} is there already, with another key, and is not overwritten"))
            .help("another name for the recipient; or, if nothing needs it, remove the file"));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failure::io("make", folder, &error))?;
        if !std::fs::canonicalize(folder).is_ok_and(|real| real.starts_with(root)) {
            return Err(Failure::new(format!("{file} would be outside of the repository: a link leads there")));
        }
    }
    files::create(&path, text.as_bytes())
}

/// The certificate for Bitnami's format that a file is, and what it may be called.
pub fn certificate_in(path: Option<&Path>) -> Result<Option<Rsa>> {
    let Some(path) = path.filter(|path| path.is_file()) else { return Ok(None) };
    let bytes = files::read(path)?;
    if !rsa::is_certificate(&bytes) {
        return Ok(None);
    }
    rsa::read(&shown(path), &bytes, crate::recipients::stem(path)).map(Some)
}

/// What is written down of a certificate.
pub fn noted_certificate(name: &str) -> edit::New {
    edit::New { name: name.to_owned(), file: format!(".bulla/{name}.pem"), ..edit::New::default() }
}

/// A certificate in one line.
pub fn certificate_line(name: &str, rsa: &Rsa) -> String {
    format!("{name}  {}  rsa", rsa::short(&rsa.certificate.fingerprint()))
}

/// A name for a recipient.
pub fn name_of(given: Option<&str>, stem: &str) -> Result<String> {
    let name = given.unwrap_or(stem);
    if name.is_empty() {
        return Err(Failure::usage("what is the recipient to be called?").help("--as NAME"));
    }
    if !is_envelope_name(name) || name.parse::<Fingerprint>().is_ok() {
        return Err(Failure::usage(format!("{name:?} can't name a recipient"))
            .help("names are [a-z]([-a-z0-9]{0,61}[a-z0-9])?, and no word of YAML: --as NAME"));
    }
    Ok(name.to_owned())
}

/// Pins a certificate for Bitnami's format, with a rule of its own: nobody else reads what is sealed for it.
fn add_certificate(policy: &Policy, args: &RecipientsAddArgs, rsa: &Rsa) -> Result<Done> {
    let Some(glob) = args.rule.as_deref().filter(|_| !args.always) else {
        return Err(Failure::usage("a certificate is for Bitnami's format, which has one recipient: not everything's")
            .help("a rule of its own: --rule GLOB"));
    };
    let name = name_of(Some(&args.name), &args.name)?;
    if let Some(there) = policy.recipient(&name) {
        return Err(policy
            .fail(there.name.span, format!("there is a recipient {name} already"))
            .help("a new certificate of the same cluster takes the place of its file; commit it"));
    }
    if let Some(rule) = policy.rules.iter().find(|rule| rule.path.value.as_str() == glob) {
        return Err(policy
            .fail(rule.path.span, format!("the rule {glob} has recipients, and a certificate stands alone"))
            .help("another glob: --rule GLOB"));
    }
    let path = policy.root.join(NAME);
    let original = Original::read(&path)?;
    let new = noted_certificate(&name);
    let bytes = edit::add(&policy.file, &policy.root, &original.bytes, &new, Some(glob))?;
    write_certificate(&policy.root, &new.file, rsa)?;
    original.replace(&bytes)?;
    output::say(&certificate_line(&name, rsa));
    output::say(&format!("added {name} to {} for {glob}; new files there are of Bitnami's format", policy.file));
    Ok(Done::Well)
}

/// The policy here, which must be there.
fn policy_here() -> Result<Arc<Policy>> {
    Policy::above(Path::new("."))?.ok_or_else(|| {
        Failure::missing("there is no .bulla.yaml at the root of this repository")
            .help("bulla init --context NAME --as NAME")
    })
}

pub fn add(args: &RecipientsAddArgs) -> Result<Done> {
    let policy = policy_here()?;
    if args.rule.is_none() && !args.always {
        return Err(Failure::usage("which files are sealed for it?").help("--rule GLOB, or --always for all of them"));
    }
    if let Some(rule) = &args.rule {
        Glob::new(rule).map_err(|why| Failure::usage(format!("--rule: {why}")))?;
    }
    if let Some(rsa) = certificate_in(args.file.as_deref())? {
        return add_certificate(&policy, args, &rsa);
    }
    let pin = match &args.file {
        Some(file) => from_file(file)?,
        None => from_cluster(&args.cluster)?,
    };
    let name = name(Some(&args.name), &pin)?;
    if let Some(there) = policy.recipient(&name) {
        return Err(policy
            .fail(there.name.span, format!("there is a recipient {name} already"))
            .help("for another key: bulla recipients update"));
    }
    let pins = policy.pins()?;
    if let Some(other) = pins.iter().find(|other| other.listed.recipient == pin.listed.recipient) {
        return Err(Failure::new(format!("{} is in {} already, as {}", pin.from, policy.file, other.name)));
    }
    policy.permit(&[(pin.listed.recipient.clone(), NameSource::Policy(name.clone()))])?;
    let path = policy.root.join(NAME);
    let original = Original::read(&path)?;
    let mut new = pin.noted(&name);
    new.always = args.always;
    let bytes = edit::add(&policy.file, &policy.root, &original.bytes, &new, args.rule.as_deref())?;
    // The key first: a policy that names a file which is not there would be broken.
    write_pin(&policy.root, &new.file, &pin.listed)?;
    original.replace(&bytes)?;
    output::say(&line(&name, name.len() + 6, &pin.listed, &pin.from));
    let of = match (&args.rule, args.always) {
        (_, true) => "everything".to_owned(),
        (Some(rule), _) => rule.clone(),
        (None, _) => String::new(),
    };
    output::say(&format!("added {name} to {} for {of}; what is sealed already is not sealed for it yet:", policy.file));
    output::say(&format!("  bulla reseal PATH -i IDENTITY --add-recipient {name}"));
    Ok(Done::Well)
}

/// What became of one pin.
struct Updated {
    name: String,
    state: &'static str,
    old: Recipient,
    new: Recipient,
}

pub fn update(args: &RecipientsUpdateArgs) -> Result<Done> {
    let policy = policy_here()?;
    if let Some(accept) = &args.accept {
        let digits = accept.strip_prefix('r').unwrap_or_default();
        let base32 = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
        if accept.len() != 53 || !digits.bytes().all(base32) {
            return Err(Failure::usage("--accept takes a whole fingerprint: r and 52 characters of a-z 2-7")
                .help("a short one could be made to match: ask whoever runs the cluster for all of it"));
        }
    }
    let mut chosen: Vec<&Pinned> = Vec::new();
    for name in &args.names {
        let there: Vec<_> = policy.recipients.iter().map(|pinned| pinned.name.value.as_str()).collect();
        chosen.push(policy.recipient(name).ok_or_else(|| {
            Failure::missing(format!("{} has no recipient {name}, but {}", policy.file, there.join(", ")))
        })?);
    }
    if args.names.is_empty() {
        for pinned in policy.recipients.iter().filter(|pinned| pinned.is_cluster()) {
            // Nobody can prove with RSA that a new certificate is the same cluster's.
            if policy.certificate(pinned)?.is_none() {
                chosen.push(pinned);
            }
        }
        if chosen.is_empty() {
            return Err(Failure::new(format!("no recipient of {} is a cluster's", policy.file))
                .help("bulla recipients update NAME --context CONTEXT"));
        }
    }
    if args.accept.is_some() && chosen.len() != 1 {
        return Err(Failure::usage("--accept goes with one NAME"));
    }
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for pinned in chosen {
        match update_one(&policy, pinned, args) {
            Ok(updated) => done.push(updated),
            Err(failure) => failures.push(*failure),
        }
    }
    for updated in &done {
        let (old, new) = (updated.old.fingerprint(), updated.new.fingerprint());
        output::say(&match updated.state {
            "same" => format!("{} {old} is what the cluster seals for", updated.name),
            "proven" => format!("{} {new} (was {old}): proven by the holder of the old key", updated.name),
            _ => format!("{} {new} (was {old}): accepted", updated.name),
        });
    }
    if done.iter().any(|updated| updated.state != "same") {
        output::say("commit .bulla/, then: bulla reseal PATH --live, or -i IDENTITY");
    }
    if args.output == ReportFormat::Json && failures.is_empty() {
        let entry = |updated: &Updated| {
            json!({
                "name": updated.name,
                "state": updated.state,
                "old": updated.old.full_fingerprint(),
                "new": updated.new.full_fingerprint(),
            })
        };
        output::document(json!({ "recipients": done.iter().map(entry).collect::<Vec<_>>() }))?;
    }
    failure::all(failures).map_or(Ok(Done::Well), Err)
}

fn update_one(policy: &Policy, pinned: &Pinned, args: &RecipientsUpdateArgs) -> Result<Updated> {
    let name = pinned.name.value.clone();
    let pin = policy.pin(pinned)?;
    let old = pin.listed.recipient.clone();
    let at = pinned.reach(&args.cluster);
    if at.context.is_none() && pinned.cluster.is_none() {
        return Err(policy
            .fail(pinned.name.span, format!("{name} has no cluster to compare it with"))
            .help(format!("bulla recipients update {name} --context CONTEXT")));
    }
    let cluster = cluster::connect(&at)?;
    let published = cluster.published()?;
    let listed = published
        .preferred()
        .cloned()
        .ok_or_else(|| Failure::unavailable(format!("{} publishes no recipient", cluster.context)))?;
    let new = listed.recipient.clone();
    strange_recovery(policy, &cluster, &published)?;
    let wanted = pinned.cluster.as_ref().map(|at| at.value.as_str());
    let renamed = wanted.is_some() && wanted != published.name.as_deref();
    if new == old && !renamed {
        return Ok(Updated { name, state: "same", old, new });
    }
    if new == old {
        return Err(policy.fail(
            pinned.cluster.as_ref().map_or(pinned.name.span, |at| at.span),
            format!(
                "{} calls itself {}, and {name} is pinned as a key of {}",
                cluster.context,
                published.name.as_deref().unwrap_or("nothing"),
                wanted.unwrap_or_default()
            ),
        ));
    }
    if let Some(other) = policy.pins()?.iter().find(|other| other.listed.recipient == new) {
        return Err(Failure::new(format!("{} publishes the key that is pinned as {}", cluster.context, other.name)));
    }
    let state = if let Some(accept) = &args.accept {
        if *accept != new.full_fingerprint() {
            return Err(Failure::new(format!("{} publishes another key than the one accepted", cluster.context))
                .detail(format!("published: {}", new.full_fingerprint()))
                .detail(format!("accepted:  {accept}"))
                .help("nothing was written; ask whoever runs the cluster which is right"));
        }
        "accepted"
    } else {
        let doubt = if renamed {
            Some(format!("it calls itself {}", published.name.as_deref().unwrap_or("nothing")))
        } else if old.kind() == RecipientKind::Hybrid && new.kind() == RecipientKind::Classical {
            Some("the pinned key is hybrid, and the new one classical".to_owned())
        } else {
            unproven(&cluster, &old, &new)?
        };
        if let Some(doubt) = doubt {
            return Err(Failure::new(format!(
                "{} publishes another key than the one pinned as {name}, and nobody vouches for it: {doubt}",
                cluster.context
            ))
            .detail(format!("pinned:    {} {}", old.full_fingerprint(), old.kind()))
            .detail(format!("published: {} {}", new.full_fingerprint(), new.kind()))
            .help("compare it with what whoever runs the cluster tells you, all 53 characters; then:")
            .help(format!(
                "bulla recipients update {name} --context {} --accept {}",
                cluster.context,
                new.full_fingerprint()
            )));
        }
        "proven"
    };
    policy.permit(&[(new.clone(), NameSource::Policy(name.clone()))])?;
    replace_pin(policy, pinned, &listed)?;
    Ok(Updated { name, state, old, new })
}

/// Whether the cluster proves that it holds the pinned key, and publishes the new one under this proof; if not, why not.
fn unproven(cluster: &Cluster, old: &Recipient, new: &Recipient) -> Result<Option<String>> {
    match cluster.prove(old) {
        Ok(proven) if proven.preferred().is_some_and(|listed| listed.recipient == *new) => Ok(None),
        Ok(_) => Ok(Some("what it publishes changed meanwhile".to_owned())),
        Err(failure) => Ok(Some(failure.message)),
    }
}

/// Says so when the cluster has recovery recipients that are not pinned: they are never taken over by themselves.
fn strange_recovery(policy: &Policy, cluster: &Cluster, published: &cluster::Published) -> Result<()> {
    let pins = policy.pins()?;
    for listed in published.listed.get(published.own..).unwrap_or_default() {
        if !pins.iter().any(|pin| pin.listed.recipient == listed.recipient) {
            output::warn(&format!(
                "{} publishes the recovery recipient {}, which {} doesn't have; to add it, compare it first:\n         \
                 {}\n         bulla recipients add recovery FILE.pub --always",
                cluster.context,
                listed.recipient.fingerprint(),
                policy.file,
                listed.recipient.full_fingerprint()
            ));
        }
    }
    Ok(())
}

/// Puts another key into a pin's file. Which keys were there before stays written in it.
pub fn replace_pin(policy: &Policy, pinned: &Pinned, listed: &ListedRecipient) -> Result<()> {
    let old = policy.pin(pinned)?;
    let original = Original::read(&policy.root.join(&pinned.file.value))?;
    let text = String::from_utf8_lossy(&original.bytes).into_owned();
    let mut replaces: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("# replaces:"))
        .map(|word| word.trim().to_owned())
        .filter(|word| word.len() == 53)
        .collect();
    replaces.push(old.listed.recipient.full_fingerprint());
    original.replace(pin_text(listed, &replaces).as_bytes())
}
