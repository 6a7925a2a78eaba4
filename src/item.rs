//! One value, sealed and opened (format.md, "Items"), and the data key that does it.
//!
//! A data key encrypts only inside the process that generated it (rule 1): [`FreshDataKey`] seals and wraps,
//! [`OpenedDataKey`] opens and is wrapped anew, and neither becomes the other.

use std::fmt;
use std::str::FromStr;

use ring::aead::{self, AES_256_GCM, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::encoding::{base32, base64, from_base64, is_base32};
use crate::recipient::RandomnessError;
use crate::scope::{Context, TAG_LEN};
use crate::secret::SecretValue;

/// Bytes of a data key.
pub const DATA_KEY_LEN: usize = 32;
/// The only version of a sealed item.
pub const VERSION: u8 = 1;
/// Bytes of the smallest body that is encrypted: shorter values all look alike.
pub const MIN_BODY: usize = 64;

const ID_LEN: usize = 20;
const NONCE_LEN: usize = 12;
const GCM_TAG_LEN: usize = 16;
const HEADER_LEN: usize = 1 + TAG_LEN + NONCE_LEN;

/// Bytes of the body for `content` bytes of length and value: Padmé, at least [`MIN_BODY`]. Padding adds at most 12 %.
#[must_use]
pub fn padded_len(content: usize) -> usize {
    if content < 2 {
        return MIN_BODY;
    }
    let exponent = content.ilog2();
    let significant = exponent.ilog2() + 1;
    let mask = (1_usize << (exponent.saturating_sub(significant))) - 1;
    MIN_BODY.max(content.saturating_add(mask) & !mask)
}

/// `k` and the base32 of twenty bytes: names a data key without telling anything of it. 33 characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// Characters of the text.
    pub const TEXT_LEN: usize = 33;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text.strip_prefix('k') {
            Some(digits) if digits.len() == Self::TEXT_LEN - 1 && is_base32(digits) => Ok(Self(text.to_owned())),
            _ => Err(TextError::KeyId),
        }
    }
}

/// Why a sealed text can't be read. Anybody can see these: they need no key (format.md, rule 6).
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// The id before the first colon.
    #[error("it does not begin with a data key id (k and 32 of a-z 2-7) and a colon")]
    KeyId,
    /// The fingerprint between the colons.
    #[error("there is no recipient fingerprint (r and 16 of a-z 2-7) between two colons")]
    Fingerprint,
    /// The base64.
    #[error("its base64 is damaged")]
    Base64,
    /// Too few bytes to be an item.
    #[error("it is cut off")]
    Truncated,
    /// A length that no writer makes.
    #[error("its length is none that padding gives: it is damaged")]
    Length,
    /// A version byte of the future.
    #[error("version {0} of the format is not known to this program; a newer one may open it")]
    UnsupportedVersion(u8),
    /// Not an age file of the expected shape.
    #[error("it is not a binary age file for one recipient")]
    AgeFile,
    /// An age file over 4 KiB.
    #[error("its age file is larger than 4 KiB")]
    TooLarge,
}

/// The text of a sealed item, parsed: `k…:base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedText {
    id: KeyId,
    bytes: Vec<u8>,
}

impl SealedText {
    /// Which data key opens it.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// Whether the item was sealed for this context, as far as public bytes tell.
    #[must_use]
    pub fn is_placed(&self, context: &Context) -> bool {
        self.bytes[1..=TAG_LEN] == context.tag()
    }

    /// Bytes of the padded body: all that is visible of the value's length.
    #[must_use]
    pub const fn body_len(&self) -> usize {
        self.bytes.len() - HEADER_LEN - GCM_TAG_LEN
    }
}

impl FromStr for SealedText {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (id, encoded) = text.split_once(':').ok_or(TextError::KeyId)?;
        let id = id.parse()?;
        let bytes = from_base64(encoded).ok_or(TextError::Base64)?;
        match bytes.first() {
            None => return Err(TextError::Truncated),
            Some(&VERSION) => {}
            Some(&other) => return Err(TextError::UnsupportedVersion(other)),
        }
        let body = bytes.len().checked_sub(HEADER_LEN + GCM_TAG_LEN).ok_or(TextError::Truncated)?;
        if body < MIN_BODY {
            return Err(TextError::Truncated);
        }
        if padded_len(body) != body {
            return Err(TextError::Length);
        }
        Ok(Self { id, bytes })
    }
}

impl fmt::Display for SealedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, base64(&self.bytes))
    }
}

