//! `bulla reseal` on files of Bitnami's format: each item is opened with an old private key and sealed for the certificate, or
//! the cluster does both.
//!
//! The ciphertext names no key. An item that an old key opens is sealed anew; one that the certificate's own key opens is
//! current; of any other nobody can tell anything but the size of its key.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulla::bitnami::{
    API_VERSION, BitnamiSealedSecretSpec, KeyFingerprint, SetError, Sight, edits, renew, sight, texts_of,
};
use bulla::recipient::Recipient;
use serde_json::{Value, json};

use super::{Mode, connect_to, were};
use crate::bitnami::{Bitnami, all_bitnami};
use crate::cli::{ReportFormat, ResealArgs};
use crate::cluster::{self, Cluster};
use crate::commands::Done;
use crate::failure::{self, Failure, Result, shown};
use crate::files::Original;
use crate::model::parse;
use crate::output::plain::count;
use crate::output::progress::Progress;
use crate::policy::Policy;
use crate::recipients::{Chooser, Held, Key};
use crate::rsa::Rsa;
use crate::{identities, output, tree};

/// What came of it, and whether there are files of the native format to go on with.
pub struct Outcome {
    pub done: Done,
    pub native_too: bool,
    /// What `-o json` and `--report` tell of it.
    pub told: Value,
}

/// Does what concerns Bitnami's format; `None` when nothing does.
pub fn run(args: &ResealArgs) -> Result<Option<Outcome>> {
    let Some(first) = args.paths.first() else { return Ok(None) };
    let chooser = Chooser::new(&args.recipients, &args.cluster);
    let policy = chooser.policy(first)?;
    let fixed = if chooser.is_named() {
        match chooser.choose_any(Some(first), &shown(first), "bulla reseal")?.targets {
            Key::Bitnami(rsa) => Some(rsa),
            Key::Native(_) => return Ok(None),
        }
    } else {
        match &policy {
            Some(policy) if policy.has_certificate()? => None,
            _ => return Ok(None),
        }
    };
    if fixed.is_some() && args.fresh {
        return Err(Failure::usage(
            "--fresh has no meaning here: in Bitnami's format each item is sealed afresh anyway",
        ));
    }
    if let (true, Some(name)) = (fixed.is_some(), args.add_recipient.first()) {
        return Err(Failure::usage(format!("--add-recipient {name}: Bitnami's format has one recipient")));
    }
    let mode = Mode::of(args);
    let held = if args.identities.is_empty() { Held::none() } else { identities::resolve(&args.identities, false)? };
    let cluster = match (args.live, mode) {
        (true, Mode::Write) => Some(live(args, policy.as_deref())?),
        _ => None,
    };
    if held.keys.is_empty() && cluster.is_none() && mode == Mode::Write {
        if fixed.is_none() {
            // The identities are for the native files of the tree.
            output::note("files of Bitnami's format are left: no private key of theirs is among the identities");
            return Ok(None);
        }
        return Err(Failure::usage("how are the old values opened?")
            .help("with the old private key: -i KEY, as PEM, as its Secret, or as a List of them")
            .help("by the cluster: --live"));
    }
    let job = Job {
        chooser: &chooser,
        fixed,
        held: &held,
        cluster,
        mode,
        hint: Mutex::new(None),
        native: AtomicBool::new(false),
        certificates: Mutex::default(),
    };
    let report = job.run(&args.paths)?;
    let native = job.native.load(Ordering::Relaxed);
    if !report.any {
        if job.fixed.is_none() {
            return Ok(None);
        }
        let paths: Vec<_> = args.paths.iter().map(|path| shown(path)).collect();
        let failure = Failure::new(format!("there is no SealedSecret of Bitnami's format in {}", paths.join(", ")));
        return Err(if native { failure.help("native files are resealed without --cert") } else { failure });
    }
    let native_too = native && job.fixed.is_none();
    let told = report.json(&job);
    if args.output == ReportFormat::Json && !native_too {
        output::document(told.clone())?;
    }
    Ok(Some(Outcome { done: report.tell(&job, args.output)?, native_too, told }))
}

/// The cluster that opens and seals, and the native key of it that the repository pins, which then proves the answers.
fn live(args: &ResealArgs, policy: Option<&Policy>) -> Result<(Cluster, Option<Recipient>)> {
    let connect = || cluster::connect_for_rewrap(&args.cluster, true);
    let Some(policy) = policy else { return Ok((connect()?, None)) };
    let mut pinned = Vec::new();
    for recipient in policy.recipients.iter().filter(|recipient| recipient.is_cluster()) {
        if policy.certificate(recipient)?.is_none() {
            pinned.push((recipient, policy.pin(recipient)?.listed.recipient));
        }
    }
    match pinned.as_slice() {
        [(_, key)] if args.cluster.controller_url.is_some() => Ok((connect()?, Some(key.clone()))),
        [(recipient, key)] => Ok((connect_to(Some(recipient), &args.cluster)?, Some(key.clone()))),
        _ => Ok((connect()?, None)),
    }
}

