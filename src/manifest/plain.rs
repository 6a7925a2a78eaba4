//! Reading a Secret in plaintext.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::error::{ManifestError, ManifestErrorKind, Span};
use super::node::{Node, Tag};
use super::{Object, SERVER_METADATA, boolean, key_of, text_of, unknown_field, value_text_of, wrong_type};
use crate::scope::is_item_key;
use crate::secret::{PlainSecret, SecretValue};

/// The annotation in which a client-side `kubectl apply` repeats the whole manifest, values included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const FIELDS: &[&str] = &["apiVersion", "data", "immutable", "kind", "metadata", "stringData", "type"];
const METADATA: &[&str] = &["annotations", "labels", "name", "namespace"];

/// Like Go's: padding must be there, bits that pad the last character may be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A field of the manifest that is not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its path, such as `metadata.uid`.
    pub field: String,
    /// Where its key is.
    pub span: Span,
}

/// A Secret with the places of what it says.
#[derive(Clone, Debug)]
pub struct PlainView {
    /// What it says.
    pub secret: PlainSecret,
    /// Where the name is.
    pub name: Option<Span>,
    /// Where the namespace is.
    pub namespace: Option<Span>,
    /// Where each item's key is; of a key in both data and stringData, the one in stringData, which counts.
    pub keys: BTreeMap<String, Span>,
    /// What was left out: fields of the API server, and the last-applied annotation.
    pub dropped: Vec<Dropped>,
}

impl Object<'_> {
    /// Reads a `v1` Secret: `data` decoded, `stringData` laid over it, what the API server adds left out.
    ///
    /// # Errors
    /// With the place: another kind, unknown fields, duplicate keys, custom tags, values that are not text, base64 that
    /// is none, keys against the grammar, names and keys that YAML 1.1 readers take for something else.
    pub fn secret(&self) -> Result<PlainSecret, ManifestError> {
        self.secret_view().map(|view| view.secret)
    }

    /// As [`Object::secret`], with the places.
    ///
    /// # Errors
    /// As [`Object::secret`].
    pub fn secret_view(&self) -> Result<PlainView, ManifestError> {
        read(*self).map_err(|error| self.error(error))
    }
}

fn read(object: Object<'_>) -> Result<PlainView, ManifestError> {
    let root = object.node();
    if !object.is_secret() {
        return Err(ManifestError::new(ManifestErrorKind::OtherKind, "this is no v1 Secret").at(root.span));
    }
    if let Some(defect) = object.defect() {
        return Err(defect);
    }
    let mut view = PlainView {
        secret: PlainSecret::default(),
        name: None,
        namespace: None,
        keys: BTreeMap::new(),
        dropped: Vec::new(),
    };
    let mut string_data = None;
    for member in root.members()? {
        let value = member.value;
        match key_of(member.key, "the Secret")? {
            "apiVersion" | "kind" => {}
            "metadata" => metadata(value, &mut view)?,
            "type" if value.is_null() => {}
            "type" => view.secret.type_ = Some(text_of(value, "type")?.to_owned()),
            "immutable" if value.is_null() => {}
            "immutable" => view.secret.immutable = Some(boolean(value, "immutable")?),
            "data" => data(value, &mut view)?,
            "stringData" => string_data = Some(value),
            "status" => view.dropped.push(Dropped { field: "status".into(), span: member.key.span }),
            "sops" => {
                return Err(ManifestError::new(
                    ManifestErrorKind::UnknownField,
                    "this Secret is encrypted with SOPS: its values are not what they will be",
                )
                .at(member.key.span)
                .help("decrypt it first: sops -d FILE | bulla seal"));
            }
            _ => return Err(unknown_field(member.key, "", FIELDS)),
        }
    }
    if let Some(node) = string_data {
        for_each(node, "stringData", |key, at, value| {
            let text = value_text_of(value, &format!("stringData.{key}"))?;
            view.secret.data.insert(key.to_owned(), SecretValue::new(text.as_bytes().to_vec()));
            view.keys.insert(key.to_owned(), at);
            Ok(())
        })?;
    }
    Ok(view)
}

fn data(node: &Node, view: &mut PlainView) -> Result<(), ManifestError> {
    for_each(node, "data", |key, at, value| {
        if value.tag == Tag::Binary {
            return Err(ManifestError::new(ManifestErrorKind::Tag, format!("data.{key} has the tag !!binary"))
                .at(value.span)
                .help("remove the tag: what is under data is base64 already, kubectl would decode it twice"));
        }
        let text = value_text_of(value, &format!("data.{key}"))?;
        view.secret.data.insert(key.to_owned(), decode(text, key, value.span)?);
        view.keys.insert(key.to_owned(), at);
        Ok(())
    })
}

