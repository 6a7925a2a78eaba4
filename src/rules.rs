//! The rules of format.md on whole manifests, each with a test of its own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::digest::content_digest;
use crate::envelope::Envelope;
use crate::item::FreshDataKey;
use crate::limits::{MAX_DATA_KEYS_READ, MAX_DATA_KEYS_WRITE, MAX_OBJECT};
use crate::open::{ErrorClass, OpenError, ProblemKind, Site, Strictness, inspect, object_size, open};
use crate::recipient::{
    Identity, KeyFileError, NameSource, Recipient, RecipientError, RecipientKind, Target, Targets, TargetsError,
    is_envelope_name, parse_identities, parse_recipients,
};
use crate::resource::{SealedItem, SealedSecret, SecretTemplate, TemplateMetadata, custom_resource_definitions};
use crate::rewrap::{RewrapError, RewrapRefused, Succession, apply, needs, reseal, rewrap};
use crate::scope::{PlaceError, Scope, is_item_key};
use crate::seal::{Lost, SealError, SetError, lost, seal, set, set_all, unset};
use crate::secret::{PlainSecret, SecretValue};

fn hybrid() -> Identity {
    Identity::generate(RecipientKind::Hybrid).expect("randomness")
}

fn classical() -> Identity {
    Identity::generate(RecipientKind::Classical).expect("randomness")
}

fn named(identities: &[(&str, &Identity)]) -> Targets {
    let given = identities.iter().map(|(name, i)| (i.recipient().clone(), NameSource::Policy((*name).to_owned())));
    Targets::new(given, false).expect("targets")
}

fn labelled(identities: &[(&str, &Identity)]) -> Targets {
    let given = identities.iter().map(|(name, i)| (i.recipient().clone(), NameSource::Comment((*name).to_owned())));
    Targets::new(given, false).expect("targets")
}

fn secret(values: &[(&str, &str)]) -> PlainSecret {
    PlainSecret {
        name: Some("db".into()),
        namespace: Some("shop".into()),
        data: values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), SecretValue::new(value.as_bytes().to_vec())))
            .collect(),
        ..PlainSecret::default()
    }
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.as_bytes().to_vec())
}

fn sealed_for(values: &[(&str, &str)], targets: &Targets) -> SealedSecret {
    seal(&secret(values), Scope::Strict, targets).expect("seals")
}

fn class(sealed: &SealedSecret, identity: &Identity) -> ErrorClass {
    open(sealed, &[identity]).expect_err("does not open").class()
}

#[test]
fn opening_gives_back_the_secret_whole() {
    let key = hybrid();
    let mut plain = secret(&[("username", "shop"), ("empty", ""), ("tls.crt", "x")]);
    plain.type_ = Some("kubernetes.io/tls".into());
    plain.immutable = Some(true);
    plain.labels = BTreeMap::from([("team".into(), "shop".into())]);
    plain.annotations = BTreeMap::from([("note".into(), "ü".into())]);
    for scope in [Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide] {
        let sealed = seal(&plain, scope, &named(&[("prod", &key)])).expect("seals");
        assert_eq!(open(&sealed, &[&key]).expect("opens"), plain);
        let text = serde_json::to_string(&sealed).expect("JSON");
        assert!(!text.contains("c2hvcA"), "no value in base64 either");
    }
}

#[test]
fn a_sealed_manifest_of_five_small_items_is_under_3_9_kilobytes() {
    let key = hybrid();
    let values: Vec<(String, String)> = (0..5).map(|n| (format!("password-{n}"), "x".repeat(32))).collect();
    let values: Vec<(&str, &str)> = values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for _ in 0..20 {
        let sealed = sealed_for(&values, &named(&[("prod", &key)]));
        assert!(serde_json::to_string(&sealed).expect("JSON").len() < 3900);
    }
}

#[test]
fn rule_1_every_object_and_every_run_has_a_new_data_key() {
    let key = hybrid();
    let targets = named(&[("prod", &key)]);
    let (one, two) = (sealed_for(&[("a", "1"), ("b", "2")], &targets), sealed_for(&[("a", "1")], &targets));
    let id = |sealed: &SealedSecret, item: &str| sealed.spec.items[item].sealed[..33].to_owned();
    assert_eq!(id(&one, "a"), id(&one, "b"), "one data key for one object");
    assert_ne!(id(&one, "a"), id(&two, "a"), "never shared by two objects");
    let mut changed = one.clone();
    set(&mut changed, "a", &value("3"), &targets, None).expect("sets");
    assert_ne!(id(&changed, "a"), id(&one, "a"), "an item that is set alone brings its own");
}

#[test]
fn rule_2_an_item_with_envelopes_uses_only_them() {
    let key = hybrid();
    let other = hybrid();
    let targets = named(&[("prod", &key)]);
    let mut sealed = sealed_for(&[("a", "1"), ("b", "2")], &targets);
    set(&mut sealed, "a", &value("3"), &targets, None).expect("sets");
    assert_eq!(open(&sealed, &[&key]).expect("opens").data["a"].expose(), b"3");

    let mut empty = sealed.clone();
    empty.spec.items.get_mut("a").expect("there").envelopes = Some(BTreeMap::new());
    assert_eq!(class(&empty, &key), ErrorClass::Malformed);
    let null = serde_json::json!({"sealed": "x", "envelopes": null});
    assert!(serde_json::from_value::<SealedItem>(null).is_err());

    let mut foreign = sealed.clone();
    let line = Envelope::seal(&FreshDataKey::generate().expect("ok"), other.recipient()).expect("wraps").to_string();
    foreign.spec.items.get_mut("a").expect("there").envelopes = Some(BTreeMap::from([("other".into(), line)]));
    assert_eq!(class(&foreign, &key), ErrorClass::MissingEnvelope, "the common line is no fall-back");

    let mut twice = sealed.clone();
    let line = twice.spec.envelopes["prod"].clone();
    twice.spec.envelopes.insert("again".into(), line);
    let problems = inspect(&twice, Strictness::Reader).expect_err("malformed");
    assert!(matches!(problems.as_slice()[0].kind, ProblemKind::FingerprintTwice(_)));
}