/// An item did not open: all failures of decryption look the same (format.md, rule 6).
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
#[error("it does not open: it was changed, or was not sealed for this place")]
pub struct OpenFailed;

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// 32 random bytes, cleared when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct DataKey(Box<[u8; DATA_KEY_LEN]>);

impl DataKey {
    fn new(bytes: &[u8; DATA_KEY_LEN]) -> Self {
        // In its place from the beginning: a box made of a copy leaves the copy on the stack.
        let mut key = Box::new([0; DATA_KEY_LEN]);
        key.copy_from_slice(bytes);
        Self(key)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; DATA_KEY_LEN] {
        &self.0
    }

    fn prk(&self) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"bulla/v1/dek").extract(self.0.as_slice())
    }

    pub(crate) fn id(&self) -> KeyId {
        let mut id = [0; ID_LEN];
        expand(&self.prk(), b"bulla/v1/id", &mut id);
        KeyId(format!("k{}", base32(&id)))
    }

    fn item_key(&self, context: &Context) -> Option<LessSafeKey> {
        let mut bytes = Zeroizing::new([0; 32]);
        expand(&self.prk(), context.as_bytes(), bytes.as_mut_slice());
        UnboundKey::new(&AES_256_GCM, bytes.as_slice()).ok().map(LessSafeKey::new)
    }

    fn seal(&self, context: &Context, value: &[u8], nonce: [u8; NONCE_LEN]) -> Result<SealedText, OpenFailed> {
        let length = u32::try_from(value.len()).map_err(|_| OpenFailed)?;
        let body_len = padded_len(4 + value.len());
        let key = self.item_key(context).ok_or(OpenFailed)?;
        let mut bytes = Vec::with_capacity(HEADER_LEN + body_len + GCM_TAG_LEN);
        bytes.push(VERSION);
        bytes.extend_from_slice(&context.tag());
        bytes.extend_from_slice(&nonce);
        // From here on the buffer holds plaintext until it is encrypted in place: nothing in between returns.
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(HEADER_LEN + body_len, 0);
        let tag = key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(context.as_bytes()),
            &mut bytes[HEADER_LEN..],
        );
        let Ok(tag) = tag else {
            bytes.zeroize();
            return Err(OpenFailed);
        };
        bytes.extend_from_slice(tag.as_ref());
        Ok(SealedText { id: self.id(), bytes })
    }

    fn open(&self, context: &Context, sealed: &SealedText) -> Result<SecretValue, OpenFailed> {
        let (header, body) = sealed.bytes.split_at(HEADER_LEN);
        let nonce: [u8; NONCE_LEN] = header[1 + TAG_LEN..].try_into().map_err(|_| OpenFailed)?;
        let key = self.item_key(context).ok_or(OpenFailed)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = key
            .open_in_place(Nonce::assume_unique_for_key(nonce), aead::Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| OpenFailed)?;
        let (length, rest) = plain.split_first_chunk::<4>().ok_or(OpenFailed)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| OpenFailed)?;
        let value = rest.get(..length).ok_or(OpenFailed)?;
        if padded_len(4 + length) != plain.len() || rest[length..].iter().any(|b| *b != 0) {
            return Err(OpenFailed);
        }
        Ok(SecretValue::new(value.to_vec()))
    }
}

/// Expands into `out`, which is far below HKDF's limit of 8,160 bytes.
fn expand(prk: &hkdf::Prk, info: &[u8], out: &mut [u8]) {
    if prk.expand(&[info], Length(out.len())).and_then(|okm| okm.fill(out)).is_err() {
        out.fill(0);
    }
}

/// A data key of this process: it seals items and is wrapped for recipients. It is never written down but wrapped.
pub struct FreshDataKey(pub(crate) DataKey);

impl FreshDataKey {
    /// A new data key from the operating system's randomness: one for each object in each sealing run, and for each item
    /// that is set alone.
    ///
    /// # Errors
    /// [`RandomnessError`].
    pub fn generate() -> Result<Self, RandomnessError> {
        let mut bytes = Zeroizing::new([0; DATA_KEY_LEN]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| RandomnessError)?;
        Ok(Self(DataKey::new(&bytes)))
    }

    /// The id that stands before everything this key has sealed.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.0.id()
    }

    /// Seals one value for one context, with a random nonce.
    ///
    /// # Errors
    /// [`RandomnessError`] when the operating system has none. A value of 4 GiB or more, which the limits refuse long
    /// before, is reported alike.
    pub fn seal(&self, context: &Context, value: &SecretValue) -> Result<SealedText, RandomnessError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| RandomnessError)?;
        self.0.seal(context, value.expose(), nonce).map_err(|_| RandomnessError)
    }
}