struct Job<'a> {
    chooser: &'a Chooser<'a>,
    /// The certificate of the command line; else each file's rule says it.
    fixed: Option<Arc<Rsa>>,
    held: &'a Held,
    cluster: Option<(Cluster, Option<Recipient>)>,
    mode: Mode,
    /// The key that opened last.
    hint: Mutex<Option<KeyFingerprint>>,
    /// Whether files of the native format were seen.
    native: AtomicBool,
    /// All that files were sealed for, by fingerprint.
    certificates: Mutex<std::collections::BTreeMap<KeyFingerprint, Arc<Rsa>>>,
}

/// One file.
struct File {
    file: String,
    /// Items sealed anew, or to be.
    items: usize,
    /// Items that were sealed for the certificate.
    current: usize,
    /// Items of which nothing can be told.
    unknown: BTreeSet<String>,
}

#[derive(Default)]
struct Report {
    files: Vec<File>,
    failed: Vec<Failure>,
    any: bool,
}

impl Job<'_> {
    fn run(&self, paths: &[PathBuf]) -> Result<Report> {
        let found = tree::files(paths)?;
        let progress = Progress::new("looked at", found.len());
        let mut report = Report::default();
        for result in tree::parallel_writing(&found, |file| {
            let result = self.file(file);
            progress.tick();
            result
        }) {
            match result {
                Ok(None) => {}
                Ok(Some(file)) => {
                    report.any = true;
                    report.files.push(file);
                }
                Err(failure) => {
                    report.any = true;
                    report.failed.push(*failure);
                }
            }
        }
        Ok(report)
    }

    fn file(&self, found: &tree::Found) -> Result<Option<File>> {
        let file = shown(&found.path);
        let original = Original::read(&found.path)?;
        if tree::mentions(&original.bytes, bulla::resource::API_VERSION) {
            self.native.store(true, Ordering::Relaxed);
        }
        if !tree::mentions(&original.bytes, API_VERSION) {
            return Ok(None);
        }
        let mut stream = parse(&file, &original.bytes)?;
        let objects = all_bitnami(&file, &stream)?;
        if objects.is_empty() {
            return Ok(None);
        }
        let rsa = match &self.fixed {
            Some(rsa) => rsa.clone(),
            None => {
                let chosen = self.chooser.choose_any(Some(&found.path), &file, &format!("bulla reseal {file}"))?;
                chosen.bitnami(&file)?.clone()
            }
        };
        self.certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(rsa.certificate.fingerprint())
            .or_insert_with(|| rsa.clone());
        let mut told = File { file: file.clone(), items: 0, current: 0, unknown: BTreeSet::new() };
        let mut all = Vec::new();
        for object in &objects {
            let fail = |error: &SetError| object.set(&file, &stream, error).in_file(&file);
            let after = match &self.cluster {
                Some((cluster, pinned)) => self.asked(&file, object, &rsa, cluster, pinned.as_ref(), &mut told)?,
                None if self.held.keys.is_empty() => {
                    self.seen(object, &rsa, &mut told).map_err(|error| fail(&error))?;
                    continue;
                }
                None => self.renewed(object, &rsa, &mut told).map_err(|error| fail(&error))?,
            };
            all.extend(edits(object.index, &object.object.spec, &after));
        }
        if self.mode == Mode::Write && !all.is_empty() {
            stream.apply(&all).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
            original.replace(&stream.into_bytes())?;
        }
        Ok(Some(told))
    }

    /// With private keys.
    fn renewed(
        &self,
        object: &Bitnami,
        rsa: &Rsa,
        told: &mut File,
    ) -> std::result::Result<BitnamiSealedSecretSpec, SetError> {
        let hint = *self.hint.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = renew(&object.object, &self.held.all_keys(), hint, &rsa.certificate)?;
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = renewed.hint;
        told.items += renewed.texts.len();
        told.current += renewed.current.len();
        told.unknown.extend(renewed.closed.iter().map(|key| format!("{}: {key}", object.called())));
        let mut after = object.object.spec.clone();
        renewed.apply(&mut after);
        Ok(after)
    }

    /// Without any key: only the size of a key shows.
    fn seen(&self, object: &Bitnami, rsa: &Rsa, told: &mut File) -> std::result::Result<(), SetError> {
        bulla::bitnami::check(&object.object.spec)?;
        for (key, text) in texts_of(&object.object.spec) {
            match sight(text, &rsa.certificate) {
                Ok(Sight::Other) => told.items += 1,
                Ok(Sight::Unknown) => _ = told.unknown.insert(format!("{}: {key}", object.called())),
                Err(error) => {
                    let key = object.view.data.is_none().then(|| key.to_owned());
                    return Err(bulla::bitnami::OpenError::Item { key, error }.into());
                }
            }
        }
        Ok(())
    }

    /// By the cluster, which seals everything for its newest key. Only sealed texts are taken from its answer.
    fn asked(
        &self,
        file: &str,
        object: &Bitnami,
        rsa: &Rsa,
        cluster: &Cluster,
        pinned: Option<&Recipient>,
        told: &mut File,
    ) -> Result<BitnamiSealedSecretSpec> {
        let place = object.called();
        let resealed = cluster.rotate(&object.object, &rsa.certificate, pinned).map_err(|mut failure| {
            failure.message = format!("{place}: {}", failure.message);
            failure.in_file(file)
        })?;
        let mut after = object.object.clone();
        resealed.apply(&mut after);
        told.items += texts_of(&after.spec).count();
        Ok(after.spec)
    }

    fn names(&self) -> String {
        let certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.values().map(|rsa| rsa.shown()).collect::<Vec<_>>().join(", ")
    }
}

