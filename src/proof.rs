//! Proofs that an answer was given by the holder of a pinned key (docs/proofs.md), both ends.
//!
//! Whoever asks encrypts a random challenge to the recipient that the repository pins. Only the holder of that key can
//! derive the key of the HMAC over path, request, status, answer and state.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::encoding::{base64, from_base64, lp_into};
use crate::envelope::{age_file_kind, decrypt, encrypt};
use crate::limits::MAX_AGE_FILE;
use crate::recipient::{Fingerprint, Identity, RandomnessError, Recipient, RecipientKind};

/// The request header that carries a [`Challenge`].
pub const CHALLENGE_HEADER: &str = "bulla-challenge";
/// The header of the answer that carries a proof.
pub const PROOF_HEADER: &str = "bulla-proof";
/// The path whose proof covers a state.
pub const PROVE_PATH: &str = "/v1/prove";
/// Characters of the longest challenge: a fingerprint, a colon, base64 of an age file of [`MAX_AGE_FILE`] bytes.
pub const MAX_CHALLENGE: usize = Fingerprint::TEXT_LEN + 1 + MAX_AGE_FILE.div_ceil(3) * 4;
/// The key of the published data that a state leaves out: reserved for a signature over the rest.
pub const SIGNATURE_KEY: &str = "signature";

const MAGIC: [u8; 16] = *b"bulla/v1/prove\0\0";
const SECRET_LEN: usize = 32;
const PAYLOAD_LEN: usize = MAGIC.len() + SECRET_LEN;
const KEY_LEN: usize = 32;

/// What a proof speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange<'a> {
    /// The path as the controller serves it, as `/v1/rewrap`.
    pub path: &'a str,
    /// The request's body.
    pub request: &'a [u8],
    /// The answer's HTTP status.
    pub status: u16,
    /// The answer's body.
    pub response: &'a [u8],
    /// For `/v1/prove` what [`state`] gives, else nothing.
    pub state: &'a [u8],
}

/// The bytes that stand for what a cluster publishes: the data of its ConfigMap, without [`SIGNATURE_KEY`].
#[must_use]
pub fn state(data: &BTreeMap<String, String>) -> Vec<u8> {
    let entries = || data.iter().filter(|(key, _)| *key != SIGNATURE_KEY);
    let mut out = u32::try_from(entries().count()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    for (key, value) in entries() {
        lp_into(&mut out, key.as_bytes());
        lp_into(&mut out, value.as_bytes());
    }
    out
}

/// Why there is no proof, or none that counts: one error for whatever reason.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
#[error("there is no proof by the pinned key")]
pub struct Refused;

/// The key of one exchange's proof, which both ends have.
struct ProofKey {
    key: hmac::Key,
    pinned: String,
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl ProofKey {
    fn new(secret: &[u8; SECRET_LEN], pinned: &Recipient) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"bulla/v1/prove").extract(secret);
        prk.expand(&[b"bulla/v1/prove/key"], Length(KEY_LEN)).and_then(|okm| okm.fill(bytes.as_mut_slice())).ok()?;
        Some(Self { key: hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice()), pinned: pinned.as_str().to_owned() })
    }

    fn input(&self, exchange: &Exchange<'_>) -> Vec<u8> {
        let Exchange { path, request, status, response, state } = *exchange;
        let mut out = Vec::with_capacity(4096 + request.len() + response.len() + state.len());
        lp_into(&mut out, b"bulla/v1/answer");
        lp_into(&mut out, self.pinned.as_bytes());
        lp_into(&mut out, path.as_bytes());
        lp_into(&mut out, request);
        out.extend_from_slice(&u32::from(status).to_be_bytes());
        lp_into(&mut out, response);
        lp_into(&mut out, state);
        out
    }
}

/// The asking end of one exchange: a challenge that is made for it alone.
pub struct Challenger {
    key: ProofKey,
    challenge: Challenge,
}

