#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use clap::Parser as _;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde::Deserialize;

use bulla::bitnami::PrivateKeyError;

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pair {
    private_key: String,
    certificate: String,
}

/// Made by Go: PKCS#1 and PKCS#8.
static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../../tests/vectors/bitnami.json")).unwrap();
    serde_json::from_value(vectors["keys"].clone()).unwrap()
});

fn settings(args: &[&str]) -> BitnamiSettings {
    let args = [&["bulla-controller", "--bitnami"], args].concat();
    crate::args::Args::parse_from(args).settings().unwrap().bitnami
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn secret(name: &str, label: Option<&str>, pair: &Pair, made: i64) -> Secret {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some(format!("uid-{name}")),
        resource_version: Some("1".to_owned()),
        labels: label.map(|value| [(BITNAMI_KEY_LABEL.to_owned(), value.to_owned())].into()),
        creation_timestamp: Some(Time(at(made))),
        ..ObjectMeta::default()
    };
    let data = [("tls.key", &pair.private_key), ("tls.crt", &pair.certificate)];
    Secret {
        metadata,
        data: Some(data.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes()))).into()),
        ..Secret::default()
    }
}

fn observed(secrets: Vec<Secret>) -> Observed {
    let mut observed = Observed::default();
    for secret in secrets {
        let labelled = secret.metadata.labels.is_some();
        let (name, key) = KeySecret::take(secret).unwrap();
        if labelled { &mut observed.labelled } else { &mut observed.legacy }.insert(name, key);
    }
    observed
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.ring.keys.iter().map(|key| &*key.name).collect()
}

#[test]
fn which_secrets_are_keys() {
    let (one, two) = (&PAIRS[0], &PAIRS[1]);
    let settings = settings(&[]);
    let cases: [(&str, Option<&str>, bool); 7] = [
        ("sealed-secrets-keyabcde", Some("active"), true),
        ("any-name-at-all", Some("active"), true),
        ("sealed-secrets-key", None, true),
        ("sealed-secrets-keyabcde", None, false),
        ("sealed-secrets-keyabcde", Some("compromised"), false),
        ("sealed-secrets-key", Some("compromised"), false),
        ("sealed-secrets-keyabcde", Some(""), false),
    ];
    for (name, label, is_key) in cases {
        let plan = plan(&observed(vec![secret(name, label, one, 10)]), &settings, at(100));
        assert_eq!(plan.ring.keys.len(), usize::from(is_key), "{name} {label:?}");
        assert_eq!(plan.make, (!is_key).then_some(Why::First), "{name} {label:?}");
        assert!(plan.problems.is_empty());
    }
    // Malformed beside a good one; and one that does not belong to its certificate.
    let mut damaged = secret("damaged", Some("active"), one, 10);
    damaged.data.as_mut().unwrap().insert("tls.key".to_owned(), ByteString(b"-----BEGIN".to_vec()));
    let mut mixed = secret("mixed", Some("active"), one, 10);
    mixed.data.as_mut().unwrap().insert("tls.crt".to_owned(), ByteString(two.certificate.clone().into_bytes()));
    let mut empty = secret("empty", Some("active"), one, 10);
    empty.data = None;
    let mut retired = secret("retired", Some("no"), one, 10);
    retired.data = None;
    let good = secret("good", Some("active"), one, 10);
    let plan = plan(&observed(vec![damaged, mixed, empty, retired, good]), &settings, at(100));
    assert_eq!(names(&plan), ["good"]);
    assert_eq!(plan.problems.keys().collect::<Vec<_>>(), ["damaged", "empty", "mixed"]);
    assert_eq!(plan.problems["mixed"], KeyProblem::Key(PrivateKeyError::NoMatch));
    assert_eq!(plan.make, None);
}

#[test]
fn what_a_sealed_secret_made_is_no_key() {
    for api_version in ["bitnami.com/v1alpha1", "bulla.dev/v1alpha1", "bulla.dev/v9"] {
        let mut planted = secret("planted", Some("active"), &PAIRS[0], 10);
        planted.metadata.owner_references = Some(vec![OwnerReference {
            api_version: api_version.to_owned(),
            kind: "SealedSecret".to_owned(),
            ..OwnerReference::default()
        }]);
        let plan = plan(&observed(vec![planted]), &settings(&[]), at(100));
        assert!(plan.ring.keys.is_empty());
        assert_eq!(plan.problems["planted"], KeyProblem::Made);
    }
    // What brings keys from elsewhere may own them.
    let mut brought = secret("brought", Some("active"), &PAIRS[0], 10);
    brought.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "external-secrets.io/v1".to_owned(),
        kind: "ExternalSecret".to_owned(),
        ..OwnerReference::default()
    }]);
    assert_eq!(plan(&observed(vec![brought]), &settings(&[]), at(100)).ring.keys.len(), 1);
}

