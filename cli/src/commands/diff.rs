//! `bulla diff`: what changed, without opening anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use bulla::diff::{Change, Compared, How, Reader, compare_all, more_than_reseal, sealed_in};
use bulla::manifest::{Node, Object, Stream};
use bulla::recipient::{Fingerprint, parse_recipients};
use bulla::scope::Scope;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Done;
use crate::cli::{DiffArgs, DiffFormat, Only};
use crate::failure::{Failure, Result, printable};
use crate::git::{self, Between, Blob, Mode, Repo};
use crate::model::called;
use crate::policy::Policy;
use crate::{files, output, recipients};

pub fn run(args: &DiffArgs) -> Result<Done> {
    let (pairs, commits) = pairs(args)?;
    let mut found: Vec<FileDiff> = pairs.iter().filter_map(compared).collect();
    if args.only == Some(Only::Reseal) {
        violations(args, &pairs, commits, &mut found)?;
    }
    match args.output {
        DiffFormat::Text => output::data(text(&found).as_bytes())?,
        DiffFormat::Markdown => output::data(markdown(&found).as_bytes())?,
        DiffFormat::Json => output::document(json!({ "files": found.iter().map(as_json).collect::<Vec<_>>() }))?,
    }
    let mut broken = false;
    for file in &found {
        for problem in &file.broken {
            broken = true;
            output::failure(&Failure::new(printable(problem)).in_file(&printable(&file.path)));
        }
    }
    let mut violated = false;
    for file in &found {
        for violation in &file.violations {
            violated = true;
            output::say(&violation.told(&printable(&file.path)));
        }
    }
    Ok(if broken {
        Done::Failed
    } else if violated || (args.exit_code && !found.is_empty()) {
        Done::Findings
    } else {
        Done::Well
    })
}

/// Two states of a file.
struct Pair {
    /// Relative to the root, for people.
    old_path: Option<String>,
    path: String,
    old: State,
    new: State,
}

enum State {
    Absent,
    Bytes(Zeroizing<Vec<u8>>),
    /// It can't be looked into; why.
    Opaque(String),
}

impl State {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Absent => Some(b""),
            Self::Opaque(_) => None,
        }
    }
}

/// What is different, and whether both states are commits.
fn pairs(args: &DiffArgs) -> Result<(Vec<Pair>, bool)> {
    let is_file = |path: &String| Path::new(path).is_file() || Path::new(path).is_symlink();
    if let [a, b] = args.states.as_slice()
        && !args.staged
        && ((is_file(a) && is_file(b)) || Repo::find(Path::new("."))?.is_none())
    {
        let read = |path: &String| files::read(Path::new(path)).map(State::Bytes);
        return Ok((vec![Pair { old_path: None, path: b.clone(), old: read(a)?, new: read(b)? }], false));
    }
    let repo = Repo::at(Path::new("."))?;
    let between = between(args, &repo)?;
    let mut blobs = repo.blobs()?;
    let mut pairs = Vec::new();
    for change in repo.changes(&between, &args.paths)? {
        if change.unmerged {
            let path = change.path().to_string_lossy().into_owned();
            let old = State::Opaque("its merge is not settled: bulla git resolve FILE".into());
            pairs.push(Pair { old_path: None, path, old, new: State::Absent });
            continue;
        }
        let mut state = |side: Option<&git::Side>| -> Result<State> {
            let Some(side) = side else { return Ok(State::Absent) };
            match (side.mode, &side.oid) {
                (Mode::Link, _) => Ok(State::Opaque("it is a symbolic link".into())),
                (Mode::Submodule, _) => Ok(State::Opaque("it is a submodule".into())),
                (Mode::File, Some(oid)) => Ok(match blobs.get(oid)? {
                    Blob::Bytes(bytes) => State::Bytes(bytes),
                    Blob::TooLarge(size) => State::Opaque(format!("it has {size} bytes, too many for a manifest")),
                    Blob::Missing => State::Opaque("it is not in this clone".into()),
                }),
                (Mode::File, None) => {
                    let path = repo.root()?.join(&side.path);
                    Ok(match std::fs::symlink_metadata(&path) {
                        Ok(metadata) if metadata.is_file() => State::Bytes(files::read(&path)?),
                        _ => State::Opaque("it is no regular file".into()),
                    })
                }
            }
        };
        let (old, new) = (state(change.old.as_ref())?, state(change.new.as_ref())?);
        let path = |side: &git::Side| side.path.to_string_lossy().into_owned();
        let now = change.path().to_string_lossy().into_owned();
        let old_path = change.old.as_ref().map(path).filter(|old| *old != now);
        pairs.push(Pair { old_path, path: now, old, new });
    }
    Ok((pairs, matches!(between, Between::Trees(..))))
}

