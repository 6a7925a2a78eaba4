//! `bulla set`

use std::collections::BTreeMap;
use std::path::Path;

use bulla::manifest::emit::{json, yaml};
use bulla::manifest::{Edit, Stream};
use bulla::scope::Scope;
use bulla::secret::{PlainSecret, SecretValue};

use super::{Done, file_and_keys, no_idle_cluster};
use crate::bitnami::{self, Either, Made as SealedObject, the_either};
use crate::cli::{Generate, SetArgs};
use crate::failure::{self, Failure, Result, shown};
use crate::files::{self, Destination, Original};
use crate::generate::{self, Made, Public};
use crate::model::{called, parse};
use crate::output::plain::count;
use crate::recipients::{Chooser, Chosen, Key};
use crate::{input, output};

pub fn run(args: &SetArgs) -> Result<Done> {
    let (path, keys) = file_and_keys(&with_made_keys(args)?, args.file.as_ref(), "set")?;
    no_idle_cluster(&args.recipients, &args.cluster)?;
    let file = shown(&path);
    let source = source(args, &path, &keys)?;
    let command = format!("bulla set {file} {}", keys.join(" "));
    let choose = || Chooser::new(&args.recipients, &args.cluster).choose_any(Some(&path), &file, &command);
    let destination = files::destination(&path)?;
    let mut choice = None;
    let mut target = match &destination {
        Destination::There(original) => {
            let stream = parse(&file, &original.bytes)?;
            let sealed = the_either(&file, &stream, args.namespace.as_deref(), args.name.as_deref())?;
            Target::There(original, stream, sealed)
        }
        Destination::New => {
            let mut secret = new_secret(args, &path)?;
            let chosen = choose()?;
            if secret.namespace.is_none() {
                secret.namespace = chosen.namespace().map(str::to_owned);
            }
            choice = Some(chosen);
            Target::New(secret)
        }
        Destination::Special => return Err(Failure::new(format!("{file} is no regular file"))),
    };
    let choice = choice.map_or_else(choose, Ok)?;
    let asked = choice.scope(args.scope.map(Scope::from))?;
    // Nobody is asked for a value that could not be set.
    match &target {
        Target::There(_, stream, sealed) => {
            choice.in_namespace(&sealed.called(), sealed.namespace())?;
            let nothing = SecretValue::default();
            let values: Vec<_> = keys.iter().map(|key| (key.as_str(), &nothing)).collect();
            put(&file, stream, sealed, &values, &choice, asked)?;
        }
        Target::New(secret) => {
            choice.in_namespace("the Secret", secret.namespace.as_deref())?;
            seal_new(secret, asked.unwrap_or_default(), &choice)?;
        }
    }
    let (values, public) = match (&source, args.make.generate) {
        (Source::Generated, Some(kind)) => {
            let made = made(args, kind, &path, &keys)?;
            if let (Target::New(secret), Some(type_)) = (&mut target, made.type_) {
                secret.type_ = Some(type_.to_owned());
            }
            let values = made.values.into_iter().map(|(key, value)| (key, Value { value, dropped: false }));
            (values.collect(), made.public)
        }
        _ => (source.read(args, &path, &keys)?, None),
    };
    let done = match target {
        Target::New(secret) => create(asked.unwrap_or_default(), &path, &file, secret, values, &choice),
        Target::There(original, stream, sealed) => change(&file, original, stream, &sealed, values, &choice, asked),
    }?;
    match public {
        Some(public) => show(args, &public).map(|()| done),
        None => Ok(done),
    }
}