impl Challenger {
    /// A new challenge to the holder of `pinned`.
    ///
    /// # Errors
    /// [`RandomnessError`].
    pub fn new(pinned: &Recipient) -> Result<Self, RandomnessError> {
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        SystemRandom::new().fill(secret.as_mut_slice()).map_err(|_| RandomnessError)?;
        Self::with_secret(pinned, &secret)
    }

    fn with_secret(pinned: &Recipient, secret: &[u8; SECRET_LEN]) -> Result<Self, RandomnessError> {
        let mut payload = Zeroizing::new([0; PAYLOAD_LEN]);
        payload[..MAGIC.len()].copy_from_slice(&MAGIC);
        payload[MAGIC.len()..].copy_from_slice(secret);
        let age = encrypt(pinned, payload.as_slice()).ok_or(RandomnessError)?;
        let key = ProofKey::new(secret, pinned).ok_or(RandomnessError)?;
        Ok(Self { key, challenge: Challenge { fingerprint: pinned.fingerprint(), age, kind: pinned.kind() } })
    }

    /// What is sent in [`CHALLENGE_HEADER`].
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Checks what came back in [`PROOF_HEADER`], in constant time.
    ///
    /// # Errors
    /// [`Refused`]: malformed, or of another exchange, or made by nobody who holds the key.
    pub fn verify(&self, exchange: &Exchange<'_>, proof: &str) -> Result<(), Refused> {
        let proof = from_base64(proof).ok_or(Refused)?;
        hmac::verify(&self.key.key, &self.key.input(exchange), &proof).map_err(|_| Refused)
    }
}

impl fmt::Debug for Challenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenger({})", self.challenge.fingerprint)
    }
}

/// The text of a challenge, parsed: `r…:base64 of a binary age file`.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    fingerprint: Fingerprint,
    age: Vec<u8>,
    kind: RecipientKind,
}

impl Challenge {
    /// Whose key is asked for.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Takes the challenge up: one attempt.
    ///
    /// # Errors
    /// [`Refused`], for whatever reason.
    pub fn accept(&self, identity: &Identity) -> Result<Prover, Refused> {
        if identity.recipient().fingerprint() != self.fingerprint || identity.kind() != self.kind {
            return Err(Refused);
        }
        let payload = decrypt(identity, &self.age).ok_or(Refused)?;
        let (magic, secret) = payload.split_first_chunk::<16>().ok_or(Refused)?;
        let secret: &[u8; SECRET_LEN] = secret.try_into().map_err(|_| Refused)?;
        if *magic != MAGIC {
            return Err(Refused);
        }
        ProofKey::new(secret, identity.recipient()).map(Prover).ok_or(Refused)
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.fingerprint, base64(&self.age))
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({}, {})", self.fingerprint, self.kind)
    }
}

impl FromStr for Challenge {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        if text.len() > MAX_CHALLENGE {
            return Err(Refused);
        }
        let (fingerprint, encoded) = text.split_once(':').ok_or(Refused)?;
        let fingerprint = fingerprint.parse().map_err(|_| Refused)?;
        let age = from_base64(encoded).filter(|age| age.len() <= MAX_AGE_FILE).ok_or(Refused)?;
        let kind = age_file_kind(&age).ok_or(Refused)?;
        Ok(Self { fingerprint, age, kind })
    }
}

/// The answering end of one exchange.
pub struct Prover(ProofKey);

