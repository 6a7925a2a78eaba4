#![allow(clippy::unwrap_used)]

use bulla::bitnami::SKIP_SET_OWNER_REFERENCES;
use bulla::metadata::CONTENT_ANNOTATION;
use bulla::secret::SecretValue;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::*;

fn sealed(template: Value) -> BitnamiSealedSecret {
    serde_json::from_value(json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": {"name": "db", "namespace": "shop", "uid": "b", "generation": 1},
        "spec": {"encryptedData": {}, "template": template},
    }))
    .unwrap()
}

fn secret(metadata: Value) -> Secret {
    let mut object = json!({"metadata": metadata, "type": "Opaque"});
    object["metadata"]["name"] = "db".into();
    object["metadata"]["uid"] = "s".into();
    object["metadata"]["resourceVersion"] = "9".into();
    let mut secret: Secret = serde_json::from_value(object).unwrap();
    secret.data = Some([("a".to_owned(), ByteString(b"1".to_vec()))].into());
    secret
}

fn plain(pairs: &[(&str, &str)]) -> PlainSecret {
    PlainSecret {
        data: pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), SecretValue::new(value.as_bytes().to_vec())))
            .collect(),
        ..PlainSecret::default()
    }
}

fn owner(api: &str, name: &str, uid: &str, controller: bool) -> Value {
    json!({"apiVersion": api, "kind": "SealedSecret", "name": name, "uid": uid, "controller": controller})
}

fn applied(whose: Whose, uid: &str) -> Applied {
    Applied { whose, uid: uid.into(), version: "1".into(), inputs: "i".into(), keys: Vec::new() }
}

#[test]
fn whose_a_secret_is() {
    let (theirs, native) = (API_VERSION, "bulla.dev/v1alpha1");
    let managed = json!({MANAGED: "true"});
    let patch = json!({PATCH: "true"});
    let deployment =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "db", "uid": "d", "controller": true});
    let ours = Stand::Ours;
    let cases = [
        ("nobody's", json!({}), Stand::Unmanaged),
        ("ours", json!({"ownerReferences": [owner(theirs, "db", "b", true)]}), ours(Whose::Owned)),
        ("restored with another uid", json!({"ownerReferences": [owner(theirs, "db", "x", true)]}), ours(Whose::Owned)),
        ("of another name", json!({"ownerReferences": [owner(theirs, "other", "x", true)]}), Stand::Unmanaged),
        ("handed over", json!({"annotations": managed}), ours(Whose::Managed)),
        ("not quite", json!({"annotations": {MANAGED: "yes"}}), Stand::Unmanaged),
        ("a Deployment's", json!({"ownerReferences": [deployment]}), Stand::Unmanaged),
        (
            "a Deployment's, handed over",
            json!({"ownerReferences": [deployment], "annotations": managed}),
            ours(Whose::Managed),
        ),
        ("patched", json!({"annotations": patch}), ours(Whose::Patched)),
        (
            "patched and managed",
            json!({"annotations": {PATCH: "true", MANAGED: "true"}}),
            ours(Whose::PatchedAndManaged),
        ),
        (
            "patched though ours",
            json!({"annotations": patch, "ownerReferences": [owner(theirs, "db", "b", true)]}),
            ours(Whose::Patched),
        ),
        (
            "the native twin's, ours besides",
            json!({"ownerReferences": [owner(theirs, "db", "b", false), owner(native, "db", "n", true)]}),
            Stand::Superseded,
        ),
        ("the native twin's alone", json!({"ownerReferences": [owner(native, "db", "n", true)]}), Stand::Unmanaged),
        ("the native twin is gone", json!({"ownerReferences": [owner(theirs, "db", "b", false)]}), ours(Whose::Owned)),
        (
            "another native one's",
            json!({"ownerReferences": [owner(theirs, "db", "b", false), owner(native, "x", "n", true)]}),
            Stand::Unmanaged,
        ),
    ];
    for (what, metadata, expected) in cases {
        assert_eq!(stand(&secret(metadata).metadata, "b", "db", None), expected, "{what}");
    }
    // Made without an owner: as long as it is that very one.
    let free = secret(json!({})).metadata;
    assert_eq!(stand(&free, "b", "db", Some(&applied(Whose::Made, "s"))), ours(Whose::Made));
    assert_eq!(stand(&free, "b", "db", Some(&applied(Whose::Made, "another"))), Stand::Unmanaged);
    assert_eq!(stand(&free, "b", "db", Some(&applied(Whose::Owned, "s"))), Stand::Unmanaged);
}