#[test]
fn rule_2_a_reader_checks_its_own_line_and_a_writer_all() {
    let (prod, recovery) = (hybrid(), hybrid());
    let targets = named(&[("prod", &prod), ("recovery", &recovery)]);
    let mut sealed = sealed_for(&[("a", "1")], &targets);
    let foreign = Envelope::seal(&FreshDataKey::generate().expect("ok"), recovery.recipient()).expect("wraps");
    sealed.spec.envelopes.insert("recovery".into(), foreign.to_string());
    assert!(open(&sealed, &[&prod]).is_ok());
    assert_eq!(class(&sealed, &recovery), ErrorClass::MissingEnvelope);
    let problems = inspect(&sealed, Strictness::Writer).expect_err("a writer looks at all lines");
    assert_eq!(problems.as_slice()[0].site, Site::Envelope("recovery".into()));
    assert!(matches!(problems.as_slice()[0].kind, ProblemKind::IdMismatch(_)));
}

#[test]
fn rule_2_every_line_of_a_used_map_matches_the_grammar() {
    let (prod, recovery) = (hybrid(), hybrid());
    let sealed = sealed_for(&[("a", "1")], &named(&[("prod", &prod), ("recovery", &recovery)]));
    for end in ["!", " ", "A", "="] {
        let mut damaged = sealed.clone();
        damaged.spec.envelopes.get_mut("recovery").expect("there").push_str(end);
        assert_eq!(class(&damaged, &prod), ErrorClass::Malformed, "{end:?}");
    }
}

#[test]
fn rule_2_the_first_identity_that_has_a_line_is_the_one_attempt() {
    let (one, two) = (hybrid(), hybrid());
    let mut sealed = sealed_for(&[("a", "1")], &named(&[("one", &one), ("two", &two)]));
    assert!(open(&sealed, &[&one, &two]).is_ok() && open(&sealed, &[&hybrid(), &two]).is_ok());
    // Damage the line of the first: the second is not tried.
    let line = sealed.spec.envelopes["one"].clone();
    let at = line.len() - 10;
    let flipped = if &line[at..=at] == "A" { "B" } else { "A" };
    sealed.spec.envelopes.insert("one".into(), format!("{}{flipped}{}", &line[..at], &line[at + 1..]));
    assert_eq!(open(&sealed, &[&one, &two]).expect_err("one attempt").class(), ErrorClass::DecryptionFailed);
    assert!(open(&sealed, &[&two, &one]).is_ok());
}

#[test]
fn rule_3_the_place_is_the_objects_own_and_scope_absent_is_strict() {
    let key = hybrid();
    let sealed = sealed_for(&[("a", "1")], &named(&[("prod", &key)]));
    assert_eq!(sealed.spec.scope, None);
    let mut said = sealed.clone();
    said.spec.scope = Some(Scope::Strict);
    assert!(open(&said, &[&key]).is_ok());
    for change in [
        |s: &mut SealedSecret| s.metadata.namespace = Some("live".into()),
        |s: &mut SealedSecret| s.metadata.name = Some("other".into()),
        |s: &mut SealedSecret| s.spec.scope = Some(Scope::NamespaceWide),
        |s: &mut SealedSecret| s.spec.scope = Some(Scope::ClusterWide),
        |s: &mut SealedSecret| {
            let item = s.spec.items.remove("a").expect("there");
            s.spec.items.insert("b".into(), item);
        },
    ] {
        let mut moved = sealed.clone();
        change(&mut moved);
        assert_eq!(class(&moved, &key), ErrorClass::Misplaced);
    }
    assert!("Strict".parse::<Scope>().is_err());
    assert!(serde_json::from_str::<Scope>("\"everywhere\"").is_err());
}

#[test]
fn rule_3_hybrid_and_classical_do_not_mix_unless_somebody_insists() {
    let (pq, old) = (hybrid(), classical());
    let given = || {
        [
            (pq.recipient().clone(), NameSource::Comment("pq".into())),
            (old.recipient().clone(), NameSource::Comment("old".into())),
        ]
    };
    assert_eq!(Targets::new(given(), false), Err(TargetsError::Mixed("old".into())));
    let sealed = seal(&secret(&[("a", "1")]), Scope::Strict, &Targets::new(given(), true).expect("insisted"));
    let sealed = sealed.expect("seals");
    assert!(open(&sealed, &[&pq]).is_ok() && open(&sealed, &[&old]).is_ok());
}

#[test]
fn rule_4_the_grammar_of_keys_namespaces_and_names() {
    for good in ["a", ".dockerconfigjson", "tls.crt", "-", "A_b.c-1", "..."].iter().take(5) {
        assert!(is_item_key(good), "{good}");
    }
    for bad in ["", ".", "..", "..data", "a/b", "a b", "é", &"x".repeat(254)] {
        assert!(!is_item_key(bad), "{bad}");
        let refused = seal(&secret(&[(bad, "1")]), Scope::Strict, &named(&[("prod", &hybrid())]));
        assert!(matches!(refused, Err(SealError::Key { .. })));
    }
    let targets = named(&[("prod", &hybrid())]);
    let with = |namespace: Option<&str>, name: Option<&str>, scope| {
        let plain =
            PlainSecret { name: name.map(Into::into), namespace: namespace.map(Into::into), ..secret(&[("a", "1")]) };
        seal(&plain, scope, &targets).map(|_| ())
    };
    assert_eq!(with(None, Some("db"), Scope::Strict), Err(SealError::Place(PlaceError::NoNamespace(Scope::Strict))));
    assert_eq!(with(Some("shop"), None, Scope::Strict), Err(SealError::Place(PlaceError::NoName)));
    assert_eq!(with(Some("Shop"), Some("db"), Scope::Strict), Err(SealError::Place(PlaceError::BadNamespace)));
    assert_eq!(with(Some("shop"), Some("d_b"), Scope::Strict), Err(SealError::Place(PlaceError::BadName)));
    assert_eq!(with(Some("shop"), None, Scope::NamespaceWide), Ok(()));
    assert_eq!(with(None, None, Scope::ClusterWide), Ok(()));
    assert!(with(None, Some("db"), Scope::NamespaceWide).is_err());
}