fn between(args: &DiffArgs, repo: &Repo) -> Result<Between> {
    let merge_base = |a: &str, b: &str| -> Result<Between> {
        let or_head = |text: &str| if text.is_empty() { "HEAD".to_owned() } else { text.to_owned() };
        let (a, b) = (repo.resolve(&or_head(a))?, repo.resolve(&or_head(b))?);
        Ok(Between::Trees(repo.merge_base(&a, &b)?, b))
    };
    match args.states.as_slice() {
        [] if args.staged => Ok(Between::TreeAndIndex(repo.head()?)),
        [] => Ok(Between::IndexAndWork),
        [one] => {
            if let Some((a, b)) = one.split_once("...") {
                return merge_base(a, b);
            }
            if let Some((a, b)) = one.split_once("..") {
                let or_head = |text: &str| if text.is_empty() { "HEAD".to_owned() } else { text.to_owned() };
                return Ok(Between::Trees(repo.resolve(&or_head(a))?, repo.resolve(&or_head(b))?));
            }
            let tree = match repo.try_resolve(one)? {
                Some(tree) => tree,
                None if Path::new(one).exists() => {
                    return Err(Failure::usage(format!("{} is a file, not a revision", printable(one)))
                        .help(format!("bulla diff -- {}", printable(one))));
                }
                None => repo.resolve(one)?,
            };
            Ok(if args.staged { Between::TreeAndIndex(Some(tree)) } else { Between::TreeAndWork(tree) })
        }
        _ if args.staged => Err(Failure::usage("--staged compares with the index: one revision at most")),
        [a, b, ..] => Ok(Between::Trees(repo.resolve(a)?, repo.resolve(b)?)),
    }
}

/// What is different in a file.
#[derive(Default)]
struct FileDiff {
    path: String,
    old_path: Option<String>,
    objects: Vec<Compared>,
    /// Lines about plaintext Secrets and the policy.
    notes: Vec<Note>,
    broken: Vec<String>,
    violations: Vec<Violation>,
}

struct Note {
    what: String,
    text: String,
    /// A reader or a rule: what reviewers must see.
    grave: bool,
}

struct Violation {
    line: Option<usize>,
    object: Option<String>,
    item: Option<String>,
    message: String,
}

impl Violation {
    fn told(&self, file: &str) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let object = self.object.as_ref().map(|o| format!(" {}", printable(o))).unwrap_or_default();
        let item = self.item.as_ref().map(|i| format!(" item {}", printable(i))).unwrap_or_default();
        let inside = if object.is_empty() && item.is_empty() { String::new() } else { format!(":{object}{item}") };
        format!("not a reseal: {file}{line}{inside}: {}", printable(&self.message))
    }
}

/// Whether a file says whom is sealed for, or what is checked.
fn is_policy(path: &str) -> bool {
    path == ".bulla.yaml" || path.ends_with("/.bulla.yaml")
}

fn is_pin(path: &str) -> bool {
    path.ends_with(".pub") && (path.starts_with(".bulla/") || path.contains("/.bulla/"))
}

fn is_manifest(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".yaml", ".yml", ".json"].iter().any(|end| lower.ends_with(end))
}

