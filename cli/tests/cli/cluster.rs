//! What a command asks a cluster, and what it takes from the answers: a server of our own that speaks like an API server.

#[path = "check_live.rs"]
mod check_live;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bulla::envelope::Envelope;
use bulla::proof::{Challenge, Challenger, Exchange, PROVE_PATH};
use bulla::recipient::{Identity, RecipientKind};
use bulla::reseal::{Configured, Household};
use bulla::rewrap::rewrap;
use serde_json::{Value, json};

use crate::sandbox::{DB, Sandbox};

/// What the server is, and what it was asked.
struct State {
    keys: Vec<(String, Identity)>,
    /// Further SealingKeys, as they are stored.
    stored: Vec<Value>,
    /// Index into `keys`.
    preferred: usize,
    recovery: String,
    requests: Vec<String>,
    /// Changes the answer to a rewrap.
    forge: Forge,
    /// Makes new keys preferred.
    prefers: bool,
    /// How it proves what it answers.
    proof: Proof,
    /// The proof that was given last.
    last: String,
}

/// How a server proves what it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    Right,
    /// Not at all, as one that does not know of proofs.
    Without,
    /// Refuses the challenge, as one that does not hold the key.
    Refused,
    /// By the key of somebody else.
    Another,
    /// With the proof of an answer before.
    Replayed,
    /// Of another answer than it gives.
    OfAnother,
    Malformed,
}

type Forge = fn(Value) -> Value;

struct Server {
    state: Arc<Mutex<State>>,
    address: String,
}

const NAMESPACE: &str = "/namespaces/bulla-system/";

impl Server {
    fn start() -> Self {
        let identity = Identity::generate(RecipientKind::Hybrid).expect("randomness");
        let state = Arc::new(Mutex::new(State {
            keys: vec![("first".into(), identity)],
            stored: Vec::new(),
            preferred: 0,
            recovery: String::new(),
            requests: Vec::new(),
            forge: |answer| answer,
            prefers: true,
            proof: Proof::Right,
            last: String::new(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream.expect("a connection"), &shared));
            }
        });
        Self { state, address }
    }

    /// A kubeconfig for it, in the folder's home directory.
    fn known_to(&self, sandbox: &Sandbox) {
        std::fs::create_dir_all(sandbox.path("home/.kube")).expect("a folder");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "prod",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u", "namespace": "not-this-one"}}],
        });
        sandbox.write("home/.kube/config", config.to_string());
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let (mut length, mut challenge) = (0, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a header");
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a header");
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().expect("a number"),
                "bulla-challenge" => challenge = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let mut words = first.split(' ');
        let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
        let path = path.split('?').next().expect("a path");
        let mut state = state.lock().expect("no panic");
        let (mut status, answer) = respond(&mut state, method, path, &body);
        let mut answer = answer.to_string();
        let mut proof = String::new();
        if let Some((_, path)) = path.rsplit_once("/v1/").filter(|_| method == "POST" && status != 404) {
            let path = format!("/v1/{path}");
            // What may be asked without a pinned key.
            let challenge = if path == "/v1/verify" { challenge } else { Some(challenge.expect("a challenge")) };
            match challenge.map(|challenge| prove(&mut state, &challenge, &path, &body, status, &answer)) {
                None => {}
                Some(Some(made)) => proof = made,
                Some(None) => {
                    (status, answer) = (422, json!({"error": "challenge-refused", "message": "x"}).to_string());
                }
            }
        }
        drop(state);
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{proof}\r\n",
            answer.len()
        );
        if reader.get_mut().write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

/// The header of a proof; `None` refuses the challenge.
fn prove(
    state: &mut State,
    challenge: &str,
    path: &str,
    request: &[u8],
    status: u16,
    response: &str,
) -> Option<String> {
    let challenge: Challenge = challenge.parse().expect("a challenge");
    let published = if path == PROVE_PATH { bulla::proof::state(&data(state)) } else { Vec::new() };
    let response = if state.proof == Proof::OfAnother { "{}{}" } else { response };
    let exchange = Exchange { path, request, status, response: response.as_bytes(), state: &published };
    let made = match state.proof {
        Proof::Without => return Some(String::new()),
        Proof::Refused => return None,
        Proof::Another => {
            let other = Identity::generate(RecipientKind::Hybrid).expect("randomness");
            let own = Challenger::new(other.recipient()).expect("randomness");
            own.challenge().accept(&other).expect("its own").prove(&exchange)
        }
        Proof::Replayed => state.last.clone(),
        Proof::Malformed => "not base64".into(),
        Proof::Right | Proof::OfAnother => {
            let held = state.keys.iter().find_map(|(_, key)| challenge.accept(key).ok())?;
            held.prove(&exchange)
        }
    };
    state.last.clone_from(&made);
    Some(format!("Bulla-Proof: {made}\r\n"))
}

