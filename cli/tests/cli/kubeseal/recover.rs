//! Opening with private keys.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;

fn recover(sandbox: &Sandbox, keys: &[&str], input: &str) -> Run {
    let keys: Vec<&str> = keys.iter().flat_map(|key| ["--recovery-private-key", key]).collect();
    kubeseal(sandbox, &[&["--recovery-unseal"], &keys[..]].concat(), input)
}

fn key_secret(name: &str, key: usize) -> Value {
    let data = json!({"tls.key": STANDARD.encode(pem(key, "privateKey")), "tls.crt": STANDARD.encode(pem(key, "certificate"))});
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name, "namespace": "kube-system",
        "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}, "uid": "u", "resourceVersion": "1"}, "data": data})
}

#[test]
fn keys_come_as_pem_secrets_and_lists() {
    let sandbox = folder();
    let sealed = kubeseal(&sandbox, &["--cert", "cert.pem"], SECRET).well().text();
    let expected = r#"{
  "kind": "Secret",
  "apiVersion": "v1",
  "metadata": {
    "name": "db",
    "namespace": "shop",
    "labels": {
      "app": "db"
    }
  },
  "data": {
    "password": "aHVudGVyMg=="
  },
  "type": "Opaque"
}
"#;
    sandbox.write("secret.json", key_secret("a", 0).to_string());
    let list = |kind: &str, keys: &[usize]| {
        let items: Vec<_> = keys.iter().map(|key| key_secret(&format!("k{key}"), *key)).collect();
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": ""}, "items": items}).to_string()
    };
    sandbox.write("list.json", list("List", &[1, 2, 0]));
    sandbox.write("secretlist.json", list("SecretList", &[1, 0]));
    sandbox.write("both.pem", format!("{}{}", pem(1, "privateKey"), pem(0, "privateKey")));
    let yaml = format!(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {{name: k}}\n  data:\n    tls.key: {}\n",
        STANDARD.encode(pem(0, "privateKey"))
    );
    sandbox.write("list.yaml", yaml);
    for keys in [
        &["tls.key"][..],
        &["other.key", "tls.key"],
        &["other.key,tls.key"],
        &["secret.json"],
        &["list.json"],
        &["secretlist.json"],
        &["list.yaml"],
        &["both.pem"],
    ] {
        // No cluster is looked for, not even a kubeconfig.
        let run = recover(&sandbox, &[keys, &["tls.key"][..0]].concat(), &sealed).well();
        assert_eq!((run.text().as_str(), run.err.as_str()), (expected, ""), "{keys:?}");
    }
    let args =
        ["--recovery-unseal", "--recovery-private-key=tls.key", "--kubeconfig", "/?this/file/cannot/exist", "-oyaml"];
    let run = kubeseal(&sandbox, &args, &sealed).well();
    assert!(
        run.text().starts_with("---\napiVersion: v1\ndata:\n  password: aHVudGVyMg==\nkind: Secret\n"),
        "{}",
        run.text()
    );
}