#[test]
fn rule_5_data_keys_are_limited_for_writers_and_twice_that_for_readers() {
    let key = classical();
    let targets = named(&[("prod", &key)]);
    let mut sealed = sealed_for(&[("first", "1")], &targets);
    for n in 1..MAX_DATA_KEYS_WRITE {
        set(&mut sealed, &format!("k{n}"), &value("x"), &targets, None).expect("sets");
    }
    let before = sealed.clone();
    assert_eq!(set(&mut sealed, "more", &value("x"), &targets, None), Err(SetError::TooManyDataKeys));
    assert_eq!(sealed, before, "a refusal leaves everything as it was");
    set(&mut sealed, "k1", &value("y"), &targets, None).expect("replacing one needs no further data key");
    // What a merge of two branches makes is read.
    let donor = sealed.clone();
    let place = crate::open::place_of(&sealed).expect("a place");
    for n in 0..MAX_DATA_KEYS_WRITE {
        let name = format!("m{n}");
        let fresh = FreshDataKey::generate().expect("ok");
        let text = fresh.seal(&place.context(&name).expect("a key"), &value("x")).expect("seals").to_string();
        let envelope = Envelope::seal(&fresh, key.recipient()).expect("wraps").to_string();
        let item = SealedItem { sealed: text, envelopes: Some(BTreeMap::from([("prod".into(), envelope)])) };
        sealed.spec.items.insert(name, item);
    }
    assert!(open(&sealed, &[&key]).is_ok(), "{MAX_DATA_KEYS_READ} data keys are read");
    let found = inspect(&sealed, Strictness::Writer).expect_err("too many for a writer");
    assert!(matches!(found.as_slice()[0].kind, ProblemKind::TooManyDataKeys { .. }));
    sealed.spec.items.insert("last".into(), donor.spec.items["k1"].clone());
    assert!(open(&sealed, &[&key]).is_err());
    // The remedy.
    let compact = reseal(&donor, &[&key], &targets, Succession::ByName { add: false }).expect("reseals");
    assert_eq!(inspect(&compact, Strictness::Writer).expect("sound").data_keys, 1);
    assert_eq!(open(&compact, &[&key]), open(&donor, &[&key]));
}

#[test]
fn rule_5_recipients_and_size_are_limited() {
    let many: Vec<Identity> = (0..17).map(|_| classical()).collect();
    let given = many.iter().map(|i| (i.recipient().clone(), NameSource::None));
    assert_eq!(Targets::new(given, false), Err(TargetsError::TooMany(17)));
    let targets = named(&[("prod", &many[0])]);
    let fits = "x".repeat(700 * 1024);
    assert!(open(&sealed_for(&[("a", &fits)], &targets), &[&many[0]]).is_ok());
    let large = "x".repeat(MAX_OBJECT);
    let refused = seal(&secret(&[("a", &large)]), Scope::Strict, &targets);
    assert!(matches!(refused, Err(SealError::TooLarge { .. })));
    let mut grown = sealed_for(&[("a", &fits)], &targets);
    let before = grown.clone();
    let error = set(&mut grown, "b", &value(&fits), &targets, None).expect_err("too large");
    assert!(matches!(error, SetError::Seal(SealError::TooLarge { .. })));
    assert_eq!(grown, before);
}

#[test]
fn rule_5_the_size_counts_what_the_cluster_adds() {
    let sealed = sealed_for(&[("a", "1")], &named(&[("prod", &hybrid())]));
    let json = serde_json::json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": "db", "namespace": "shop"}, "spec": sealed.spec,
    });
    assert_eq!(object_size(&sealed), json.to_string().len() + 2 * (1 + 32) + 2 * (4 + 32));
}

#[test]
fn rule_7_rewrapping_touches_one_line_and_never_downgrades() {
    let (old, new, recovery) = (hybrid(), hybrid(), hybrid());
    let sealed = sealed_for(&[("a", "1"), ("b", "2")], &labelled(&[("prod", &old), ("recovery", &recovery)]));
    let targets = labelled(&[("whatever", &new)]);
    let needed = needs(&sealed, &targets, Succession::ReplaceOpened).expect("needs");
    let mut after = sealed.clone();
    for need in &needed {
        let change = need.fulfil(&[&old], |_| false).expect("opens");
        assert_eq!(change.name, "prod", "the name stays");
        apply(&mut after, &change);
    }
    assert_eq!(needed.len(), 1);
    assert_eq!(after.spec.items, sealed.spec.items);
    assert_eq!(after.spec.envelopes["recovery"], sealed.spec.envelopes["recovery"]);
    assert_ne!(after.spec.envelopes["prod"], sealed.spec.envelopes["prod"]);
    assert_eq!(open(&after, &[&new]), open(&sealed, &[&old]));
    assert_eq!(class(&after, &old), ErrorClass::MissingEnvelope);
    assert_eq!(needs(&after, &targets, Succession::ReplaceOpened).expect("needs"), [], "nothing is left to do");

    let line = |identity: &Identity| {
        Envelope::seal(&FreshDataKey::generate().expect("ok"), identity.recipient()).expect("wraps")
    };
    let plain = classical();
    let refused = |from: &Identity, to: &Identity, bad| rewrap(&line(from), from, to.recipient(), bad).map(|_| ());
    assert_eq!(refused(&old, &plain, false), Err(RewrapRefused::Downgrade));
    assert_eq!(refused(&plain, &new, false), Err(RewrapRefused::MustReseal));
    assert_eq!(refused(&old, &new, true), Err(RewrapRefused::MustReseal));
    assert_eq!(refused(&plain, &classical(), false), Ok(()));
}