/// What it publishes.
fn data(state: &State) -> BTreeMap<String, String> {
    let mut recipients = vec![state.keys[state.preferred].1.recipient().as_str()];
    let others = state.keys.iter().enumerate().filter(|(i, _)| *i != state.preferred);
    recipients.extend(others.map(|(_, key)| key.1.recipient().as_str()));
    let entries =
        [("recipients", recipients.join("\n")), ("cluster", "prod".into()), ("recovery", state.recovery.clone())];
    entries.map(|(key, value)| (key.to_owned(), value)).into()
}

fn key(state: &State, index: usize) -> Value {
    let (name, identity) = &state.keys[index];
    let preferred = (index <= state.preferred).then(|| format!("2026-11-{:02}T00:00:00Z", 10 + index));
    json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKey",
        "metadata": {"name": name, "namespace": "bulla-system"},
        "spec": {"format": "hybrid", "state": "Active"},
        "status": {
            "state": "Active", "publishedAt": "2026-11-01T00:00:00Z", "preferredAt": preferred, "neededBy": 3,
            "fingerprint": identity.recipient().fingerprint().to_string(), "recipient": identity.recipient().as_str(),
        },
    })
}

fn respond(state: &mut State, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    state.requests.push(format!("{method} {path}"));
    let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"});
    let Some((_, rest)) = path.split_once(NAMESPACE) else {
        return match path.rsplit_once("/v1/") {
            Some((_, "rewrap")) => (200, rewrapped(state, body)),
            Some((_, "verify")) => check_live::verified(state, body),
            Some((_, "prove")) => (200, json!({})),
            Some((_, "reseal")) => resealed(state, body),
            _ => (404, missing),
        };
    };
    match (method, rest) {
        ("GET", "configmaps/bulla-recipients") => {
            let data = data(state);
            (
                200,
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bulla-recipients"}, "data": data}),
            )
        }
        ("GET", "sealingkeys") => {
            let own = (0..state.keys.len()).map(|index| key(state, index));
            let items: Vec<_> = own.chain(state.stored.clone()).collect();
            (200, json!({"apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKeyList", "metadata": {}, "items": items}))
        }
        ("POST", "sealingkeys") => {
            let asked: Value = serde_json::from_slice(body).expect("JSON");
            let name = asked["metadata"]["name"].as_str().expect("a name").to_owned();
            state.keys.push((name, Identity::generate(RecipientKind::Hybrid).expect("randomness")));
            if state.prefers {
                state.preferred = state.keys.len() - 1;
            }
            (201, asked)
        }
        ("GET", path) if path.starts_with("sealingkeys/") => {
            let name = &path["sealingkeys/".len()..];
            match state.keys.iter().position(|(n, _)| n == name) {
                Some(index) => (200, key(state, index)),
                None => (404, missing),
            }
        }
        ("POST", "services/http:bulla:http/proxy/v1/rewrap") => (200, rewrapped(state, body)),
        ("POST", "services/http:bulla:http/proxy/v1/verify") => check_live::verified(state, body),
        ("POST", "services/http:bulla:http/proxy/v1/prove") => (200, json!({})),
        ("POST", "services/http:bulla:http/proxy/v1/reseal") => resealed(state, body),
        _ => (404, missing),
    }
}

fn resealed(state: &State, body: &[u8]) -> (u16, Value) {
    let request = bulla::request::parse_reseal(body).expect("a request");
    let recovery = bulla::recipient::parse_recipients(&state.recovery).unwrap_or_default();
    let configured: Vec<_> = recovery
        .into_iter()
        .map(|listed| Configured { name: listed.name.expect("a name"), recipient: listed.recipient, namespaces: None })
        .collect();
    let identities: Vec<_> = state.keys.iter().map(|(_, key)| key).collect();
    let household = Household {
        name: Some("prod"),
        identities: &identities,
        preferred: state.keys[state.preferred].1.recipient(),
        own: &identities.iter().map(|key| key.recipient().fingerprint()).collect(),
        configured: &configured,
    };
    match bulla::reseal::reseal(&request.object, &household, &request.add) {
        Ok(made) => (200, (state.forge)(serde_json::to_value(made).expect("JSON"))),
        Err(refused) => (409, json!({"error": refused.reason(), "message": refused.to_string()})),
    }
}