/// Base64 with white space anywhere: kubectl ignores line ends; folded scalars have spaces in their place.
fn decode(text: &str, key: &str, span: Span) -> Result<SecretValue, ManifestError> {
    let mut bare = Zeroizing::new(Vec::with_capacity(text.len()));
    bare.extend(text.bytes().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')));
    let mut value = Zeroizing::new(Vec::with_capacity(bare.len().div_ceil(4) * 3));
    match BASE64.decode_vec(bare.as_slice(), &mut value) {
        Ok(()) => Ok(SecretValue::new(std::mem::take(&mut *value))),
        Err(_) => {
            let help = if bare.len() % 4 != 0 {
                "its length is no multiple of four: padding (=) may be missing; text as it is belongs under stringData"
            } else if bare.iter().any(|byte| matches!(byte, b'-' | b'_')) {
                "it has characters of the URL-safe alphabet; text as it is belongs under stringData"
            } else {
                "text as it is belongs under stringData"
            };
            Err(ManifestError::new(ManifestErrorKind::Base64, format!("data.{key} is not base64")).at(span).help(help))
        }
    }
}

fn for_each<'n>(
    node: &'n Node,
    within: &str,
    mut each: impl FnMut(&'n str, Span, &'n Node) -> Result<(), ManifestError>,
) -> Result<(), ManifestError> {
    if node.is_null() {
        return Ok(());
    }
    if node.entries().is_none() {
        return Err(wrong_type(node, within, "a mapping"));
    }
    for member in node.members()? {
        let key = key_of(member.key, within)?;
        if !is_item_key(key) {
            return Err(ManifestError::new(
                ManifestErrorKind::BadValue,
                format!(
                    "a key under {within} is not 1 to 253 of a-z A-Z 0-9 - . _, or is \".\", or begins with \"..\""
                ),
            )
            .at(member.key.span));
        }
        each(key, member.key.span, member.value)?;
    }
    Ok(())
}

fn metadata(node: &Node, view: &mut PlainView) -> Result<(), ManifestError> {
    if node.is_null() {
        return Ok(());
    }
    if node.entries().is_none() {
        return Err(wrong_type(node, "metadata", "a mapping"));
    }
    let mut generated = None;
    for member in node.members()? {
        let value = member.value;
        match key_of(member.key, "metadata")? {
            "name" if value.is_null() => {}
            "name" => {
                view.secret.name = Some(text_of(value, "metadata.name")?.to_owned());
                view.name = Some(value.span);
            }
            "namespace" if value.is_null() => {}
            "namespace" => {
                view.secret.namespace = Some(text_of(value, "metadata.namespace")?.to_owned());
                view.namespace = Some(value.span);
            }
            "labels" => view.secret.labels = string_map(value, "metadata.labels")?,
            "annotations" => {
                view.secret.annotations = string_map(value, "metadata.annotations")?;
                if view.secret.annotations.remove(LAST_APPLIED).is_some() {
                    let field = format!("metadata.annotations.{LAST_APPLIED}");
                    view.dropped.push(Dropped { field, span: member.key.span });
                }
            }
            "generateName" => generated = Some(member.key.span),
            field if SERVER_METADATA.contains(&field) => {
                view.dropped.push(Dropped { field: format!("metadata.{field}"), span: member.key.span });
            }
            _ => return Err(unknown_field(member.key, "metadata", METADATA)),
        }
    }
    match generated {
        Some(span) if view.secret.name.is_none() => Err(ManifestError::new(
            ManifestErrorKind::MissingField,
            "the Secret has generateName and no name: nothing can be bound to a name that is made up later",
        )
        .at(span)
        .help("give it a name")),
        Some(span) => {
            view.dropped.push(Dropped { field: "metadata.generateName".into(), span });
            Ok(())
        }
        None => Ok(()),
    }
}

fn string_map(node: &Node, what: &str) -> Result<BTreeMap<String, String>, ManifestError> {
    if node.is_null() {
        return Ok(BTreeMap::new());
    }
    if node.entries().is_none() {
        return Err(wrong_type(node, what, "a mapping"));
    }
    let mut map = BTreeMap::new();
    for member in node.members()? {
        let key = key_of(member.key, what)?;
        map.insert(key.to_owned(), value_text_of(member.value, &format!("{what}.{key}"))?.to_owned());
    }
    Ok(map)
}
