//! `bulla migrate`
//!
//! Each file by itself: what stands in the way is said from public text alone, before anything is opened; then the objects are
//! opened and sealed, here or by the cluster; then the file, or its twin, is written, whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bulla::bitnami::{
    KeyFingerprint, MigrateError, Migrated, Obstacle, Remark, TranslateError, Why, leave_out, migrate_with_values,
    translate,
};
use bulla::manifest::emit::{Tree, json, yaml};
use bulla::manifest::{ManifestErrorKind, Stream};
use bulla::recipient::{Recipient, Targets};
use bulla::resource::SealedSecret;
use serde_json::json;
use zeroize::Zeroizing;

use super::Done;
use super::reseal::{connect_as_named, pinned_cluster};
use crate::bitnami::{Bitnami, Made, all_bitnami};
use crate::cli::{MigrateArgs, ReportFormat};
use crate::cluster::{self, Cluster};
use crate::failure::{self, Failure, Result, shown};
use crate::files::{self, Destination, Original};
use crate::model::{all_sealed, parse};
use crate::output::plain::count;
use crate::output::progress::Progress;
use crate::recipients::{self, Chooser, Held, Key};
use crate::{identities, output, tree};

pub fn run(args: &MigrateArgs) -> Result<Done> {
    if let Some(path) = args.paths.iter().find(|path| files::is_stdin(path)) {
        return Err(Failure::usage(format!("migrate {}: it changes files; standard input is none", path.display())));
    }
    let mode = mode(args)?;
    let report_file = args.report.as_deref().map(report_file).transpose()?;
    let chooser = Chooser::new(&args.recipients, &args.cluster);
    let by = by(args, &chooser, mode)?;
    let job = Job { args, mode, chooser, by, hint: Mutex::new(None), left_out: Mutex::default() };
    let found = tree::files(&args.paths)?;
    let progress = Progress::new("looked at", found.len());
    let mut report = Report::default();
    for result in tree::parallel_writing(&found, |file| {
        let result = job.file(file);
        progress.tick();
        result
    }) {
        match result {
            Ok(None) => {}
            Ok(Some(file)) => report.files.push(file),
            Err(failure) => report.failed.push(*failure),
        }
    }
    drop(progress);
    let left_out = job.left_out.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(field) = args.leave_out.iter().find(|field| !left_out.contains(*field))
        && report.failed.is_empty()
    {
        output::warn(&format!("--leave-out {field}: no object has this field"));
    }
    if let Some(path) = report_file {
        let destination = files::destination(&path)?;
        files::write(&path, &destination, output::json_text(report.json(&job)).as_bytes())?;
    }
    report.tell(&job)
}

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Beside,
    Replace,
    Nothing,
}

fn mode(args: &MigrateArgs) -> Result<Mode> {
    match (args.dry_run, args.beside, args.replace) {
        (true, ..) => Ok(Mode::Nothing),
        (_, true, _) => Ok(Mode::Beside),
        (_, _, true) if args.prunes_last => Ok(Mode::Replace),
        (_, _, true) => Err(Failure::usage(
            "--replace takes Bitnami's objects out of Git with the commit that brings the native ones",
        )
        .help(
            "where what is gone is deleted before what is new is applied (Argo CD does so), the Secrets go in between: \
             --beside, and take the old files out when all Secrets are handed over",
        )
        .help("where what is gone is deleted when what is new is ready (Argo CD with PruneLast=true): --replace --prunes-last")),
        _ => Err(Failure::usage("where do the native objects go?")
            .help("--beside: twins next to the files, both are applied for a while")
            .help("--replace --prunes-last: in their place, where pruning comes last")
            .help("--dry-run: nowhere; shows what can be brought over")),
    }
}

/// The file of `json=FILE`.
fn report_file(given: &str) -> Result<PathBuf> {
    match given.split_once('=') {
        Some(("json", path)) if !path.is_empty() => Ok(path.into()),
        _ => Err(Failure::usage(format!("--report {given}: it is json=FILE"))),
    }
}