fn rewrapped(state: &State, body: &[u8]) -> Value {
    assert!(body.len() <= 2 * 1024 * 1024);
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let envelopes = body["envelopes"].as_array().expect("envelopes");
    assert!(envelopes.len() <= 1024);
    let to = state.keys[state.preferred].1.recipient();
    let results: Vec<_> = envelopes
        .iter()
        .map(|text| {
            let line: Envelope = text.as_str().expect("text").parse().expect("an envelope");
            let own = state.keys.iter().find(|(_, key)| key.recipient().fingerprint() == line.fingerprint());
            match own.map(|(_, identity)| rewrap(&line, identity, to, false)) {
                Some(Ok(made)) => json!({"in": text, "out": made.to_string()}),
                Some(Err(error)) => json!({"in": text, "error": error.reason()}),
                None => json!({"in": text, "error": "no-key"}),
            }
        })
        .collect();
    (state.forge)(json!({ "results": results }))
}

/// A server, a folder that knows it, with `t/a.yaml` and `t/b.yaml` sealed for it and for `key.txt`.
fn sealed() -> (Server, Sandbox) {
    let server = Server::start();
    let sandbox = Sandbox::new();
    server.known_to(&sandbox);
    let run = sandbox.run(&["recipients"]).well();
    sandbox.write("prod.pub", run.out);
    std::fs::create_dir(sandbox.path("t")).expect("a folder");
    sandbox.write("db.yaml", DB);
    for file in ["t/a.yaml", "t/b.yaml"] {
        sandbox.run(&["seal", "db.yaml", "-w", file, "-R", "prod.pub", "-R", "key.txt.pub"]).well();
    }
    (server, sandbox)
}

fn next_key(server: &Server) -> String {
    let mut state = server.state();
    let identity = Identity::generate(RecipientKind::Hybrid).expect("randomness");
    let fingerprint = identity.recipient().fingerprint().to_string();
    state.keys.push(("second".into(), identity));
    state.preferred = 1;
    fingerprint
}

#[test]
fn recipients_of_a_cluster_are_fit_for_sealing() {
    let (server, sandbox) = sealed();
    let warning = "warning: the cluster has no recovery recipient: if it is lost, so is every secret\n         bulla keygen -w \
                   recovery.txt, and give the controller recovery.txt.pub\n";
    let run = sandbox.run(&["recipients", "--context", "prod"]).well();
    assert_eq!(run.err, warning);
    let (fingerprint, recipient) = {
        let state = server.state();
        let recipient = state.keys[0].1.recipient();
        (recipient.fingerprint().to_string(), recipient.as_str().to_owned())
    };
    assert_eq!(run.text(), format!("# preferred: {fingerprint} hybrid\n# name: prod\n{recipient}\n"));
    let second = next_key(&server);
    server.state().recovery = format!("# name: recovery\n{}", sandbox.read("key.txt.pub"));
    let run = sandbox.run(&["recipients", "show", "--all"]).well();
    assert_eq!(run.err, "");
    assert!(run.text().starts_with(&format!("# preferred: {second} hybrid\n# name: prod\nage1pq")));
    assert!(run.text().contains(&format!("# overlap: {fingerprint} hybrid\n# {recipient}\n")));
    sandbox.write("all.pub", &run.out);
    let run = sandbox.run(&["seal", "db.yaml", "-R", "all.pub"]).well();
    assert_eq!(run.err, "sealed 1 Secret for prod, recovery\n");
    let run = sandbox.run(&["recipients", "-o", "json"]).well();
    let document: Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!((&document["schemaVersion"], &document["cluster"]), (&json!(1), &json!("prod")));
    assert_eq!(document["recipients"].as_array().map(Vec::len), Some(2));
    assert_eq!(document["recipients"][1]["role"], "recovery");
    // The namespace of the kubeconfig is nobody's business.
    assert!(server.state().requests.iter().all(|request| !request.contains("not-this-one")));
}

#[test]
fn what_is_not_there_and_what_is_not_reachable() {
    let (_server, sandbox) = sealed();
    sandbox
        .run(&["recipients", "--context", "dev"])
        .fails(3, "error: there is no context dev in the kubeconfig, but prod\n");
    sandbox.run(&["recipients", "--controller-namespace", "elsewhere"]).fails(
        3,
        "error: the ConfigMap elsewhere/bulla-recipients is not there in prod\nhelp: is Bulla installed there (bulla \
         install), in this namespace (--controller-namespace)?\n",
    );
    let config = sandbox.read("home/.kube/config");
    let at = config.find("127.0.0.1:").expect("the address");
    let end = at + config[at..].find('"').expect("its end");
    sandbox.write("home/.kube/config", format!("{}127.0.0.1:1{}", &config[..at], &config[end..]));
    let run = sandbox.run(&["keys", "list", "-o", "json"]);
    assert_eq!(run.code, 4);
    assert!(run.err.starts_with("error: prod can't be reached: "), "{}", run.err);
    let document: Value = serde_json::from_str(&run.text()).expect("JSON");
    assert!(document["errors"][0]["message"].as_str().expect("text").starts_with("prod can't be reached"));
    std::fs::remove_file(sandbox.path("home/.kube/config")).expect("goes");
    let run = sandbox.run(&["recipients"]);
    assert_eq!(run.code, 4);
    assert!(run.err.starts_with("error: no cluster: "), "{}", run.err);
}

