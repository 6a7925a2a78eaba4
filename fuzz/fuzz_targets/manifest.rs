//! Manifests: reading never panics, what is not touched keeps its bytes, and what is written is read back the same.
#![no_main]

use bulla::manifest::emit::{sealed_json, sealed_yaml, secrets_json, secrets_yaml};
use bulla::manifest::{SealedManifest, Stream};
use libfuzzer_sys::fuzz_target;

fn first_sealed(text: &[u8]) -> SealedManifest {
    let stream = Stream::read(text).expect("what is written is read");
    let object = stream.object(0).expect("one object");
    object.sealed().expect("a SealedSecret").manifest
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(stream) = Stream::read(bytes) else { return };
    for object in stream.objects() {
        if let Ok(view) = object.sealed() {
            assert_eq!(first_sealed(sealed_yaml(&view.manifest).as_bytes()), view.manifest);
            assert_eq!(first_sealed(sealed_json(&view.manifest).as_bytes()), view.manifest);
        }
        if let Ok(secret) = object.secret() {
            for text in [secrets_yaml(std::slice::from_ref(&secret)), secrets_json(std::slice::from_ref(&secret))] {
                let again = Stream::read(text.as_bytes()).expect("what is written is read");
                let again = again.object(0).expect("one object").secret().expect("a Secret");
                assert!(again == secret, "a Secret changed on its way through text");
            }
        }
    }
});