#[test]
fn rule_7_a_policy_name_is_replaced_and_a_new_reader_needs_to_be_meant() {
    let (old, new, recovery) = (hybrid(), hybrid(), hybrid());
    let mut sealed = sealed_for(&[("a", "1")], &named(&[("prod", &old), ("recovery", &recovery)]));
    set(&mut sealed, "b", &value("2"), &named(&[("prod", &old), ("recovery", &recovery)]), None).expect("sets");
    let targets = named(&[("prod", &new), ("recovery", &recovery)]);
    let needed = needs(&sealed, &targets, Succession::ByName { add: false }).expect("needs");
    assert_eq!(needed.len(), 2, "one line for each data key");
    // The recovery identity can do it too: any line holds the data key.
    for need in &needed {
        let change = need.fulfil(&[&recovery], |_| false).expect("opens");
        assert_eq!((change.old_name.as_deref(), change.name.as_str()), (Some("prod"), "prod"));
        apply(&mut sealed, &change);
    }
    assert!(open(&sealed, &[&new]).is_ok() && open(&sealed, &[&recovery]).is_ok() && open(&sealed, &[&old]).is_err());

    let alice = hybrid();
    let more = named(&[("prod", &new), ("recovery", &recovery), ("alice", &alice)]);
    let refused = needs(&sealed, &more, Succession::ByName { add: false });
    assert_eq!(refused, Err(RewrapError::NewReader("alice".into())));
    for need in needs(&sealed, &more, Succession::ByName { add: true }).expect("meant") {
        let change = need.fulfil(&[&new], |_| false).expect("opens");
        apply(&mut sealed, &change);
    }
    assert!(open(&sealed, &[&alice]).is_ok() && open(&sealed, &[&recovery]).is_ok());
}

#[test]
fn rule_7_no_line_takes_the_place_of_another_reader() {
    let (old, new, recovery) = (hybrid(), hybrid(), hybrid());
    // The line to replace is called by its fingerprint, and the new key's label is the recovery line's name.
    let fingerprint = old.recipient().fingerprint().to_string();
    let given = [
        (old.recipient().clone(), NameSource::None),
        (recovery.recipient().clone(), NameSource::Comment("recovery".into())),
    ];
    let mut sealed = sealed_for(&[("a", "1")], &Targets::new(given, false).expect("targets"));
    assert!(sealed.spec.envelopes.contains_key(&fingerprint));
    let targets = labelled(&[("recovery", &new)]);
    for need in needs(&sealed, &targets, Succession::ReplaceOpened).expect("needs") {
        let change = need.fulfil(&[&old], |_| false).expect("opens");
        apply(&mut sealed, &change);
    }
    assert!(open(&sealed, &[&new]).is_ok() && open(&sealed, &[&recovery]).is_ok());
    assert!(!sealed.spec.envelopes.contains_key(&fingerprint), "no name that is another key's fingerprint");
}

#[test]
fn rule_7_a_key_that_got_another_name_in_the_policy_keeps_its_line() {
    let (old, new) = (hybrid(), hybrid());
    let sealed = sealed_for(&[("a", "1")], &named(&[("prod", &old)]));
    // The old key stays, under another name, and the new one has its name.
    for targets in [named(&[("prod", &new), ("dr", &old)]), named(&[("dr", &old), ("prod", &new)])] {
        assert!(needs(&sealed, &targets, Succession::ByName { add: false }).is_err());
        let mut after = sealed.clone();
        for need in needs(&after, &targets, Succession::ByName { add: true }).expect("needs") {
            apply(&mut after, &need.fulfil(&[&old], |_| false).expect("opens"));
        }
        assert!(open(&after, &[&old]).is_ok() && open(&after, &[&new]).is_ok());
        assert!(inspect(&after, Strictness::Writer).is_ok());
        assert_eq!(needs(&after, &targets, Succession::ByName { add: false }).expect("needs"), []);
    }
}

#[test]
fn rule_7_a_data_key_that_is_exposed_is_not_wrapped_anew_by_another_reader() {
    let (old, new, recovery, weak) = (hybrid(), hybrid(), hybrid(), classical());
    let sealed = sealed_for(&[("a", "1")], &named(&[("prod", &old), ("recovery", &recovery)]));
    let targets = named(&[("prod", &new), ("recovery", &recovery)]);
    let needed = needs(&sealed, &targets, Succession::ByName { add: false }).expect("needs");
    let compromised = |fingerprint| fingerprint == old.recipient().fingerprint();
    let refused = needed[0].fulfil(&[&recovery], compromised).map(|_| ());
    assert_eq!(refused, Err(RewrapError::Refused(RewrapRefused::MustReseal)));
    assert!(needed[0].fulfil(&[&recovery], |_| false).is_ok());
    // The classical line of a mixed file, replaced by means of the hybrid one.
    let mixed = [&weak, &recovery].into_iter().zip(["prod", "recovery"]);
    let mixed = mixed.map(|(key, name)| (key.recipient().clone(), NameSource::Policy(name.into())));
    let sealed = sealed_for(&[("a", "1")], &Targets::new(mixed, true).expect("insists"));
    let needed = needs(&sealed, &targets, Succession::ByName { add: false }).expect("needs");
    let refused = needed[0].fulfil(&[&recovery], |_| false).map(|_| ());
    assert_eq!(refused, Err(RewrapError::Refused(RewrapRefused::MustReseal)));
}

