//! A data key, wrapped for one recipient and unwrapped again (format.md, "Envelopes").

use std::fmt;
use std::io::{Read as _, Write as _};
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::encoding::{base64, from_base64};
use crate::hybrid;
use crate::item::{DATA_KEY_LEN, DataKey, FreshDataKey, KeyId, OpenedDataKey, TextError};
use crate::limits::{MAX_AGE_FILE, MAX_ENVELOPE_TEXT};
use crate::recipient::{Fingerprint, Identity, RandomnessError, Recipient, RecipientKind};

const MAGIC: [u8; 16] = *b"bulla/v1/dek\0\0\0\0";
const PAYLOAD_LEN: usize = MAGIC.len() + DATA_KEY_LEN;

/// The text of one envelope, parsed: `k…:r…:base64 of a binary age file`.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    id: KeyId,
    fingerprint: Fingerprint,
    age: Vec<u8>,
    kind: RecipientKind,
}

impl Envelope {
    /// Which data key is in it.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// For whom.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Hybrid or classical, as its stanza says.
    #[must_use]
    pub const fn kind(&self) -> RecipientKind {
        self.kind
    }

    /// The binary age file: what `age -d` takes.
    #[must_use]
    pub fn age_file(&self) -> &[u8] {
        &self.age
    }

    fn wrap(key: &DataKey, id: KeyId, recipient: &Recipient) -> Result<Self, RandomnessError> {
        let mut payload = Zeroizing::new([0; PAYLOAD_LEN]);
        payload[..MAGIC.len()].copy_from_slice(&MAGIC);
        payload[MAGIC.len()..].copy_from_slice(key.as_bytes());
        let age = encrypt(recipient, payload.as_slice()).ok_or(RandomnessError)?;
        Ok(Self { id, fingerprint: recipient.fingerprint(), age, kind: recipient.kind() })
    }

    /// Wraps a key of this process for a recipient.
    ///
    /// # Errors
    /// [`RandomnessError`].
    pub fn seal(key: &FreshDataKey, recipient: &Recipient) -> Result<Self, RandomnessError> {
        Self::wrap(&key.0, key.id(), recipient)
    }

    /// Wraps an opened key for another recipient.
    ///
    /// # Errors
    /// [`RandomnessError`].
    pub fn reseal(key: &OpenedDataKey, recipient: &Recipient) -> Result<Self, RandomnessError> {
        Self::wrap(&key.key, key.id().clone(), recipient)
    }

    /// Unwraps with the identity whose fingerprint the envelope names: one attempt.
    ///
    /// # Errors
    /// [`UnwrapFailed`], for whatever reason.
    pub fn open(&self, identity: &Identity) -> Result<OpenedDataKey, UnwrapFailed> {
        if identity.recipient().fingerprint() != self.fingerprint || identity.kind() != self.kind {
            return Err(UnwrapFailed);
        }
        let payload = decrypt(identity, &self.age).ok_or(UnwrapFailed)?;
        let (magic, key) = payload.split_first_chunk::<16>().ok_or(UnwrapFailed)?;
        let key: &[u8; DATA_KEY_LEN] = key.try_into().map_err(|_| UnwrapFailed)?;
        if *magic != MAGIC {
            return Err(UnwrapFailed);
        }
        OpenedDataKey::checked(key, &self.id).ok_or(UnwrapFailed)
    }
}

/// An envelope did not open: all failures of decryption look the same (format.md, rule 6).
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
#[error("the envelope does not open: it was changed, or holds another data key")]
pub struct UnwrapFailed;

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.id, self.fingerprint, base64(&self.age))
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({}, {}, {})", self.id, self.fingerprint, self.kind)
    }
}

impl FromStr for Envelope {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let head = EnvelopeHead::parse(text)?;
        if text.len() > MAX_ENVELOPE_TEXT {
            return Err(TextError::TooLarge);
        }
        let age = from_base64(head.encoded).ok_or(TextError::Base64)?;
        if age.len() > MAX_AGE_FILE {
            return Err(TextError::TooLarge);
        }
        let kind = age_file_kind(&age).ok_or(TextError::AgeFile)?;
        Ok(Self { id: head.id, fingerprint: head.fingerprint, age, kind })
    }
}

