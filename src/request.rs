//! What is asked of a controller over HTTP, and how its bodies are read (docs/controller.md, "HTTP"): what comes from a
//! stranger is read strictly, on both sides.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::resource::{API_VERSION, KIND, SealedSecret};

/// Bytes of a request's body.
pub const MAX_BODY: usize = 2 << 20;
/// Envelopes in one request.
pub const MAX_ENVELOPES: usize = 1024;
/// Names of recipients to add in one request.
pub const MAX_ADD: usize = 16;

/// The body of `POST /v1/rewrap`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RewrapRequest {
    /// Texts of envelopes, at most [`MAX_ENVELOPES`].
    pub envelopes: Vec<String>,
}

/// The answer to it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct RewrapAnswer {
    /// One for each envelope.
    pub results: Vec<Rewrapped>,
}

/// What became of one envelope: `out` or `error`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// The text that was sent.
    #[serde(rename = "in")]
    pub input: String,
    /// The text that takes its place.
    #[serde(rename = "out", default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The body of `POST /v1/reseal`. The answer is a SealedSecret.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ResealRequest {
    /// What to seal afresh.
    pub object: SealedSecret,
    /// Names of configured recipients that get an envelope too, at most [`MAX_ADD`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
}

/// An error as the controller tells it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// One word for programs.
    pub error: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
}

/// Why a body is not what was wanted. Nothing of it is repeated.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not JSON, or a key twice in one object: readers differ in which of them counts.
    #[error("it is not JSON, or has a key twice in one object")]
    NotJson,
    /// JSON of another form.
    #[error("it is not of the form that is wanted here")]
    Form,
    /// An object of another kind.
    #[error("its object is not a bulla.dev/v1alpha1 SealedSecret")]
    Kind,
}

/// Reads a body as strictly as a manifest (format.md, rule 11): a key that stands twice in an object is refused at any depth.
///
/// # Errors
/// [`BodyError::NotJson`], [`BodyError::Form`].
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    Once.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|_| BodyError::NotJson)?;
    serde_json::from_slice(body).map_err(|_| BodyError::Form)
}

/// Of what kind an object says it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: Option<String>,
    kind: Option<String>,
}

/// Reads a SealedSecret, by the `apiVersion` and `kind` that it says.
///
/// # Errors
/// [`BodyError`].
pub fn parse_sealed(body: &[u8]) -> Result<SealedSecret, BodyError> {
    let kind: Kind = parse(body)?;
    match (kind.api_version.as_deref(), kind.kind.as_deref()) {
        (Some(API_VERSION), Some(KIND)) => serde_json::from_slice(body).map_err(|_| BodyError::Form),
        (Some(_), Some(_)) => Err(BodyError::Kind),
        _ => Err(BodyError::Form),
    }
}

/// Reads the body of `POST /v1/reseal`.
///
/// # Errors
/// [`BodyError`].
pub fn parse_reseal(body: &[u8]) -> Result<ResealRequest, BodyError> {
    #[derive(Deserialize)]
    struct Outer {
        object: Kind,
    }
    let outer: Outer = parse(body)?;
    match (outer.object.api_version.as_deref(), outer.object.kind.as_deref()) {
        (Some(API_VERSION), Some(KIND)) => {}
        (Some(_), Some(_)) => return Err(BodyError::Kind),
        _ => return Err(BodyError::Form),
    }
    let request: ResealRequest = serde_json::from_slice(body).map_err(|_| BodyError::Form)?;
    if request.add.len() > MAX_ADD { Err(BodyError::Form) } else { Ok(request) }
}

/// Any JSON in which no object has a key twice.
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(A::Error::custom("a key is there twice"));
            }
            map.next_value_seed(Self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_refused_at_any_depth() {
        for body in [
            r#"{"envelopes": [], "envelopes": []}"#,
            r#"{"object": {"spec": {"items": {"a": {"sealed": "x"}, "a": {"sealed": "y"}}}}}"#,
            r#"[{"a": 1}, {"b": {"c": 1, "\u0063": 2}}]"#,
            "{",
            "{} {}",
            "",
            "nan",
        ] {
            assert_eq!(parse::<serde_json::Value>(body.as_bytes()).err(), Some(BodyError::NotJson), "{body}");
        }
        for body in [r#"{"a": 1, "b": {"a": 1}}"#, "[1, -1, 1.5, null, true, \"x\", {}]"] {
            assert!(parse::<serde_json::Value>(body.as_bytes()).is_ok(), "{body}");
        }
        assert!(parse::<serde_json::Value>(&[b'['; 100_000]).is_err(), "too deep");
    }

    #[test]
    fn a_request_is_of_its_form() {
        assert_eq!(parse::<RewrapRequest>(b"{\"envelopes\": [], \"x\": 1}"), Err(BodyError::Form));
        let object = r#"{"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "metadata": {}, "spec": {}}"#;
        let with = |rest: &str| parse_reseal(format!("{{\"object\": {object}{rest}}}").as_bytes());
        assert!(with("").is_ok());
        assert_eq!(with(", \"add\": [\"dr\"]").expect("parses").add, ["dr"]);
        assert_eq!(with(", \"recipients\": []").err(), Some(BodyError::Form));
        assert_eq!(with(&format!(", \"add\": {:?}", vec!["x"; MAX_ADD + 1])).err(), Some(BodyError::Form));
        let bitnami = object.replace("bulla.dev", "bitnami.com");
        assert_eq!(parse_sealed(bitnami.as_bytes()).err(), Some(BodyError::Kind));
        assert_eq!(parse_reseal(format!("{{\"object\": {bitnami}}}").as_bytes()).err(), Some(BodyError::Kind));
        assert_eq!(parse_sealed(b"{}").err(), Some(BodyError::Form));
        assert!(parse_sealed(object.as_bytes()).is_ok());
    }
}
