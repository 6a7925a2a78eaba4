//! `bulla reseal`
//!
//! Files are looked at in chunks, so that a large tree does not stand in memory: what each needs, then (through the cluster)
//! one question for the whole chunk, then the files are written, each by itself.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bulla::envelope::Envelope;
use bulla::manifest::{Edit, EnvelopeMap, Stream};
use bulla::open::{Strictness, inspect};
use bulla::recipient::{NameSource, Recipient, Target, Targets};
use bulla::reseal::AnswerRefused;
use bulla::resource::{Envelopes, SealedSecret};
use bulla::rewrap::{LineChange, Need, RewrapError, Succession, apply, needs};
use serde_json::{Value, json};

use super::Done;
use crate::cli::{ClusterArgs, ReportFormat, ResealArgs};
use crate::cluster::{self, Answer, Cluster};
use crate::failure::{self, Exit, Failure, InFile, Result, named, shown};
use crate::files::{self, Original};
use crate::model::{Sealed, all_sealed, called, edits, fresh_edits, parse};
use crate::output::plain::{count, near_limits};
use crate::output::progress::Progress;
use crate::policy::{Date, OldPin, Pin, Pinned, Policy};
use crate::recipients::{self, Chooser, Held};
use crate::{identities, output, tree};

mod bitnami;
mod uses;

pub use uses::Keys;
use uses::report_file;

/// Files in memory at once.
const CHUNK: usize = 256;

pub fn run(args: &ResealArgs) -> Result<Done> {
    if let Some(path) = args.paths.iter().find(|path| files::is_stdin(path)) {
        return Err(Failure::usage(format!("reseal {}: it changes files; standard input is none", path.display())));
    }
    let report = args.report.iter().map(|text| report_file(text)).collect::<Result<Vec<_>>>()?;
    match bitnami::run(args)? {
        None => native(args, &report, None),
        Some(outcome) if outcome.native_too => Ok(outcome.done.or(native(args, &report, Some(outcome.told))?)),
        Some(outcome) => {
            write_reports(&report, &outcome.told)?;
            Ok(outcome.done)
        }
    }
}

/// Writes what `-o json` prints into the files of `--report`.
fn write_reports(report: &[PathBuf], told: &Value) -> Result<()> {
    for path in report {
        let text = output::json_text(told.clone());
        if files::is_stdin(path) {
            output::data(text.as_bytes())?;
        } else {
            files::write(path, &files::destination(path)?, text.as_bytes())?;
        }
    }
    Ok(())
}

