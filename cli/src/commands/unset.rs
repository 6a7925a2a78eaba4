//! `bulla unset`

use bulla::manifest::Edit;
use bulla::seal::unset;

use super::{Done, file_and_keys};
use crate::cli::UnsetArgs;
use crate::failure::{self, Failure, Result, shown};
use crate::files::Original;
use crate::model::{parse, the_sealed};
use crate::output;

pub fn run(args: &UnsetArgs) -> Result<Done> {
    let (path, keys) = file_and_keys(&args.args, args.file.as_ref(), "unset")?;
    let file = shown(&path);
    let original = Original::read(&path)?;
    let mut stream = parse(&file, &original.bytes)?;
    let mut sealed = the_sealed(&file, &stream, args.namespace.as_deref(), args.name.as_deref())?;
    let there: Vec<String> = sealed.object.spec.items.keys().cloned().collect();
    let mut edits = Vec::new();
    for key in &keys {
        if !unset(&mut sealed.object, key) {
            let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
            return Err(Failure::missing(format!("there is no item {key} in {file}, but {there}")));
        }
        edits.push((sealed.index, Edit::RemoveItem { key: key.clone() }));
    }
    stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())?;
    output::say(&format!(
        "took {} out of {} in {file}; {} left",
        keys.join(", "),
        sealed.called(),
        output::plain::count(sealed.object.spec.items.len(), "item")
    ));
    output::note("what was committed stays in Git's history: if the value still counts, change it where it counts");
    Ok(Done::Well)
}
