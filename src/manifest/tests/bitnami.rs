//! Edits of Bitnami's format.

use proptest::prelude::*;

use super::*;

const SEALED: &str = "\
# the database
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata:
  name: db   # as ever
  namespace: shop
spec:
  encryptedData:
    # asked for by the auditors
    password: AgAAAA==
    username: \"AgBBBB==\"
  template:
    metadata:
      labels: {app: db}
    type: Opaque
";

fn edited(text: &str, edits: &[Edit]) -> Result<String, ManifestError> {
    let mut stream = stream(text);
    let edits: Vec<_> = edits.iter().map(|edit| (0, edit.clone())).collect();
    stream.apply(&edits)?;
    Ok(stream.text().to_owned())
}

fn encrypted(key: &str, text: &str) -> Edit {
    Edit::SetEncrypted { key: key.into(), text: text.into() }
}

fn template(map: TemplateMap, key: &str, text: &str) -> Edit {
    Edit::SetTemplateText { map, key: key.into(), text: text.into() }
}

#[test]
fn items_are_set_in_their_place_and_everything_else_keeps_its_bytes() {
    let after = edited(SEALED, &[encrypted("username", "AgCC/+=="), encrypted("token", "AgDD==")]).unwrap();
    let expected = SEALED
        .replace("username: \"AgBBBB==\"", "username: \"AgCC/+==\"")
        .replace("    username", "    token: AgDD==\n    username");
    assert_eq!(after, expected);
    assert_eq!(edited(SEALED, &[encrypted("password", "AgAAAA==")]).unwrap(), SEALED, "nothing to change");
    let removed = edited(SEALED, &[Edit::RemoveItem { key: "password".into() }]).unwrap();
    assert_eq!(removed, SEALED.replace("    # asked for by the auditors\n    password: AgAAAA==\n", ""));
}

#[test]
fn json_stays_json() {
    let text = r#"{
  "kind": "SealedSecret",
  "apiVersion": "bitnami.com/v1alpha1",
  "metadata": {"name": "db", "namespace": "shop", "creationTimestamp": null},
  "spec": {
    "encryptedData": {
      "password": "AgAAAA=="
    }
  }
}
"#;
    let edits =
        [encrypted("password", "AgBB=="), encrypted("token", "AgCC=="), template(TemplateMap::Labels, "a", "b")];
    let after = edited(text, &edits).unwrap();
    let value: serde_json::Value = serde_json::from_str(&after).unwrap();
    let spec = serde_json::json!({
        "encryptedData": {"password": "AgBB==", "token": "AgCC=="}, "template": {"metadata": {"labels": {"a": "b"}}}
    });
    assert_eq!(value["spec"], spec, "{after}");
    assert!(after.contains("      \"password\": \"AgBB==\",\n      \"token\": \"AgCC==\"\n"), "{after}");
}

#[test]
fn what_is_missing_is_made() {
    let bare =
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: a}\nspec:\n  encryptedData: null\n";
    let edits = [
        encrypted("a", "AgAA"),
        template(TemplateMap::Annotations, "note", "two words: yes"),
        template(TemplateMap::Annotations, "more", "x"),
        template(TemplateMap::Labels, "app", "on"),
    ];
    let after = edited(bare, &edits).unwrap();
    let expected = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: a}\nspec:\n  encryptedData:\n    a: AgAA
  template:
    metadata:
      annotations:
        more: x
        note: \"two words: yes\"
      labels:
        app: \"on\"
";
    assert_eq!(after, expected);
    let none = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: a}\nspec:\n  template:\n    type: Opaque\n";
    let after = edited(none, &[encrypted("a", "AgAA"), template(TemplateMap::Labels, "b", "c d")]).unwrap();
    assert_eq!(
        after,
        none.replace("spec:\n", "spec:\n  encryptedData:\n    a: AgAA\n")
            .replace("    type", "    metadata:\n      labels:\n        b: \"c d\"\n    type")
    );
}

