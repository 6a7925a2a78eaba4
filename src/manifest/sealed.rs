//! Reading a SealedSecret of the native format, strictly (format.md, rule 11).

use std::collections::BTreeMap;

use super::emit::SealedManifest;
use super::error::{ManifestError, ManifestErrorKind, Span};
use super::members::{each, no_spec, root_of, texts};
use super::node::Node;
use super::{Object, SERVER_METADATA, boolean, text_of, unknown_field};
use crate::resource::{API_VERSION, Drift, Envelopes, SealedItem, SealedSecretSpec, SecretTemplate, TemplateMetadata};

/// A SealedSecret and where everything in it is.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedView {
    /// What it says.
    pub manifest: SealedManifest,
    /// Where.
    pub places: SealedPlaces,
}

/// Where the parts of a SealedSecret are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedPlaces {
    /// The object.
    pub object: Span,
    /// The value of `metadata.name`.
    pub name: Option<Span>,
    /// The value of `metadata.namespace`.
    pub namespace: Option<Span>,
    /// The value of `spec.scope`.
    pub scope: Option<Span>,
    /// The key `items`.
    pub items_key: Option<Span>,
    /// Each item.
    pub items: BTreeMap<String, ItemPlaces>,
    /// The key `template`.
    pub template: Option<Span>,
    /// The keys under `template.data`.
    pub template_data: BTreeMap<String, Span>,
    /// The common envelopes.
    pub envelopes: EnvelopePlaces,
}

/// Where the parts of an item are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemPlaces {
    /// Its key.
    pub key: Span,
    /// Its sealed text.
    pub sealed: Span,
    /// Its own envelopes.
    pub envelopes: EnvelopePlaces,
}

/// Where a map of envelopes is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvelopePlaces {
    /// The key `envelopes`.
    pub key: Option<Span>,
    /// Name and text of each.
    pub lines: BTreeMap<String, (Span, Span)>,
}

impl Object<'_> {
    /// Reads a SealedSecret. What its texts mean is not looked at, beyond that they have no white space.
    ///
    /// # Errors
    /// With the place: another kind, unknown fields, duplicate keys, nulls, anything that is not text where text
    /// belongs, tags, anchors, aliases, merge keys.
    pub fn sealed(&self) -> Result<SealedView, ManifestError> {
        read(*self).map_err(|error| self.error(error))
    }
}

fn read(object: Object<'_>) -> Result<SealedView, ManifestError> {
    let root = root_of(object, object.is_sealed(), API_VERSION)?;
    let mut manifest = SealedManifest::default();
    let mut places = SealedPlaces { object: root.span, ..SealedPlaces::default() };
    let mut has_spec = false;
    each(root, "", |key, name, value| match name {
        "apiVersion" | "kind" => text_of(value, name).map(drop),
        "status" => Ok(()),
        "metadata" => metadata(value, &mut manifest, &mut places),
        "spec" => {
            has_spec = true;
            spec(value, &mut manifest.spec, &mut places)
        }
        _ => Err(unknown_field(key, "", &["apiVersion", "kind", "metadata", "spec"])),
    })?;
    if has_spec { Ok(SealedView { manifest, places }) } else { Err(no_spec(root)) }
}

fn strings(node: &Node, within: &str) -> Result<BTreeMap<String, String>, ManifestError> {
    texts(node, within, |_, _, _| ())
}

fn metadata(node: &Node, manifest: &mut SealedManifest, places: &mut SealedPlaces) -> Result<(), ManifestError> {
    each(node, "metadata", |key, name, value| {
        match name {
            "name" => {
                manifest.name = Some(text_of(value, "metadata.name")?.to_owned());
                places.name = Some(value.span);
            }
            "namespace" => {
                manifest.namespace = Some(text_of(value, "metadata.namespace")?.to_owned());
                places.namespace = Some(value.span);
            }
            "labels" if value.is_null() => {}
            "labels" => manifest.labels = strings(value, "metadata.labels")?,
            "annotations" if value.is_null() => {}
            "annotations" => manifest.annotations = strings(value, "metadata.annotations")?,
            field if SERVER_METADATA.contains(&field) => {}
            _ => return Err(unknown_field(key, "metadata", &["annotations", "labels", "name", "namespace"])),
        }
        Ok(())
    })
}