/// Who opens and seals.
enum By {
    /// With private keys.
    Keys(Held),
    /// The cluster.
    Cluster(Box<Live>),
    /// Nobody: what public text says is looked at.
    Nobody,
}

struct Live {
    cluster: Cluster,
    /// Its key, which proves what it answers.
    own: Recipient,
    /// Whom it seals for, where nothing else says it.
    targets: Option<Targets>,
}

fn by(args: &MigrateArgs, chooser: &Chooser<'_>, mode: Mode) -> Result<By> {
    if args.live {
        let first = args.paths.first().map_or(Path::new("."), PathBuf::as_path);
        let policy = chooser.policy(first)?;
        if let Some(named) = recipients::named(&args.recipients, policy.as_deref())? {
            let Some(own) = named.as_slice().first() else { return Ok(By::Nobody) };
            let own = own.recipient.clone();
            let cluster = connect_as_named(policy.as_deref(), Some(&own), &args.cluster)?;
            return Ok(By::Cluster(Box::new(Live { cluster, own, targets: None })));
        }
        if let Some(policy) = policy {
            let (cluster, own) = pinned_cluster(&policy, &args.cluster)?;
            let Some(own) = own.as_slice().first() else { return Ok(By::Nobody) };
            return Ok(By::Cluster(Box::new(Live { cluster, own: own.recipient.clone(), targets: None })));
        }
        let cluster = cluster::connect(&args.cluster)?;
        let published = cluster.published()?;
        let targets = recipients::targets(published.targets(), false)?;
        let Some(own) = targets.as_slice().first() else { return Ok(By::Nobody) };
        let own = own.recipient.clone();
        return Ok(By::Cluster(Box::new(Live { cluster, own, targets: Some(targets) })));
    }
    if args.identities.is_empty() {
        return match mode {
            Mode::Nothing => Ok(By::Nobody),
            _ => Err(Failure::usage("how are the old values opened?")
                .help("by the cluster, without anybody seeing them: --live")
                .help("with the controller's private keys: -i KEY, as PEM, as its Secret, or as a List of them")),
        };
    }
    let held = identities::resolve(&args.identities, false)?;
    if held.keys.is_empty() {
        let files: Vec<_> = held.files.iter().map(|(file, _)| file.as_str()).collect();
        return Err(Failure::new(format!("there is no private key of Bitnami's format in {}", files.join(", ")))
            .help("the controller's key, as PEM, as its Secret, or as a List of them"));
    }
    Ok(By::Keys(held))
}

struct Job<'a> {
    args: &'a MigrateArgs,
    mode: Mode,
    chooser: Chooser<'a>,
    by: By,
    /// The key that opened last.
    hint: Mutex<Option<KeyFingerprint>>,
    /// The fields of `--leave-out` that were there.
    left_out: Mutex<BTreeSet<String>>,
}

/// One file with objects of Bitnami's format.
struct File {
    file: String,
    /// Where the native objects are, or would be.
    twin: String,
    migrated: Vec<String>,
    /// Objects that have their twin.
    current: Vec<String>,
    left_out: BTreeSet<String>,
    remarks: BTreeMap<Remark, Vec<String>>,
    comments: usize,
    warnings: Vec<String>,
    names: String,
}