impl Report {
    fn tell(&self, job: &Job<'_>, format: ReportFormat) -> Result<Done> {
        self.failed.iter().for_each(output::failure);
        let needed: Vec<&File> = self.files.iter().filter(|file| file.items > 0).collect();
        let unknown: Vec<&File> = self.files.iter().filter(|file| !file.unknown.is_empty()).collect();
        let current = self.files.iter().filter(|file| file.items == 0 && file.unknown.is_empty()).count();
        let items: usize = needed.iter().map(|file| file.items).sum();
        let total = self.files.len() + self.failed.len();
        if format != ReportFormat::Json && job.mode != Mode::Write {
            let line = |file: &&File| format!("{}: {}\n", file.file, count(file.items, "item"));
            output::data(needed.iter().map(line).collect::<String>().as_bytes())?;
        }
        let names = job.names();
        let did = match job.mode {
            Mode::Write => "resealed",
            Mode::DryRun => "would reseal",
            Mode::Check => "to be resealed:",
        };
        let mut text = format!(
            "{did} {} of {} for {names}: {}; {} current; {} failed",
            needed.len(),
            count(total, "file"),
            count(items, "item"),
            were(current),
            self.failed.len()
        );
        if !unknown.is_empty() {
            let how = if job.held.keys.is_empty() {
                "nobody can tell without a private key"
            } else {
                "none of the keys opens"
            };
            text.push_str(&format!("; {} with items that {how}", count(unknown.len(), "file")));
        }
        output::say(&text);
        if !unknown.is_empty() && !job.held.keys.is_empty() {
            for file in unknown.iter().take(20) {
                output::say(&format!(
                    "  {}  {}",
                    file.file,
                    file.unknown.iter().cloned().collect::<Vec<_>>().join(", ")
                ));
            }
            if unknown.len() > 20 {
                output::say(&format!("  and {} more", unknown.len() - 20));
            }
            output::note(
                "they were left: sealed for the new certificate already, or for a key that is not here, or for another \
                 place. With the new private key too (-i) it can be told",
            );
        } else if !unknown.is_empty() {
            output::note("the ciphertext names no key; with the old private keys (-i) it can be told");
        }
        if job.mode == Mode::Write && !needed.is_empty() {
            if job.cluster.as_ref().is_some_and(|(_, pinned)| pinned.is_none()) {
                output::note(
                    "nobody can prove with RSA who answered; where .bulla.yaml pins the cluster's age recipient, that key \
                     does",
                );
            }
            output::note("values were not changed. If the old key leaked, change them: bulla reseal does not revoke");
        }
        let incomplete = job.mode == Mode::Write && !unknown.is_empty();
        Ok(if !self.failed.is_empty() || incomplete {
            Done::Failed
        } else if job.mode == Mode::Check && !needed.is_empty() {
            Done::Findings
        } else {
            Done::Well
        })
    }

    fn json(&self, job: &Job<'_>) -> Value {
        let certificates = job.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let recipients: Vec<_> = certificates
            .values()
            .map(|rsa| json!({ "name": rsa.name, "fingerprint": rsa.certificate.fingerprint().to_string() }))
            .collect();
        let done = if job.mode == Mode::Write { "resealed" } else { "needed" };
        let files: Vec<_> = self
            .files
            .iter()
            .map(|file| {
                let state = match (file.items, file.unknown.is_empty()) {
                    (0, true) => "current",
                    (0, false) => "unknown",
                    _ => done,
                };
                json!({ "file": file.file, "state": state, "items": file.items, "unknown": file.unknown })
            })
            .collect();
        json!({
            "recipients": recipients,
            "files": files,
            "failed": self.failed.len(),
            "errors": self.failed.iter().flat_map(Failure::json).collect::<Vec<_>>(),
        })
    }
}
