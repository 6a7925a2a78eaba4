//! What is asked of a controller, and what is taken from its answers: a server of our own that speaks like an API server before
//! a controller, which may lie. What a real one does is tried in tests/cluster/kubeseal.rs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use bulla::bitnami::{Certificate, reseal};
use serde_json::json;

use super::*;

type Answer = (u16, String);
/// Answers a request by its first line and its body.
type Controller = fn(&str, &str) -> Answer;

struct Server {
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    /// A server behind the folder's kubeconfig, whose Service has one port of this name.
    fn start(sandbox: &Sandbox, port: &'static str, answer: Controller) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
                let mut first = String::new();
                reader.read_line(&mut first).expect("a line");
                let (mut length, mut headers) = (0, String::new());
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).expect("a header");
                    if line.trim().is_empty() {
                        break;
                    }
                    headers.push_str(&line.to_ascii_lowercase());
                    if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = number.trim().parse().expect("a number");
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let body = String::from_utf8(body).expect("text");
                let request = first.trim_end_matches(" HTTP/1.1\r\n").to_owned();
                let (status, text) = if request.ends_with("/services/sealed-secrets-controller") {
                    let ports: Vec<_> =
                        (port != "none").then(|| json!({"name": port, "port": 8080})).into_iter().collect();
                    (
                        200,
                        json!({"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {"ports": ports}})
                            .to_string(),
                    )
                } else if request.contains("/proxy/") {
                    answer(&request, &body)
                } else {
                    let message = "services \"no\" not found";
                    (404, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "NotFound", "code": 404}).to_string())
                };
                seen.lock().expect("no panic").push((request, format!("{headers}\n{body}")));
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
                _ = stream.write_all(format!("{head}{text}").as_bytes());
            }
        });
        std::fs::create_dir_all(sandbox.path("home/.kube")).expect("a folder");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        });
        sandbox.write("home/.kube/config", config.to_string());
        Self { requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").iter().map(|(request, _)| request.clone()).collect()
    }

    fn last(&self) -> String {
        self.requests.lock().expect("no panic").last().expect("a request").1.clone()
    }
}

fn certificate(request: &str, _: &str) -> Answer {
    if request.ends_with("/v1/cert.pem") { (200, pem(0, "certificate").into()) } else { (404, String::new()) }
}

#[test]
fn the_certificate_comes_through_the_service_proxy_by_the_ports_name() {
    for (port, name) in [("http", "http"), ("web", "web"), ("", "")] {
        let sandbox = folder();
        let server = Server::start(&sandbox, port, certificate);
        assert_eq!(kubeseal(&sandbox, &["--fetch-cert"], "").well().text(), pem(0, "certificate"));
        let run = kubeseal(&sandbox, &[], SECRET).well();
        assert_eq!(value(&opened(&run.text()), "password"), "hunter2");
        let service = "/api/v1/namespaces/kube-system/services";
        let expected = [
            format!("GET {service}/sealed-secrets-controller"),
            format!("GET {service}/http:sealed-secrets-controller:{name}/proxy/v1/cert.pem"),
        ];
        assert_eq!(server.requests()[..2], expected);
    }
    let sandbox = folder();
    let server = Server::start(&sandbox, "none", certificate);
    refused(
        &kubeseal(&sandbox, &["--fetch-cert"], ""),
        "the service kube-system/sealed-secrets-controller has no ports\n",
    );
    let run = kubeseal(&sandbox, &["--controller-name", "no", "--controller-namespace", "x", "--fetch-cert"], "");
    refused(&run, "cannot get sealed secret service: services \"no\" not found.\n");
    assert!(run.err.contains("--controller-name and --controller-namespace"), "{}", run.err);
    assert_eq!(server.requests().pop().expect("a request"), "GET /api/v1/namespaces/x/services/no");
    for name in ["../secrets", "a/b", "", "a:b"] {
        let run = kubeseal(&sandbox, &["--controller-name", name, "--fetch-cert"], "");
        refused(&run, &format!("--controller-name \"{name}\" can't be a name in a cluster\n"));
    }
}

