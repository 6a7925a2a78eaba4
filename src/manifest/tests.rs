#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use super::*;
use crate::resource::{SealedItem, SealedSecretSpec, SecretTemplate, TemplateMetadata};
use crate::scope::Scope;

mod bitnami;
mod properties;

fn fixture(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/manifests/");
    std::fs::read(format!("{path}{name}")).unwrap()
}

fn stream(text: &str) -> Stream {
    Stream::read(text.as_bytes()).unwrap()
}

fn secret_of(text: &str) -> Result<crate::secret::PlainSecret, ManifestError> {
    let stream = stream(text);
    stream.object(0).unwrap().secret()
}

fn secret_error(text: &str) -> ManifestError {
    secret_of(text).unwrap_err()
}

fn value(text: &str, key: &str) -> String {
    String::from_utf8(secret_of(text).unwrap().data[key].expose().to_vec()).unwrap()
}

const HEAD: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\n";
const SEALED: &str = "apiVersion: bulla.dev/v1alpha1
kind: SealedSecret
metadata:
  name: db
  namespace: shop
spec:
  scope: strict
  items:
    # asked for by the auditors
    password:
      sealed: >-
        kaaa:AQ==
    # expires
    token:   # in May
      sealed: >-
        kbbb:AQ==
      # its own key
      envelopes:
        prod: >-
          kbbb:rxx:AQ==
      # end of token
    # about the user
    user:
      sealed: kaaa:Ag==  # plain
  envelopes:
    prod: >-
      kaaa:rxx:AQ==
# trailing
";

fn item(text: &str, envelopes: &[(&str, &str)]) -> SealedItem {
    let map: BTreeMap<String, String> = envelopes.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    SealedItem { sealed: text.into(), envelopes: (!map.is_empty()).then_some(map) }
}

fn edited(text: &str, edit: Edit) -> String {
    let mut stream = stream(text);
    stream.apply(&[(0, edit)]).unwrap();
    String::from_utf8(stream.into_bytes().to_vec()).unwrap()
}

/// The lines that went and those that came, as `-…` and `+…`.
fn diff(before: &str, after: &str) -> Vec<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let head = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let gone = a[head..a.len() - tail].iter().map(|line| format!("-{line}"));
    gone.chain(b[head..b.len() - tail].iter().map(|line| format!("+{line}"))).collect()
}

#[test]
fn fixtures_are_read() {
    let expected: &[(&str, &[(&str, &str)])] = &[
        ("anchors.yaml", &[("Secret", "anchors")]),
        ("basic-auth.yaml", &[("Secret", "admin")]),
        ("binary.yaml", &[("Secret", "keystore")]),
        ("bitnami-sealed.yaml", &[("SealedSecret", "db")]),
        ("bom.yaml", &[("Secret", "db")]),
        ("crlf.yaml", &[("Secret", "db")]),
        ("dockerconfigjson.yaml", &[("Secret", "registry")]),
        ("dotted-keys.yaml", &[("Secret", "app-config")]),
        ("empty-values.yaml", &[("Secret", "empty")]),
        ("list.json", &[("Secret", "one"), ("ConfigMap", "between"), ("Secret", "two")]),
        ("list.yaml", &[("Secret", "one"), ("ConfigMap", "between"), ("Secret", "two")]),
        ("minified.json", &[("Secret", "mini")]),
        (
            "multi-document.yaml",
            &[("ConfigMap", "shop"), ("Secret", "db"), ("Deployment", "shop"), ("Secret", "cache")],
        ),
        ("opaque.yaml", &[("Secret", "db")]),
        ("sealed.yaml", &[("SealedSecret", "db")]),
        ("secret-list.json", &[("Secret", "one"), ("Secret", "two")]),
        ("secret.json", &[("Secret", "json")]),
        ("ssh.yaml", &[("Secret", "deploy-key")]),
        ("string-data.yaml", &[("Secret", "mail")]),
        ("tls-string-data.yaml", &[("Secret", "dummy-example-test-tls")]),
        ("tls.yaml", &[("Secret", "dummy-example-test-tls")]),
        ("utf-16be.yaml", &[("Secret", "db")]),
        ("utf-16le.yaml", &[("Secret", "db")]),
    ];
    for (name, objects) in expected {
        let stream = Stream::read(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found: Vec<_> = stream.objects().map(|o| (o.kind().unwrap(), o.name().unwrap())).collect();
        assert_eq!(&found, objects, "{name}");
        for object in stream.objects() {
            if object.is_secret() {
                let secret = object.secret().unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(!secret.data.is_empty(), "{name}");
                assert!(!secret.annotations.keys().any(|key| key.contains("last-applied")));
            } else {
                assert_eq!(object.secret().unwrap_err().kind, ManifestErrorKind::OtherKind);
            }
            assert_eq!(object.is_sealed(), *name == "sealed.yaml");
        }
        if !name.starts_with("utf-16") {
            assert_eq!(stream.into_bytes().as_slice(), fixture(name).as_slice(), "{name}");
        }
    }
    let error = Stream::read(&fixture("helm-template.yaml")).unwrap_err();
    assert_eq!((error.kind, error.line()), (ManifestErrorKind::Template, Some(1)));
    // Every file is looked at.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/manifests");
    let files = std::fs::read_dir(folder).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".yaml") || name.to_string_lossy().ends_with(".json")
    });
    assert_eq!(files.count(), expected.len() + 1);
}

