//! SealedSecrets sealed anew by the controller. Only the texts of the items change: everything else is as it was sent.

use bulla::bitnami::{BitnamiSealedSecret, Resealed, resealed_of};
use bulla::manifest::{BitnamiView, Edit, Stream, TextPath, Tree};

use super::connect::Controller;
use super::output::Format;
use super::{input, output};
use crate::cli::KubesealArgs;
use crate::failure::{self, Failure, Result, shown};
use crate::files::Original;

pub fn run(args: &KubesealArgs) -> Result<()> {
    // With a file to read and none to write, it is that file.
    if let (Some(path), None) = (&args.secret_file, &args.sealed_secret_file)
        && path.is_file()
    {
        let original = Original::read(path)?;
        let stream = renewed(args, &shown(path), &original.bytes)?;
        return original.replace(&stream.into_bytes());
    }
    let format = output::format(args)?;
    let input = input::read(args)?;
    let stream = renewed(args, &input.file, &input.bytes)?;
    let same = if stream.is_flow() { Format::Json } else { Format::Yaml };
    if format == Format::Yaml && same == Format::Yaml {
        // As it was, comments and all; what follows it on standard output may be another one.
        let mark = if stream.text().starts_with("---") { "" } else { "---\n" };
        return output::write(args, format!("{mark}{}", stream.text()).as_bytes(), false);
    }
    let objects = stream.objects().map(|object| Tree::of_json(&without_server_fields(object.node().to_json())));
    output::write(args, output::text(objects.collect(), format).as_bytes(), false)
}

/// What the API server keeps for itself goes, as there.
fn without_server_fields(mut value: serde_json::Value) -> serde_json::Value {
    if let Some(metadata) = value.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        for field in ["creationTimestamp", "deletionTimestamp", "generation"] {
            metadata.remove(field);
        }
    }
    value
}

fn renewed(args: &KubesealArgs, file: &str, bytes: &[u8]) -> Result<Stream> {
    let mut stream = Stream::read(bytes).map_err(|error| failure::manifest(file, None, &error))?;
    let found = input::sealed(file, &stream)?;
    let controller = Controller::connect(args)?;
    let mut edits = Vec::new();
    for (index, view) in &found {
        let Some(object) = stream.object(*index) else { continue };
        let body = object.node().to_json().to_string().into_bytes();
        edits.extend(ask(&controller, file, view, body)?.into_iter().map(|edit| (*index, edit)));
    }
    stream.apply(&edits).map_err(|error| failure::manifest(file, Some(stream.text()), &error))?;
    Ok(stream)
}

fn ask(controller: &Controller, file: &str, view: &BitnamiView, body: Vec<u8>) -> Result<Vec<Edit>> {
    let fail = |message: String| Failure::new(message).at(file, None, view.places.object);
    let cant = |why: &str| fail(format!("cannot re-encrypt secret: {why}"));
    let answer = controller.post("/v1/rotate", body).map_err(|why| cant(&why))?;
    match answer.status {
        200 => {}
        409 => return Err(fail("unable to rotate secret".into()).help("no key of the controller opens it")),
        _ => return Err(cant(&answer.why())),
    }
    let answer: BitnamiSealedSecret =
        serde_json::from_slice(&answer.body).map_err(|_| cant("the answer is no SealedSecret"))?;
    let resealed =
        resealed_of(&view.sealed, &answer).map_err(|error| cant(&format!("the answer is refused, {error}")))?;
    Ok(match resealed {
        Resealed::Whole(text) => vec![Edit::ReplaceText { path: TextPath::Data, text }],
        Resealed::Items(texts) => texts.into_iter().map(|(key, text)| Edit::SetEncrypted { key, text }).collect(),
    })
}
