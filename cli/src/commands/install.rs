//! `bulla install`

use super::Done;
use crate::cli::{BitnamiMode, InstallArgs};
use crate::failure::{Failure, Result};
use crate::output;

/// All but the definitions of the custom resources.
const MANIFESTS: &str = include_str!("../../../deploy/bulla.yaml");
/// To see the SealedSecrets of bitnami.com.
const BITNAMI: &str = include_str!("../../../deploy/bitnami.yaml");
/// To make their Secrets.
const BITNAMI_OWN: &str = include_str!("../../../deploy/bitnami-own.yaml");
/// The namespace in them.
const NAMESPACE: &str = "bulla-system";

pub fn run(args: &InstallArgs) -> Result<Done> {
    let mut text = String::new();
    for definition in bulla::resource::custom_resource_definitions() {
        let yaml = serde_yaml::to_string(&definition)
            .map_err(|error| Failure::new(format!("can't write the definitions: {error}")))?;
        text.push_str("---\n");
        text.push_str(&yaml);
    }
    if !args.crds_only {
        if !MANIFESTS.trim_start().starts_with("---") {
            text.push_str("---\n");
        }
        let manifests = match args.bitnami {
            BitnamiMode::Off => MANIFESTS.to_owned(),
            mode => with_bitnami(mode, &args.bitnami_namespace)?,
        };
        text.push_str(&with_image(&manifests, args.image.as_deref())?);
    }
    output::data(text.as_bytes())?;
    if args.image.is_none() && !args.crds_only {
        output::warn("there is no release yet: the image is a placeholder. Pass --image REF");
    }
    Ok(Done::Well)
}

/// The manifests of a controller that serves SealedSecrets of bitnami.com too. It runs where their keys are, because a Service
/// finds Pods in its own namespace only, and kubeseal looks for the Service there. That namespace is there already.
fn with_bitnami(mode: BitnamiMode, namespace: &str) -> Result<String> {
    if !bulla::scope::is_dns_label(namespace) {
        return Err(Failure::usage(format!("--bitnami-namespace {namespace:?} is no namespace")));
    }
    let documents = MANIFESTS.split("\n---\n").filter(|document| !document.contains("\nkind: Namespace\n"));
    let more: &[&str] = if mode == BitnamiMode::Own { &[BITNAMI, BITNAMI_OWN] } else { &[BITNAMI] };
    let all: Vec<&str> =
        documents.chain(more.iter().copied()).map(|document| document.trim_end_matches('\n')).collect();
    let word = if mode == BitnamiMode::Own { "own" } else { "observe" };
    let flags = format!("--namespace={namespace}, --bitnami={word}, --bitnami-namespace={namespace}");
    let text = all.join("\n---\n") + "\n";
    Ok(text.replace(&format!("--namespace={NAMESPACE}"), &flags).replace(NAMESPACE, namespace))
}

/// The manifests with another image.
fn with_image(manifests: &str, image: Option<&str>) -> Result<String> {
    let Some(image) = image else { return Ok(manifests.to_owned()) };
    let fits = !image.is_empty()
        && image.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b':' | b'@'));
    if !fits {
        return Err(Failure::usage(format!("--image {image:?} is no reference to an image")));
    }
    let lines = manifests.split_inclusive('\n').map(|line| {
        let bare = line.trim_start_matches([' ', '-']);
        match bare.strip_prefix("image:") {
            Some(rest) if rest.starts_with(' ') => {
                let indent = &line[..line.len() - bare.len()];
                let end = if line.ends_with('\n') { "\n" } else { "" };
                format!("{indent}image: {image}{end}")
            }
            _ => line.to_owned(),
        }
    });
    Ok(lines.collect())
}
