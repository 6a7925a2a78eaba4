//! Randomness, and texts made of it.

use std::collections::BTreeSet;

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::cli::Alphabet;
use crate::failure::{Failure, Result};

/// So many bytes of the operating system's randomness.
pub fn bytes(count: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; count]);
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::new("the operating system gave no randomness"))?;
    Ok(bytes)
}

/// The characters to choose from, each once.
pub fn alphabet(name: Alphabet, also: Option<&str>) -> Result<Vec<u8>> {
    let alike = |byte: &u8| !b"0O1Il".contains(byte);
    let graphic = || (b'!'..=b'~').filter(|byte| !b"\"'`\\".contains(byte));
    let alphanumeric = || (0..=127_u8).filter(u8::is_ascii_alphanumeric);
    let mut found: BTreeSet<u8> = match name {
        Alphabet::Alphanumeric => alphanumeric().collect(),
        Alphabet::Letters => alphanumeric().filter(u8::is_ascii_alphabetic).collect(),
        Alphabet::Lowercase => alphanumeric().filter(|byte| !byte.is_ascii_uppercase()).collect(),
        Alphabet::Digits => (b'0'..=b'9').collect(),
        Alphabet::Url => alphanumeric().chain(*b"-_").collect(),
        Alphabet::Readable => alphanumeric().filter(alike).collect(),
        Alphabet::Symbols => graphic().collect(),
    };
    for byte in also.unwrap_or_default().bytes() {
        if !byte.is_ascii_graphic() {
            return Err(Failure::usage("--also: only visible ASCII characters"));
        }
        found.insert(byte);
    }
    Ok(found.into_iter().collect())
}

/// Which of `count` a random number of 128 bits means. No draw is rejected, so the time says nothing, and no character is
/// likelier than another by more than 2^-120.
const fn pick(random: u128, count: usize) -> usize {
    (random % count as u128) as usize
}

/// So many characters of an alphabet that is not empty.
pub fn characters(alphabet: &[u8], count: usize) -> Result<Zeroizing<Vec<u8>>> {
    let random = bytes(16 * count)?;
    let mut text = Zeroizing::new(Vec::with_capacity(count));
    let (draws, _) = random.as_chunks::<16>();
    text.extend(draws.iter().filter_map(|draw| alphabet.get(pick(u128::from_le_bytes(*draw), alphabet.len().max(1)))));
    Ok(text)
}

pub fn hex(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(Vec::with_capacity(2 * bytes.len()));
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}

pub fn base64(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    use base64::Engine as _;
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    base64::engine::general_purpose::STANDARD.encode_string(bytes, &mut text);
    Zeroizing::new(std::mem::take(&mut *text).into_bytes())
}

/// Version 4, variant 1 (RFC 9562).
pub fn uuid() -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = bytes(16)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = Zeroizing::new(Vec::with_capacity(36));
    for (index, digit) in hex(&bytes).iter().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            text.push(b'-');
        }
        text.push(*digit);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{alphabet, base64, characters, hex, pick};
    use crate::cli::Alphabet;

    #[test]
    fn all_characters_are_about_as_likely() {
        // 62 boxes of 2,000 on average: one that is off by a quarter is eleven standard deviations away.
        let alphabet = alphabet(Alphabet::Alphanumeric, None).expect("an alphabet");
        let mut counts = [0_usize; 256];
        for byte in characters(&alphabet, 62 * 2000).expect("randomness").iter() {
            counts[usize::from(*byte)] += 1;
        }
        assert_eq!(alphabet.len(), 62);
        for (byte, count) in counts.iter().enumerate() {
            let wanted = if (byte as u8).is_ascii_alphanumeric() { 1500..2500 } else { 0..1 };
            assert!(wanted.contains(count), "{byte}: {count}");
        }
    }

    #[test]
    fn alphabets_are_what_they_say() {
        for (name, count) in [
            (Alphabet::Letters, 52),
            (Alphabet::Lowercase, 36),
            (Alphabet::Digits, 10),
            (Alphabet::Url, 64),
            (Alphabet::Readable, 57),
            (Alphabet::Symbols, 90),
        ] {
            assert_eq!(alphabet(name, None).expect("an alphabet").len(), count, "{name:?}");
        }
        assert_eq!(alphabet(Alphabet::Digits, Some("0a")).expect("an alphabet"), b"0123456789a");
        assert!(alphabet(Alphabet::Digits, Some("ä")).is_err() && alphabet(Alphabet::Digits, Some(" ")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_picked_is_there(random: u128, count in 1_usize..100) {
            prop_assert!(pick(random, count) < count);
            prop_assert_eq!(pick(random, count), pick(random - random % count as u128, count) + pick(random, count));
        }

        #[test]
        fn passwords_are_of_their_alphabet_and_length(count in 1_usize..300, also in "[!-~]{0,10}") {
            let alphabet = alphabet(Alphabet::Digits, Some(&also)).expect("an alphabet");
            let text = characters(&alphabet, count).expect("randomness");
            prop_assert_eq!(text.len(), count);
            prop_assert!(text.iter().all(|byte| alphabet.contains(byte)));
        }

        #[test]
        fn encodings_come_back(bytes: Vec<u8>) {
            use base64::Engine as _;
            let back = base64::engine::general_purpose::STANDARD.decode(&*base64(&bytes)).expect("base64");
            prop_assert_eq!(&back, &bytes);
            let text = String::from_utf8(hex(&bytes).to_vec()).expect("text");
            let back: Vec<u8> = (0..bytes.len()).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect();
            prop_assert_eq!(back, bytes);
        }
    }
}