impl Prover {
    /// What is sent in [`PROOF_HEADER`]: 44 characters of base64.
    #[must_use]
    pub fn prove(&self, exchange: &Exchange<'_>) -> String {
        base64(hmac::sign(&self.0.key, &self.0.input(exchange)).as_ref())
    }
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prover(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::envelope::Envelope;
    use crate::item::FreshDataKey;

    fn identity(kind: RecipientKind) -> Identity {
        Identity::generate(kind).expect("randomness")
    }

    fn sent(challenger: &Challenger) -> Challenge {
        challenger.challenge().to_string().parse().expect("parses")
    }

    #[test]
    fn the_holder_of_either_kind_of_key_is_believed() {
        for kind in [RecipientKind::Hybrid, RecipientKind::Classical] {
            let identity = identity(kind);
            let challenger = Challenger::new(identity.recipient()).expect("randomness");
            let exchange =
                Exchange { path: "/v1/rewrap", request: b"{}", status: 200, response: b"{\"results\":[]}", state: b"" };
            let proof = sent(&challenger).accept(&identity).expect("the key").prove(&exchange);
            assert_eq!(proof.len(), 44);
            assert_eq!(challenger.verify(&exchange, &proof), Ok(()));
            // Replayed to another challenge it is worth nothing.
            let other = Challenger::new(identity.recipient()).expect("randomness");
            assert_eq!(other.verify(&exchange, &proof), Err(Refused));
        }
    }

    #[test]
    fn what_is_no_challenge_for_this_key_is_refused_alike() {
        let (own, other) = (identity(RecipientKind::Classical), identity(RecipientKind::Classical));
        let good = Challenger::new(own.recipient()).expect("randomness").challenge().to_string();
        let (_, file) = good.split_once(':').expect("a colon");
        // For another key, under its own name and under ours.
        assert!(good.parse::<Challenge>().expect("parses").accept(&other).is_err());
        let posing = format!("{}:{file}", other.recipient().fingerprint());
        assert!(posing.parse::<Challenge>().expect("parses").accept(&other).is_err());
        // An envelope is no challenge, and a challenge no envelope: nothing is learnt of a data key.
        let key = FreshDataKey::generate().expect("randomness");
        let envelope = Envelope::seal(&key, own.recipient()).expect("randomness");
        let text = envelope.to_string();
        let (_, as_challenge) = text.split_once(':').expect("a colon");
        assert!(as_challenge.parse::<Challenge>().expect("parses").accept(&own).is_err());
        let as_envelope: Envelope = format!("{}:{good}", key.id()).parse().expect("parses");
        assert!(as_envelope.open(&own).is_err());
        for text in [
            "",
            ":",
            "raaaaaaaaaaaaaaaa:",
            "raaaaaaaaaaaaaaaa",
            &format!("{good} "),
            &format!(" {good}"),
            &good[..good.len() - 1],
            &format!("{}:{}", own.recipient().fingerprint(), base64(&[0; 100])),
            &format!("{}:{}", own.recipient().fingerprint(), base64(&vec![b'x'; MAX_AGE_FILE + 1])),
            &format!("{good}{}", "A".repeat(1 << 20)),
        ] {
            assert_eq!(text.parse::<Challenge>().err(), Some(Refused), "{}", text.len());
        }
    }

    #[test]
    fn a_state_is_all_that_is_published_but_the_signature() {
        let mut data = BTreeMap::from([("recipients".to_owned(), "age1…\n".to_owned())]);
        let before = state(&data);
        data.insert(SIGNATURE_KEY.into(), "anything".into());
        assert_eq!(state(&data), before);
        data.insert("cluster".into(), String::new());
        assert_ne!(state(&data), before);
        assert_eq!(state(&BTreeMap::new()), [0; 4]);
    }

    type Owned = (String, Vec<u8>, u16, Vec<u8>, Vec<u8>);

    fn owned() -> impl Strategy<Value = Owned> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        ("/v1/[a-z]{0,8}", bytes(), any::<u16>(), bytes(), bytes())
    }

