//! The other format: certificates, keys, items and whole objects from outside never panic, and nothing opens by chance.
#![no_main]

use std::sync::LazyLock;

use bulla::bitnami::{BitnamiSealedSecret, Certificate, PrivateKey, open, open_item, scope_of};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/bitnami.json")).unwrap();
    PrivateKey::from_pem(vectors["keys"][0]["privateKey"].as_str().unwrap().as_bytes()).unwrap()
});

fuzz_target!(|data: &[u8]| {
    let _ = Certificate::from_pem(data).is_ok();
    let _ = PrivateKey::from_pem(data).is_ok();
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = open_item(text, b"shop/db", &[&*KEY], None).is_ok();
    if let Ok(sealed) = serde_json::from_str::<BitnamiSealedSecret>(text) {
        let _ = scope_of(sealed.metadata.annotations.as_ref());
        let _ = open(&sealed, &[&*KEY], None).is_ok();
    }
});