#[test]
fn rule_5_rewrapping_and_resealing_keep_the_limits() {
    let keys: Vec<Identity> = (0..17).map(|_| classical()).collect();
    let some = |keys: &[Identity]| {
        Targets::new(keys.iter().map(|key| (key.recipient().clone(), NameSource::None)), false).expect("targets")
    };
    let sealed = sealed_for(&[("a", "1")], &some(&keys[..10]));
    assert_eq!(needs(&sealed, &some(&keys[10..16]), Succession::ByName { add: true }).expect("16").len(), 6);
    let error = needs(&sealed, &some(&keys[10..17]), Succession::ByName { add: true }).expect_err("17");
    assert!(matches!(error, RewrapError::Broken(problems)
        if problems.as_slice()[0].kind == ProblemKind::TooManyRecipients(17)));
    // Just below the limit for one recipient, and so over it for sixteen.
    let one = named(&[("prod", &keys[0])]);
    let sealed = sealed_for(&[("a", &"x".repeat(1_064_000)), ("b", &"x".repeat(18_400))], &one);
    assert!(object_size(&sealed) > MAX_OBJECT - 6_000, "{}", object_size(&sealed));
    let error = reseal(&sealed, &[&keys[0]], &some(&keys[..16]), Succession::ByName { add: true }).expect_err("large");
    assert!(matches!(error, RewrapError::Seal(SealError::TooLarge { .. })));
}

#[test]
fn rule_7_sealing_afresh_changes_every_byte_and_keeps_every_reader() {
    let (old, new, recovery) = (hybrid(), hybrid(), hybrid());
    let sealed = sealed_for(&[("a", "1"), ("b", "2")], &labelled(&[("prod", &old), ("recovery", &recovery)]));
    let lost = reseal(&sealed, &[&old], &labelled(&[("new", &new)]), Succession::ReplaceOpened);
    assert!(matches!(lost, Err(RewrapError::NotCovered { name, .. }) if name == "recovery"));
    let both = labelled(&[("prod", &old), ("recovery", &recovery)]);
    let fresh = reseal(&sealed, &[&recovery], &both, Succession::ByName { add: false }).expect("reseals");
    for (key, item) in &fresh.spec.items {
        assert_ne!(item.sealed, sealed.spec.items[key].sealed);
        assert_ne!(item.sealed[..33], sealed.spec.items[key].sealed[..33], "a new data key");
    }
    assert_eq!(open(&fresh, &[&old]), open(&sealed, &[&old]));
    // From classical to hybrid, which re-wrapping refuses.
    let weak = classical();
    let sealed = sealed_for(&[("a", "1")], &labelled(&[("prod", &weak)]));
    let fresh = reseal(&sealed, &[&weak], &labelled(&[("x", &new)]), Succession::ReplaceOpened).expect("reseals");
    assert_eq!(fresh.spec.envelopes.keys().collect::<Vec<_>>(), ["prod"], "the name stays");
    assert!(open(&fresh, &[&new]).is_ok());
}

#[test]
fn rule_9_the_same_value_never_looks_the_same() {
    let key = hybrid();
    let targets = named(&[("prod", &key)]);
    let sealed = sealed_for(&[("a", "same"), ("b", "same")], &targets);
    let body = |item: &str| sealed.spec.items[item].sealed[34..].to_owned();
    assert_ne!(body("a")[30..], body("b")[30..]);
    let again = sealed_for(&[("a", "same")], &targets);
    assert_ne!(sealed.spec.items["a"].sealed, again.spec.items["a"].sealed);
    let (short, long) = (sealed_for(&[("a", "x")], &targets), sealed_for(&[("a", &"x".repeat(60))], &targets));
    assert_eq!(short.spec.items["a"].sealed.len(), long.spec.items["a"].sealed.len(), "short values look alike");
}

#[test]
fn rule_10_unused_envelopes_are_ignored_by_readers_and_dropped_when_sealed_afresh() {
    let key = hybrid();
    let targets = named(&[("prod", &key)]);
    let mut sealed = sealed_for(&[("a", "1")], &targets);
    set(&mut sealed, "a", &value("2"), &targets, None).expect("sets");
    assert_eq!(sealed.spec.envelopes.len(), 1, "set leaves them");
    let unused = sealed.spec.envelopes["prod"].clone();
    sealed.spec.envelopes.insert("nonsense".into(), "not even an envelope".into());
    sealed.spec.envelopes.insert("twice".into(), unused);
    assert!(open(&sealed, &[&key]).is_ok());
    assert!(unset(&mut sealed, "a") && !unset(&mut sealed, "a"));
    assert_eq!(sealed.spec.envelopes.len(), 3, "unset leaves them too");
    let fresh = reseal(&sealed, &[&key], &targets, Succession::ByName { add: false }).expect("reseals");
    assert_eq!(fresh.spec.envelopes.len(), 0, "no item, no envelope");
}

#[test]
fn rule_10_nobody_who_reads_the_file_is_lost_by_setting_a_value() {
    let (prod, recovery, new) = (hybrid(), hybrid(), hybrid());
    let mut sealed = sealed_for(&[("a", "1")], &named(&[("prod", &prod), ("recovery", &recovery)]));
    let before = sealed.clone();
    let error = set(&mut sealed, "b", &value("2"), &named(&[("prod", &prod)]), None).expect_err("recovery is lost");
    assert!(matches!(&error, SetError::NotCovered { name, .. } if name == "recovery"), "{error}");
    assert_eq!(sealed, before);
    // A name from a comment does not stand for a line with another fingerprint; a name of the policy does.
    let label = labelled(&[("prod", &new), ("recovery", &recovery)]);
    assert!(set(&mut sealed, "b", &value("2"), &label, None).is_err());
    let policy = named(&[("prod", &new), ("recovery", &recovery)]);
    assert!(set(&mut sealed, "b", &value("2"), &policy, None).is_ok());
}

#[test]
fn rule_10_a_value_is_not_set_where_it_could_be_opened_in_more_places_than_asked() {
    let key = hybrid();
    let targets = named(&[("prod", &key)]);
    let mut wide = seal(&secret(&[("a", "1")]), Scope::ClusterWide, &targets).expect("seals");
    let refused = set(&mut wide, "b", &value("2"), &targets, Some(Scope::Strict));
    assert_eq!(refused, Err(SetError::WiderScope { file: Scope::ClusterWide, asked: Scope::Strict }));
    assert!(set(&mut wide, "b", &value("2"), &targets, Some(Scope::ClusterWide)).is_ok());
    assert_eq!(open(&wide, &[&key]).expect("opens").data.len(), 2, "both items open in the file's scope");
}

