//! `bulla move`

use bulla::manifest::Edit;
use bulla::rewrap::{RebindError, rebind};
use bulla::seal::SetError;

use super::Done;
use crate::cli::MoveArgs;
use crate::failure::{self, Failure, Result, shown};
use crate::files::{self, Original};
use crate::model::{called, fresh_edits, parse, the_sealed};
use crate::output::plain::{count, near_limits};
use crate::recipients::Chooser;
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
    let sealed = the_sealed(&file, &stream, args.namespace.as_deref(), args.name.as_deref())?;
    let command = format!("bulla move {file} --from {} -i IDENTITY", args.from);
    let choice = Chooser::new(&args.recipients, &args.cluster).choose(Some(path), &file, &command)?;
    choice.in_namespace(&sealed.called(), sealed.object.metadata.namespace.as_deref())?;
    let targets = choice.targets.clone();
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
    let metadata = &sealed.object.metadata;
    let what = match (metadata.namespace.as_deref(), metadata.name.as_deref()) {
        (Some(namespace), Some(name)) if name == from.1 && namespace != from.0 => {
            format!("of {name} from {} to {namespace}", from.0)
        }
        _ => format!("from {} to {place}", args.from),
    };
    output::say(&format!("re-bound {} {what}, for {}", count(moved.keys.len(), "item"), targets.names()));
    if let Some(before) = moved.scopes.iter().find(|before| **before < own) {
        output::warn(&format!("they were sealed with scope {before}; {own} lets them be opened in more places"));
    }
    near_limits(&place, &moved.sealed).iter().for_each(|warning| output::warn(warning));
    Ok(Done::Well)
}
