//! Changing objects item by item, and the files that keys come in.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::tests::{KEYS, VECTORS, keys, secret};
use super::*;
use crate::manifest::{Object, Stream, emit};
use crate::scope::{PlaceError, Scope};
use crate::secret::{PlainSecret, SecretValue};

fn sealed(scope: Scope, key: usize) -> BitnamiSealedSecret {
    seal(&secret(), scope, &KEYS[key].1).unwrap()
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.as_bytes().to_vec())
}

/// What an object of two items says as YAML, read again.
fn read(text: &str) -> Result<crate::manifest::BitnamiView, crate::manifest::ManifestError> {
    let stream = Stream::read(text.as_bytes())?;
    let object = stream.objects().find(Object::is_bitnami).unwrap();
    object.bitnami()
}

#[test]
fn a_value_is_set_in_the_files_own_place_and_nothing_else_changes() {
    for scope in [Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide] {
        let before = sealed(scope, 0);
        let mut after = before.clone();
        set_all(&mut after, &[("token", &value("t")), ("password", &value("new"))], &KEYS[1].1, None).unwrap();
        let opened = open(&after, &keys(), None).unwrap().secret;
        assert_eq!((opened.data["token"].expose(), opened.data["password"].expose()), (&b"t"[..], &b"new"[..]));
        for (key, text) in before.spec.encrypted_data.iter().filter(|(key, _)| *key != "password") {
            assert_eq!(after.spec.encrypted_data[key], *text);
        }
        after.spec.encrypted_data.clone_from(&before.spec.encrypted_data);
        assert_eq!(after, before);
    }
}

#[test]
fn what_can_not_be_set_changes_nothing() {
    let mut wide = sealed(Scope::ClusterWide, 0);
    let before = wide.clone();
    let set =
        |sealed: &mut BitnamiSealedSecret, key: &str, asked| set_all(sealed, &[(key, &value("v"))], &KEYS[0].1, asked);
    let wider = SetError::WiderScope { file: Scope::ClusterWide, asked: Scope::Strict };
    assert_eq!(set(&mut wide, "a", Some(Scope::Strict)), Err(wider));
    assert_eq!(set(&mut wide, "../a", None), Err(SetError::Key("../a".into())));
    wide.spec.data = Some("AA==".into());
    assert_eq!(set(&mut wide, "a", None), Err(SetError::Object(OpenError::BothData)));
    wide.spec.encrypted_data.clear();
    assert_eq!(set(&mut wide, "a", None), Err(SetError::Legacy));
    wide.spec.clone_from(&before.spec);
    assert_eq!(wide, before);
    let mut homeless = sealed(Scope::Strict, 0);
    homeless.metadata.namespace = None;
    assert_eq!(set(&mut homeless, "a", None), Err(SetError::Place(PlaceError::NoNamespace(Scope::Strict))));
    homeless.metadata.namespace = Some("a/b".into());
    assert_eq!(set(&mut homeless, "a", None), Err(SetError::Place(PlaceError::BadNamespace)));
    homeless.metadata.namespace = Some("shop".into());
    homeless.metadata.name = None;
    assert_eq!(set(&mut homeless, "a", None), Err(SetError::Place(PlaceError::NoName)));
    homeless.metadata.name = Some("testSecret".into());
    assert_eq!(set(&mut homeless, "a", None), Ok(()), "a file that the established command made");
}