/// The arguments with the keys that are made up by themselves.
fn with_made_keys(args: &SetArgs) -> Result<Vec<String>> {
    let Some(kind) = args.make.generate else {
        let flags = [
            ("--length", args.make.length.is_some()),
            ("--alphabet", args.make.alphabet.is_some()),
            ("--also", args.make.also.is_some()),
            ("--user", args.make.user.is_some()),
            ("--password-key", args.make.password_key.is_some()),
            ("--docker-server", args.make.docker_server.is_some()),
            ("--dns", !args.make.dns.is_empty()),
            ("--days", args.make.days.is_some()),
            ("--csr", args.make.csr),
            ("--public-out", args.make.public_out.is_some()),
        ];
        return match flags.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::usage(format!("{flag} goes with --generate"))),
            None => Ok(args.args.clone()),
        };
    };
    generate::check(kind, &args.make)?;
    let (file, named) = match (&args.file, args.args.as_slice()) {
        (None, [file, named @ ..]) => (Some(file), named),
        (_, named) => (None, named),
    };
    let keys = generate::keys(kind, &args.make, named)?;
    Ok(file.into_iter().cloned().chain(keys).collect())
}

/// Makes values up, with a password that somebody types where it needs one.
fn made(args: &SetArgs, kind: Generate, path: &Path, keys: &[String]) -> Result<Made> {
    if let Some(public) = args.make.public_out.as_deref().filter(|public| !files::is_stdin(public))
        && std::fs::symlink_metadata(public).is_ok()
    {
        return Err(Failure::new(format!("{} is there already and is not overwritten", shown(public))));
    }
    let password = if generate::wants_password(kind, &args.make) {
        let source = if output::on_terminal() { Source::Prompt } else { Source::Stdin };
        let name = "password".to_owned();
        source.read(args, path, std::slice::from_ref(&name))?.remove(&name).map(|value| value.value)
    } else {
        None
    };
    generate::make(kind, &args.make, keys, password.as_ref())
}

/// The public half goes where it was asked for.
fn show(args: &SetArgs, public: &Public) -> Result<()> {
    match args.make.public_out.as_deref() {
        Some(path) if !files::is_stdin(path) => {
            files::create(path, public.text.as_bytes())?;
            output::say(&format!("wrote {}: {}", shown(path), public.told));
        }
        Some(_) => {
            output::data(public.text.as_bytes())?;
            output::say(&public.told);
        }
        None => output::say(&public.told),
    }
    Ok(())
}

enum Target<'a> {
    New(PlainSecret),
    There(&'a Original, Stream, Either),
}

/// A value that was read, and whether a final line end was dropped.
struct Value {
    value: SecretValue,
    dropped: bool,
}

/// Where the values come from.
enum Source {
    Generated,
    Files(BTreeMap<String, std::path::PathBuf>),
    Prompt,
    Stdin,
}

fn source(args: &SetArgs, path: &Path, keys: &[String]) -> Result<Source> {
    if args.make.generate.is_some() {
        return Ok(Source::Generated);
    }
    if !args.from_file.is_empty() {
        return Ok(Source::Files(from_files(args, keys)?));
    }
    if output::on_terminal() {
        return Ok(Source::Prompt);
    }
    match keys {
        [_] => Ok(Source::Stdin),
        _ => Err(Failure::usage(format!("{} keys, and standard input has one value", keys.len())).help(format!(
            "one at a time, or: bulla set {} {}",
            shown(path),
            keys.iter().map(|key| format!("{key} --from-file {key}=PATH")).collect::<Vec<_>>().join(" ")
        ))),
    }
}

/// `PATH` for the one key, or `KEY=PATH` for each.
fn from_files(args: &SetArgs, keys: &[String]) -> Result<BTreeMap<String, std::path::PathBuf>> {
    let mut files = BTreeMap::new();
    for given in &args.from_file {
        let (key, path) = match (given.split_once('='), keys) {
            (Some((key, path)), _) if keys.iter().any(|k| k == key) => (key.to_owned(), path),
            (_, [key]) => (key.clone(), given.as_str()),
            _ => {
                return Err(Failure::usage(format!("--from-file {given}: with several keys it is KEY=PATH"))
                    .help(format!("the keys are {}", keys.join(", "))));
            }
        };
        if files.insert(key.clone(), path.into()).is_some() {
            return Err(Failure::usage(format!("two files for the key {key}")));
        }
    }
    match keys.iter().find(|key| !files.contains_key(*key)) {
        Some(key) => Err(Failure::usage(format!("no file for the key {key}")).help(format!("--from-file {key}=PATH"))),
        None => Ok(files),
    }
}

