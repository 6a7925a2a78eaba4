//! `bulla move`

use bulla::manifest::{Edit, Stream};
use bulla::rewrap::{RebindError, rebind};
use bulla::scope::Scope;
use bulla::seal::SetError;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Done;
use crate::bitnami::{Bitnami, Either, the_either};
use crate::cli::MoveArgs;
use crate::failure::{self, Failure, Result, shown};
use crate::files::{self, Original};
use crate::model::{called, fresh_edits, parse};
use crate::output::plain::{count, near_limits};
use crate::recipients::{Chooser, Chosen};
use crate::{identities, output};

pub fn run(args: &MoveArgs) -> Result<Done> {
    let path = args.file.as_ref().or(args.file_flag.as_ref()).ok_or_else(|| Failure::usage("no FILE is named"))?;
    if files::is_stdin(path) {
        return Err(Failure::usage("bulla move changes a file; standard input is none"));
    }
    let from = match args.from.split_once('/') {
        Some((namespace, name)) if bulla::scope::is_dns_label(namespace) && bulla::scope::is_dns_subdomain(name) => {
            (namespace, name)
        }
        _ => {
            return Err(
                Failure::usage(format!("--from {:?} is no NAMESPACE/NAME", args.from)).help("as in --from shop/db")
            );
        }
    };
    let file = shown(path);
    let original = Original::read(path)?;
    let mut stream = parse(&file, &original.bytes)?;
    let found = the_either(&file, &stream, args.namespace.as_deref(), args.name.as_deref())?;
    let command = format!("bulla move {file} --from {} -i IDENTITY", args.from);
    let chooser = Chooser::new(&args.recipients, &args.cluster);
    let choice = chooser.choose_any(Some(path), &file, &command)?;
    choice.in_namespace(&found.called(), found.namespace())?;
    let sealed = match found {
        Either::Native(sealed) => sealed,
        Either::Bitnami(sealed) => return bitnami(args, &original, stream, &sealed, &choice, from),
    };
    let targets = choice.native(&file)?.clone();
    let held = identities::resolve(&args.identities, false)?;
    let in_file = sealed.in_file(&file, &stream).by_rule(choice.by_rule);
    let own = sealed.object.spec.scope.unwrap_or_default();
    if let Some(asked) = choice.scope(None)?.filter(|asked| own > *asked) {
        return Err(in_file.set(&sealed.called(), &targets, &SetError::WiderScope { file: own, asked }));
    }
    let moved = rebind(&sealed.object, from, &held.all(), &targets).map_err(|error| match error {
        RebindError::Rewrap(error) => in_file.rewrap(&called(Some(from.0), Some(from.1)), &held.files, &error),
        RebindError::Set(error) => in_file.set(&sealed.called(), &targets, &error),
    })?;
    let place = sealed.called();
    if moved.keys.is_empty() {
        output::say(&format!("nothing to move: all items of {file} are sealed for {place}"));
        return Ok(Done::Well);
    }
    let edits = if moved.whole {
        fresh_edits(sealed.index, &sealed.object, &moved.sealed)
    } else {
        let items = moved.keys.iter().filter_map(|key| Some((key, moved.sealed.spec.items.get(key)?)));
        items.map(|(key, item)| (sealed.index, Edit::SetItem { key: key.clone(), item: item.clone() })).collect()
    };
    stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())?;
    let what = told(&sealed.object.metadata, from, &place);
    output::say(&format!("re-bound {} {what}, for {}", count(moved.keys.len(), "item"), targets.names()));
    if let Some(before) = moved.scopes.iter().find(|before| **before < own) {
        output::warn(&format!("they were sealed with scope {before}; {own} lets them be opened in more places"));
    }
    near_limits(&place, &moved.sealed).iter().for_each(|warning| output::warn(warning));
    Ok(Done::Well)
}

/// From where to where, for a person.
fn told(metadata: &ObjectMeta, from: (&str, &str), place: &str) -> String {
    match (metadata.namespace.as_deref(), metadata.name.as_deref()) {
        (Some(namespace), Some(name)) if name == from.1 && namespace != from.0 => {
            format!("of {name} from {} to {namespace}", from.0)
        }
        _ => format!("from {}/{} to {place}", from.0, from.1),
    }
}

/// The same in Bitnami's format, in which nobody can see which items are misplaced: each is tried.
fn bitnami(
    args: &MoveArgs,
    original: &Original,
    mut stream: Stream,
    sealed: &Bitnami,
    choice: &Chosen,
    from: (&str, &str),
) -> Result<Done> {
    let file = shown(&original.path);
    let rsa = choice.bitnami(&file)?;
    let own = bulla::bitnami::scope_of(sealed.object.metadata.annotations.as_ref());
    if let Some(asked) = choice.scope(None)?.filter(|asked| own > *asked) {
        return Err(sealed.set(&file, &stream, &bulla::bitnami::SetError::WiderScope { file: own, asked }));
    }
    let held = identities::resolve(&args.identities, false)?;
    if held.keys.is_empty() {
        return Err(Failure::new(format!("{file} is of Bitnami's format, and none of the identities given is"))
            .in_file(&file)
            .help("-i KEY: the controller's private key, as PEM, as its Secret, or as a List of them"));
    }
    let moved = bulla::bitnami::rebind(&sealed.object, from, &held.all_keys(), &rsa.certificate)
        .map_err(|error| sealed.rebind(&file, &stream, &held.files, &error))?;
    let place = sealed.called();
    if moved.texts.is_empty() {
        output::say(&format!("nothing to move: all items of {file} are sealed for {place}"));
        return Ok(Done::Well);
    }
    let mut spec = sealed.object.spec.clone();
    moved.apply(&mut spec);
    let edits = bulla::bitnami::edits(sealed.index, &sealed.object.spec, &spec);
    stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())?;
    let what = told(&sealed.object.metadata, from, &place);
    output::say(&format!("re-bound {} {what}, for {}", count(moved.texts.len(), "item"), rsa.shown()));
    let narrower: Option<&Scope> = moved.scopes.iter().find(|before| **before < own);
    if let Some(before) = narrower {
        output::warn(&format!("they were sealed with scope {before}; {own} lets them be opened in more places"));
    }
    Ok(Done::Well)
}
