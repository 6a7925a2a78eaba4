//! The published vectors of the native format, made by an independent implementation, and age's own of the hybrid stanza.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use sha2_of::sha256_hex;

use crate::digest::content_digest;
use crate::encoding::from_base64;
use crate::envelope::{Envelope, age_file_kind};
use crate::item::tests::{data_key, seal_with};
use crate::item::{OpenedDataKey, SealedText, padded_len};
use crate::manifest::Stream;
use crate::open::{OpenError, open};
use crate::recipient::{Identity, parse_identities};
use crate::resource::SealedSecret;
use crate::scope::Place;

mod sha2_of {
    use ring::digest;

    pub(super) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
        digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
    }

    pub(super) fn sha256_hex(bytes: &[u8]) -> String {
        hex(&sha256(bytes))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    identities: Vec<NamedIdentity>,
    data_keys: Vec<NamedDataKey>,
    envelopes: Vec<NamedEnvelope>,
    body_lengths: Vec<(usize, usize)>,
    items: Vec<Item>,
    objects: Vec<Object>,
    negative: Vec<Negative>,
}

#[derive(Deserialize)]
struct NamedIdentity {
    name: String,
    kind: String,
    identity: String,
    recipient: String,
    fingerprint: String,
}

#[derive(Deserialize)]
struct NamedDataKey {
    name: String,
    dek: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedEnvelope {
    name: String,
    identity: String,
    data_key: String,
    text: String,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    data_key: String,
    scope: String,
    namespace: String,
    object: String,
    key: String,
    value: Value,
    nonce: String,
    ctx: String,
    tag: String,
    body_length: usize,
    sealed: Option<String>,
    sealed_sha256: Option<String>,
}

#[derive(Deserialize)]
struct Value {
    base64: Option<String>,
    seed: Option<String>,
    length: usize,
}

impl Value {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = match (&self.base64, &self.seed) {
            (Some(text), _) => from_base64(text).expect("base64"),
            (None, Some(seed)) => (0_u32..)
                .flat_map(|block| sha2_of::sha256(&[seed.as_bytes(), &block.to_be_bytes()].concat()))
                .take(self.length)
                .collect(),
            (None, None) => vec![],
        };
        bytes.truncate(self.length);
        bytes
    }
}

#[derive(Deserialize)]
struct Object {
    name: String,
    manifest: serde_json::Value,
    identities: Vec<String>,
    values: BTreeMap<String, String>,
    digest: String,
}

#[derive(Deserialize)]
struct Negative {
    name: String,
    error: String,
    identities: Vec<String>,
    manifest: Option<serde_json::Value>,
    text: Option<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../tests/vectors/native.json")).expect("the vectors parse")
}

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    let bytes: Vec<u8> =
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect();
    bytes.try_into().expect("the length")
}

impl Vectors {
    fn identity(&self, name: &str) -> Identity {
        let named = self.identities.iter().find(|i| i.name == name).expect("a named identity");
        named.identity.parse().expect("an identity")
    }

    fn dek(&self, name: &str) -> [u8; 32] {
        unhex(&self.data_keys.iter().find(|k| k.name == name).expect("a named data key").dek)
    }
}

#[test]
fn identities_and_fingerprints() {
    for named in vectors().identities {
        let identity: Identity = named.identity.parse().expect("an identity");
        assert_eq!(identity.recipient().as_str(), named.recipient, "{}", named.name);
        assert_eq!(identity.recipient().fingerprint().to_string(), named.fingerprint);
        assert_eq!(identity.kind().to_string(), named.kind);
        assert_eq!(identity.expose().as_str(), named.identity);
    }
}

#[test]
fn data_key_ids_and_body_lengths() {
    let vectors = vectors();
    for named in &vectors.data_keys {
        assert_eq!(data_key(unhex(&named.dek)).id().to_string(), named.id, "{}", named.name);
    }
    for (value, body) in vectors.body_lengths {
        assert_eq!(padded_len(4 + value), body);
    }
}

#[test]
fn items_bit_for_bit() {
    let vectors = vectors();
    for item in &vectors.items {
        let scope = item.scope.parse().expect("a scope");
        let place = Place::new(scope, Some(&item.namespace), Some(&item.object)).expect("a place");
        let context = place.context(&item.key).expect("a context");
        assert_eq!(sha2_of::hex(context.as_bytes()), item.ctx, "{}", item.name);
        assert_eq!(sha2_of::hex(&context.tag()), item.tag, "{}", item.name);
        let key = data_key(vectors.dek(&item.data_key));
        let value = item.value.bytes();
        let sealed = seal_with(&key, &context, &value, unhex(&item.nonce));
        assert_eq!(sealed.body_len(), item.body_length);
        let text = sealed.to_string();
        match (&item.sealed, &item.sealed_sha256) {
            (Some(expected), _) => assert_eq!(&text, expected, "{}", item.name),
            (None, hash) => assert_eq!(Some(&sha256_hex(text.as_bytes())), hash.as_ref(), "{}", item.name),
        }
        let opened = OpenedDataKey::checked(key.as_bytes(), &key.id()).expect("its id");
        let parsed: SealedText = text.parse().expect("parses");
        assert_eq!(opened.open(&context, &parsed).expect("opens").expose(), value);
    }
}