/// The files of the native format. `beside` is what was told of those of Bitnami's in the same tree.
fn native(args: &ResealArgs, report: &[PathBuf], beside: Option<Value>) -> Result<Done> {
    let keys = || Keys::wanted(!report.is_empty() || args.output == ReportFormat::Json);
    let chooser = Chooser::new(&args.recipients, &args.cluster);
    let policy = match args.paths.first() {
        Some(path) if !chooser.is_named() => chooser.policy(path)?,
        _ => None,
    };
    let old_pins = policy.as_ref().map_or_else(Vec::new, |policy| policy.old_pins(Date::today()));
    if let Some(policy) = &policy {
        confirm(policy, args)?;
    } else if !args.add_recipient.is_empty() {
        return Err(Failure::usage(
            "--add-recipient names a recipient of .bulla.yaml, and is for files that go by its rules",
        ));
    }
    let finish = |job: &Job<'_>| -> Result<Done> {
        let done = job.run(&args.paths)?;
        let mut document = done.json(job);
        if let (Some(beside), Some(members)) = (&beside, document.as_object_mut()) {
            members.insert("bitnami".to_owned(), beside.clone());
        }
        if let (false, Some(members)) = (old_pins.is_empty(), document.as_object_mut()) {
            let old = |old: &OldPin<'_>| json!({ "name": old.recipient.name.value, "ageInDays": old.age });
            members.insert("oldPins".to_owned(), old_pins.iter().map(old).collect());
        }
        write_reports(report, &document)?;
        if args.output == ReportFormat::Json {
            output::document(document)?;
        }
        let told = done.tell(job, args.output)?;
        // Files that are current for an old key are stale all the same; which key comes next is not for this command to say.
        for old in &old_pins {
            output::warn(&format!("{}: {}", old.message(), OldPin::HELP));
        }
        let stale = job.mode == Mode::Check && !old_pins.is_empty();
        Ok(told.or(if stale { Done::Findings } else { Done::Well }))
    };
    let rules = |live| policy.as_ref().map(|_| Rules::new(&chooser, &args.add_recipient, live));
    if args.live {
        if let Some(policy) = &policy {
            let (cluster, targets) = pinned_cluster(policy, &args.cluster)?;
            let by = By::Cluster(&cluster);
            // Sealing afresh the cluster seals for all whom it has configured.
            let rules = rules(!args.fresh);
            return finish(&Job {
                targets: &targets,
                rules,
                by,
                mode: Mode::of(args),
                fresh: args.fresh,
                keys: keys(),
            });
        }
        // Without one that is named there is no policy, or it would have been gone by.
        let policy = args.paths.first().map(|path| chooser.policy(path)).transpose()?.flatten();
        let named = recipients::named(&args.recipients, policy.as_deref())?;
        let own = named.as_ref().and_then(|targets| targets.as_slice().first());
        let cluster = connect_as_named(policy.as_deref(), own.map(|own| &own.recipient), &args.cluster)?;
        if args.fresh {
            let targets = match named {
                Some(targets) => targets,
                None => recipients::targets(cluster.published()?.targets(), false)?,
            };
            let by = By::Cluster(&cluster);
            return finish(&Job {
                targets: &targets,
                rules: None,
                by,
                mode: Mode::of(args),
                fresh: true,
                keys: keys(),
            });
        }
        // Of a file that `bulla recipients` wrote, the first is the cluster's own.
        let targets = match named {
            Some(targets) => one(targets.as_slice().first())?,
            None => preferred(&cluster)?,
        };
        let (by, mode) = (By::Cluster(&cluster), Mode::of(args));
        return finish(&Job { targets: &targets, rules: None, by, mode, fresh: false, keys: keys() });
    }
    if args.identities.is_empty() && !args.check && !args.dry_run {
        return Err(Failure::usage("how are the old envelopes opened?")
            .help("by the cluster: bulla reseal PATH --live")
            .help(match policy {
                Some(_) => "by an identity: bulla reseal PATH -i OLD",
                None => "by an identity: bulla reseal PATH -i OLD -R NEW.pub",
            }));
    }
    let held = if args.identities.is_empty() { Held::none() } else { identities::resolve(&args.identities, false)? };
    let targets = match &policy {
        Some(policy) => all_pins(policy)?,
        None => {
            let what = args.paths.first().map(|path| shown(path)).unwrap_or_default();
            let command = format!("bulla reseal {what} -i OLD");
            chooser.choose(args.paths.first().map(PathBuf::as_path), &what, &command)?.targets
        }
    };
    let by = By::Identities(&held);
    let (rules, mode) = (rules(false), Mode::of(args));
    finish(&Job { targets: &targets, rules, by, mode, fresh: args.fresh, keys: keys() })
}

/// Everybody whom a policy names: whom files are wrapped for says each file's rule.
fn all_pins(policy: &Policy) -> Result<Targets> {
    let pins = policy.pins()?.into_iter();
    recipients::targets(pins.map(|pin| (pin.listed.recipient, NameSource::Policy(pin.name))).collect(), true)
}

/// Shows who is to become a reader, and asks where somebody can answer.
fn confirm(policy: &Policy, args: &ResealArgs) -> Result<()> {
    for name in &args.add_recipient {
        let pinned = policy.recipient(name).ok_or_else(|| {
            let names: Vec<_> = policy.recipients.iter().map(|pinned| pinned.name.value.as_str()).collect();
            Failure::usage(format!("--add-recipient {name}: {} has no recipient of this name", policy.file))
                .help(format!("it has {}", names.join(", ")))
        })?;
        let pin = policy.pin(pinned)?;
        output::say(&format!(
            "adding {} {} where its rule says so: whoever holds this key reads what is resealed",
            named(name, &pin.listed.recipient.fingerprint().to_string()),
            pin.listed.recipient.kind()
        ));
    }
    if args.add_recipient.is_empty() || args.yes || args.check || args.dry_run || !output::on_terminal() {
        return Ok(());
    }
    output::ask("go on? [y/N] ")
        .then_some(())
        .ok_or_else(|| Failure::new("nothing was written").help("--yes answers beforehand"))
}