#[test]
fn what_steers_delivery_tools_goes_to_the_object_itself() {
    let plain = PlainSecret {
        annotations: [("argocd.argoproj.io/sync-wave", "1"), ("team", "shop"), (CLUSTER_WIDE, "true")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..secret()
    };
    let made = seal_for_delivery(&plain, Scope::NamespaceWide, &KEYS[0].1).unwrap();
    let own = made.metadata.annotations.clone().unwrap();
    let texts = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(texts(&own), ["argocd.argoproj.io/sync-wave", NAMESPACE_WIDE]);
    let template = made.spec.template.clone().unwrap().metadata.unwrap().annotations.unwrap();
    assert_eq!(texts(&template), [NAMESPACE_WIDE, "team"]);
    assert!(open(&made, &keys(), None).is_ok());
    let bad = PlainSecret { name: Some("testSecret".into()), ..secret() };
    let refused = seal_for_delivery(&bad, Scope::Strict, &KEYS[0].1);
    assert_eq!(refused, Err(SetError::Place(PlaceError::BadName)));
}

#[test]
fn sealing_anew_goes_by_item_and_says_what_it_can_not_know() {
    let mut mixed = sealed(Scope::Strict, 0);
    set_all(&mut mixed, &[("token", &value("t"))], &KEYS[1].1, None).unwrap();
    // With the old key alone: what is sealed for the new one is closed.
    let renewed = renew(&mixed, &[&KEYS[0].0], None, &KEYS[1].1).unwrap();
    assert_eq!(renewed.texts.len(), secret().data.len());
    assert_eq!((renewed.current.len(), renewed.closed.iter().collect::<Vec<_>>()), (0, vec![&"token".to_owned()]));
    // With both: it is current.
    let renewed = renew(&mixed, &keys(), None, &KEYS[1].1).unwrap();
    assert_eq!((renewed.closed.len(), renewed.current.iter().collect::<Vec<_>>()), (0, vec![&"token".to_owned()]));
    let token = mixed.spec.encrypted_data["token"].clone();
    renewed.apply(&mut mixed.spec);
    assert_eq!(mixed.spec.encrypted_data["token"], token);
    assert!(open(&mixed, &[&KEYS[1].0], None).is_ok());
    let renewed = renew(&mixed, &keys(), None, &KEYS[1].1).unwrap();
    assert!(renewed.texts.is_empty() && renewed.closed.is_empty(), "nothing is left to do");
}

#[test]
fn the_size_of_a_key_is_all_that_shows() {
    let text = &sealed(Scope::Strict, 0).spec.encrypted_data["password"];
    assert_eq!(value_len(text), Ok(secret().data["password"].len()));
    assert_eq!(wrapped_len(text), Ok(KEYS[0].1.wrapped_len()));
    let other = KEYS.iter().find(|(_, certificate)| certificate.wrapped_len() != KEYS[0].1.wrapped_len());
    if let Some((_, other)) = other {
        assert_eq!(sight(text, other), Ok(Sight::Other));
    }
    assert_eq!(sight(text, &KEYS[0].1), Ok(Sight::Unknown));
    assert_eq!(sight("%", &KEYS[0].1), Err(ItemError::Base64));
}

#[test]
fn moved_items_are_bound_to_their_new_place_and_the_others_stay() {
    let mut moved = sealed(Scope::Strict, 0);
    moved.metadata.namespace = Some("live".into());
    set_all(&mut moved, &[("token", &value("t"))], &KEYS[0].1, None).unwrap();
    let rebound = rebind(&moved, ("shop", "db"), &keys(), &KEYS[1].1).unwrap();
    assert!(!rebound.texts.contains_key("token"));
    assert_eq!(rebound.scopes.iter().collect::<Vec<_>>(), [&Scope::Strict]);
    let mut after = moved.clone();
    rebound.apply(&mut after.spec);
    assert_eq!(open(&after, &keys(), None).unwrap().secret.data.len(), secret().data.len() + 1);
    assert!(rebind(&after, ("shop", "db"), &keys(), &KEYS[1].1).unwrap().texts.is_empty());
    let elsewhere = rebind(&moved, ("shop", "other"), &keys(), &KEYS[1].1);
    assert!(matches!(elsewhere, Err(RebindError::NoKey(keys)) if !keys.contains(&"token".to_owned())));
    // Another scope was written into the file: they open in more places than before, and it is told.
    let mut widened = sealed(Scope::Strict, 0);
    set_scope(widened.metadata.annotations.get_or_insert_default(), Scope::ClusterWide);
    let rebound = rebind(&widened, ("shop", "db"), &keys(), &KEYS[0].1).unwrap();
    assert_eq!(rebound.scopes.iter().collect::<Vec<_>>(), [&Scope::Strict]);
}

#[test]
fn keys_come_as_pem_secret_and_list() {
    let [a, b] = [0, 1].map(|index: usize| VECTORS.keys[index].private_key.clone());
    let fingerprints = |text: &str| -> Vec<KeyFingerprint> {
        private_keys(text.as_bytes()).unwrap().iter().map(PrivateKey::fingerprint).collect()
    };
    let (first, second) = (KEYS[0].0.fingerprint(), KEYS[1].0.fingerprint());
    assert_eq!(fingerprints(&a), [first]);
    assert_eq!(fingerprints(&format!("# prod\n\n{a}{b}")), [first, second]);
    let one = |name: &str, created: &str, key: &str| {
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"type\": \"kubernetes.io/tls\", \"metadata\": {{\"name\": \"{name}\", \
             \"creationTimestamp\": {created}}}, \"data\": {{\"tls.key\": \"{}\", \"tls.crt\": \"\"}}}}",
            STANDARD.encode(key)
        )
    };
    let (old, new) = (one("a", "\"2024-01-01T00:00:00Z\"", &a), one("b", "\"2025-01-01T00:00:00Z\"", &b));
    assert_eq!(fingerprints(&old), [first]);
    let list = format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{old}, {new}]}}");
    assert_eq!(fingerprints(&list), [second, first], "the newest first");
    assert_eq!(fingerprints(&format!("{old}\n---\n{new}")), [second, first]);
    assert_eq!(fingerprints(&format!("{}\n---\n{new}", one("a", "null", &a))), [second, first]);
    for text in [&a, &old, &list] {
        assert!(is_key_file(text));
    }
    assert!(!is_key_file("# created\nAGE-SECRET-KEY-PQ-1…"));

    let error = |text: &str| private_keys(text.as_bytes()).unwrap_err();
    assert_eq!(error(&VECTORS.keys[0].certificate), KeyFileError::Pem(PrivateKeyError::Absent));
    assert_eq!(error("kind: ConfigMap\napiVersion: v1\n"), KeyFileError::NoSecret);
    let without = "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"x\"}, \"data\": {}}";
    assert_eq!(error(without), KeyFileError::NoMember("x".into()));
    let damaged = one("x", "null", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert_eq!(error(&damaged), KeyFileError::Secret { name: "x".into(), error: PrivateKeyError::Malformed });
    assert_eq!(error(&format!("{old}\n---\n{damaged}")).to_string(), error(&damaged).to_string(), "all or none");
    assert!(matches!(error("{"), KeyFileError::Manifest(_)));
}

