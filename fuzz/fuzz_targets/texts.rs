//! Items, envelopes, recipients, identities and their files: no text from outside panics, and what is read is written back.
#![no_main]

use bulla::envelope::Envelope;
use bulla::item::SealedText;
use bulla::recipient::{Fingerprint, Identity, Recipient, parse_identities, parse_recipients};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(item) = text.parse::<SealedText>() {
        assert_eq!(item.to_string(), text);
    }
    if let Ok(envelope) = text.parse::<Envelope>() {
        assert_eq!(envelope.to_string(), text);
    }
    if let Ok(recipient) = text.parse::<Recipient>() {
        assert_eq!(recipient.as_str(), text.to_ascii_lowercase());
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string(), text);
    }
    let _ = text.parse::<Identity>().is_ok();
    let _ = parse_recipients(text).is_ok();
    let _ = parse_identities(text).is_ok();
});