/// The cluster of a policy, and the one of its pins that it seals for.
pub fn pinned_cluster(policy: &Policy, args: &ClusterArgs) -> Result<(Cluster, Targets)> {
    let target = |pin: Pin| recipients::targets(vec![(pin.listed.recipient, NameSource::Policy(pin.name))], true);
    let named = policy.of_cluster(args);
    if let (Some(pinned), Some(_)) = (named, &args.controller_url) {
        return Ok((cluster::connect_for_rewrap(args, true)?, target(policy.pin(pinned)?)?));
    }
    let cluster = connect_to(named, args)?;
    let published = cluster.published()?;
    let preferred = published.preferred().map(|listed| listed.recipient.clone());
    for pin in policy.pins()? {
        if Some(&pin.listed.recipient) == preferred.as_ref() {
            return Ok((cluster, target(pin)?));
        }
    }
    let fingerprint = preferred.map(|recipient| recipient.fingerprint().to_string()).unwrap_or_default();
    Err(Failure::new(format!(
        "{} seals for {fingerprint}, which is no recipient of {}: nothing was written",
        cluster.context, policy.file
    ))
    .help("bulla recipients update"))
}

/// The cluster whose key is named on the command line: where the policy pins it, by what is said of it there.
pub fn connect_as_named(policy: Option<&Policy>, own: Option<&Recipient>, args: &ClusterArgs) -> Result<Cluster> {
    let (Some(policy), Some(own), None) = (policy, own, &args.controller_url) else {
        return cluster::connect_for_rewrap(args, own.is_some());
    };
    let name = policy.pins()?.into_iter().find(|pin| pin.listed.recipient == *own).map(|pin| pin.name);
    connect_to(name.as_deref().and_then(|name| policy.recipient(name)), args)
}

/// The cluster that the flags name; else that of a pin, where the kubeconfig knows it; else the current one.
pub fn connect_to(pinned: Option<&Pinned>, args: &ClusterArgs) -> Result<Cluster> {
    let Some(pinned) = pinned else { return cluster::connect(args) };
    let at = pinned.reach(args);
    match cluster::connect(&at) {
        Err(failure) if failure.exit == Exit::Missing && args.context.is_none() && at.context.is_some() => {
            cluster::connect(&ClusterArgs { context: None, ..at })
        }
        connected => connected,
    }
}

/// The cluster's preferred recipient, as its controller publishes it.
pub fn preferred(cluster: &Cluster) -> Result<Targets> {
    let published = cluster.published()?;
    let given = published.preferred().map(|listed| {
        let name = listed.name.clone().map_or(NameSource::None, NameSource::Comment);
        (listed.recipient.clone(), name)
    });
    recipients::targets(given.into_iter().collect(), false)
}

/// The set of one recipient, under the name that it has.
fn one(target: Option<&Target>) -> Result<Targets> {
    let given = target.map(|target| {
        let fingerprint = target.recipient.fingerprint().to_string();
        let source =
            if target.name == fingerprint { NameSource::None } else { NameSource::Comment(target.name.clone()) };
        (target.recipient.clone(), source)
    });
    recipients::targets(given.into_iter().collect(), true)
}

/// What is done with what needs it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Write,
    DryRun,
    Check,
}

impl Mode {
    const fn of(args: &ResealArgs) -> Self {
        match (args.check, args.dry_run) {
            (true, _) => Self::Check,
            (_, true) => Self::DryRun,
            _ => Self::Write,
        }
    }
}

/// Who opens the old envelopes.
pub enum By<'a> {
    Identities(&'a Held),
    Cluster(&'a Cluster),
}

/// Each file goes by its own rule, and a line gives way only to its namesake.
pub struct Rules<'a> {
    chooser: &'a Chooser<'a>,
    /// Who may become a reader.
    add: &'a [String],
    /// Whether a cluster wraps, which does it for its own key alone.
    live: bool,
    /// Who was left out therefore.
    left: Mutex<BTreeSet<String>>,
}

