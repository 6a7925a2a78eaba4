//! From this format to the native one.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::tests::{KEYS, keys, secret};
use super::*;
use crate::recipient::{Identity, NameSource, RecipientKind, Targets};
use crate::request::BodyError;
use crate::reseal::{Configured, Household};
use crate::resource::SealedSecret;
use crate::scope::{Place, Scope};
use crate::secret::{PlainSecret, SecretValue};

static PROD: LazyLock<Identity> = LazyLock::new(|| Identity::generate(RecipientKind::Hybrid).unwrap());
static DR: LazyLock<Identity> = LazyLock::new(|| Identity::generate(RecipientKind::Hybrid).unwrap());

fn targets(who: &[(&str, &Identity)]) -> Targets {
    let given = who.iter().map(|(name, i)| (i.recipient().clone(), NameSource::Policy((*name).to_owned())));
    Targets::new(given, false).unwrap()
}

fn prod() -> Targets {
    targets(&[("prod", &PROD)])
}

fn sealed(scope: Scope) -> BitnamiSealedSecret {
    seal(&secret(), scope, &KEYS[0].1).unwrap()
}

/// As a stranger has it done.
fn blindly(sealed: &BitnamiSealedSecret, targets: &Targets) -> Result<Migrated, MigrateError> {
    migrate(sealed, &keys(), None, targets, &mut Operations::unlimited())
}

fn obstacles(sealed: &BitnamiSealedSecret) -> Vec<(String, Why)> {
    match translate(sealed) {
        Err(TranslateError::Obstacles(all)) => all.into_iter().map(|one| (one.field, one.why)).collect(),
        other => panic!("{other:?}"),
    }
}

fn annotate(sealed: &mut BitnamiSealedSecret, key: &str, value: &str) {
    let metadata = sealed.spec.template.get_or_insert_default().metadata.get_or_insert_default();
    metadata.annotations.get_or_insert_default().insert(key.into(), value.into());
}

#[test]
fn marks_of_the_format_do_not_come_along_and_are_told() {
    let mut sealed = sealed(Scope::ClusterWide);
    annotate(&mut sealed, MANAGED, "true");
    annotate(&mut sealed, PATCH, "false");
    annotate(&mut sealed, "kubectl.kubernetes.io/last-applied-configuration", "{}");
    let own = sealed.metadata.annotations.get_or_insert_default();
    own.insert("argocd.argoproj.io/sync-wave".into(), "1".into());
    let migrated = migrate_with_values(&sealed, &keys(), None, &prod()).unwrap();
    assert_eq!(migrated.remarks.into_iter().collect::<Vec<_>>(), [Remark::Managed]);
    let native = migrated.sealed;
    assert_eq!(native.spec.scope, Some(Scope::ClusterWide));
    assert_eq!(native.metadata.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["argocd.argoproj.io/sync-wave"]);
    assert!(native.spec.template.unwrap().metadata.unwrap().annotations.is_empty());
}

#[test]
fn what_can_not_be_said_is_told_all_at_once_and_may_be_left_out() {
    let mut sealed = sealed(Scope::Strict);
    annotate(&mut sealed, SKIP_SET_OWNER_REFERENCES, "true");
    annotate(&mut sealed, "argocd.argoproj.io/tracking-id", "x");
    let template = sealed.spec.template.get_or_insert_default();
    template.metadata.get_or_insert_default().finalizers = Some(vec!["x".into()]);
    let argo = "spec.template.metadata.annotations.argocd.argoproj.io/tracking-id";
    let skip = format!("spec.template.metadata.annotations.{SKIP_SET_OWNER_REFERENCES}");
    let all = obstacles(&sealed);
    assert_eq!(
        all,
        [
            ("spec.template.metadata.finalizers".to_owned(), Why::Unknown),
            (skip.clone(), Why::NoOwner),
            (argo.to_owned(), Why::NeverOnASecret),
        ]
    );
    assert_eq!(blindly(&sealed, &prod()).unwrap_err().to_string().matches("; ").count(), 2);
    assert_eq!(leave_out(&mut sealed, [argo, &skip, "spec.nothing"]).len(), 2);
    assert_eq!(obstacles(&sealed).len(), 1);
}

#[test]
fn a_stranger_gets_neither_an_old_file_nor_what_it_says() {
    let mut old = sealed(Scope::Strict);
    old.spec.encrypted_data.clear();
    let whole =
        br#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {"team": "x"}}, "data": {"a": "Yg=="}}"#;
    old.spec.data = Some(seal_item(&KEYS[0].1, b"shop/db", whole).unwrap());
    let refused = blindly(&old, &prod());
    assert_eq!(refused, Err(MigrateError::Translate(TranslateError::Legacy)));
    let native = migrate_with_values(&old, &keys(), None, &prod()).unwrap().sealed;
    let opened = crate::open::open(&native, &[&PROD]).unwrap();
    assert_eq!((opened.labels["team"].as_str(), opened.data["a"].expose()), ("x", &b"b"[..]));
}

