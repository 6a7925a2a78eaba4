//! Key stores of Java and PKCS#12: whether there is a private key in one. That can be seen without its password.

/// Whether these bytes are a key store with a private key.
pub fn has_private_key(bytes: &[u8]) -> bool {
    match bytes {
        // JKS and JCEKS.
        [0xfe, 0xed, 0xfe, 0xed, rest @ ..] | [0xce, 0xce, 0xce, 0xce, rest @ ..] => java(rest).unwrap_or(false),
        [0x30, ..] => {
            // The types of bags that hold keys, in the clear around what is encrypted: keyBag and pkcs8ShroudedKeyBag.
            const BAG: &[u8] = &[0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
            let head = &bytes[..bytes.len().min(1024 * 1024)];
            head.windows(BAG.len() + 1).any(|window| window.starts_with(BAG) && matches!(window.last(), Some(1 | 2)))
        }
        _ => false,
    }
}

/// Whether a file is a key store by its name.
pub fn is_one(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".p12", ".pfx", ".jks", ".jceks", ".keystore", ".ks"].iter().any(|end| lower.ends_with(end))
}

/// Entries one after the other: a private or secret key, or a certificate to trust, which is passed over.
fn java(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes;
    let mut take = |count: usize| -> Option<&[u8]> {
        let (head, tail) = rest.split_at_checked(count)?;
        rest = tail;
        Some(head)
    };
    let _version = take(4)?;
    let count = number(take(4)?);
    for _ in 0..count.min(10_000) {
        let tag = number(take(4)?);
        let alias = number(take(2)?);
        take(alias)?;
        take(8)?;
        if tag != 2 {
            return Some(matches!(tag, 1 | 3));
        }
        let kind = number(take(2)?);
        take(kind)?;
        let certificate = number(take(4)?);
        take(certificate)?;
    }
    Some(false)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(tags: &[u8]) -> Vec<u8> {
        let mut out = vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, tags.len() as u8];
        for tag in tags {
            out.extend([0, 0, 0, *tag, 0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 0]);
            if *tag == 2 {
                out.extend([0, 1, b'X', 0, 0, 0, 2, 7, 7]);
            }
        }
        out
    }

    #[test]
    fn stores_with_a_private_key_are_told_from_trust_stores() {
        assert!(has_private_key(&store(&[1])));
        assert!(has_private_key(&store(&[2, 2, 1])));
        assert!(!has_private_key(&store(&[2, 2])));
        assert!(!has_private_key(&store(&[2])[..20]));
        let bag =
            |kind: u8| [&[0x30, 0x20, 6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1], &[kind][..]].concat();
        assert!(has_private_key(&bag(2)));
        assert!(!has_private_key(&bag(3)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            has_private_key(&bytes);
            has_private_key(&[&[0xfe, 0xed, 0xfe, 0xed][..], &bytes].concat());
        }
    }
}
