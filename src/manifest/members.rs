//! What reading a SealedSecret of either format begins with, and goes through.

use std::collections::BTreeMap;

use super::error::{ManifestError, ManifestErrorKind};
use super::node::Node;
use super::{Object, key_of, value_text_of, wrong_type};

/// The object's root, if it is of the kind and nothing in it stands for something else.
pub(super) fn root_of<'n>(object: Object<'n>, is_it: bool, api_version: &str) -> Result<&'n Node, ManifestError> {
    let root = object.node();
    if !is_it {
        let message = format!("this is no SealedSecret of {api_version}");
        return Err(ManifestError::new(ManifestErrorKind::OtherKind, message).at(root.span));
    }
    if let Some((what, span)) = root.first_alias() {
        return Err(ManifestError::new(ManifestErrorKind::Alias, format!("{what} in a sealed manifest"))
            .at(span)
            .help("write out what it stands for"));
    }
    object.defect().map_or(Ok(root), Err)
}

/// It has no spec.
pub(super) fn no_spec(root: &Node) -> ManifestError {
    ManifestError::new(ManifestErrorKind::MissingField, "the SealedSecret has no spec").at(root.span)
}

/// Each member of a mapping.
pub(super) fn each<'n>(
    node: &'n Node,
    within: &str,
    mut member: impl FnMut(&'n Node, &'n str, &'n Node) -> Result<(), ManifestError>,
) -> Result<(), ManifestError> {
    let shown = if within.is_empty() { "the SealedSecret" } else { within };
    let Some(entries) = node.entries() else {
        return Err(wrong_type(node, shown, "a mapping").help("remove it if it is empty, or write {}"));
    };
    entries.iter().try_for_each(|entry| member(&entry.key, key_of(&entry.key, shown)?, &entry.value))
}

/// A map of texts; `place` is told the name, the key and the value of each.
pub(super) fn texts(
    node: &Node,
    within: &str,
    mut place: impl FnMut(&str, &Node, &Node),
) -> Result<BTreeMap<String, String>, ManifestError> {
    let mut map = BTreeMap::new();
    each(node, within, |key, name, value| {
        map.insert(name.to_owned(), value_text_of(value, &format!("{within}.{name}"))?.to_owned());
        place(name, key, value);
        Ok(())
    })?;
    Ok(map)
}
