//! Secrets to SealedSecrets.

use bulla::bitnami::{CLUSTER_WIDE, NAMESPACE_WIDE};

use super::*;

/// A text with each sealed value named instead.
fn without_values(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let from = line.find("AQ").filter(|from| line.len() - from > 300);
        out.push_str(from.map_or(line, |from| &line[..from]));
        if from.is_some() {
            out.push_str(if line.ends_with("\",") {
                "…\","
            } else if line.ends_with('"') {
                "…\""
            } else {
                "…"
            });
        }
        out.push('\n');
    }
    out
}

const TYPED: &str = r#"{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth", "immutable": true,
"metadata": {"name": "testSecret", "namespace": "shop", "labels": {"app": "db"}, "annotations": {"note": "a<b",
"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"password\":\"aHVudGVyMg==\"}}"},
"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u", "resourceVersion": "7", "managedFields": [{"manager": "m"}],
"ownerReferences": [{"kind": "x"}]}, "data": {"username": "YWRtaW4="}, "stringData": {"password": "hunter2"}}"#;

#[test]
fn the_output_is_that_of_gos_encoder() {
    let sandbox = folder();
    let run = kubeseal(&sandbox, &["--cert", "cert.pem"], TYPED).well();
    assert_eq!(run.err, "");
    let expected = r#"{
  "kind": "SealedSecret",
  "apiVersion": "bitnami.com/v1alpha1",
  "metadata": {
    "name": "testSecret",
    "namespace": "shop"
  },
  "spec": {
    "template": {
      "metadata": {
        "name": "testSecret",
        "namespace": "shop",
        "labels": {
          "app": "db"
        },
        "annotations": {
          "note": "a\u003cb"
        }
      },
      "type": "kubernetes.io/basic-auth",
      "immutable": true
    },
    "encryptedData": {
      "password": "…",
      "username": "…"
    }
  }
}
"#;
    assert_eq!(without_values(&run.text()), expected);
    let secret = opened(&run.text());
    assert_eq!((value(&secret, "password"), value(&secret, "username")), ("hunter2", "admin"));
    let run = kubeseal(&sandbox, &["--cert", "cert.pem", "-o", "yaml", "--scope", "namespace-wide"], SECRET).well();
    let expected = "\
---
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata:
  annotations:
    sealedsecrets.bitnami.com/namespace-wide: \"true\"
  name: db
  namespace: shop
spec:
  encryptedData:
    password: …
  template:
    metadata:
      annotations:
        sealedsecrets.bitnami.com/namespace-wide: \"true\"
      labels:
        app: db
      name: db
      namespace: shop
";
    assert_eq!(without_values(&run.text()), expected);
}

#[test]
fn the_name_of_the_file_that_is_written_says_the_format() {
    let sandbox = folder();
    sandbox.write("secret.yaml", SECRET);
    for (file, yaml) in [("a.yaml", true), ("b.yml", true), ("c.json", false), ("d", false)] {
        let run = kubeseal(&sandbox, &["--cert", "cert.pem", "-f", "secret.yaml", "-w", file], "").well();
        assert_eq!((run.text().as_str(), run.err.as_str()), ("", ""));
        assert_eq!(sandbox.read(file).starts_with("---\n"), yaml, "{file}");
        assert_eq!(value(&opened(&sandbox.read(file)), "password"), "hunter2");
    }
    // What can't be sealed leaves the file as it was.
    sandbox.write("e.json", "previous content");
    let bad = SECRET.replace("kind: Secret", "kind: BadInput");
    refused(
        &kubeseal(&sandbox, &["--cert", "cert.pem", "-w", "e.json"], &bad),
        "this is a BadInput, where a Secret belongs",
    );
    assert_eq!(sandbox.read("e.json"), "previous content");
    // A file that is not there is an error, not nothing.
    let run = kubeseal(&sandbox, &["--cert", "cert.pem", "-f", "gone/x.yaml"], SECRET);
    refused(&run, "open gone/x.yaml: no such file or directory\n");
}

#[test]
fn scopes_come_from_the_flag_else_from_annotations() {
    let sandbox = folder();
    let annotated = |key: &str| SECRET.replace("  labels", &format!("  annotations: {{{key}: \"true\"}}\n  labels"));
    let scope = |args: &[&str], input: &str| {
        let run = kubeseal(&sandbox, &[&["--cert", "cert.pem"], args].concat(), input).well();
        let text = run.text();
        assert_eq!(value(&opened(&text), "password"), "hunter2");
        let one = sealed(&text).remove(0);
        let own = one.metadata.annotations.unwrap_or_default();
        let template = one.spec.template.and_then(|template| template.metadata).unwrap_or_default();
        assert_eq!(own, template.annotations.unwrap_or_default(), "the template says the same");
        (own.into_keys().collect::<Vec<_>>(), run.err)
    };
    let silent = |keys: &[&str]| (keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>(), String::new());
    assert_eq!(scope(&[], SECRET), silent(&[]));
    assert_eq!(scope(&["--scope", "strict"], SECRET), silent(&[]));
    assert_eq!(scope(&["--scope=cluster-wide"], SECRET), silent(&[CLUSTER_WIDE]));
    assert_eq!(scope(&[], &annotated(NAMESPACE_WIDE)), silent(&[NAMESPACE_WIDE]));
    assert_eq!(scope(&["--scope", "namespace-wide"], &annotated(CLUSTER_WIDE)).0, [NAMESPACE_WIDE]);
    // Whoever asks for strict gets it.
    let (keys, err) = scope(&["--scope", "strict"], &annotated(CLUSTER_WIDE));
    assert!(keys.is_empty());
    assert_eq!(err, "warning: --scope strict counts, not the annotation that says cluster-wide\n");
}