#[test]
fn the_newest_is_the_one_to_seal_for() {
    // Both certificates of the vectors are valid from their own time on.
    let from = |index: usize| Certificate::from_pem(PAIRS[index].certificate.as_bytes()).unwrap().not_before();
    let (old, new) = if from(0) < from(1) { (0, 1) } else { (1, 0) };
    let both = || {
        observed(vec![
            secret("old", Some("active"), &PAIRS[old], 2000),
            secret("new", Some("active"), &PAIRS[new], 1000),
        ])
    };
    if from(old) < from(new) {
        assert_eq!(names(&plan(&both(), &settings(&[]), at(3000))), ["new", "old"]);
    }
    let by_secret = settings(&["--key-order-priority", "SecretCreationTimestamp"]);
    assert_eq!(names(&plan(&both(), &by_secret, at(3000))), ["old", "new"]);
    // The same key under two names is one key.
    let twice = vec![secret("a", Some("active"), &PAIRS[0], 1), secret("b", Some("active"), &PAIRS[0], 2)];
    assert_eq!(names(&plan(&observed(twice), &settings(&[]), at(3000))), ["a"]);
}

#[test]
fn another_key_is_made_when_told_to_and_by_its_owner_only() {
    let by_secret = ["--key-order-priority", "SecretCreationTimestamp"];
    let with = |more: &[&str]| settings(&[&by_secret, more].concat());
    let one = observed(vec![secret("one", Some("active"), &PAIRS[0], 1000)]);
    let hour = 3600;
    let cases = [
        (&[][..], 1000 + 1000 * hour, None),
        (&["--key-renew-period=1h"], 1000 + hour - 1, None),
        (&["--key-renew-period=1h"], 1000 + hour, Some(Why::Renewal)),
        (&["--key-cutoff-time=Thu, 01 Jan 1970 00:16:40 +0000"], 5000, None),
        (&["--key-cutoff-time=Thu, 01 Jan 1970 00:16:41 +0000"], 5000, Some(Why::Cutoff)),
        (&["--key-cutoff-time=Thu, 01 Jan 1970 00:16:41 +0000"], 1000, None),
    ];
    for (args, now, why) in cases {
        assert_eq!(plan(&one, &with(args), at(now)).make, why, "{args:?} {now}");
        let observing = BitnamiSettings { mode: Mode::Observe, ..with(args) };
        assert_eq!(plan(&one, &observing, at(now)).make, None);
    }
    assert_eq!(plan(&one, &with(&["--key-renew-period=1h"]), at(2000)).next, Some(at(1000 + hour)));
    // When it is due is shown also when it is overdue.
    for now in [2000, 9000] {
        assert_eq!(plan(&one, &with(&["--key-renew-period=1h"]), at(now)).due, Some(at(1000 + hour)));
        assert_eq!(plan(&one, &with(&[]), at(now)).due, None);
    }
    assert_eq!(plan(&Observed::default(), &with(&[]), at(1)).make, Some(Why::First));
    let observing = BitnamiSettings { mode: Mode::Observe, ..with(&[]) };
    assert_eq!(plan(&Observed::default(), &observing, at(1)).make, None);
    // Whoever sees the same makes the same name.
    let name = |observed: &Observed, taken: &[&String]| {
        next_name(observed, "sealed-secrets-key", &taken.iter().copied().cloned().collect())
    };
    let first = name(&one, &[]);
    assert_eq!(first, name(&one.clone(), &[]));
    assert!(first.len() == "sealed-secrets-key".len() + 5 && first != name(&Observed::default(), &[]));
    // And goes past what is there and is not seen.
    let second = name(&one, &[&first]);
    assert_eq!(second, name(&one.clone(), &[&first]));
    let third = name(&one, &[&first, &second]);
    assert!(second != first && third != first && third != second && second.len() == first.len());
    assert_eq!(name(&one, &[&second]), first);
}

#[test]
fn what_fails_is_tried_more_and_more_rarely_and_told_when_it_changes() {
    let now = Instant::now();
    let mut tries = Tries::default();
    assert_eq!(tries.wait(now), Duration::ZERO);
    let told: Vec<_> = (0..12).map(|_| (tries.failed(Failure::Quota, now), tries.wait(now))).collect();
    assert!(told[0].0 && told[1..].iter().all(|(is_news, _)| !is_news));
    assert!(told[0].1 <= Duration::from_secs(1) && told[11].1 >= MOST * 2 / 3 && told[11].1 <= MOST, "{told:?}");
    assert!(tries.failed(Failure::Admission, now) && !tries.failed(Failure::Admission, now));
    assert_eq!(tries.wait(now + MOST), Duration::ZERO);
    // Who asks again does not wait; what is taken stays so.
    tries.taken.insert("a".to_owned());
    tries.forget();
    assert_eq!((tries.wait(now), tries.taken.len()), (Duration::ZERO, 1));
    assert!(tries.failed(Failure::Admission, now));
}

#[test]
fn a_ring_shows_no_key() {
    let plan = plan(&observed(vec![secret("one", Some("active"), &PAIRS[0], 1)]), &settings(&[]), at(3000));
    let shown = format!("{:?}", plan.ring);
    assert!(!shown.contains("BEGIN") && shown.contains("one"), "{shown}");
}
