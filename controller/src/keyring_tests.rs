#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use clap::Parser as _;
use k8s_openapi::ByteString;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn settings(args: &[&str]) -> Settings {
    let args = crate::args::Args::parse_from([&["bulla-controller"], args].concat());
    args.settings().unwrap()
}

fn identity() -> Identity {
    Identity::generate(RecipientKind::Classical).unwrap()
}

/// A key's Secret: name, private key, annotations.
fn secret(name: &str, identity: &Identity, annotations: &[(&str, &str)]) -> Secret {
    let mut secret = Secret { type_: Some(SEALING_KEY_TYPE.to_owned()), ..Secret::default() };
    secret.metadata.name = Some(format!("{KEY_SECRET_PREFIX}{name}"));
    secret.metadata.resource_version = Some("7".to_owned());
    secret.metadata.annotations = Some(annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    secret.data = Some([("identity".to_owned(), ByteString(identity.expose().as_bytes().to_vec()))].into());
    secret
}

fn sealing_key(name: &str, state: KeyState, after: Option<&str>) -> SealingKey {
    let mut key = SealingKey::new(name, Default::default());
    key.spec.state = state;
    key.spec.prefer_after = after.map(str::to_owned);
    key
}

#[derive(Default)]
struct Scene(Observed);

impl Scene {
    fn key(mut self, name: &str, state: KeyState, published: Option<i64>, after: &str) -> Self {
        let times: Vec<_> =
            published.map(|second| (PUBLISHED_AT_ANNOTATION, rfc3339(at(second)))).into_iter().collect();
        let times: Vec<_> = times.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let (name, taken) = KeySecret::take(secret(name, &identity(), &times)).unwrap();
        self.0.secrets.insert(name.clone(), taken);
        self.0.sealing_keys.insert(name.clone(), sealing_key(&name, state, Some(after)));
        self
    }

    fn retired(self, name: &str, published: Option<i64>) -> Self {
        let mut scene = self.key(name, KeyState::Retired, published, "0s");
        let secret = scene.0.secrets.get_mut(name).unwrap();
        secret.metadata.annotations.get_or_insert_default().insert(KEY_STATE_ANNOTATION.into(), "Retired".into());
        scene
    }

    fn fingerprint(&self, name: &str) -> Fingerprint {
        self.0.secrets[name].identity.as_ref().unwrap().recipient().fingerprint()
    }

    /// What a plan publishes is published.
    fn published(mut self) -> Self {
        for action in plan(&self.0, &settings(&[]), at(0)).actions {
            if let Action::Publish { data } = action {
                self.0.config = Some(ConfigMap { data: Some(data), ..ConfigMap::default() });
            }
        }
        self
    }

    fn preferred(&self, now: i64) -> Option<String> {
        let plan = plan(&self.0, &settings(&[]), at(now));
        plan.ring.preferred().map(|key| key.name.to_string())
    }
}

#[test]
fn the_first_key_is_made_only_where_there_is_nothing() {
    let nothing = plan(&Observed::default(), &settings(&[]), at(0));
    assert!(
        matches!(&nothing.actions[..], [Action::CreateSealingKey { name, restored: false, .. }] if name == FIRST_KEY)
    );

    let mut asked = Observed::default();
    asked.sealing_keys.insert(FIRST_KEY.to_owned(), sealing_key(FIRST_KEY, KeyState::Active, None));
    let made = plan(&asked, &settings(&[]), at(0));
    assert!(made.actions.iter().any(|action| matches!(action, Action::Generate { name, .. } if name == FIRST_KEY)));

    // A key that was there and is gone is never replaced by another of its name.
    let mut gone = asked;
    gone.sealing_keys.get_mut(FIRST_KEY).unwrap().status =
        Some(SealingKeyStatus { recipient: Some("age1x".to_owned()), ..SealingKeyStatus::default() });
    let kept = plan(&gone, &settings(&[]), at(0));
    assert!(
        !kept.actions.iter().any(|action| matches!(action, Action::Generate { .. } | Action::CreateSealingKey { .. }))
    );

    let mut broken = Observed::default();
    let mut damaged = secret("x", &identity(), &[]);
    damaged.data = None;
    broken.secrets.extend(KeySecret::take(damaged));
    let broken = plan(&broken, &settings(&[]), at(0));
    assert!(broken.actions.is_empty() && broken.problems.len() == 1);
}

#[test]
fn the_newest_that_is_ripe_is_preferred_else_the_oldest() {
    let active = KeyState::Active;
    let alone = Scene::default().key("a", active, Some(100), "24h");
    assert_eq!(alone.preferred(101).as_deref(), Some("a"), "a first key waits for nothing");
    let two = Scene::default().key("a", active, Some(100), "24h").key("b", active, Some(200), "1000s");
    assert_eq!(two.preferred(300).as_deref(), Some("a"));
    assert_eq!(two.preferred(1199).as_deref(), Some("a"));
    assert_eq!(two.preferred(1200).as_deref(), Some("b"));
    assert_eq!(plan(&two.0, &settings(&[]), at(300)).next, Some(at(1200)));
    let back = Scene::default().key("a", active, Some(100), "0s").key("b", KeyState::Standby, Some(200), "0s");
    assert_eq!(back.preferred(1200).as_deref(), Some("a"), "rolled back");
    let fresh = Scene::default().key("a", active, Some(100), "0s").key("b", active, None, "0s");
    assert_eq!(fresh.preferred(1200).as_deref(), Some("a"), "what is not published is not ripe");
    assert_eq!(Scene::default().retired("a", Some(100)).preferred(1200), None);
    for state in [KeyState::Standby, KeyState::Compromised] {
        assert_eq!(Scene::default().key("a", state, Some(100), "0s").preferred(1200), None, "{state:?}");
    }
    let equal = Scene::default().key("a", active, Some(100), "0s").key("b", active, Some(100), "0s");
    assert_eq!(equal.preferred(1200).as_deref(), Some("b"), "names decide");
}

#[test]
fn what_opens_is_all_but_the_retired() {
    let scene = Scene::default()
        .key("a", KeyState::Active, Some(1), "0s")
        .key("b", KeyState::Standby, Some(2), "0s")
        .retired("c", Some(3))
        .key("d", KeyState::Compromised, Some(4), "0s");
    let plan = plan(&scene.0, &settings(&[]), at(10));
    let names: Vec<_> = plan.ring.keys.iter().map(|key| key.name.to_string()).collect();
    assert_eq!(names[0], "a", "the preferred one first");
    assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(["a", "b", "d"]));
    let Some(Action::Publish { data }) = plan.actions.iter().find(|a| matches!(a, Action::Publish { .. })) else {
        panic!("nothing published")
    };
    assert_eq!(parse_recipients(&data["recipients"]).unwrap().len(), 1, "Active keys only");
}