impl<'a> Rules<'a> {
    pub fn new(chooser: &'a Chooser<'a>, add: &'a [String], live: bool) -> Self {
        Self { chooser, add, live, left: Mutex::default() }
    }

    /// The lines that an object lacks for these targets, as far as they may and can be made.
    fn needs(
        &self,
        object: &SealedSecret,
        targets: &Targets,
        own: &Targets,
    ) -> std::result::Result<Vec<Need>, RewrapError> {
        let mut wanted = needs(object, targets, Succession::ByName { add: true })?;
        if self.live {
            wanted.retain(|need| {
                let is_own = own.as_slice().iter().any(|target| target.recipient == need.target.recipient);
                if !is_own {
                    self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(need.target.name.clone());
                }
                is_own
            });
        }
        match wanted.iter().find(|need| need.replaces.is_none() && !self.add.contains(&need.target.name)) {
            Some(need) => Err(RewrapError::NewReader(need.target.name.clone())),
            None => Ok(wanted),
        }
    }
}

pub struct Job<'a> {
    /// Whom it is for; with rules, of whom it is at most.
    pub targets: &'a Targets,
    pub rules: Option<Rules<'a>>,
    pub by: By<'a>,
    pub mode: Mode,
    pub fresh: bool,
    /// What is told of them.
    pub keys: Keys,
}

/// A file that needs something.
struct Work {
    file: String,
    original: Original,
    stream: Stream,
    sealed: Vec<(Sealed, Vec<Need>)>,
    /// The others.
    current: Vec<SealedSecret>,
    /// Of the file's rule.
    targets: Option<Targets>,
}

enum Looked {
    /// Nothing sealed in it.
    Nothing,
    Current,
    Needs(Box<Work>),
    Failed(Box<Failure>),
}

/// What was done to one file.
struct Written {
    file: String,
    envelopes: usize,
    replaced: BTreeSet<String>,
    warnings: Vec<String>,
}

#[derive(Default)]
pub struct Report {
    resealed: Vec<Written>,
    current: usize,
    failed: Vec<Failure>,
    /// Whether any file had a SealedSecret.
    any: bool,
}