#[test]
fn old_forms_places_and_labels_are_replaced() {
    let old = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: a, namespace: b}\nspec:\n  data: AgAA\n";
    let replace = |path: TextPath, text: &str| Edit::ReplaceText { path, text: text.into() };
    assert_eq!(edited(old, &[replace(TextPath::Data, "AgBB")]).unwrap(), old.replace("AgAA", "AgBB"));
    assert_eq!(edited(old, &[replace(TextPath::Name, "c")]).unwrap(), old.replace("name: a,", "name: c,"));
    assert_eq!(
        edited(SEALED, &[replace(TextPath::Sealed("password".into()), "AgBB")]).unwrap(),
        SEALED.replace("AgAAAA==", "AgBB")
    );
    assert_eq!(
        edited(SEALED, &[template(TemplateMap::Labels, "app", "web")]).unwrap(),
        SEALED.replace("{app: db}", "{app: web}")
    );
    let error = edited(SEALED, &[replace(TextPath::Sealed("gone".into()), "AgBB")]).unwrap_err();
    assert_eq!(error.kind, ManifestErrorKind::NoTarget);
}

#[test]
fn formats_do_not_mix() {
    let native = super::SEALED;
    assert_eq!(edited(native, &[encrypted("a", "AgAA")]).unwrap_err().kind, ManifestErrorKind::OtherKind);
    let item = SealedItem { sealed: "kaaa:AQ==".into(), envelopes: None };
    let edit = Edit::SetItem { key: "a".into(), item };
    assert_eq!(edited(SEALED, &[edit]).unwrap_err().kind, ManifestErrorKind::OtherKind);
    let alias = SEALED.replace("AgAAAA==", "&x AgAAAA==");
    assert_eq!(edited(&alias, &[encrypted("a", "AgAA")]).unwrap_err().kind, ManifestErrorKind::Alias);
    assert!(stream(SEALED).object(0).unwrap().is_bitnami());
    assert!(!stream(native).object(0).unwrap().is_bitnami());
}

#[test]
fn json_of_a_tree_and_back() {
    let text = "a: {n: 12, f: 1.5, t: true, z: null, s: \"12\", d: 2024-01-31, l: [1, x]}\n";
    let value = stream(text).documents()[0].root.to_json();
    let expected = serde_json::json!({
        "a": {"n": 12, "f": 1.5, "t": true, "z": null, "s": "12", "d": "2024-01-31", "l": [1, "x"]}
    });
    assert_eq!(value, expected);
    let written = emit::yaml(&[Tree::of_json(&value)]);
    assert_eq!(stream(&written).documents()[0].root.to_json(), expected, "{}", *written);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&emit::json(&[Tree::of_json(&value)])).unwrap(), expected);
}

proptest! {
    /// Whatever is set and taken out, the file says exactly that, and keeps the rest of its lines.
    #[test]
    fn any_edits_leave_what_they_mean(
        json in any::<bool>(),
        edits in prop::collection::vec(("[a-e]", prop::option::of("A[gQ][A-Za-z0-9+/]{1,20}")), 0..8),
    ) {
        let yaml = SEALED.replace("  template:", "  # below\n  template:");
        let flow = "{\"apiVersion\": \"bitnami.com/v1alpha1\", \"kind\": \"SealedSecret\", \"metadata\": {\"name\": \"db\"},\n  \"spec\": {\"encryptedData\": {\n    \"a\": \"AgAA\",\n    \"c\": \"AgCC\"\n  }, \"template\": {\"type\": \"Opaque\"}}}\n";
        let mut stream = stream(if json { flow } else { &yaml });
        let items = |stream: &Stream| {
            let spec = stream.objects().next().unwrap().node().get("spec").unwrap().to_json();
            let mut data = spec["encryptedData"].as_object().unwrap().clone();
            data.retain(|_, value| value.is_string());
            data
        };
        let template = |stream: &Stream| stream.object(0).unwrap().node().get("spec").unwrap().get("template").unwrap().to_json();
        let (mut model, before) = (items(&stream), template(&stream));
        for (key, text) in edits {
            let there = model.contains_key(&key);
            match text {
                Some(text) => {
                    model.insert(key.clone(), text.clone().into());
                    stream.apply(&[(0, encrypted(&key, &text))]).unwrap();
                }
                None => {
                    let removed = stream.apply(&[(0, Edit::RemoveItem { key: key.clone() })]);
                    prop_assert_eq!(removed.is_ok(), there);
                    model.remove(&key);
                }
            }
        }
        prop_assert_eq!(items(&stream), model);
        prop_assert_eq!(template(&stream), before);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(stream.text()).is_ok(), json);
        for comment in ["# the database", "# as ever", "# below"].iter().filter(|_| !json) {
            prop_assert!(stream.text().contains(comment), "{}", stream.text());
        }
    }
}
