//! The repository's policy, `.bulla.yaml` at its root: whom files are sealed for, and what `check` goes by.
//!
//! A policy comes from the repository, and so from whoever may open a pull request. It is read whole or not at all; it names
//! only files of the repository; nothing in it is executed. Every field keeps its place, for errors and for `check`.

mod date;
pub mod edit;
mod find;
mod glob;
mod pin;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulla::manifest::Span;
use bulla::recipient::{ListedRecipient, NameSource, Recipient, RecipientKind, Targets};
use bulla::scope::Scope;
use zeroize::Zeroizing;

pub use date::Date;
pub use find::{Finder, NAME};
pub use glob::Glob;
pub use pin::parse as parse_pin;
pub use read::read;

use crate::cli::ClusterArgs;
use crate::failure::{Failure, Result};
use crate::rsa::{self, Rsa};

/// Something and where it stands in the policy's text.
#[derive(Clone, Debug)]
pub struct At<T> {
    pub value: T,
    pub span: Span,
}

/// `.bulla.yaml`.
#[derive(Debug)]
pub struct Policy {
    /// The folder that its paths are relative to, links resolved.
    pub root: PathBuf,
    /// How it is called in messages.
    pub file: String,
    /// Its text, without a byte-order mark: all places count from its begin.
    pub text: String,
    pub recipients: Vec<Pinned>,
    /// The first that matches counts.
    pub rules: Vec<Rule>,
    pub max_key_age: Option<At<Duration>>,
    /// `false` refuses classical recipients; absent leaves it to the format's own rule, that kinds don't mix.
    pub allow_classical: Option<At<bool>>,
    pub check: Check,
    /// Where the policy is that of Git's index: the files that it names, as the index has them. The working tree's are not looked at.
    pub index: Option<BTreeMap<String, Zeroizing<Vec<u8>>>>,
}

/// A recipient: its name, and the file that its public key is in.
#[derive(Debug)]
pub struct Pinned {
    pub name: At<String>,
    /// Relative to the root.
    pub file: At<String>,
    /// The context of the kubeconfig that its cluster usually has.
    pub context: Option<At<String>>,
    /// The name that the cluster publishes.
    pub cluster: Option<At<String>>,
    /// Where its controller runs.
    pub controller_namespace: Option<At<String>>,
    /// Whether it is a recipient of everything.
    pub always: Option<At<bool>>,
}

impl Pinned {
    /// Whether it is a recipient of everything.
    pub fn is_always(&self) -> bool {
        self.always.as_ref().is_some_and(|always| always.value)
    }

    /// Whether a cluster has its private key, as far as the policy says.
    pub const fn is_cluster(&self) -> bool {
        self.context.is_some() || self.cluster.is_some()
    }

    /// How its cluster is reached: what the command line says, and where that says nothing, the policy.
    pub fn reach(&self, args: &ClusterArgs) -> ClusterArgs {
        let mut at = args.clone();
        if at.context.is_none() {
            at.context = self.context.as_ref().map(|context| context.value.clone());
        }
        if let Some(namespace) = self.controller_namespace.as_ref().filter(|_| !args.names_namespace()) {
            at.controller_namespace.clone_from(&namespace.value);
        }
        at
    }
}

/// Whom the files of some paths are sealed for.
#[derive(Debug)]
pub struct Rule {
    pub span: Span,
    pub path: At<Glob>,
    /// Names under `recipients`.
    pub recipients: Vec<At<String>>,
    /// Absent is strict.
    pub scope: Option<At<Scope>>,
    /// The namespace that the metadata must name.
    pub namespace: Option<At<String>>,
}

impl Rule {
    /// Whether it names a recipient.
    pub fn names(&self, name: &str) -> bool {
        self.recipients.iter().any(|at| at.value == name)
    }

    /// The widest scope that it lets be.
    pub fn scope(&self) -> Scope {
        self.scope.as_ref().map(|scope| scope.value).unwrap_or_default()
    }
}

/// What `bulla check` goes by.
#[derive(Debug, Default)]
pub struct Check {
    pub exclude: Vec<At<Glob>>,
    /// Relative to the root.
    pub baseline: Option<At<String>>,
    pub exceptions: Vec<Exception>,
}

/// A finding that is no finding there.
#[derive(Debug)]
pub struct Exception {
    pub span: Span,
    pub rule: At<String>,
    pub path: At<Glob>,
    pub reason: At<String>,
    /// The last day on which it counts.
    pub expires: Option<At<Date>>,
}

/// A pin that was read.
#[derive(Clone, Debug)]
pub struct Pin {
    pub name: String,
    pub listed: ListedRecipient,
}

/// A pinned key that is older than the policy wants.
pub struct OldPin<'a> {
    pub recipient: &'a Pinned,
    /// In days.
    pub age: i64,
    /// `maxKeyAge`, in days.
    most: i64,
}

impl OldPin<'_> {
    /// What is to be done about it.
    pub const HELP: &'static str = "bulla rotate; where the cluster has a new key already: bulla recipients update";

    /// What is wrong with it.
    pub fn message(&self) -> String {
        let Self { recipient, age, most } = self;
        format!("the key {} is {age} days old, and maxKeyAge is {most} days", recipient.name.value)
    }
}

impl Policy {
    /// The policy of a file's repository; the file need not be there yet. `None` when there is none.
    pub fn above(path: &Path) -> Result<Option<std::sync::Arc<Self>>> {
        Finder::new(None).find(path).map(|found| found.policy)
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let pins = self.recipients.iter().map(|recipient| recipient.file.value.as_str());
        pins.chain(self.check.baseline.as_ref().map(|file| file.value.as_str()))
    }

