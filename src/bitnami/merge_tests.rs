#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::tests::KEYS;
use super::*;
use crate::scope::{PlaceError, Scope};
use crate::secret::{PlainSecret, SecretValue};

const SCOPES: [Scope; 3] = [Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide];

fn secret(data: &[(&str, &[u8])]) -> PlainSecret {
    PlainSecret {
        name: Some("db".into()),
        namespace: Some("shop".into()),
        data: data.iter().map(|(key, value)| ((*key).to_owned(), SecretValue::new(value.to_vec()))).collect(),
        ..PlainSecret::default()
    }
}

fn sealed(scope: Scope) -> BitnamiSealedSecret {
    seal(&secret(&[("a", b"1"), ("b", b"2")]), scope, &KEYS[0].1).unwrap()
}

fn opened(object: &BitnamiSealedSecret) -> BTreeMap<String, SecretValue> {
    open(object, &[&KEYS[0].0], None).unwrap().secret.data
}

#[test]
fn a_merge_keeps_to_the_place_and_scope_of_the_object() {
    for scope in SCOPES {
        let object = sealed(scope);
        // The name and namespace of what is put in mean nothing.
        let new = PlainSecret { name: Some("x".into()), namespace: None, ..secret(&[("b", b"3"), ("c", b"4")]) };
        for asked in [None, Some(scope)] {
            let merged = merge(&object, &new, asked, &KEYS[0].1).unwrap();
            let mut after = object.clone();
            after.spec.encrypted_data.extend(merged.items);
            let expected = secret(&[("a", b"1"), ("b", b"3"), ("c", b"4")]).data;
            assert_eq!(opened(&after), expected, "{scope}");
        }
        for asked in SCOPES.into_iter().filter(|asked| *asked != scope) {
            let error = merge(&object, &new, Some(asked), &KEYS[0].1).unwrap_err();
            assert_eq!(error, MergeError::Scope { object: scope, asked });
            let mut annotated = new.clone();
            set_scope(&mut annotated.annotations, asked);
            let merged = merge(&object, &annotated, None, &KEYS[0].1);
            // Annotations that say nothing ask for nothing.
            assert_eq!(merged.is_err(), asked != Scope::Strict, "{scope} {asked}");
        }
    }
}

#[test]
fn what_a_merge_can_not_do_is_said() {
    let new = secret(&[("b", b"3")]);
    let mut object = sealed(Scope::Strict);
    object.spec = BitnamiSealedSecretSpec { data: Some("AgAA".into()), ..BitnamiSealedSecretSpec::default() };
    assert_eq!(merge(&object, &new, None, &KEYS[0].1), Err(SetError::Legacy.into()));
    let mut object = sealed(Scope::Strict);
    object.spec.data = Some("AgAA".into());
    assert_eq!(merge(&object, &new, None, &KEYS[0].1), Err(SetError::Object(OpenError::BothData).into()));
    let mut object = sealed(Scope::NamespaceWide);
    object.metadata.name = None;
    assert!(merge(&object, &new, None, &KEYS[0].1).is_ok());
    object.metadata.namespace = Some(String::new());
    let place = |error| Err(SetError::Place(error).into());
    assert_eq!(merge(&object, &new, None, &KEYS[0].1), place(PlaceError::NoNamespace(Scope::NamespaceWide)));
    let mut object = sealed(Scope::Strict);
    object.metadata.name = None;
    assert_eq!(merge(&object, &new, None, &KEYS[0].1), place(PlaceError::NoName));
}

