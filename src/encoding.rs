//! Length prefixes, base32 and base64 as format.md writes them.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// RFC 4648 base64, standard alphabet, padded, canonical: nonzero trailing bits are refused.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// LP(bytes): the length as four big-endian bytes, then the bytes.
pub(crate) fn lp(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + bytes.len());
    lp_into(&mut out, bytes);
    out
}

/// Appends LP(bytes). Everything bound here is far below 4 GiB; a longer input would be cut off in its length, so the
/// length saturates and the result simply never matches.
pub(crate) fn lp_into(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// RFC 4648 base32, lower case, unpadded.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity((bytes.len() * 8).div_ceil(5));
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(BASE32[(buffer >> bits & 31) as usize]));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(BASE32[(buffer << (5 - bits) & 31) as usize]));
    }
    out
}

/// Whether all characters are of the base32 alphabet above.
pub(crate) fn is_base32(text: &str) -> bool {
    text.bytes().all(|b| BASE32.contains(&b))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Decodes canonical base64; `None` for anything else.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}
