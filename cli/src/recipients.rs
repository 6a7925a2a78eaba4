//! Whom to seal for, and who opens: what was named on the command line, as the library knows it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bulla::bitnami::{KeyFileError as RsaKeyFileError, PrivateKey, is_key_file, private_keys};
use bulla::recipient::{
    Identity, IdentityError, KeyFileError, ListedRecipient, NameSource, Recipient, RecipientError, Targets,
    TargetsError, is_envelope_name, parse_identities, parse_recipients,
};
use bulla::scope::Scope;
use zeroize::Zeroizing;

use crate::cli::{ClusterArgs, RecipientArgs};
use crate::cluster;
use crate::failure::{Failure, Result, shown};
use crate::policy::{Finder, Policy, Rule};
use crate::rsa::{self, Rsa};
use crate::{files, output};

const BITNAMI_HELP: &str = "a certificate seals Bitnami's format; for an age recipient of the cluster: bulla recipients --context NAME > prod.pub";

/// Who is named on the command line: the key decides the format.
enum Given {
    Native(Vec<(Recipient, NameSource)>),
    Bitnami(Arc<Rsa>),
}

/// Recipients of the native format on the command line, without a policy; `None` when none is named.
pub fn named(args: &RecipientArgs, policy: Option<&Policy>) -> Result<Option<Targets>> {
    match given(args, policy)? {
        None => Ok(None),
        Some(Given::Native(given)) => targets(given, args.allow_mixed).map(Some),
        Some(Given::Bitnami(rsa)) => Err(Failure::usage(format!(
            "{} is a certificate for Bitnami's format, and this is about the native one",
            rsa.shown()
        ))
        .help("name age recipients: -r or -R")),
    }
}

/// The certificate among the keys of the command line, which then stands alone.
fn certificate(args: &RecipientArgs, policy: Option<&Policy>) -> Result<Option<Rsa>> {
    let mut found = args.cert.as_deref().map(rsa::load).transpose()?;
    let named = args.recipients.len() + args.recipients_files.len();
    for path in &args.recipients_files {
        // What can't be read, or can be read only once, is said and read later.
        if files::is_stdin(path) || !path.is_file() {
            continue;
        }
        let bytes = files::read(path)?;
        if rsa::is_certificate(&bytes) {
            found = Some(rsa::read(&shown(path), &bytes, stem(path))?);
        }
    }
    for name in &args.recipients {
        let pinned = policy.and_then(|policy| Some((policy, policy.recipient(name.trim())?)));
        if let Some((policy, pinned)) = pinned
            && let Some(rsa) = policy.certificate(pinned)?
        {
            found = Some(rsa);
        }
    }
    match found {
        Some(rsa) if named + usize::from(args.cert.is_some()) > 1 => Err(Failure::usage(format!(
            "{} is a certificate: Bitnami's format has one recipient, and another is named too",
            rsa.shown()
        ))
        .help("the key decides the format: name the certificate alone, or age recipients alone")),
        found => Ok(found),
    }
}