impl Source {
    fn read(&self, args: &SetArgs, path: &Path, keys: &[String]) -> Result<BTreeMap<String, Value>> {
        let mut values = BTreeMap::new();
        for key in keys {
            let value = match self {
                Self::Files(files) => {
                    let from = files.get(key).map_or(Path::new("-"), |path| path);
                    let mut bytes = files::read(from)?;
                    Value { value: SecretValue::new(std::mem::take(&mut *bytes)), dropped: false }
                }
                // What is made up is not read: see `made`.
                Self::Generated | Self::Prompt => {
                    let ask = if args.confirm { input::prompt_twice } else { input::prompt };
                    Value { value: ask(key)?, dropped: false }
                }
                Self::Stdin => {
                    let bytes = input::stdin()?;
                    let (bare, dropped) = if args.exact { (&**bytes, false) } else { input::without_line_end(&bytes) };
                    Value { value: SecretValue::new(bare.to_vec()), dropped }
                }
            };
            if value.value.is_empty() && !args.allow_empty {
                return Err(self.empty(key, path));
            }
            values.insert(key.clone(), value);
        }
        Ok(values)
    }

    fn empty(&self, key: &str, path: &Path) -> Box<Failure> {
        let on_purpose = "(empty on purpose: --allow-empty)";
        match self {
            Self::Stdin => Failure::new(format!("standard input was empty: no value for \"{key}\"")).help(format!(
                "printf %s \"${}\" | bulla set {} {key}     {on_purpose}",
                variable(key),
                shown(path)
            )),
            Self::Files(files) => {
                let from = files.get(key).map(|path| shown(path)).unwrap_or_default();
                Failure::new(format!("{from} is empty: no value for \"{key}\""))
                    .help(on_purpose.trim_matches(['(', ')']))
            }
            _ => Failure::new(format!("nothing was typed: no value for \"{key}\""))
                .help(on_purpose.trim_matches(['(', ')'])),
        }
    }
}

/// A shell variable called like a key.
fn variable(key: &str) -> String {
    let name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// A Secret without values, for a file that is not there yet.
fn new_secret(args: &SetArgs, path: &Path) -> Result<PlainSecret> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let stem = stem.strip_suffix(".sealed").unwrap_or(&stem).to_owned();
            if !bulla::scope::is_dns_subdomain(&stem) {
                return Err(Failure::usage(format!("{} gives no name for a Secret", shown(path))).help("--name NAME"));
            }
            stem
        }
    };
    Ok(PlainSecret { name: Some(name), namespace: args.namespace.clone(), ..PlainSecret::default() })
}

fn new_error(secret: &PlainSecret, error: &bulla::seal::SealError) -> Box<Failure> {
    let what = format!("Secret \"{}\"", secret.name.as_deref().unwrap_or_default());
    match error {
        bulla::seal::SealError::Place(bulla::scope::PlaceError::NoNamespace(scope)) => {
            Failure::usage(format!("{what} has no namespace, and scope {scope} binds to one"))
                .help("pass -n (your kubectl context is not used)")
        }
        _ => failure::seal(&what, error),
    }
}

/// A new SealedSecret, in the format that the key decides.
fn seal_new(secret: &PlainSecret, scope: Scope, choice: &Chosen) -> Result<SealedObject> {
    match &choice.targets {
        Key::Native(targets) => bulla::seal::seal(secret, scope, targets)
            .map(|sealed| SealedObject::Native(Box::new(sealed)))
            .map_err(|error| new_error(secret, &error)),
        Key::Bitnami(rsa) => bulla::bitnami::seal_for_delivery(secret, scope, &rsa.certificate)
            .map(|sealed| SealedObject::Bitnami(Box::new(sealed)))
            .map_err(|error| match error {
                bulla::bitnami::SetError::Place(error) => new_error(secret, &bulla::seal::SealError::Place(error)),
                error => bitnami::seal(&format!("Secret \"{}\"", secret.name.as_deref().unwrap_or_default()), &error),
            }),
    }
}

