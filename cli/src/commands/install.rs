//! `bulla install`

use super::Done;
use crate::cli::InstallArgs;
use crate::failure::{Failure, Result};
use crate::output;

/// All but the definitions of the custom resources.
const MANIFESTS: &str = include_str!("../../../deploy/bulla.yaml");

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
        text.push_str(&with_image(MANIFESTS, args.image.as_deref())?);
    }
    output::data(text.as_bytes())?;
    if args.image.is_none() && !args.crds_only {
        output::warn("there is no release yet: the image is a placeholder. Pass --image REF");
    }
    Ok(Done::Well)
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
