//! What is read: Secrets, and SealedSecrets.

use std::path::Path;

use bulla::manifest::{BitnamiView, Object, PlainView, Stream};
use zeroize::Zeroizing;

use crate::cli::KubesealArgs;
use crate::failure::{self, Failure, Result, shown};
use crate::files;

/// A text and what it is called.
pub struct Input {
    pub file: String,
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Reads a file; `-` is standard input.
pub fn file(path: &Path) -> Result<Input> {
    let bytes = files::read(path).map_err(|failure| super::as_go(path, failure))?;
    Ok(Input { file: shown(path), bytes })
}

/// The file of `-f`, or standard input.
pub fn read(args: &KubesealArgs) -> Result<Input> {
    match &args.secret_file {
        Some(path) => file(path),
        None => {
            super::expect("json/yaml k8s resource");
            file(Path::new("-"))
        }
    }
}

impl Input {
    /// Its documents.
    pub fn stream(&self) -> Result<Stream> {
        Stream::read(&self.bytes).map_err(|error| failure::manifest(&self.file, None, &error))
    }
}

/// All Secrets of a text; that there is anything else in it, or none, is an error.
pub fn secrets(file: &str, stream: &Stream) -> Result<Vec<PlainView>> {
    let all = each(file, stream, "Secret", |object| object.is_secret(), |object| object.secret_view())?;
    if all.is_empty() {
        return Err(Failure::new("no secrets found").in_file(file).help("it is empty: what made it has failed before"));
    }
    Ok(all)
}

/// All SealedSecrets of a text, with their index; that there is anything else in it, or none, is an error.
pub fn sealed(file: &str, stream: &Stream) -> Result<Vec<(usize, BitnamiView)>> {
    let read = |object: Object<'_>| Ok((object.index(), object.bitnami()?));
    let all = each(file, stream, "SealedSecret", |object| object.is_bitnami(), read)?;
    if all.is_empty() {
        return Err(Failure::new("no sealed secrets found").in_file(file));
    }
    Ok(all)
}

fn each<T>(
    file: &str,
    stream: &Stream,
    wanted: &str,
    is: impl Fn(&Object<'_>) -> bool,
    read: impl Fn(Object<'_>) -> std::result::Result<T, bulla::manifest::ManifestError>,
) -> Result<Vec<T>> {
    let strange = stream.documents().iter().find(|document| {
        let root = &document.root;
        !root.is_null() && root.entries().is_none()
    });
    if let Some(document) = strange {
        let what = document.root.type_name();
        return Err(Failure::new(format!("this is {what}, where a {wanted} belongs")).at(
            file,
            None,
            document.root.span,
        ));
    }
    stream
        .objects()
        .map(|object| {
            if !is(&object) {
                return Err(wrong_kind(file, &object, wanted));
            }
            read(object).map_err(|error| failure::manifest(file, Some(stream.text()), &error))
        })
        .collect()
}

fn wrong_kind(file: &str, object: &Object<'_>, wanted: &str) -> Box<Failure> {
    let kind = failure::printable(object.kind().unwrap_or("object without a kind"));
    let failure = Failure::new(format!("this is a {kind}, where a {wanted} belongs; nothing was done")).at(
        file,
        None,
        object.span(),
    );
    if object.is_sealed() {
        failure.help("it is of bulla.dev/v1alpha1: bulla set, bulla seal and bulla reseal work on it")
    } else if object.is_secret() {
        failure.help("seal it first: kubeseal -f FILE")
    } else if object.is_bitnami() {
        failure.help("it is sealed already: --merge-into puts values into it, --re-encrypt renews it")
    } else {
        failure.help("take it out: only Secrets are sealed, and nothing else is passed on")
    }
}
