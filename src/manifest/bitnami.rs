//! Reading a SealedSecret of Bitnami's format (docs/bitnami-format.md): leniently where the established tools are, since such
//! files are there; what has no meaning in it is told with its place, for whoever has to translate it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::emit::Tree;
use super::error::{ManifestError, Span};
use super::members::{self, no_spec, root_of, texts};
use super::node::Node;
use super::sealed::{ItemPlaces, SealedPlaces};
use super::{Object, SERVER_METADATA, boolean, text_of, value_text_of};
use crate::bitnami::{API_VERSION, BitnamiSealedSecret, BitnamiSecretTemplate, KIND};

/// A SealedSecret of Bitnami's format and where everything in it is.
#[derive(Clone, Debug, PartialEq)]
pub struct BitnamiView {
    /// What it says.
    pub sealed: BitnamiSealedSecret,
    /// Where. Its items are those of `spec.encryptedData`.
    pub places: SealedPlaces,
    /// Where the value of `spec.data` is, which old files have.
    pub data: Option<Span>,
    /// Fields that are not looked at here, by path: those that the format does not have, and those of the template's metadata
    /// besides labels and annotations. What the API server writes is not among them.
    pub other: Vec<(String, Span)>,
    /// Where each label and annotation is, of the object and of its template, by path.
    pub fields: BTreeMap<String, Span>,
}

impl Object<'_> {
    /// Reads a SealedSecret of Bitnami's format. What its texts mean is not looked at.
    ///
    /// # Errors
    /// With the place: another kind, duplicate keys, anything that is not text where text belongs, tags, anchors, aliases,
    /// merge keys.
    pub fn bitnami(&self) -> Result<BitnamiView, ManifestError> {
        read(*self).map_err(|error| self.error(error))
    }
}

fn read(object: Object<'_>) -> Result<BitnamiView, ManifestError> {
    let root = root_of(object, object.is_bitnami(), API_VERSION)?;
    let mut view = BitnamiView {
        sealed: BitnamiSealedSecret::default(),
        places: SealedPlaces { object: root.span, ..SealedPlaces::default() },
        data: None,
        other: Vec::new(),
        fields: BTreeMap::new(),
    };
    let mut has_spec = false;
    each(root, "", |key, name, value| {
        match name {
            "apiVersion" | "kind" | "status" => {}
            "metadata" => metadata(value, "metadata", &mut view)?,
            "spec" => {
                has_spec = true;
                spec(value, &mut view)?;
            }
            _ => view.other.push((name.to_owned(), key.span)),
        }
        Ok(())
    })?;
    if has_spec { Ok(view) } else { Err(no_spec(root)) }
}

/// Each member of a mapping; null is an empty one.
fn each<'n>(
    node: &'n Node,
    within: &str,
    member: impl FnMut(&'n Node, &'n str, &'n Node) -> Result<(), ManifestError>,
) -> Result<(), ManifestError> {
    if node.is_null() { Ok(()) } else { members::each(node, within, member) }
}

/// The object's metadata, or the template's: only labels and annotations of the latter mean anything.
fn metadata(node: &Node, within: &str, view: &mut BitnamiView) -> Result<(), ManifestError> {
    let own = within == "metadata";
    let mut metadata = ObjectMeta::default();
    let BitnamiView { places, other, fields, .. } = view;
    each(node, within, |key, name, value| {
        let path = format!("{within}.{name}");
        let mut map = || {
            let map = texts(value, &path, |name, key, _| _ = fields.insert(format!("{path}.{name}"), key.span))?;
            Ok::<_, ManifestError>((!map.is_empty()).then_some(map))
        };
        match name {
            _ if value.is_null() => {}
            "name" => {
                metadata.name = Some(text_of(value, &path)?.to_owned());
                if own {
                    places.name = Some(value.span);
                }
            }
            "namespace" => {
                metadata.namespace = Some(text_of(value, &path)?.to_owned());
                if own {
                    places.namespace = Some(value.span);
                }
            }
            "labels" => metadata.labels = map()?,
            "annotations" => metadata.annotations = map()?,
            // What stands in a live object; in a template it would be put on the Secret.
            field if SERVER_METADATA.contains(&field) && (own || field == "creationTimestamp") => {}
            _ => other.push((path, key.span)),
        }
        Ok(())
    })?;
    if own {
        view.sealed.metadata = metadata;
    } else if let Some(template) = &mut view.sealed.spec.template {
        template.metadata = Some(metadata);
    }
    Ok(())
}