#[test]
fn without_the_key_it_says_which_values_stay_closed() {
    let sandbox = folder();
    let sealed =
        kubeseal(&sandbox, &["--cert", "cert.pem"], &SECRET.replace("\ndata:\n", "\ndata:\n  a: eA==\n")).well().text();
    refused(&recover(&sandbox, &[], &sealed), "no key could decrypt secret (a, password)\n");
    refused(&recover(&sandbox, &["other.key"], &sealed), "no key could decrypt secret (a, password)\n");
    let moved = sealed.replacen("\"namespace\": \"shop\"", "\"namespace\": \"live\"", 1);
    refused(&recover(&sandbox, &["tls.key"], &moved), "no key could decrypt secret (a, password)\n");
    refused(&recover(&sandbox, &["gone.key"], &sealed), "open gone.key: no such file or directory\n");
    for (text, message) in [
        ("", "there is no private key in it"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\n", "the private key is damaged"),
        (SECRET, "the Secret db has no tls.key"),
        ("[hunter2", ""),
    ] {
        sandbox.write("bad", text);
        let run = recover(&sandbox, &["bad"], &sealed);
        refused(&run, message);
        assert!(run.err.contains("  --> bad") && !run.err.contains("hunter2"), "{}", run.err);
    }
    let cut = sealed.replacen("\"AQ", "\"!Q", 1);
    refused(&recover(&sandbox, &["tls.key"], &cut), "spec.encryptedData.a: illegal base64 data\n");
    refused(&recover(&sandbox, &["tls.key"], SECRET), "this is a Secret, where a SealedSecret belongs");
    refused(&recover(&sandbox, &["tls.key"], ""), "no sealed secrets found\n");
}

#[test]
fn what_go_sealed_is_opened_in_new_and_old_form() {
    let sandbox = folder();
    for vector in VECTORS["vectors"].as_array().expect("vectors") {
        let key = usize::try_from(vector["key"].as_u64().expect("a number")).expect("an index");
        sandbox.write("key", pem(key, "privateKey"));
        let scope = vector["scope"].as_str().expect("a scope");
        let annotations =
            if scope == "strict" { json!({}) } else { json!({format!("sealedsecrets.bitnami.com/{scope}"): "true"}) };
        let metadata = json!({"name": vector["name"], "namespace": vector["namespace"], "annotations": annotations});
        for spec in
            [json!({"encryptedData": vector["items"]}), json!({"encryptedData": null, "data": vector["legacy"]})]
        {
            let object = json!({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": metadata, "spec": spec});
            let run = recover(&sandbox, &["key"], &object.to_string()).well();
            let secret: Value = serde_json::from_str(&run.text()).expect("JSON");
            assert_eq!(secret["data"], vector["values"], "{scope}");
            assert_eq!(secret["metadata"]["name"], vector["name"]);
        }
    }
}

#[test]
fn templates_are_rendered_and_nobody_owns_the_secret() {
    let sandbox = folder();
    let sealed = kubeseal(&sandbox, &["--cert", "cert.pem", "-oyaml"], SECRET).well().text();
    let text =
        sealed.replace("  template:\n", "  template:\n    data:\n      url: 'postgres://{{ .password | upper }}@db'\n");
    let run = recover(&sandbox, &["tls.key"], &text).well();
    let secret: Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!(secret["data"]["url"], STANDARD.encode("postgres://HUNTER2@db"));
    assert_eq!(secret["metadata"].get("ownerReferences"), None, "one without a UID would be refused");
}

#[test]
fn several_open_at_once_and_a_new_file_is_for_its_owner_alone() {
    let sandbox = folder();
    let text = kubeseal(&sandbox, &["--cert", "cert.pem", "-oyaml"], &format!("{SECRET}---\n{SECRET}")).well().text();
    sandbox.write("sealed.yaml", text);
    let args = ["--recovery-unseal", "--recovery-private-key", "tls.key", "-f", "sealed.yaml", "-w", "plain.yaml"];
    kubeseal(&sandbox, &args, "").well();
    assert_eq!(sandbox.read("plain.yaml").matches("---\napiVersion: v1\n").count(), 2);
    let mode = std::fs::metadata(sandbox.path("plain.yaml")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// What Go's cryptography seals, of any length and in every scope, the command opens.
#[test]
fn random_values_of_go_are_opened() {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    let Some(oracles) = std::env::var_os("BULLA_ORACLES") else {
        assert!(std::env::var_os("CI").is_none(), "BULLA_ORACLES does not name the program of tests/oracles");
        return;
    };
    let sandbox = folder();
    let mut runner = proptest::test_runner::TestRunner::default();
    let values = prop::collection::vec(any::<u8>(), 0..300);
    for (scope, label) in [("strict", "shop/db"), ("namespace-wide", "shop"), ("cluster-wide", "")] {
        let expected: serde_json::Map<String, Value> = (0..40)
            .map(|index| {
                let value = values.new_tree(&mut runner).expect("a value").current();
                (format!("k{index:02}"), STANDARD.encode(value).into())
            })
            .collect();
        let line = |value: &Value| format!("{}\n", json!({"label": STANDARD.encode(label), "value": value}));
        let mut command = sandbox.command(&oracles);
        command.args(["bitnami", "seal", "cert.pem"]);
        let lines: String = expected.values().map(line).collect();
        let items = finish(command, lines.as_bytes()).well().text();
        let items = items.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let items: serde_json::Map<String, Value> = expected.keys().cloned().zip(items).collect();
        let annotations =
            if scope == "strict" { json!({}) } else { json!({format!("sealedsecrets.bitnami.com/{scope}"): "true"}) };
        let object = json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "db", "namespace": "shop", "annotations": annotations}, "spec": {"encryptedData": items},
        });
        let run = recover(&sandbox, &["tls.key"], &object.to_string()).well();
        let secret: Value = serde_json::from_str(&run.text()).expect("JSON");
        assert_eq!(secret["data"], Value::Object(expected), "{scope}");
    }
}