fn compared(pair: &Pair) -> Option<FileDiff> {
    let mut diff = FileDiff { path: pair.path.clone(), old_path: pair.old_path.clone(), ..FileDiff::default() };
    if is_policy(&pair.path) {
        policy_notes(pair, &mut diff);
    } else if is_pin(&pair.path) {
        pin_notes(pair, &mut diff);
    } else {
        objects(pair, &mut diff);
    }
    let any = !diff.notes.is_empty()
        || !diff.broken.is_empty()
        || diff.objects.iter().any(|object| object.whole.is_some() || !object.changes.is_empty());
    any.then_some(diff)
}

fn objects(pair: &Pair, diff: &mut FileDiff) {
    let says_sealed =
        |bytes: &[u8]| ["bulla.dev/", "bitnami.com/v1alpha1"].iter().any(|word| crate::tree::mentions(bytes, word));
    let sealed = |state: &State| state.bytes().is_some_and(says_sealed);
    let relevant = [&pair.old, &pair.new].into_iter().any(sealed);
    for state in [&pair.old, &pair.new] {
        if let State::Opaque(why) = state
            && (relevant || pair.path.contains(".sealed."))
        {
            diff.broken.push(why.clone());
        }
    }
    if !relevant && !is_manifest(&pair.path) {
        return;
    }
    let mut read = |state: &State, which: &str| {
        let bytes = state.bytes()?;
        let mut broken = |error: bulla::manifest::ManifestError| {
            // Other files may be broken as they like.
            if says_sealed(bytes) {
                let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
                diff.broken.push(format!("the {which} version can't be read{line}: {}", error.message));
            }
        };
        let stream = Stream::read(bytes).map_err(&mut broken).ok()?;
        let found = sealed_in(&stream).map_err(&mut broken).ok()?;
        Some((stream, found))
    };
    let (old, new) = (read(&pair.old, "old"), read(&pair.new, "new"));
    if let Some((stream, found)) = &new {
        for object in stream.objects().filter(Object::is_secret) {
            let what = printable(&called(object.namespace(), object.name()));
            diff.notes.push(Note { what, text: "plaintext Secret".into(), grave: true });
        }
        for found in found {
            if let Some(problems) = found.problems(bulla::open::Strictness::Reader) {
                let line = found.view.places.object.line;
                diff.broken.push(format!("{}, line {line}: {problems}", bulla::diff::called(&found.object)));
            }
        }
    }
    if let Some((stream, _)) = &old {
        let was = stream.objects().filter(Object::is_secret).count();
        let is = new.as_ref().map_or(0, |(stream, _)| stream.objects().filter(Object::is_secret).count());
        if was > is {
            let text =
                format!("{} taken out; the history keeps them", output::plain::count(was - is, "plaintext Secret"));
            diff.notes.push(Note { what: "file".into(), text, grave: false });
        }
    }
    if let (Some((_, old)), Some((_, new))) = (&old, &new) {
        diff.objects = compare_all(old, new);
    }
}

/// All scalars of a YAML text by path.
fn leaves(node: &Node, path: String, out: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let Some(entries) = node.entries() {
        for entry in entries {
            leaves(&entry.value, below(entry.key.scalar().unwrap_or("?")), out);
        }
    } else if let Some(items) = node.items() {
        for (index, item) in items.iter().enumerate() {
            leaves(item, format!("{path}[{index}]"), out);
        }
    } else {
        out.insert(path, node.scalar().unwrap_or_default().to_owned());
    }
}

fn policy_notes(pair: &Pair, diff: &mut FileDiff) {
    let mut read = |state: &State, which: &str| {
        let mut all = BTreeMap::new();
        match state.bytes().map(Stream::read) {
            Some(Ok(stream)) => {
                for document in stream.documents() {
                    leaves(&document.root, String::new(), &mut all);
                }
            }
            Some(Err(error)) => diff.broken.push(format!("the {which} version can't be read: {}", error.message)),
            None => diff.broken.push(format!("the {which} version is no regular file")),
        }
        all
    };
    let (old, new) = (read(&pair.old, "old"), read(&pair.new, "new"));
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for path in paths {
        let text = match (old.get(path), new.get(path)) {
            (a, b) if a == b => continue,
            (None, Some(b)) => format!("added: {}", printable(b)),
            (Some(a), None) => format!("removed, was {}", printable(a)),
            (a, b) => {
                let show = |text: Option<&String>| printable(text.map_or("", String::as_str));
                format!("{} -> {}", show(a), show(b))
            }
        };
        diff.notes.push(Note { what: printable(path), text, grave: true });
    }
}