#[test]
fn who_asks_is_who_the_flags_say() {
    let sandbox = folder();
    let server = Server::start(&sandbox, "http", certificate);
    kubeseal(&sandbox, &["--fetch-cert"], "").well();
    assert!(server.last().contains("authorization: bearer t\r\n"), "{}", server.last());
    let flags = [
        "--fetch-cert",
        "--token",
        "other",
        "--as",
        "jane",
        "--as-group",
        "devs",
        "--as-group",
        "ops",
        "--as-uid",
        "7",
    ];
    kubeseal(&sandbox, &flags, "").well();
    let last = server.last();
    for header in [
        "authorization: bearer other",
        "impersonate-user: jane",
        "impersonate-group: devs",
        "impersonate-group: ops",
        "impersonate-uid: 7",
    ] {
        assert!(last.contains(&format!("{header}\r\n")), "{header}: {last}");
    }
    kubeseal(&sandbox, &["--fetch-cert", "--username", "u", "--password", "p"], "").well();
    assert!(server.last().contains("authorization: basic dtpw"), "{}", server.last());
    let run = kubeseal(&sandbox, &["--fetch-cert", "--server", "http://127.0.0.1:1", "--request-timeout", "5s"], "");
    refused(&run, "cannot get sealed secret service: ");
    refused(
        &kubeseal(&sandbox, &["--fetch-cert", "--request-timeout", "soon"], ""),
        "invalid value for --request-timeout: \"soon\"\n",
    );
}

#[test]
fn certificates_that_do_not_come_are_told_of() {
    let sandbox = folder();
    Server::start(&sandbox, "http", |_, _| {
        (503, json!({"kind": "Status", "message": "no endpoints available for service"}).to_string())
    });
    refused(
        &kubeseal(&sandbox, &[], SECRET),
        "cannot fetch certificate: no endpoints available for service (HTTP 503 Service Unavailable)\n",
    );
    Server::start(&sandbox, "http", |_, _| (200, "<html>sign in</html>".into()));
    refused(&kubeseal(&sandbox, &[], SECRET), "the controller's certificate: there is no certificate in it");
}

fn verify(request: &str, body: &str) -> Answer {
    assert!(request.ends_with("/proxy/v1/verify"), "{request}");
    let object: BitnamiSealedSecret = serde_json::from_str(body).expect("a SealedSecret as JSON");
    let opens = open(&object, &[&private_key(0)], None).is_ok();
    (if opens { 200 } else { 409 }, String::new())
}

#[test]
fn the_controller_says_whether_it_opens() {
    let sandbox = folder();
    let server = Server::start(&sandbox, "http", verify);
    let sealed = kubeseal(&sandbox, &["--cert", "cert.pem", "-oyaml"], SECRET).well().text();
    let run = kubeseal(&sandbox, &["--validate"], &sealed).well();
    assert_eq!((run.text().as_str(), run.err.as_str()), ("", ""));
    sandbox.write("sealed.yaml", format!("{sealed}{}", sealed.replace("  name: db", "  name: other")));
    let run = kubeseal(&sandbox, &["--validate", "-f", "sealed.yaml"], "");
    refused(&run, "unable to decrypt sealed secret\n  --> sealed.yaml:");
    assert!(run.err.contains("  shop/other\n"), "{}", run.err);
    // What is not sealed never leaves this machine.
    let before = server.requests().len();
    refused(&kubeseal(&sandbox, &["--validate"], SECRET), "this is a Secret, where a SealedSecret belongs");
    assert_eq!(server.requests().len(), before);
    Server::start(&sandbox, "http", |_, _| (403, json!({"message": "forbidden: no"}).to_string()));
    refused(
        &kubeseal(&sandbox, &["--validate"], &sealed),
        "cannot validate sealed secret: forbidden: no (HTTP 403 Forbidden)\n",
    );
}

/// A controller as the established one is: it forgets the template's labels, its data, and all that it does not know.
fn forgetful(_: &str, body: &str) -> Answer {
    let object: BitnamiSealedSecret = serde_json::from_str(body).expect("a SealedSecret as JSON");
    let certificate = Certificate::from_pem(pem(1, "certificate").as_bytes()).expect("a certificate");
    let mut answer = object.clone();
    match reseal(&object, &[&private_key(0)], None, &certificate) {
        Ok(resealed) => resealed.apply(&mut answer),
        Err(_) => return (409, String::new()),
    }
    answer.spec.template = None;
    let mut answer = serde_json::to_value(answer).expect("JSON");
    answer["metadata"]["creationTimestamp"] = Value::Null;
    (200, answer.to_string())
}

const RICH: (&str, &str) = (
    "  template:\n",
    "  template:   # ours\n    data:\n      url: '{{ .password }}'\n    unheard: {of: [1, true, null]}\n",
);

