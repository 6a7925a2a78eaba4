//! A SealedSecret as an API server or a request hands it over: looking at it and opening it never panics.
#![no_main]

use std::sync::LazyLock;

use bulla::digest::content_digest;
use bulla::open::{Strictness, inspect, object_size, open};
use bulla::recipient::Identity;
use bulla::resource::SealedSecret;
use libfuzzer_sys::fuzz_target;

static IDENTITY: LazyLock<Option<Identity>> = LazyLock::new(|| {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/native.json")).ok()?;
    vectors["identities"][2]["identity"].as_str()?.parse().ok()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(sealed) = serde_json::from_slice::<SealedSecret>(bytes) else { return };
    let _ = object_size(&sealed);
    let _ = content_digest(&sealed).is_ok();
    let writer = inspect(&sealed, Strictness::Writer).is_ok();
    let reader = inspect(&sealed, Strictness::Reader).is_ok();
    assert!(reader || !writer, "what a writer takes a reader takes");
    if let Some(identity) = &*IDENTITY {
        let _ = open(&sealed, &[identity]).is_ok();
    }
});