#[test]
fn at_most_sixteen_are_loaded() {
    let mut scene = Scene::default();
    for number in 0..18_u32 {
        scene = scene.key(&format!("k{number:02}"), KeyState::Active, Some(i64::from(number)), "0s");
    }
    let plan = plan(&scene.0, &settings(&[]), at(100));
    assert_eq!(plan.ring.keys.len(), MAX_KEYS);
    assert_eq!(plan.ring.preferred().unwrap().name.as_ref(), "k17");
}

#[test]
fn states_are_kept_with_the_key_and_the_stricter_one_wins() {
    use KeyState::{Active, Compromised, Retired, Standby};
    for (asked, kept, listed, expected) in [
        (Some(Active), Some(Standby), false, Active),
        (Some(Standby), Some(Active), false, Standby),
        (Some(Active), Some(Compromised), true, Compromised),
        (Some(Retired), Some(Compromised), true, Compromised),
        (Some(Active), None, false, Active),
        (None, Some(Active), true, Active),
        (None, Some(Active), false, Standby),
        (None, Some(Retired), false, Retired),
        (None, None, false, Standby),
        (None, Some(Compromised), true, Compromised),
    ] {
        assert_eq!(effective(asked, kept, listed), expected, "{asked:?} {kept:?} {listed}");
    }
}

#[test]
fn a_key_is_published_when_it_is_seen_in_the_config_map() {
    let scene = Scene::default().key("a", KeyState::Active, None, "0s");
    let annotated = |plan: &Plan| {
        plan.actions.iter().find_map(|action| match action {
            Action::Annotate { annotations, .. } => Some(annotations.clone()),
            _ => None,
        })
    };
    let before = annotated(&plan(&scene.0, &settings(&[]), at(50))).unwrap();
    assert!(!before.contains_key(PUBLISHED_AT_ANNOTATION), "{before:?}");
    let scene = scene.published();
    let after = annotated(&plan(&scene.0, &settings(&[]), at(50))).unwrap();
    assert_eq!(after[PUBLISHED_AT_ANNOTATION], "1970-01-01T00:00:50.000Z");
    assert_eq!(after[PREFERRED_AT_ANNOTATION], after[PUBLISHED_AT_ANNOTATION]);
}

#[test]
fn the_published_text_names_the_cluster_once() {
    let scene = Scene::default().key("a", KeyState::Active, Some(1), "0s").key("b", KeyState::Active, Some(2), "24h");
    let plan = plan(&scene.0, &settings(&["--cluster-name", "prod"]), at(10));
    let Some(Action::Publish { data }) = plan.actions.iter().find(|a| matches!(a, Action::Publish { .. })) else {
        panic!("nothing published")
    };
    let listed = parse_recipients(&data["recipients"]).unwrap();
    let names: Vec<_> = listed.iter().map(|listed| listed.name.as_deref()).collect();
    assert_eq!(names, [Some("prod"), None]);
    assert_eq!(data["cluster"], "prod");
}

