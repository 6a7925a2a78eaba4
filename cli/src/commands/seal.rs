//! `bulla seal`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bulla::manifest::emit::{Tree, json, yaml};
use bulla::manifest::{Edit, Encoding, LineEnding, ManifestError, ManifestErrorKind, Object, Stream};
use bulla::scope::{PlaceError, Scope};
use bulla::seal::SealError;
use bulla::secret::{PlainSecret, SecretValue};
use zeroize::Zeroizing;

use super::{Done, no_idle_cluster};
use crate::bitnami::{self, Either, Made, all_either, is_sealed, the_either};
use crate::cli::{ClusterArgs, Format, RecipientArgs, SealArgs};
use crate::failure::{self, Failure, Result, shown};
use crate::files::{self, Destination, Original};
use crate::model::{other_kinds, parse};
use crate::output::plain::count;
use crate::output::progress::Progress;
use crate::recipients::{Chooser, Chosen, Key};
use crate::{output, tree};

pub fn run(args: &SealArgs) -> Result<Done> {
    no_idle_cluster(&args.recipients, &args.cluster)?;
    if !args.in_place.is_empty() {
        return in_place(args);
    }
    let made = !(args.from_literal.is_empty() && args.from_file.is_empty() && args.from_env_file.is_empty());
    if args.type_.is_some() && !made {
        return Err(Failure::usage("--type goes with --from-literal, --from-file and --from-env-file"));
    }
    let path = args.file.as_deref().or(args.file_flag.as_deref()).unwrap_or(Path::new("-"));
    if !made && files::is_stdin(path) && args.file.is_none() && args.file_flag.is_none() && output::on_terminal() {
        return Err(Failure::usage("no FILE is named, and standard input is a terminal").help("bulla seal FILE"));
    }
    let what = match (&args.write, &args.merge_into) {
        (Some(file), _) | (_, Some(file)) => shown(file),
        _ if made => "the Secret".to_owned(),
        _ => shown(path),
    };
    if !made && files::is_stdin(path) && args.recipients.recipients_files.iter().any(|file| files::is_stdin(file)) {
        return Err(Failure::usage("standard input can't be both the manifest and the recipients"));
    }
    let command =
        if made || files::is_stdin(path) { "bulla seal …".to_owned() } else { format!("bulla seal {}", shown(path)) };
    let own = (!made).then_some(path);
    let place = args.write.as_deref().or(args.merge_into.as_deref()).or(own).filter(|path| !files::is_stdin(path));
    let choice = Chooser::new(&args.recipients, &args.cluster).choose_any(place, &what, &command)?;
    let run = Run::new(args, &choice)?;
    let input = if made { Input::Made(run.made()?) } else { Input::Read(shown(path), files::read(path)?) };
    match &args.merge_into {
        Some(into) => run.merge_into(input, into),
        None => run.write(input),
    }
}

/// What all of a run goes by.
struct Run<'a> {
    args: &'a SealArgs,
    choice: &'a Chosen,
    /// The one asked for, else the rule's.
    scope: Option<Scope>,
}

enum Input {
    Made(PlainSecret),
    Read(String, Zeroizing<Vec<u8>>),
}

/// Secrets of a text, sealed.
struct SealedText {
    stream: Stream,
    /// With the index of the object.
    sealed: Vec<(usize, Made)>,
    /// Fields that were left out.
    dropped: BTreeSet<String>,
    others: usize,
}

impl<'a> Run<'a> {
    fn new(args: &'a SealArgs, choice: &'a Chosen) -> Result<Self> {
        Ok(Self { args, choice, scope: choice.scope(args.scope.map(Scope::from))? })
    }

    fn scope(&self) -> Scope {
        self.scope.unwrap_or_default()
    }

