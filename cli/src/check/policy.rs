//! What the repository's policy says of what was found: whom sealed files are for, and what is excused.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bulla::envelope::Envelope;
use bulla::manifest::Span;
use bulla::open::Inspected;
use bulla::recipient::{Fingerprint, RecipientKind, Targets};
use bulla::scope::Scope;

use super::cx::{Cx, Named};
use super::excuse::{Baseline, about};
use super::finding::Finding;
use super::registry::{Rule as Check, Severity, by_id};
use super::{Outcome, rules};
use crate::failure::{Excerpt, Failure, Result};
use crate::model::Sealed;
use crate::policy::{Date, Finder, NAME, OldPin, Policy, Rule};

/// What a policy can be asked about a sealed file.
#[derive(Clone, Debug)]
pub struct SealedFile {
    pub file: String,
    pub called: String,
    pub namespace: Option<String>,
    pub scope: Scope,
    /// Where scope, namespace and envelopes stand, or else the object.
    pub scope_at: (Span, Option<Excerpt>),
    pub namespace_at: (Span, Option<Excerpt>),
    pub envelopes_at: (Span, Option<Excerpt>),
    /// Whether it is of the native format. Of the other one no reader is told by the file.
    pub native: bool,
    /// For whom each used data key is wrapped.
    pub readers: Vec<BTreeSet<(String, Fingerprint, bool)>>,
}

impl SealedFile {
    pub fn of(file: &str, text: &str, sealed: &Sealed, inspected: &Inspected<'_>) -> Self {
        let places = &sealed.view.places;
        let at = |span: Option<Span>| {
            let span = span.unwrap_or(places.object);
            let shown = Failure::new(String::new()).at(file, Some(text), span);
            (span, shown.location.and_then(|location| location.excerpt))
        };
        let readers = inspected
            .used_maps()
            .map(|map| {
                let lines = map.lines.iter();
                lines
                    .filter_map(|(name, text)| {
                        let envelope: Envelope = text.parse().ok()?;
                        Some((name.clone(), envelope.fingerprint(), envelope.kind() == RecipientKind::Classical))
                    })
                    .collect()
            })
            .collect();
        Self {
            file: file.to_owned(),
            called: sealed.called(),
            namespace: sealed.object.metadata.namespace.clone(),
            scope: sealed.object.spec.scope.unwrap_or_default(),
            scope_at: at(places.scope),
            namespace_at: at(places.namespace),
            envelopes_at: at(places.envelopes.key),
            native: true,
            readers,
        }
    }

    /// Of Bitnami's format, which says its scope in annotations: each place in the file.
    pub fn of_bitnami(cx: &Cx<'_>, named: &Named, scope: Scope, [object, scope_at, namespace_at]: [Span; 3]) -> Self {
        let at = |span: Span| {
            let span = cx.place(span);
            let shown = Failure::new(String::new()).at(cx.file, Some(cx.outer), span);
            (span, shown.location.and_then(|location| location.excerpt))
        };
        Self {
            file: cx.file.to_owned(),
            called: named.called(),
            namespace: named.namespace.clone(),
            scope,
            scope_at: at(scope_at),
            namespace_at: at(namespace_at),
            envelopes_at: at(object),
            native: false,
            readers: Vec::new(),
        }
    }

    fn finding(&self, rule: &'static Check, at: &(Span, Option<Excerpt>), message: String) -> Finding {
        let mut finding = about(rule, &self.file, at.0, message);
        finding.excerpt.clone_from(&at.1);
        finding.object = format!("SealedSecret/{}", self.called);
        finding
    }
}

/// The policy that holds for a run, or why there is none.
pub struct Held {
    pub policy: Option<Arc<Policy>>,
    /// A policy that can't be read.
    broken: Option<Finding>,
    /// What stands between the policy's root and the folder that names of files are relative to.
    prefix: PathBuf,
}

impl Held {
    /// Of the repository that `at` is in. `from_root`: names of files are relative to the root of the repository.
    pub fn find(given: Option<&Path>, at: &Path, from_root: bool) -> Self {
        let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
        match Finder::new(given).find(at) {
            Ok(found) => {
                let prefix = match &found.policy {
                    Some(policy) if !from_root => {
                        here.strip_prefix(&policy.root).map(Path::to_owned).unwrap_or_default()
                    }
                    _ => PathBuf::new(),
                };
                Self { policy: found.policy, broken: None, prefix }
            }
            Err(failure) => Self { policy: None, broken: Some(broken(*failure)), prefix: PathBuf::new() },
        }
    }

