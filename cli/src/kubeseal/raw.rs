//! One value, and its text alone.

use std::path::Path;

use bulla::bitnami::{BitnamiSealedSecret, place, seal_item, set_scope};
use bulla::scope::Scope;

use super::{cert, connect, input, output, seal};
use crate::cli::KubesealArgs;
use crate::failure::{Failure, Result};

pub fn run(args: &KubesealArgs) -> Result<()> {
    let scope = seal::asked(args).unwrap_or_default();
    if args.secret_file.is_some() {
        return Err(Failure::new("--secret-file has no meaning with --raw")
            .help("--from-file FILE, or the value on standard input"));
    }
    let name = args.name.as_deref().unwrap_or_default();
    let mut namespace = String::new();
    if scope != Scope::ClusterWide {
        namespace = connect::namespace(&args.cluster)?.unwrap_or_default();
        if namespace.is_empty() {
            return Err(Failure::new(format!("must provide the --namespace flag with --raw and --scope {scope}")));
        }
        if name.is_empty() && scope == Scope::Strict {
            return Err(Failure::new(format!("must provide the --name flag with --raw and --scope {scope}")));
        }
    }
    let value = match args.from_file.as_slice() {
        [] => {
            super::expect("a secret to encrypt");
            input::file(Path::new("-"))?
        }
        [one] => input::file(Path::new(one.split_once('=').map_or(one.as_str(), |(_, path)| path)))?,
        _ => {
            return Err(Failure::new("must provide only one --from-file when encrypting a single item with --raw"));
        }
    };
    let mut object = BitnamiSealedSecret::default();
    (object.metadata.namespace, object.metadata.name) = (Some(namespace), Some(name.to_owned()));
    set_scope(object.metadata.annotations.get_or_insert_default(), scope);
    let (_, label) = place(&object).map_err(|error| Failure::new(error.to_string()))?;
    let certificate = cert::valid(args)?;
    let text = seal_item(&certificate, &label, &value.bytes).map_err(|error| Failure::new(error.to_string()))?;
    output::write(args, text.as_bytes(), false)
}