impl Job<'_> {
    pub fn run(&self, paths: &[PathBuf]) -> Result<Report> {
        let found = tree::files(paths)?;
        let mut report = Report::default();
        let progress = Progress::new("looked at", found.len());
        for chunk in found.chunks(CHUNK) {
            let mut works = Vec::new();
            for looked in tree::parallel(chunk, |file| {
                let looked = self.look(file);
                progress.tick();
                looked
            }) {
                report.any |= !matches!(looked, Looked::Nothing);
                match looked {
                    Looked::Nothing => {}
                    Looked::Current => report.current += 1,
                    Looked::Needs(work) => works.push(*work),
                    Looked::Failed(failure) => report.failed.push(*failure),
                }
            }
            self.chunk(works, &mut report)?;
        }
        if !report.any {
            let paths: Vec<_> = paths.iter().map(|path| shown(path)).collect();
            return Err(Failure::new(format!("there is no SealedSecret in {}", paths.join(", "))));
        }
        Ok(report)
    }

    fn look(&self, found: &tree::Found) -> Looked {
        match self.try_look(found) {
            Ok(looked) => looked,
            Err(failure) => Looked::Failed(failure),
        }
    }

    fn try_look(&self, found: &tree::Found) -> Result<Looked> {
        let file = shown(&found.path);
        let original = Original::read(&found.path)?;
        if !tree::mentions(&original.bytes, bulla::resource::API_VERSION) {
            return Ok(Looked::Nothing);
        }
        let stream = parse(&file, &original.bytes)?;
        let sealed = all_sealed(&file, &stream)?;
        if sealed.is_empty() {
            return Ok(Looked::Nothing);
        }
        self.keys.note(&file, sealed.iter().map(|one| &one.object));
        let targets = match &self.rules {
            Some(rules) => {
                let command = format!("bulla reseal {file} -i OLD");
                Some(rules.chooser.choose(Some(&found.path), &file, &command)?.targets)
            }
            None => None,
        };
        let (mut needing, mut current) = (Vec::new(), Vec::new());
        for one in sealed {
            let what = match (&self.rules, &targets) {
                // Also of what is sealed afresh: nobody becomes a reader unseen.
                (Some(rules), Some(targets)) => rules
                    .needs(&one.object, targets, self.targets)
                    .map_err(|error| self.told(&file, &stream, &one, &error))?,
                _ if self.fresh => Vec::new(),
                _ => self.needs(&file, &stream, &one)?,
            };
            if (self.fresh && !one.object.spec.items.is_empty()) || !what.is_empty() {
                needing.push((one, what));
            } else {
                current.push(one.object);
            }
        }
        if needing.is_empty() {
            return Ok(Looked::Current);
        }
        Ok(Looked::Needs(Box::new(Work { file, original, stream, sealed: needing, current, targets })))
    }

    /// The lines that an object lacks. Recipients that all its data keys are wrapped for stay; one other at most takes the
    /// place of the line that is opened.
    fn needs(&self, file: &str, stream: &Stream, sealed: &Sealed) -> Result<Vec<Need>> {
        let fail = |error| sealed.in_file(file, stream).rewrap(&sealed.called(), self.held(), &error);
        let inspected =
            inspect(&sealed.object, Strictness::Writer).map_err(|problems| fail(RewrapError::Broken(problems)))?;
        let has = |lines: &Envelopes, target: &Target| {
            let own = target.recipient.fingerprint();
            lines.values().any(|text| text.parse::<Envelope>().is_ok_and(|envelope| envelope.fingerprint() == own))
        };
        let targets = self.targets.as_slice();
        let mut lacking = targets.iter().filter(|target| inspected.used_maps().any(|map| !has(map.lines, target)));
        let Some(target) = lacking.next() else { return Ok(Vec::new()) };
        if let Some(second) = lacking.next() {
            return Err(Failure::usage(format!(
                "{} is sealed neither for {} nor for {}: which of them takes the place of the line that is opened?",
                sealed.called(),
                target_name(target),
                target_name(second)
            ))
            .in_file(file)
            .help("name one with -R, and then the other"));
        }
        needs(&sealed.object, &one(Some(target))?, Succession::ReplaceOpened).map_err(fail)
    }

    fn told(&self, file: &str, stream: &Stream, sealed: &Sealed, error: &RewrapError) -> Box<Failure> {
        match error {
            RewrapError::NewReader(name) => Failure::new(format!(
                "nothing in {} is sealed for {name} yet, and nobody becomes a reader unseen",
                sealed.called()
            ))
            .in_file(file)
            .help(format!("if it is meant: --add-recipient {name}")),
            error => {
                let in_file = sealed.in_file(file, stream).by_rule(self.rules.is_some());
                in_file.rewrap(&sealed.called(), self.held(), error)
            }
        }
    }

    /// Somebody who is to stay does not lose the line by which the data key was opened.
    fn refuse_loss(&self, file: &str, replaced: Option<&str>) -> Result<()> {
        let stays = self
            .targets
            .as_slice()
            .iter()
            .find(|target| replaced.is_some_and(|replaced| target.recipient.fingerprint().to_string() == replaced));
        match stays {
            None => Ok(()),
            Some(target) => Err(Failure::new(format!(
                "the line of {} would be replaced, who is among the recipients given",
                target_name(target)
            ))
            .in_file(file)
            .help("open the line that is to be replaced: -i OLD, or --live")),
        }
    }

    fn held(&self) -> &[(String, Vec<String>)] {
        match &self.by {
            By::Identities(held) => &held.files,
            By::Cluster(_) => &[],
        }
    }

    fn chunk(&self, works: Vec<Work>, report: &mut Report) -> Result<()> {
        if self.mode != Mode::Write {
            report.resealed.extend(works.into_iter().map(|work| {
                Written {
                    envelopes: work
                        .sealed
                        .iter()
                        .map(|(one, needs)| if self.fresh { one.object.spec.items.len() } else { needs.len() })
                        .sum(),
                    file: work.file,
                    replaced: BTreeSet::new(),
                    warnings: Vec::new(),
                }
            }));
            return Ok(());
        }
        let answers = match &self.by {
            By::Cluster(cluster) if !self.fresh => self.ask(cluster, &works)?,
            _ => HashMap::new(),
        };
        // Each is taken apart by the thread that works on it.
        let works: Vec<_> = works.into_iter().map(|work| Mutex::new(Some(work))).collect();
        let done = tree::parallel_writing(&works, |work| {
            let taken = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            taken.map(|work| self.write(work, &answers))
        });
        for result in done.into_iter().flatten() {
            match result {
                Ok(written) => report.resealed.push(written),
                Err(failure) => report.failed.push(*failure),
            }
        }
        Ok(())
    }

    /// Asks the cluster for all lines of a chunk at once.
    fn ask(&self, cluster: &Cluster, works: &[Work]) -> Result<HashMap<String, Answer>> {
        let Some(expected) = self.recipient() else { return Ok(HashMap::new()) };
        let mut envelopes: Vec<Envelope> = Vec::new();
        let mut seen = BTreeSet::new();
        let needs = works.iter().flat_map(|work| &work.sealed).flat_map(|(_, needs)| needs);
        for (_, text) in needs.flat_map(|need| &need.sources) {
            if let Ok(envelope) = text.parse::<Envelope>()
                && seen.insert(text.as_str())
            {
                envelopes.push(envelope);
            }
        }
        cluster.rewrap(&envelopes, expected)
    }

    fn recipient(&self) -> Option<&Recipient> {
        self.targets.as_slice().first().map(|target| &target.recipient)
    }

    /// Has the cluster seal an object afresh, and checks what came back. Without a rule nobody becomes a reader; by a rule it
    /// was looked at before who may.
    fn afresh(
        &self,
        cluster: &Cluster,
        file: &InFile<'_>,
        object: &SealedSecret,
        by_rule: Option<&Targets>,
    ) -> Result<SealedSecret> {
        let place = called(object.metadata.namespace.as_deref(), object.metadata.name.as_deref());
        let inspected = inspect(object, Strictness::Reader).map_err(|problems| file.problems(&problems))?;
        let reads = |target: &Target| {
            let own = target.recipient.fingerprint();
            let line = |text: &String| text.parse::<Envelope>().is_ok_and(|line| line.fingerprint() == own);
            inspected.used_maps().all(|map| map.lines.values().any(line))
        };
        let Some(pin) = self.recipient() else { return Err(Failure::new("there is no recipient")) };
        let targets = by_rule.unwrap_or(self.targets).as_slice();
        let (mut everywhere, mut add) = (vec![pin.fingerprint()], Vec::new());
        for target in targets.iter().filter(|target| target.recipient != *pin) {
            if !reads(target) {
                if by_rule.is_none() {
                    continue;
                }
                add.push(target.name.clone());
            }
            everywhere.push(target.recipient.fingerprint());
        }
        let fresh = cluster.reseal(object, &add, pin).map_err(|mut failure| {
            failure.message = format!("{place}: {}", failure.message);
            failure.in_file(file.file)
        })?;
        bulla::reseal::check(object, &fresh, targets, &everywhere).map_err(|refused| {
            let failure = Failure::new(format!("{place}: the answer of {} is refused: {refused}", cluster.context));
            let failure = failure.in_file(file.file);
            match refused {
                AnswerRefused::Reader(_) => failure.help("name all who are to read the file, with -R or by its rule"),
                _ => failure,
            }
        })?;
        Ok(fresh)
    }

    fn write(&self, work: Work, answers: &HashMap<String, Answer>) -> Result<Written> {
        let Work { file, original, mut stream, sealed, current, targets } = work;
        let mut all_edits: Vec<(usize, Edit)> = Vec::new();
        let mut written = Written { file: file.clone(), envelopes: 0, replaced: BTreeSet::new(), warnings: Vec::new() };
        let mut after = current;
        for (one, needs) in &sealed {
            let place = one.called();
            let in_file = one.in_file(&file, &stream).by_rule(self.rules.is_some());
            let mut object = one.object.clone();
            if let (true, By::Cluster(cluster)) = (self.fresh, &self.by) {
                object = self.afresh(cluster, &in_file, &one.object, targets.as_ref())?;
                all_edits.extend(fresh_edits(one.index, &one.object, &object));
                written.envelopes += object.spec.envelopes.len();
            } else if let (true, By::Identities(held)) = (self.fresh, &self.by) {
                let succession = match (&targets, self.targets.as_slice()) {
                    (None, [_]) => Succession::ReplaceOpened,
                    _ => Succession::ByName { add: false },
                };
                let whom = targets.as_ref().unwrap_or(self.targets);
                object = bulla::rewrap::reseal(&object, &held.all(), whom, succession)
                    .map_err(|error| in_file.rewrap(&place, &held.files, &error))?;
                all_edits.extend(fresh_edits(one.index, &one.object, &object));
                written.envelopes += object.spec.envelopes.len();
            } else {
                for need in needs {
                    let change = match &self.by {
                        By::Identities(held) => need
                            .fulfil(&held.all(), |_| false)
                            .map_err(|error| in_file.rewrap(&place, &held.files, &error))?,
                        By::Cluster(cluster) => answered(&in_file, &place, cluster, need, answers)?,
                    };
                    let replaced = replaced(need, &change);
                    if targets.is_none() {
                        self.refuse_loss(&file, replaced.as_deref())?;
                    }
                    written.replaced.extend(replaced);
                    all_edits.extend(edits(one.index, &change));
                    apply(&mut object, &change);
                    written.envelopes += 1;
                }
                // Lines that no item refers to any more go (format.md, rule 10).
                let used = object.spec.items.values().any(|item| item.envelopes.is_none());
                if !used {
                    all_edits.extend(object.spec.envelopes.keys().map(|name| {
                        (one.index, Edit::RemoveEnvelope { map: EnvelopeMap::Common, name: name.clone() })
                    }));
                    object.spec.envelopes.clear();
                }
            }
            inspect(&object, Strictness::Writer).map_err(|problems| in_file.problems(&problems))?;
            written.warnings.extend(near_limits(&place, &object));
            after.push(object);
        }
        stream.apply(&all_edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
        original.replace(&stream.into_bytes())?;
        self.keys.note(&file, &after);
        Ok(written)
    }
}