/// Recipients of the command line; `None` when none is named. A policy's name for a recipient comes before any other.
fn given(args: &RecipientArgs, policy: Option<&Policy>) -> Result<Option<Given>> {
    if let Some(rsa) = certificate(args, policy)? {
        return Ok(Some(Given::Bitnami(Arc::new(rsa))));
    }
    if args.recipients.is_empty() && args.recipients_files.is_empty() {
        return Ok(None);
    }
    let pins = policy.map(Policy::pins).transpose()?.unwrap_or_default();
    let mut given = Vec::new();
    let mut add = |recipient: Recipient, source: NameSource| {
        let pinned = pins.iter().find(|pin| pin.listed.recipient == recipient);
        given.push((recipient, pinned.map_or(source, |pin| NameSource::Policy(pin.name.clone()))));
    };
    for text in &args.recipients {
        let text = text.trim();
        if is_envelope_name(text) && !text.starts_with("age1") {
            let pin = pins.iter().find(|pin| pin.name == text).ok_or_else(|| unknown(text, policy))?;
            add(pin.listed.recipient.clone(), NameSource::Policy(text.to_owned()));
            continue;
        }
        let recipient = text.parse::<Recipient>().map_err(|error| {
            let help = match error {
                RecipientError::Malformed => {
                    "-r takes a name of .bulla.yaml, or a recipient itself; for one in a file: -R FILE"
                }
                _ => "a recipient is what stands in a .pub file",
            };
            Failure::new(format!("-r: {error}")).help(help)
        })?;
        add(recipient, NameSource::None);
    }
    for path in &args.recipients_files {
        let file = shown(path);
        let bytes = files::read(path)?;
        let stem = stem(path);
        for listed in listed(&file, &bytes)? {
            let source = listed.name.map_or_else(|| NameSource::FileStem(stem.clone()), NameSource::Comment);
            add(listed.recipient, source);
        }
    }
    Ok(Some(Given::Native(given)))
}

fn unknown(name: &str, policy: Option<&Policy>) -> Box<Failure> {
    match policy {
        None => Failure::new(format!("-r {name}: there is no .bulla.yaml that names recipients"))
            .help("for a recipient in a file: -R FILE"),
        Some(policy) => {
            let names: Vec<_> = policy.recipients.iter().map(|pinned| pinned.name.value.as_str()).collect();
            Failure::new(format!("-r {name}: {} has no recipient of this name", policy.file))
                .help(format!("it has {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") }))
        }
    }
}

pub fn targets(given: Vec<(Recipient, NameSource)>, allow_mixed: bool) -> Result<Targets> {
    Targets::new(given, allow_mixed).map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error {
            TargetsError::Mixed(_) => failure.help("leave one of the kinds out; or, if it is meant: --allow-mixed"),
            TargetsError::NameTwice(_) | TargetsError::TwoNames(..) => {
                failure.help("name them with a line \"# name: NAME\" before the recipient in its file")
            }
            _ => failure,
        }
    })
}

/// A file's name up to its first dot: `prod` of `keys/prod.txt.pub`.
pub fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// The recipients of a file.
pub fn listed(file: &str, bytes: &[u8]) -> Result<Vec<ListedRecipient>> {
    let text = String::from_utf8_lossy(bytes);
    if text.trim_start().starts_with("-----BEGIN") {
        let failure = if text.contains("PRIVATE KEY") {
            Failure::new(format!("{file} holds a private key, where a recipient belongs"))
        } else {
            Failure::new(format!("{file} is a certificate, where an age recipient belongs")).help(BITNAMI_HELP)
        };
        return Err(failure.in_file(file));
    }
    parse_recipients(&text).map_err(|error| key_file(file, error))
}

fn key_file(file: &str, error: KeyFileError) -> Box<Failure> {
    match error {
        KeyFileError::Recipient { line, error } => {
            let failure = Failure::new(error.to_string()).at_line(file, line);
            match error {
                RecipientError::Malformed => {
                    failure.help("copy the whole line again, or: bulla recipients --context NAME")
                }
                RecipientError::LowOrder => failure.help("do not use it; ask where it comes from"),
                RecipientError::PrivateKey => failure.help("if anybody else could read this file, make a new key"),
                RecipientError::Pem => failure.help(BITNAMI_HELP),
            }
        }
        KeyFileError::Identity { line, error } => {
            let failure = Failure::new(error.to_string()).at_line(file, line);
            match error {
                IdentityError::Recipient => failure,
                IdentityError::Malformed => failure.help("bulla keygen -w FILE makes one"),
            }
        }
        KeyFileError::Name { line } => Failure::new(
            "this name can't name an envelope: names are [a-z]([-a-z0-9]{0,61}[a-z0-9])?, and no word of YAML",
        )
        .at_line(file, line),
        KeyFileError::NotAscii { line } => Failure::new("files of recipients are printable ASCII").at_line(file, line),
        KeyFileError::Empty => Failure::new(format!("there is no key in {file}")).in_file(file),
    }
}

