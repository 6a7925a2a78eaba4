//! `bulla edit`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bulla::manifest::{Edit, Stream};
use bulla::open::{Strictness, inspect};
use bulla::seal::{set_all, unset};
use bulla::secret::SecretValue;

use super::Done;
use crate::bitnami::{Bitnami, Either, Made, the_either};
use crate::cli::EditArgs;
use crate::edit::buffer::{self, Entry, SEALED};
use crate::edit::editor;
use crate::edit::session::Session;
use crate::failure::{self, Exit, Failure, Result, shown};
use crate::files::{self, Original};
use crate::model::parse;
use crate::output::plain::{count, near_limits};
use crate::recipients::{Chooser, Chosen};
use crate::{identities, input, output};

/// An editor that is back after less than this has hardly been used.
const AT_ONCE: Duration = Duration::from_millis(500);

pub fn run(args: &EditArgs) -> Result<Done> {
    let path = args.file.as_ref().or(args.file_flag.as_ref()).ok_or_else(|| Failure::usage("no FILE is named"))?;
    if files::is_stdin(path) {
        return Err(Failure::usage("bulla edit changes a file; standard input is none"));
    }
    let file = shown(path);
    let original = Original::read(path).map_err(|failure| match failure.exit {
        Exit::Missing => failure.help(format!("to make it: bulla set {file} KEY… -n NAMESPACE")),
        _ => failure,
    })?;
    let mut stream = parse(&file, &original.bytes)?;
    let found = the_either(&file, &stream, args.namespace.as_deref(), args.name.as_deref())?;
    let command = format!("bulla edit {file}");
    let choice = Chooser::new(&args.recipients, &args.cluster).choose_any(Some(path), &file, &command)?;
    let place = found.called();
    choice.in_namespace(&place, found.namespace())?;
    let asked = choice.scope(None)?;
    let mut sealed = match found {
        Either::Native(sealed) => sealed,
        Either::Bitnami(sealed) => return bitnami(args, &original, stream, &sealed, &choice),
    };
    let targets = choice.native(&file)?;
    // Nobody types what could not be sealed.
    set_all(&mut sealed.object.clone(), &[], targets, asked)
        .map_err(|error| sealed.in_file(&file, &stream).by_rule(choice.by_rule).set(&place, targets, &error))?;
    let values = if args.show || !args.identities.is_empty() {
        let held = identities::resolve(&args.identities, false)?;
        let in_file = sealed.in_file(&file, &stream);
        let inspected = inspect(&sealed.object, Strictness::Reader).map_err(|problems| in_file.problems(&problems))?;
        inspected.open(&held.all()).map_err(|error| in_file.open(&place, &held.files, &error))?
    } else {
        BTreeMap::new()
    };
    let keys: Vec<&String> = sealed.object.spec.items.keys().collect();
    let change = edited(&file, &place, &keys, &values, &targets.names())?;
    let Some(change) = change else { return Ok(Done::Well) };

    let mut edits = Vec::new();
    for key in &change.removed {
        unset(&mut sealed.object, key);
        edits.push((sealed.index, Edit::RemoveItem { key: key.clone() }));
    }
    let set: Vec<_> = change.set.iter().map(|(key, value)| (key.as_str(), value)).collect();
    set_all(&mut sealed.object, &set, targets, asked)
        .map_err(|error| sealed.in_file(&file, &stream).by_rule(choice.by_rule).set(&place, targets, &error))?;
    for key in change.set.keys() {
        if let Some(item) = sealed.object.spec.items.get(key) {
            edits.push((sealed.index, Edit::SetItem { key: key.clone(), item: item.clone() }));
        }
    }
    stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())?;
    let kept = sealed.object.spec.items.len() - change.set.len();
    change.tell(&place, &file, kept, &targets.names());
    near_limits(&place, &sealed.object).iter().for_each(|warning| output::warn(warning));
    Ok(Done::Well)
}

/// What was changed in the editor.
struct Change {
    set: BTreeMap<String, SecretValue>,
    removed: Vec<String>,
}

impl Change {
    fn tell(&self, place: &str, file: &str, kept: usize, names: &str) {
        let mut told = Vec::new();
        if !self.set.is_empty() {
            told.push(format!("set {}", self.set.keys().cloned().collect::<Vec<_>>().join(", ")));
        }
        if !self.removed.is_empty() {
            told.push(format!("took out {}", self.removed.join(", ")));
        }
        let kept = count(kept, "item");
        output::say(&format!("edited {place} in {file}: {}; {kept} kept, for {names}", told.join("; ")));
    }
}