fn spec(node: &Node, spec: &mut SealedSecretSpec, places: &mut SealedPlaces) -> Result<(), ManifestError> {
    each(node, "spec", |key, name, value| {
        match name {
            "scope" => {
                spec.scope = Some(text_of(value, "spec.scope")?.parse().map_err(|_| {
                    ManifestError::new(
                        ManifestErrorKind::BadValue,
                        "the scope is none of strict, namespace-wide, cluster-wide",
                    )
                    .at(value.span)
                })?);
                places.scope = Some(value.span);
            }
            "items" => {
                places.items_key = Some(key.span);
                each(value, "spec.items", |key, name, value| {
                    let (item, place) = item(key, name, value)?;
                    spec.items.insert(name.to_owned(), item);
                    places.items.insert(name.to_owned(), place);
                    Ok(())
                })?;
            }
            "template" => {
                places.template = Some(key.span);
                spec.template = Some(template(value, places)?);
            }
            "suspend" => spec.suspend = Some(boolean(value, "spec.suspend")?),
            "drift" => {
                spec.drift = Some(match text_of(value, "spec.drift")? {
                    "enforce" => Drift::Enforce,
                    "warn" => Drift::Warn,
                    _ => {
                        return Err(ManifestError::new(
                            ManifestErrorKind::BadValue,
                            "drift is neither enforce nor warn",
                        )
                        .at(value.span));
                    }
                });
            }
            "envelopes" => {
                spec.envelopes = envelopes(value, "spec.envelopes", &mut places.envelopes)?;
                places.envelopes.key = Some(key.span);
            }
            _ => {
                return Err(unknown_field(
                    key,
                    "spec",
                    &["drift", "envelopes", "items", "scope", "suspend", "template"],
                ));
            }
        }
        Ok(())
    })
}

fn item(key: &Node, name: &str, node: &Node) -> Result<(SealedItem, ItemPlaces), ManifestError> {
    let within = format!("spec.items.{name}");
    let mut item = SealedItem::default();
    let mut place = ItemPlaces { key: key.span, ..ItemPlaces::default() };
    let mut sealed = false;
    each(node, &within, |field, name, value| {
        match name {
            "sealed" => {
                sealed = true;
                item.sealed = sealed_text(value, &format!("{within}.sealed"))?;
                place.sealed = value.span;
            }
            "envelopes" => {
                item.envelopes = Some(envelopes(value, &format!("{within}.envelopes"), &mut place.envelopes)?);
                place.envelopes.key = Some(field.span);
            }
            _ => return Err(unknown_field(field, &within, &["envelopes", "sealed"])),
        }
        Ok(())
    })?;
    if !sealed {
        return Err(
            ManifestError::new(ManifestErrorKind::MissingField, format!("{within} has no sealed text")).at(key.span)
        );
    }
    Ok((item, place))
}

fn envelopes(node: &Node, within: &str, places: &mut EnvelopePlaces) -> Result<Envelopes, ManifestError> {
    let mut map = Envelopes::new();
    each(node, within, |key, name, value| {
        map.insert(name.to_owned(), sealed_text(value, &format!("{within}.{name}"))?);
        places.lines.insert(name.to_owned(), (key.span, value.span));
        Ok(())
    })?;
    Ok(map)
}

fn sealed_text(node: &Node, what: &str) -> Result<String, ManifestError> {
    let text = text_of(node, what)?;
    if text.contains(char::is_whitespace) {
        return Err(ManifestError::new(ManifestErrorKind::BadValue, format!("{what} has white space in it"))
            .at(node.span)
            .help("write it in one line, after >- where it is folded"));
    }
    Ok(text.to_owned())
}

fn template(node: &Node, places: &mut SealedPlaces) -> Result<SecretTemplate, ManifestError> {
    let mut template = SecretTemplate::default();
    each(node, "spec.template", |key, name, value| {
        match name {
            "metadata" => {
                let mut metadata = TemplateMetadata::default();
                each(value, "spec.template.metadata", |key, name, value| {
                    match name {
                        "labels" => metadata.labels = strings(value, "spec.template.metadata.labels")?,
                        "annotations" => metadata.annotations = strings(value, "spec.template.metadata.annotations")?,
                        _ => return Err(unknown_field(key, "spec.template.metadata", &["annotations", "labels"])),
                    }
                    Ok(())
                })?;
                template.metadata = Some(metadata);
            }
            "type" => template.type_ = Some(text_of(value, "spec.template.type")?.to_owned()),
            "immutable" => template.immutable = Some(boolean(value, "spec.template.immutable")?),
            "data" => {
                template.data = texts(value, "spec.template.data", |name, key, _| {
                    places.template_data.insert(name.to_owned(), key.span);
                })?;
            }
            _ => return Err(unknown_field(key, "spec.template", &["data", "immutable", "metadata", "type"])),
        }
        Ok(())
    })?;
    Ok(template)
}