    /// Of the index: what is about to be committed is judged by the policy that is committed with it.
    pub fn of_index(staged: &mut super::git::Staged) -> Result<Self> {
        let none = || Self { policy: None, broken: None, prefix: PathBuf::new() };
        Ok(match staged.policy() {
            Ok(Some(policy)) => Self { policy: Some(Arc::new(policy)), ..none() },
            Ok(None) => none(),
            Err(failure) => Self { broken: Some(broken(*failure)), ..none() },
        })
    }

    /// A file by its path from the policy's root.
    pub fn relative(&self, file: &str) -> PathBuf {
        let path = Path::new(file);
        let mut out = if path.is_absolute() { PathBuf::new() } else { self.prefix.clone() };
        let path = match &self.policy {
            Some(policy) => path.strip_prefix(&policy.root).unwrap_or(path),
            None => path,
        };
        for part in path.components() {
            match part {
                Component::ParentDir => _ = out.pop(),
                Component::Normal(name) => out.push(name),
                _ => {}
            }
        }
        out
    }

    /// Whether the policy leaves a path out.
    pub fn excludes(&self, path: &Path) -> bool {
        let Some(policy) = self.policy.as_ref().filter(|policy| !policy.check.exclude.is_empty()) else { return false };
        let relative = self.relative(&path.display().to_string());
        policy.check.exclude.iter().any(|glob| glob.value.matches(&relative))
    }

    /// The baseline that the policy names, where it is there.
    pub fn baseline(&self) -> Result<Option<Baseline>> {
        let Some(policy) = &self.policy else { return Ok(None) };
        let Some(file) = &policy.check.baseline else { return Ok(None) };
        let path = policy.root.join(&file.value);
        match &policy.index {
            Some(index) => index.get(&file.value).map(|bytes| Baseline::parse(&path, bytes)).transpose(),
            None if path.exists() => Baseline::read(&path).map(Some),
            None => Ok(None),
        }
    }

    /// Holds the policy against what was found.
    pub fn judge(&self, outcome: &mut Outcome, today: Date) {
        outcome.findings.extend(self.broken.clone());
        for file in &outcome.policies {
            let relative = self.relative(file);
            if relative.components().count() > 1 {
                let mut finding = about(
                    &rules::bul110::RULE,
                    file,
                    Span { start: 0, end: 0, line: 1, column: 1 },
                    format!(
                        "only the {NAME} at the repository's root holds; this one could mislead about whom files are sealed for"
                    ),
                );
                finding.help.push(format!("remove it, and put its rules into the {NAME} at the root"));
                outcome.findings.push(finding);
            }
        }
        let Some(policy) = &self.policy else {
            if self.broken.is_none() && outcome.files_sealed.iter().any(|sealed| sealed.native) {
                outcome.findings.extend(orphaned());
            }
            return;
        };
        if !outcome.policies.is_empty() || outcome.files_sealed.iter().any(|sealed| sealed.native) {
            pins(policy, outcome, today);
        }
        let mut targets: Vec<(Span, Option<Targets>)> = Vec::new();
        for sealed in std::mem::take(&mut outcome.files_sealed) {
            let rule = policy.rule(&self.relative(&sealed.file));
            if !sealed.native {
                if let Some(rule) = rule {
                    one(policy, rule, None, &sealed, outcome);
                }
                continue;
            }
            let Some(rule) = rule else {
                let mut finding = sealed.finding(
                    &rules::bul105::RULE,
                    &sealed.envelopes_at,
                    format!("{} is sealed, and no rule of {NAME} says for whom", sealed.called),
                );
                finding.help.push(format!("add a rule for its path to {}", policy.file));
                outcome.findings.push(finding);
                continue;
            };
            let known = targets.iter().position(|(span, _)| *span == rule.span);
            let at = known.unwrap_or_else(|| {
                let resolved = match policy.targets(rule, true) {
                    Ok(targets) => Some(targets),
                    Err(failure) => {
                        let mut finding = about(&rules::bul110::RULE, &policy.file, rule.span, failure.message);
                        finding.help = failure.help;
                        outcome.findings.push(finding);
                        None
                    }
                };
                targets.push((rule.span, resolved));
                targets.len() - 1
            });
            one(policy, rule, targets.get(at).and_then(|(_, targets)| targets.as_ref()), &sealed, outcome);
        }
    }

