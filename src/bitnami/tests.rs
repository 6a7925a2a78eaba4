#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::scope::Scope;
use crate::secret::{PlainSecret, SecretValue};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pair {
    pub private_key: String,
    pub certificate: String,
}

#[derive(Deserialize)]
struct Vector {
    key: usize,
    name: String,
    namespace: String,
    scope: Scope,
    label: String,
    values: BTreeMap<String, String>,
    items: BTreeMap<String, String>,
    legacy: String,
}

#[derive(Deserialize)]
pub(super) struct Vectors {
    pub keys: Vec<Pair>,
    vectors: Vec<Vector>,
}

/// Made by a program on Go's own cryptography (`tests/oracles`, `bitnami vectors`).
pub(super) static VECTORS: LazyLock<Vectors> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../tests/vectors/bitnami.json")).unwrap());
pub(super) static KEYS: LazyLock<Vec<(PrivateKey, Certificate)>> = LazyLock::new(|| {
    let pair = |pair: &Pair| {
        let certificate = Certificate::from_pem(pair.certificate.as_bytes()).unwrap();
        (PrivateKey::with_certificate(pair.private_key.as_bytes(), &certificate).unwrap(), certificate)
    };
    VECTORS.keys.iter().map(pair).collect()
});

pub(super) fn keys() -> Vec<&'static PrivateKey> {
    KEYS.iter().map(|(key, _)| key).collect()
}

fn object(json: serde_json::Value) -> BitnamiSealedSecret {
    serde_json::from_value(json).unwrap()
}

fn annotations(scope: Scope) -> serde_json::Value {
    let mut map = BTreeMap::new();
    set_scope(&mut map, scope);
    json!(map)
}

fn decoded(values: &BTreeMap<String, String>) -> BTreeMap<String, SecretValue> {
    values.iter().map(|(key, value)| (key.clone(), SecretValue::new(STANDARD.decode(value).unwrap()))).collect()
}

pub(super) fn secret() -> PlainSecret {
    PlainSecret {
        name: Some("db".into()),
        namespace: Some("shop".into()),
        labels: [("app".to_owned(), "db".to_owned())].into(),
        type_: Some("Opaque".into()),
        data: [("password".to_owned(), SecretValue::new(b"hunter2".to_vec()))].into(),
        ..PlainSecret::default()
    }
}

#[test]
fn what_go_sealed_opens_here_new_and_old_form() {
    for vector in &VECTORS.vectors {
        assert_eq!(label(vector.scope, &vector.namespace, &vector.name), vector.label.as_bytes());
        let metadata = json!({
            "name": vector.name, "namespace": vector.namespace, "annotations": annotations(vector.scope),
        });
        let sealed = object(json!({
            "apiVersion": API_VERSION, "kind": KIND, "metadata": metadata,
            "spec": {
                "encryptedData": vector.items,
                "template": {"metadata": {"name": "else", "creationTimestamp": null, "labels": {"a": "b"}}, "type": "x/y"},
            },
        }));
        let opened = open(&sealed, &keys(), None).unwrap();
        assert_eq!(opened.keys, [KEYS[vector.key].0.fingerprint()]);
        assert_eq!(opened.secret.data, decoded(&vector.values));
        assert_eq!(opened.secret.name.as_deref(), Some("db"), "the template's name means nothing");
        assert_eq!(opened.secret.type_.as_deref(), Some("x/y"));
        assert_eq!(opened.secret.labels, [("a".to_owned(), "b".to_owned())].into());

        let legacy = object(json!({
            "apiVersion": API_VERSION, "kind": KIND, "metadata": metadata,
            "spec": {"encryptedData": null, "data": vector.legacy},
        }));
        let opened = open(&legacy, &keys(), None).unwrap();
        assert_eq!(opened.secret.data, decoded(&vector.values));
        assert_eq!(opened.secret.labels["app"], "db");
        assert_eq!(opened.secret.namespace.as_deref(), Some("shop"));
    }
}

