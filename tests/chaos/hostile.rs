//! Objects that must not become Secrets, of every kind that somebody could think of.

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bulla::bitnami::CLUSTER_WIDE;
use bulla::metadata::{BITNAMI_KEY_LABEL, BITNAMI_KEY_PREFIX};
use bulla::recipient::{Identity, RecipientKind};
use bulla::scope::Scope;
use serde_json::{Map, Value, json};

use super::model::{Manner, Model, Name, sealed_for};
use super::random::Random;
use crate::rsa::{PAIRS, sealed_theirs};

/// The kinds. Those of bitnami.com begin with its name.
pub const KINDS: [&str; 45] = [
    "a flipped byte",
    "a flipped envelope",
    "moved",
    "for a stranger",
    "garbage items",
    "garbage envelopes",
    "no envelope",
    "a thousand items",
    "a large item",
    "as much as the API server takes",
    "a broken template",
    "a template that tells",
    "an endless template",
    "a deep template",
    "a template that grows",
    "a template that blows up",
    "a key's type",
    "a cluster's credential",
    "a bad label",
    "a type that wants other keys",
    "a bad key",
    "a wider scope",
    "items of another object",
    "bitnami.com: a flipped byte",
    "bitnami.com: moved",
    "bitnami.com: for a stranger",
    "bitnami.com: truncated",
    "bitnami.com: no base64",
    "bitnami.com: garbage items",
    "bitnami.com: a thousand items",
    "bitnami.com: a large item",
    "bitnami.com: as much as the API server takes",
    "bitnami.com: both forms",
    "bitnami.com: a garbage whole",
    "bitnami.com: labels that are numbers",
    "bitnami.com: a broken template",
    "bitnami.com: a template that tells",
    "bitnami.com: an endless template",
    "bitnami.com: a template that calls itself",
    "bitnami.com: a template that blows up",
    "bitnami.com: a key's label",
    "bitnami.com: a key's name",
    "bitnami.com: a cluster's credential",
    "bitnami.com: a bad key",
    "bitnami.com: a wider scope in its template",
];

/// One of a kind.
pub fn make(model: &Model, random: &mut Random, name: &Name, kind: &'static str) -> Result<Value> {
    match kind.strip_prefix("bitnami.com: ") {
        Some(kind) => theirs(model, random, name, kind),
        None => native(model, random, name, kind),
    }
}

fn noise(random: &mut Random, length: usize) -> String {
    let bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    BASE64_STANDARD.encode(&bytes[..length])
}

/// Templates that either kind could hold.
fn template(kind: &str) -> Option<String> {
    let loops = |count: usize| format!("{}x{}", "{{range until 1000}}".repeat(count), "{{end}}".repeat(count));
    Some(match kind {
        "a broken template" => "{{ .item }".to_owned(),
        // Where it fails it has the value in hand.
        "a template that tells" => r#"{{ fail (index . "item-0") }}"#.to_owned(),
        "an endless template" => loops(4),
        "a deep template" => format!("{}x{}", "{{if 1}}".repeat(5000), "{{end}}".repeat(5000)),
        "a template that grows" => {
            r#"{{ $x := index . "item-0" }}{{ range until 64 }}{{ $x = print $x $x }}{{ end }}{{ $x }}"#.to_owned()
        }
        "a template that blows up" => r#"{{ repeat 100000000 (index . "item-0") }}"#.to_owned(),
        "a template that calls itself" => {
            r#"{{ define "t" }}{{ template "t" . }}{{ end }}{{ template "t" . }}"#.to_owned()
        }
        _ => return None,
    })
}

