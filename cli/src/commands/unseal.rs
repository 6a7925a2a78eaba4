//! `bulla unseal`

use std::path::Path;

use bulla::manifest::Stream;
use bulla::manifest::emit::{secrets_json, secrets_yaml};
use bulla::metadata::is_delivery;
use bulla::secret::PlainSecret;

use super::Done;
use crate::bitnami::{Either, all_either, is_sealed, the_either};
use crate::cli::{Format, UnsealArgs};
use crate::failure::{self, Failure, Result, shown};
use crate::model::{other_kinds, parse};
use crate::recipients::Held;
use crate::{files, identities, output};

pub fn run(args: &UnsealArgs) -> Result<Done> {
    let path = args.file.as_ref().or(args.file_flag.as_ref()).ok_or_else(|| Failure::usage("no FILE is named"))?;
    let held = identities::resolve(&args.identities, files::is_stdin(path))?;
    let file = shown(path);
    let (stream, secrets) = if args.key.is_some() && args.name.is_none() && args.namespace.is_none() {
        one_secret(path, &held)?
    } else {
        secrets(path, args.namespace.as_deref(), args.name.as_deref(), &held)?
    };
    let written = match (&args.key, secrets.as_slice()) {
        (Some(key), [secret]) => {
            let Some(value) = secret.data.get(key) else {
                let keys: Vec<_> = secret.data.keys().map(String::as_str).collect();
                return Err(Failure::missing(format!("there is no item {key} in {file}, but {}", keys.join(", "))));
            };
            zeroize::Zeroizing::new(value.expose().to_vec())
        }
        _ => {
            let format = args.output.unwrap_or(if stream.is_flow() { Format::Json } else { Format::Yaml });
            let mut text = match format {
                Format::Yaml => secrets_yaml(&secrets),
                Format::Json => secrets_json(&secrets),
            };
            zeroize::Zeroizing::new(std::mem::take(&mut *text).into_bytes())
        }
    };
    match &args.write {
        Some(path) if !files::is_stdin(path) => {
            files::create_private(path, &written)?;
            output::say(&format!("wrote {}, in plaintext", shown(path)));
        }
        _ => output::data(&written)?,
    }
    let others = stream.objects().filter(|object| !is_sealed(object)).count();
    if others > 0 {
        output::note(&format!("left out {}", output::plain::count(others, "other object")));
    }
    Ok(Done::Well)
}

/// The Secret of the only SealedSecret of a file.
fn one_secret(path: &Path, held: &Held) -> Result<(Stream, Vec<PlainSecret>)> {
    let file = shown(path);
    let stream = parse(&file, &files::read(path)?)?;
    let sealed = the_either(&file, &stream, None, None)?;
    let secret = open(&file, &stream, &sealed, held)?;
    Ok((stream, vec![secret]))
}

/// The Secrets of a file: that of one SealedSecret where one is named, else all. All are opened, or none.
pub fn secrets(
    path: &Path,
    namespace: Option<&str>,
    name: Option<&str>,
    held: &Held,
) -> Result<(Stream, Vec<PlainSecret>)> {
    let file = shown(path);
    let bytes = files::read(path)?;
    let stream = parse(&file, &bytes)?;
    let sealed = if name.is_some() || namespace.is_some() {
        vec![the_either(&file, &stream, namespace, name)?]
    } else {
        all_either(&file, &stream)?
    };
    if sealed.is_empty() {
        return Err(no_sealed(&file, &stream));
    }
    let mut secrets = Vec::new();
    let mut failures = Vec::new();
    for one in &sealed {
        match open(&file, &stream, one, held) {
            Ok(secret) => secrets.push(secret),
            Err(failure) => failures.push(*failure),
        }
    }
    match failure::all(failures) {
        Some(failure) => Err(failure),
        None => Ok((stream, secrets)),
    }
}

/// An error for a file with nothing sealed in it.
pub fn no_sealed(file: &str, stream: &Stream) -> Box<Failure> {
    Failure::new(format!("there is no SealedSecret in {file}{}", other_kinds(stream)))
}

/// Opens one, with the labels and annotations that delivery tools need, which sealing left on the SealedSecret.
fn open(file: &str, stream: &Stream, sealed: &Either, held: &Held) -> Result<PlainSecret> {
    let (mut secret, metadata) = match sealed {
        Either::Native(sealed) => {
            let in_file = sealed.in_file(file, stream);
            if held.identities.is_empty() && !held.keys.is_empty() {
                return Err(other_format(file, &sealed.called(), "native", "-i IDENTITY, which bulla keygen makes"));
            }
            let secret = bulla::open::open(&sealed.object, &held.all())
                .map_err(|error| in_file.open(&sealed.called(), &held.files, &error))?;
            (secret, &sealed.object.metadata)
        }
        Either::Bitnami(sealed) => {
            if held.keys.is_empty() {
                let help = "-i KEY: the controller's private key, as PEM, as its Secret, or as a List of them";
                return Err(other_format(file, &sealed.called(), "Bitnami's", help));
            }
            let opened = bulla::bitnami::open_rendered(&sealed.object, &held.all_keys(), None)
                .map_err(|error| sealed.open(file, stream, &held.files, &error))?;
            (opened.secret, &sealed.object.metadata)
        }
    };
    for (from, to) in [(&metadata.labels, &mut secret.labels), (&metadata.annotations, &mut secret.annotations)] {
        for (key, value) in from.iter().flatten().filter(|(key, _)| is_delivery(key)) {
            to.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Ok(secret)
}

fn other_format(file: &str, place: &str, format: &str, help: &str) -> Box<Failure> {
    Failure::new(format!("{place} is of {format} format, and none of the identities given is")).in_file(file).help(help)
}