#[test]
fn what_is_the_same_is_not_written() {
    let labelled = |labels: Value, annotations: Value| secret(json!({"labels": labels, "annotations": annotations}));
    let with = |labels: &[(&str, &str)]| PlainSecret {
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..plain(&[("a", "1")])
    };
    let app = [("app", "x")];
    let owned = |existing: &Secret, wanted: &PlainSecret, exact| compare(existing, wanted, Whose::Owned, true, exact);
    assert_eq!(owned(&labelled(json!({"app": "x"}), json!({})), &with(&app), true), Write::Nothing);
    assert_eq!(owned(&labelled(json!({"app": "y"}), json!({})), &with(&app), false), Write::Replace);
    // What another tool added is its own until the template changes.
    let more = labelled(json!({"app": "x", "more": "y"}), json!({"tool": "z"}));
    assert_eq!(owned(&more, &with(&app), false), Write::Nothing);
    assert_eq!(owned(&more, &with(&app), true), Write::Replace);
    // Values: another, one more, one less; the type; the owner.
    for wanted in [plain(&[("a", "2")]), plain(&[("a", "1"), ("b", "2")]), plain(&[])] {
        assert_eq!(owned(&secret(json!({})), &wanted, false), Write::Replace);
    }
    let typed = PlainSecret { type_: Some("x/y".into()), ..plain(&[("a", "1")]) };
    assert_eq!(owned(&secret(json!({})), &typed, false), Write::Replace);
    assert_eq!(compare(&secret(json!({})), &plain(&[("a", "1")]), Whose::Managed, false, false), Write::Replace);
    // Immutable: its labels may change, its values not.
    let mut immutable = labelled(json!({}), json!({}));
    immutable.immutable = Some(true);
    assert_eq!(owned(&immutable, &with(&app), true), Write::Replace);
    assert_eq!(owned(&immutable, &plain(&[("a", "2")]), true), Write::Immutable);
    assert_eq!(owned(&immutable, &plain(&[("a", "1")]), true), Write::Nothing);
    // Patched: only our keys count.
    let patched = |wanted: &PlainSecret| compare(&more, wanted, Whose::Patched, true, true);
    assert_eq!(patched(&plain(&[("a", "1")])), Write::Nothing);
    assert_eq!(patched(&plain(&[])), Write::Nothing);
    assert_eq!(patched(&plain(&[("b", "1")])), Write::Patch);
    assert_eq!(compare(&immutable, &plain(&[("b", "1")]), Whose::Patched, true, true), Write::Immutable);
}

#[test]
fn labels_and_annotations_are_exactly_the_templates() {
    let existing = secret(json!({
        "labels": {"old": "x"}, "annotations": {MANAGED: "true"}, "finalizers": ["their/finalizer"],
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true},
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c"},
        ],
    }));
    let wanted = PlainSecret {
        labels: [("app".to_owned(), "db".to_owned())].into(),
        annotations: [("note".to_owned(), "n".to_owned()), ("bulla.dev/sealed-secret".to_owned(), "evil".to_owned())]
            .into(),
        ..plain(&[("a", "2")])
    };
    let made: Value = serde_json::from_slice(&body(&sealed(json!({})), &wanted, Some(&existing))).unwrap();
    let metadata = &made["metadata"];
    assert_eq!(metadata["labels"], json!({"app": "db"}));
    assert_eq!(metadata["annotations"], json!({"note": "n"}));
    assert_eq!(metadata["finalizers"], json!(["their/finalizer"]));
    assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!("s"), &json!("9")));
    let owners = metadata["ownerReferences"].as_array().unwrap();
    assert_eq!(owners.iter().map(|owner| owner["uid"].as_str().unwrap()).collect::<Vec<_>>(), ["c", "b"]);
    assert_eq!(owners[1], owner(API_VERSION, "db", "b", true));
    assert_eq!(made["data"], json!({"a": "Mg=="}));
    let free = sealed(json!({"metadata": {"annotations": {SKIP_SET_OWNER_REFERENCES: "true"}}}));
    let made: Value = serde_json::from_slice(&body(&free, &plain(&[("a", "1")]), None)).unwrap();
    assert!(made["metadata"].get("ownerReferences").is_none() && made["metadata"].get("annotations").is_none());
    // The way back from a native twin: ours is the controller again.
    let back = secret(
        json!({"ownerReferences": [owner(API_VERSION, "db", "b", false)], "annotations": {CONTENT_ANNOTATION: "c"}}),
    );
    let made: Value = serde_json::from_slice(&body(&sealed(json!({})), &plain(&[("a", "1")]), Some(&back))).unwrap();
    assert_eq!(made["metadata"]["ownerReferences"], json!([owner(API_VERSION, "db", "b", true)]));
    assert!(made["metadata"].get("annotations").is_none());
}

#[test]
fn what_is_patched_keeps_what_others_have_in_it() {
    let existing = secret(json!({"annotations": {PATCH: "true"}, "labels": {"theirs": "x"}}));
    let labels = [("app".to_owned(), "db".to_owned())].into();
    let wanted = PlainSecret { labels, type_: Some("x/y".into()), ..plain(&[("b", "2")]) };
    let of =
        |whose| -> Value { serde_json::from_slice(&merged(&sealed(json!({})), &wanted, &existing, whose)).unwrap() };
    let made = of(Whose::Patched);
    let metadata = &made["metadata"];
    assert_eq!(metadata["labels"], json!({"app": "db", "theirs": "x"}));
    assert_eq!(metadata["annotations"], json!({PATCH: "true"}));
    assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!("s"), &json!("9")));
    assert!(metadata.get("ownerReferences").is_none());
    assert_eq!((&made["data"], &made["type"]), (&json!({"a": "MQ==", "b": "Mg=="}), &json!("Opaque")));
    let managed = of(Whose::PatchedAndManaged);
    assert_eq!(managed["metadata"]["ownerReferences"], json!([owner(API_VERSION, "db", "b", true)]));
}

#[test]
fn inputs_are_of_the_object_its_scope_and_the_policy() {
    use clap::Parser as _;
    let settings = |args: &[&str]| {
        crate::args::Args::parse_from([&["bulla-controller", "--bitnami"], args].concat()).settings().unwrap()
    };
    let base = inputs(&sealed(json!({})), &settings(&[]));
    let mut wider = sealed(json!({}));
    wider.metadata.annotations = Some([(bulla::bitnami::CLUSTER_WIDE.to_owned(), "true".to_owned())].into());
    assert_ne!(inputs(&wider, &settings(&[])), base);
    let mut later = sealed(json!({}));
    later.metadata.generation = Some(2);
    assert_ne!(inputs(&later, &settings(&[])), base);
    assert_ne!(inputs(&sealed(json!({})), &settings(&["--templates=off"])), base);
    assert_eq!(inputs(&sealed(json!({})), &settings(&["--key-renew-period=1h"])), base);
}