#[test]
fn line_ends_inside_an_item_are_ignored_and_other_space_is_not() {
    let vector = &VECTORS.vectors[0];
    let item = &vector.items["password"];
    let (a, b) = item.split_at(77);
    let open = |text: &str| open_item(text, vector.label.as_bytes(), &keys(), None).map(|(value, _)| value);
    assert!(open(&format!("{a}\r\n{b}\n")).is_ok());
    assert_eq!(open(&format!("{a} {b}")), Err(ItemError::Base64));
    assert_eq!(open(item.trim_end_matches('=').trim_end_matches(|_| false)).is_ok(), !item.ends_with('='));
}

#[test]
fn all_scopes_bind_what_they_say() {
    for scope in [Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide] {
        let sealed = seal(&secret(), scope, &KEYS[0].1).unwrap();
        assert_eq!(scope_of(sealed.metadata.annotations.as_ref()), scope);
        assert_eq!(open(&sealed, &keys(), None).unwrap().secret.data, secret().data);
        let mut renamed = sealed.clone();
        renamed.metadata.name = Some("other".into());
        assert_eq!(verify(&renamed, &keys(), None).is_ok(), scope != Scope::Strict);
        let mut moved = sealed.clone();
        moved.metadata.namespace = Some("live".into());
        assert_eq!(verify(&moved, &keys(), None).is_ok(), scope == Scope::ClusterWide);
        for other in [Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide] {
            let mut widened = sealed.clone();
            let mut annotations = BTreeMap::new();
            set_scope(&mut annotations, other);
            widened.metadata.annotations = Some(annotations);
            assert_eq!(verify(&widened, &keys(), None).is_ok(), scope == other);
        }
    }
}

#[test]
fn only_the_exact_word_widens_a_scope_and_cluster_wide_wins() {
    let of = |pairs: &[(&str, &str)]| {
        scope_of(Some(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()))
    };
    assert_eq!(of(&[(CLUSTER_WIDE, "True")]), Scope::Strict);
    assert_eq!(of(&[(NAMESPACE_WIDE, "1")]), Scope::Strict);
    assert_eq!(of(&[(NAMESPACE_WIDE, "true"), (CLUSTER_WIDE, "true")]), Scope::ClusterWide);
    assert_eq!(scope_of(None), Scope::Strict);
}

#[test]
fn sealing_anew_keeps_everything_but_the_texts_and_never_takes_the_scope_from_the_template() {
    let mut sealed = seal(&secret(), Scope::Strict, &KEYS[0].1).unwrap();
    let template = sealed.spec.template.as_mut().unwrap();
    template.data = [("url".to_owned(), Some("postgres://{{ .password }}".to_owned()))].into();
    let metadata = template.metadata.as_mut().unwrap();
    set_scope(metadata.annotations.get_or_insert_default(), Scope::ClusterWide);
    let mut after = sealed.clone();
    reseal(&sealed, &keys(), None, &KEYS[1].1).unwrap().apply(&mut after);
    assert_ne!(after.spec.encrypted_data, sealed.spec.encrypted_data);
    let opened = open(&after, &[&KEYS[1].0], None).unwrap();
    assert_eq!(opened.secret.data, secret().data);
    assert!(open_item(&after.spec.encrypted_data["password"], b"", &keys(), None).is_err(), "bound as before");
    after.spec.encrypted_data.clone_from(&sealed.spec.encrypted_data);
    assert_eq!(after, sealed, "nothing else changed");
}

#[test]
fn an_old_file_is_sealed_anew_as_what_it_is() {
    let vector = &VECTORS.vectors[0];
    let mut sealed = object(json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": {"name": "db", "namespace": "shop", "annotations": annotations(vector.scope)},
        "spec": {"data": vector.legacy},
    }));
    let Resealed::Whole(text) = reseal(&sealed, &keys(), None, &KEYS[1].1).unwrap() else { panic!() };
    assert!(sealed.spec.encrypted_data.is_empty());
    sealed.spec.data = Some(text);
    assert_eq!(open(&sealed, &[&KEYS[1].0], None).unwrap().secret.data, decoded(&vector.values));
}