/// The fingerprint of the line that a change replaces.
fn replaced(need: &Need, change: &LineChange) -> Option<String> {
    let old = change.old_name.as_ref()?;
    let (_, text) = need.sources.iter().find(|(name, _)| name == old)?;
    Some(text.parse::<Envelope>().ok()?.fingerprint().to_string())
}

/// The change that the cluster's answers make of a need.
fn answered(
    in_file: &InFile<'_>,
    place: &str,
    cluster: &Cluster,
    need: &Need,
    answers: &HashMap<String, Answer>,
) -> Result<LineChange> {
    let mut refusals = Vec::new();
    for (name, text) in &need.sources {
        match answers.get(text) {
            Some(Answer::Wrapped(envelope)) => return Ok(need.change(name, envelope.to_string())),
            Some(Answer::Refused(reason)) => refusals.push(format!("{name}: {reason}")),
            None => refusals.push(format!("{name}: no answer")),
        }
    }
    let what = need.item.as_ref().map_or_else(|| place.to_owned(), |key| format!("item \"{key}\" of {place}"));
    let must_reseal = refusals.iter().any(|refusal| refusal.ends_with(": must-reseal"));
    let mut failure = Failure::new(if must_reseal {
        format!("{what}: the old key is marked compromised, or classical: its data key is replaced, not wrapped anew")
    } else {
        format!("{} can't open {what}", cluster.context)
    })
    .in_file(in_file.file);
    failure.details = refusals;
    Err(if must_reseal {
        failure.help("bulla reseal PATH --fresh --live, and change the value: the history has what the old key opens")
    } else {
        failure
    })
}

