//! Values into a SealedSecret that is there: its lines change, and no others.

use bulla::bitnami::{MergeError, SetError, merge};
use bulla::manifest::{Edit, Stream, TemplateMap};
use bulla::scope::Scope;

use super::{cert, input, seal};
use crate::cli::KubesealArgs;
use crate::failure::{self, Failure, Result, printable, shown};
use crate::files::Original;
use crate::output as say;

pub fn run(args: &KubesealArgs) -> Result<()> {
    let Some(path) = &args.merge_into else { return Ok(()) };
    if args.sealed_secret_file.is_some() {
        return Err(Failure::new("--merge-into writes its own file: --sealed-secret-file has no meaning beside it"));
    }
    let file = shown(path);
    let original = Original::read(path).map_err(|failure| super::as_go(path, failure))?;
    let mut stream = Stream::read(&original.bytes).map_err(|error| failure::manifest(&file, None, &error))?;
    let found = input::sealed(&file, &stream)?;
    let [(index, view)] = found.as_slice() else {
        return Err(
            Failure::new(format!("there are {} SealedSecrets in it; values go into one", found.len())).in_file(&file)
        );
    };
    let input = input::read(args)?;
    let secrets_stream = input.stream()?;
    let secrets = input::secrets(&input.file, &secrets_stream)?;
    let [secret] = secrets.as_slice() else {
        return Err(Failure::new(format!("there are {} Secrets in it; --merge-into takes one", secrets.len()))
            .in_file(&input.file));
    };
    seal::not_empty(args, &input.file, &secrets)?;
    let mut object = view.sealed.clone();
    let scope = bulla::bitnami::scope_of(object.metadata.annotations.as_ref());
    let absent = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if scope != Scope::ClusterWide && absent(&object.metadata.namespace) {
        // Where the file names none it is sealed for the one that it will be applied in, as the other items are.
        let own = secret.secret.namespace.clone().filter(|own| !own.is_empty());
        object.metadata.namespace = Some(own.map_or_else(|| seal::namespace(args), Ok)?);
    }
    let differs = |own: &Option<String>, of: &Option<String>| !absent(own) && own != of;
    let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
    if differs(&secret.secret.name, name) || differs(&secret.secret.namespace, namespace) {
        let part = |part: &Option<String>| printable(part.as_deref().unwrap_or_default());
        say::warn(&format!(
            "the values are sealed for {}/{}, as {file} says, not for the name and namespace of the Secret",
            part(namespace),
            part(name)
        ));
    }
    let certificate = cert::valid(args)?;
    let merged = merge(&object, &secret.secret, seal::asked(args), &certificate).map_err(|error| {
        let failure = Failure::new(format!("{error}; nothing was written")).in_file(&file);
        match error {
            MergeError::Scope { object, .. } => failure.help(format!(
                "--scope {object} puts it there; for another scope seal all values of the SealedSecret anew"
            )),
            MergeError::Set(SetError::Legacy) => failure.help("seal all its values anew: kubeseal -f SECRET"),
            _ => failure,
        }
    })?;
    let mut edits: Vec<(usize, Edit)> = Vec::new();
    edits.extend(merged.items.into_iter().map(|(key, text)| (*index, Edit::SetEncrypted { key, text })));
    for (map, texts) in [(TemplateMap::Labels, merged.labels), (TemplateMap::Annotations, merged.annotations)] {
        edits.extend(texts.into_iter().map(|(key, text)| (*index, Edit::SetTemplateText { map, key, text })));
    }
    stream.apply(&edits).map_err(|error| failure::manifest(&file, Some(stream.text()), &error))?;
    original.replace(&stream.into_bytes())
}
