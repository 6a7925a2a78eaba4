//! Edits of Bitnami's format.

use super::super::emit::Tree;
use super::super::error::{ManifestError, ManifestErrorKind};
use super::plan::{Planner, Spot, is_clean_scalar, last_key};
use super::round::After;
use super::text::scalar_text;
use super::{Edit, TextPath, no_target};

/// A map of a template's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TemplateMap {
    /// `spec.template.metadata.labels`
    Labels,
    /// `spec.template.metadata.annotations`
    Annotations,
}

impl TemplateMap {
    const fn key(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }
}

impl Planner<'_> {
    pub(super) fn bitnami(&mut self, edit: &Edit) -> Result<(), ManifestError> {
        match edit {
            // See `items`.
            Edit::SetEncrypted { .. } | Edit::RemoveItem { .. } => Ok(()),
            Edit::SetTemplateText { map, key, text } => self.set_template_text(*map, key, text),
            Edit::ReplaceText { path, text } => {
                let spot = match path {
                    TextPath::Name => self.member("metadata").and_then(|spot| spot.child("name")),
                    TextPath::Namespace => self.member("metadata").and_then(|spot| spot.child("namespace")),
                    TextPath::Sealed(key) => self.spec()?.child("encryptedData").and_then(|items| items.child(key)),
                    TextPath::Data => self.spec()?.child("data"),
                    TextPath::Envelope(..) => None,
                };
                let Some(spot) = spot else { return Err(no_target("the text to replace is not there")) };
                self.replace_scalar(&spot, text)
            }
            Edit::SetItem { .. }
            | Edit::AddEnvelope { .. }
            | Edit::RemoveEnvelope { .. }
            | Edit::RenameEnvelope { .. } => Err(ManifestError::new(
                ManifestErrorKind::OtherKind,
                "a SealedSecret of bitnami.com/v1alpha1 has no envelopes",
            )),
            Edit::ReplaceObject(tree) => self.replace_object(tree),
        }
    }

    /// Sets a member, where it stands or in byte order.
    fn set_in(&mut self, map: &Spot<'_>, key: &str, value: &Tree) -> Result<(), ManifestError> {
        match map.child(key) {
            None => self.add(map, key, value.clone()),
            Some(spot) => self.change_text(&spot, value),
        }
    }

    /// Another value for a member that is there.
    pub(super) fn change_text(&mut self, spot: &Spot<'_>, value: &Tree) -> Result<(), ManifestError> {
        match value {
            Tree::Text(text) if is_clean_scalar(spot.node()) && scalar_text(spot.node(), text).is_ok() => {
                self.replace_scalar(spot, text)
            }
            value if spot.node().same(&value.to_node()) => Ok(()),
            value => self.set_value(spot, value),
        }
    }

    fn set_template_text(&mut self, map: TemplateMap, key: &str, text: &str) -> Result<(), ManifestError> {
        let nested = |path: &[&str]| {
            let leaf = Tree::Map(vec![(key.to_owned(), Tree::text(text))]);
            path.iter().rev().fold(leaf, |tree, name| Tree::Map(vec![((*name).to_owned(), tree)]))
        };
        let spec = self.spec()?;
        let Some(template) = spec.child("template") else {
            let after = last_key(spec.node());
            return self.add_after(&spec, after, vec![("template".into(), nested(&["metadata", map.key()]))]);
        };
        let Some(metadata) = template.child("metadata") else {
            return self.add_after(&template, After::Nothing, vec![("metadata".into(), nested(&[map.key()]))]);
        };
        let Some(texts) = metadata.child(map.key()) else {
            return self.add(&metadata, map.key(), nested(&[]));
        };
        self.set_in(&texts, key, &Tree::text(text))
    }
}