#[test]
fn each_failure_has_its_own_error_as_far_as_anybody_can_see_it() {
    let good = seal(&secret(), Scope::Strict, &KEYS[0].1).unwrap();
    let mut both = good.clone();
    both.spec.data = Some("AA==".into());
    assert_eq!(open(&both, &keys(), None).unwrap_err(), OpenError::BothData);
    let with = |text: &str| {
        let mut sealed = good.clone();
        sealed.spec.encrypted_data.insert("password".into(), text.into());
        open(&sealed, &keys(), None).unwrap_err()
    };
    let item = |error| OpenError::Item { key: Some("password".into()), error };
    assert_eq!(with("%%%"), item(ItemError::Base64));
    assert_eq!(with(""), item(ItemError::Truncated));
    assert_eq!(with("AQAA"), item(ItemError::Truncated));
    assert_eq!(with(&STANDARD.encode([0xff; 40])), item(ItemError::Truncated));
    assert_eq!(with(&STANDARD.encode([0; 40])), OpenError::NoKey(vec!["password".into()]));
    assert_eq!(open(&good, &[&KEYS[1].0], None).unwrap_err().to_string(), "no key could decrypt secret (password)");
    assert_eq!(open(&good, &[], None).unwrap_err(), OpenError::NoKey(vec!["password".into()]));
    let mut odd = good.clone();
    odd.spec.encrypted_data.insert("../x".into(), "AA==".into());
    assert_eq!(open(&odd, &keys(), None).unwrap_err(), OpenError::Key("../x".into()));
    let mut large = good;
    large.spec.encrypted_data.insert("x".into(), "A".repeat(2 << 20));
    assert!(matches!(open(&large, &keys(), None), Err(OpenError::TooLarge(_))));
    let mut old = seal(&secret(), Scope::Strict, &KEYS[0].1).unwrap();
    old.spec.encrypted_data.clear();
    old.spec.data = Some(seal_item(&KEYS[0].1, b"shop/db", b"{\"kind\": \"ConfigMap\"}").unwrap());
    assert_eq!(open(&old, &keys(), None).unwrap_err(), OpenError::NotASecret);
}