fn config(sandbox: &Sandbox, file: &str, namespace: &str) {
    let namespace = if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") };
    sandbox.write(
        file,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- {{name: c, cluster: {{server: 'http://0.0.0.0:1'}}}}\n\
             contexts:\n- {{name: a, context: {{cluster: c, user: ''{namespace}}}}}\n\
             - {{name: b, context: {{cluster: c, user: '', namespace: of-b}}}}\n"
        ),
    );
}

#[test]
fn the_namespace_is_the_secrets_else_the_flags_else_the_kubeconfigs() {
    let sandbox = folder();
    let bare = SECRET.replace("  namespace: shop\n", "");
    let seal = |args: &[&str], input: &str| kubeseal(&sandbox, &[&["--cert", "cert.pem"], args].concat(), input);
    let namespace = |run: Run| {
        let text = run.well().text();
        assert_eq!(value(&opened(&text), "password"), "hunter2");
        sealed(&text).remove(0).metadata.namespace
    };
    let some = |text: &str| Some(text.to_owned());
    refused(
        &seal(&[], &bare),
        "input secret has no namespace and cannot infer the namespace automatically when no kube config is available\n",
    );
    assert_eq!(namespace(seal(&["--scope", "cluster-wide"], &bare)), None, "none is made up");
    assert_eq!(namespace(seal(&["-n", "argns"], &bare)), some("argns"));
    assert_eq!(namespace(seal(&["--namespace=ns/argns"], &bare)), some("argns"));
    let run = seal(&["-n", "argns"], SECRET).well();
    assert_eq!(run.err, "warning: the Secret db names its namespace: shop counts, not --namespace argns\n");
    assert_eq!(sealed(&run.text())[0].metadata.namespace, some("shop"));
    config(&sandbox, "config", "nons");
    assert_eq!(namespace(seal(&["--kubeconfig", "config"], &bare)), some("nons"));
    assert_eq!(namespace(seal(&["--kubeconfig", "config", "--context", "b"], &bare)), some("of-b"));
    assert_eq!(namespace(seal(&["--kubeconfig", "config"], SECRET)), some("shop"));
    assert_eq!(namespace(seal(&["--kubeconfig", "config", "-n", "x"], &bare)), some("x"));
    config(&sandbox, "silent", "");
    assert_eq!(namespace(seal(&["--kubeconfig", "silent"], &bare)), some("default"));
    refused(&seal(&["--kubeconfig", "gone"], &bare), "stat gone: no such file or directory\n");
    refused(&seal(&["--kubeconfig", "config", "--context", "x"], &bare), "context \"x\" does not exist\n");
    let mut listed = command(&sandbox, &["--cert", "cert.pem"]);
    listed.env("KUBECONFIG", "gone:silent:config");
    assert_eq!(namespace(finish(listed, bare.as_bytes())), some("default"), "the first that says it");
    std::fs::create_dir_all(sandbox.path("home/.kube")).expect("a folder");
    config(&sandbox, "home/.kube/config", "at-home");
    assert_eq!(namespace(seal(&[], &bare)), some("at-home"));
    // A kubeconfig that nobody needs may be broken.
    sandbox.write("broken", "[");
    assert_eq!(namespace(seal(&["--kubeconfig", "broken"], SECRET)), some("shop"));
}

#[test]
fn names_are_taken_as_they_are() {
    let sandbox = folder();
    let seal = |args: &[&str], input: &str| kubeseal(&sandbox, &[&["--cert", "cert.pem"], args].concat(), input);
    let named = |run: Run| sealed(&run.well().text()).remove(0).metadata.name.unwrap_or_default();
    assert_eq!(named(seal(&[], &SECRET.replace("name: db", "name: testSecret"))), "testSecret");
    assert_eq!(named(seal(&["--name", "other"], SECRET)), "other");
    let text = seal(&["--name", "other"], SECRET).well().text();
    assert_eq!(value(&opened(&text), "password"), "hunter2", "sealed for the name that it gets");
    refused(&seal(&[], &SECRET.replace("  name: db\n", "")), "missing metadata.name in input Secret\n");
    refused(&seal(&["--name", "x"], &format!("{SECRET}---\n{SECRET}")), "--name would give 2 Secrets one name\n");
}