/// The public beginning of an envelope's text, without its base64 decoded: enough to find one's own line.
pub(crate) struct EnvelopeHead<'a> {
    pub(crate) id: KeyId,
    pub(crate) fingerprint: Fingerprint,
    encoded: &'a str,
}

impl<'a> EnvelopeHead<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, TextError> {
        let (id, rest) = text.split_once(':').ok_or(TextError::KeyId)?;
        let id = id.parse()?;
        let (fingerprint, encoded) = rest.split_once(':').ok_or(TextError::Fingerprint)?;
        let fingerprint = fingerprint.parse().map_err(|_| TextError::Fingerprint)?;
        Ok(Self { id, fingerprint, encoded })
    }

    /// Whether what follows is base64, which is all that a reader asks of another's line.
    pub(crate) fn is_base64(&self) -> bool {
        from_base64(self.encoded).is_some()
    }
}

/// age-encrypts to one recipient; `None` when the operating system gave no randomness.
pub(crate) fn encrypt(recipient: &Recipient, payload: &[u8]) -> Option<Vec<u8>> {
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient.as_age())).ok()?;
    let mut age = Vec::with_capacity(MAX_AGE_FILE);
    let mut writer = encryptor.wrap_output(&mut age).ok()?;
    writer.write_all(payload).ok()?;
    writer.finish().ok()?;
    Some(age)
}

/// age-decrypts a payload of exactly [`PAYLOAD_LEN`] bytes, read to its end.
pub(crate) fn decrypt(identity: &Identity, age: &[u8]) -> Option<Zeroizing<[u8; PAYLOAD_LEN]>> {
    let decryptor = age::Decryptor::new_buffered(age).ok()?;
    let mut reader = decryptor.decrypt(std::iter::once(identity.as_age())).ok()?;
    let mut payload = Zeroizing::new([0; PAYLOAD_LEN]);
    reader.read_exact(payload.as_mut_slice()).ok()?;
    let mut end = [0];
    matches!(reader.read(&mut end), Ok(0)).then_some(payload)
}