#[test]
fn certificates_and_keys_that_cannot_be_used_say_why() {
    let of = |text: &str| Certificate::from_pem(text.as_bytes()).map(drop).unwrap_err();
    let pair = &VECTORS.keys[0];
    assert_eq!(of(""), CertificateError::Absent);
    assert_eq!(of("hello"), CertificateError::Absent);
    assert_eq!(of(&pair.private_key), CertificateError::PrivateKey);
    assert_eq!(of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), CertificateError::Malformed);
    let ecdsa = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert;
    assert_eq!(of(&key::certificate_pem(ecdsa.der())), CertificateError::NotRsa);
    let two = format!("{}{}", pair.certificate, VECTORS.keys[1].certificate);
    let first = Certificate::from_pem(two.as_bytes()).unwrap();
    assert_eq!((first.fingerprint(), first.others()), (KEYS[0].1.fingerprint(), 1));
    assert_eq!(first.pem(), pair.certificate);
    assert_eq!((first.not_before(), first.not_after()), (1_577_836_800, 4_733_510_400));

    let of = |text: &str| PrivateKey::from_pem(text.as_bytes()).map(drop).unwrap_err();
    assert_eq!(of(&pair.certificate), PrivateKeyError::Absent);
    assert_eq!(
        of("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        PrivateKeyError::Encrypted
    );
    assert_eq!(of("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"), PrivateKeyError::NotRsa);
    assert_eq!(of("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), PrivateKeyError::Malformed);
    let crossed = PrivateKey::with_certificate(pair.private_key.as_bytes(), &KEYS[1].1);
    assert_eq!(crossed.map(drop), Err(PrivateKeyError::NoMatch));
}

#[test]
fn a_new_key_is_read_back_and_opens_what_its_certificate_sealed() {
    let new = generate(1_700_000_000, 2_000_000_000, "").unwrap();
    assert!(new.private_key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    let certificate = Certificate::from_pem(new.certificate.as_bytes()).unwrap();
    assert_eq!((certificate.not_before(), certificate.not_after()), (1_700_000_000, 2_000_000_000));
    let key = PrivateKey::with_certificate(new.private_key.as_bytes(), &certificate).unwrap();
    let item = seal_item(&certificate, b"shop", b"v").unwrap();
    assert_eq!(open_item(&item, b"shop", &[&key], None).unwrap().0.expose(), b"v");
    assert!(!format!("{new:?} {key:?}").contains("BEGIN"));
}

#[test]
fn the_key_that_opened_an_object_is_tried_first() {
    let sealed = seal(&secret(), Scope::Strict, &KEYS[1].1).unwrap();
    let opened = open(&sealed, &keys(), None).unwrap();
    assert_eq!(opened.key(), Some(KEYS[1].0.fingerprint()));
    assert!(open(&sealed, &keys(), opened.key()).is_ok());
    // A hint for a key that is gone changes nothing.
    assert!(open(&sealed, &[&KEYS[1].0], Some(KEYS[0].0.fingerprint())).is_ok());
}

#[test]
fn all_keys_that_opened_an_object_are_known_and_remembered() {
    let mut sealed = seal(&secret(), Scope::Strict, &KEYS[0].1).unwrap();
    let label = label(Scope::Strict, "shop", "db");
    for (name, key) in [("0", 1), ("x", 0), ("y", 1), ("z", 1)] {
        sealed.spec.encrypted_data.insert(name.into(), seal_item(&KEYS[key].1, &label, b"v").unwrap());
    }
    let fingerprints = |of: &[usize]| of.iter().map(|key| KEYS[*key].0.fingerprint()).collect::<Vec<_>>();
    for hint in [None, Some(KEYS[0].0.fingerprint()), Some(KEYS[1].0.fingerprint())] {
        assert_eq!(open(&sealed, &keys(), hint).unwrap().keys, fingerprints(&[1, 0]));
    }
    sealed.spec.encrypted_data.clear();
    assert!(open(&sealed, &keys(), Some(KEYS[0].0.fingerprint())).unwrap().keys.is_empty());

    let status = |type_: &str, message: Option<&str>| {
        let condition = json!({"type": type_, "status": "True", "message": message});
        serde_json::from_value::<BitnamiStatus>(json!({"conditions": [condition]})).unwrap()
    };
    let kept = |keys: &str| opened_by(&status(APPLIED, Some(&format!("secret=a version=1 inputs=i key={keys}"))));
    assert_eq!(kept("0000002a,ffffffff"), [42, u32::MAX]);
    assert!(kept("-").is_empty());
    assert!(opened_by(&status("Synced", Some("key=2a"))).is_empty() && opened_by(&status(APPLIED, None)).is_empty());
}

#[test]
fn what_was_not_opened_as_it_is_counts_for_its_old_keys_and_as_unknown() {
    let mut needs = KeyNeeds::default();
    let cases = [("True", 2, "2a"), ("True", 2, "2a,07"), ("False", 2, "2a"), ("True", 1, "2a"), ("True", 2, "-")];
    for (synced, observed, keys) in cases {
        let object = json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "db", "namespace": "shop", "generation": 2},
            "spec": {"encryptedData": {}},
            "status": {
                "observedGeneration": observed,
                "conditions": [
                    {"type": "Synced", "status": synced},
                    {"type": "Applied", "status": "True", "message": format!("secret=a version=1 inputs=i key={keys}")},
                ],
            },
        });
        needs.count(&serde_json::from_value(object).unwrap());
    }
    // As the established controller leaves it, and one that nobody has looked at.
    let object = json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "db", "generation": 1},
        "spec": {"encryptedData": {}},
        "status": {"observedGeneration": 1, "conditions": [{"type": "Synced", "status": "True"}]},
    });
    needs.count(&serde_json::from_value(object).unwrap());
    needs.count(&BitnamiSealedSecret::default());
    assert_eq!((needs.total, needs.unknown), (7, 5));
    assert_eq!(needs.by_key, [(42, 4), (7, 1)].into());
}

