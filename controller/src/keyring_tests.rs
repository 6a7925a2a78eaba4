#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Mutex;

use bulla::metadata::{PREFERRED_AT_ANNOTATION, PUBLISHED_AT_ANNOTATION};
use bulla::recipient::{RecipientKind, parse_recipients};
use bulla::resource::{KeyFormat, SealingKeyStatus};
use clap::Parser as _;
use k8s_openapi::ByteString;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::plan::{Action, Plan, Why, effective, needed_by, plan, rfc3339};
use super::seen::see_keys;
use super::*;
use crate::api::Api;
use crate::args::Settings;
use crate::events::Events;

const FIRST_KEY: &str = "hybrid-1";

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
        matches!(&nothing.actions[..], [Action::CreateSealingKey { name, why: Why::First, .. }] if name == FIRST_KEY)
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
fn a_key_secret_shows_no_key_that_kubectl_repeated() {
    let identity = identity();
    let applied = format!("{{\"stringData\":{{\"identity\":\"{}\"}}}}", identity.expose().as_str());
    let repeated = [(bulla::metadata::LAST_APPLIED, applied.as_str()), (PUBLISHED_AT_ANNOTATION, "stays")];
    let (_, taken) = KeySecret::take(secret("a", &identity, &repeated)).unwrap();
    let shown = format!("{:?}", Observed { secrets: [("a".to_owned(), taken)].into(), ..Observed::default() });
    assert!(shown.contains("stays") && !shown.contains("AGE-SECRET-KEY"), "{shown}");
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

#[test]
fn an_old_key_is_renewed_once_and_under_one_name() {
    let day = 24 * 3600;
    let options = ["--renew-after", "240h"];
    let wanted = |scene: &Scene, now: i64| {
        let plan = plan(&scene.0, &settings(&options), at(now));
        let made: Vec<_> = plan
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::CreateSealingKey { name, why: Why::Renewal, state, .. } => {
                    assert_eq!(*state, KeyState::Active);
                    Some(name.clone())
                }
                _ => None,
            })
            .collect();
        (made, plan.next, plan.renewal)
    };
    let scene = || Scene::default().key("classical-1", KeyState::Active, Some(0), "0s").published();
    assert_eq!(wanted(&scene(), 9 * day), (vec![], Some(at(10 * day)), Some(at(10 * day))));
    // Whoever looks at the same makes the same name: the API server takes one of two.
    assert_eq!(wanted(&scene(), 10 * day), (vec!["classical-2".to_owned()], None, Some(at(10 * day))));
    let mut made = scene();
    made.0.sealing_keys.insert("classical-2".into(), {
        let mut key = sealing_key("classical-2", KeyState::Active, None);
        key.spec.format = KeyFormat::Classical;
        key
    });
    assert_eq!(wanted(&made, 10 * day).0, Vec::<String>::new(), "it is being made");
    let unpublished = scene().key("classical-2", KeyState::Active, None, "24h");
    assert_eq!(wanted(&unpublished, 10 * day).0, Vec::<String>::new(), "it is not published yet");
    let next = scene().key("classical-2", KeyState::Active, Some(10 * day), "24h");
    assert_eq!(wanted(&next, 19 * day), (vec![], Some(at(20 * day)), Some(at(20 * day))));
    // A serial that was used is not used again, whatever became of its key.
    let later = scene().key("classical-7", KeyState::Standby, Some(day), "0s");
    assert_eq!(wanted(&later, 11 * day).0, ["classical-8"]);
    // Rolled back or not, the age of what is sealed for counts; and 0 renews nothing.
    let plan = plan(&scene().0, &settings(&["--renew-after", "0"]), at(100 * day));
    assert!(plan.renewal.is_none() && !plan.actions.iter().any(|a| matches!(a, Action::CreateSealingKey { .. })));
    // No key is put out of use by too many others.
    let mut full = Scene::default();
    for number in 1..=16 {
        full = full.key(&format!("classical-{number}"), KeyState::Active, Some(number), "0s");
    }
    assert_eq!(wanted(&full, 100 * day).0, Vec::<String>::new());
}