#[test]
fn only_the_texts_of_the_items_change() {
    let sandbox = folder();
    Server::start(&sandbox, "http", forgetful);
    let plain = kubeseal(&sandbox, &["--cert", "cert.pem", "-oyaml"], SECRET).well().text();
    let rich = plain.replace(RICH.0, RICH.1).replace("  name: db\n  namespace", "  name: db   # kept\n  namespace");
    sandbox.write("sealed.yaml", &rich);
    let run = kubeseal(&sandbox, &["--re-encrypt", "-f", "sealed.yaml"], "").well();
    assert_eq!((run.text().as_str(), run.err.as_str()), ("", ""));
    let after = sandbox.read("sealed.yaml");
    let text = |text: &str| sealed(text)[0].spec.encrypted_data["password"].clone();
    assert_ne!(text(&after), text(&rich));
    assert_eq!(after.replace(&text(&after), &text(&rich)), rich, "everything else is as it was");
    open(&sealed(&after)[0], &[&private_key(1)], None).expect("opens with the new key");
    // From standard input to standard output: YAML as it was, JSON as Go would write it, with all that is in it.
    let yaml = kubeseal(&sandbox, &["--rotate", "-oyaml"], &rich).well().text();
    assert_eq!(yaml.replace(&text(&yaml), &text(&rich)), rich);
    let json = kubeseal(
        &sandbox,
        &["--re-encrypt"],
        &rich.replace("\nmetadata:\n", "\nmetadata:\n  creationTimestamp: null\n"),
    )
    .well()
    .text();
    assert!(json.starts_with("{\n  \"kind\": \"SealedSecret\",\n") && !json.contains("creationTimestamp"), "{json}");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["spec"]["template"]["unheard"], json!({"of": [1, true, null]}));
    assert_eq!(json["spec"]["template"]["data"]["url"], "{{ .password }}");
    // To another file, whose name says the format.
    sandbox.write("old.yaml", &rich);
    kubeseal(&sandbox, &["--re-encrypt", "-f", "old.yaml", "-w", "new.json"], "").well();
    assert!(sandbox.read("new.json").starts_with("{\n"));
    assert_eq!(sandbox.read("old.yaml"), rich);
}

#[test]
fn an_answer_about_anything_else_is_not_taken() {
    fn lie(body: &str, change: impl FnOnce(&mut Value)) -> Answer {
        let (status, text) = forgetful("", body);
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut answer);
        (status, answer.to_string())
    }
    let liars: [(Controller, &str); 8] = [
        (
            |_, body| lie(body, |a| a["metadata"]["name"] = "other".into()),
            "it is about another name, namespace or scope",
        ),
        (
            |_, body| {
                lie(body, |a| a["metadata"]["annotations"] = json!({"sealedsecrets.bitnami.com/cluster-wide": "true"}))
            },
            "it is about another name, namespace or scope",
        ),
        (
            |_, body| lie(body, |a| a["spec"]["encryptedData"]["more"] = "AgAA".into()),
            "its items are not those that were sent",
        ),
        (|_, body| lie(body, |a| a["spec"]["encryptedData"] = json!({})), "its items are not those that were sent"),
        (
            |_, body| lie(body, |a| a["spec"]["encryptedData"]["password"] = "!".into()),
            "spec.encryptedData.password in it is no sealed text",
        ),
        (|_, body| lie(body, |a| a["spec"] = json!({"data": "AgAA"})), "its items are not those that were sent"),
        (|_, _| (200, "<html>".into()), "the answer is no SealedSecret"),
        (|_, _| (200, "[]".into()), "the answer is no SealedSecret"),
    ];
    let sandbox = folder();
    let sealed = kubeseal(&sandbox, &["--cert", "cert.pem", "-oyaml"], SECRET).well().text();
    sandbox.write("sealed.yaml", &sealed);
    for (liar, why) in liars {
        Server::start(&sandbox, "http", liar);
        let run = kubeseal(&sandbox, &["--re-encrypt", "-f", "sealed.yaml"], "");
        refused(&run, "cannot re-encrypt secret: ");
        assert!(run.err.contains(why), "{why}: {}", run.err);
        assert_eq!(sandbox.read("sealed.yaml"), sealed);
    }
    Server::start(&sandbox, "http", forgetful);
    let moved = sealed.replace("  name: db", "  name: other");
    let run = kubeseal(&sandbox, &["--re-encrypt"], &moved);
    refused(&run, "unable to rotate secret\n");
}
