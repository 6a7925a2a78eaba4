//! Values made up.

use std::os::unix::fs::PermissionsExt as _;

use crate::sandbox::{Run, Sandbox, finish};

fn set(sandbox: &Sandbox, args: &[&str], input: &str) -> Run {
    sandbox
        .with_input(&[&["set", "s.yaml", "-n", "shop", "--name", "x", "-R", "key.txt.pub"][..], args].concat(), input)
}

fn value(sandbox: &Sandbox, key: &str) -> Vec<u8> {
    sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "--key", key]).well().out
}

/// A tool's answer about a file that only its owner can read.
fn tool(sandbox: &Sandbox, program: &str, args: &[&str]) -> String {
    finish(
        {
            let mut command = sandbox.command(program);
            command.args(args);
            command
        },
        b"",
    )
    .well()
    .text()
}

#[test]
fn options_of_random_values() {
    let sandbox = Sandbox::new();
    set(&sandbox, &["a", "b", "--generate", "password", "--length", "12", "--alphabet", "digits", "--also", "_"], "")
        .well();
    for key in ["a", "b"] {
        let text = String::from_utf8(value(&sandbox, key)).expect("text");
        assert!(text.len() == 12 && text.chars().all(|c| c.is_ascii_digit() || c == '_'));
    }
    set(&sandbox, &["h", "--generate", "hex", "--length", "5"], "").well();
    assert_eq!(value(&sandbox, "h").len(), 10);
    for (args, message) in [
        (&["u", "--generate", "uuid", "--length", "5"][..], "error: --length has no meaning here\n"),
        (&["u", "--length", "5"], "error: --length goes with --generate\n"),
        (&["--generate", "tls"], "error: --dns is needed\n"),
        (&["--generate", "htpasswd"], "error: --user is needed\n"),
        (&["--generate", "password"], "error: no key is named\n"),
        (&["a", "b", "--generate", "ssh-ed25519"], "error: 2 keys, and a key pair is made for one\n"),
    ] {
        let run = set(&sandbox, args, "");
        assert!(run.code == 2 && run.err.starts_with(message), "{args:?}: {}", run.err);
    }
}

#[test]
fn ssh_key_pairs_are_openssh_s() {
    let sandbox = Sandbox::new();
    let run = set(&sandbox, &["--generate", "ssh-ed25519", "--public-out", "id.pub"], "").well();
    assert!(run.out.is_empty() && run.err.contains("wrote id.pub: ssh public key SHA256:"), "{}", run.err);
    assert!(sandbox.read("s.yaml").contains("type: kubernetes.io/ssh-auth\n"));
    sandbox.write("id", value(&sandbox, "ssh-privatekey"));
    std::fs::set_permissions(sandbox.path("id"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    let public = tool(&sandbox, "ssh-keygen", &["-y", "-f", "id"]);
    assert_eq!(public.trim(), sandbox.read("id.pub").trim());
    assert_eq!(value(&sandbox, "ssh-publickey"), sandbox.bytes("id.pub"));
    let fingerprint = tool(&sandbox, "ssh-keygen", &["-l", "-f", "id.pub"]);
    assert!(run.err.contains(fingerprint.split(' ').nth(1).expect("a fingerprint")), "{fingerprint}");
    let named = set(&sandbox, &["identity", "--generate", "ssh-ed25519", "--public-out", "-"], "").well();
    assert_eq!(value(&sandbox, "identity.pub"), named.out);
    let before = sandbox.bytes("s.yaml");
    let run = set(&sandbox, &["--generate", "ssh-ed25519", "--public-out", "id.pub"], "");
    run.fails(1, "error: id.pub is there already and is not overwritten\n");
    assert_eq!(sandbox.bytes("s.yaml"), before);
}

#[test]
fn certificates_and_requests_fit_their_keys() {
    let sandbox = Sandbox::new();
    let names = ["--dns", "web.example.com", "--dns", "*.example.com", "--dns", "10.0.0.1"];
    let args = [&["--generate", "tls", "--days", "90", "--public-out", "crt.pem"][..], &names].concat();
    let run = set(&sandbox, &args, "").well();
    assert!(sandbox.read("s.yaml").contains("type: kubernetes.io/tls\n"));
    sandbox.write("key.pem", value(&sandbox, "tls.key"));
    let of_key = tool(&sandbox, "openssl", &["pkey", "-in", "key.pem", "-pubout"]);
    assert_eq!(of_key, tool(&sandbox, "openssl", &["x509", "-in", "crt.pem", "-pubkey", "-noout"]));
    assert_eq!(value(&sandbox, "tls.crt"), sandbox.bytes("crt.pem"));
    let text = tool(&sandbox, "openssl", &["x509", "-in", "crt.pem", "-text", "-noout", "-fingerprint", "-sha256"]);
    assert!(text.contains("DNS:web.example.com, DNS:*.example.com, IP Address:10.0.0.1"), "{text}");
    let fingerprint = text.lines().last().and_then(|line| line.split_once('=')).expect("a fingerprint").1;
    assert!(run.err.contains(fingerprint), "{}", run.err);
    tool(&sandbox, "openssl", &["verify", "-CAfile", "crt.pem", "crt.pem"]);
    tool(&sandbox, "openssl", &["x509", "-in", "crt.pem", "-noout", "-checkend", "7689600"]);

    let args = [&["web", "--generate", "tls", "--csr", "--public-out", "-"][..], &names].concat();
    let run = set(&sandbox, &args, "").well();
    sandbox.write("csr.pem", &run.out);
    sandbox.write("key.pem", value(&sandbox, "web.key"));
    let of_key = tool(&sandbox, "openssl", &["pkey", "-in", "key.pem", "-pubout"]);
    assert!(tool(&sandbox, "openssl", &["req", "-in", "csr.pem", "-pubkey", "-noout", "-verify"]).contains(&of_key));
    let run = set(&sandbox, &["--generate", "tls", "--dns", "a b"], "");
    assert!(run.code == 2 && run.err.contains("is no host name"), "{}", run.err);
}

#[test]
fn passwords_of_others_formats() {
    let sandbox = Sandbox::new();
    let run = set(&sandbox, &["--generate", "htpasswd", "--user", "admin"], "hunter2\n").well();
    assert!(!run.err.contains("hunter2"));
    let line = String::from_utf8(value(&sandbox, "auth")).expect("text");
    assert!(line.starts_with("admin:$2y$10$") && line.ends_with('\n') && line.len() == 67, "{line}");
    set(&sandbox, &["users", "--generate", "htpasswd", "--user", "bob", "--password-key", "pw", "--length", "20"], "")
        .well();
    assert_eq!((value(&sandbox, "pw").len(), &value(&sandbox, "users")[..4]), (20, &b"bob:"[..]));
    set(&sandbox, &["--generate", "htpasswd", "--user", "a"], "").code.checked_sub(1).expect("fails");
    let docker = ["--generate", "dockerconfigjson", "--docker-server", "registry.example.com", "--user", "ci"];
    set(&sandbox, &docker, "to\"ken").well();
    let config: serde_json::Value = serde_json::from_slice(&value(&sandbox, ".dockerconfigjson")).expect("JSON");
    let entry = &config["auths"]["registry.example.com"];
    assert_eq!((entry["username"].as_str(), entry["password"].as_str()), (Some("ci"), Some("to\"ken")));
}