#[test]
fn what_is_compromised_is_published_no_longer_and_replaced() {
    let before = Scene::default().key("classical-1", KeyState::Active, Some(1), "0s").published();
    let mut after = before;
    after.0.sealing_keys.get_mut("classical-1").unwrap().spec.state = KeyState::Compromised;
    let made = plan(&after.0, &settings(&[]), at(10));
    let published = made.actions.iter().find_map(|action| match action {
        Action::Publish { data } => Some(data["recipients"].clone()),
        _ => None,
    });
    assert_eq!(published.as_deref(), Some(""));
    assert!(made.actions.iter().any(|action| matches!(
        action,
        Action::CreateSealingKey { name, why: Why::Compromised, .. } if name == "hybrid-1"
    )));
    assert!(made.ring.preferred().is_none() && made.ring.keys.len() == 1, "it goes on opening");
    assert!(!made.ring.keys[0].answers, "and proves nothing");
    let readers = [[after.fingerprint("classical-1")].into()].into();
    assert!(made.ring.exposes(&readers) && !made.ring.exposes(&BTreeSet::new()));
    // Who set the last one aside on purpose is not overruled.
    let mut aside = Scene::default().key("classical-1", KeyState::Standby, Some(1), "0s");
    aside.0.config = after.0.config;
    let made = plan(&aside.0, &settings(&[]), at(10));
    assert!(!made.actions.iter().any(|action| matches!(action, Action::CreateSealingKey { .. })));
}

#[test]
fn keys_answer_challenges_while_they_are_active_or_were_published_here() {
    use KeyState::{Active, Compromised, Standby};
    for (state, published, answers) in [
        (Active, Some(1), true),
        (Active, None, true),
        (Standby, Some(1), true),
        (Standby, None, false),
        (Compromised, Some(1), false),
    ] {
        let scene = Scene::default().key("a", state, published, "0s");
        let ring = plan(&scene.0, &settings(&[]), at(10)).ring;
        assert_eq!(ring.keys[0].answers, answers, "{state:?} {published:?}");
        let challenger = bulla::proof::Challenger::new(ring.keys[0].identity.recipient()).unwrap();
        assert_eq!(ring.accept(&challenger.challenge().to_string()).is_some(), answers);
    }
    let retired = Scene::default().retired("a", Some(1));
    let ring = plan(&retired.0, &settings(&[]), at(10)).ring;
    assert!(ring.keys.is_empty() && ring.own.contains(&retired.fingerprint("a")));
}

#[test]
fn a_sealing_key_that_cannot_be_read_is_known_by_its_name() {
    let mut observed = Observed::default();
    let mut see = |format: &str, event: fn(DeserializeGuard<SealingKey>) -> Event<DeserializeGuard<SealingKey>>| {
        let mut key = serde_json::to_value(sealing_key("rsa-1", KeyState::Active, None)).unwrap();
        key["spec"]["format"] = format.into();
        assert!(see_keys(&mut observed, Some(Ok(event(serde_json::from_value(key).unwrap()))), true));
        (observed.unreadable.len(), observed.sealing_keys.len())
    };
    assert_eq!(see("rsa", Event::Apply), (1, 0));
    assert_eq!(see("rsa", Event::Apply), (1, 0));
    assert_eq!(see("hybrid", Event::Apply), (0, 1));
    assert_eq!(see("rsa", Event::Delete), (0, 0));
}

#[test]
fn one_key_under_two_names_counts_once() {
    let scene = Scene::default().key("a", KeyState::Active, Some(5), "0s").published();
    let double = |annotations: &[(&str, &str)]| {
        let mut observed = scene.0.clone();
        let identity = observed.secrets["a"].identity.clone().unwrap();
        observed.secrets.extend(KeySecret::take(secret("z", &identity, annotations)));
        plan(&observed, &settings(&[]), at(10))
    };
    // A restored copy does not take the place of the one in use.
    let plan = double(&[(KEY_STATE_ANNOTATION, "Standby")]);
    assert_eq!(plan.problems, [("z".to_owned(), KeyProblem::Doubled)].into());
    assert_eq!((plan.ring.keys.len(), plan.ring.preferred().unwrap().name.as_ref()), (1, "a"));
    // It gets no SealingKey, for which another key would be made when the copy goes.
    assert!(!plan.actions.iter().any(|action| matches!(action, Action::CreateSealingKey { .. })), "{:?}", plan.actions);
    // But what is compromised under one name is so under all.
    let plan = double(&[(KEY_STATE_ANNOTATION, "Compromised")]);
    assert_eq!(plan.problems, [("a".to_owned(), KeyProblem::Doubled)].into());
    assert_eq!(plan.ring.keys[0].state, KeyState::Compromised);
}

