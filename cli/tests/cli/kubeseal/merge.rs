//! Values into a file that is there.

use super::*;

fn merge(sandbox: &Sandbox, args: &[&str], input: &str) -> Run {
    kubeseal(sandbox, &[&["--cert", "cert.pem"], args].concat(), input)
}

/// A file as people keep them: comments, another order, a folded value.
fn file(sandbox: &Sandbox, scope: &str) -> String {
    let text = merge(sandbox, &["-oyaml", "--scope", scope], SECRET).well().text();
    let text =
        text.replace("spec:\n", "# reviewed\nspec:   # ours\n").replace("  template:\n", "  template:  # kept\n");
    sandbox.write("sealed.yaml", &text);
    text
}

const NEW: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {token: t0ken}\n";

#[test]
fn only_the_lines_of_the_values_change() {
    let sandbox = folder();
    let before = file(&sandbox, "strict");
    let run = merge(&sandbox, &["--merge-into", "sealed.yaml"], NEW).well();
    assert_eq!((run.text().as_str(), run.err.as_str()), ("", ""));
    let after = sandbox.read("sealed.yaml");
    let token = after.lines().find(|line| line.starts_with("    token: AQ")).expect("the new line");
    assert_eq!(after.replace(&format!("{token}\n"), ""), before);
    let secret = opened(&after);
    assert_eq!((value(&secret, "token"), value(&secret, "password")), ("t0ken", "hunter2"));
    // Replaced where it stands.
    merge(&sandbox, &["--merge-into", "sealed.yaml"], &SECRET.replace("aHVudGVyMg==", "bmV3")).well();
    let last = sandbox.read("sealed.yaml");
    assert_eq!(last.lines().count(), after.lines().count());
    assert_eq!(value(&opened(&last), "password"), "new");
    assert_eq!(value(&opened(&last), "token"), "t0ken");
}

#[test]
fn a_file_keeps_its_format_whatever_o_says() {
    let sandbox = folder();
    file(&sandbox, "strict");
    merge(&sandbox, &["--merge-into", "sealed.yaml", "-o", "json"], NEW).well();
    assert!(sandbox.read("sealed.yaml").starts_with("---\napiVersion: bitnami.com/v1alpha1\n"));
    let json = merge(&sandbox, &[], SECRET).well().text();
    sandbox.write("sealed.json", &json);
    merge(&sandbox, &["--merge-into", "sealed.json", "-o", "yaml"], NEW).well();
    let after = sandbox.read("sealed.json");
    assert!(serde_json::from_str::<Value>(&after).is_ok(), "{after}");
    assert!(after.starts_with("{\n  \"kind\": \"SealedSecret\",\n") && after.ends_with("}\n"), "{after}");
    assert_eq!(value(&opened(&after), "token"), "t0ken");
}

#[test]
fn the_scope_of_the_file_holds() {
    let sandbox = folder();
    for scope in ["namespace-wide", "cluster-wide"] {
        file(&sandbox, scope);
        merge(&sandbox, &["--merge-into", "sealed.yaml"], NEW).well();
        let after = sandbox.read("sealed.yaml");
        assert_eq!(value(&opened(&after), "token"), "t0ken", "{scope}: all of it opens, not only the new item");
        assert_eq!(value(&opened(&after), "password"), "hunter2");
        merge(&sandbox, &["--merge-into", "sealed.yaml", "--scope", scope], NEW).well();
        let before = sandbox.read("sealed.yaml");
        let run = merge(&sandbox, &["--merge-into", "sealed.yaml", "--scope", "strict"], NEW);
        refused(
            &run,
            &format!("the scope of the SealedSecret is {scope}, and strict is asked for; nothing was written\n"),
        );
        assert_eq!(sandbox.read("sealed.yaml"), before);
    }
    let before = file(&sandbox, "strict");
    let run = merge(&sandbox, &["--merge-into", "sealed.yaml", "--scope", "cluster-wide"], NEW);
    refused(&run, "the scope of the SealedSecret is strict, and cluster-wide is asked for");
    let annotated = NEW
        .replace("namespace: shop", "namespace: shop, annotations: {sealedsecrets.bitnami.com/cluster-wide: \"true\"}");
    refused(&merge(&sandbox, &["--merge-into", "sealed.yaml"], &annotated), "the scope of the SealedSecret is strict");
    assert_eq!(sandbox.read("sealed.yaml"), before);
}