impl fmt::Debug for FreshDataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreshDataKey(…)")
    }
}

/// A data key that came out of an envelope: it opens items and may be wrapped anew, and never seals.
pub struct OpenedDataKey {
    pub(crate) key: DataKey,
    id: KeyId,
}

impl OpenedDataKey {
    /// Takes a key that claims to be `id`; `None` when it is another. Compared in constant time.
    pub(crate) fn checked(bytes: &[u8; DATA_KEY_LEN], id: &KeyId) -> Option<Self> {
        let key = DataKey::new(bytes);
        let own = key.id();
        let same = own.0.as_bytes().ct_eq(id.0.as_bytes());
        bool::from(same).then_some(Self { key, id: own })
    }

    /// The id of the items it opens.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// Opens one item in its context.
    ///
    /// # Errors
    /// [`OpenFailed`], for whatever reason.
    pub fn open(&self, context: &Context, sealed: &SealedText) -> Result<SecretValue, OpenFailed> {
        if sealed.id != self.id {
            return Err(OpenFailed);
        }
        self.key.open(context, sealed)
    }
}

impl fmt::Debug for OpenedDataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenedDataKey({})", self.id)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scope::{Place, Scope};
    use proptest::prelude::*;

    pub(crate) fn data_key(bytes: [u8; DATA_KEY_LEN]) -> DataKey {
        DataKey::new(&bytes)
    }

    pub(crate) fn seal_with(key: &DataKey, context: &Context, value: &[u8], nonce: [u8; 12]) -> SealedText {
        key.seal(context, value, nonce).expect("seals")
    }

    fn opened(fresh: &FreshDataKey) -> OpenedDataKey {
        OpenedDataKey::checked(fresh.0.as_bytes(), &fresh.id()).expect("its own id")
    }

    fn context(scope: Scope, namespace: &str, name: &str, key: &str) -> Context {
        Place::new(scope, Some(namespace), Some(name)).expect("a place").context(key).expect("a key")
    }

    const fn cleared<T: ZeroizeOnDrop>() {}
    const _: () = {
        cleared::<DataKey>();
        cleared::<SecretValue>();
    };

    #[test]
    fn padding_has_the_lengths_of_the_specification() {
        for (content, body) in
            [(4, 64), (63, 64), (64, 64), (65, 72), (72, 72), (73, 80), (1000, 1024), (716_804, 720_896)]
        {
            assert_eq!(padded_len(content), body, "{content}");
        }
    }

    proptest! {
        #[test]
        fn padding_is_idempotent_monotonous_and_at_most_twelve_per_cent(content in 4_usize..3_000_000) {
            let padded = padded_len(content);
            prop_assert!(padded >= content);
            prop_assert_eq!(padded_len(padded), padded);
            prop_assert!(padded_len(content + 1) >= padded);
            if content > MIN_BODY {
                prop_assert!((padded - content) * 100 <= content * 12);
            }
        }

        #[test]
        fn opening_gives_back_what_was_sealed(value in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let fresh = FreshDataKey::generate().expect("randomness");
            let context = context(Scope::Strict, "shop", "db", "password");
            let text = fresh.seal(&context, &SecretValue::new(value.clone())).expect("seals").to_string();
            let parsed: SealedText = text.parse().expect("parses");
            prop_assert!(parsed.is_placed(&context));
            let value_again = opened(&fresh).open(&context, &parsed).expect("opens");
            prop_assert_eq!(value_again.expose(), value.as_slice());
            prop_assert_eq!(parsed.to_string(), text);
        }

        #[test]
        fn a_flipped_bit_never_opens(value in proptest::collection::vec(any::<u8>(), 0..200), at in any::<proptest::sample::Index>(), bit in 0_u32..8) {
            let fresh = FreshDataKey::generate().expect("randomness");
            let context = context(Scope::Strict, "shop", "db", "password");
            let mut sealed = fresh.seal(&context, &SecretValue::new(value)).expect("seals");
            let at = at.index(sealed.bytes.len());
            sealed.bytes[at] ^= 1_u8 << bit;
            // The version and the tag are read before the key is used; the tag is bound by the context that it is made of.
            match sealed.to_string().parse::<SealedText>() {
                Ok(parsed) if (1..=TAG_LEN).contains(&at) => prop_assert!(!parsed.is_placed(&context)),
                Ok(parsed) => prop_assert!(opened(&fresh).open(&context, &parsed).is_err()),
                Err(error) => prop_assert!(matches!(error, TextError::UnsupportedVersion(_))),
            }
        }
    }

    #[test]
    fn any_part_of_the_context_changed_does_not_open() {
        let fresh = FreshDataKey::generate().expect("randomness");
        let key = opened(&fresh);
        let there = context(Scope::Strict, "shop", "db", "password");
        let sealed = fresh.seal(&there, &SecretValue::new(b"x".to_vec())).expect("seals");
        assert!(key.open(&there, &sealed).is_ok());
        for other in [
            context(Scope::NamespaceWide, "shop", "db", "password"),
            context(Scope::ClusterWide, "shop", "db", "password"),
            context(Scope::Strict, "live", "db", "password"),
            context(Scope::Strict, "shop", "db2", "password"),
            context(Scope::Strict, "shop", "db", "token"),
            context(Scope::Strict, "shopd", "b", "password"),
        ] {
            assert!(!sealed.is_placed(&other));
            assert_eq!(key.open(&other, &sealed), Err(OpenFailed));
        }
    }

    #[test]
    fn what_a_wider_scope_leaves_open_is_not_bound() {
        assert_eq!(context(Scope::NamespaceWide, "shop", "a", "k"), context(Scope::NamespaceWide, "shop", "b", "k"));
        assert_eq!(context(Scope::ClusterWide, "shop", "a", "k"), context(Scope::ClusterWide, "live", "b", "k"));
    }

    #[test]
    fn damaged_texts_are_told_apart() {
        let fresh = FreshDataKey::generate().expect("randomness");
        let context = context(Scope::Strict, "shop", "db", "password");
        let sealed = fresh.seal(&context, &SecretValue::new(vec![])).expect("seals");
        let text = sealed.to_string();
        let parse = |text: &str| text.parse::<SealedText>().map(|_| ()).expect_err("is refused");
        assert_eq!(parse(""), TextError::KeyId);
        assert_eq!(parse(&text[1..]), TextError::KeyId);
        assert_eq!(parse(&text.replacen('k', "K", 1)), TextError::KeyId);
        assert_eq!(parse(&text[..34]), TextError::Truncated);
        assert_eq!(parse(&text[..text.len() - 1]), TextError::Base64);
        assert_eq!(parse(&format!("{text} ")), TextError::Base64);
        assert_eq!(parse(&text.replace("==", "").replace('=', "")[..70]), TextError::Truncated);
        let mut bytes = sealed.bytes.clone();
        bytes[0] = 2;
        assert_eq!(parse(&format!("{}:{}", sealed.id, base64(&bytes))), TextError::UnsupportedVersion(2));
        bytes[0] = VERSION;
        bytes.push(0);
        assert_eq!(parse(&format!("{}:{}", sealed.id, base64(&bytes))), TextError::Length);
    }

    #[test]
    fn padding_that_is_not_zero_and_lengths_that_are_not_exact_do_not_open() {
        let fresh = FreshDataKey::generate().expect("randomness");
        let there = context(Scope::Strict, "shop", "db", "password");
        let key = fresh.0.item_key(&there).expect("a key");
        let craft = |body: &[u8]| {
            let mut bytes = vec![VERSION];
            bytes.extend_from_slice(&there.tag());
            bytes.extend_from_slice(&[9; NONCE_LEN]);
            let mut body = body.to_vec();
            key.seal_in_place_append_tag(
                Nonce::assume_unique_for_key([9; NONCE_LEN]),
                aead::Aad::from(there.as_bytes()),
                &mut body,
            )
            .expect("seals");
            bytes.extend_from_slice(&body);
            SealedText { id: fresh.id(), bytes }
        };
        let mut body = vec![0; 64];
        body[3] = 3;
        body[4..7].copy_from_slice(b"abc");
        assert_eq!(opened(&fresh).open(&there, &craft(&body)).expect("opens").expose(), b"abc");
        let mut dirty = body.clone();
        dirty[63] = 1;
        assert!(opened(&fresh).open(&there, &craft(&dirty)).is_err());
        let mut long = body.clone();
        long[2] = 1;
        assert!(opened(&fresh).open(&there, &craft(&long)).is_err());
        body.resize(72, 0);
        assert!(opened(&fresh).open(&there, &craft(&body)).is_err());
    }
}