#[test]
fn what_a_successor_lacks_is_told_by_key_and_fingerprint() {
    let (key, other, recovery) = (hybrid(), hybrid(), hybrid());
    let old = sealed_for(&[("a", "1"), ("b", "2")], &named(&[("prod", &key), ("recovery", &recovery)]));
    let same = sealed_for(&[("a", "1"), ("b", "2")], &named(&[("recovery", &recovery), ("renamed", &key)]));
    assert_eq!(lost(&old, &same), Lost::default(), "a name is only a name");
    let new = sealed_for(&[("a", "1")], &named(&[("prod", &key), ("recovery", &other)]));
    let recipients = vec![("recovery".to_owned(), recovery.recipient().fingerprint())];
    assert_eq!(lost(&old, &new), Lost { items: vec!["b".into()], recipients: recipients.clone() });
    // Also when the old one was moved, and so does not pass as sound.
    let mut moved = old;
    moved.metadata.name = Some("elsewhere".into());
    assert_eq!(lost(&moved, &new).recipients, recipients);
}

#[test]
fn after_a_move_everything_can_be_set_anew_and_nothing_less() {
    let (key, other) = (hybrid(), hybrid());
    let targets = named(&[("prod", &key)]);
    let mut sealed = sealed_for(&[("a", "1"), ("b", "2")], &targets);
    sealed.metadata.namespace = Some("live".into());
    let moved = sealed.clone();
    let (one, two) = (value("3"), value("4"));
    assert!(matches!(set(&mut sealed, "a", &one, &targets, None), Err(SetError::Broken(_))), "b stays misplaced");
    let both: [(&str, &SecretValue); 2] = [("a", &one), ("b", &two)];
    let stranger = named(&[("other", &other)]);
    assert!(matches!(set_all(&mut sealed, &both, &stranger, None), Err(SetError::NotCovered { .. })));
    assert_eq!(sealed, moved);
    set_all(&mut sealed, &both, &targets, None).expect("everything is replaced");
    assert_eq!(open(&sealed, &[&key]).expect("opens").data["b"].expose(), b"4");
}

#[test]
fn names_of_envelopes() {
    for good in ["prod", "a", "prod-eu-1", "rbx4qtm7w2hd5kca2"] {
        assert!(is_envelope_name(good), "{good}");
    }
    for bad in ["", "y", "no", "null", "true", "1st", "-a", "a-", "Prod", "a.b", "a_b", &"a".repeat(64)] {
        assert!(!is_envelope_name(bad), "{bad}");
    }
    let (one, two) = (hybrid(), hybrid());
    let targets = |given: Vec<(&Identity, NameSource)>| {
        Targets::new(given.into_iter().map(|(i, source)| (i.recipient().clone(), source)), false)
    };
    let comment = |name: &str| NameSource::Comment(name.into());
    let stem = |name: &str| NameSource::FileStem(name.into());
    assert_eq!(targets(vec![]), Err(TargetsError::None));
    assert_eq!(
        targets(vec![(&one, comment("prod")), (&two, comment("prod"))]),
        Err(TargetsError::NameTwice("prod".into()))
    );
    assert!(matches!(targets(vec![(&one, comment("prod")), (&one, comment("dr"))]), Err(TargetsError::TwoNames(..))));
    let other = two.recipient().fingerprint().to_string();
    assert_eq!(targets(vec![(&one, comment(&other))]), Err(TargetsError::NameIsFingerprint(other)));
    let names = |targets: Result<Targets, TargetsError>| -> Vec<String> {
        targets.expect("targets").as_slice().iter().map(|Target { name, .. }| name.clone()).collect()
    };
    let fingerprint = |identity: &Identity| identity.recipient().fingerprint().to_string();
    assert_eq!(names(targets(vec![(&one, stem("key")), (&two, stem("other"))])), ["key", "other"]);
    assert_eq!(names(targets(vec![(&one, stem("no.good"))])), [fingerprint(&one)]);
    let ambiguous = names(targets(vec![(&one, stem("key")), (&two, stem("key"))]));
    assert_eq!(ambiguous, [fingerprint(&one), fingerprint(&two)]);
    assert_eq!(names(targets(vec![(&one, NameSource::None), (&one, comment("prod"))])), ["prod"], "once");
}

#[test]
fn a_recipient_that_the_policy_names_is_the_policys_whatever_else_names_it() {
    let key = hybrid();
    let (policy, comment) = (NameSource::Policy("prod".into()), NameSource::Comment("prod".into()));
    for order in [[policy.clone(), comment.clone()], [comment, policy]] {
        let targets = Targets::new(order.map(|source| (key.recipient().clone(), source)), false).expect("one");
        assert!(targets.as_slice().len() == 1 && targets.as_slice()[0].by_policy);
    }
}

#[test]
fn the_text_of_an_identity_never_moves_while_it_is_made() {
    for identity in [hybrid(), classical()] {
        let text = identity.expose();
        let again: Identity = text.parse().expect("an identity");
        assert_eq!(again.recipient(), identity.recipient());
        assert!(text.len() >= 74 && (identity.kind() == RecipientKind::Classical || text.capacity() == 128));
    }
}