/// The same in Bitnami's format.
fn bitnami(
    args: &EditArgs,
    original: &Original,
    mut stream: Stream,
    sealed: &Bitnami,
    choice: &Chosen,
) -> Result<Done> {
    let file = shown(&original.path);
    let place = sealed.called();
    let rsa = choice.bitnami(&file)?;
    let asked = choice.scope(None)?;
    let mut after = sealed.object.clone();
    // Nobody types what could not be sealed.
    bulla::bitnami::set_all(&mut after, &[], &rsa.certificate, asked)
        .map_err(|error| sealed.set(&file, &stream, &error))?;
    let values = if args.show || !args.identities.is_empty() {
        let held = identities::resolve(&args.identities, false)?;
        let opened = bulla::bitnami::open(&sealed.object, &held.all_keys(), None)
            .map_err(|error| sealed.open(&file, &stream, &held.files, &error))?;
        opened.secret.data
    } else {
        BTreeMap::new()
    };
    let keys: Vec<&String> = sealed.object.spec.encrypted_data.keys().collect();
    let Some(change) = edited(&file, &place, &keys, &values, &rsa.shown())? else { return Ok(Done::Well) };
    for key in &change.removed {
        bulla::bitnami::unset(&mut after, key);
    }
    let set: Vec<_> = change.set.iter().map(|(key, value)| (key.as_str(), value)).collect();
    bulla::bitnami::set_all(&mut after, &set, &rsa.certificate, asked)
        .map_err(|error| sealed.set(&file, &stream, &error))?;
    let edits = bulla::bitnami::edits(sealed.index, &sealed.object.spec, &after.spec);
    stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())?;
    change.tell(&place, &file, after.spec.encrypted_data.len() - change.set.len(), &rsa.shown());
    Made::Bitnami(Box::new(after)).near_limits().iter().for_each(|warning| output::warn(warning));
    Ok(Done::Well)
}

/// Shows the items to somebody, and says what was changed; `None` when nothing was. All that was shown is gone afterwards.
fn edited(
    file: &str,
    place: &str,
    keys: &[&String],
    values: &BTreeMap<String, SecretValue>,
    names: &str,
) -> Result<Option<Change>> {
    let entry = |key: &String| values.get(key).map_or(Entry::Keep, |value| Entry::Value(value.clone()));
    let items: BTreeMap<String, Entry> = keys.iter().map(|key| ((*key).clone(), entry(key))).collect();
    let comment = format!(
        "{place} in {file}, sealed for {names}\nA value that is typed in gets sealed; {} keeps its bytes.\nA line that is taken \
         out takes its item out; a new line KEY: VALUE adds one.",
        if values.is_empty() { SEALED } else { "one that is left" }
    );
    let before = buffer::write(&comment, &items);
    let session = Session::start(&before)?;
    let program = editor::chosen();
    loop {
        let start = Instant::now();
        session.edit(&program)?;
        let took = start.elapsed();
        let text = session.text()?;
        if **text == *before.as_bytes() {
            output::say("nothing was changed");
            if took < AT_ONCE {
                output::note("the editor was back at once: some need to be told to wait, as in EDITOR=\"code --wait\"");
            }
            return Ok(None);
        }
        match difference(&items, values, &text) {
            Ok(Some(change)) => return Ok(Some(change)),
            Ok(None) => {
                output::say("nothing was changed");
                return Ok(None);
            }
            Err(failure) if output::on_terminal() => {
                output::failure(&failure);
                if !input::confirm("edit it again? [Y/n] ")? {
                    return Err(Failure::new("given up; nothing was written"));
                }
            }
            Err(failure) => return Err(failure.help("nothing was written, and what was typed is gone")),
        }
    }
}

fn difference(
    items: &BTreeMap<String, Entry>,
    values: &BTreeMap<String, SecretValue>,
    text: &[u8],
) -> Result<Option<Change>> {
    let after = buffer::read(text)?;
    if after.is_empty() {
        return Err(Failure::new("the text has no items left").help("to take all items out: bulla unset FILE KEY…"));
    }
    let removed: Vec<String> = items.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
    let mut set = BTreeMap::new();
    for (key, entry) in after {
        match entry {
            Entry::Keep if items.contains_key(&key) => {}
            Entry::Keep => {
                return Err(Failure::new(format!("{key} is new, and {SEALED} stands for a value that is there"))
                    .help("an item keeps its bytes under its own key only: what is sealed can't be renamed"));
            }
            Entry::Value(value) if values.get(&key) == Some(&value) => {}
            Entry::Value(value) => _ = set.insert(key, value),
        }
    }
    Ok((!set.is_empty() || !removed.is_empty()).then_some(Change { set, removed }))
}
