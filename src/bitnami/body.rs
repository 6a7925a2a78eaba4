//! What strangers send: a SealedSecret of this format, as JSON, or as YAML as `kubeseal` passes a file on.

use serde::Deserialize;
use serde_json::Value;

use super::resource::{API_VERSION, BitnamiSealedSecret, KIND};
use crate::manifest::Stream;
use crate::request::{self, BodyError};

/// Reads the one object in a body: what it means, and all that was sent of it. `None` when it is of another kind. Strictly: a
/// key twice, aliases and anchors are refused.
///
/// # Errors
/// [`BodyError`], about an object of this kind or about what is neither JSON nor YAML.
pub fn parse_sealed(body: &[u8]) -> Result<Option<(BitnamiSealedSecret, Value)>, BodyError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        api_version: Option<String>,
        kind: Option<String>,
    }
    let is_ours = |head: &Head| head.api_version.as_deref() == Some(API_VERSION) && head.kind.as_deref() == Some(KIND);
    let value: Value = match request::parse::<Value>(body) {
        Ok(value) => value,
        Err(_) => match yaml(body)? {
            Some(value) => value,
            None => return Ok(None),
        },
    };
    let head = Head::deserialize(&value).map_err(|_| BodyError::Form)?;
    if !is_ours(&head) {
        return Ok(None);
    }
    let sealed = BitnamiSealedSecret::deserialize(&value).map_err(|_| BodyError::Form)?;
    Ok(Some((sealed, value)))
}

/// One document of YAML, read with the manifest reader's strictness.
fn yaml(body: &[u8]) -> Result<Option<Value>, BodyError> {
    let stream = Stream::read(body).map_err(|_| BodyError::NotJson)?;
    let mut objects = stream.objects();
    let Some(object) = objects.next() else { return Err(BodyError::NotJson) };
    if object.api_version() != Some(API_VERSION) || object.kind() != Some(KIND) {
        return Ok(None);
    }
    // Several would be answered for by one.
    if objects.next().is_some() || object.node().first_alias().is_some() || object.defect().is_some() {
        return Err(BodyError::Form);
    }
    let document = serde_yaml::Deserializer::from_str(stream.text()).nth(object.document());
    let value = document.map(Value::deserialize).ok_or(BodyError::NotJson)?;
    value.map(Some).map_err(|_| BodyError::Form)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const YAML: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: db\n  labels: {a: \"1\"}\n\
                        spec:\n  encryptedData:\n    p: AgBx\n";

    #[test]
    fn json_and_yaml_say_the_same_and_nothing_is_lost() {
        let (sealed, value) = parse_sealed(YAML.as_bytes()).unwrap().unwrap();
        assert_eq!(sealed.spec.encrypted_data["p"], "AgBx");
        assert_eq!(value["metadata"]["labels"]["a"], "1");
        let mut other = value.clone();
        other["spec"]["template"] = serde_json::json!({"metadata": {"whatever": [1, null]}, "data": {"p": null}});
        let (sealed, kept) = parse_sealed(other.to_string().as_bytes()).unwrap().unwrap();
        assert_eq!(kept, other);
        assert_eq!(sealed.spec.template.unwrap().data["p"], None);
        assert_eq!(parse_sealed(format!("---\n{YAML}---\n").as_bytes()).unwrap().unwrap().1, value);
    }

    #[test]
    fn other_kinds_are_none_and_damage_is_an_error() {
        for other in ["{\"apiVersion\": \"v1\", \"kind\": \"Secret\"}", "apiVersion: v1\nkind: Secret\n", "{}"] {
            assert!(matches!(parse_sealed(other.as_bytes()), Ok(None)), "{other}");
        }
        let twice = YAML.replace("    p: AgBx\n", "    p: AgBx\n    p: AgBy\n");
        let anchored = YAML.replace("p: AgBx", "p: &a AgBx\n    q: *a");
        let two = format!("{YAML}---\n{YAML}");
        let number = YAML.replace("name: db", "name: [db]");
        for wrong in ["", "[]", "{", "a: [", &twice, &anchored, &two, &number, "\u{0}"] {
            assert!(parse_sealed(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        // One bad item does not hide the object.
        let bad = YAML.replace("AgBx", "7");
        assert_eq!(parse_sealed(bad.as_bytes()).unwrap().unwrap().0.spec.encrypted_data["p"], "");
    }
}