#[test]
fn a_file_is_read_as_the_established_tools_write_it() {
    let text = "\
# db
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata:
  creationTimestamp: null
  name: db
  namespace: shop
  annotations:
    sealedsecrets.bitnami.com/namespace-wide: \"true\"
spec:
  encryptedData:
    a: AgA1
    b: |
      AgA2
      AgA3
  template:
    data: null
    metadata:
      creationTimestamp: null
      name: db
      finalizers: [x]
      labels: {team: shop}
    type: kubernetes.io/tls
    immutable: true
  other: 1
status: {conditions: []}
";
    let view = read(text).unwrap();
    let sealed = &view.sealed;
    assert_eq!(place(sealed).unwrap(), (Scope::NamespaceWide, b"shop".to_vec()));
    assert_eq!(sealed.spec.encrypted_data["b"], "AgA2\nAgA3\n");
    let template = sealed.spec.template.as_ref().unwrap();
    assert_eq!((template.type_.as_deref(), template.immutable), (Some("kubernetes.io/tls"), Some(true)));
    let other: Vec<_> = view.other.iter().map(|(path, span)| (path.as_str(), span.line)).collect();
    assert_eq!(other, [("spec.template.metadata.finalizers", 21), ("spec.other", 25)]);
    assert_eq!(view.fields["spec.template.metadata.labels.team"].line, 22);
    assert_eq!(view.places.items["b"].key.line, 13);

    let message = |text: &str| read(text).unwrap_err().to_string();
    let with = |from: &str, to: &str| message(&text.replace(from, to));
    assert!(with("    a: AgA1", "    a: AgA1\n    a: AgA2").contains("twice"));
    assert!(with("a: AgA1", "a: 12").contains("spec.encryptedData.a is a number, not text"));
    assert!(with("a: AgA1", "a: &x AgA1\n    c: *x").contains("in a sealed manifest"));
    assert!(with("type: kubernetes.io/tls", "type: [x]").contains("spec.template.type"));
    let list = "{apiVersion: bitnami.com/v1alpha1, kind: SealedSecretList, items: [{metadata: {name: a}, spec: {}}]}";
    assert!(read(list).is_ok());
    assert!(message("{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret}").contains("has no spec"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_is_read_again(
        data in prop::collection::btree_map("[a-z.]{1,8}", prop::collection::vec(any::<u8>(), 0..40), 0..4),
        labels in prop::collection::btree_map("[a-z]{1,6}", "\\PC{0,10}", 0..3),
        immutable in any::<Option<bool>>(),
    ) {
        let data: BTreeMap<_, _> = data.into_iter().filter(|(key, _)| crate::scope::is_item_key(key))
            .map(|(key, bytes)| (key, SecretValue::new(bytes))).collect();
        let plain = PlainSecret { labels, immutable, data, ..secret() };
        let made = seal(&plain, Scope::Strict, &KEYS[0].1).unwrap();
        for text in [emit::yaml(&[emit::Tree::bitnami(&made)]), emit::json(&[emit::Tree::bitnami(&made)])] {
            let view = read(&text).unwrap();
            prop_assert_eq!(&view.sealed, &made);
            prop_assert!(view.other.is_empty());
        }
    }
}

/// How a sealed text stands in a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Written {
    Plain,
    Single,
    Double,
    Folded,
    /// With a line end at its end, which readers of the format ignore.
    Literal,
}

/// How a whole file is laid out.
#[derive(Clone, Debug)]
struct Layout {
    step: usize,
    eol: &'static str,
    template_first: bool,
    more: bool,
}

/// An item: its key, its text, how it stands there, and whether comments stand above and behind it.
type Line = (String, String, Written, bool, bool);

/// The file.
fn laid_out(items: &[Line], layout: &Layout) -> String {
    let pad = |depth: usize| " ".repeat(depth * layout.step);
    let template = format!("{}template:\n{}type: Opaque # as ever\n", pad(1), pad(2));
    let mut text = String::from("# top\nkind: SealedSecret\napiVersion: \"bitnami.com/v1alpha1\"\nmetadata:\n");
    text.push_str(&format!("{0}name: db   # kept\n{0}namespace: 'shop'\nspec:\n", pad(1)));
    if layout.template_first {
        text.push_str(&template);
    }
    text.push_str(&format!("{}encryptedData:\n", pad(1)));
    for (key, value, written, above, behind) in items {
        if *above {
            text.push_str(&format!("{}# about {key}\n", pad(2)));
        }
        let behind = if *behind { format!(" # behind {key}") } else { String::new() };
        let value = match written {
            Written::Plain => format!("{value}{behind}"),
            Written::Single => format!("'{value}'{behind}"),
            Written::Double => format!("\"{value}\"{behind}"),
            Written::Folded => format!(">-\n{}{value}", pad(3)),
            Written::Literal => format!("|\n{}{value}", pad(3)),
        };
        text.push_str(&format!("{}{key}: {value}\n", pad(2)));
    }
    if !layout.template_first {
        text.push_str(&template);
    }
    if layout.more {
        text.push_str("---\n# another\n{a:   [1, 2],   b: c}\n");
    }
    text.replace('\n', layout.eol)
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let written =
        prop::sample::select(vec![Written::Plain, Written::Single, Written::Double, Written::Folded, Written::Literal]);
    prop::collection::btree_map("[a-m][a-z.]{0,5}", (written, any::<bool>(), any::<bool>(), 0..60_usize), 2..6)
        .prop_map(|items| {
            items
                .into_iter()
                .map(|(key, (written, above, behind, length))| {
                    (key, format!("Ag{}", "B".repeat(length)), written, above, behind)
                })
                .collect()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn in_a_file_of_any_style_only_the_bytes_of_an_item_change(
        mut items in lines(),
        step in prop::sample::select(vec![2_usize, 4]),
        eol in prop::sample::select(vec!["\n", "\r\n"]),
        template_first in any::<bool>(),
        more in any::<bool>(),
        at in any::<prop::sample::Index>(),
        what in 0..3,
        // None that is quoted, as n and yes are.
        new in "[p-x]{2,4}|[a-m]{7}",
    ) {
        let layout = Layout { step, eol, template_first, more };
        let before = laid_out(&items, &layout);
        let mut stream = Stream::read(before.as_bytes()).unwrap();
        let sealed = stream.object(0).unwrap().bitnami().unwrap().sealed;
        let mut after = sealed.clone();
        let index = at.index(items.len());
        let set = |after: &mut BitnamiSealedSecret, key: &str| {
            set_all(after, &[(key, &value("v"))], &KEYS[0].1, None).unwrap();
            after.spec.encrypted_data[key].clone()
        };
        match what {
            0 => {
                let text = set(&mut after, &items[index].0.clone());
                let (_, value, written, ..) = &mut items[index];
                *value = text;
                // A line end at the end can't be kept in the place of another text.
                if *written == Written::Literal {
                    *written = Written::Plain;
                    items[index].4 = false;
                }
            }
            1 => {
                let text = set(&mut after, &new);
                let place = items.iter().take_while(|(key, ..)| *key < new).count();
                items.insert(place, (new.clone(), text, Written::Plain, false, false));
            }
            _ => {
                prop_assert!(unset(&mut after, &items[index].0));
                items.remove(index);
            }
        }
        stream.apply(&edits(0, &sealed.spec, &after.spec)).unwrap();
        prop_assert_eq!(stream.text(), laid_out(&items, &layout));
        prop_assert_eq!(stream.object(0).unwrap().bitnami().unwrap().sealed.spec, after.spec);
    }
}