#[test]
fn key_secrets_with_an_owner_another_type_or_name_are_none() {
    let good = secret("a", &identity(), &[]);
    assert!(KeySecret::take(good.clone()).is_some());
    let mut owned = good.clone();
    owned.metadata.owner_references = Some(vec![Default::default()]);
    let mut typed = good.clone();
    typed.type_ = Some("Opaque".to_owned());
    let mut named = good.clone();
    named.metadata.name = Some("a".to_owned());
    for other in [owned, typed, named] {
        assert!(KeySecret::take(other).is_none());
    }
    let with = |key: &str, value: &[u8]| {
        let mut secret = good.clone();
        secret.data.as_mut().unwrap().insert(key.to_owned(), ByteString(value.to_vec()));
        KeySecret::take(secret).unwrap().1.identity.map(drop)
    };
    assert_eq!(with("identity", b"\xff"), Err(KeyProblem::Malformed));
    assert_eq!(with("identity", b"AGE-SECRET-KEY-1X"), Err(KeyProblem::Malformed));
    assert_eq!(with("recipient", b"age1x"), Err(KeyProblem::Mismatch));
    let two = format!("{}\n{}\n", identity().expose().as_str(), identity().expose().as_str());
    assert_eq!(with("identity", two.as_bytes()), Err(KeyProblem::Malformed));
}

#[test]
fn a_key_under_anothers_name_is_refused() {
    let scene = Scene::default().key("a", KeyState::Active, Some(1), "0s");
    let mut observed = scene.0;
    let other = identity().recipient().as_str().to_owned();
    observed.sealing_keys.get_mut("a").unwrap().status =
        Some(SealingKeyStatus { recipient: Some(other), ..SealingKeyStatus::default() });
    let plan = plan(&observed, &settings(&[]), at(10));
    assert!(plan.ring.keys.is_empty());
    assert_eq!(plan.problems["a"], KeyProblem::Mismatch);
}

#[test]
fn needed_by_counts_what_no_other_loaded_key_opens() {
    let [a, b, c] = [(); 3].map(|()| identity().recipient().fingerprint());
    let sets = |sets: &[&[Fingerprint]]| -> Arc<BTreeSet<BTreeSet<Fingerprint>>> {
        Arc::new(sets.iter().map(|set| set.iter().copied().collect()).collect())
    };
    let needs: Needs =
        [(sets(&[&[a]]), 3), (sets(&[&[a, b]]), 10), (sets(&[&[a, b], &[a, c]]), 100), (sets(&[&[c]]), 1000)].into();
    let loaded: BTreeSet<_> = [a, b].into();
    assert_eq!(needed_by(&needs, a, &loaded), 103);
    assert_eq!(needed_by(&needs, b, &loaded), 0);
    assert_eq!(needed_by(&needs, c, &loaded), 1000);
}

#[test]
fn a_key_is_retired_only_when_nothing_needs_it_or_by_force() {
    let scene =
        || Scene::default().key("a", KeyState::Active, Some(1), "0s").key("b", KeyState::Retired, Some(2), "0s");
    let state = |observed: &Observed| {
        let plan = plan(observed, &settings(&[]), at(10));
        let status = plan.actions.iter().find_map(|action| match action {
            Action::Status { name, status } if name == "b" => Some(status.clone()),
            _ => None,
        });
        let status = status.unwrap();
        (status.state.unwrap(), status.conditions.iter().any(|c| c.type_ == "StillNeeded"))
    };
    let needed = |scene: &mut Scene, count: usize| {
        let only: BTreeSet<BTreeSet<Fingerprint>> = [[scene.fingerprint("b")].into()].into();
        let both: BTreeSet<BTreeSet<Fingerprint>> = [[scene.fingerprint("a"), scene.fingerprint("b")].into()].into();
        let needs: Needs = [(Arc::new(only), count), (Arc::new(both), 5)].into_iter().filter(|(_, n)| *n > 0).collect();
        scene.0.needs = Some(Arc::new(needs));
    };
    let mut scene_ = scene();
    assert_eq!(state(&scene_.0), (KeyState::Active, true), "not known yet");
    needed(&mut scene_, 3);
    assert_eq!(state(&scene_.0), (KeyState::Active, true));
    scene_.0.sealing_keys.get_mut("b").unwrap().spec.force = Some(true);
    assert_eq!(state(&scene_.0), (KeyState::Retired, false));
    let mut scene_ = scene();
    needed(&mut scene_, 0);
    assert_eq!(state(&scene_.0), (KeyState::Retired, false));
    // The last Active one stays, whatever needs it.
    scene_.0.sealing_keys.get_mut("a").unwrap().spec.state = KeyState::Standby;
    assert_eq!(state(&scene_.0), (KeyState::Active, true));
}