    /// Takes away what the policy's exceptions excuse.
    pub fn excuse(&self, outcome: &mut Outcome, today: Date, whole: bool) -> usize {
        let Some(policy) = &self.policy else { return 0 };
        let before = outcome.findings.len();
        let exceptions = &policy.check.exceptions;
        let mut used = vec![false; exceptions.len()];
        let over = |at: usize| exceptions[at].expires.as_ref().is_some_and(|day| today > day.value);
        outcome.findings.retain(|finding| {
            let relative = self.relative(&finding.file);
            let mut excused = false;
            for (at, exception) in exceptions.iter().enumerate() {
                if exception.rule.value.eq_ignore_ascii_case(finding.rule.id) && exception.path.value.matches(&relative)
                {
                    used[at] = true;
                    excused |= !over(at);
                }
            }
            !excused
        });
        let excused = before - outcome.findings.len();
        for exclude in policy.check.exclude.iter().filter(|exclude| rules::bul205::is_wide(&exclude.value)) {
            let message = format!("{} under check.exclude leaves everything out", exclude.value.as_str());
            let mut finding = about(&rules::bul205::RULE, &policy.file, exclude.span, message);
            finding.keys = vec![exclude.value.as_str().to_owned()];
            finding.help.push("name the folders that are meant".into());
            outcome.findings.push(finding);
        }
        for (at, exception) in exceptions.iter().enumerate() {
            let called = format!("the exception from {} for {}", exception.rule.value, exception.path.value.as_str());
            let finding = if by_id(&exception.rule.value).is_none() {
                Some((
                    &rules::bul203::RULE,
                    format!("{called}: there is no such rule"),
                    "bulla check --explain lists the rules".to_owned(),
                ))
            } else if let (true, Some(day)) = (over(at), &exception.expires) {
                Some((
                    &rules::bul202::RULE,
                    format!("{called} expired on {}", day.value),
                    "mend what it excused and remove it, or set a new day".to_owned(),
                ))
            } else if rules::bul205::is_wide(&exception.path.value)
                && by_id(&exception.rule.value).is_some_and(|rule| rule.severity == Severity::Error)
            {
                let help = "name the paths that are meant".to_owned();
                Some((&rules::bul205::RULE, format!("{called} switches the rule off for everything"), help))
            } else if whole && !used[at] {
                Some((&rules::bul201::RULE, format!("nothing needs {called}"), "remove it".to_owned()))
            } else {
                None
            };
            if let Some((rule, message, help)) = finding {
                let mut finding = about(rule, &policy.file, exception.span, message);
                finding.help.push(help);
                outcome.findings.push(finding);
            }
        }
        excused
    }
}

/// What is said of a policy that can't be read.
fn broken(failure: Failure) -> Finding {
    let location = failure.location.as_ref();
    let file = location.map_or_else(|| NAME.to_owned(), |location| location.file.clone());
    let line = location.and_then(|location| location.line).unwrap_or_default();
    let column = location.and_then(|location| location.column).unwrap_or_default();
    let mut finding = about(&rules::bul110::RULE, &file, Span { start: 0, end: 0, line, column }, failure.message);
    finding.help = failure.help;
    finding
}

/// That there are pins and no policy: somebody took it away.
fn orphaned() -> Option<Finding> {
    let root = super::root::Root::here().folder()?.to_owned();
    let mut pins = std::fs::read_dir(root.join(".bulla")).ok()?.flatten();
    pins.find(|entry| entry.path().extension().is_some_and(|end| end == "pub"))?;
    let message =
        format!("there is no {NAME}, and .bulla/ has the keys that it pinned: nothing says whom files are for");
    let mut finding = about(&rules::bul110::RULE, NAME, Span::default(), message);
    finding.help.push(format!("git log -- {NAME}     shows who removed it; or: bulla init"));
    Some(finding)
}

/// The pins' age.
fn pins(policy: &Policy, outcome: &mut Outcome, today: Date) {
    for old in policy.old_pins(today) {
        let name = &old.recipient.name;
        let mut finding = about(&rules::bul106::RULE, &policy.file, name.span, old.message());
        finding.keys = vec![name.value.clone()];
        finding.help.push(OldPin::HELP.into());
        outcome.findings.push(finding);
    }
}