#[test]
fn the_same_secret_both_ways() {
    let read = |name: &str| Stream::read(&fixture(name)).unwrap().object(0).unwrap().secret().unwrap();
    assert_eq!(read("tls.yaml"), read("tls-string-data.yaml"));
    assert_eq!(read("opaque.yaml"), read("crlf.yaml"));
    assert_eq!(read("opaque.yaml"), read("bom.yaml"));
    assert_eq!(read("utf-16le.yaml"), read("utf-16be.yaml"));
    assert_eq!(read("utf-16le.yaml").annotations["example.test/owner"], "équipe \u{1f600}");
    let anchors = read("anchors.yaml");
    assert_eq!(anchors.labels["app"], "anchors");
    assert_eq!(anchors.annotations["tier"], "overridden");
    assert_eq!(anchors.annotations["app"], "anchors");
    assert_eq!(anchors.data["first"], anchors.data["second"]);
    assert_eq!(read("secret.json").data["emoji"].expose(), "dummy \u{1f600}".as_bytes());
    let binary = read("binary.yaml");
    assert_eq!(binary.data["keystore.jks"].len(), 512);
    assert_eq!(binary.data["keystore.jks"], binary.data["wrapped.bin"]);
}

#[test]
fn secrets_are_read_as_kubectl_reads_them() {
    assert_eq!(value(&format!("{HEAD}data: {{k: YQ==}}\nstringData: {{k: b}}"), "k"), "b");
    assert_eq!(value(&format!("{HEAD}stringData: {{k: b}}\ndata: {{k: YQ==}}"), "k"), "b");
    assert_eq!(value(&format!("{HEAD}data:\n  k: >-\n    aGVs\n    bG8=\n"), "k"), "hello");
    assert_eq!(value(&format!("{HEAD}data:\n  k: |\n    aGVs\n    bG8=\n"), "k"), "hello");
    // kubectl ends the last line before it parses.
    assert_eq!(value(&format!("{HEAD}stringData:\n  k: |\n    x"), "k"), "x\n");
    assert_eq!(value(&format!("{HEAD}stringData:\n  k: |-\n    x"), "k"), "x");
    assert_eq!(value(&format!("{HEAD}stringData:\n  k: !!str 12\n"), "k"), "12");
    assert_eq!(value(&format!("{HEAD}stringData:\n  k: 2024-01-01\n"), "k"), "2024-01-01");
    assert_eq!(value(&format!("{HEAD}stringData: {{\"k\": \"\\ud83d\\ude00\"}}\n"), "k"), "\u{1f600}");
    let view = stream(&format!("{HEAD}data: ~\nstringData:\ntype:\nimmutable: null\nstatus: {{}}\n"));
    let view = view.object(0).unwrap().secret_view().unwrap();
    assert!(view.secret.data.is_empty() && view.secret.type_.is_none());
    assert_eq!(view.dropped[0].field, "status");
}

