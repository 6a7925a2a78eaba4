//! age's post-quantum recipient, stanza `mlkem768x25519` (C2SP age.md; format.md, "Keys"), for a version of `age` that
//! has none of its own. This file goes away when it has.
//!
//! HPKE in base mode with KEM 0x647a (X-Wing: ML-KEM-768 and X25519), HKDF-SHA256 and ChaCha20-Poly1305.

use std::collections::HashSet;

use age::{DecryptError, EncryptError};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::secrecy::ExposeSecret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use zeroize::{Zeroize, Zeroizing};

/// The stanza's type.
pub(crate) const STANZA: &str = "mlkem768x25519";
/// Bytes of a public key: 1184 of ML-KEM-768, then 32 of X25519.
pub(crate) const PUBLIC_KEY_LEN: usize = 1216;
/// Bytes of the seed that is the private key.
pub(crate) const SEED_LEN: usize = 32;

const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
/// Bytes of the encapsulated key: 1088 of ML-KEM-768, then 32 of X25519.
const ENC_LEN: usize = 1120;
/// Bytes of the stanza's body: the file key and a Poly1305 tag.
const BODY_LEN: usize = FILE_KEY_BYTES + 16;

/// The seven residues that multiply to the neutral element whatever the scalar (and their high bit is ignored):
/// 0, 1, two of order 8, p-1, p, p+1. Little-endian.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    near_p(0xec),
    near_p(0xed),
    near_p(0xee),
];

const fn near_p(low: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = low;
    bytes[31] = 0x7f;
    bytes
}

/// Whether an X25519 share contributes nothing: the shared secret would be zero for every scalar.
pub(crate) fn is_low_order(share: &[u8]) -> bool {
    let Ok(mut share) = <[u8; 32]>::try_from(share) else { return false };
    share[31] &= 0x7f;
    LOW_ORDER.contains(&share)
}

/// Why a public key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    Malformed,
    LowOrder,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey(<XWing as Kem>::PublicKey);

impl PublicKey {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != PUBLIC_KEY_LEN {
            return Err(KeyError::Malformed);
        }
        if is_low_order(&bytes[PUBLIC_KEY_LEN - 32..]) {
            return Err(KeyError::LowOrder);
        }
        <XWing as Kem>::PublicKey::from_bytes(bytes).map(Self).map_err(|_| KeyError::Malformed)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }
}

/// The private key: X-Wing clears its seed when it is dropped.
#[derive(Clone)]
pub(crate) struct PrivateKey(<XWing as Kem>::PrivateKey);

impl PrivateKey {
    pub(crate) fn from_seed(seed: &[u8; SEED_LEN]) -> Option<Self> {
        <XWing as Kem>::PrivateKey::from_bytes(seed).ok().map(Self)
    }

    pub(crate) fn seed(&self) -> Zeroizing<[u8; SEED_LEN]> {
        let mut bytes = self.0.to_bytes();
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        seed.copy_from_slice(&bytes);
        bytes.as_mut_slice().zeroize();
        seed
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(XWing::sk_to_pk(&self.0))
    }
}

impl age::Recipient for PublicKey {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let (enc, body) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.0,
            INFO,
            file_key.expose_secret(),
            &[],
        )
        .map_err(|_| EncryptError::Io(std::io::Error::other("the hybrid recipient could not be used")))?;
        let stanza = Stanza { tag: STANZA.into(), args: vec![STANDARD_NO_PAD.encode(enc.to_bytes())], body };
        Ok((vec![stanza], HashSet::from(["postquantum".to_owned()])))
    }
}

impl age::Identity for PrivateKey {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != STANZA {
            return None;
        }
        let [enc] = stanza.args.as_slice() else { return Some(Err(DecryptError::InvalidHeader)) };
        let enc = match STANDARD_NO_PAD.decode(enc) {
            Ok(enc) if enc.len() == ENC_LEN && stanza.body.len() == BODY_LEN => enc,
            _ => return Some(Err(DecryptError::InvalidHeader)),
        };
        if is_low_order(&enc[ENC_LEN - 32..]) {
            return Some(Err(DecryptError::InvalidHeader));
        }
        let Ok(enc) = <XWing as Kem>::EncappedKey::from_bytes(&enc) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.0,
            &enc,
            INFO,
            &stanza.body,
            &[],
        );
        // A key that does not open a stanza is not its addressee: another stanza may be.
        let opened = Zeroizing::new(opened.ok()?);
        let mut file_key = Box::new([0; FILE_KEY_BYTES]);
        if opened.len() != FILE_KEY_BYTES {
            return Some(Err(DecryptError::InvalidHeader));
        }
        file_key.copy_from_slice(&opened);
        Some(Ok(FileKey::new(file_key)))
    }
}

#[cfg(test)]
mod tests {
    use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
    use ring::rand::SystemRandom;

    use super::*;

    /// ring refuses a zero shared secret: it is the second opinion on the list.
    fn contributes(share: &[u8]) -> bool {
        let own = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).expect("randomness");
        agree_ephemeral(own, &UnparsedPublicKey::new(&X25519, share), |_| ()).is_ok()
    }

    #[test]
    fn every_listed_share_is_of_low_order_with_and_without_the_high_bit() {
        for share in LOW_ORDER {
            for high in [0, 0x80] {
                let mut share = share;
                share[31] |= high;
                assert!(!contributes(&share));
                assert!(is_low_order(&share));
            }
        }
        let mut nine = [0; 32];
        nine[0] = 9;
        assert!(contributes(&nine) && !is_low_order(&nine));
    }

    #[test]
    fn a_public_key_with_a_low_order_share_is_refused() {
        let private = PrivateKey::from_seed(&[7; SEED_LEN]).expect("32 bytes are a seed");
        let mut bytes = private.public().to_bytes();
        assert!(PublicKey::from_bytes(&bytes).is_ok());
        bytes[PUBLIC_KEY_LEN - 32..].fill(0);
        assert_eq!(PublicKey::from_bytes(&bytes).err(), Some(KeyError::LowOrder));
    }
}