    /// Name and namespace of the command line where the Secret has none; what contradicts is an error.
    fn place(&self, secret: &mut PlainSecret) -> Result<()> {
        for (flag, given, own) in
            [("-n", &self.args.namespace, &mut secret.namespace), ("--name", &self.args.name, &mut secret.name)]
        {
            match (given, own.as_deref()) {
                (Some(given), None | Some("")) => *own = Some(given.clone()),
                (Some(given), Some(there)) if given != there => {
                    let what = if flag == "-n" { "namespace" } else { "name" };
                    return Err(Failure::new(format!("the Secret's {what} is {there}, not {given} as {flag} says"))
                        .help(format!("leave {flag} out, or change the manifest")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn names(&self) -> String {
        self.choice.targets.names()
    }

    /// One Secret, in the format that the key decides.
    fn seal(&self, secret: &PlainSecret) -> std::result::Result<Made, Refused> {
        match &self.choice.targets {
            Key::Native(targets) => bulla::seal::seal(secret, self.scope(), targets)
                .map(|sealed| Made::Native(Box::new(sealed)))
                .map_err(Refused::Native),
            Key::Bitnami(rsa) => bulla::bitnami::seal_for_delivery(secret, self.scope(), &rsa.certificate)
                .map(|sealed| Made::Bitnami(Box::new(sealed)))
                .map_err(Refused::from),
        }
    }

    fn seal_one(&self, file: &str, stream: &Stream, object: Object<'_>) -> Result<(Made, Vec<String>)> {
        let text = Some(stream.text());
        let mut view = object.secret_view().map_err(|error| failure::manifest(file, text, &error))?;
        let metadata = object.node().get("metadata").map_or_else(|| object.span(), |node| node.span);
        self.place(&mut view.secret)
            .map_err(|error| error.at(file, text, view.namespace.or(view.name).unwrap_or(metadata)))?;
        let what = match view.secret.name.as_deref() {
            Some(name) => format!("Secret \"{name}\""),
            None => "the Secret".to_owned(),
        };
        self.choice.in_namespace(&what, view.secret.namespace.as_deref())?;
        let sealed = self.seal(&view.secret).map_err(|error| {
            let span = match &error {
                Refused::Native(SealError::Place(PlaceError::BadNamespace)) => view.namespace,
                Refused::Native(SealError::Place(PlaceError::BadName)) => view.name,
                Refused::Native(SealError::Key { key, .. }) => view.keys.get(key).copied(),
                _ => None,
            };
            error.told(&what).at(file, text, span.unwrap_or(metadata))
        })?;
        Ok((sealed, view.dropped.into_iter().map(|dropped| dropped.field).collect()))
    }

    /// Seals all Secrets of a text. Nothing that is not a Secret is sealed, and nothing that could be one passes.
    fn seal_text(&self, file: &str, bytes: &[u8]) -> Result<SealedText> {
        let stream = parse(file, bytes)?;
        // What could be a Secret and is none has not been read: the rest are other kinds.
        let (secrets, others): (Vec<_>, Vec<_>) = stream.objects().partition(|object| object.is_secret());
        let others = others.len();
        if self.args.name.is_some() && secrets.len() > 1 {
            return Err(Failure::usage(format!("--name, and there are {} Secrets in {file}", secrets.len())));
        }
        let results = tree::parallel(&secrets, |object| self.seal_one(file, &stream, *object));
        let indices: Vec<usize> = secrets.iter().map(Object::index).collect();
        drop(secrets);
        let mut sealed = Vec::new();
        let mut dropped = BTreeSet::new();
        let mut failures = Vec::new();
        for (index, result) in indices.into_iter().zip(results) {
            match result {
                Ok((one, fields)) => {
                    sealed.push((index, one));
                    dropped.extend(fields);
                }
                Err(failure) => failures.push(*failure),
            }
        }
        match failure::all(failures) {
            Some(failure) => Err(failure),
            None => Ok(SealedText { stream, sealed, dropped, others }),
        }
    }

    /// The text with the Secrets sealed, in the format asked for.
    fn text(&self, file: &str, sealed: SealedText, format: Option<Format>) -> Result<Zeroizing<Vec<u8>>> {
        let SealedText { mut stream, sealed, others, .. } = sealed;
        let own = if stream.is_flow() { Format::Json } else { Format::Yaml };
        let trees = sealed.into_iter().map(|(index, one)| (index, one.tree()));
        match format {
            Some(format) if format != own => {
                if others > 0 {
                    return Err(Failure::usage(format!(
                        "{file} has {} beside its Secrets, which pass byte for byte: another format can't be written",
                        count(others, "other object")
                    ))
                    .help("leave -o out"));
                }
                let trees: Vec<Tree> = trees.map(|(_, tree)| tree).collect();
                let mut text = if format == Format::Json { json(&trees) } else { yaml(&trees) };
                Ok(Zeroizing::new(std::mem::take(&mut *text).into_bytes()))
            }
            _ if others == 0 && is_bare(&stream) => {
                let trees: Vec<Tree> = trees.map(|(_, tree)| tree).collect();
                Ok(Zeroizing::new(std::mem::take(&mut *yaml(&trees)).into_bytes()))
            }
            _ => {
                let edits: Vec<_> = trees.map(|(index, tree)| (index, Edit::ReplaceObject(tree))).collect();
                stream.apply(&edits).map_err(|error| failure::manifest(file, Some(stream.text()), &error))?;
                Ok(stream.into_bytes())
            }
        }
    }

    fn write(&self, input: Input) -> Result<Done> {
        let destination = match &self.args.write {
            Some(path) if !files::is_stdin(path) => Some((path, files::destination(path)?)),
            _ => None,
        };
        let by_name = self.args.write.as_ref().and_then(|path| match path.extension()?.to_str()? {
            "json" => Some(Format::Json),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        });
        let mut warnings = Vec::new();
        let (sealed, others, dropped, bytes) = match input {
            Input::Made(secret) => {
                self.choice.in_namespace("the Secret", secret.namespace.as_deref())?;
                let one = self.seal(&secret).map_err(|error| made_error(&secret, &error))?;
                let tree = [one.tree()];
                let json_wanted = self.args.output.or(by_name) == Some(Format::Json);
                let mut text = if json_wanted { json(&tree) } else { yaml(&tree) };
                (vec![one], 0, BTreeSet::new(), Zeroizing::new(std::mem::take(&mut *text).into_bytes()))
            }
            Input::Read(file, bytes) => {
                let sealed = self.seal_text(&file, &bytes)?;
                if sealed.sealed.is_empty() {
                    return Err(no_secret(&file, &sealed.stream));
                }
                // A file's name decides only where nothing else has to keep its bytes.
                let format = self.args.output.or(by_name.filter(|_| sealed.others == 0));
                let objects: Vec<_> = sealed.sealed.iter().map(|(_, one)| one.clone()).collect();
                let (others, dropped) = (sealed.others, sealed.dropped.clone());
                (objects, others, dropped, self.text(&file, sealed, format)?)
            }
        };
        for one in &sealed {
            warnings.extend(one.near_limits());
        }
        match &destination {
            Some((path, destination)) => {
                if let Destination::There(original) = destination
                    && !self.args.replace
                {
                    refuse_loss(original, &sealed)?;
                }
                files::write(path, destination, &bytes)?;
            }
            None => output::data(&bytes)?,
        }
        let to = destination.map(|(path, _)| format!(" to {}", shown(path))).unwrap_or_default();
        let others =
            if others > 0 { format!("; {} kept byte for byte", count(others, "other object")) } else { String::new() };
        output::say(&format!("sealed {}{to} for {}{others}", count(sealed.len(), "Secret"), self.names()));
        say_dropped(&dropped);
        warnings.iter().for_each(|warning| output::warn(warning));
        Ok(Done::Well)
    }

    /// A Secret of `--from-…`, as `kubectl create secret generic` makes it.
    fn made(&self) -> Result<PlainSecret> {
        let mut secret = PlainSecret { type_: self.args.type_.clone(), ..PlainSecret::default() };
        self.place(&mut secret)?;
        if secret.name.is_none() {
            return Err(Failure::usage("a Secret of --from-literal, --from-file or --from-env-file needs a name")
                .help("--name NAME"));
        }
        let data = &mut secret.data;
        for given in &self.args.from_file {
            for (key, path) in from_file(given)? {
                let mut bytes = files::read(&path)?;
                put(data, &key, SecretValue::new(std::mem::take(&mut *bytes)))?;
            }
        }
        for given in &self.args.from_literal {
            let Some((key, value)) = given.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                // What was given may be a value: it is not repeated.
                return Err(Failure::usage("--from-literal is KEY=VALUE"));
            };
            put(data, key, SecretValue::new(value.as_bytes().to_vec()))?;
        }
        for path in &self.args.from_env_file {
            from_env_file(path, data)?;
        }
        Ok(secret)
    }

    /// Puts the values of Secrets into SealedSecrets that exist.
    fn merge_into(&self, input: Input, into: &Path) -> Result<Done> {
        let file = shown(into);
        let original = Original::read(into).map_err(|failure| {
            if failure.exit == failure::Exit::Missing {
                failure.help(format!("to make it: bulla seal … -w {file}"))
            } else {
                failure
            }
        })?;
        let mut stream = parse(&file, &original.bytes)?;
        let (from, secrets) = match input {
            Input::Made(secret) => ("the Secret".to_owned(), vec![secret]),
            Input::Read(from, bytes) => {
                let read = parse(&from, &bytes)?;
                let mut secrets = Vec::new();
                for object in read.objects().filter(Object::is_secret) {
                    let mut secret =
                        object.secret().map_err(|error| failure::manifest(&from, Some(read.text()), &error))?;
                    self.place(&mut secret)?;
                    secrets.push(secret);
                }
                if secrets.is_empty() {
                    return Err(no_secret(&from, &read));
                }
                (from, secrets)
            }
        };
        let asked = self.scope;
        let mut changed: BTreeMap<usize, (Either, BTreeMap<String, SecretValue>)> = BTreeMap::new();
        for secret in &secrets {
            let found = the_either(&file, &stream, secret.namespace.as_deref(), secret.name.as_deref())?;
            self.choice.in_namespace(&found.called(), found.namespace())?;
            // Of several with one key the last counts, as in a text that is applied.
            let (_, data) = changed.entry(found.index()).or_insert_with(|| (found, BTreeMap::new()));
            data.extend(secret.data.clone());
        }
        let (mut edits, mut set) = (Vec::new(), 0);
        let (mut places, mut warnings) = (Vec::new(), Vec::new());
        for (sealed, data) in changed.values() {
            let all: Vec<_> = data.iter().map(|(key, value)| (key.as_str(), value)).collect();
            let (more, after) = super::set::put(&file, &stream, sealed, &all, self.choice, asked)?;
            set += all.len();
            edits.extend(more);
            places.push(after.called());
            warnings.extend(after.near_limits());
        }
        if set == 0 {
            return Err(Failure::new(format!("there is no value in {from}")));
        }
        stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
        original.replace(&stream.into_bytes())?;
        output::say(&format!(
            "merged {} into {} in {file}, for {}",
            count(set, "value"),
            places.join(", "),
            self.names()
        ));
        if secrets.iter().any(|s| !s.labels.is_empty() || !s.annotations.is_empty() || s.type_.is_some()) {
            output::note("only values were merged: labels, annotations and type stay as they were");
        }
        warnings.iter().for_each(|warning| output::warn(warning));
        Ok(Done::Well)
    }
}

/// Whether there is nothing to keep but the objects: one in each document of a YAML text, no comments, and the line ends
/// that a new text has.
fn is_bare(stream: &Stream) -> bool {
    !stream.is_flow()
        && stream.comments().is_empty()
        && stream.encoding() == Encoding::Utf8
        && stream.line_ending() == LineEnding::Lf
        && stream.objects().all(|object| object.path().is_empty())
}

/// Why a Secret is not sealed, in either format.
enum Refused {
    Native(SealError),
    Bitnami(bulla::bitnami::SetError),
}

impl From<bulla::bitnami::SetError> for Refused {
    fn from(error: bulla::bitnami::SetError) -> Self {
        match error {
            bulla::bitnami::SetError::Place(error) => Self::Native(SealError::Place(error)),
            error => Self::Bitnami(error),
        }
    }
}

impl Refused {
    fn told(&self, what: &str) -> Box<Failure> {
        match self {
            Self::Native(error) => failure::seal(what, error),
            Self::Bitnami(error) => bitnami::seal(what, error),
        }
    }
}

fn made_error(secret: &PlainSecret, error: &Refused) -> Box<Failure> {
    let what = format!("Secret \"{}\"", secret.name.as_deref().unwrap_or_default());
    match error {
        Refused::Native(SealError::Place(PlaceError::NoNamespace(scope))) => {
            Failure::usage(format!("{what} has no namespace, and scope {scope} binds to one"))
                .help("pass -n (your kubectl context is not used)")
        }
        _ => error.told(&what),
    }
}

fn say_dropped(dropped: &BTreeSet<String>) {
    if !dropped.is_empty() {
        let fields: Vec<_> = dropped.iter().map(String::as_str).collect();
        output::note(&format!("left out, as the cluster's own: {}", fields.join(", ")));
    }
}

/// An error for a text with nothing to seal.
fn no_secret(file: &str, stream: &Stream) -> Box<Failure> {
    let bare = stream.documents().iter().all(|document| document.root.is_null());
    if stream.objects().len() == 0 && bare {
        return Failure::new(if file == "standard input" {
            "standard input was empty: there is no Secret to seal".to_owned()
        } else {
            format!("there is no Secret in {file}: it is empty")
        });
    }
    if stream.objects().len() == 0 {
        let failure = Failure::new(format!("there is no Secret in {file}: it is no manifest"));
        return if stream.text().contains("AGE-SECRET-KEY-") {
            Failure::new(format!(
                "{file} is an identity, not a manifest: it opens what is sealed, and is never sealed itself"
            ))
        } else {
            failure.help(format!("a file as one value: bulla set FILE KEY --from-file {file}"))
        };
    }
    let failure = Failure::new(format!("there is no Secret in {file}{}", other_kinds(stream)));
    if stream.objects().all(|object| is_sealed(&object)) {
        return failure.help("it is sealed already; to change a value: bulla set FILE KEY");
    }
    failure.help("only a v1 Secret is ever sealed")
}

/// Refuses to replace a file whose SealedSecrets have items that the new ones lack.
fn refuse_loss(original: &Original, sealed: &[Made]) -> Result<()> {
    let file = shown(&original.path);
    let help = |failure: Box<Failure>| {
        failure.help(format!("keep them: bulla seal … --merge-into {file}")).help("drop them on purpose: --replace")
    };
    if original.bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let old = parse(&file, &original.bytes).and_then(|stream| all_either(&file, &stream)).map_err(|_| {
        Failure::new(format!("{file} is there and can't be read as a manifest; it is not overwritten"))
            .help("overwrite it on purpose: --replace")
    })?;
    if old.is_empty() {
        return Err(Failure::new(format!("{file} is there and holds no SealedSecret; it is not overwritten"))
            .help("overwrite it on purpose: --replace"));
    }
    let lost: Vec<String> = old
        .iter()
        // All of it, when there is no successor.
        .flat_map(|one| one.made().lost(sealed.iter().find(|new| new.called() == one.called())))
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(format!("{file} has items or recipients that would be dropped"));
    failure.details = lost;
    Err(help(failure))
}

/// What may be shown of a would-be key: after `=` there may be a value.
pub fn before_equals(key: &str) -> &str {
    key.split_once('=').map_or(key, |(key, _)| key)
}

fn put(data: &mut BTreeMap<String, SecretValue>, key: &str, value: SecretValue) -> Result<()> {
    if !bulla::scope::is_item_key(key) {
        return Err(Failure::usage(format!(
            "{:?} can't be a key of a Secret: 1 to 253 of a-z A-Z 0-9 - . _, not \".\" and not beginning with \"..\"",
            before_equals(key)
        )));
    }
    if data.insert(key.to_owned(), value).is_some() {
        return Err(Failure::usage(format!("the key {key} is given twice")));
    }
    Ok(())
}

/// `PATH` under its own name, `KEY=PATH`, or all files of a directory whose names can be keys.
fn from_file(given: &str) -> Result<Vec<(String, PathBuf)>> {
    if let Some((key, path)) = given.split_once('=') {
        if key.is_empty() || path.is_empty() {
            return Err(Failure::usage(format!("--from-file {given}: it is PATH or KEY=PATH")));
        }
        if Path::new(path).is_dir() {
            return Err(Failure::usage(format!("--from-file {given}: a directory has no one key")));
        }
        return Ok(vec![(key.to_owned(), path.into())]);
    }
    let path = Path::new(given);
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !path.is_dir() {
        return Ok(vec![(name_of(path), path.to_owned())]);
    }
    let fail = |error: std::io::Error| failure::io("read", path, &error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = name_of(&entry.path());
        if entry.path().symlink_metadata().map_err(fail)?.is_file() && bulla::scope::is_item_key(&name) {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Lines `KEY=VALUE`, read as kubectl reads them; a line without `=` takes the variable of the environment.
fn from_env_file(path: &Path, data: &mut BTreeMap<String, SecretValue>) -> Result<()> {
    let file = shown(path);
    let bytes = files::read(path)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line)
            .map_err(|_| Failure::new("the line is not UTF-8").at_line(&file, number + 1))?
            .trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, SecretValue::new(value.as_bytes().to_vec())),
            None => {
                use std::os::unix::ffi::OsStringExt as _;
                // A line that is no name could be a value: it is not repeated.
                let value = std::env::var_os(text).filter(|_| bulla::scope::is_item_key(text)).ok_or_else(|| {
                    Failure::new("the line has no \"=\", and no variable of the environment is called so")
                        .at_line(&file, number + 1)
                })?;
                (text, SecretValue::new(value.into_vec()))
            }
        };
        if !bulla::scope::is_item_key(key) {
            return Err(Failure::new("what stands before \"=\" can't be a key of a Secret").at_line(&file, number + 1));
        }
        put(data, key, value).map_err(|failure| failure.at_line(&file, number + 1))?;
    }
    Ok(())
}

/// What became of one file.
enum Outcome {
    /// Nothing to do.
    Nothing,
    Sealed {
        secrets: usize,
        others: usize,
        comments: usize,
        dropped: BTreeSet<String>,
        warnings: Vec<String>,
        /// For whom.
        names: String,
    },
    Skipped(String),
    Failed(Box<Failure>),
}

/// Seals these files where they stand, for `bulla check --fix`.
pub fn fix(files: &[PathBuf], recipients: &RecipientArgs, cluster: &ClusterArgs) -> Result<Done> {
    in_place(&SealArgs {
        in_place: files.to_vec(),
        recipients: recipients.clone(),
        cluster: cluster.clone(),
        ..SealArgs::default()
    })
}

fn in_place(args: &SealArgs) -> Result<Done> {
    if let Some(path) = args.in_place.iter().find(|path| files::is_stdin(path)) {
        return Err(Failure::usage(format!("--in-place {}: standard input is no file", path.display())));
    }
    let chooser = Chooser::new(&args.recipients, &args.cluster);
    let found = tree::files(&args.in_place)?;
    let progress = Progress::new("sealing", found.len());
    let outcomes = tree::parallel_writing(&found, |file| {
        let outcome = in_file(args, &chooser, file);
        progress.tick();
        outcome
    });
    drop(progress);
    let mut names = BTreeSet::new();
    let (mut secrets, mut changed, mut others, mut comments, mut failed) = (0, 0, 0, 0, 0);
    let (mut skipped, mut dropped, mut warnings) = (Vec::new(), BTreeSet::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Sealed { secrets: s, others: o, comments: c, dropped: d, warnings: w, names: n } => {
                names.insert(n);
                secrets += s;
                others += o;
                comments += c;
                changed += 1;
                dropped.extend(d);
                warnings.extend(w);
            }
            Outcome::Skipped(why) => skipped.push(why),
            Outcome::Failed(failure) => {
                output::failure(&failure);
                failed += 1;
            }
        }
    }
    if secrets == 0 && failed == 0 && skipped.is_empty() {
        let paths: Vec<_> = args.in_place.iter().map(|path| shown(path)).collect();
        output::say(&format!("nothing to seal: there is no Secret in {}", paths.join(", ")));
        return Ok(Done::Well);
    }
    let mut text = format!("sealed {} in {}", count(secrets, "Secret"), count(changed, "file"));
    if !names.is_empty() {
        text.push_str(&format!(" for {}", names.into_iter().collect::<Vec<_>>().join("; ")));
    }
    if others > 0 {
        text.push_str(&format!("; {} kept byte for byte", count(others, "other object")));
    }
    if failed > 0 {
        text.push_str(&format!("; {} failed and stayed as they were", count(failed, "file")));
    }
    if !skipped.is_empty() {
        text.push_str(&format!("; {} skipped:", skipped.len()));
    }
    output::say(&text);
    skipped.iter().for_each(|why| output::say(&format!("  {why}")));
    say_dropped(&dropped);
    if comments > 0 {
        output::note(&format!("{} inside the Secrets went with them", count(comments, "comment")));
    }
    warnings.iter().for_each(|warning| output::warn(warning));
    if secrets > 0 {
        output::note(
            "what was committed in plaintext stays in Git's history: change those values, then bulla set FILE KEY…",
        );
    }
    Ok(if failed > 0 { Done::Failed } else { Done::Well })
}

fn in_file(args: &SealArgs, chooser: &Chooser<'_>, found: &tree::Found) -> Outcome {
    match try_in_file(args, chooser, found) {
        Ok(outcome) => outcome,
        Err(failure) => Outcome::Failed(failure),
    }
}

fn skipped(file: &str, error: &ManifestError) -> String {
    let line = error.line().map(|line| format!(":{line}")).unwrap_or_default();
    format!("{file}{line}   a template: seal the rendered value (BUL012)")
}

fn try_in_file(args: &SealArgs, chooser: &Chooser<'_>, found: &tree::Found) -> Result<Outcome> {
    let file = shown(&found.path);
    let original = Original::read(&found.path)?;
    if !found.named && !tree::mentions(&original.bytes, "Secret") {
        return Ok(Outcome::Nothing);
    }
    if !found.named
        && let Err(error) = Stream::read(&original.bytes)
        && error.kind == ManifestErrorKind::Template
    {
        return Ok(Outcome::Skipped(skipped(&file, &error)));
    }
    let stream = parse(&file, &original.bytes)?;
    let mut secrets = stream.objects().filter(|object| object.is_secret()).peekable();
    if secrets.peek().is_none() {
        return Ok(Outcome::Nothing);
    }
    // Where the braces of a template can be read as YAML, they still are no name.
    let template = secrets.find_map(|object| object.secret().err().filter(|e| e.kind == ManifestErrorKind::Template));
    if let Some(error) = template.filter(|_| !found.named) {
        return Ok(Outcome::Skipped(skipped(&file, &error)));
    }
    let choice = chooser.choose_any(Some(&found.path), &file, &format!("bulla seal --in-place {file}"))?;
    let run = Run::new(args, &choice)?;
    let sealed = run.seal_text(&file, &original.bytes)?;
    if sealed.sealed.is_empty() {
        return Ok(Outcome::Nothing);
    }
    let secrets = sealed.sealed.len();
    let (others, dropped) = (sealed.others, sealed.dropped.clone());
    let warnings = sealed.sealed.iter().flat_map(|(_, one)| one.near_limits()).collect();
    let SealedText { mut stream, sealed, .. } = sealed;
    let edits: Vec<_> = sealed.into_iter().map(|(index, one)| (index, Edit::ReplaceObject(one.tree()))).collect();
    let applied = stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())?;
    Ok(Outcome::Sealed {
        secrets,
        others,
        comments: applied.comments_dropped,
        dropped,
        warnings,
        names: choice.targets.names(),
    })
}