fn pin_notes(pair: &Pair, diff: &mut FileDiff) {
    let mut read = |state: &State| -> Vec<String> {
        let text = String::from_utf8_lossy(state.bytes().unwrap_or_default()).into_owned();
        match parse_recipients(&text) {
            Ok(listed) => listed.iter().map(|l| l.recipient.fingerprint().to_string()).collect(),
            Err(_) if text.is_empty() => Vec::new(),
            Err(error) => {
                diff.broken.push(error.to_string());
                Vec::new()
            }
        }
    };
    let (old, new) = (read(&pair.old), read(&pair.new));
    if old != new {
        let list = |all: &[String]| if all.is_empty() { "nobody".to_owned() } else { all.join(", ") };
        let text = format!("{} -> {}", list(&old), list(&new));
        diff.notes.push(Note { what: "pinned recipient".into(), text, grave: true });
    }
}

// --- only

fn violations(args: &DiffArgs, pairs: &[Pair], commits: bool, found: &mut Vec<FileDiff>) -> Result<()> {
    let policy = Policy::above(Path::new(".bulla"))?;
    let named = recipients::named(&args.recipients, None)?;
    // Whoever names recipients says who reads; else each file's rule does.
    let rules = policy.as_deref().filter(|_| named.is_none());
    let known: BTreeMap<String, Fingerprint> = match (named, rules) {
        (Some(targets), _) => targets.as_slice().iter().map(|t| (t.name.clone(), t.recipient.fingerprint())).collect(),
        (None, Some(policy)) => {
            policy.pins()?.into_iter().map(|pin| (pin.name, pin.listed.recipient.fingerprint())).collect()
        }
        (None, None) => {
            return Err(Failure::usage(
                "--only reseal must know whom the lines are to be for, and there is no .bulla.yaml",
            )
            .help("bulla diff HEAD --only reseal -R prod.pub -R recovery.pub"));
        }
    };
    let current = |name: &str| known.get(name).copied();
    for pair in pairs {
        let whole = |message: &str| Violation { line: None, object: None, item: None, message: message.into() };
        let mut violations = Vec::new();
        // In the working tree pins are whose who runs this, and told above. A commit's are whose who made it: they would
        // vouch for themselves.
        if is_pin(&pair.path) && (!commits || args.allow_pins) {
            continue;
        }
        let joins = |name: &str| {
            let Some(policy) = rules else { return true };
            let of_rule = policy.rule(Path::new(&pair.path)).is_some_and(|rule| rule.names(name));
            of_rule || policy.always().any(|pinned| pinned.name.value == name)
        };
        match (&pair.old, &pair.new) {
            _ if is_pin(&pair.path) => violations.push(whole(
                "the pin changed: whoever merges this decides who reads what is sealed next (--allow-pins where somebody \
                 else guards it)",
            )),
            (State::Bytes(old), State::Bytes(new)) if pair.old_path.is_none() => {
                match (Stream::read(old), Stream::read(new)) {
                    (Ok(old), Ok(new)) => {
                        violations.extend(more_than_reseal(&old, &new, &current, &joins).into_iter().map(|v| Violation {
                            line: v.line,
                            object: v.object,
                            item: v.item,
                            message: v.message,
                        }))
                    }
                    _ => violations.push(whole("it is no manifest")),
                }
            }
            (State::Absent, _) => violations.push(whole("the file is new")),
            (_, State::Absent) => violations.push(whole("the file is gone")),
            (State::Bytes(_), State::Bytes(_)) => violations.push(whole("the file has another name")),
            _ => violations.push(whole("it can't be looked into")),
        }
        if violations.is_empty() {
            continue;
        }
        match found.iter_mut().find(|file| file.path == pair.path) {
            Some(file) => file.violations = violations,
            None => found.push(FileDiff { path: pair.path.clone(), violations, ..FileDiff::default() }),
        }
    }
    Ok(())
}