impl Job<'_> {
    fn file(&self, found: &tree::Found) -> Result<Option<File>> {
        let file = shown(&found.path);
        let original = Original::read(&found.path)?;
        if !tree::mentions(&original.bytes, bulla::bitnami::API_VERSION) {
            return Ok(None);
        }
        if !found.named
            && let Err(error) = Stream::read(&original.bytes)
            && error.kind == ManifestErrorKind::Template
        {
            return Err(failure::manifest(&file, None, &error).help(
                "a template of Helm's is not brought over: render it first, or write the native object by hand",
            ));
        }
        let mut stream = parse(&file, &original.bytes)?;
        let mut objects = all_bitnami(&file, &stream)?;
        if objects.is_empty() {
            return Ok(None);
        }
        let twin_path = match self.mode {
            Mode::Replace => found.path.clone(),
            _ if self.args.replace => found.path.clone(),
            _ => twin_of(&found.path),
        };
        let twin = Twin::read(&twin_path, self.mode != Mode::Replace && !self.args.replace)?;
        let mut told = File {
            file: file.clone(),
            twin: shown(&twin_path),
            migrated: Vec::new(),
            current: Vec::new(),
            left_out: BTreeSet::new(),
            remarks: BTreeMap::new(),
            comments: 0,
            warnings: Vec::new(),
            names: String::new(),
        };
        let mut failures = Vec::new();
        objects.retain_mut(|object| match self.stands(&file, &stream, object, &twin, &mut told) {
            Ok(go_on) => go_on,
            Err(failure) => {
                failures.push(*failure);
                false
            }
        });
        if let Some(failure) = failure::all(std::mem::take(&mut failures)) {
            return Err(failure);
        }
        if objects.is_empty() {
            return Ok(Some(told));
        }
        let targets = self.targets(&twin_path, &file)?;
        told.names = targets.names();
        let mut made = Vec::new();
        for object in &objects {
            match self.made(&file, &stream, object, &targets, &mut told) {
                Ok(sealed) => made.push((object.index, sealed)),
                Err(failure) => failures.push(*failure),
            }
        }
        if let Some(failure) = failure::all(failures) {
            return Err(failure);
        }
        told.migrated = objects.iter().map(Bitnami::called).collect();
        let trees: Vec<(usize, Tree)> = made
            .into_iter()
            .filter_map(|(index, sealed)| {
                let sealed = sealed?;
                let warnings = Made::Native(Box::new(sealed.clone())).near_limits();
                told.warnings.extend(warnings);
                Some((index, Tree::sealed(&sealed.into())))
            })
            .collect();
        match self.mode {
            Mode::Nothing => {}
            Mode::Beside => twin.write(&twin_path, &stream, trees.into_iter().map(|(_, tree)| tree).collect())?,
            Mode::Replace => {
                for (index, tree) in trees {
                    let applied = stream
                        .replace_object_keeping(index, tree, &renamed)
                        .map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
                    told.comments += applied.comments_dropped;
                }
                original.replace(&stream.into_bytes())?;
            }
        }
        Ok(Some(told))
    }

    /// Whether an object is to be migrated: what stands in the way is an error, and one that has its twin needs nothing.
    fn stands(&self, file: &str, stream: &Stream, object: &mut Bitnami, twin: &Twin, told: &mut File) -> Result<bool> {
        let fields = self.args.leave_out.iter().map(String::as_str);
        let mut gone = leave_out(&mut object.object, fields);
        let unread = |path: &String| self.args.leave_out.contains(path);
        gone.extend(object.view.other.iter().map(|(path, _)| path.clone()).filter(unread));
        let mut obstacles: Vec<Obstacle> = object
            .view
            .other
            .iter()
            .filter(|(path, _)| !gone.contains(path))
            .map(|(path, _)| Obstacle { field: path.clone(), why: Why::Unknown })
            .collect();
        told.left_out.extend(gone.iter().cloned());
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).extend(gone);
        let with_values = matches!(self.by, By::Keys(_));
        let translation = match translate(&object.object) {
            Ok(translation) => Some(translation),
            Err(TranslateError::Obstacles(more)) => {
                obstacles.extend(more);
                None
            }
            // What else it says shows only when it is opened.
            Err(TranslateError::Legacy) if with_values => None,
            Err(error) => return Err(self.refused(file, stream, object, &error)),
        };
        if !obstacles.is_empty() {
            return Err(self.refused(file, stream, object, &TranslateError::Obstacles(obstacles)));
        }
        let Some(there) = twin.objects.get(&object.called()) else { return Ok(true) };
        let same = match &translation {
            Some(translation) => {
                let wanted = &translation.shell;
                let m = |sealed: &SealedSecret| (sealed.metadata.labels.clone(), sealed.metadata.annotations.clone());
                m(wanted) == m(there)
                    && wanted.spec.scope.unwrap_or_default() == there.spec.scope.unwrap_or_default()
                    && wanted.spec.template == there.spec.template
                    && object.object.spec.encrypted_data.keys().eq(there.spec.items.keys())
            }
            // Only its owner knows what is in it.
            None => true,
        };
        if same {
            told.current.push(object.called());
            return Ok(false);
        }
        Err(Failure::new(format!("{} is in {} already, and says something else than here", object.called(), told.twin))
            .at(file, Some(stream.text()), object.view.places.object)
            .help(format!("if the twin is old: take it out of {}, and run this again", told.twin))
            .help("if it is the newer one: take the Bitnami object out"))
    }

    fn targets(&self, path: &Path, file: &str) -> Result<Targets> {
        if let By::Cluster(live) = &self.by
            && let Some(targets) = &live.targets
        {
            return Ok(targets.clone());
        }
        let chosen = self.chooser.choose_any(Some(path), &shown(path), &format!("bulla migrate {file}"))?;
        match chosen.targets {
            Key::Native(targets) => Ok(targets),
            Key::Bitnami(rsa) => Err(Failure::new(format!(
                "{} is to be native, and {} is a certificate, which seals Bitnami's format",
                shown(path),
                rsa.shown()
            ))
            .in_file(file)
            .help("let a rule of .bulla.yaml that names age recipients match it first, or name them: -r NAME")),
        }
    }

    /// The native object; `None` where nobody opens anything.
    fn made(
        &self,
        file: &str,
        stream: &Stream,
        object: &Bitnami,
        targets: &Targets,
        told: &mut File,
    ) -> Result<Option<SealedSecret>> {
        let place = object.called();
        let (sealed, remarks) =
            match &self.by {
                By::Nobody => {
                    let remarks = translate(&object.object).map(|translation| translation.remarks).unwrap_or_default();
                    (None, remarks)
                }
                By::Keys(held) => {
                    let hint = *self.hint.lock().unwrap_or_else(PoisonError::into_inner);
                    let Migrated { sealed, remarks, key } =
                        migrate_with_values(&object.object, &held.all_keys(), hint, targets).map_err(|error| {
                            match error {
                        MigrateError::Open(error) => object.open(file, stream, &held.files, &error),
                        MigrateError::Translate(error) => self.refused(file, stream, object, &error),
                        MigrateError::Renders(ref key) => Failure::new(format!("{place}: {error}"))
                            .at(file, Some(stream.text()), object.field(&format!("spec.template.data.{key}")))
                            .help("a template that asks for an item that is not there, or is not UTF-8, fails there"),
                        MigrateError::Seal(error) => {
                            failure::seal(&place, &error).at(file, Some(stream.text()), object.view.places.object)
                        }
                        error => Failure::new(format!("{place}: {error}"))
                            .at(file, Some(stream.text()), object.view.places.object),
                    }
                        })?;
                    *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = key;
                    (Some(sealed), remarks)
                }
                By::Cluster(_) if self.mode == Mode::Nothing => {
                    let remarks = translate(&object.object).map(|translation| translation.remarks).unwrap_or_default();
                    (None, remarks)
                }
                By::Cluster(live) => {
                    let sealed = live.cluster.migrate(&object.object, &live.own, targets.as_slice()).map_err(
                        |mut failure| {
                            failure.message = format!("{place}: {}", failure.message);
                            failure.in_file(file)
                        },
                    )?;
                    let remarks = translate(&object.object).map(|translation| translation.remarks).unwrap_or_default();
                    (Some(sealed), remarks)
                }
            };
        for remark in remarks {
            told.remarks.entry(remark).or_default().push(place.clone());
        }
        Ok(sealed)
    }

    fn refused(&self, file: &str, stream: &Stream, object: &Bitnami, error: &TranslateError) -> Box<Failure> {
        let text = Some(stream.text());
        let place = object.called();
        match error {
            TranslateError::Obstacles(obstacles) => {
                let one = |obstacle: &Obstacle| {
                    let failure = Failure::new(format!("{place}: {} {}", obstacle.field, obstacle.why)).at(
                        file,
                        text,
                        object.field(&obstacle.field),
                    );
                    *match obstacle.why {
                        Why::ItemAndTemplate => failure
                            .help("give the item another name, and use it in the template: the Secret stays the same"),
                        Why::Template => failure.help("docs/templates.md lists what templates may use"),
                        Why::SealingKey => failure.help("such a Secret is made by hand, never from Git"),
                        _ => failure.help(format!("take it out; or leave it behind: --leave-out {}", obstacle.field)),
                    }
                };
                failure::all(obstacles.iter().map(one).collect()).unwrap_or_else(|| Failure::new("nothing is wrong"))
            }
            TranslateError::Broken(error) => object.open(file, stream, &[], error),
            TranslateError::Legacy => Failure::new(format!("{place}: {error}"))
                .at(file, text, object.view.data.unwrap_or(object.view.places.object))
                .help("it is brought over with the private key: -i KEY"),
            TranslateError::Place(error) => {
                Failure::new(format!("{place}: {error}")).at(file, text, object.view.places.object)
            }
        }
    }
}