#[test]
fn what_is_wrong_with_a_secret() {
    use ManifestErrorKind as K;
    let cases: &[(&str, K, usize, &str)] = &[
        ("data: {k: 'a!b='}", K::Base64, 4, "data.k"),
        ("data: {k: YQ}", K::Base64, 4, "padding"),
        ("data: {k: YWJj-A==}", K::Base64, 4, "URL-safe"),
        ("data: {k: 1234}", K::WrongType, 4, "quote it"),
        ("data:\n  k: !!binary YQ==", K::Tag, 5, "decode it twice"),
        ("stringData:\n  port: 5432", K::WrongType, 5, "stringData.port is a number, not text (quote it)"),
        ("stringData:\n  on: x", K::Ambiguous, 5, "\"on\""),
        ("stringData:\n  k: yes", K::WrongType, 5, "quote it"),
        ("stringData:\n  k:", K::WrongType, 5, "no value"),
        ("stringData:\n  k: [a]", K::WrongType, 5, "a sequence"),
        ("stringData: x", K::WrongType, 4, "a mapping"),
        ("stringdata: {}", K::UnknownField, 4, "did you mean stringData?"),
        ("sops: {}", K::UnknownField, 4, "SOPS"),
        ("immutable: 'true'", K::WrongType, 4, "true nor false"),
        ("stringData: {'a b': c}", K::BadValue, 4, "a key under"),
        ("stringData: {'..a': c}", K::BadValue, 4, "a key under"),
        ("type: Opaque\ntype: Opaque", K::DuplicateKey, 5, "\"type\""),
        ("stringData: {\"a\": b, 'a': c}", K::DuplicateKey, 4, "\"a\""),
        ("stringData: {a: !secret b}", K::Tag, 4, "custom tags"),
        ("stringData: {a: {{ .Values.a }}}", K::Template, 4, "template"),
    ];
    for (text, kind, line, says) in cases {
        let error = secret_error(&format!("{HEAD}{text}\n"));
        assert_eq!((error.kind, error.line()), (*kind, Some(*line)), "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
    let cases: &[(&str, K, usize)] = &[
        ("name: 1e3", K::WrongType, 4),
        ("name: 12:30:45", K::Ambiguous, 4),
        ("name: 2024-01-01", K::Ambiguous, 4),
        ("namespace: on", K::WrongType, 4),
        ("generateName: a-", K::MissingField, 4),
        ("label: {}", K::UnknownField, 4),
        ("labels: {a: 1}", K::WrongType, 4),
        ("labels: {y: a}", K::Ambiguous, 4),
        ("annotations: {a: true}", K::WrongType, 4),
    ];
    for (text, kind, line) in cases {
        let error = secret_error(&format!("apiVersion: v1\nkind: Secret\nmetadata:\n  {text}\n"));
        assert_eq!((error.kind, error.line()), (*kind, Some(*line)), "{text}: {error}");
    }
}

#[test]
fn errors_show_no_value() {
    let marker = "hunter2";
    for text in [
        format!("stringData: {{a: [{marker}]}}"),
        format!("data: {{a: {marker}}}"),
        format!("stringData:\n  a: {{{marker}: {marker}}}"),
        format!("stringData:\n  a: !x {marker}"),
        format!("type: [{marker}]"),
        format!("immutable: {marker}"),
        format!("data:\n  - {marker}"),
    ] {
        let error = secret_error(&format!("{HEAD}{text}\n"));
        assert!(!format!("{error} {error:?}").contains(marker), "{error:?}");
    }
    for text in
        [format!("a: \"{marker}"), format!("a: @{marker}"), format!("a: {{b: {marker}"), format!("a: b: {marker}")]
    {
        let error = Stream::read(text.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(marker), "{error:?}");
    }
    let stream = stream(&format!("{HEAD}stringData: {{a: {marker}}}"));
    let shown = format!("{stream:?} {:?} {:?}", stream.documents(), stream.object(0).unwrap().secret_view().unwrap());
    assert!(!shown.contains(marker), "{shown}");
}

#[test]
fn ambiguous_scalars() {
    for text in [
        "",
        "~",
        "null",
        "NULL",
        "y",
        "N",
        "yes",
        "On",
        "OFF",
        "True",
        "0",
        "12",
        "-12",
        "+1",
        "0123",
        "0o7",
        "0x1F",
        "0b11",
        "1_000",
        "1e3",
        "1E-3",
        "1.5",
        ".5",
        "5.",
        "-.inf",
        ".nan",
        "12:30:45",
        "1:20",
        "2024-01-01",
        "2024-1-1",
        "2024-01-01T00:00:00Z",
        "2024-01-01 10:00",
        "<<",
        "=",
        "089",
        "190:20:30.15",
    ] {
        assert!(yaml11_ambiguous(text).is_some(), "{text}");
    }
    for text in [
        "a",
        "ye",
        "nope",
        "1.2.3",
        "10.0.0.1",
        "1a",
        "e3",
        "0xg",
        "-",
        "--1",
        ".",
        "+",
        "_1",
        "a:b",
        "12:99",
        "2024-01",
        "kaaa:AQ==",
        "1e",
        "1:2:",
        "tru",
        "2024-01-01x",
        "127.0.0.1:80",
        "v1",
        "e",
    ] {
        assert!(yaml11_ambiguous(text).is_none(), "{text}");
    }
}

#[test]
fn encodings() {
    let error = Stream::read(b"a: b\nc: \xff\xff\n").unwrap_err();
    assert_eq!((error.kind, error.line(), error.column()), (ManifestErrorKind::Encoding, Some(2), Some(4)));
    assert!(error.to_string().contains("byte 8"));
    assert_eq!(Stream::read(b"\xff\xfea").unwrap_err().kind, ManifestErrorKind::Encoding);
    assert_eq!(Stream::read(b"\xff\xfe\x00\xd8a\x00").unwrap_err().kind, ManifestErrorKind::Encoding);
    assert_eq!(Stream::read(b"a\0b\0").unwrap_err().kind, ManifestErrorKind::Encoding);
    assert_eq!(stream("a: b\r\nc: d\r\n").line_ending(), LineEnding::CrLf);
    assert_eq!(stream("a: b\r\nc: d\n").line_ending(), LineEnding::Mixed);
    assert_eq!(Stream::read(&fixture("utf-16le.yaml")).unwrap().encoding(), Encoding::Utf16Le);
    for empty in ["", "# only this\n", "---\n", "---\n---\n", "\u{feff}", "...\n"] {
        assert_eq!(stream(empty).objects().len(), 0, "{empty:?}");
    }
    let span = stream("é: {a: 1, b: 2}\n").documents()[0].root.get("é").unwrap().get("b").unwrap().span;
    assert_eq!((span.line, span.column, span.start), (1, 14, 14));
}

#[test]
fn limits() {
    let deep = format!("{}{}", "[".repeat(80), "]".repeat(80));
    assert_eq!(Stream::read(deep.as_bytes()).unwrap_err().kind, ManifestErrorKind::TooLarge);
    let mut laughs = "a: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let alias = format!("*a{}", level - 1);
        laughs += &format!("b{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(","));
    }
    assert_eq!(Stream::read(laughs.as_bytes()).unwrap_err().kind, ManifestErrorKind::TooLarge);
    assert_eq!(Stream::read(b"a: &a [*a]").unwrap_err().kind, ManifestErrorKind::Alias);
    assert_eq!(Stream::read(b"a: *b").unwrap_err().kind, ManifestErrorKind::Alias);
    let long = format!("{HEAD}stringData: {{k: \"{}\"}}\n", "x".repeat(700 * 1024));
    assert_eq!(value(&long, "k").len(), 700 * 1024);
    let json = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"stringData\":{{\"k\":\"{}\"}}}}",
        "\\n".repeat(700 * 1024)
    );
    assert_eq!(value(&json, "k").len(), 700 * 1024);
}

#[test]
fn other_documents_may_be_anything() {
    let text = "- a\n---\nplain\n---\na: !Ref b\na: c\n---\n? [x]\n: y\n---\napiVersion: v1\nkind: Secret\nstringData: {a: b}\n";
    let stream = stream(text);
    assert_eq!((stream.documents().len(), stream.objects().len()), (5, 3));
    assert!(stream.object(2).unwrap().secret().is_ok());
    assert_eq!(stream.object(2).unwrap().document(), 4);
    assert_eq!(Stream::read(b"{\"a\": 1}\n{\"b\": 2}").unwrap_err().kind, ManifestErrorKind::Syntax);
    assert_eq!(Stream::read(b"{\"a\": 1} x").unwrap_err().kind, ManifestErrorKind::Syntax);
    let directive = "%YAML 1.1\n---\nkind: A\n...\n# x\n%YAML 1.2\n---\nkind: B\n";
    assert_eq!(Stream::read(directive.as_bytes()).unwrap().objects().len(), 2);
}

#[test]
fn a_secret_to_kubectl_is_never_another_kind() {
    use ManifestErrorKind as K;
    // kubectl (apimachinery 0.37) reads a Secret out of each of these, or may.
    let rest = "metadata: {name: a, namespace: b}\nstringData: {a: b}\n";
    let cases: &[(&str, K)] = &[
        ("apiVersion: v1\nkind: ConfigMap\nkind: Secret", K::DuplicateKey),
        ("apiVersion: v1\nkind: ConfigMap\n\"k\\u0069nd\": Secret", K::DuplicateKey),
        ("apiVersion: v1\nkind: ConfigMap\n<<: {kind: Secret}", K::DuplicateKey),
        ("apiVersion: v2\nkind: Secret\n<<: [{apiVersion: v1}]", K::DuplicateKey),
        ("apiVersion: v1\nkind: !!binary U2VjcmV0", K::Tag),
        ("apiVersion: v1\nkind: !!b%69nary U2VjcmV0", K::Tag),
        ("apiVersion: v1\nkind: !<tag:yaml.org,2002%3Abinary> U2VjcmV0", K::Tag),
        ("apiVersion: v1\n!!binary a2luZA==: Secret", K::Tag),
        ("apiVersion: v1\n? !!binary a2luZA==\n: Secret", K::Tag),
        ("apiVersion: v1\n! \"<<\": {kind: Secret}", K::Tag),
        ("apiVersion: v1\n<<: {!!binary a2luZA==: Secret}", K::Tag),
        ("kind: Secret", K::BadValue),
        ("apiVersion:\nkind: Secret", K::BadValue),
        ("apiVersion: 1\nkind: Secret", K::BadValue),
        ("apiVersion: [v1]\nkind: Secret", K::BadValue),
        ("apiVersion: ''\nkind: Secret", K::BadValue),
        ("apiVersion: /\nkind: Secret", K::BadValue),
        ("apiVersion: /v1\nkind: Secret", K::BadValue),
        ("apiVersion: v1\nkind: secret", K::BadValue),
        ("apiVersion: v1\nkind: List\nitems: []\nitems: [{apiVersion: v1, kind: Secret}]", K::DuplicateKey),
        ("apiVersion: v1\nkind: List\nitems: []\n!!binary aXRlbXM=: [{apiVersion: v1, kind: Secret}]", K::Tag),
        ("apiVersion: v1\nkind: List\nitems: []\n<<: {items: [{apiVersion: v1, kind: Secret}]}", K::DuplicateKey),
        ("apiVersion: v1\nkind: SecretList\nitems: [{kind: Secret}]", K::BadValue),
        ("apiVersion: v1\nkind: ConfigMap\nitems: [{apiVersion: v1, kind: Secret}]", K::BadValue),
        ("apiVersion: v1\nkind: ConfigMapList\nitems: [{a: b}, {apiVersion: v1, kind: Secret}]", K::BadValue),
        ("apiVersion: apps/v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret}]", K::BadValue),
        ("kind: List\nitems: [{apiVersion: v1, kind: Secret}]", K::BadValue),
        ("kind: SecretList\nitems: [{stringData: {a: b}}]", K::BadValue),
        ("kind: List\nitems: [{items: [{apiVersion: v1, kind: Secret}]}]", K::BadValue),
    ];
    for (text, kind) in cases {
        let error = Stream::read(format!("x: y\n---\n{text}\n{rest}").as_bytes()).map(|_| ()).unwrap_err();
        assert_eq!((error.kind, error.document), (*kind, Some(1)), "{text}: {error}");
        assert!(error.line().is_some_and(|line| line > 2), "{text}");
    }
    let json = b"{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"kind\": \"Secret\"}";
    assert_eq!(Stream::read(json).map(|_| ()).unwrap_err().kind, K::DuplicateKey);
    for text in [
        "apiVersion: v1\nkind: \"\\x53ecret\"",
        "apiVersion: v1\nkind: !!str Secret",
        "apiVersion: v1\n? kind\n: >-\n  Secret",
        "apiVersion: v1\nx-k: &k Secret\nkind: *k",
        "<<: [{apiVersion: v1, kind: Secret}, {apiVersion: v1}]",
        "apiVersion: v1\nkind: ! Secret",
    ] {
        let read = Stream::read(format!("{text}\n{rest}").as_bytes());
        assert!(read.is_err() || read.unwrap().object(0).unwrap().is_secret(), "{text}");
    }
    // What only looks like one passes.
    for text in [
        "apiVersion: example.com/v1\nkind: Secret",
        "kind: ConfigMap\na: 1\na: 2",
        "items: [{kind: Thing}, 1]",
        "apiVersion: v1\nkind: ConfigMap\nitems: []",
        "a: !Ref b\n? [x]\n: y",
    ] {
        assert!(Stream::read(text.as_bytes()).is_ok_and(|stream| !stream.object(0).unwrap().is_secret()), "{text}");
    }
}

#[test]
fn what_readers_divide_differently_is_refused() {
    use ManifestErrorKind as K;
    let rest = "metadata: {name: a}\nstringData: {a: b}\n";
    for end in ['\u{85}', '\u{2028}', '\u{2029}'] {
        for text in [
            // To kubectl the comment, the plain text and the literal text end there.
            format!("apiVersion: v1\n# note{end}kind: Secret\n{rest}"),
            format!("apiVersion: v1\nkind: Secret{end}\n{rest}"),
            format!("apiVersion: v1\n{end}kind: Secret\n{rest}"),
            format!("{HEAD}stringData:\n  k: |\n    a{end}    b\n"),
            format!("# \"{end}\"\n"),
            format!("a: \"x\" # {end}\n"),
            format!("# x\n---{end}\n{{\"apiVersion\":\"v1\",\"kind\":\"Secret\"}}\n"),
        ] {
            assert_eq!(Stream::read(text.as_bytes()).map(|_| ()).unwrap_err().kind, K::Ambiguous, "{text:?}");
        }
        // In quotes they change the value, and nothing around it.
        let text = format!("{HEAD}stringData:\n  k: \"a {end} b\"\n  l: 'x'\n");
        let error = secret_error(&text);
        assert_eq!((error.kind, error.line(), error.column()), (K::Ambiguous, Some(5), Some(6)), "{error}");
        assert_eq!(stream(&format!("kind: A\nx: \"{end}\"\n---\n{HEAD}")).objects().len(), 2);
    }
    assert_eq!(value(&format!("{HEAD}stringData: {{k: \"a\\u2028b\\N\"}}"), "k"), "a\u{2028}b\u{85}");
    for space in ['\u{a0}', '\u{3000}', '\u{2003}'] {
        let text = format!("# x\n---{space}\n{{\"apiVersion\":\"v1\",\"kind\":\"Secret\"}}\n");
        assert_eq!(Stream::read(text.as_bytes()).map(|_| ()).unwrap_err().kind, K::Ambiguous, "{text:?}");
        assert!(
            Stream::read(format!("a: |\n  ---{space}\nb: x{space}---\n---  \r\n--- # x{space}\n").as_bytes()).is_ok()
        );
    }
    for text in ["# x\n{apiVersion: v1, ?kind: Secret}", "[?a]", "{a: [?b: c]}"] {
        assert_eq!(Stream::read(text.as_bytes()).map(|_| ()).unwrap_err().kind, K::Ambiguous, "{text}");
    }
    assert!(Stream::read(b"?a: b\nc: [\"?d\", e?f]\n").is_ok());
}

#[test]
fn each_object_answers_for_its_own_defects() {
    let (good, bad) = ("- {apiVersion: v1, kind: Secret}\n", "- {kind: X, a: 1, a: {b: c, b: d}, e: !f g}\n");
    let own = "- {apiVersion: v1, kind: Secret, type: !x a, type: b}\n";
    let text = format!("apiVersion: v1\nkind: List\nitems:\n{bad}{good}{own}{bad}{good}{own}");
    let stream = stream(&text);
    let errors: Vec<_> = stream
        .objects()
        .filter(Object::is_secret)
        .map(|object| object.secret().err().map(|error| (error.line(), error.kind)))
        .collect();
    let first = |line| Some((Some(line), ManifestErrorKind::Tag));
    assert_eq!(errors, [None, first(6), None, first(9)]);
}

#[test]
fn a_merge_that_kubectl_lets_win_is_refused() {
    for text in ["p: one\n  <<: {p: two}", "<<: {p: one, <<: {p: two}}", "p: one\n  <<: [{}, {p: two}]"] {
        let error = secret_error(&format!("{HEAD}stringData:\n  {text}\n"));
        assert_eq!((error.kind, error.line().is_some()), (ManifestErrorKind::Alias, true), "{text}");
    }
    for text in ["<<: {p: two}\n  p: one", "p: one\n  <<: {p: one, q: two}", "<<: [{p: one}, {p: two}]"] {
        assert_eq!(value(&format!("{HEAD}stringData:\n  {text}\n"), "p"), "one", "{text}");
    }
}

#[test]
fn sealed_is_read_with_places() {
    let stream = stream(SEALED);
    let view = stream.object(0).unwrap().sealed().unwrap();
    assert_eq!(view.manifest.spec.scope, Some(Scope::Strict));
    assert_eq!(view.manifest.name.as_deref(), Some("db"));
    assert_eq!(view.manifest.spec.items["token"], item("kbbb:AQ==", &[("prod", "kbbb:rxx:AQ==")]));
    let token = &view.places.items["token"];
    assert_eq!((token.key.line, token.key.column), (14, 5));
    assert_eq!(&stream.text()[token.sealed.range()], "kbbb:AQ==");
    assert_eq!(&stream.text()[token.envelopes.lines["prod"].1.range()], "kbbb:rxx:AQ==");
    assert_eq!(view.places.envelopes.lines["prod"].0.line, 26);
    assert_eq!(view.places.scope.unwrap().line, 7);
}

#[test]
fn sealed_is_read_strictly() {
    use ManifestErrorKind as K;
    let cases: &[(&str, &str, K)] = &[
        ("scope: strict", "scope: narrow", K::BadValue),
        ("scope: strict", "scope:", K::WrongType),
        ("scope: strict", "scop: strict", K::UnknownField),
        ("sealed: kaaa:Ag==  # plain", "sealed: 12", K::WrongType),
        ("sealed: kaaa:Ag==  # plain", "sealed: [a]", K::WrongType),
        ("sealed: kaaa:Ag==  # plain", "sealed: >-\n        ka\n        a:Ag==", K::BadValue),
        ("sealed: kaaa:Ag==  # plain", "sealed: |\n        kaaa:Ag==", K::BadValue),
        ("sealed: kaaa:Ag==  # plain", "seal: kaaa:Ag==", K::UnknownField),
        ("sealed: kaaa:Ag==  # plain", "sealed: &x kaaa:Ag==", K::Alias),
        ("sealed: kaaa:Ag==  # plain", "sealed: !x kaaa:Ag==", K::Tag),
        ("sealed: kaaa:Ag==  # plain", "<<: {sealed: a}", K::Alias),
        ("sealed: kaaa:Ag==  # plain", "envelopes: {a: b}", K::MissingField),
        ("    user:", "    on:", K::Ambiguous),
        ("    user:", "    password:", K::DuplicateKey),
        ("  scope: strict", "  template:", K::WrongType),
        ("  scope: strict", "  template: {data: {a: 1}}", K::WrongType),
        ("  scope: strict", "  template: {metadata: {name: x}}", K::UnknownField),
        ("  scope: strict", "  template: {metadata: {labels: }}", K::WrongType),
        ("  scope: strict", "  suspend: 'true'", K::WrongType),
        ("  scope: strict", "  drift: off", K::WrongType),
        ("  name: db", "  name: 12", K::WrongType),
    ];
    for (from, to, kind) in cases {
        let text = SEALED.replacen(from, to, 1);
        let error = stream(&text).object(0).unwrap().sealed().unwrap_err();
        assert_eq!(error.kind, *kind, "{to}: {error}");
        assert!(error.line().is_some_and(|line| line > 1), "{to}: {error}");
    }
}

#[test]
fn a_text_is_replaced_in_one_line() {
    let path = TextPath::Envelope(EnvelopeMap::Common, "prod".into());
    let after = edited(SEALED, Edit::ReplaceText { path, text: "kccc:ryy:Ag==".into() });
    assert_eq!(diff(SEALED, &after), ["-      kaaa:rxx:AQ==", "+      kccc:ryy:Ag=="]);
    let after = edited(SEALED, Edit::ReplaceText { path: TextPath::Sealed("user".into()), text: "kddd:AQ==".into() });
    assert_eq!(diff(SEALED, &after), ["-      sealed: kaaa:Ag==  # plain", "+      sealed: kddd:AQ==  # plain"]);
    let mut same = stream(SEALED);
    let path = TextPath::Sealed("user".into());
    assert_eq!(same.replace_text(0, path, "kaaa:Ag==").unwrap(), Applied::default());
    let path = TextPath::Sealed("user".into());
    assert_eq!(same.replace_text(0, path, "k a").unwrap_err().kind, ManifestErrorKind::BadValue);
    let path = TextPath::Sealed("nobody".into());
    assert_eq!(same.replace_text(0, path, "ka").unwrap_err().kind, ManifestErrorKind::NoTarget);
    let after = edited(SEALED, Edit::ReplaceText { path: TextPath::Name, text: "on".into() });
    assert_eq!(diff(SEALED, &after), ["-  name: db", "+  name: \"on\""]);
}

#[test]
fn items_are_set_in_place() {
    let own = item("kzzz:AQ==", &[("dr", "kzzz:rdr:AQ=="), ("prod", "kzzz:rxx:AQ==")]);
    let after = edited(SEALED, Edit::SetItem { key: "password".into(), item: own.clone() });
    assert_eq!(
        diff(SEALED, &after),
        [
            "-        kaaa:AQ==",
            "+        kzzz:AQ==",
            "+      envelopes:",
            "+        dr: >-",
            "+          kzzz:rdr:AQ==",
            "+        prod: >-",
            "+          kzzz:rxx:AQ==",
        ]
    );
    let after =
        edited(SEALED, Edit::SetItem { key: "token".into(), item: item("kzzz:AQ==", &[("prod", "kzzz:rxx:AQ==")]) });
    assert!(after.contains(
        "      # its own key\n      envelopes:\n        prod: >-\n          kzzz:rxx:AQ==\n      # end of token\n"
    ));
    assert!(!after.contains("kbbb"));
    let after = edited(SEALED, Edit::SetItem { key: "token".into(), item: own });
    assert!(!after.contains("kbbb") && after.contains("    token:   # in May\n"));
    let after = edited(SEALED, Edit::SetItem { key: "token".into(), item: item("kaaa:Aw==", &[]) });
    assert!(
        after.contains("    token:   # in May\n      sealed: >-\n        kaaa:Aw==\n      # end of token\n    # about"),
        "{after}"
    );
    // In byte order.
    for (key, before) in
        [("a", "    # asked for"), ("q", "    # expires"), ("tz", "    # about"), ("z", "  envelopes:")]
    {
        let after = edited(SEALED, Edit::SetItem { key: key.into(), item: item("kaaa:BA==", &[]) });
        let lines = format!("    {key}:\n      sealed: >-\n        kaaa:BA==\n{before}");
        assert!(after.contains(&lines), "{key}: {after}");
        assert_eq!(diff(SEALED, &after).len(), 3);
    }
    let after = edited(SEALED, Edit::SetItem { key: "on".into(), item: item("kaaa:BA==", &[]) });
    assert!(after.contains("    \"on\":\n"));
}

#[test]
fn items_are_removed_with_their_comments() {
    let after = edited(SEALED, Edit::RemoveItem { key: "token".into() });
    let gone = "    # expires\n    token:   # in May\n      sealed: >-\n        kbbb:AQ==\n      # its own key\n      envelopes:\n        prod: >-\n          kbbb:rxx:AQ==\n      # end of token\n";
    assert_eq!(after, SEALED.replace(gone, ""));
    let mut all = stream(SEALED);
    for key in ["user", "password", "token"] {
        all.remove_item(0, key).unwrap();
    }
    assert!(all.text().contains("  scope: strict\n  items: {}\n  envelopes:\n"), "{}", all.text());
    all.set_item(0, "new", &item("kaaa:BA==", &[])).unwrap();
    assert!(
        all.text().contains("  items:\n    new:\n      sealed: >-\n        kaaa:BA==\n  envelopes:\n"),
        "{}",
        all.text()
    );
    let mut none = stream("apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nspec:   # soon\n");
    none.set_item(0, "new", &item("kaaa:BA==", &[])).unwrap();
    assert!(
        none.text().ends_with("spec:   # soon\n  items:\n    new:\n      sealed: >-\n        kaaa:BA==\n"),
        "{}",
        none.text()
    );
}

#[test]
fn envelopes_come_and_go() {
    let common = || EnvelopeMap::Common;
    let text = "kaaa:rdr:AQ==".to_owned();
    let after = edited(SEALED, Edit::AddEnvelope { map: common(), name: "dr".into(), text: text.clone() });
    assert_eq!(diff(SEALED, &after), ["+    dr: >-", "+      kaaa:rdr:AQ=="]);
    let back = edited(&after, Edit::RemoveEnvelope { map: common(), name: "dr".into() });
    assert_eq!(back, SEALED);
    let after = edited(SEALED, Edit::RenameEnvelope { map: common(), from: "prod".into(), to: "live".into() });
    assert_eq!(diff(SEALED, &after), ["-    prod: >-", "+    live: >-"]);
    let mut all = stream(SEALED);
    let own = || EnvelopeMap::Item("token".into());
    let error = all.apply(&[(0, Edit::RemoveEnvelope { map: own(), name: "prod".into() })]).unwrap_err();
    assert_eq!(error.kind, ManifestErrorKind::BadValue);
    let error = all.apply(&[(0, Edit::AddEnvelope { map: own(), name: "prod".into(), text })]).unwrap_err();
    assert_eq!(error.kind, ManifestErrorKind::NoTarget);
    assert_eq!(all.text(), SEALED);
    all.apply(&[(0, Edit::RemoveEnvelope { map: common(), name: "prod".into() })]).unwrap();
    assert!(all.text().ends_with("  envelopes: {}\n# trailing\n"));
    // All at once: what is left is an empty map too, and not nothing.
    let mut all = stream(SEALED);
    let text = "kaaa:rdr:AQ==".to_owned();
    all.apply(&[(0, Edit::AddEnvelope { map: common(), name: "dr".into(), text })]).unwrap();
    let remove = |name: &str| (0, Edit::RemoveEnvelope { map: common(), name: name.into() });
    all.apply(&[remove("dr"), remove("prod")]).unwrap();
    assert!(all.text().ends_with("  envelopes: {}\n# trailing\n"));
}

#[test]
fn json_and_flow_style() {
    let view = stream(SEALED).object(0).unwrap().sealed().unwrap().manifest;
    let pretty = emit::sealed_json(&view);
    let value: serde_json::Value = serde_json::from_str(&pretty).unwrap();
    let minified = value.to_string();
    let tabs = pretty.replace("  ", "\t");
    for text in [pretty.as_str(), minified.as_str(), tabs.as_str()] {
        let mut json = stream(text);
        let own = item("kzzz:AQ==", &[("prod", "kzzz:rxx:AQ==")]);
        json.set_item(0, "password", &own).unwrap();
        json.set_item(0, "a", &item("kaaa:AA==", &[])).unwrap();
        json.set_item(0, "zz", &own).unwrap();
        json.set_item(0, "q", &own).unwrap();
        json.remove_item(0, "user").unwrap();
        json.set_item(0, "token", &item("kaaa:AA==", &[])).unwrap();
        let map = EnvelopeMap::Common;
        json.apply(&[(0, Edit::AddEnvelope { map, name: "dr".into(), text: "kaaa:rdr:AQ==".into() })]).unwrap();
        let bytes = json.to_bytes();
        let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let keys: Vec<_> = json.object(0).unwrap().sealed().unwrap().manifest.spec.items.into_keys().collect();
        assert_eq!(keys, ["a", "password", "q", "token", "zz"]);
        // What was pretty is still as a printer would have it.
        let printed = emit::sealed_json(&json.object(0).unwrap().sealed().unwrap().manifest);
        if text == pretty {
            assert_eq!(std::str::from_utf8(&bytes).unwrap(), printed);
        } else if text == minified {
            assert_eq!(bytes.len(), parsed.to_string().len());
        } else {
            assert_eq!(std::str::from_utf8(&bytes).unwrap(), printed.replace("  ", "\t"));
        }
    }
    let flow = "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nspec:\n  items: {b: {sealed: kaaa:AQ==}}  # all\n";
    let after = edited(flow, Edit::SetItem { key: "a".into(), item: item("kaaa:AA==", &[]) });
    assert!(
        after.contains("  items: {\"a\": {\"sealed\": \"kaaa:AA==\"}, b: {sealed: kaaa:AQ==}}  # all\n"),
        "{after}"
    );
    let after = edited(flow, Edit::RemoveItem { key: "b".into() });
    assert!(after.contains("  items: {}  # all\n"), "{after}");
}

fn sealed_manifest(name: &str) -> SealedManifest {
    SealedManifest {
        name: Some(name.into()),
        namespace: Some("shop".into()),
        spec: SealedSecretSpec {
            scope: Some(Scope::Strict),
            items: [("password".to_owned(), item("kaaa:AQ==", &[]))].into(),
            template: Some(SecretTemplate {
                metadata: Some(TemplateMetadata::default()),
                type_: Some("Opaque".into()),
                ..SecretTemplate::default()
            }),
            envelopes: [("prod".to_owned(), "kaaa:rxx:AQ==".to_owned())].into(),
            ..SealedSecretSpec::default()
        },
        ..SealedManifest::default()
    }
}

#[test]
fn objects_are_replaced_in_place() {
    for name in [
        "multi-document.yaml",
        "list.yaml",
        "list.json",
        "secret-list.json",
        "crlf.yaml",
        "bom.yaml",
        "minified.json",
        "secret.json",
        "utf-16le.yaml",
        "basic-auth.yaml",
    ] {
        let before = Stream::read(&fixture(name)).unwrap();
        let mut after = Stream::read(&fixture(name)).unwrap();
        let edits: Vec<_> = before
            .objects()
            .filter(|object| object.is_secret())
            .map(|object| (object.index(), Edit::ReplaceObject(Tree::sealed(&sealed_manifest(object.name().unwrap())))))
            .collect();
        let applied = after.apply(&edits).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(applied.comments_dropped, if name == "multi-document.yaml" { 2 } else { 0 }, "{name}");
        for (a, b) in before.objects().zip(after.objects()) {
            if a.is_secret() {
                assert_eq!(b.sealed().unwrap().manifest, sealed_manifest(a.name().unwrap()), "{name}");
            } else {
                assert_eq!(&before.text()[a.span().range()], &after.text()[b.span().range()]);
            }
        }
        let text = after.text().to_owned();
        assert_eq!(after.into_bytes().starts_with(b"\xef\xbb\xbf"), name == "bom.yaml");
        match name {
            "crlf.yaml" | "utf-16le.yaml" => assert_eq!(text.matches('\n').count(), text.matches("\r\n").count()),
            "minified.json" => assert!(!text.contains('\n')),
            "secret-list.json" => assert!(text.contains("\"kind\": \"List\"")),
            "multi-document.yaml" => {
                assert!(text.contains("---\n# The database.\napiVersion: bulla.dev/v1alpha1\n"));
                assert!(text.contains("      kaaa:rxx:AQ==\n# end of db\n\n---\n\n---\n"));
            }
            _ => {}
        }
    }
}

#[test]
fn what_is_refused() {
    let kind = |text: &str, index: usize| {
        let mut stream = stream(text);
        let before = stream.text().to_owned();
        let error = stream.replace_object(index, Tree::sealed(&sealed_manifest("x"))).unwrap_err();
        assert_eq!(stream.text(), before);
        error.kind
    };
    let aliased = "apiVersion: v1\nkind: List\nitems:\n- &a\n  kind: Secret\n  apiVersion: v1\n- *a\n";
    assert_eq!(kind(aliased, 0), ManifestErrorKind::Unsafe);
    assert_eq!(kind(aliased, 1), ManifestErrorKind::Unsafe);
    let inner = "apiVersion: v1\nkind: List\nitems:\n- kind: Secret\n  apiVersion: v1\n  metadata: &m {name: a}\n- kind: B\n  metadata: *m\n";
    assert_eq!(kind(inner, 0), ManifestErrorKind::Unsafe);
    let mut explicit = stream(&SEALED.replace("    user:\n", "    ? user\n    :\n"));
    assert_eq!(explicit.remove_item(0, "user").unwrap_err().kind, ManifestErrorKind::Unsafe);
    assert_eq!(explicit.remove_item(7, "user").unwrap_err().kind, ManifestErrorKind::NoTarget);
    let bare = "{\"apiVersion\":\"v1\",\"kind\":\"SecretList\",\"items\":[{\"data\":{}},{\"data\":{}}]}";
    assert_eq!(kind(bare, 0), ManifestErrorKind::Unsafe);
}

#[test]
fn layout() {
    let manifest = SealedManifest { annotations: [("on".into(), "1e3".into())].into(), ..sealed_manifest("db") };
    let text = emit::sealed_yaml(&manifest);
    assert_eq!(
        text,
        "apiVersion: bulla.dev/v1alpha1
kind: SealedSecret
metadata:
  name: db
  namespace: shop
  annotations:
    \"on\": \"1e3\"
spec:
  scope: strict
  items:
    password:
      sealed: >-
        kaaa:AQ==
  template:
    metadata: {}
    type: Opaque
  envelopes:
    prod: >-
      kaaa:rxx:AQ==
"
    );
    assert_eq!(stream(&text).object(0).unwrap().sealed().unwrap().manifest, manifest);
    let secret = Stream::read(&fixture("string-data.yaml")).unwrap().object(0).unwrap().secret().unwrap();
    let yaml = emit::secrets_yaml(&[secret.clone(), secret.clone()]);
    assert!(yaml.starts_with("apiVersion: v1\ndata:\n  SMTP_HOST: c210cC5leGFtcGxlLnRlc3Q=\n"));
    assert!(yaml.contains("\nkind: Secret\nmetadata:\n  name: mail\n  namespace: shop\ntype: Opaque\n---\n"));
}

#[test]
fn a_thousand_manifests() {
    let one = String::from_utf8(fixture("tls-string-data.yaml")).unwrap();
    let text = format!("{one}---\n").repeat(1000);
    let start = std::time::Instant::now();
    let mut stream = stream(&text);
    let read = start.elapsed();
    assert_eq!(stream.objects().len(), 1000);
    let edits: Vec<_> =
        (0..1000).map(|index| (index, Edit::ReplaceObject(Tree::sealed(&sealed_manifest("x"))))).collect();
    stream.apply(&edits).unwrap();
    // Optimised it is about 20 ms, and 70 ms with all edits; this is to find what grows with the square.
    assert!(read.as_secs() < 5 && start.elapsed().as_secs() < 20);
}

/// However many items come and go, the text is read again a few times.
#[test]
fn thousands_of_items_at_once() {
    let manifest = |range: Range<usize>| {
        let mut manifest = sealed_manifest("big");
        manifest.spec.items = range.map(|n| (format!("k{n:04}"), item(&format!("kaaa:{n}=="), &[]))).collect();
        manifest
    };
    let all = manifest(0..4000).spec.items;
    let set = |n: usize| Edit::SetItem { key: format!("k{n:04}"), item: all[&format!("k{n:04}")].clone() };
    for text in [emit::sealed_yaml(&manifest(0..2000)), emit::sealed_json(&manifest(0..2000))] {
        let mut grown = stream(&text);
        let edits: Vec<_> = (2000..4000).map(|n| (0, set(n))).collect();
        let applied = grown.apply(&edits).unwrap();
        assert!(applied.changed && applied.rounds <= 2, "{applied:?}");
        assert_eq!(grown.object(0).unwrap().sealed().unwrap().manifest, manifest(0..4000));
        // All but the first of these go, side by side; every other one changes.
        let edits: Vec<_> = (1..4000).map(|n| (0, Edit::RemoveItem { key: format!("k{n:04}") })).collect();
        let applied = grown.apply(&edits).unwrap();
        assert!(applied.rounds <= 3, "{applied:?}");
        assert_eq!(grown.object(0).unwrap().sealed().unwrap().manifest, manifest(0..1));
    }
}