#[test]
fn empty_data_is_an_error_unless_it_is_meant() {
    let sandbox = folder();
    let (empty, _) = SECRET.split_once("\ndata:").expect("data");
    refused(
        &kubeseal(&sandbox, &["--cert", "cert.pem"], empty),
        "secret.data is empty in input Secret, assuming this is an error and aborting. To work with empty data, --allow-empty-data can be used\n",
    );
    let run = kubeseal(&sandbox, &["--cert", "cert.pem", "--allow-empty-data"], empty).well();
    assert!(run.text().contains("\"encryptedData\": {}"), "{}", run.text());
    assert!(opened(&run.text()).data.is_empty());
}

#[test]
fn several_secrets_are_all_sealed() {
    let sandbox = folder();
    let second = SECRET.replace("name: db", "name: web");
    let documents = format!("---\n{SECRET}---\n# nothing\n---\n{second}");
    for args in [&["--cert", "cert.pem"][..], &["--cert", "cert.pem", "-oyaml"]] {
        let text = kubeseal(&sandbox, args, &documents).well().text();
        let parts: Vec<_> = if text.starts_with("---\n") {
            text.split("---\n").skip(1).collect()
        } else {
            text.split_inclusive("\n}\n").collect()
        };
        assert_eq!(parts.len(), 2, "{text}");
        for part in parts {
            assert_eq!(value(&opened(part), "password"), "hunter2");
        }
    }
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b"}, "stringData": {"k": "v"}}]}"#;
    assert_eq!(value(&opened(&kubeseal(&sandbox, &["--cert", "cert.pem"], list).well().text()), "k"), "v");
}

#[test]
fn nothing_but_secrets_is_sealed_and_errors_say_what_is_wrong() {
    let sandbox = folder();
    let seal = |input: &str| kubeseal(&sandbox, &["--cert", "cert.pem"], input);
    let map = SECRET.replace("kind: Secret", "kind: ConfigMap");
    refused(&seal(&map), "this is a ConfigMap, where a Secret belongs; nothing was done\n  --> standard input:1:1\n");
    // Not even beside a Secret.
    refused(&seal(&format!("{SECRET}---\n{map}")), "this is a ConfigMap, where a Secret belongs");
    let sealed = seal(SECRET).well().text();
    refused(&seal(&sealed), "this is a SealedSecret, where a Secret belongs");
    let broken = SECRET.replace("\ndata:\n", "\ndata:\n\t- hunter2: [\n");
    let run = seal(&broken);
    assert!(run.code == 1 && run.text().is_empty(), "{}", run.err);
    assert!(run.err.starts_with("error: ") && run.err.contains("  --> standard input:8:2\n"), "{}", run.err);
    assert!(!run.err.contains("hunter2") && !run.err.contains("no secrets found"), "{}", run.err);
    refused(&seal(""), "no secrets found\n  --> standard input\n");
    refused(&seal("# only a comment\n"), "no secrets found\n");
    refused(&seal("hunter2\n"), "this is text, where a Secret belongs\n");
    refused(&seal(&SECRET.replace("aHVudGVyMg==", "hunter2!")), "data.password is not base64\n");
    let run = seal(&SECRET.replace("\ndata:\n", "\ndata:\n  password: eA==\n"));
    assert!(run.code == 1 && run.err.contains("there twice"), "{}", run.err);
}

/// What the command seals, Go's cryptography opens.
#[test]
fn go_opens_what_is_sealed() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let Some(oracles) = std::env::var_os("BULLA_ORACLES") else {
        assert!(std::env::var_os("CI").is_none(), "BULLA_ORACLES does not name the program of tests/oracles");
        return;
    };
    let sandbox = folder();
    let mut lines = String::new();
    let mut expected = Vec::new();
    for (scope, label) in [("strict", "shop/db"), ("namespace-wide", "shop"), ("cluster-wide", "")] {
        for length in [0, 1, 15, 16, 17, 1000, 100_000] {
            let bytes: Vec<u8> = (0..length).map(|i: u32| u8::try_from(i * 7 % 256).expect("a byte")).collect();
            let input = SECRET.replace("aHVudGVyMg==", &format!("\"{}\"", STANDARD.encode(&bytes)));
            let text = kubeseal(&sandbox, &["--cert", "cert.pem", "--scope", scope], &input).well().text();
            let item = &sealed(&text)[0].spec.encrypted_data["password"];
            lines.push_str(&format!("{}\n", serde_json::json!({"label": STANDARD.encode(label), "item": item})));
            expected.push(serde_json::json!({"value": STANDARD.encode(bytes)}));
        }
    }
    let mut command = sandbox.command(oracles);
    command.args(["bitnami", "open", "tls.key"]);
    let text = finish(command, lines.as_bytes()).well().text();
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(values, expected);
}