impl Report {
    /// Files that still need an older key, with how many lines. Failed ones have their own message.
    pub fn pending(&self) -> impl Iterator<Item = (&str, usize)> {
        self.resealed.iter().map(|file| (file.file.as_str(), file.envelopes))
    }

    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// Says what was done and what was not, but for the document of `-o json`.
    pub fn tell(&self, job: &Job<'_>, format: ReportFormat) -> Result<Done> {
        let names: Vec<_> = job.targets.as_slice().iter().map(target_name).collect();
        let names = names.join(", ");
        self.failed.iter().for_each(output::failure);
        let envelopes: usize = self.resealed.iter().map(|file| file.envelopes).sum();
        let total = self.resealed.len() + self.current + self.failed.len();
        if format != ReportFormat::Json && job.mode != Mode::Write {
            let lines: String = self
                .resealed
                .iter()
                .map(|file| format!("{}: {}\n", file.file, count(file.envelopes, "envelope")))
                .collect();
            output::data(lines.as_bytes())?;
        }
        let rest = format!("{} current; {} failed", were(self.current), self.failed.len());
        let files = count(total, "file");
        let did = match job.mode {
            Mode::Write => {
                let old: BTreeSet<_> = self.resealed.iter().flat_map(|file| &file.replaced).cloned().collect();
                let old: Vec<_> = old.into_iter().collect();
                let was =
                    if (1..=3).contains(&old.len()) { format!(" (was {})", old.join(", ")) } else { String::new() };
                let what = count(envelopes, "envelope");
                format!("resealed {} of {files} for {names}{was}: {what}; {rest}", thousands(self.resealed.len()))
            }
            Mode::DryRun => format!("would reseal {} of {files} for {names}; {rest}", thousands(self.resealed.len())),
            Mode::Check => format!("{} of {files} to be resealed for {names}; {rest}", thousands(self.resealed.len())),
        };
        output::say(&did);
        self.resealed.iter().flat_map(|file| &file.warnings).for_each(|warning| output::warn(warning));
        if let Some(rules) = &job.rules {
            let left = rules.left.lock().unwrap_or_else(PoisonError::into_inner);
            if !left.is_empty() {
                output::note(&format!(
                    "what is missing for {} was left: a cluster wraps for its own key; through theirs, or -i IDENTITY",
                    left.iter().cloned().collect::<Vec<_>>().join(", ")
                ));
            }
        }
        if job.mode == Mode::Write && !self.resealed.is_empty() {
            output::note("values were not changed. If the old key leaked, change them: bulla reseal does not revoke");
        }
        Ok(if !self.failed.is_empty() {
            Done::Failed
        } else if job.mode == Mode::Check && !self.resealed.is_empty() {
            Done::Findings
        } else {
            Done::Well
        })
    }