#[test]
fn the_last_active_key_is_not_retired_by_force_either() {
    let mut scene = Scene::default().key("a", KeyState::Retired, Some(1), "0s");
    scene.0.sealing_keys.get_mut("a").unwrap().spec.force = Some(true);
    let plan = plan(&scene.0, &settings(&[]), at(10));
    assert_eq!(plan.ring.preferred().unwrap().name.as_ref(), "a");
}

/// An API server that takes everything, and answers with the metadata that it got; and the methods and resources of what it took.
fn echo() -> (Api, Arc<Mutex<Vec<String>>>) {
    use axum::http::{Request, Response};
    use kube::client::Body;
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let log = Arc::<Mutex<Vec<String>>>::default();
    let taken = log.clone();
    tokio::spawn(async move {
        let mut annotations: BTreeMap<String, serde_json::Map<String, serde_json::Value>> = BTreeMap::new();
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let resource =
                parts.uri.path().split("/bulla-system/").nth(1).unwrap().split('/').next().unwrap().to_owned();
            let body: serde_json::Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
            let mut metadata = body["metadata"].clone();
            let known = annotations.entry(resource.clone()).or_default();
            known.extend(metadata["annotations"].as_object().cloned().unwrap_or_default());
            metadata["annotations"] = known.clone().into();
            let version = {
                let mut log = taken.lock().unwrap();
                log.push(format!("{} {resource}", parts.method));
                log.len() + 10
            };
            metadata["uid"] = "u".into();
            metadata["resourceVersion"] = version.to_string().into();
            let answer = serde_json::json!({ "metadata": metadata }).to_string();
            send.send_response(Response::new(Body::from(answer.into_bytes())));
        }
    });
    (Api::new(kube::Client::new(service, "bulla-system")), log)
}

/// What each write came to is known from its answer: no watch has to tell of it first, and none is made twice.
#[tokio::test]
async fn a_key_is_made_in_one_go_whatever_the_watches_tell_meanwhile() {
    let settings = Arc::new(settings(&["--prefer-after=0s"]));
    let (api, log) = echo();
    let keyring = Keyring {
        events: Events::new(api.clone(), "test".to_owned()),
        api,
        settings: settings.clone(),
        metrics: Arc::default(),
        published: Mutex::default(),
        ring: watch::Sender::new(Arc::default()),
        needs: watch::channel(None).1,
        rewound: watch::channel(0).1,
    };
    let mut observed = Observed::default();
    let mut actions = plan(&observed, &settings, at(0)).actions;
    for _ in 0..10 {
        for action in &actions {
            keyring.perform(action, &mut observed).await.unwrap();
        }
        actions = plan(&observed, &settings, at(0)).actions;
    }
    assert!(actions.is_empty(), "it comes to no end: {actions:?}");
    let count = |what: &str| log.lock().unwrap().iter().filter(|taken| *taken == what).count();
    for once in ["POST sealingkeys", "POST secrets", "POST configmaps"] {
        assert_eq!(count(once), 1, "{once}: {log:?}");
    }
    assert_eq!((count("PUT configmaps"), count("PATCH secrets")), (0, 1), "{log:?}");
    // What a watch tells late is not believed, what it tells of the same or a later version is.
    let late = |version: &str| {
        let mut key = sealing_key(FIRST_KEY, KeyState::Standby, None);
        (key.metadata.uid, key.metadata.resource_version) = (Some("u".into()), Some(version.into()));
        Some(Ok(Event::Apply(DeserializeGuard(Ok(key)))))
    };
    let state = |observed: &Observed| observed.sealing_keys[FIRST_KEY].spec.state;
    see_keys(&mut observed, late("10"), true);
    assert_eq!(state(&observed), KeyState::Active);
    see_keys(&mut observed, late("99"), true);
    assert_eq!(state(&observed), KeyState::Standby);
}