#[test]
fn a_merge_says_no_scope_and_repeats_nothing() {
    let mut new = secret(&[("b", b"3")]);
    new.labels = [("app".to_owned(), "db".to_owned())].into();
    new.annotations = [
        ("note", "x"),
        (CLUSTER_WIDE, "true"),
        (NAMESPACE_WIDE, "false"),
        ("kubectl.kubernetes.io/last-applied-configuration", "{\"stringData\":{\"b\":\"3\"}}"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let merged = merge(&sealed(Scope::ClusterWide), &new, None, &KEYS[0].1).unwrap();
    assert_eq!(merged.annotations, [("note".to_owned(), "x".to_owned())].into());
    assert_eq!(merged.labels, new.labels);
}

#[test]
fn of_an_answer_only_sealed_texts_of_the_same_items_in_the_same_place_are_taken() {
    let sent = sealed(Scope::NamespaceWide);
    let mut answer = sent.clone();
    reseal(&sent, &[&KEYS[0].0], None, &KEYS[1].1).unwrap().apply(&mut answer);
    answer.spec.template = None;
    answer.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let mut after = sent.clone();
    resealed_of(&sent, &answer).unwrap().apply(&mut after);
    assert_eq!(after.spec.encrypted_data, answer.spec.encrypted_data);
    after.spec.encrypted_data.clone_from(&sent.spec.encrypted_data);
    assert_eq!(after, sent, "nothing else");

    let refused = |change: fn(&mut BitnamiSealedSecret)| {
        let mut lie = answer.clone();
        change(&mut lie);
        resealed_of(&sent, &lie).unwrap_err()
    };
    assert_eq!(refused(|a| a.metadata.name = Some("x".into())), AnswerError::Place);
    assert_eq!(refused(|a| a.metadata.namespace = None), AnswerError::Place);
    assert_eq!(refused(|a| a.metadata.annotations = None), AnswerError::Place);
    assert_eq!(refused(|a| _ = a.spec.encrypted_data.remove("a")), AnswerError::Items);
    assert_eq!(refused(|a| _ = a.spec.encrypted_data.insert("z".into(), "AgAA".into())), AnswerError::Items);
    assert_eq!(refused(|a| a.spec.data = Some("AgAA".into())), AnswerError::Items);
    let damaged = refused(|a| _ = a.spec.encrypted_data.insert("a".into(), "AgAA".into()));
    assert_eq!(damaged, AnswerError::Item("spec.encryptedData.a".into(), ItemError::Truncated));

    // Old files are answered for as what they are.
    let old: BitnamiSealedSecret = serde_json::from_value(json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "db", "namespace": "shop"}, "spec": {"data": "AgAA"},
    }))
    .unwrap();
    let mut renewed = old.clone();
    renewed.spec.data = sealed(Scope::Strict).spec.encrypted_data.remove("a");
    assert_eq!(resealed_of(&old, &renewed).unwrap(), Resealed::Whole(renewed.spec.data.clone().unwrap()));
    renewed.spec.data = Some("!".into());
    assert_eq!(resealed_of(&old, &renewed).unwrap_err(), AnswerError::Item("spec.data".into(), ItemError::Base64));
    renewed.spec.data = None;
    assert_eq!(resealed_of(&old, &renewed).unwrap_err(), AnswerError::Form);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_merged_opens_with_all_that_was_there(
        scope in prop::sample::select(SCOPES.to_vec()),
        old in prop::collection::btree_map("[a-z.]{1,8}", prop::collection::vec(any::<u8>(), 0..40), 0..4),
        new in prop::collection::btree_map("[a-z.]{1,8}", prop::collection::vec(any::<u8>(), 0..40), 0..4),
    ) {
        let good = |key: &String| crate::scope::is_item_key(key);
        let values = |map: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, SecretValue> {
            map.iter().filter(|(key, _)| good(key)).map(|(k, v)| (k.clone(), SecretValue::new(v.clone()))).collect()
        };
        let secret = |data| PlainSecret { data, ..secret(&[]) };
        let mut object = seal(&secret(values(&old)), scope, &KEYS[0].1).unwrap();
        let merged = merge(&object, &secret(values(&new)), None, &KEYS[0].1).unwrap();
        object.spec.encrypted_data.extend(merged.items);
        let mut expected = values(&old);
        expected.extend(values(&new));
        prop_assert_eq!(opened(&object), expected);
    }
}