/// What of an object stands where in the native one.
fn renamed(path: &[String]) -> Vec<String> {
    let mut path = path.to_vec();
    if path.len() > 1 && path[0] == "spec" && path[1] == "encryptedData" {
        path[1] = "items".to_owned();
    }
    path
}

/// `x.bulla.yaml` for `x.yaml`.
fn twin_of(path: &Path) -> PathBuf {
    let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned());
    path.with_extension(format!("bulla.{}", extension.as_deref().unwrap_or("yaml")))
}

/// The file next to one, and what is native in it.
struct Twin {
    destination: Option<Destination>,
    objects: BTreeMap<String, SealedSecret>,
}

impl Twin {
    fn read(path: &Path, beside: bool) -> Result<Self> {
        if !beside {
            return Ok(Self { destination: None, objects: BTreeMap::new() });
        }
        let destination = files::destination(path)?;
        let mut objects = BTreeMap::new();
        match &destination {
            Destination::New => {}
            Destination::There(original) => {
                let file = shown(path);
                let stream = parse(&file, &original.bytes)?;
                for sealed in all_sealed(&file, &stream)? {
                    objects.insert(sealed.called(), sealed.object);
                }
            }
            Destination::Special => return Err(Failure::new(format!("{} is no regular file", shown(path)))),
        }
        Ok(Self { destination: Some(destination), objects })
    }

