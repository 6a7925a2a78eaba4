//! `bulla status`, asked of a server that speaks like an API server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::sandbox::{DB, Run, Sandbox};

/// Answers every list with these objects, two a page.
fn server(sandbox: &Sandbox, sealed: Vec<Value>, keys: Value) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                let Some(path) = head.split(' ').nth(1) else { break };
                let from: usize = path
                    .split("continue=")
                    .nth(1)
                    .and_then(|t| t.split('&').next())
                    .map_or(0, |t| t.parse().expect("ours"));
                let (status, body) = if path.contains("/sealingkeys") {
                    if keys.is_null() {
                        (403, json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden"}))
                    } else {
                        (
                            200,
                            json!({"kind": "SealingKeyList", "apiVersion": "bulla.dev/v1alpha1", "metadata": {}, "items": keys}),
                        )
                    }
                } else {
                    let next = if from + 2 < sealed.len() { (from + 2).to_string() } else { String::new() };
                    let page = &sealed[from..sealed.len().min(from + 2)];
                    (
                        200,
                        json!({"kind": "SealedSecretList", "apiVersion": "bulla.dev/v1alpha1", "metadata": {"continue": next}, "items": page}),
                    )
                };
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                if reader.get_mut().write_all((head + &body).as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    std::fs::create_dir_all(sandbox.path("home/.kube")).expect("a folder");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "prod",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
    });
    sandbox.write("home/.kube/config", config.to_string());
}

fn object(sandbox: &Sandbox, name: &str, status: Value) -> Value {
    let yaml = DB.replace("name: db", &format!("name: {name}"));
    let run = sandbox.with_input(&["seal", "-R", "key.txt.pub", "-o", "json"], yaml).well();
    let mut value: Value = serde_json::from_slice(&run.out).expect("JSON");
    value["metadata"]["generation"] = json!(2);
    value["status"] = status;
    value
}

fn ready(status: &str, reason: &str, generation: i64) -> Value {
    json!({"observedGeneration": generation, "conditions": [{
        "type": "Ready", "status": status, "reason": reason, "message": "a message",
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }]})
}

fn status(sandbox: &Sandbox, objects: Vec<Value>, args: &[&str]) -> Run {
    let key = json!([{
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKey", "metadata": {"name": "first"},
        "spec": {"format": "hybrid", "state": "Active"},
        "status": {"fingerprint": sandbox.fingerprint("key.txt.pub")},
    }]);
    server(sandbox, objects, if args.contains(&"--no-keys") { Value::Null } else { key });
    let args: Vec<_> = args.iter().filter(|arg| **arg != "--no-keys").copied().collect();
    sandbox.run(&[&["status"][..], &args].concat())
}

#[test]
fn what_is_not_ready_is_a_finding() {
    let sandbox = Sandbox::new();
    let objects = vec![
        object(&sandbox, "web", ready("False", "OpenFailed", 2)),
        object(&sandbox, "db", ready("True", "Synced", 2)),
        object(&sandbox, "old", ready("True", "Synced", 1)),
    ];
    let run = status(&sandbox, objects.clone(), &[]);
    assert_eq!(run.code, 10, "{}", run.err);
    assert_eq!(
        run.text(),
        "NAMESPACE   NAME   READY     REASON        KEYS\n\
         shop        db     True      Synced        first\n\
         shop        old    Unknown   NotObserved   first\n\
         shop        web    False     OpenFailed    first\n"
    );
    assert_eq!(
        run.err,
        "shop/web: a message\n3 SealedSecrets that only first opens\n3 SealedSecrets in prod, 2 not ready\n"
    );
    let run = status(&sandbox, objects, &["-o", "json", "--exit-zero"]).well();
    let document: Value = serde_json::from_slice(&run.out).expect("JSON");
    assert_eq!(document["summary"], json!({"total": 3, "notReady": 2, "neededBy": {"first": 3}}));
    assert_eq!(document["sealedSecrets"][0]["needs"], json!(["first"]));
}

#[test]
fn all_is_well() {
    let sandbox = Sandbox::new();
    let one = object(&sandbox, "db", ready("True", "Synced", 2));
    status(&sandbox, vec![one.clone()], &["-n", "shop"]).well();
    let run = status(&sandbox, vec![one], &["--no-keys"]).well();
    assert!(
        run.err.starts_with("note: you have no right to the keys") && run.text().ends_with("Synced   -\n"),
        "{}",
        run.err
    );
    assert_eq!(status(&sandbox, vec![], &[]).well().err, "no SealedSecret in prod\n");
}

#[test]
fn what_native_objects_have_taken_over() {
    let sandbox = Sandbox::new();
    let old = |name: &str, state: Option<&str>, observed: i64| {
        let mut conditions = vec![json!({"type": "Synced", "status": "True"})];
        conditions
            .extend(state.map(|state| json!({"type": "Applied", "status": "True", "reason": state, "message": "x"})));
        json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": name, "namespace": "shop", "generation": 2},
            "spec": {"encryptedData": {"a": "AgBx"}},
            "status": {"observedGeneration": observed, "conditions": conditions},
        })
    };
    let objects = vec![
        old("done", Some("Superseded"), 2),
        old("late", Some("Superseded"), 1),
        old("ours", Some("Owned"), 2),
        old("theirs", None, 2),
    ];
    let run = status(&sandbox, objects.clone(), &["--superseded"]);
    assert_eq!(run.code, 10, "{}", run.err);
    assert_eq!(
        run.text(),
        "NAMESPACE   NAME     SYNCED    STATE\n\
         shop        done     True      Superseded\n\
         shop        late     Unknown   NotObserved\n\
         shop        ours     True      Owned\n\
         shop        theirs   True      NotOwned\n"
    );
    assert_eq!(
        run.err,
        "4 SealedSecrets of bitnami.com in prod, 3 not superseded\n\
         their files and the definition stay: a Secret goes with the last SealedSecret that owns it\n"
    );
    let run = status(&sandbox, objects[..1].to_vec(), &["--superseded"]).well();
    assert_eq!(
        run.err,
        "1 SealedSecret of bitnami.com in prod, 0 not superseded\n\
         their files may go; the definition when they are gone: without it no SealedSecret of bitnami.com is left\n"
    );
    let run = status(&sandbox, vec![], &["--superseded"]).well();
    assert_eq!(run.err, "no SealedSecret of bitnami.com in prod: its definition may go\n");
    let run = status(&sandbox, vec![], &["--superseded", "-n", "shop"]).well();
    assert_eq!(run.err, "no SealedSecret of bitnami.com in shop in prod\n");
    let run = status(&sandbox, objects[..1].to_vec(), &["--superseded", "-o", "json"]).well();
    let document: Value = serde_json::from_slice(&run.out).expect("JSON");
    assert_eq!(document["summary"], json!({"total": 1, "notSuperseded": 0}));
    assert_eq!(document["sealedSecrets"][0]["superseded"], true);
}