#[test]
fn resealing_through_the_cluster_changes_its_own_lines_only() {
    let (server, sandbox) = sealed();
    let second = next_key(&server);
    let before = sandbox.read("t/a.yaml");
    let run = sandbox.run(&["reseal", "t", "--live", "--check"]);
    assert_eq!((run.code, run.text().as_str()), (10, "t/a.yaml: 1 envelope\nt/b.yaml: 1 envelope\n"));
    let run = sandbox.run(&["reseal", "t", "--live"]).well();
    assert!(run.err.starts_with(&format!("resealed 2 of 2 files for prod {second} (was ")), "{}", run.err);
    let after = sandbox.read("t/a.yaml");
    let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(a, b)| a != b).collect();
    assert_eq!(changed.len(), 1);
    assert!(changed[0].1.contains(&second));
    sandbox.run(&["reseal", "t", "--live", "--check"]).well();
    assert_eq!(sandbox.run(&["unseal", "t/a.yaml", "-i", "key.txt", "--key", "username"]).well().out, b"admin");
}

#[test]
fn a_controller_is_reached_by_its_url() {
    let (server, sandbox) = sealed();
    let second = next_key(&server);
    // What `bulla recipients` writes has the recovery recipient too, whose line stays.
    server.state().recovery = format!("# name: key\n{}", sandbox.read("key.txt.pub"));
    let run = sandbox.run(&["recipients"]).well();
    sandbox.write("prod.pub", run.out);
    server.state().requests.clear();
    let url = format!("http://{}/base", server.address);
    let run = sandbox.run(&["reseal", "t", "--live", "--controller-url", &url, "-R", "prod.pub"]).well();
    assert!(run.err.contains(&second));
    assert_eq!(server.state().requests, ["POST /base/v1/rewrap"]);
    sandbox.run(&["reseal", "t", "--live", "--controller-url", "nonsense"]).fails(
        2,
        "error: --controller-url nonsense: not a URL\nhelp: as in --controller-url http://127.0.0.1:8080 with kubectl \
         port-forward\n",
    );
}