    /// Writes the objects there, after those that are there.
    fn write(&self, path: &Path, source: &Stream, trees: Vec<Tree>) -> Result<()> {
        let as_json = source.is_flow();
        let mut text = if as_json { json(&trees) } else { yaml(&trees) };
        let bytes = match &self.destination {
            Some(Destination::There(original)) => {
                let file = shown(path);
                if as_json || parse(&file, &original.bytes)?.is_flow() {
                    return Err(Failure::new(format!("{file} is there, and is JSON: nothing is added to it"))
                        .in_file(&file)
                        .help("take it away, and run this again"));
                }
                let mut bytes = Zeroizing::new(original.bytes.to_vec());
                if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                    bytes.push(b'\n');
                }
                if !self.objects.is_empty() {
                    bytes.extend_from_slice(b"---\n");
                }
                bytes.extend_from_slice(text.as_bytes());
                bytes
            }
            _ => Zeroizing::new(std::mem::take(&mut *text).into_bytes()),
        };
        match &self.destination {
            Some(destination) => files::write(path, destination, &bytes),
            None => Ok(()),
        }
    }
}

#[derive(Default)]
struct Report {
    files: Vec<File>,
    failed: Vec<Failure>,
}

impl Report {
    fn tell(&self, job: &Job<'_>) -> Result<Done> {
        self.failed.iter().for_each(output::failure);
        let migrated: Vec<&File> = self.files.iter().filter(|file| !file.migrated.is_empty()).collect();
        let objects: usize = migrated.iter().map(|file| file.migrated.len()).sum();
        let current: usize = self.files.iter().map(|file| file.current.len()).sum();
        if job.args.output == ReportFormat::Json {
            output::document(self.json(job))?;
        } else if job.mode == Mode::Nothing {
            let line = |file: &&File| format!("{}: {}\n", file.file, file.migrated.join(", "));
            output::data(migrated.iter().map(line).collect::<String>().as_bytes())?;
        }
        if self.files.is_empty() && self.failed.is_empty() {
            let paths: Vec<_> = job.args.paths.iter().map(|path| shown(path)).collect();
            output::say(&format!("nothing to migrate: no SealedSecret of Bitnami's format in {}", paths.join(", ")));
            return Ok(Done::Well);
        }
        let names: BTreeSet<&str> = migrated.iter().map(|file| file.names.as_str()).collect();
        let names = names.into_iter().collect::<Vec<_>>().join("; ");
        let did = match job.mode {
            Mode::Nothing => "would migrate",
            _ => "migrated",
        };
        let mut text = format!("{did} {} in {}", count(objects, "SealedSecret"), count(migrated.len(), "file"));
        if !names.is_empty() {
            text.push_str(&format!(" for {names}"));
        }
        text.push_str(&format!("; {current} had a twin; {} failed", count(self.failed.len(), "file")));
        output::say(&text);
        let left: BTreeSet<&String> = self.files.iter().flat_map(|file| &file.left_out).collect();
        if !left.is_empty() {
            output::note(&format!("left out: {}", left.into_iter().cloned().collect::<Vec<_>>().join(", ")));
        }
        let mut remarks: BTreeMap<Remark, Vec<&str>> = BTreeMap::new();
        for (remark, places) in self.files.iter().flat_map(|file| &file.remarks) {
            remarks.entry(*remark).or_default().extend(places.iter().map(String::as_str));
        }
        for (remark, places) in remarks {
            let more = places.len().saturating_sub(3);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let places: Vec<_> = places.into_iter().take(3).collect();
            output::note(&format!("{}{more}: {remark}", places.join(", ")));
        }
        let comments: usize = self.files.iter().map(|file| file.comments).sum();
        if comments > 0 {
            output::note(&format!("{} could not be kept", count(comments, "comment")));
        }
        self.files.iter().flat_map(|file| &file.warnings).for_each(|warning| output::warn(warning));
        if job.mode == Mode::Beside && !migrated.is_empty() {
            output::note(
                "apply both for a while: a kustomization names each file, so add the twins to it; a value that changes until \
                 the old files go is set in the twin",
            );
        }
        Ok(if self.failed.is_empty() { Done::Well } else { Done::Failed })
    }

    fn json(&self, job: &Job<'_>) -> serde_json::Value {
        let state = if job.mode == Mode::Nothing { "would-migrate" } else { "migrated" };
        let files: Vec<_> = self
            .files
            .iter()
            .map(|file| {
                let remarks: Vec<_> = file
                    .remarks
                    .iter()
                    .map(|(remark, places)| json!({ "remark": remark.to_string(), "objects": places }))
                    .collect();
                json!({
                    "file": file.file,
                    "target": file.twin,
                    "state": if file.migrated.is_empty() { "current" } else { state },
                    "objects": file.migrated,
                    "current": file.current,
                    "leftOut": file.left_out,
                    "remarks": remarks,
                })
            })
            .collect();
        json!({
            "files": files,
            "failed": self.failed.len(),
            "errors": self.failed.iter().flat_map(Failure::json).collect::<Vec<_>>(),
        })
    }
}