/// Decides whom files are sealed for: those named; else the policy's first matching rule; else (with no policy, and with
/// somebody there to see it) the current cluster's. Who is a recipient of everything is one always.
pub struct Chooser<'a> {
    args: &'a RecipientArgs,
    at: &'a ClusterArgs,
    finder: Finder,
    cluster: OnceLock<Targets>,
    /// A certificate of the command line is fetched once.
    certificate: OnceLock<Arc<Rsa>>,
    /// By policy and rule: pins are read once.
    rules: Mutex<HashMap<(PathBuf, usize), Key>>,
}

/// The key or keys to seal for, which decide the format.
#[derive(Clone, Debug)]
pub enum Key {
    Native(Targets),
    Bitnami(Arc<Rsa>),
}

impl Key {
    /// For a person.
    pub fn names(&self) -> String {
        match self {
            Self::Native(targets) => targets.names(),
            Self::Bitnami(rsa) => rsa.shown(),
        }
    }
}

/// Whom one file is sealed for, in whichever format.
pub type Chosen = Choice<Key>;

/// Whom one file is sealed for, and by which rule.
pub struct Choice<T = Targets> {
    pub targets: T,
    /// The policy of the file's repository.
    pub policy: Option<Arc<Policy>>,
    /// Which of its rules matches the file.
    rule: Option<usize>,
    /// Whether that rule said whom, rather than the command line.
    pub by_rule: bool,
}

impl<'a> Chooser<'a> {
    pub fn new(args: &'a RecipientArgs, at: &'a ClusterArgs) -> Self {
        Self {
            args,
            at,
            finder: Finder::new(args.policy.as_deref()),
            cluster: OnceLock::new(),
            certificate: OnceLock::new(),
            rules: Mutex::default(),
        }
    }

    /// Whether recipients are named on the command line.
    pub const fn is_named(&self) -> bool {
        !self.args.recipients.is_empty() || !self.args.recipients_files.is_empty() || self.args.cert.is_some()
    }

    /// The policy of a file's repository.
    pub fn policy(&self, path: &Path) -> Result<Option<Arc<Policy>>> {
        Ok(self.finder.find(path)?.policy)
    }

    /// As [`Chooser::choose_any`], for a file of the native format.
    pub fn choose(&self, path: Option<&Path>, what: &str, command: &str) -> Result<Choice> {
        let chosen = self.choose_any(path, what, command)?;
        let targets = chosen.native(what)?.clone();
        Ok(Choice { targets, policy: chosen.policy, rule: chosen.rule, by_rule: chosen.by_rule })
    }

    fn given(&self, policy: Option<&Policy>) -> Result<Option<Given>> {
        if let Some(rsa) = self.certificate.get() {
            return Ok(Some(Given::Bitnami(rsa.clone())));
        }
        Ok(match given(self.args, policy)? {
            Some(Given::Bitnami(rsa)) => Some(Given::Bitnami(self.certificate.get_or_init(|| rsa).clone())),
            given => given,
        })
    }