    /// An error at a place of it.
    pub fn fail(&self, span: Span, message: impl Into<String>) -> Box<Failure> {
        Failure::new(message).at_public(&self.file, &self.text, span)
    }

    /// The first rule that matches a path relative to the root.
    pub fn rule(&self, relative: &Path) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.path.value.matches(relative))
    }

    /// The recipient of the cluster that a command is about: of the context that is named, else the only one that has one.
    pub fn of_cluster(&self, args: &ClusterArgs) -> Option<&Pinned> {
        let mut own = self.recipients.iter().filter(|pinned| pinned.is_cluster());
        match &args.context {
            Some(context) => own.find(|pinned| pinned.context.as_ref().is_some_and(|at| at.value == *context)),
            None => own.next().filter(|_| own.next().is_none()),
        }
    }

    /// A recipient by its name.
    pub fn recipient(&self, name: &str) -> Option<&Pinned> {
        self.recipients.iter().find(|recipient| recipient.name.value == name)
    }

    /// The public key of a recipient, from its file.
    pub fn pin(&self, recipient: &Pinned) -> Result<Pin> {
        let (file, bytes) = pin::read(self, recipient)?;
        let listed = pin::parse(&file, &bytes)?;
        Ok(Pin { name: recipient.name.value.clone(), listed })
    }

    /// The pinned keys that are older than `maxKeyAge`, by the date that their files say they were made.
    pub fn old_pins(&self, today: Date) -> Vec<OldPin<'_>> {
        let Some(max) = &self.max_key_age else { return Vec::new() };
        let most = i64::try_from(max.value.as_secs() / 86_400).unwrap_or(i64::MAX);
        let old = self.recipients.iter().filter_map(|recipient| {
            let pin = self.pin(recipient).ok()?;
            let age = today.since(Date::parse(pin.listed.created.as_deref()?)?);
            (age > most).then_some(OldPin { recipient, age, most })
        });
        old.collect()
    }

    /// The certificate that a recipient's file is, for Bitnami's format.
    pub fn certificate(&self, recipient: &Pinned) -> Result<Option<Rsa>> {
        let (file, bytes) = pin::read(self, recipient)?;
        if !rsa::is_certificate(&bytes) {
            return Ok(None);
        }
        rsa::read(&file, &bytes, recipient.name.value.clone()).map(Some)
    }

    /// The certificate that files under a rule are sealed for, where it names one. It stands alone: Bitnami's format has one
    /// recipient, and so none of those of everything either.
    pub fn certificate_of(&self, rule: &Rule) -> Result<Option<Rsa>> {
        for name in &rule.recipients {
            let Some(recipient) = self.recipient(&name.value) else { continue };
            if let Some(rsa) = self.certificate(recipient)? {
                if rule.recipients.len() > 1 {
                    return Err(self
                        .fail(name.span, format!("{} is a certificate, and the rule names others too", name.value))
                        .help("Bitnami's format has one recipient: give it a rule of its own"));
                }
                return Ok(Some(rsa));
            }
        }
        Ok(None)
    }

    /// Whether any recipient is a certificate.
    pub fn has_certificate(&self) -> Result<bool> {
        for recipient in &self.recipients {
            if self.certificate(recipient)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All of the native format. One key under two names is an error.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let mut pins: Vec<Pin> = Vec::new();
        for recipient in &self.recipients {
            let (file, bytes) = pin::read(self, recipient)?;
            if rsa::is_certificate(&bytes) {
                continue;
            }
            let pin = Pin { name: recipient.name.value.clone(), listed: pin::parse(&file, &bytes)? };
            if let Some(other) = pins.iter().find(|other| other.listed.recipient == pin.listed.recipient) {
                return Err(self.fail(
                    recipient.name.span,
                    format!("{} and {} are one recipient under two names", other.name, pin.name),
                ));
            }
            pins.push(pin);
        }
        Ok(pins)
    }

    /// The recipients of everything.
    pub fn always(&self) -> impl Iterator<Item = &Pinned> {
        self.recipients.iter().filter(|recipient| recipient.is_always())
    }

    /// Whom files under a rule are sealed for: those that it names, then (`always`) those of everything.
    pub fn targets(&self, rule: &Rule, always: bool) -> Result<Targets> {
        let named = rule.recipients.iter().filter_map(|name| self.recipient(&name.value));
        let all: Vec<&Pinned> = named.chain(self.always().filter(|_| always)).collect();
        let mut given: Vec<(Recipient, NameSource)> = Vec::new();
        for recipient in all {
            let pin = self.pin(recipient)?;
            given.push((pin.listed.recipient, NameSource::Policy(pin.name)));
        }
        self.permit(&given)?;
        Targets::new(given, false).map_err(|error| self.fail(rule.span, error.to_string()))
    }

    /// Refuses classical recipients where the policy says so.
    pub fn permit(&self, given: &[(Recipient, NameSource)]) -> Result<()> {
        let Some(At { value: false, span }) = &self.allow_classical else { return Ok(()) };
        match given.iter().find(|(recipient, _)| recipient.kind() == RecipientKind::Classical) {
            None => Ok(()),
            Some((recipient, source)) => {
                let fingerprint = recipient.fingerprint().to_string();
                let name = match source {
                    NameSource::Policy(name) | NameSource::Comment(name) | NameSource::FileStem(name) => {
                        crate::failure::named(name, &fingerprint)
                    }
                    NameSource::None => fingerprint,
                };
                Err(self.fail(*span, format!("{name} is classical, and the policy allows no classical recipients")))
            }
        }
    }
}
