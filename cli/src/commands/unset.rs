//! `bulla unset`

use bulla::manifest::Edit;

use super::{Done, file_and_keys};
use crate::bitnami::{Either, the_either};
use crate::cli::UnsetArgs;
use crate::failure::{self, Failure, Result, shown};
use crate::files::Original;
use crate::model::parse;
use crate::output;

pub fn run(args: &UnsetArgs) -> Result<Done> {
    let (path, keys) = file_and_keys(&args.args, args.file.as_ref(), "unset")?;
    let file = shown(&path);
    let original = Original::read(&path)?;
    let mut stream = parse(&file, &original.bytes)?;
    let sealed = the_either(&file, &stream, args.namespace.as_deref(), args.name.as_deref())?;
    let (index, place) = (sealed.index(), sealed.called());
    let mut there: Vec<String> = match sealed {
        Either::Native(sealed) => sealed.object.spec.items.into_keys().collect(),
        Either::Bitnami(sealed) => sealed.object.spec.encrypted_data.into_keys().collect(),
    };
    let mut edits = Vec::new();
    for key in &keys {
        let Some(at) = there.iter().position(|there| there == key) else {
            let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
            return Err(Failure::missing(format!("there is no item {key} in {file}, but {there}")));
        };
        there.remove(at);
        edits.push((index, Edit::RemoveItem { key: key.clone() }));
    }
    stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())?;
    output::say(&format!(
        "took {} out of {} in {file}; {} left",
        keys.join(", "),
        place,
        output::plain::count(there.len(), "item")
    ));
    output::note("what was committed stays in Git's history: if the value still counts, change it where it counts");
    Ok(Done::Well)
}
