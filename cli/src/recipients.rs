//! Whom to seal for, and who opens: what was named on the command line, as the library knows it.

use std::path::{Path, PathBuf};

use bulla::recipient::{
    Identity, IdentityError, KeyFileError, ListedRecipient, NameSource, Recipient, RecipientError, Targets,
    TargetsError, parse_identities, parse_recipients,
};
use zeroize::Zeroizing;

use crate::cli::{ClusterArgs, RecipientArgs};
use crate::cluster;
use crate::failure::{Failure, Result, shown};
use crate::{files, output};

const NO_BITNAMI: &str = "this is a certificate for Bitnami's format, which this version doesn't write";
const BITNAMI_HELP: &str =
    "seal for an age recipient of the cluster: bulla recipients --context NAME > prod.pub, then -R prod.pub";

/// Recipients of the command line; `None` when none is named.
pub fn named(args: &RecipientArgs) -> Result<Option<Targets>> {
    if let Some(cert) = &args.cert {
        return Err(Failure::usage(format!("--cert {cert}: {NO_BITNAMI}")).help(BITNAMI_HELP));
    }
    let mut given = Vec::new();
    for text in &args.recipients {
        let recipient = text.trim().parse::<Recipient>().map_err(|error| {
            let help = match error {
                RecipientError::Malformed => "-r takes a recipient itself; for one in a file: -R FILE",
                _ => "a recipient is what stands in a .pub file",
            };
            Failure::new(format!("-r: {error}")).help(help)
        })?;
        given.push((recipient, NameSource::None));
    }
    for path in &args.recipients_files {
        let file = shown(path);
        let bytes = files::read(path)?;
        let stem = stem(path);
        for listed in listed(&file, &bytes)? {
            let source = listed.name.map_or_else(|| NameSource::FileStem(stem.clone()), NameSource::Comment);
            given.push((listed.recipient, source));
        }
    }
    if given.is_empty() {
        return Ok(None);
    }
    targets(given, args.allow_mixed).map(Some)
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
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// The recipients of a file.
fn listed(file: &str, bytes: &[u8]) -> Result<Vec<ListedRecipient>> {
    let text = String::from_utf8_lossy(bytes);
    if text.trim_start().starts_with("-----BEGIN") {
        let failure = if text.contains("PRIVATE KEY") {
            Failure::new(format!("{file} holds a private key, where a recipient belongs"))
        } else {
            Failure::new(format!("{file}: {NO_BITNAMI}")).help(BITNAMI_HELP)
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

/// Whom to seal `what` for: named, else (with no policy, and with somebody there to see it) the current cluster's.
/// `usage` shows a command line with recipients.
pub fn resolve(args: &RecipientArgs, at: &ClusterArgs, what: &str, usage: &str) -> Result<Targets> {
    if let Some(targets) = named(args)? {
        return Ok(targets);
    }
    if let Some(policy) = policy_above(Path::new(what)) {
        return Err(Failure::new(format!("no recipient for {what}: {} is not read by this version", policy.display()))
            .help(usage));
    }
    if !output::on_terminal() {
        return Err(Failure::new(format!("no recipient for {what}: neither -r nor -R"))
            .help(format!("{usage}     (bulla recipients --context NAME > prod.pub)")));
    }
    let cluster = cluster::published(at)?;
    output::note(&format!(
        "sealing for the cluster of the context {}: {}",
        cluster.context,
        cluster.listed.iter().map(|l| l.recipient.fingerprint().to_string()).collect::<Vec<_>>().join(", ")
    ));
    targets(cluster.targets(), args.allow_mixed)
}

/// A `.bulla.yaml` above a file, no further up than its repository's root.
fn policy_above(file: &Path) -> Option<PathBuf> {
    let start = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let start = std::fs::canonicalize(start).or_else(|_| std::env::current_dir()).ok()?;
    for directory in start.ancestors() {
        let policy = directory.join(".bulla.yaml");
        if policy.exists() {
            return Some(policy);
        }
        if directory.join(".git").exists() {
            return None;
        }
    }
    None
}

/// Identities of one file or several.
pub struct Held {
    pub identities: Vec<Identity>,
    /// Files and their fingerprints, for messages.
    pub files: Vec<(String, Vec<String>)>,
}

/// Reads identity files.
pub fn identities(paths: &[PathBuf]) -> Result<Held> {
    let mut held = Held { identities: Vec::new(), files: Vec::new() };
    for path in paths {
        let file = shown(path);
        let bytes = files::read(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Failure::new(format!("{file} is no identity file")))?;
        if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE ENCRYPTED FILE") {
            return Err(Failure::new(format!("{file} is encrypted"))
                .in_file(&file)
                .help("decrypt it first: age -d FILE | bulla … -i /dev/stdin"));
        }
        let text = Zeroizing::new(text.to_owned());
        let read = parse_identities(&text).map_err(|error| key_file(&file, error))?;
        let fingerprints = read.iter().map(|i| i.recipient().fingerprint().to_string()).collect();
        held.files.push((file, fingerprints));
        held.identities.extend(read);
    }
    Ok(held)
}

impl Held {
    pub fn all(&self) -> Vec<&Identity> {
        self.identities.iter().collect()
    }
}