#[test]
fn an_answer_is_taken_only_when_it_is_what_was_asked_for() {
    let sent = sealed(Scope::NamespaceWide);
    let both = targets(&[("prod", &PROD), ("dr", &DR)]);
    let answer = blindly(&sent, &both).unwrap().sealed;
    assert_eq!(check_answer(&sent, &answer, both.as_slice()), Ok(()));
    let lost = targets(&[("prod", &PROD)]);
    let one = blindly(&sent, &lost).unwrap().sealed;
    assert_eq!(check_answer(&sent, &one, both.as_slice()), Err(AnswerRefused::Lost("dr".into())));
    assert!(matches!(check_answer(&sent, &answer, lost.as_slice()), Err(AnswerRefused::Reader(_))));
    let changed = |change: &dyn Fn(&mut SealedSecret)| {
        let mut answer = answer.clone();
        change(&mut answer);
        check_answer(&sent, &answer, both.as_slice())
    };
    assert_eq!(changed(&|a| a.metadata.name = Some("x".into())), Err(AnswerRefused::Changed("metadata")));
    assert_eq!(changed(&|a| a.spec.scope = Some(Scope::ClusterWide)), Err(AnswerRefused::Changed("scope")));
    assert_eq!(changed(&|a| a.spec.template = None), Err(AnswerRefused::Changed("template")));
    assert_eq!(changed(&|a| a.spec.suspend = Some(true)), Err(AnswerRefused::Changed("suspend")));
    assert_eq!(changed(&|a| _ = a.spec.items.pop_first()), Err(AnswerRefused::Changed("set of items")));
    assert!(matches!(changed(&|a| a.spec.envelopes.clear()), Err(AnswerRefused::Broken(_))));
    let mut longer = sent.clone();
    let text = seal_item(&KEYS[0].1, b"shop", &[7; 500]).unwrap();
    longer.spec.encrypted_data.insert("password".into(), text);
    let answer = blindly(&longer, &both).unwrap().sealed;
    assert_eq!(check_answer(&sent, &answer, both.as_slice()), Err(AnswerRefused::Item("password".into())));
}

#[test]
fn a_request_is_of_its_form() {
    let parse = |text: &str| parse_request(text.as_bytes());
    let object =
        r#"{"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {}, "spec": {"template": {}}}"#;
    assert!(parse(&format!("{{\"object\": {object}}}")).is_ok());
    for (wrong, error) in [
        (format!("{{\"object\": {object}, \"add\": []}}"), BodyError::Form),
        (object.to_owned(), BodyError::Form),
        (format!("{{\"object\": {}}}", object.replace("bitnami.com", "bulla.dev")), BodyError::Kind),
        (format!("{{\"object\": {}}}", object.replace("{}}}", "{\"x\": 1}}}")), BodyError::Form),
        (format!("{{\"object\": {}}}", object.replace("{\"template", "{\"x\": 1, \"template")), BodyError::Form),
        ("{".to_owned(), BodyError::NotJson),
    ] {
        assert_eq!(parse(&wrong), Err(error), "{wrong}");
    }
}

#[test]
fn a_cluster_seals_for_its_own_and_those_who_may_read_there() {
    let configured = |name: &str, namespaces: Option<&[&str]>| Configured {
        name: name.into(),
        recipient: DR.recipient().clone(),
        namespaces: namespaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
    };
    let names = |configured: &[Configured], scope| {
        let household = Household {
            name: Some("prod-eu"),
            identities: &[&PROD],
            preferred: PROD.recipient(),
            own: &[PROD.recipient().fingerprint()].into(),
            configured,
        };
        let place = Place::new(scope, Some("shop"), Some("db")).unwrap();
        let targets = targets_of(&household, &place).unwrap();
        targets.as_slice().iter().map(|target| target.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[configured("dr", None)], Scope::Strict), ["prod-eu", "dr"]);
    assert_eq!(names(&[configured("dr", Some(&["shop"]))], Scope::Strict), ["prod-eu", "dr"]);
    assert_eq!(names(&[configured("dr", Some(&["live"]))], Scope::Strict), ["prod-eu"]);
    assert_eq!(names(&[configured("dr", Some(&["shop"]))], Scope::ClusterWide), ["prod-eu"]);
    // The repository's names take the place of the cluster's.
    let theirs = targets(&[("prod-eu", &PROD), ("recovery-1", &DR)]);
    let ours = targets(&[("prod", &PROD), ("recovery", &DR)]);
    let mut answer = blindly(&sealed(Scope::Strict), &theirs).unwrap().sealed;
    rename(&mut answer, ours.as_slice());
    assert_eq!(answer.spec.envelopes.keys().collect::<Vec<_>>(), ["prod", "recovery"]);
    assert_eq!(check_answer(&sealed(Scope::Strict), &answer, ours.as_slice()), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_native_object_makes_the_same_secret(
        data in prop::collection::btree_map("[-._a-zA-Z0-9]{1,12}", prop::collection::vec(any::<u8>(), 0..120), 0..5),
        labels in prop::collection::btree_map("[a-z]{1,6}", "[a-z0-9]{0,8}", 0..3),
        annotations in prop::collection::btree_map("(example\\.test/)?[a-z]{1,6}", "\\PC{0,12}", 0..3),
        type_ in prop::option::of("kubernetes.io/(tls|basic-auth)"),
        immutable in any::<Option<bool>>(),
        scope in prop::sample::select(vec![Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide]),
    ) {
        let data: BTreeMap<_, _> = data.into_iter().filter(|(key, _)| crate::scope::is_item_key(key))
            .map(|(key, bytes)| (key, SecretValue::new(bytes))).collect();
        let plain = PlainSecret { labels, annotations, type_, immutable, data, ..secret() };
        let there = seal(&plain, scope, &KEYS[0].1).unwrap();
        let here = migrate_with_values(&there, &keys(), None, &prod()).unwrap().sealed;
        prop_assert_eq!(crate::open::open(&here, &[&PROD]).unwrap(), plain);
        prop_assert_eq!(check_answer(&there, &here, prod().as_slice()), Ok(()));
        // For a stranger it is the same.
        let live = blindly(&there, &prod()).unwrap().sealed;
        prop_assert_eq!(check_answer(&there, &live, prod().as_slice()), Ok(()));
    }
}