// --- telling

/// The first characters of a fingerprint.
fn short(fingerprint: Option<Fingerprint>) -> String {
    fingerprint.map_or_else(|| "damaged".into(), |f| format!("{}…", f.to_string().chars().take(5).collect::<String>()))
}

fn names(readers: &[Reader]) -> String {
    if readers.is_empty() {
        "nobody".into()
    } else {
        readers.iter().map(|r| printable(&r.name)).collect::<Vec<_>>().join(", ")
    }
}

/// A sign, what it is about, and what happened.
fn told(change: &Change) -> (&'static str, String, String) {
    match change {
        Change::Item { key, how: How::Added, readers } => {
            ("+", printable(key), format!("new, sealed for {}", names(readers)))
        }
        Change::Item { key, how: How::Removed, .. } => ("-", printable(key), "removed".into()),
        Change::Item { key, how: How::Changed, readers } => {
            ("~", printable(key), format!("new value, sealed for {}", names(readers)))
        }
        Change::Resolution { key, own } => {
            let text = if *own { "uses envelopes of its own now" } else { "uses the common envelopes now" };
            ("!", printable(key), text.into())
        }
        Change::Rewrapped { name, from, to, items } => (
            "=",
            "envelopes".into(),
            format!(
                "{} {} -> {} (reseal, {} unchanged)",
                printable(name),
                short(*from),
                short(*to),
                output::plain::count(items.len(), "value")
            ),
        ),
        Change::Readers { reader, how, items } => {
            let how = if *how == How::Added { "can now open" } else { "is no more among those who open" };
            let what = output::plain::count(items.len(), "item");
            ("!", "envelopes".into(), format!("{} {} {how} {what}", printable(&reader.name), short(reader.fingerprint)))
        }
        Change::Unused => ("=", "envelopes".into(), "some that no item uses changed".into()),
        Change::Scope { from, to } => {
            let why = if to <= from {
                ""
            } else if *to == Scope::ClusterWide {
                "  (anybody may copy it to any namespace)"
            } else {
                "  (it opens under any name in its namespace)"
            };
            ("!", "scope".into(), format!("{from} -> {to}{why}"))
        }
        Change::Place { from, to } => ("!", "place".into(), format!("{} -> {}", printable(from), printable(to))),
        Change::Field { path, how } => {
            let how = match how {
                How::Added => "added",
                How::Removed => "removed",
                How::Changed => "changed",
            };
            let (what, path) = match path.strip_prefix("spec.template.") {
                Some(rest) => ("template", rest),
                None => ("object", path.as_str()),
            };
            ("~", what.into(), format!("{} {how}", printable(path)))
        }
    }
}

fn lines_of(object: &Compared) -> Vec<(&'static str, String, String)> {
    let mut lines: Vec<_> = match object.whole {
        Some(How::Added) => vec![("+", "object".into(), "new SealedSecret".into())],
        Some(_) => vec![("-", "object".into(), "SealedSecret removed".into())],
        None => Vec::new(),
    };
    lines.extend(object.changes.iter().map(told));
    lines
}

fn title(file: &FileDiff) -> String {
    match &file.old_path {
        Some(old) => format!("{} (was {})", printable(&file.path), printable(old)),
        None => printable(&file.path),
    }
}

fn text(found: &[FileDiff]) -> String {
    let mut out = String::new();
    for file in found {
        let title = title(file);
        if !file.notes.is_empty() {
            _ = writeln!(out, "{title}");
            for note in &file.notes {
                _ = writeln!(out, "  {} {:<15} {}", if note.grave { "!" } else { "-" }, note.what, note.text);
            }
        }
        for object in &file.objects {
            let lines = lines_of(object);
            if lines.is_empty() {
                continue;
            }
            _ = writeln!(out, "{title}  {}", printable(&object.object));
            for (sign, what, text) in lines {
                _ = writeln!(out, "  {sign} {what:<15} {text}");
            }
        }
    }
    out
}