    pub fn json(&self, job: &Job<'_>) -> Value {
        let recipients: Vec<_> = job
            .targets
            .as_slice()
            .iter()
            .map(|target| json!({ "name": target.name, "fingerprint": target.recipient.fingerprint().to_string() }))
            .collect();
        let current: Vec<_> = job.targets.as_slice().iter().map(|target| target.recipient.fingerprint()).collect();
        let state = match job.mode {
            Mode::Write => "resealed",
            _ => "needed",
        };
        let files: Vec<_> = self
            .resealed
            .iter()
            .map(|file| json!({ "file": file.file, "state": state, "envelopes": file.envelopes }))
            .collect();
        json!({
            "recipients": recipients,
            "files": files,
            "current": self.current,
            "failed": self.failed.len(),
            "keys": job.keys.json(&current),
            "errors": self.failed.iter().flat_map(Failure::json).collect::<Vec<_>>(),
        })
    }

    /// The worst way in which a file failed.
    pub fn exit(&self) -> Option<Exit> {
        self.failed.first().map(|failure| failure.exit)
    }
}

fn target_name(target: &Target) -> String {
    named(&target.name, &target.recipient.fingerprint().to_string())
}

fn were(number: usize) -> String {
    format!("{} {}", thousands(number), if number == 1 { "was" } else { "were" })
}

fn thousands(number: usize) -> String {
    count(number, "").trim_end_matches([' ', 's']).to_owned()
}
