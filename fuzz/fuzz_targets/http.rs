//! What strangers send to the controller: bodies and challenges. Nothing panics, what is read is written back, and nothing is
//! sealed for anybody who is not configured.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bulla::proof::Challenge;
use bulla::recipient::{Identity, RecipientKind};
use bulla::request::{RewrapRequest, parse, parse_reseal, parse_sealed};
use bulla::reseal::{Household, reseal};
use libfuzzer_sys::fuzz_target;

static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(RecipientKind::Classical).expect("randomness"));

fuzz_target!(|body: &[u8]| {
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(challenge) = text.parse::<Challenge>()
    {
        assert_eq!(challenge.to_string(), text);
        assert!(challenge.accept(&IDENTITY).is_err(), "nobody knows the key");
    }
    if let Ok(request) = parse::<RewrapRequest>(body) {
        let again = serde_json::to_vec(&request).expect("JSON");
        assert_eq!(parse::<RewrapRequest>(&again), Ok(request));
    }
    let _ = parse_sealed(body).is_ok();
    if let Ok(request) = parse_reseal(body) {
        let own: BTreeSet<_> = [IDENTITY.recipient().fingerprint()].into();
        let household = Household {
            name: Some("prod"),
            identities: &[&IDENTITY],
            preferred: IDENTITY.recipient(),
            own: &own,
            configured: &[],
        };
        if let Ok(made) = reseal(&request.object, &household, &request.add) {
            assert!(made.spec.items.is_empty(), "nothing from a stranger opens");
        }
    }
});