/// Text in a table of Markdown: nothing in it is markup, a mention, or another cell.
fn cell(text: &str) -> String {
    let text = printable(text);
    let mut out = String::from("<code>");
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || c == ' ' => out.push(c),
            '-' | '.' | '/' | ',' => out.push(c),
            c if c.is_ascii() => _ = write!(out, "&#{};", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push_str("</code>");
    out
}

fn markdown(found: &[FileDiff]) -> String {
    if found.is_empty() {
        return "No sealed file changed.\n".into();
    }
    let mut out = String::from("| File | Object | | | |\n|---|---|---|---|---|\n");
    for file in found {
        let title = title(file);
        let mut row = |object: &str, sign: &str, what: &str, text: &str| {
            let bold = if sign == "!" { "**!**".to_owned() } else { cell(sign) };
            _ = writeln!(out, "| {} | {} | {bold} | {} | {} |", cell(&title), cell(object), cell(what), cell(text));
        };
        for note in &file.notes {
            row("", if note.grave { "!" } else { "-" }, &note.what, &note.text);
        }
        for object in &file.objects {
            for (sign, what, text) in lines_of(object) {
                row(&object.object, sign, &what, &text);
            }
        }
        for problem in &file.broken {
            row("", "!", "broken", problem);
        }
        for violation in &file.violations {
            row(violation.object.as_deref().unwrap_or_default(), "!", "not a reseal", &violation.told(&title));
        }
    }
    out
}

fn as_json(file: &FileDiff) -> Value {
    let word = |how: How| match how {
        How::Added => "added",
        How::Removed => "removed",
        How::Changed => "changed",
    };
    let fingerprint = |f: &Option<Fingerprint>| f.map(|f| f.to_string());
    let reader = |r: &Reader| json!({ "name": r.name, "fingerprint": fingerprint(&r.fingerprint) });
    let change = |object: &Compared, change: &Change| match change {
        Change::Item { key, how, readers } => json!({
            "kind": "item", "item": key, "how": word(*how), "line": object.item_lines.get(key),
            "sealedFor": readers.iter().map(reader).collect::<Vec<_>>(),
        }),
        Change::Resolution { key, own } => json!({ "kind": "resolution", "item": key, "ownEnvelopes": own }),
        Change::Rewrapped { name, from, to, items } => json!({
            "kind": "rewrapped", "name": name, "from": fingerprint(from), "to": fingerprint(to), "items": items,
        }),
        Change::Readers { reader: r, how, items } => {
            json!({ "kind": "reader", "how": word(*how), "reader": reader(r), "items": items })
        }
        Change::Unused => json!({ "kind": "unused-envelopes" }),
        Change::Scope { from, to } => json!({ "kind": "scope", "from": from.as_str(), "to": to.as_str() }),
        Change::Place { from, to } => json!({ "kind": "place", "from": from, "to": to }),
        Change::Field { path, how } => json!({ "kind": "field", "path": path, "how": word(*how) }),
    };
    json!({
        "file": file.path,
        "oldFile": file.old_path,
        "objects": file.objects.iter().filter(|o| o.whole.is_some() || !o.changes.is_empty()).map(|o| json!({
            "object": o.object,
            "line": o.line,
            "whole": o.whole.map(word),
            "changes": o.changes.iter().map(|c| change(o, c)).collect::<Vec<_>>(),
            "unchanged": o.unchanged,
        })).collect::<Vec<_>>(),
        "notes": file.notes.iter().map(|n| json!({ "what": n.what, "text": n.text })).collect::<Vec<_>>(),
        "broken": file.broken,
        "violations": file.violations.iter().map(|v| json!({
            "line": v.line, "object": v.object, "item": v.item, "message": v.message,
        })).collect::<Vec<_>>(),
    })
}