/// Seals values into a SealedSecret that is there, in its own format: what is to be edited, and what it then is.
pub fn put(
    file: &str,
    stream: &Stream,
    sealed: &Either,
    values: &[(&str, &SecretValue)],
    choice: &Chosen,
    asked: Option<Scope>,
) -> Result<(Vec<(usize, Edit)>, SealedObject)> {
    match sealed {
        Either::Native(sealed) => {
            let targets = choice.native(file)?;
            let mut after = sealed.object.clone();
            bulla::seal::set_all(&mut after, values, targets, asked).map_err(|error| {
                sealed.in_file(file, stream).by_rule(choice.by_rule).set(&sealed.called(), targets, &error)
            })?;
            let items = values.iter().filter_map(|(key, _)| Some((key, after.spec.items.get(*key)?)));
            let edits = items
                .map(|(key, item)| (sealed.index, Edit::SetItem { key: (*key).to_owned(), item: item.clone() }))
                .collect();
            Ok((edits, SealedObject::Native(Box::new(after))))
        }
        Either::Bitnami(sealed) => {
            let rsa = choice.bitnami(file)?;
            let mut after = sealed.object.clone();
            bulla::bitnami::set_all(&mut after, values, &rsa.certificate, asked)
                .map_err(|error| sealed.set(file, stream, &error))?;
            let edits = bulla::bitnami::edits(sealed.index, &sealed.object.spec, &after.spec);
            Ok((edits, SealedObject::Bitnami(Box::new(after))))
        }
    }
}

fn create(
    scope: Scope,
    path: &Path,
    file: &str,
    mut secret: PlainSecret,
    values: BTreeMap<String, Value>,
    choice: &Chosen,
) -> Result<Done> {
    let items = values.len();
    let dropped: Vec<String> = values.iter().filter(|(_, value)| value.dropped).map(|(key, _)| key.clone()).collect();
    secret.data = values.into_iter().map(|(key, value)| (key, value.value)).collect();
    let sealed = seal_new(&secret, scope, choice)?;
    let place = called(secret.namespace.as_deref(), secret.name.as_deref());
    let warnings = sealed.near_limits();
    let tree = [sealed.tree()];
    let text = if path.extension().is_some_and(|e| e == "json") { json(&tree) } else { yaml(&tree) };
    files::create(path, text.as_bytes())?;
    let dropped = if dropped.is_empty() { String::new() } else { " (a trailing newline was dropped)".to_owned() };
    output::say(&format!(
        "created {file}: SealedSecret {place}, {}{dropped}, for {}",
        count(items, "item"),
        choice.targets.names()
    ));
    warnings.iter().for_each(|warning| output::warn(warning));
    Ok(Done::Well)
}

fn change(
    file: &str,
    original: &Original,
    mut stream: Stream,
    sealed: &Either,
    values: BTreeMap<String, Value>,
    choice: &Chosen,
    asked: Option<Scope>,
) -> Result<Done> {
    let place = sealed.called();
    let mut told = Vec::new();
    let all: Vec<_> = values.iter().map(|(key, Value { value, .. })| (key.as_str(), value)).collect();
    let (edits, after) = put(file, &stream, sealed, &all, choice, asked)?;
    for (key, Value { value, dropped }) in &values {
        let dropped = if *dropped { "; a trailing newline was dropped" } else { "" };
        told.push(format!("{key} ({}{dropped})", count(value.len(), "byte")));
    }
    stream.apply(&edits).map_err(|error| failure::manifest(file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())?;
    let told = match told.as_slice() {
        [one] => match one.split_once(" (") {
            Some((key, rest)) => format!("{key} in {place} ({rest}"),
            None => one.clone(),
        },
        several => format!("{} in {place}", several.join(", ")),
    };
    output::say(&format!("set {told}, for {}", choice.targets.names()));
    after.near_limits().iter().for_each(|warning| output::warn(warning));
    Ok(Done::Well)
}