/// Of which kind the one stanza is, when the bytes begin like an envelope's age file: version 1, exactly one stanza of a
/// known type besides grease, and a MAC (format.md, rule 4). No key is needed.
pub(crate) fn age_file_kind(age: &[u8]) -> Option<RecipientKind> {
    let mut lines = age.split_inclusive(|byte| *byte == b'\n');
    let mut next = || std::str::from_utf8(lines.next()?.strip_suffix(b"\n")?).ok();
    if next()? != "age-encryption.org/v1" {
        return None;
    }
    let mut kind = None;
    let mut line = next()?;
    while let Some(stanza) = line.strip_prefix("-> ") {
        let mut words = stanza.split(' ');
        let name = words.next()?;
        if name.is_empty() || words.any(str::is_empty) {
            return None;
        }
        if name != "grease" && !name.ends_with("-grease") {
            let this = match name {
                hybrid::STANZA => RecipientKind::Hybrid,
                "X25519" => RecipientKind::Classical,
                _ => return None,
            };
            if kind.replace(this).is_some() {
                return None;
            }
        }
        // The body: full lines of 64 characters, then one that is shorter, and may be empty.
        loop {
            let body = next()?;
            if body.len() > 64 || !body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')) {
                return None;
            }
            if body.len() < 64 {
                break;
            }
        }
        line = next()?;
    }
    (line.strip_prefix("--- ")?.len() == 43).then_some(kind)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [RecipientKind; 2] = [RecipientKind::Hybrid, RecipientKind::Classical];

    #[test]
    fn an_envelope_opens_for_its_recipient_alone() {
        for kind in KINDS {
            let mine = Identity::generate(kind).expect("randomness");
            let other = Identity::generate(kind).expect("randomness");
            let key = FreshDataKey::generate().expect("randomness");
            let text = Envelope::seal(&key, mine.recipient()).expect("wraps").to_string();
            let parsed: Envelope = text.parse().expect("parses");
            assert_eq!(parsed.kind(), kind);
            assert_eq!(parsed.open(&mine).expect("opens").id(), &key.id());
            assert!(parsed.open(&other).is_err());
        }
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let mine = Identity::generate(RecipientKind::Hybrid).expect("randomness");
        let key = FreshDataKey::generate().expect("randomness");
        let envelope = Envelope::seal(&key, mine.recipient()).expect("wraps");
        for at in (0..envelope.age.len()).step_by(7) {
            let mut changed = envelope.clone();
            changed.age[at] ^= 1;
            let parsed = changed.to_string().parse::<Envelope>();
            assert!(parsed.is_err() || parsed.is_ok_and(|e| e.open(&mine).is_err()), "byte {at}");
        }
    }

    #[test]
    fn an_envelope_that_holds_another_key_is_refused() {
        let mine = Identity::generate(RecipientKind::Hybrid).expect("randomness");
        let (one, two) = (FreshDataKey::generate().expect("ok"), FreshDataKey::generate().expect("ok"));
        let mut envelope = Envelope::seal(&one, mine.recipient()).expect("wraps");
        envelope.id = two.id();
        assert_eq!(envelope.open(&mine).err(), Some(UnwrapFailed));
    }

    #[test]
    fn age_files_of_another_shape_are_refused() {
        let mine = Identity::generate(RecipientKind::Hybrid).expect("randomness");
        let also = Identity::generate(RecipientKind::Hybrid).expect("randomness");
        let key = FreshDataKey::generate().expect("randomness");
        let envelope = Envelope::seal(&key, mine.recipient()).expect("wraps");
        let parse = |age: Vec<u8>| Envelope { age, ..envelope.clone() }.to_string().parse::<Envelope>();
        let with = |age: Vec<u8>| parse(age).map(|_| ()).expect_err("is refused");
        // A payload of another length opens for nobody; two recipients, armour, nothing are no envelopes at all.
        for payload in [&[0; PAYLOAD_LEN - 1][..], &[0; PAYLOAD_LEN + 1], &[]] {
            let parsed = parse(encrypt(mine.recipient(), payload).expect("encrypts")).expect("an age file");
            assert_eq!(parsed.open(&mine).err(), Some(UnwrapFailed));
        }
        let both = [mine.recipient().as_age(), also.recipient().as_age()];
        let encryptor = age::Encryptor::with_recipients(both.into_iter()).expect("two recipients");
        let mut age = Vec::new();
        let mut writer = encryptor.wrap_output(&mut age).expect("writes");
        writer.write_all(&[0; PAYLOAD_LEN]).expect("writes");
        writer.finish().expect("writes");
        assert!(age.len() <= MAX_AGE_FILE);
        assert_eq!(with(age), TextError::AgeFile);
        assert_eq!(with(b"-----BEGIN AGE ENCRYPTED FILE-----\n".to_vec()), TextError::AgeFile);
        assert_eq!(with(vec![]), TextError::AgeFile);
        assert_eq!(with(vec![b'a'; MAX_AGE_FILE + 1]), TextError::TooLarge);
        let mut twice = envelope.age.clone();
        twice.extend_from_slice(&envelope.age);
        assert!(parse(twice).map_or(true, |parsed| parsed.open(&mine).is_err()));
    }

    #[test]
    fn a_payload_without_the_magic_is_refused() {
        let mine = Identity::generate(RecipientKind::Classical).expect("randomness");
        let key = FreshDataKey::generate().expect("randomness");
        let mut payload = [0; PAYLOAD_LEN];
        payload[16..].copy_from_slice(key.0.as_bytes());
        let envelope = Envelope {
            id: key.id(),
            fingerprint: mine.recipient().fingerprint(),
            age: encrypt(mine.recipient(), &payload).expect("encrypts"),
            kind: RecipientKind::Classical,
        };
        assert_eq!(envelope.open(&mine).err(), Some(UnwrapFailed));
    }
}