    fn exchange((path, request, status, response, state): &Owned) -> Exchange<'_> {
        Exchange { path, request, status: *status, response, state }
    }

    proptest! {
        #[test]
        fn a_proof_is_of_one_exchange_only(secret in any::<[u8; 32]>(), said in owned(), heard in owned()) {
            let identity = identity(RecipientKind::Classical);
            let challenger = Challenger::with_secret(identity.recipient(), &secret).expect("randomness");
            let prover = sent(&challenger).accept(&identity).expect("the key");
            let proof = prover.prove(&exchange(&said));
            prop_assert_eq!(challenger.verify(&exchange(&said), &proof), Ok(()));
            prop_assert_eq!(challenger.verify(&exchange(&heard), &proof).is_ok(), said == heard);
            // What ends one field never begins the next.
            let mut shifted = said.clone();
            if let Some(byte) = shifted.3.pop() {
                shifted.4.insert(0, byte);
                prop_assert!(challenger.verify(&exchange(&shifted), &proof).is_err());
            }
        }

        #[test]
        fn a_changed_proof_or_challenge_is_refused(at in any::<proptest::sample::Index>(), bit in 0_u32..7) {
            let identity = identity(RecipientKind::Classical);
            let challenger = Challenger::new(identity.recipient()).expect("randomness");
            let told = Exchange { path: PROVE_PATH, status: 200, ..Exchange::default() };
            let proof = sent(&challenger).accept(&identity).expect("the key").prove(&told);
            let flip = |text: &str| {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at.index(text.len())] ^= 1 << bit;
                String::from_utf8(bytes).expect("ASCII")
            };
            prop_assert!(challenger.verify(&told, &flip(&proof)).is_err());
            let changed = flip(&challenger.challenge().to_string());
            prop_assert!(changed.parse::<Challenge>().and_then(|challenge| challenge.accept(&identity)).is_err());
        }

        #[test]
        fn any_text_is_read_without_a_panic_and_written_back(text in "\\PC{0,200}") {
            if let Ok(challenge) = text.parse::<Challenge>() {
                prop_assert_eq!(challenge.to_string(), text);
            }
        }

        #[test]
        fn states_differ_with_what_they_say(
            one in proptest::collection::btree_map("[a-z]{0,3}", "[a-z]{0,3}", 0..4),
            two in proptest::collection::btree_map("[a-z]{0,3}", "[a-z]{0,3}", 0..4),
        ) {
            prop_assert_eq!(state(&one) == state(&two), one == two);
        }
    }

    #[derive(Deserialize)]
    struct Vectors {
        proofs: Vec<Vector>,
        refused: Vec<RefusedVector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        identity: String,
        secret: String,
        challenge: String,
        path: String,
        request: String,
        status: u16,
        response: String,
        data: Option<BTreeMap<String, String>>,
        state: String,
        proof: String,
    }

    #[derive(Deserialize)]
    struct RefusedVector {
        name: String,
        identity: String,
        challenge: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../tests/vectors/proofs.json")).expect("the vectors parse")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Made by another implementation, from docs/proofs.md alone.
    #[test]
    fn the_published_vectors_hold_at_both_ends() {
        for vector in vectors().proofs {
            let identity: Identity = vector.identity.parse().expect("an identity");
            let state = vector.data.as_ref().map(state).unwrap_or_default();
            assert_eq!(hex(&state), vector.state, "{}", vector.name);
            let exchange = Exchange {
                path: &vector.path,
                request: vector.request.as_bytes(),
                status: vector.status,
                response: vector.response.as_bytes(),
                state: &state,
            };
            let challenge: Challenge = vector.challenge.parse().expect("a challenge");
            assert_eq!(challenge.to_string(), vector.challenge);
            let proof = challenge.accept(&identity).expect("the key").prove(&exchange);
            assert_eq!(proof, vector.proof, "{}", vector.name);
            let mut secret = [0; SECRET_LEN];
            for (byte, at) in secret.iter_mut().zip((0..).step_by(2)) {
                *byte = u8::from_str_radix(&vector.secret[at..at + 2], 16).expect("hexadecimal");
            }
            let challenger = Challenger::with_secret(identity.recipient(), &secret).expect("randomness");
            assert_eq!(challenger.verify(&exchange, &vector.proof), Ok(()), "{}", vector.name);
        }
    }

    #[test]
    fn the_published_refusals_hold() {
        for vector in vectors().refused {
            let identity: Identity = vector.identity.parse().expect("an identity");
            let found = vector.challenge.parse::<Challenge>().and_then(|challenge| challenge.accept(&identity));
            assert!(found.is_err(), "{}", vector.name);
        }
    }
}