#[test]
fn a_key_secret_shows_no_key_that_kubectl_repeated() {
    let pair = &VECTORS.keys[0];
    let data = [(CERTIFICATE_MEMBER, &pair.certificate), (KEY_MEMBER, &pair.private_key)]
        .map(|(key, text)| (key.to_owned(), json!(STANDARD.encode(text))));
    let data: serde_json::Map<_, _> = data.into_iter().collect();
    let applied = json!({"apiVersion": "v1", "kind": "Secret", "data": data}).to_string();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "sealed-secrets-keya",
            "annotations": {
                (crate::metadata::LAST_APPLIED): applied, "tool.example.test/last-applied": pair.private_key, "note": "stays",
            },
            "managedFields": [{"manager": "somebody"}],
        },
        "data": data,
    });
    let (name, taken) = KeySecret::take(serde_json::from_value(secret).unwrap()).unwrap();
    assert_eq!((name.as_str(), taken.pair.is_ok()), ("sealed-secrets-keya", true));
    let shown = format!("{taken:?}");
    assert!(shown.contains("stays"), "{shown}");
    let key = STANDARD.encode(&pair.private_key);
    let line = pair.private_key.lines().nth(3).unwrap();
    for secret in ["PRIVATE KEY", "somebody", &key[100..140], line] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sealed_items_open_with_their_label_and_key_alone(
        value in prop::collection::vec(any::<u8>(), 0..300),
        label in "[a-z]{0,8}(/[a-z]{1,8})?",
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let text = seal_item(&KEYS[0].1, label.as_bytes(), &value).unwrap();
        let (opened, key) = open_item(&text, label.as_bytes(), &keys(), None).unwrap();
        prop_assert_eq!(opened.expose(), value.as_slice());
        prop_assert_eq!(key, KEYS[0].0.fingerprint());
        let other = label.clone() + "x";
        prop_assert!(open_item(&text, other.as_bytes(), &keys(), None).is_err());
        let mut bytes = STANDARD.decode(&text).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(open_item(&STANDARD.encode(bytes), label.as_bytes(), &keys(), None).is_err());
    }

    #[test]
    fn no_text_makes_opening_panic(text in "[A-Za-z0-9+/=\r\n]{0,400}") {
        prop_assert!(open_item(&text, b"", &keys(), None).is_err());
    }

    #[test]
    fn no_text_makes_reading_keys_panic(text in "(-----(BEGIN|END) (RSA )?(PRIVATE KEY|CERTIFICATE)-----\n|[A-Za-z0-9+/=]{0,80}\n){0,8}") {
        prop_assert!(Certificate::from_pem(text.as_bytes()).is_err());
        prop_assert!(PrivateKey::from_pem(text.as_bytes()).is_err());
    }
}