fn native(model: &Model, random: &mut Random, name: &Name, kind: &str) -> Result<Value> {
    let values = model.values(name, 0);
    let mut sealed = model.seal(name, &values)?;
    let head = sealed.spec.items.values().next().and_then(|item| item.sealed.split(':').next());
    let head = head.unwrap_or_default().to_owned();
    match kind {
        "a flipped byte" => {
            for item in sealed.spec.items.values_mut() {
                item.sealed = flipped(&item.sealed);
            }
        }
        "a flipped envelope" => {
            for line in sealed.spec.envelopes.values_mut() {
                *line = flipped(line);
            }
        }
        "moved" => sealed.spec = model.seal(&(name.0.clone(), format!("not-{}", name.1)), &values)?.spec,
        "for a stranger" => {
            let stranger = Identity::generate(RecipientKind::Hybrid)?;
            sealed = sealed_for(stranger.recipient().clone(), name, &values)?;
        }
        "garbage items" => {
            for item in sealed.spec.items.values_mut() {
                item.sealed = noise(random, 300);
            }
        }
        "garbage envelopes" => {
            sealed.spec.envelopes = (0..16).map(|number| (format!("e{number}"), noise(random, 3000))).collect();
        }
        "no envelope" => sealed.spec.envelopes.clear(),
        "a wider scope" => sealed.spec.scope = Some(Scope::ClusterWide),
        "items of another object" => {
            let other = model.seal(&(name.0.clone(), format!("not-{}", name.1)), &values)?;
            sealed.spec.items = other.spec.items;
        }
        _ => {}
    }
    let mut sealed = serde_json::to_value(sealed)?;
    let spec = &mut sealed["spec"];
    match kind {
        "a thousand items" => {
            let items: Map<_, _> = (0..1000).map(|n| (format!("k{n}"), json!({"sealed": noise(random, 90)}))).collect();
            spec["items"] = items.into();
        }
        "a large item" => {
            spec["items"] = json!({"k": {"sealed": format!("{head}:{}", noise(random, 600_000))}});
        }
        "as much as the API server takes" => {
            let items: Map<_, _> = (0..14)
                .map(|n| (format!("k{n}"), json!({"sealed": format!("{head}:{}", noise(random, 70_000))})))
                .collect();
            spec["items"] = items.into();
        }
        "a key's type" => spec["template"] = json!({"type": "bulla.dev/sealing-key"}),
        "a cluster's credential" => spec["template"] = json!({"type": "kubernetes.io/service-account-token"}),
        "a bad label" => spec["template"] = json!({"metadata": {"labels": {"no/label/at all": "?!"}}}),
        "a type that wants other keys" => spec["template"] = json!({"type": "kubernetes.io/tls"}),
        "a bad key" => spec["template"] = json!({"data": {"../../etc/passwd": "x"}}),
        _ => {}
    }
    if let Some(text) = template(kind) {
        spec["template"] = json!({"data": {"out": text}});
    }
    Ok(sealed)
}

fn theirs(model: &Model, random: &mut Random, name: &Name, kind: &str) -> Result<Value> {
    let renamed = (name.0.clone(), BITNAMI_KEY_PREFIX.to_owned());
    let name = if kind == "a key's name" { &renamed } else { name };
    let values = model.values(name, 0);
    let seal = |name: &Name| model.seal_theirs(name, &values, Manner::Owned).map(serde_json::to_value);
    let other = (name.0.clone(), format!("not-{}", name.1));
    let mut sealed = match kind {
        "moved" | "a wider scope in its template" => seal(&other)??,
        "for a stranger" => {
            let data = values.iter().map(|(key, value)| (key.as_str(), value.as_bytes()));
            let stranger = PAIRS[super::world::RSA_KEYS.len()].certificate();
            serde_json::to_value(sealed_theirs(&stranger, &name.0, &name.1, Scope::Strict, data)?)?
        }
        _ => seal(name)??,
    };
    sealed["metadata"]["name"] = name.1.clone().into();
    // The length of a wrapped key, as it should be, and a ciphertext behind it.
    let item = |random: &mut Random, length| {
        let mut bytes = vec![1, 0];
        bytes.extend((0..256 + length).map(|_| random.next().to_le_bytes()[0]));
        BASE64_STANDARD.encode(bytes)
    };
    let spec = &mut sealed["spec"];
    let change = |spec: &mut Value, change: &mut dyn FnMut(&str) -> String| {
        for (_, value) in spec["encryptedData"].as_object_mut().into_iter().flatten() {
            *value = change(value.as_str().unwrap_or_default()).into();
        }
    };
    match kind {
        "a flipped byte" => change(spec, &mut flipped),
        "truncated" => change(spec, &mut |text| text[..text.len() / 4 * 2].to_owned()),
        "no base64" => change(spec, &mut |text| format!("!{text}")),
        "garbage items" => change(spec, &mut |_| noise(random, 300)),
        "a thousand items" => {
            let items: Map<_, _> = (0..1000).map(|n| (format!("k{n}"), item(random, 60).into())).collect();
            spec["encryptedData"] = items.into();
        }
        "a large item" => spec["encryptedData"] = json!({"k": item(random, 600_000)}),
        "as much as the API server takes" => {
            let items: Map<_, _> = (0..14).map(|n| (format!("k{n}"), item(random, 70_000).into())).collect();
            spec["encryptedData"] = items.into();
        }
        "both forms" => spec["data"] = noise(random, 600).into(),
        "a garbage whole" => {
            spec["encryptedData"] = json!({});
            spec["data"] = item(random, 600).into();
        }
        "labels that are numbers" => spec["template"] = json!({"metadata": {"labels": {"a": 5}}}),
        "a key's label" => spec["template"] = json!({"metadata": {"labels": { BITNAMI_KEY_LABEL: "active" }}}),
        "a cluster's credential" => spec["template"] = json!({"type": "bootstrap.kubernetes.io/token"}),
        "a bad key" => spec["template"] = json!({"data": {"../../etc/passwd": "x"}}),
        "a wider scope in its template" => {
            spec["template"] = json!({"metadata": {"annotations": { CLUSTER_WIDE: "true" }}});
        }
        _ => {}
    }
    if let Some(text) = template(kind) {
        spec["template"] = json!({"data": {"out": text}});
    }
    Ok(sealed)
}

/// With a character near its end exchanged for another that base64 knows.
fn flipped(text: &str) -> String {
    let at = text.len().saturating_sub(12);
    let other = if text[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}