    /// Whom `path` is sealed for; standard input and output have none, and no rule. `command` shows a command line without
    /// recipients.
    pub fn choose_any(&self, path: Option<&Path>, what: &str, command: &str) -> Result<Chosen> {
        let found = self.finder.find(path.unwrap_or(Path::new(".")))?;
        let rule = match (&found.policy, path) {
            (Some(policy), Some(_)) => policy.rules.iter().position(|rule| rule.path.value.matches(&found.relative)),
            _ => None,
        };
        let policy = found.policy;
        let with = |targets, by_rule| Choice { targets, policy: policy.clone(), rule, by_rule };
        let given = match self.given(policy.as_deref())? {
            Some(Given::Bitnami(rsa)) => return Ok(with(Key::Bitnami(rsa), false)),
            Some(Given::Native(given)) => Some(given),
            None => None,
        };
        if let Some(mut given) = given {
            if let Some(policy) = policy.as_deref() {
                for pinned in policy.always().filter(|_| !self.args.no_always) {
                    let pin = policy.pin(pinned)?;
                    given.push((pin.listed.recipient, NameSource::Policy(pin.name)));
                }
                policy.permit(&given)?;
            }
            return Ok(with(Key::Native(targets(given, self.args.allow_mixed)?), false));
        }
        if let Some(policy) = &policy {
            let Some((index, rule)) = rule.and_then(|index| Some((index, policy.rules.get(index)?))) else {
                let name = policy.recipients.first().map_or("NAME", |pinned| pinned.name.value.as_str());
                let (why, more) = match path {
                    Some(_) => (format!("no rule of {} matches it", policy.file), "or add a rule"),
                    None => (format!("the rules of {} go by a file's path", policy.file), "or -w FILE"),
                };
                return Err(Failure::new(format!("no recipient for {what}: {why}"))
                    .help(format!("{command} -r {name}     {more}")));
            };
            let place = (policy.root.clone(), index);
            if let Some(key) = self.rules.lock().unwrap_or_else(PoisonError::into_inner).get(&place) {
                return Ok(with(key.clone(), true));
            }
            let key = match policy.certificate_of(rule)? {
                Some(rsa) => Key::Bitnami(Arc::new(rsa)),
                None => Key::Native(policy.targets(rule, !self.args.no_always)?),
            };
            self.rules.lock().unwrap_or_else(PoisonError::into_inner).insert(place, key.clone());
            return Ok(with(key, true));
        }
        if !output::on_terminal() {
            return Err(Failure::new(format!("no recipient for {what}: neither -r nor -R"))
                .help(format!("{command} -R prod.pub     (bulla recipients --context NAME > prod.pub)")));
        }
        if let Some(targets) = self.cluster.get() {
            return Ok(with(Key::Native(targets.clone()), false));
        }
        let cluster = cluster::published(self.at)?;
        output::note(&format!(
            "sealing for the cluster of the context {}: {}",
            cluster.context,
            cluster.listed.iter().map(|l| l.recipient.fingerprint().to_string()).collect::<Vec<_>>().join(", ")
        ));
        let targets = targets(cluster.targets(), self.args.allow_mixed)?;
        Ok(with(Key::Native(self.cluster.get_or_init(|| targets).clone()), false))
    }
}

impl Chosen {
    /// For a file of the native format; `what` is the file.
    pub fn native(&self, what: &str) -> Result<&Targets> {
        match &self.targets {
            Key::Native(targets) => Ok(targets),
            Key::Bitnami(rsa) => Err(Failure::new(format!(
                "{what} is of the native format, and {} is a certificate, which seals Bitnami's",
                rsa.shown()
            ))
            .help(if self.by_rule {
                "a file keeps its format: let another rule of .bulla.yaml match it, or name age recipients with -r"
            } else {
                "a file keeps its format: name age recipients, with -r or -R"
            })),
        }
    }

    /// For a file of Bitnami's format; `what` is the file.
    pub fn bitnami(&self, what: &str) -> Result<&Arc<Rsa>> {
        match &self.targets {
            Key::Bitnami(rsa) => Ok(rsa),
            Key::Native(targets) => Err(Failure::new(format!(
                "{what} is of Bitnami's format, and {} seal{} the native one",
                targets.names(),
                if targets.as_slice().len() == 1 { "s" } else { "" }
            ))
            .help("a file keeps its format: name the controller's certificate, with --cert FILE")
            .help(format!("to bring it over: bulla migrate {what}"))),
        }
    }
}