/// One sealed file and its rule.
fn one(policy: &Policy, rule: &Rule, targets: Option<&Targets>, sealed: &SealedFile, outcome: &mut Outcome) {
    let called = &sealed.called;
    if sealed.scope > rule.scope() {
        let mut finding = sealed.finding(
            &rules::bul104::RULE,
            &sealed.scope_at,
            format!("{called} has scope {}, and its rule allows {}", sealed.scope, rule.scope()),
        );
        finding.help.push(format!(
            "enter the values again in scope {}, or say scope: {} in the rule of {}",
            rule.scope(),
            sealed.scope,
            policy.file
        ));
        outcome.findings.push(finding);
    }
    if let Some(wanted) = &rule.namespace
        && sealed.namespace.as_deref() != Some(wanted.value.as_str())
    {
        let is = sealed.namespace.as_deref().unwrap_or("none");
        let mut finding = sealed.finding(
            &rules::bul111::RULE,
            &sealed.namespace_at,
            format!("the namespace of {called} is {is}, and its rule wants {}", wanted.value),
        );
        finding.help.push(format!("bulla move {} --from NAMESPACE/NAME -i IDENTITY, or move the file", sealed.file));
        outcome.findings.push(finding);
    }
    let all: BTreeSet<&(String, Fingerprint, bool)> = sealed.readers.iter().flatten().collect();
    let classical: Vec<&str> =
        all.iter().filter(|(_, _, classical)| *classical).map(|(name, ..)| name.as_str()).collect();
    let mixed = sealed.readers.iter().any(|map| map.iter().any(|line| line.2) && map.iter().any(|line| !line.2));
    let refused = policy.allow_classical.as_ref().is_some_and(|allow| !allow.value);
    if !classical.is_empty() && (refused || mixed) {
        let why = if refused {
            "the policy wants hybrid ones"
        } else {
            "beside hybrid ones: it is only as safe as the classical one"
        };
        let mut finding = sealed.finding(
            &rules::bul108::RULE,
            &sealed.envelopes_at,
            format!("{called} is sealed for the classical recipient {}, {why}", classical.join(", ")),
        );
        finding.keys = classical.iter().map(|name| (*name).to_owned()).collect();
        finding.help.push(format!(
            "bulla reseal {} --fresh -i OLD -R NEW.pub, with a hybrid key; and change the values",
            sealed.file
        ));
        outcome.findings.push(finding);
    }
    let Some(targets) = targets else { return };
    let (mut missing, mut lost, mut other, mut old) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for map in &sealed.readers {
        for target in targets.as_slice() {
            let fingerprint = target.recipient.fingerprint();
            if map.iter().any(|line| line.1 == fingerprint) {
                continue;
            }
            if map.iter().any(|line| line.0 == target.name && line.2 && (refused || mixed)) {
                // That it is classical is said already.
            } else if map.iter().any(|line| line.0 == target.name) {
                old.insert(target.name.clone());
            } else if policy.recipient(&target.name).is_some_and(crate::policy::Pinned::is_always) {
                lost.insert(target.name.clone());
            } else {
                missing.insert(target.name.clone());
            }
        }
        for (name, fingerprint, _) in map {
            let known = targets.as_slice().iter().any(|target| target.recipient.fingerprint() == *fingerprint);
            let told = old.contains(name) || (refused && classical.contains(&name.as_str()));
            if !known && !told {
                other.insert(crate::failure::named(name, &fingerprint.to_string()));
            }
        }
    }
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut add = |check: &'static Check, message: String, keys: BTreeSet<String>, help: String| {
        let mut finding = sealed.finding(check, &sealed.envelopes_at, message);
        finding.keys = keys.into_iter().collect();
        finding.help.push(help);
        outcome.findings.push(finding);
    };
    let reseal = format!("bulla reseal {} --live", sealed.file);
    if !lost.is_empty() {
        add(
            &rules::bul107::RULE,
            format!("{called} is not sealed for {}: if the cluster is lost, so is it", list(&lost)),
            lost,
            reseal.clone(),
        );
    }
    if !missing.is_empty() {
        add(
            &rules::bul105::RULE,
            format!("{called} is not sealed for {}, whom its rule names", list(&missing)),
            missing,
            reseal.clone(),
        );
    }
    if !old.is_empty() {
        add(
            &rules::bul105::RULE,
            format!("{called} is sealed for another key of {} than the pinned one", list(&old)),
            old,
            format!("{reseal}     or, where the pin is the older one: bulla recipients update"),
        );
    }
    if !other.is_empty() {
        add(
            &rules::bul105::RULE,
            format!("{called} is sealed for {}, whom its rule does not name", list(&other)),
            other,
            format!("name them in the rule, or: {reseal}     and change the values: who is too many could read them"),
        );
    }
}
