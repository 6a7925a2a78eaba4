//! `bulla install`

use std::path::Path;

use bulla::recipient::{Recipient, is_envelope_name};

use super::Done;
use crate::cli::{BitnamiMode, InstallArgs};
use crate::failure::{Failure, Result};
use crate::{files, output, recipients};

/// All but the definitions of the custom resources.
const MANIFESTS: &str = include_str!("../../../deploy/bulla.yaml");
/// To see the SealedSecrets of bitnami.com.
const BITNAMI: &str = include_str!("../../../deploy/bitnami.yaml");
/// To keep what was found of them.
const BITNAMI_OBSERVE: &str = include_str!("../../../deploy/bitnami-observe.yaml");
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
            BitnamiMode::Off => elsewhere(args.controller_namespace.as_deref().unwrap_or(NAMESPACE))?,
            mode => {
                if args.controller_namespace.as_ref().is_some_and(|namespace| *namespace != args.bitnami_namespace) {
                    return Err(Failure::usage(
                        "--controller-namespace: with --bitnami it runs in --bitnami-namespace",
                    ));
                }
                with_bitnami(mode, &args.bitnami_namespace)?
            }
        };
        let manifests = with_recovery(&manifests, &recovery(&args.recovery)?)?;
        text.push_str(&with_image(&manifests, args.image.as_deref())?);
    }
    output::data(text.as_bytes())?;
    if args.image.is_none() && !args.crds_only {
        output::warn("there is no release yet: the image is a placeholder. Pass --image REF");
    }
    Ok(Done::Well)
}

/// The manifests for a namespace. Another than their own is there already.
fn elsewhere(namespace: &str) -> Result<String> {
    if namespace == NAMESPACE {
        return Ok(MANIFESTS.to_owned());
    }
    if !bulla::scope::is_dns_label(namespace) {
        return Err(Failure::usage(format!("--controller-namespace {namespace:?} is no namespace")));
    }
    let documents: Vec<&str> = documents().collect();
    Ok((documents.join("\n---\n") + "\n").replace(NAMESPACE, namespace))
}

/// Those that do not make the namespace.
fn documents() -> impl Iterator<Item = &'static str> {
    let documents = MANIFESTS.split("\n---\n").filter(|document| !document.contains("\nkind: Namespace\n"));
    documents.map(|document| document.trim_end_matches('\n'))
}

/// The manifests of a controller that serves SealedSecrets of bitnami.com too. It runs where their keys are, because a Service
/// finds Pods in its own namespace only, and kubeseal looks for the Service there. That namespace is there already.
fn with_bitnami(mode: BitnamiMode, namespace: &str) -> Result<String> {
    if !bulla::scope::is_dns_label(namespace) {
        return Err(Failure::usage(format!("--bitnami-namespace {namespace:?} is no namespace")));
    }
    let more = [BITNAMI, if mode == BitnamiMode::Own { BITNAMI_OWN } else { BITNAMI_OBSERVE }];
    let all: Vec<&str> = documents().chain(more.map(|document| document.trim_end_matches('\n'))).collect();
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

/// The recipients that `--recovery` names.
fn recovery(given: &[String]) -> Result<Vec<(String, Recipient)>> {
    let mut found: Vec<(String, Recipient)> = Vec::new();
    for text in given {
        let wrong = |why: &str| Failure::usage(format!("--recovery {text:?}: {why}"));
        let (name, file) = text.split_once('=').ok_or_else(|| wrong("it wants NAME=FILE, as recovery=recovery.pub"))?;
        if !is_envelope_name(name) {
            return Err(wrong("a name is a lowercase letter, then letters, digits and dashes"));
        }
        let mut listed = recipients::listed(file, &files::read(Path::new(file))?)?;
        let (Some(one), true) = (listed.pop(), listed.is_empty()) else {
            return Err(wrong("the file has to hold one recipient"));
        };
        if found.iter().any(|(other, recipient)| other == name || *recipient == one.recipient) {
            return Err(wrong("the name or the recipient was given before"));
        }
        found.push((name.to_owned(), one.recipient));
    }
    Ok(found)
}

/// Where the controller finds the recipients.
const FOLDER: &str = "/etc/bulla/recovery";
/// How the controller's arguments begin.
const ARGUMENTS: &str = "          args: [--namespace=";

/// The manifests with further recipients: a ConfigMap, mounted, and an argument for each.
fn with_recovery(manifests: &str, recipients: &[(String, Recipient)]) -> Result<String> {
    if recipients.is_empty() {
        return Ok(manifests.to_owned());
    }
    let unfit = || Failure::new("--recovery does not fit the manifests of this build");
    let line = manifests.lines().find(|line| line.starts_with(ARGUMENTS)).ok_or_else(unfit)?;
    let namespace = line[ARGUMENTS.len()..].split([',', ']']).next().unwrap_or_default();
    let data: String =
        recipients.iter().map(|(name, recipient)| format!("  {name}: {}\n", recipient.as_str())).collect();
    let arguments: String =
        recipients.iter().map(|(name, _)| format!(", '--recipient={name}={FOLDER}/{name}'")).collect();
    let map = format!(
        "# Whoever holds the private keys of these can read all that is sealed for this cluster.\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bulla-recovery\n  namespace: {namespace}\n  \
         labels: {{app.kubernetes.io/name: bulla}}\ndata:\n{data}---\n"
    );
    let mount =
        format!("          volumeMounts:\n            - {{name: recovery, mountPath: {FOLDER}, readOnly: true}}\n");
    let volume = "      volumes:\n        - {name: recovery, configMap: {name: bulla-recovery}}\n";
    let with_arguments = format!("{}{arguments}]\n{mount}", line.strip_suffix(']').ok_or_else(unfit)?);
    let anchors = [
        ("apiVersion: apps/v1\n".to_owned(), format!("{map}apiVersion: apps/v1\n")),
        ("      containers:\n".to_owned(), format!("{volume}      containers:\n")),
        (format!("{line}\n"), with_arguments),
    ];
    let mut text = manifests.to_owned();
    for (anchor, with) in anchors {
        if text.matches(&anchor).count() != 1 {
            return Err(unfit());
        }
        text = text.replace(&anchor, &with);
    }
    Ok(text)
}