#[test]
fn labels_and_annotations_go_to_the_template() {
    let sandbox = folder();
    file(&sandbox, "cluster-wide");
    let new = NEW.replace(
        "namespace: shop",
        "namespace: shop, labels: {tier: \"1\"}, annotations: {note: 'a: b', sealedsecrets.bitnami.com/cluster-wide: 'true'}",
    );
    merge(&sandbox, &["--merge-into", "sealed.yaml"], &new).well();
    let secret = opened(&sandbox.read("sealed.yaml"));
    assert_eq!(secret.labels["tier"], "1");
    assert_eq!(secret.labels["app"], "db");
    assert_eq!(secret.annotations["note"], "a: b");
    // A file without a template gets one.
    let text = sandbox.read("sealed.yaml");
    sandbox.write("bare.yaml", text.split("  template:").next().expect("a part"));
    merge(&sandbox, &["--merge-into", "bare.yaml"], &new).well();
    assert_eq!(opened(&sandbox.read("bare.yaml")).labels["tier"], "1");
}

#[test]
fn the_place_is_the_files() {
    let sandbox = folder();
    file(&sandbox, "strict");
    let run = merge(&sandbox, &["--merge-into", "sealed.yaml"], &NEW.replace("name: db", "name: scratch")).well();
    assert_eq!(
        run.err,
        "warning: the values are sealed for shop/db, as sealed.yaml says, not for the name and namespace of the Secret\n"
    );
    assert_eq!(value(&opened(&sandbox.read("sealed.yaml")), "token"), "t0ken");
    let run =
        merge(&sandbox, &["--merge-into", "sealed.yaml"], &NEW.replace("metadata: {name: db, namespace: shop}\n", ""));
    assert_eq!(run.well().err, "");
}

#[test]
fn what_would_lose_something_is_refused() {
    let sandbox = folder();
    let text = file(&sandbox, "strict");
    let into = ["--merge-into", "sealed.yaml"];
    refused(&merge(&sandbox, &[&into[..], &["-w", "out.yaml"]].concat(), NEW), "--merge-into writes its own file");
    assert!(!sandbox.path("out.yaml").exists());
    refused(
        &merge(&sandbox, &into, &format!("{NEW}---\n{NEW}")),
        "there are 2 Secrets in it; --merge-into takes one\n",
    );
    refused(&merge(&sandbox, &into, &NEW.replace("kind: Secret", "kind: ConfigMap")), "this is a ConfigMap");
    refused(&merge(&sandbox, &into, ""), "no secrets found\n");
    assert_eq!(sandbox.read("sealed.yaml"), text);
    sandbox.write("two.yaml", format!("{text}{text}"));
    refused(
        &merge(&sandbox, &["--merge-into", "two.yaml"], NEW),
        "there are 2 SealedSecrets in it; values go into one\n",
    );
    sandbox.write("plain.yaml", SECRET);
    refused(&merge(&sandbox, &["--merge-into", "plain.yaml"], NEW), "this is a Secret, where a SealedSecret belongs");
    sandbox.write("old.yaml", "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\nspec: {data: AgAA}\n");
    refused(&merge(&sandbox, &["--merge-into", "old.yaml"], NEW), "the file has spec.data, the older form");
    refused(&merge(&sandbox, &["--merge-into", "gone.yaml"], NEW), "open gone.yaml: no such file or directory\n");
    assert_eq!(sandbox.read("plain.yaml"), SECRET);
}