impl<T> Choice<T> {
    fn rule(&self) -> Option<(&Policy, &Rule)> {
        let policy = self.policy.as_deref()?;
        Some((policy, policy.rules.get(self.rule?)?))
    }

    /// The scope to seal with: the one asked for, else the rule's. A wider one than the rule's is refused.
    pub fn scope(&self, asked: Option<Scope>) -> Result<Option<Scope>> {
        let Some((policy, rule)) = self.rule() else { return Ok(asked) };
        let own = rule.scope();
        match asked {
            Some(asked) if asked > own => Err(policy
                .fail(
                    rule.scope.as_ref().map_or(rule.path.span, |scope| scope.span),
                    format!("--scope {asked} is wider than {own}, which the rule for this file says"),
                )
                .help(format!("leave --scope out; or, if it is meant, write scope: {asked} into the rule"))),
            Some(asked) => Ok(Some(asked)),
            None => Ok(Some(own)),
        }
    }

    /// The namespace that the rule demands.
    pub fn namespace(&self) -> Option<&str> {
        self.rule().and_then(|(_, rule)| rule.namespace.as_ref()).map(|namespace| namespace.value.as_str())
    }

    /// Refuses an object of another namespace than the rule's. `what` is how it is called.
    pub fn in_namespace(&self, what: &str, namespace: Option<&str>) -> Result<()> {
        let Some((policy, rule)) = self.rule() else { return Ok(()) };
        let Some(demanded) = &rule.namespace else { return Ok(()) };
        match namespace {
            Some(namespace) if namespace == demanded.value => Ok(()),
            namespace => Err(policy.fail(
                demanded.span,
                format!(
                    "{what} {}, and the rule for this file is for {} alone",
                    namespace.map_or_else(|| "has no namespace".to_owned(), |name| format!("is in namespace {name}")),
                    demanded.value
                ),
            )),
        }
    }
}

/// Identities of one file or several.
pub struct Held {
    pub identities: Vec<Identity>,
    /// Of Bitnami's format.
    pub keys: Vec<PrivateKey>,
    /// Files and their fingerprints, for messages.
    pub files: Vec<(String, Vec<String>)>,
}

/// Reads identity files.
pub fn identities(paths: &[PathBuf]) -> Result<Held> {
    let mut held = Held::none();
    for path in paths {
        let file = shown(path);
        let bytes = files::read(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Failure::new(format!("{file} is no identity file")))?;
        if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE ENCRYPTED FILE") {
            return Err(Failure::new(format!("{file} is encrypted"))
                .in_file(&file)
                .help("decrypt it first: age -d FILE | bulla … -i /dev/stdin"));
        }
        if is_key_file(text) {
            let read = private_keys(&bytes).map_err(|error| rsa_key_file(&file, error))?;
            held.files.push((file, read.iter().map(|key| rsa::short(&key.fingerprint())).collect()));
            held.keys.extend(read);
            continue;
        }
        let text = Zeroizing::new(text.to_owned());
        let read = parse_identities(&text).map_err(|error| key_file(&file, error))?;
        let fingerprints = read.iter().map(|i| i.recipient().fingerprint().to_string()).collect();
        held.files.push((file, fingerprints));
        held.identities.extend(read);
    }
    Ok(held)
}

/// A file of private keys of Bitnami's format can't be used.
fn rsa_key_file(file: &str, error: RsaKeyFileError) -> Box<Failure> {
    match error {
        RsaKeyFileError::Manifest(error) => crate::failure::manifest(file, None, &error),
        error => Failure::new(format!("{file}: {error}")).in_file(file),
    }
}

impl Held {
    pub const fn none() -> Self {
        Self { identities: Vec::new(), keys: Vec::new(), files: Vec::new() }
    }

    pub fn all_keys(&self) -> Vec<&PrivateKey> {
        self.keys.iter().collect()
    }

    pub fn all(&self) -> Vec<&Identity> {
        self.identities.iter().collect()
    }
}