fn spec(node: &Node, view: &mut BitnamiView) -> Result<(), ManifestError> {
    each(node, "spec", |key, name, value| {
        match name {
            "encryptedData" if value.is_null() => view.places.items_key = Some(key.span),
            "encryptedData" => {
                view.places.items_key = Some(key.span);
                let items = &mut view.places.items;
                view.sealed.spec.encrypted_data = texts(value, "spec.encryptedData", |name, key, value| {
                    let place = ItemPlaces { key: key.span, sealed: value.span, ..ItemPlaces::default() };
                    items.insert(name.to_owned(), place);
                })?;
            }
            "data" if value.is_null() => {}
            "data" => {
                view.sealed.spec.data = Some(value_text_of(value, "spec.data")?.to_owned());
                view.data = Some(value.span);
            }
            "template" if value.is_null() => {}
            "template" => {
                view.places.template = Some(key.span);
                view.sealed.spec.template = Some(BitnamiSecretTemplate::default());
                template(value, view)?;
            }
            _ => view.other.push((format!("spec.{name}"), key.span)),
        }
        Ok(())
    })
}

fn template(node: &Node, view: &mut BitnamiView) -> Result<(), ManifestError> {
    each(node, "spec.template", |key, name, value| {
        if name == "metadata" {
            return metadata(value, "spec.template.metadata", view);
        }
        let BitnamiView { sealed, places, other, .. } = view;
        let Some(template) = &mut sealed.spec.template else { return Ok(()) };
        match name {
            _ if value.is_null() => {}
            "type" => template.type_ = Some(text_of(value, "spec.template.type")?.to_owned()),
            "immutable" => template.immutable = Some(boolean(value, "spec.template.immutable")?),
            "data" => {
                each(value, "spec.template.data", |key, name, value| {
                    places.template_data.insert(name.to_owned(), key.span);
                    let path = format!("spec.template.data.{name}");
                    let text = if value.is_null() { None } else { Some(value_text_of(value, &path)?.to_owned()) };
                    template.data.insert(name.to_owned(), text);
                    Ok(())
                })?;
            }
            // A Secret pasted as a template: what stands there has no say.
            "apiVersion" | "kind" => {}
            _ => other.push((format!("spec.template.{name}"), key.span)),
        }
        Ok(())
    })
}

impl Tree {
    /// A SealedSecret of Bitnami's format, its members in the order of `kubectl get -o yaml`.
    #[must_use]
    pub fn bitnami(sealed: &BitnamiSealedSecret) -> Self {
        let metadata = |metadata: &ObjectMeta| {
            let mut members = Vec::new();
            for (key, map) in [("annotations", &metadata.annotations), ("labels", &metadata.labels)] {
                if let Some(map) = map.as_ref().filter(|map| !map.is_empty()) {
                    members.push((key.to_owned(), Self::texts(map)));
                }
            }
            for (key, text) in [("name", &metadata.name), ("namespace", &metadata.namespace)] {
                if let Some(text) = text {
                    members.push((key.to_owned(), Self::text(text)));
                }
            }
            Self::Map(members)
        };
        let spec = &sealed.spec;
        let mut body = Vec::new();
        if let Some(data) = &spec.data {
            body.push(("data".to_owned(), Self::text(data)));
        }
        if spec.data.is_none() || !spec.encrypted_data.is_empty() {
            body.push(("encryptedData".to_owned(), Self::texts(&spec.encrypted_data)));
        }
        if let Some(template) = &spec.template {
            let mut members = Vec::new();
            if !template.data.is_empty() {
                let text = |text: &Option<String>| text.as_ref().map_or(Self::Null, |text| Self::text(text));
                let data = template.data.iter().map(|(key, value)| (key.clone(), text(value)));
                members.push(("data".to_owned(), Self::Map(data.collect())));
            }
            if let Some(immutable) = template.immutable {
                members.push(("immutable".to_owned(), Self::Bool(immutable)));
            }
            if let Some(own) = &template.metadata {
                members.push(("metadata".to_owned(), metadata(own)));
            }
            if let Some(type_) = &template.type_ {
                members.push(("type".to_owned(), Self::text(type_)));
            }
            body.push(("template".to_owned(), Self::Map(members)));
        }
        Self::Map(vec![
            ("apiVersion".to_owned(), Self::text(API_VERSION)),
            ("kind".to_owned(), Self::text(KIND)),
            ("metadata".to_owned(), metadata(&sealed.metadata)),
            ("spec".to_owned(), Self::Map(body)),
        ])
    }
}
