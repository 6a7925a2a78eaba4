//! SealedSecrets opened with private keys, for when the cluster is lost.

use std::path::Path;

use bulla::bitnami::{OpenError, PrivateKey, open_rendered, private_keys};
use bulla::manifest::Tree;

use super::{input, output};
use crate::cli::KubesealArgs;
use crate::failure::{Failure, Result};

pub fn run(args: &KubesealArgs) -> Result<()> {
    let format = output::format(args)?;
    let mut keys: Vec<PrivateKey> = Vec::new();
    for file in args.recovery_private_key.iter().filter(|file| !file.is_empty()) {
        let input = input::file(Path::new(file))?;
        let read = private_keys(&input.bytes);
        keys.extend(read.map_err(|error| Failure::new(error.to_string()).in_file(&input.file))?);
    }
    let keys: Vec<&PrivateKey> = keys.iter().collect();
    let input = input::read(args)?;
    let stream = input.stream()?;
    let mut hint = None;
    let mut secrets = Vec::new();
    for (_, view) in input::sealed(&input.file, &stream)? {
        let opened = open_rendered(&view.sealed, &keys, hint).map_err(|error| {
            let failure = Failure::new(error.to_string()).at(&input.file, None, view.places.object);
            match error {
                OpenError::NoKey(_) if keys.is_empty() => failure.help("--recovery-private-key FILE"),
                OpenError::NoKey(_) => failure
                    .help("another key is needed; or name, namespace or scope are not those that it was sealed for"),
                _ => failure,
            }
        })?;
        hint = opened.key().or(hint);
        secrets.push(Tree::secret(&opened.secret));
    }
    output::write(args, output::text(secrets, format).as_bytes(), true)
}
