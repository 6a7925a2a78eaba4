//! Objects that must not become Secrets, of every kind that somebody could think of.

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bulla::recipient::{Identity, RecipientKind};
use bulla::resource::{SealedItem, SealedSecret, SecretTemplate};

use super::model::{Model, Name, sealed_for};
use super::random::Random;

/// The kinds.
pub const KINDS: [&str; 14] = [
    "a flipped byte",
    "a flipped envelope",
    "moved",
    "for a stranger",
    "garbage items",
    "garbage envelopes",
    "no envelope",
    "a thousand items",
    "a large item",
    "a broken template",
    "an endless template",
    "a deep template",
    "a key's type",
    "a cluster's credential",
];

/// One of a kind.
pub fn make(model: &Model, random: &mut Random, name: &Name, kind: &'static str) -> Result<SealedSecret> {
    let values = model.values(name, 0);
    let mut sealed = model.seal(name, &values)?;
    let mut noise = |length: usize| -> String {
        let bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
        BASE64_STANDARD.encode(bytes)
    };
    let template = |change: &dyn Fn(&mut SecretTemplate)| {
        let mut template = SecretTemplate::default();
        change(&mut template);
        Some(template)
    };
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
        "moved" => {
            let other = (name.0.clone(), format!("not-{}", name.1));
            sealed.spec = model.seal(&other, &values)?.spec;
        }
        "for a stranger" => {
            let stranger = Identity::generate(RecipientKind::Hybrid)?;
            sealed = sealed_for(stranger.recipient().clone(), name, &values)?;
        }
        "garbage items" => {
            for item in sealed.spec.items.values_mut() {
                item.sealed = noise(300);
            }
        }
        "garbage envelopes" => {
            sealed.spec.envelopes = (0..16).map(|number| (format!("e{number}"), noise(3000))).collect();
        }
        "no envelope" => sealed.spec.envelopes.clear(),
        "a thousand items" => {
            sealed.spec.items =
                (0..1000).map(|n| (format!("k{n}"), SealedItem { sealed: noise(90), envelopes: None })).collect();
        }
        "a large item" => {
            let first = sealed.spec.items.values().next().map(|item| item.sealed.clone()).unwrap_or_default();
            let head = first.split(':').next().unwrap_or_default().to_owned();
            sealed.spec.items =
                [("k".to_owned(), SealedItem { sealed: format!("{head}:{}", noise(600_000)), envelopes: None })].into();
        }
        "a broken template" => {
            sealed.spec.template = template(&|t| t.data = [("out".into(), "{{ .item }".into())].into());
        }
        "an endless template" => {
            let nested = format!("{}x{}", "{{range until 1000}}".repeat(4), "{{end}}".repeat(4));
            sealed.spec.template = template(&|t| t.data = [("out".into(), nested.clone())].into());
        }
        "a deep template" => {
            let nested = format!("{}x{}", "{{if 1}}".repeat(5000), "{{end}}".repeat(5000));
            sealed.spec.template = template(&|t| t.data = [("out".into(), nested.clone())].into());
        }
        "a key's type" => {
            sealed.spec.template = template(&|t| t.type_ = Some("bulla.dev/sealing-key".to_owned()));
        }
        _ => {
            sealed.spec.template = template(&|t| t.type_ = Some("kubernetes.io/service-account-token".to_owned()));
        }
    }
    Ok(sealed)
}

/// With a character near its end exchanged for another that base64 knows.
fn flipped(text: &str) -> String {
    let at = text.len().saturating_sub(12);
    let other = if text[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}