#[test]
fn key_files_are_read_and_their_errors_name_the_line() {
    let key = hybrid();
    let text = format!("# name: prod\r\n# created: 2026-11-20\n{}\n", key.recipient().as_str());
    let listed = parse_recipients(&text).expect("parses");
    assert_eq!(listed[0].name.as_deref(), Some("prod"));
    assert_eq!(listed[0].created.as_deref(), Some("2026-11-20"));
    assert_eq!(listed[0].recipient, *key.recipient());
    let error = |text: &str| parse_recipients(text).expect_err("is refused");
    assert_eq!(error(""), KeyFileError::Empty);
    assert_eq!(error("# name: no\n"), KeyFileError::Name { line: 1 });
    assert_eq!(error("\n# é\n"), KeyFileError::NotAscii { line: 2 });
    let private = key.expose();
    let at = |line, error| KeyFileError::Recipient { line, error };
    assert_eq!(error(&format!("\n{}", private.as_str())), at(2, RecipientError::PrivateKey));
    assert_eq!(error("-----BEGIN CERTIFICATE-----"), at(1, RecipientError::Pem));
    let message = error(&private).to_string();
    assert!(!message.contains(&private[20..]), "no key in an error");
    assert!(parse_identities(&format!("# a comment\n{}\n", private.as_str())).is_ok());
    assert!(parse_identities(key.recipient().as_str()).is_err());
    assert!(!format!("{key:?}").contains(&private[20..40]));
    assert!(!format!("{:?}", key.recipient()).contains(&key.recipient().as_str()[10..30]));
}

#[test]
fn a_recipient_with_any_character_changed_is_refused() {
    for identity in [hybrid(), classical()] {
        let text = identity.recipient().as_str().to_owned();
        assert_eq!(text.to_uppercase().parse::<Recipient>().expect("upper case is Bech32 too").as_str(), text);
        for at in (0..text.len()).step_by(11) {
            let swapped = if &text[at..=at] == "q" { "p" } else { "q" };
            let changed = format!("{}{swapped}{}", &text[..at], &text[at + 1..]);
            assert!(changed.parse::<Recipient>().is_err(), "character {at}");
        }
        for cut in [0, 1, 5, text.len() - 1] {
            assert!(text[..cut].parse::<Recipient>().is_err());
        }
    }
    // A classical recipient whose data begins with "pq" is still a classical one.
    let mut bytes = [7; 32];
    (bytes[0], bytes[1]) = (8, 0);
    let text = bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("age").expect("age"), &bytes).expect("encodes");
    assert!(text.starts_with("age1pq"));
    assert_eq!(text.parse::<Recipient>().expect("a recipient").kind(), RecipientKind::Classical);
    let zero = bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("age").expect("age"), &[0; 32]).expect("encodes");
    assert_eq!(zero.parse::<Recipient>().err(), Some(RecipientError::LowOrder));
}

#[test]
fn the_digest_changes_with_every_part_of_the_content() {
    let key = hybrid();
    let mut sealed = sealed_for(&[("a", "1"), ("b", "2")], &named(&[("prod", &key)]));
    sealed.spec.template = Some(SecretTemplate::default());
    let base = content_digest(&sealed).expect("a digest");
    let changed = |change: &dyn Fn(&mut SealedSecret)| {
        let mut other = sealed.clone();
        change(&mut other);
        content_digest(&other).expect("a digest")
    };
    fn template(sealed: &mut SealedSecret) -> &mut SecretTemplate {
        sealed.spec.template.get_or_insert_default()
    }
    for change in [
        &(|s: &mut SealedSecret| s.metadata.name = Some("other".into())) as &dyn Fn(&mut SealedSecret),
        &|s| s.metadata.namespace = Some("live".into()),
        &|s| s.spec.scope = Some(Scope::NamespaceWide),
        &|s| drop(s.spec.items.remove("b")),
        &|s| template(s).type_ = Some("kubernetes.io/tls".into()),
        &|s| template(s).immutable = Some(true),
        &|s| drop(template(s).data.insert("x".into(), String::new())),
        &|s| {
            template(s).metadata =
                Some(TemplateMetadata { labels: [("a".into(), "b".into())].into(), ..Default::default() });
        },
        &|s| {
            template(s).metadata =
                Some(TemplateMetadata { annotations: [("a".into(), "b".into())].into(), ..Default::default() });
        },
    ] {
        assert_ne!(changed(change), base);
    }
    assert_eq!(changed(&|s| s.spec.template = None), base, "an empty template is none");
    assert_eq!(changed(&|s| template(s).type_ = Some("Opaque".into())), base);
    assert_eq!(changed(&|s| s.spec.envelopes.clear()), base, "envelopes are not content");
    assert_eq!(changed(&|s| s.spec.suspend = Some(true)), base);
}

#[test]
fn metadata_goes_where_it_works_and_comes_back() {
    let key = hybrid();
    let mut plain = secret(&[("a", "1")]);
    plain.labels = BTreeMap::from([("team".into(), "shop".into()), ("helm.sh/chart".into(), "web".into())]);
    plain.annotations = BTreeMap::from([
        ("argocd.argoproj.io/sync-wave".into(), "1".into()),
        ("bulla.dev/content".into(), "c".into()),
        (crate::metadata::LAST_APPLIED.into(), "{\"data\":{}}".into()),
        ("kapp.k14s.io/original".into(), "{\"data\":{}}".into()),
        ("objectset.rio.cattle.io/applied".into(), "H4sI".into()),
        ("reconcile.external-secrets.io/data-hash".into(), "5d41".into()),
        ("note".into(), "x".into()),
    ]);
    let sealed = seal(&plain, Scope::Strict, &named(&[("prod", &key)])).expect("seals");
    let own = sealed.metadata.annotations.clone().unwrap_or_default();
    assert_eq!(own.keys().collect::<Vec<_>>(), ["argocd.argoproj.io/sync-wave"]);
    let secret = open(&sealed, &[&key]).expect("opens");
    assert_eq!(secret.annotations.keys().collect::<Vec<_>>(), ["note"]);
    assert_eq!(secret.labels, plain.labels);
}