#[test]
fn forged_answers_are_refused_and_nothing_is_written() {
    let (server, sandbox) = sealed();
    next_key(&server);
    let before = (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml"));
    let forgeries: [(Forge, &str); 5] = [
        (
            |mut answer| {
                // The right envelope for another question.
                let results = answer["results"].as_array_mut().expect("results");
                let made: Vec<_> = (0..results.len()).filter(|i| results[*i]["out"].is_string()).collect();
                let (one, two) = (results[made[0]]["out"].clone(), results[made[1]]["out"].clone());
                results[made[0]]["out"] = two;
                results[made[1]]["out"] = one;
                answer
            },
            "an envelope in it is of another data key than the one sent",
        ),
        (
            |mut answer| {
                for result in answer["results"].as_array_mut().expect("results") {
                    result["out"] = result["in"].clone();
                    result.as_object_mut().expect("an object").remove("error");
                }
                answer
            },
            "not for the expected r",
        ),
        (
            |mut answer| {
                answer["results"][0]["out"] = json!("\n    evil: true");
                answer["results"][0].as_object_mut().expect("an object").remove("error");
                answer
            },
            "an envelope in it is malformed",
        ),
        (
            |mut answer| {
                answer["results"][0]["in"] = json!("never sent");
                answer
            },
            "answered for an envelope that was not sent",
        ),
        (|_| json!({"hello": 1}), "the controller's answer is none to /v1/rewrap"),
    ];
    for (forge, wanted) in forgeries {
        server.state().forge = forge;
        let run = sandbox.run(&["reseal", "t", "--live"]);
        assert!(run.code == 1 || run.code == 4, "{}", run.err);
        assert!(run.err.contains(wanted), "{}", run.err);
        assert_eq!(before, (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml")));
    }
}

#[test]
fn answers_that_are_not_proven_by_the_pinned_key_are_refused_and_nothing_is_written() {
    let (server, sandbox) = sealed();
    let second = next_key(&server);
    let recipient = server.state().keys[1].1.recipient().as_str().to_owned();
    sandbox.write("second.pub", recipient);
    let before = (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml"));
    let url = format!("http://{}", server.address);
    let over_url = ["--controller-url", url.as_str(), "-R", "second.pub"];
    for (proof, wanted) in [
        (Proof::Without, format!("error: prod answers without a proof by {second}: refused, nothing was written")),
        (Proof::Refused, format!("error: the controller of prod does not hold the key {second}")),
        (Proof::Another, format!("error: the answer of prod is not proven by {second}: refused, nothing was written")),
        (Proof::OfAnother, format!("error: the answer of prod is not proven by {second}")),
        (Proof::Replayed, format!("error: the answer of prod is not proven by {second}")),
        (Proof::Malformed, format!("error: the answer of prod is not proven by {second}")),
    ] {
        server.state().proof = proof;
        let run = sandbox.run(&["reseal", "t", "--live"]);
        assert!(run.code == 1 && run.err.starts_with(&wanted), "{}", run.err);
        let run = sandbox.run(&[&["reseal", "t", "--live"][..], &over_url].concat());
        assert!(run.code == 1 && run.err.starts_with(&wanted.replace("prod", &url)), "{}", run.err);
        assert_eq!(before, (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml")));
    }
    // A key that the cluster does not hold: whoever answers, nothing is taken from it.
    server.state().proof = Proof::Right;
    let other = Identity::generate(RecipientKind::Hybrid).expect("randomness");
    sandbox.write("other.pub", other.recipient().as_str());
    let run = sandbox.run(&["reseal", "t", "--live", "-R", "other.pub"]);
    let fingerprint = other.recipient().fingerprint();
    assert!(
        run.err.starts_with(&format!("error: the controller of prod does not hold the key {fingerprint}")),
        "{}",
        run.err
    );
    sandbox.run(&[&["reseal", "t", "--live"][..], &over_url].concat()).well();
    assert!(sandbox.read("t/a.yaml").contains(&second));
    // Without one who proves to hold the key of today no new one is made.
    server.state().proof = Proof::Another;
    let keys = server.state().keys.len();
    let run = sandbox.run(&["rotate", "t", "--prefer-after", "0s"]);
    assert!(run.code == 1 && run.err.contains("is not proven by"), "{}", run.err);
    assert_eq!(server.state().keys.len(), keys);
}

#[test]
fn sealing_afresh_through_the_cluster_needs_no_identity() {
    let (server, sandbox) = sealed();
    let second = next_key(&server);
    // An item of its own, so that there are two data keys.
    sandbox.with_input(&["set", "t/a.yaml", "token", "-R", "prod.pub", "-R", "key.txt.pub"], b"t0ken").well();
    let before = (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml"));
    // Somebody reads it whom the cluster does not know.
    let run = sandbox.run(&["reseal", "t", "--fresh", "--live"]);
    assert!(run.code == 1 && run.err.contains("error: shop/db: the controller of prod refuses: key (r"), "{}", run.err);
    assert!(
        run.err.contains("(unknown-recipient, HTTP 409)\n  --> t/a.yaml\nhelp: it seals for recipients of its own"),
        "{}",
        run.err
    );
    assert_eq!(before, (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml")));
    server.state().recovery = format!("# name: recovery\n{}", sandbox.read("key.txt.pub"));
    let run = sandbox.run(&["reseal", "t", "--fresh", "--live"]).well();
    assert!(run.err.starts_with("resealed 2 of 2 files for prod "), "{}", run.err);
    let after = sandbox.read("t/a.yaml");
    assert!(after.contains(&second) && after.matches("envelopes:").count() == 1, "{after}");
    assert_eq!(sandbox.run(&["unseal", "t/a.yaml", "-i", "key.txt", "--key", "username"]).well().out, b"admin");
    assert_eq!(sandbox.run(&["unseal", "t/a.yaml", "-i", "key.txt", "--key", "token"]).well().out, b"t0ken");
}

#[test]
fn objects_that_come_back_changed_are_refused_and_nothing_is_written() {
    let (server, sandbox) = sealed();
    next_key(&server);
    server.state().recovery = format!("# name: recovery\n{}", sandbox.read("key.txt.pub"));
    let before = (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml"));
    let forgeries: [(Forge, &str); 6] = [
        (
            |mut object| {
                object["spec"]["scope"] = json!("cluster-wide");
                object
            },
            "its scope is not that of the object that was sent",
        ),
        (
            |mut object| {
                object["metadata"]["namespace"] = json!("live");
                object
            },
            "its metadata is not that",
        ),
        (
            |mut object| {
                object["spec"]["template"] = json!({"type": "kubernetes.io/tls"});
                object
            },
            "its template is not that",
        ),
        (
            |mut object| {
                object["spec"]["items"].as_object_mut().expect("items").remove("username");
                object
            },
            "its set of items is not that",
        ),
        (
            |mut object| {
                let lines = object["spec"]["envelopes"].as_object_mut().expect("envelopes");
                lines.remove("prod");
                object
            },
            "an item is not sealed for r",
        ),
        (|_| json!({"hello": 1}), "the controller's answer is none to /v1/reseal"),
    ];
    for (forge, wanted) in forgeries {
        server.state().forge = forge;
        let run = sandbox.run(&["reseal", "t", "--fresh", "--live"]);
        assert!(run.code == 1 && run.err.contains(wanted), "{}", run.err);
        assert_eq!(before, (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml")));
    }
    server.state().forge = |answer| answer;
    for proof in [Proof::Without, Proof::Another, Proof::Replayed, Proof::OfAnother, Proof::Refused] {
        server.state().proof = proof;
        assert_eq!(sandbox.run(&["reseal", "t", "--fresh", "--live"]).code, 1);
        assert_eq!(before, (sandbox.bytes("t/a.yaml"), sandbox.bytes("t/b.yaml")));
    }
}

#[test]
fn what_the_cluster_cannot_open_fails_file_by_file() {
    let (server, sandbox) = sealed();
    let second = next_key(&server);
    sandbox.run(&["seal", "db.yaml", "-w", "t/mine.yaml", "-R", "key.txt.pub"]).well();
    let before = sandbox.bytes("t/mine.yaml");
    let run = sandbox.run(&["reseal", "t", "--live"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.starts_with("error: prod can't open shop/db\n  --> t/mine.yaml\n  key: no-key\nresealed 2 of 3 files"),
        "{}",
        run.err
    );
    assert_eq!(before, sandbox.bytes("t/mine.yaml"));
    assert!(sandbox.read("t/a.yaml").contains(&second));
}

#[test]
fn rotating_creates_a_key_waits_and_reseals() {
    let (server, sandbox) = sealed();
    let run = sandbox.run(&["rotate", "t", "--prefer-after", "0s"]).well();
    let (name, fingerprint) = {
        let state = server.state();
        let (name, key) = state.keys.last().expect("a key");
        (name.clone(), key.recipient().fingerprint().to_string())
    };
    assert!(
        run.err.starts_with(&format!(
            "created SealingKey bulla-system/{name} in prod\n{fingerprint} is published and preferred\nresealed 2 of 2 files \
             for prod {fingerprint} (was "
        )),
        "{}",
        run.err
    );
    assert!(run.err.contains("\nnothing here needs an older key."), "{}", run.err);
    assert!(sandbox.read("t/a.yaml").contains(&fingerprint));
    sandbox.run(&["seal", "db.yaml", "-w", "t/mine.yaml", "-R", "key.txt.pub"]).well();
    let run = sandbox.run(&["rotate", "t", "--prefer-after", "0s", "-o", "json"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.contains("warning: an older key is still needed for 1 file:\n  t/mine.yaml: 1 envelope\n"),
        "{}",
        run.err
    );
    let document: Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!((&document["failed"], &document["key"]["state"]), (&json!(1), &json!("Active")));
}

#[test]
fn rotating_does_not_wait_unseen_for_ever() {
    let (server, sandbox) = sealed();
    sandbox.run(&["rotate", "t"]).fails(
        2,
        "error: the new key is preferred only after 24h, and nobody is there to interrupt the waiting\nhelp: --timeout T says \
         how long; --prefer-after 0s makes it preferred at once\n",
    );
    sandbox.run(&["rotate", "t", "--timeout", "5m"]).fails(
        2,
        "error: --timeout 5m is shorter than the time until the new key is preferred (24h)\nhelp: a longer --timeout, or \
         --prefer-after 0s: then it is preferred at once\n",
    );
    sandbox
        .run(&["rotate", "nowhere", "--prefer-after", "0s"])
        .fails(3, "error: can't read nowhere: there is no such file\n");
    assert_eq!(server.state().keys.len(), 1);
    server.state().prefers = false;
    let run = sandbox.run(&["rotate", "t", "--prefer-after", "0s", "--timeout", "1s"]);
    assert_eq!(run.code, 4);
    assert!(run.err.contains("is not in use: it is published, and another is preferred still\n"), "{}", run.err);
}

#[test]
fn keys_are_listed_and_created() {
    let (server, sandbox) = sealed();
    let run = sandbox.run(&["keys", "create", "third", "--prefer-after", "1h30m"]).well();
    assert_eq!(run.text(), "third\n");
    assert_eq!(run.err, "created SealingKey bulla-system/third in prod; it is preferred 1h30m after it is published\n");
    let run = sandbox.run(&["keys", "list"]).well();
    let lines: Vec<_> = run.text().lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("NAME    FORMAT   STATE"), "{lines:?}");
    assert!(lines[1].starts_with("first   hybrid   Active") && lines.len() == 3, "{lines:?}");
    assert!(lines[2].contains("2026-11-11T00:00:00Z *"), "{lines:?}");
    sandbox
        .run(&["keys", "create", "x", "--prefer-after", "1d"])
        .fails(2, "error: --prefer-after 1d: not a duration up to 8760h\nhelp: as in 0s, 90m, 24h, 1h30m\n");
    assert_eq!(server.state().keys.len(), 2);
    // RSA keys have no SealingKey.
    let run = sandbox.run(&["keys", "create", "x", "--format", "rsa"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("hybrid, classical") && run.err.contains("rsa"), "{}", run.err);
    assert_eq!(server.state().keys.len(), 2);
}

#[test]
fn a_key_that_cannot_be_read_does_not_hide_the_others() {
    const NOTE: &str = "the SealingKey rsa-1 is left out: it can't be read";
    let (server, sandbox) = sealed();
    next_key(&server);
    server.state().stored.push(json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKey",
        "metadata": {"name": "rsa-1", "namespace": "bulla-system"},
        "spec": {"format": "rsa", "state": "Active"},
    }));
    let run = sandbox.run(&["keys", "list"]).well();
    assert_eq!(run.text().lines().count(), 3, "{}", run.text());
    assert!(run.err.contains(NOTE), "{}", run.err);
    let run = sandbox.run(&["keys", "list", "-o", "json"]).well();
    let listed: Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(2));
    assert!(run.err.contains(NOTE), "{}", run.err);
    // It is no other key to go back to either.
    server.state().keys.truncate(1);
    server.state().preferred = 0;
    let run = sandbox.run(&["keys", "rollback"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.err.contains("first is the only Active key") && run.err.contains(NOTE), "{}", run.err);
}

#[test]
fn many_envelopes_go_in_several_requests() {
    let (server, sandbox) = sealed();
    let text = sandbox.read("t/a.yaml");
    std::fs::create_dir(sandbox.path("many")).expect("a folder");
    for n in 0..40 {
        // Each its own data key: sealed one by one, thirty in a file.
        let secrets: Vec<_> = (0..15).map(|i| DB.replace("name: db", &format!("name: db-{n}-{i}"))).collect();
        sandbox.write("s.yaml", secrets.join("---\n"));
        sandbox.run(&["seal", "s.yaml", "-w", &format!("many/{n}.yaml"), "-R", "prod.pub", "-R", "key.txt.pub"]).well();
    }
    assert!(!text.is_empty());
    let second = next_key(&server);
    server.state().requests.clear();
    let run = sandbox.run(&["reseal", "many", "--live"]).well();
    assert!(run.err.starts_with(&format!("resealed 40 of 40 files for prod {second} ")), "{}", run.err);
    let posts = server.state().requests.iter().filter(|request| request.starts_with("POST")).count();
    assert!(posts >= 2, "{posts}");
}

#[test]
fn a_repository_pins_a_cluster_and_follows_its_key() {
    let server = Server::start();
    let sandbox = Sandbox::new();
    server.known_to(&sandbox);
    std::fs::create_dir_all(sandbox.path(".git")).expect("a folder");
    let first = server.state().keys[0].1.recipient().clone();
    let run = sandbox.run(&["init", "--context", "prod", "--as", "prod"]).well();
    assert_eq!(
        run.err,
        format!(
            "prod      {}  hybrid  from prod (bulla-system/bulla)\nwrote .bulla.yaml and .bulla/prod.pub; commit both and \
             protect .bulla/ with CODEOWNERS\nwarning: no recovery recipient. If this cluster is lost, so is every secret:\n         \
             bulla keygen -w recovery.txt   (keep it offline)\n         bulla recipients add recovery recovery.txt.pub \
             --always\n",
            first.fingerprint()
        )
    );
    assert_eq!(sandbox.read(".bulla/prod.pub"), format!("{}\n", first.as_str()));
    assert_eq!(
        sandbox.read(".bulla.yaml"),
        "version: 1\nrecipients:\n  prod: {file: .bulla/prod.pub, context: prod, cluster: prod}\nrules: # the first that \
         matches\n  - path: \"**\"\n    recipients: [prod]\n"
    );
    let run = sandbox.run(&["init", "--context", "prod", "--as", "prod"]).well();
    assert_eq!(run.err, "prod is in .bulla.yaml already, with this key: nothing to do\n");
    let run = sandbox.run(&["init", "key.txt.pub", "--as", "me"]);
    assert!(run.code == 1 && run.err.starts_with("error: .bulla.yaml is there already and is not overwritten\n"));
    sandbox.run(&["recipients", "add", "recovery", "key.txt.pub", "--always"]).well();

    // Sealing contacts nobody.
    server.state().requests.clear();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "db.sealed.yaml"]).well();
    assert!(server.state().requests.is_empty());
    let run = sandbox.run(&["recipients", "update"]).well();
    assert_eq!(run.err, format!("prod {} is what the cluster seals for\n", first.fingerprint()));

    // A new key, vouched for by the old one.
    let second = next_key(&server);
    let run = sandbox.run(&["recipients", "update"]).well();
    assert!(run.err.starts_with(&format!("prod {second} (was {}): proven", first.fingerprint())), "{}", run.err);
    assert!(sandbox.read(".bulla/prod.pub").starts_with(&format!("# replaces: {}\nage1pq", first.full_fingerprint())));
    let before = sandbox.read("db.sealed.yaml");
    let run = sandbox.run(&["reseal", ".", "--live", "--check"]);
    assert_eq!((run.code, run.text().as_str()), (10, "db.sealed.yaml: 1 envelope\n"));
    sandbox.run(&["reseal", ".", "--live"]).well();
    let after = sandbox.read("db.sealed.yaml");
    assert_eq!(before.lines().zip(after.lines()).filter(|(a, b)| a != b).count(), 1);
    assert!(after.contains(&second) && after.contains("    prod: "));
    sandbox.run(&["reseal", ".", "--live", "--check"]).well();
}

#[test]
fn a_key_that_nobody_vouches_for_is_accepted_only_whole() {
    let server = Server::start();
    let sandbox = Sandbox::new();
    server.known_to(&sandbox);
    std::fs::create_dir_all(sandbox.path(".git")).expect("a folder");
    sandbox.run(&["init", "--context", "prod", "--as", "prod"]).well();
    let pin = sandbox.read(".bulla/prod.pub");
    // Another cluster: it has none of the old keys.
    let stranger = Identity::generate(RecipientKind::Hybrid).expect("randomness");
    let full = stranger.recipient().full_fingerprint();
    server.state().keys = vec![("first".into(), stranger)];
    let run = sandbox.run(&["recipients", "update"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("nobody vouches for it"), "{}", run.err);
    assert!(
        run.err.contains(&format!("help: bulla recipients update prod --context prod --accept {full}\n")),
        "{}",
        run.err
    );
    assert_eq!(sandbox.read(".bulla/prod.pub"), pin);
    // 256 bits end in one of two letters: the other one is another fingerprint.
    let (head, last) = full.split_at(full.len() - 1);
    let other = format!("{head}{}", if last == "a" { "q" } else { "a" });
    for wrong in [full[..17].to_owned(), other, "x".into()] {
        let run = sandbox.run(&["recipients", "update", "prod", "--accept", &wrong]);
        assert!(run.code != 0 && sandbox.read(".bulla/prod.pub") == pin, "{wrong}: {}", run.err);
    }
    let run = sandbox.run(&["recipients", "update", "prod", "--context", "prod", "--accept", &full]).well();
    assert!(run.err.contains("): accepted\n"), "{}", run.err);
    // A cluster whose key is no pin is not asked to wrap.
    sandbox.write(".bulla/prod.pub", &pin);
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "db.sealed.yaml"]).well();
    let run = sandbox.run(&["reseal", ".", "--live"]);
    assert!(
        run.code == 1 && run.err.contains("which is no recipient of .bulla.yaml: nothing was written"),
        "{}",
        run.err
    );
}

#[test]
fn a_weaker_key_and_a_cluster_of_another_name_are_accepted_by_a_person_only() {
    for renamed in [false, true] {
        let server = Server::start();
        let sandbox = Sandbox::new();
        server.known_to(&sandbox);
        std::fs::create_dir_all(sandbox.path(".git")).expect("a folder");
        sandbox.run(&["init", "--context", "prod", "--as", "prod"]).well();
        let doubt = if renamed {
            next_key(&server);
            sandbox.write(".bulla.yaml", sandbox.read(".bulla.yaml").replace("cluster: prod", "cluster: other"));
            "it calls itself prod"
        } else {
            let classical = Identity::generate(RecipientKind::Classical).expect("randomness");
            let mut state = server.state();
            state.keys.push(("second".into(), classical));
            state.preferred = 1;
            "the pinned key is hybrid, and the new one classical"
        };
        let pin = sandbox.read(".bulla/prod.pub");
        let run = sandbox.run(&["recipients", "update"]);
        assert!(run.code == 1 && run.err.contains(doubt), "{}", run.err);
        assert_eq!(sandbox.read(".bulla/prod.pub"), pin);
        let full = server.state().keys[1].1.recipient().full_fingerprint();
        let run = sandbox.run(&["recipients", "update", "prod", "--accept", &full]).well();
        assert!(run.err.contains("): accepted\n"), "{}", run.err);
    }
}