/// Runs the program on Go's cryptography, one line of JSON in for one line out; `None` where it was not built.
fn oracle(args: &[&str], lines: &[serde_json::Value]) -> Option<Vec<serde_json::Value>> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let Some(program) = std::env::var_os("BULLA_ORACLES") else {
        assert!(std::env::var_os("CI").is_none(), "BULLA_ORACLES does not name the program of tests/oracles");
        return None;
    };
    let mut child =
        Command::new(program).arg("bitnami").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{args:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A file that is gone afterwards.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bulla-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// A thousand values of all lengths under labels of all scopes.
fn cases() -> Vec<(String, Vec<u8>)> {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::default();
    let strategy = ("([a-z0-9-]{1,20}(/[a-zA-Z0-9.-]{1,40})?)?", prop::collection::vec(any::<u8>(), 0..600));
    (0..1000).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn a_thousand_items_of_go_open_here() {
    let pair = &VECTORS.keys[0];
    let certificate = Scratch::new("cert.pem", &pair.certificate);
    let cases = cases();
    let lines: Vec<_> = cases
        .iter()
        .map(|(label, value)| json!({"label": STANDARD.encode(label), "value": STANDARD.encode(value)}))
        .collect();
    let Some(items) = oracle(&["seal", certificate.path()], &lines) else { return };
    assert_eq!(items.len(), cases.len());
    for ((label, value), item) in cases.iter().zip(items) {
        let opened = open_item(item.as_str().unwrap(), label.as_bytes(), &keys(), None).unwrap().0;
        assert_eq!(opened.expose(), value.as_slice());
    }
}

#[test]
fn go_opens_a_thousand_items_of_ours() {
    let pair = &VECTORS.keys[1];
    let key = Scratch::new("tls.key", &pair.private_key);
    let cases = cases();
    let lines: Vec<_> = cases
        .iter()
        .map(|(label, value)| {
            let item = seal_item(&KEYS[1].1, label.as_bytes(), value).unwrap();
            json!({"label": STANDARD.encode(label), "item": item})
        })
        .collect();
    let Some(values) = oracle(&["open", key.path()], &lines) else { return };
    for ((_, value), opened) in cases.iter().zip(&values) {
        assert_eq!(*opened, json!({"value": STANDARD.encode(value)}));
    }
    assert_eq!(values.len(), cases.len());
}

#[test]
fn go_takes_our_certificates_and_keys() {
    let new = generate(1_700_000_000, 2_000_000_000, "").unwrap();
    let (certificate, key) = (Scratch::new("new.crt", &new.certificate), Scratch::new("new.key", &new.private_key));
    if oracle(&["check", certificate.path()], &[]).is_none() {
        return;
    }
    let line = json!({"label": "", "value": STANDARD.encode("v")});
    let item = oracle(&["seal", certificate.path()], &[line]).unwrap().remove(0);
    let opened = oracle(&["open", key.path()], &[json!({"label": "", "item": item})]).unwrap();
    assert_eq!(opened, [json!({"value": STANDARD.encode("v")})]);
}

#[test]
fn a_remembered_key_costs_one_operation_an_item_however_many_there_are() {
    let sealed = {
        let mut secret = secret();
        for number in 0..9 {
            secret.data.insert(format!("k{number}"), SecretValue::new(vec![number]));
        }
        seal(&secret, Scope::Strict, &KEYS[1].1).unwrap()
    };
    // Sixty keys of the same size that are tried before it, if nobody remembers.
    let others = std::iter::repeat_n(&KEYS[0].0, 60);
    let keys: Vec<&PrivateKey> = others.chain([&KEYS[1].0]).collect();
    let same_size = KEYS[0].0.fits(&vec![0; 256]) == KEYS[1].0.fits(&vec![0; 256]);
    assert!(same_size, "the vectors' keys are of one size");
    let hint = Some(KEYS[1].0.fingerprint());
    let within = |hint, number| verify_within(&sealed, &keys, hint, &mut Operations::at_most(number));
    assert_eq!(within(hint, 10), Ok(hint));
    assert_eq!(within(hint, 9), Err(OpenError::Operations));
    // The first pass tries them once for the object, not once for each item.
    assert_eq!(within(None, 60 + 10), Ok(hint));
    assert_eq!(within(None, 60 + 9), Err(OpenError::Operations));
    // Sealing anew is counted too.
    let reseal = |number| reseal_within(&sealed, &keys, hint, &KEYS[0].1, &mut Operations::at_most(number)).is_ok();
    assert!(reseal(20) && !reseal(19));
}

#[test]
fn templates_are_rendered_as_the_established_controller_does() {
    let with = |data: serde_json::Value| {
        let mut sealed = seal(&secret(), Scope::Strict, &KEYS[0].1).unwrap();
        sealed.spec.template = serde_json::from_value(json!({"data": data})).unwrap();
        open_rendered(&sealed, &keys(), None).map(|opened| opened.secret.data)
    };
    let shown = |data: &BTreeMap<String, SecretValue>| -> Vec<(String, String)> {
        data.iter().map(|(key, value)| (key.clone(), String::from_utf8_lossy(value.expose()).into_owned())).collect()
    };
    let data = with(json!({"url": "x:{{ .password | upper }} {{ .none }}", "password": null})).unwrap();
    assert_eq!(shown(&data), [("url".to_owned(), "x:HUNTER2 <no value>".to_owned())]);
    let data = with(json!({"password": "{{ .password }}!"})).unwrap();
    assert_eq!(shown(&data), [("password".to_owned(), "hunter2!".to_owned())], "a template takes the item's place");
    let error = with(json!({"x": "ok\n{{ .password.y }}"})).unwrap_err().to_string();
    assert!(error.starts_with("spec.template.data.x: line 2") && !error.contains("hunter2"), "{error}");
    assert_eq!(with(json!({"a/b": "x"})), Err(OpenError::Key("a/b".into())));
}