#[test]
fn envelopes() {
    let vectors = vectors();
    for named in &vectors.envelopes {
        let identity = vectors.identity(&named.identity);
        let opened = named
            .text
            .parse::<Envelope>()
            .map_err(|_| "malformed")
            .and_then(|envelope| envelope.open(&identity).map_err(|_| "decryption-failed"));
        match (&named.error, opened) {
            (None, Ok(key)) => assert_eq!(key.key.as_bytes(), &vectors.dek(&named.data_key), "{}", named.name),
            (Some(error), Err(found)) => assert_eq!(error, found, "{}", named.name),
            (expected, found) => panic!("{}: expected {expected:?}, found {found:?}", named.name),
        }
    }
}

#[test]
fn objects_open_and_have_their_digest() {
    let vectors = vectors();
    for object in &vectors.objects {
        let sealed: SealedSecret = serde_json::from_value(object.manifest.clone()).expect("a SealedSecret");
        assert_eq!(content_digest(&sealed).expect("a place"), object.digest, "{}", object.name);
        let mut plain = sealed.clone();
        if let Some(template) = &mut plain.spec.template {
            template.data.clear();
        }
        for name in &object.identities {
            let secret = open(&plain, &[&vectors.identity(name)]).expect("opens");
            let values: BTreeMap<_, _> =
                secret.data.iter().map(|(key, value)| (key.clone(), crate::encoding::base64(value.expose()))).collect();
            assert_eq!(values, object.values, "{} as {name}", object.name);
        }
    }
}

#[test]
fn what_must_not_open_does_not_and_says_why() {
    let vectors = vectors();
    for negative in &vectors.negative {
        let identities: Vec<Identity> = negative.identities.iter().map(|name| vectors.identity(name)).collect();
        let identities: Vec<&Identity> = identities.iter().collect();
        let text = negative.text.clone().unwrap_or_else(|| {
            serde_json::to_string(negative.manifest.as_ref().expect("a manifest or a text")).expect("JSON")
        });
        let found = match read(&text) {
            Ok(sealed) => open(&sealed, &identities).map(|_| ()).map_err(|error: OpenError| error.class().as_str()),
            Err(()) => Err("malformed"),
        };
        assert_eq!(found, Err(negative.error.as_str()), "{}", negative.name);
    }
}

/// Reads as strictly as every program of ours does.
fn read(text: &str) -> Result<SealedSecret, ()> {
    let stream = Stream::read(text.as_bytes()).map_err(|_| ())?;
    let view = stream.object(0).ok_or(())?.sealed().map_err(|_| ())?;
    Ok(view.manifest.into())
}

/// age's own vectors are files with a header of `key: value` lines before the age file. `BULLA_CCTV` names their folder:
/// they come from a Go module and are not kept here.
#[test]
fn age_vectors_of_the_hybrid_stanza() {
    let Some(folder) = std::env::var_os("BULLA_CCTV") else {
        assert!(std::env::var_os("CI").is_none(), "age's vectors are not there: BULLA_CCTV is not set");
        eprintln!("skipped: BULLA_CCTV does not name the folder of age's vectors (cargo xtask test makes it)");
        return;
    };
    let mut hybrid = 0;
    for entry in std::fs::read_dir(Path::new(&folder)).expect("the folder of vectors") {
        let path = entry.expect("an entry").path();
        let file = std::fs::read(&path).expect("a vector");
        let end = file.windows(2).position(|two| two == b"\n\n").expect("an empty line after the header");
        let header = std::str::from_utf8(&file[..end]).expect("text");
        let age_file = &file[end + 2..];
        let mut identities = String::new();
        let (mut expect, mut payload) = ("", "");
        for line in header.lines() {
            match line.split_once(": ").expect("key: value") {
                ("expect", value) => expect = value,
                ("payload", value) => payload = value,
                ("identity", value) => identities.extend([value, "\n"]),
                ("file key" | "comment", _) => {}
                (key, _) => panic!("{}: unknown key {key}", path.display()),
            }
        }
        if identities.contains("AGE-SECRET-KEY-PQ-") {
            hybrid += 1;
        }
        let identities = parse_identities(&identities).expect("identities");
        let mut plain = Vec::new();
        let outcome = age::Decryptor::new_buffered(age_file).and_then(|decryptor| {
            let mut reader = decryptor.decrypt(identities.iter().map(|identity| identity.as_age()))?;
            Ok(reader.read_to_end(&mut plain))
        });
        let name = path.display();
        use age::DecryptError as E;
        match (expect, outcome) {
            ("success", Ok(Ok(_))) | ("payload failure", Ok(Err(_))) => {
                assert_eq!(sha256_hex(&plain), payload, "{name}");
            }
            ("payload failure", Err(E::Io(_) | E::InvalidHeader))
            | ("no match", Err(E::NoMatchingKeys | E::KeyDecryptionFailed | E::DecryptionFailed))
            | ("HMAC failure", Err(E::InvalidMac))
            | ("header failure", Err(E::InvalidHeader | E::UnknownFormat | E::Io(_) | E::DecryptionFailed)) => {}
            // age 0.11 takes a stanza without a body; our own look at the header does not.
            ("header failure", Ok(Ok(_))) if age_file_kind(age_file).is_none() => {}
            (expect, outcome) => panic!("{name}: expected {expect}, found {outcome:?}"),
        }
    }
    assert!(hybrid >= 18, "{hybrid} hybrid vectors");
}