#[test]
fn templates_render_the_opened_items() {
    let key = hybrid();
    let sealed_with = |templates: &[(&str, &str)]| {
        let mut sealed = sealed_for(&[("a", "hunter2"), ("b", "x")], &named(&[("prod", &key)]));
        let data = templates.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        sealed.spec.template = Some(SecretTemplate { data, ..Default::default() });
        sealed
    };
    let opened = open(&sealed_with(&[("url", "db://{{ .b }}:{{ .a | b64enc }}@h"), ("plain", "text")]), &[&key]);
    let data = opened.expect("opens").data;
    assert_eq!(data.keys().collect::<Vec<_>>(), ["a", "b", "plain", "url"]);
    assert_eq!(data["url"].expose(), b"db://x:aHVudGVyMg==@h");

    // One template does not see what another made.
    let error = open(&sealed_with(&[("c", "x"), ("d", "\n{{ .c }}")]), &[&key]).expect_err("no such item");
    assert_eq!(error.to_string(), "spec.template.data.d: line 2, column 4: there is no item or key of this name");
    assert_eq!(error.class(), ErrorClass::TemplateFailed);

    // What is public is found without a key, and by writers too.
    for (name, kind) in [("a", ProblemKind::ItemAndTemplate), ("..x", ProblemKind::TemplateKey)] {
        let sealed = sealed_with(&[(name, "x")]);
        let problems = inspect(&sealed, Strictness::Writer).expect_err(name);
        assert_eq!(problems.as_slice()[0].kind, kind);
        assert!(matches!(open(&sealed, &[&key]), Err(OpenError::Problems(_))));
    }
}

#[test]
fn setting_and_wrapping_anew_keep_templates_and_render_none() {
    let key = hybrid();
    let targets = named(&[("prod", &key)]);
    let mut sealed = sealed_for(&[("a", "1")], &targets);
    sealed.spec.template =
        Some(SecretTemplate { data: BTreeMap::from([("x".into(), "{{ broken".into())]), ..Default::default() });
    let before = sealed.spec.template.clone();
    set(&mut sealed, "a", &SecretValue::new(b"2".to_vec()), &targets, None).expect("is set");
    assert_eq!(sealed.spec.template, before);
    assert!(matches!(open(&sealed, &[&key]), Err(OpenError::Template { .. })));
}

#[test]
fn private_keys_of_the_controller_are_never_sealed() {
    let mut plain = secret(&[("identity", "x")]);
    plain.type_ = Some("bulla.dev/sealing-key".into());
    assert_eq!(seal(&plain, Scope::Strict, &named(&[("prod", &hybrid())])), Err(SealError::SealingKey));
}

#[test]
fn the_definitions_keep_the_data_when_they_are_uninstalled_carelessly() {
    for definition in custom_resource_definitions() {
        let annotations = definition.metadata.annotations.clone().unwrap_or_default();
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false");
        let json = serde_json::to_value(&definition).expect("JSON");
        let spec = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        for field in ["items", "template"] {
            assert!(
                !spec[field].to_string().contains("\"default\""),
                "no defaults under {field}: file and cluster agree"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn open_after_seal_is_the_identity(
        data in proptest::collection::btree_map("[-._a-zA-Z0-9]{1,20}", proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        set_alone in any::<proptest::sample::Index>(),
        wide in 0..3,
    ) {
        let key = classical();
        let targets = named(&[("prod", &key)]);
        let scope = [Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide][wide as usize];
        let plain = PlainSecret {
            data: data.iter().filter(|(k, _)| is_item_key(k)).map(|(k, v)| (k.clone(), SecretValue::new(v.clone()))).collect(),
            ..secret(&[])
        };
        let mut sealed = seal(&plain, scope, &targets).expect("seals");
        prop_assert_eq!(&open(&sealed, &[&key]).expect("opens"), &plain);
        if !plain.data.is_empty() {
            let item = plain.data.keys().nth(set_alone.index(plain.data.len())).expect("there").clone();
            set(&mut sealed, &item, &value("new"), &targets, None).expect("sets");
            let opened = open(&sealed, &[&key]).expect("opens");
            for (k, v) in &opened.data {
                prop_assert_eq!(v.expose(), if *k == item { b"new" } else { plain.data[k].expose() });
            }
            let new = classical();
            let before = sealed.clone();
            for need in needs(&sealed, &named(&[("prod", &new)]), Succession::ByName { add: false }).expect("needs") {
                apply(&mut sealed, &need.fulfil(&[&key], |_| false).expect("opens"));
            }
            for (k, item) in &sealed.spec.items {
                prop_assert_eq!(&item.sealed, &before.spec.items[k].sealed, "a rotation leaves every item's text");
            }
            prop_assert_eq!(open(&sealed, &[&new]).expect("opens"), opened);
        }
    }

    #[test]
    fn any_character_changed_anywhere_does_not_open(at in any::<proptest::sample::Index>(), with in "[A-Za-z2-7+/:=]", envelope in any::<bool>()) {
        let key = classical();
        let mut sealed = sealed_for(&[("a", "1")], &named(&[("prod", &key)]));
        let text = if envelope { sealed.spec.envelopes.get_mut("prod") } else { sealed.spec.items.get_mut("a").map(|i| &mut i.sealed) };
        let text = text.expect("there");
        let at = at.index(text.len());
        prop_assume!(text[at..=at] != with);
        text.replace_range(at..=at, &with);
        prop_assert!(open(&sealed, &[&key]).is_err());
    }

    #[test]
    fn nothing_from_outside_panics(text in "\\PC*", id in "[a-z2-7]{32}", encoded in "[A-Za-z0-9+/]{0,200}={0,2}") {
        let _ = text.parse::<Envelope>().is_ok();
        let _ = text.parse::<crate::item::SealedText>().is_ok();
        let _ = text.parse::<Recipient>().is_ok();
        let _ = text.parse::<Identity>().is_ok();
        let _ = parse_recipients(&text).is_ok();
        let _ = format!("k{id}:{encoded}").parse::<crate::item::SealedText>().is_ok();
        let _ = format!("k{id}:r{}:{encoded}", &id[..16]).parse::<Envelope>().is_ok();
    }
}
