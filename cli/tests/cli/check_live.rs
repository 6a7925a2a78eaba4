//! `bulla check --live`: what a cluster says, and whether it is the one that was meant.

use bulla::open::{Strictness, inspect};
use bulla::resource::SealedSecret;

use super::{Identity, Proof, Sandbox, Server, State, Value, json};
use crate::sandbox::DB;

/// What the controller answers.
pub(super) fn verified(state: &State, body: &[u8]) -> (u16, Value) {
    let object: SealedSecret = serde_json::from_slice(body).expect("a SealedSecret");
    let identities: Vec<&Identity> = state.keys.iter().map(|(_, key)| key).collect();
    let opens = inspect(&object, Strictness::Reader).is_ok_and(|inspected| inspected.open(&identities).is_ok());
    let answer = if opens {
        (200, json!({"opens": true}))
    } else {
        (409, json!({"opens": false, "reason": "NoKey", "message": "none of the keys here opens it"}))
    };
    let made = (state.forge)(answer.1);
    (if made["opens"] == true { 200 } else { answer.0 }, made)
}

/// A cluster, and a folder with a file that is sealed for it and one that is not.
fn two_files() -> (Server, Sandbox) {
    let server = Server::start();
    let sandbox = Sandbox::new();
    server.known_to(&sandbox);
    sandbox.git(&["init", "-q"]);
    std::fs::write(sandbox.path(".git/info/exclude"), "*.txt\n*.pub\nhome\n").expect("writes");
    let recipient = server.state().keys[0].1.recipient().as_str().to_owned();
    sandbox.write("prod.pub", format!("{recipient}\n"));
    sandbox.write("in.yaml", DB);
    sandbox.run(&["seal", "in.yaml", "-R", "prod.pub", "-w", "ours.sealed.yaml"]).well();
    sandbox.write("in.yaml", DB.replace("name: db", "name: other"));
    sandbox.run(&["seal", "in.yaml", "-R", "key.txt.pub", "-w", "theirs.sealed.yaml"]).well();
    std::fs::remove_file(sandbox.path("in.yaml")).expect("removes");
    (server, sandbox)
}

const POLICY: &str = "version: 1\nrecipients:\n  prod: {file: prod.pub, context: prod}\n  dev: {file: key.txt.pub}\nrules:\n  - {path: 'ours*', recipients: [prod]}\n  - {path: '**', recipients: [dev]}\n";

#[test]
fn the_cluster_says_what_opens() {
    let (server, sandbox) = two_files();
    let run = sandbox.run(&["check", "--live"]);
    assert_eq!(
        run.text(),
        "error[BUL112]: shop/other does not open in prod: NoKey (none of the keys here opens it)\n  --> theirs.sealed.yaml:1:1\n\
         help: is it sealed for that cluster? bulla recipients --context NAME\n"
    );
    assert!(run.code == 10 && run.err.starts_with("note: no key of prod is pinned"), "{}", run.err);
    // As the page of the rule says.
    let run = sandbox.run(&["check", "--live", "ours.sealed.yaml"]).well();
    assert!(run.err.ends_with("checked 1 file, 1 SealedSecret opens in prod\n"), "{}", run.err);
    // No value and no key goes out, and nothing but what is sealed.
    assert!(server.state().requests.iter().all(|request| request.ends_with("/v1/verify")));
    assert_eq!(sandbox.run(&["check", "--live", "--exit-zero"]).code, 0);
    let json: Value = serde_json::from_slice(&sandbox.run(&["check", "--live", "-o", "json"]).out).expect("JSON");
    assert_eq!(json["findings"][0]["rule"], "BUL112");
}

#[test]
fn a_cluster_that_lies_is_not_believed_where_its_key_is_pinned() {
    let (server, sandbox) = two_files();
    sandbox.write(".bulla.yaml", POLICY);
    let run = sandbox.run(&["check", "--live"]);
    assert!(run.code == 10 && run.text().contains("BUL112") && !run.err.contains("note:"), "{}{}", run.text(), run.err);
    // Somebody in between who says that all is well, or that nothing is.
    server.state().forge = |_| json!({"opens": true});
    for (proof, says) in [
        (Proof::Without, "prod answers without a proof by "),
        (Proof::Another, "is not proven by "),
        (Proof::OfAnother, "is not proven by "),
        (Proof::Replayed, "is not proven by "),
        (Proof::Malformed, "is not proven by "),
        (Proof::Refused, "does not hold the key "),
    ] {
        server.state().proof = proof;
        let run = sandbox.run(&["check", "--live"]);
        assert!(run.code == 1 && run.err.contains(says), "{}: {}", run.code, run.err);
        assert!(!run.err.contains("no findings") && !run.err.contains("opens in"), "{}", run.err);
    }
    server.state().proof = Proof::Without;
    server.state().forge = |_| json!({"opens": false, "reason": "NoKey"});
    assert!(matches!(sandbox.run(&["check", "--live"]).code, 1 | 4));
}

#[test]
fn nobody_answers() {
    let (server, sandbox) = two_files();
    let down = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "prod",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
    });
    sandbox.write("down.json", down.to_string());
    let run = sandbox.run(&["check", "--live", "--kubeconfig", "down.json", "ours.sealed.yaml"]);
    assert_eq!((run.code, run.text().as_str()), (4, ""), "{}", run.err);
    // What answers is no controller.
    server.state().forge = |_| json!(["hello"]);
    let run = sandbox.run(&["check", "--live", "ours.sealed.yaml"]);
    assert_eq!((run.code, run.text().as_str()), (4, ""), "{}", run.err);
}
