#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Mutex;

use axum::http::{Method, Request, Response};
use bulla::recipient::{Identity, NameSource, RecipientKind, Targets};
use bulla::resource::KeyState;
use bulla::scope::Scope;
use bulla::secret::SecretValue;
use clap::Parser as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use kube::client::Body as Sent;
use serde_json::{Value, json};

use super::*;
use crate::keyring::RingKey;

fn settings(args: &[&str]) -> Settings {
    crate::args::Args::parse_from([&["bulla-controller"], args].concat()).settings().unwrap()
}

fn identity() -> Arc<Identity> {
    Arc::new(Identity::generate(RecipientKind::Classical).unwrap())
}

/// `shop/db` with uid `u`, generation 1, sealed for `identity`.
fn sealed(identity: &Identity) -> SealedSecret {
    let plain = PlainSecret {
        name: Some("db".to_owned()),
        namespace: Some("shop".to_owned()),
        data: [("password".to_owned(), SecretValue::new(b"hunter2".to_vec()))].into(),
        ..PlainSecret::default()
    };
    let targets = Targets::new([(identity.recipient().clone(), NameSource::None)], false).unwrap();
    let mut sealed = bulla::seal::seal(&plain, Scope::Strict, &targets).unwrap();
    sealed.metadata.uid = Some("u".to_owned());
    sealed.metadata.generation = Some(1);
    sealed.metadata.resource_version = Some("5".to_owned());
    sealed
}

/// A Secret of uid `s` and version 9.
fn secret(change: impl FnOnce(&mut ObjectMeta)) -> ObjectMeta {
    let mut metadata = ObjectMeta {
        name: Some("db".to_owned()),
        namespace: Some("shop".to_owned()),
        uid: Some("s".to_owned()),
        resource_version: Some("9".to_owned()),
        ..ObjectMeta::default()
    };
    change(&mut metadata);
    metadata
}

fn controlled(by: &str, kind: &str, api_version: &str, name: &str) -> impl FnOnce(&mut ObjectMeta) {
    let owner = OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: by.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    move |metadata| metadata.owner_references = Some(vec![owner])
}

fn annotated(pairs: &[(&str, &str)]) -> impl FnOnce(&mut ObjectMeta) {
    let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    move |metadata| metadata.annotations = Some(map)
}

fn set_fields(metadata: &mut ObjectMeta, manager: &str, fields: Value, second: i64) {
    metadata.managed_fields.get_or_insert_default().push(ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        time: Some(Time(Timestamp::from_second(second).unwrap())),
        ..ManagedFieldsEntry::default()
    });
}

/// The status after a success with these settings.
fn applied(sealed: &SealedSecret, settings: &Settings, uid: &str, version: &str) -> SealedSecretStatus {
    let applied = Applied { secret_uid: uid.into(), secret_version: version.into(), inputs: inputs(sealed, settings) };
    status::next(None, sealed.metadata.generation, &Verdict::ready(), Some(applied), None, Timestamp::UNIX_EPOCH)
}

#[test]
fn ownership_is_decided_by_controller_then_annotation() {
    use Ownership::{HandedOver, OtherController, Ours, Patched, Unowned};
    let own = "bulla.dev/v1alpha1";
    let cases = [
        ("our uid", secret(controlled("u", "SealedSecret", own, "db")), Ours),
        ("our name, another uid", secret(controlled("old", "SealedSecret", own, "db")), Ours),
        ("another version of us", secret(controlled("old", "SealedSecret", "bulla.dev/v9", "db")), Ours),
        ("another name", secret(controlled("old", "SealedSecret", own, "other")), OtherController),
        ("Bitnami's", secret(controlled("old", "SealedSecret", "bitnami.com/v1alpha1", "db")), OtherController),
        (
            "a group that begins like ours",
            secret(controlled("o", "SealedSecret", "bulla.dev.evil/v1", "db")),
            OtherController,
        ),
        ("nothing", secret(|_| {}), Unowned),
        ("annotation", secret(annotated(&[(SEALED_SECRET_ANNOTATION, "db")])), Ours),
        ("annotation of another", secret(annotated(&[(SEALED_SECRET_ANNOTATION, "other")])), Unowned),
        ("managed", secret(annotated(&[(MANAGED_ANNOTATION, "true")])), HandedOver),
        ("managed=yes", secret(annotated(&[(MANAGED_ANNOTATION, "yes")])), Unowned),
        ("patch", secret(annotated(&[(PATCH_ANNOTATION, "true")])), Patched),
        ("patch and managed", secret(annotated(&[(PATCH_ANNOTATION, "true"), (MANAGED_ANNOTATION, "true")])), Patched),
    ];
    for (what, metadata, expected) in cases {
        assert_eq!(ownership(&metadata, "u", "db", false), expected, "{what}");
    }
    let mut both = secret(controlled("x", "Deployment", "apps/v1", "web"));
    both.annotations = Some([(SEALED_SECRET_ANNOTATION.to_owned(), "db".to_owned())].into());
    assert_eq!(ownership(&both, "u", "db", false), OtherController, "an annotation does not outweigh a controller");
    // The SealedSecret of the other format, where this controller makes its Secrets.
    let theirs = |name: &str| secret(controlled("b", "SealedSecret", bulla::bitnami::API_VERSION, name));
    assert_eq!(ownership(&theirs("db"), "u", "db", true), Ownership::Twin);
    assert_eq!(ownership(&theirs("other"), "u", "db", true), OtherController);
}

#[test]
fn decisions() {
    let settings = settings(&[]);
    let identity = identity();
    let base = sealed(&identity);
    let ours = || secret(controlled("u", "SealedSecret", API_VERSION, "db"));
    let reason = |sealed: &SealedSecret, secret: Option<&ObjectMeta>| match decide(sealed, secret, &settings, true) {
        Decision::Settle(verdict) => verdict.reason.to_owned(),
        Decision::Write(write) => format!("{write:?}"),
    };
    let with = |change: &dyn Fn(&mut SealedSecret)| {
        let mut sealed = base.clone();
        change(&mut sealed);
        sealed
    };
    let done = with(&|s| s.status = Some(applied(s, &settings, "s", "9")));
    let stale = with(&|s| s.status = Some(applied(s, &settings, "s", "8")));
    let edited = with(&|s| {
        s.status = Some(applied(s, &settings, "s", "8"));
        s.metadata.generation = Some(2);
    });
    let asked = with(&|s| {
        s.status = Some(applied(s, &settings, "s", "8"));
        s.metadata.annotations = Some([(RECONCILE_AT_ANNOTATION.to_owned(), "now".to_owned())].into());
    });
    let warn = |s: &SealedSecret| SealedSecret {
        spec: SealedSecretSpec { drift: Some(Drift::Warn), ..s.spec.clone() },
        ..s.clone()
    };
    let immutable = {
        let mut metadata = ours();
        set_fields(&mut metadata, FIELD_MANAGER, json!({"f:immutable": {}}), 1);
        metadata
    };
    let dying = secret(|m| m.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)));
    let patched = secret(annotated(&[(PATCH_ANNOTATION, "true")]));
    for (what, sealed, secret, expected) in [
        ("none there", base.clone(), None, "Create"),
        ("ours, first look", base.clone(), Some(ours()), "Replace"),
        ("in place", done.clone(), Some(ours()), "Applied"),
        ("another version", stale.clone(), Some(ours()), "Replace"),
        ("deleted", done.clone(), None, "Create"),
        ("changed, warn", warn(&stale), Some(ours()), "Compare"),
        ("deleted, warn", warn(&stale), None, "SecretDeleted"),
        ("edited, warn", warn(&edited), Some(ours()), "Replace"),
        ("asked, warn", warn(&asked), Some(ours()), "Replace"),
        ("asked, deleted, warn", warn(&asked), None, "Create"),
        ("immutable", stale.clone(), Some(immutable), "ReplaceIfEqual"),
        ("being deleted", stale.clone(), Some(dying), "SecretTerminating"),
        ("somebody else's", base.clone(), Some(secret(|_| {})), "Unowned"),
        ("patch mode", base.clone(), Some(patched), "Patch"),
        ("suspended", with(&|s| s.spec.suspend = Some(true)), Some(ours()), "Suspended"),
        ("own namespace", with(&|s| s.metadata.namespace = Some("bulla-system".into())), None, "Refused"),
    ] {
        assert_eq!(reason(&sealed, secret.as_ref()), expected, "{what}");
    }
    assert!(matches!(decide(&done, Some(&ours()), &settings, false), Decision::Write(Write::Replace)), "no trust");
}

#[test]
fn settled_is_only_what_the_status_says_of_this_very_state() {
    let ours = settings(&[]);
    let mut object = sealed(&identity());
    object.status = Some(applied(&object, &ours, "s", "9"));
    let seen = |uid: &str, version: &str| Known::Seen(SecretId::new(uid, version));
    assert!(is_settled(&object, &seen("s", "9"), &ours));
    assert!(!is_settled(&object, &seen("s", "10"), &ours));
    assert!(!is_settled(&object, &seen("t", "9"), &ours));
    assert!(!is_settled(&object, &Known::Absent, &ours));
    assert!(!is_settled(&object, &Known::Unknown, &ours));
    assert!(!is_settled(&object, &seen("s", "9"), &settings(&["--deny-type", "x"])), "other settings");
    let changed = |change: &dyn Fn(&mut SealedSecret)| {
        let mut changed = object.clone();
        change(&mut changed);
        is_settled(&changed, &seen("s", "9"), &ours)
    };
    assert!(!changed(&|s| s.metadata.generation = Some(2)));
    assert!(!changed(&|s| s.metadata.uid = Some("v".into())), "a status that came with a copy");
    assert!(!changed(&|s| s.spec.suspend = Some(true)));
    assert!(!changed(&|s| s.status = None));
    assert!(!changed(&|s| s.metadata.annotations = Some([(RECONCILE_AT_ANNOTATION.into(), "x".into())].into())));
    assert!(!changed(&|s| s.status.as_mut().unwrap().conditions[0].status = "False".into()));
}

#[test]
fn a_body_keeps_what_others_set_and_drops_what_we_set_before() {
    let identity = identity();
    let mut object = sealed(&identity);
    object.spec.template.get_or_insert_default().metadata = Some(bulla::resource::TemplateMetadata {
        labels: [("new".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    });
    let plain = open(&object, &[&identity]).unwrap();
    let mut existing = secret(controlled("old", "SealedSecret", API_VERSION, "db"));
    existing.labels = Some([("theirs".into(), "x".into()), ("gone".into(), "x".into())].into());
    existing.finalizers = Some(vec!["theirs/finalizer".into()]);
    existing.owner_references.as_mut().unwrap().push(OwnerReference { uid: "t".into(), ..Default::default() });
    set_fields(&mut existing, FIELD_MANAGER, json!({"f:metadata": {"f:labels": {".": {}, "f:gone": {}}}}), 1);
    set_fields(&mut existing, "kubectl", json!({"f:metadata": {"f:labels": {"f:theirs": {}}}}), 2);
    let body: Value = serde_json::from_slice(&secret_body(&object, &plain, "cdigest", Some(&existing))).unwrap();
    let metadata = &body["metadata"];
    assert_eq!(metadata["labels"], json!({"new": "1", "theirs": "x"}));
    assert_eq!(metadata["annotations"], json!({SEALED_SECRET_ANNOTATION: "db", CONTENT_ANNOTATION: "cdigest"}));
    assert_eq!(metadata["finalizers"], json!(["theirs/finalizer"]));
    assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!("s"), &json!("9")));
    let owners: Vec<_> = metadata["ownerReferences"].as_array().unwrap().iter().map(|o| o["uid"].clone()).collect();
    assert_eq!(owners, ["t", "u"]);
    assert!(metadata.get("managedFields").is_none());
    assert_eq!(body["data"], json!({"password": "aHVudGVyMg=="}));
    assert_eq!(last_manager(&existing).as_deref(), Some("kubectl"));
}

#[test]
fn a_patch_takes_back_only_what_it_recorded() {
    let identity = identity();
    let plain = open(&sealed(&identity), &[&identity]).unwrap();
    let existing = secret(annotated(&[(PATCHED_KEYS_ANNOTATION, "old,password")]));
    let patch: Value = serde_json::from_slice(&patch_body(&plain, &existing)).unwrap();
    assert_eq!(patch["data"], json!({"old": null, "password": "aHVudGVyMg=="}));
    assert_eq!(patch["metadata"]["resourceVersion"], "9");
    assert_eq!(patch["metadata"]["annotations"][PATCHED_KEYS_ANNOTATION], "password");
}

// A scripted API server.

/// One request that is expected, and what is answered.
pub enum Reply {
    /// The status, and the body.
    Say(u16, Value),
    /// The request is done, and the answer lost.
    Lose,
}

/// The requests that came: method, path, body.
pub type Log = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// A refusal with a text that must not be repeated.
pub fn refusal(code: u16, reason: &str) -> Reply {
    Reply::Say(
        code,
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "hunter2"}),
    )
}

fn is_secret(version: &str, owner: &str) -> Reply {
    let metadata = secret(|m| {
        m.resource_version = Some(version.to_owned());
        controlled(owner, "SealedSecret", API_VERSION, "db")(m);
    });
    Reply::Say(200, json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}))
}

/// An API server that answers so, the requests that it gets, and its end.
pub fn scripted(script: Vec<Reply>) -> (Api, Log, tokio::task::JoinHandle<()>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Sent>, Response<Sent>>();
    let log: Log = Log::default();
    let served = {
        let log = log.clone();
        tokio::spawn(async move {
            for reply in script {
                let Some((request, send)) = handle.next_request().await else { return };
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await.unwrap_or_default();
                let body = serde_json::from_slice(&bytes).unwrap_or_default();
                log.lock().unwrap().push((parts.method, parts.uri.path().to_owned(), body));
                match reply {
                    Reply::Say(code, body) => send.send_response(
                        Response::builder().status(code).body(Sent::from(body.to_string().into_bytes())).unwrap(),
                    ),
                    Reply::Lose => send.send_error(std::io::Error::other("hunter2")),
                }
            }
            // Nothing else may be asked.
            if let Some((request, _)) = handle.next_request().await {
                log.lock().unwrap().push((request.method().clone(), "UNEXPECTED".to_owned(), Value::Null));
            }
        })
    };
    (Api::new(kube::Client::new(service, "shop")), log, served)
}

/// Runs one look against these answers; returns it, and the requests.
async fn look_with(
    object: Option<SealedSecret>,
    identity: &Arc<Identity>,
    known: Known,
    script: Vec<Reply>,
) -> (Outcome, Vec<(Method, String, Value)>) {
    let (api, log, served) = scripted(script);
    let key = RingKey { name: "k".into(), identity: identity.clone(), state: KeyState::Active, answers: true };
    let ring = Ring { complete: true, keys: vec![key], preferred: Some(0), ..Ring::default() };
    let context = Context {
        events: Events::new(api.clone(), "test".to_owned()),
        api,
        settings: Arc::new(settings(&[])),
        ring: watch::channel(Arc::new(ring)).1,
        metrics: Arc::default(),
        opening: Semaphore::new(1),
        bitnami: None,
    };
    let key = ObjectKey { kind: crate::queue::Kind::Native, namespace: "shop".into(), name: "db".into() };
    let outcome = reconcile(&context, &key, object.map(Box::new), known, true).await;
    drop(context);
    served.await.unwrap();
    let log = std::mem::take(&mut *log.lock().unwrap());
    assert!(log.iter().all(|(_, path, _)| path != "UNEXPECTED"), "{log:?}");
    (outcome, log)
}

/// Methods and resources.
pub fn verbs(log: &[(Method, String, Value)]) -> Vec<String> {
    let last = |path: &str| path.rsplit('/').find(|part| *part != "db").unwrap_or_default().to_owned();
    log.iter().map(|(method, path, _)| format!("{method} {}", last(path))).collect()
}

/// Done.
pub fn ok() -> Reply {
    Reply::Say(200, json!({"metadata": {"name": "db", "uid": "u", "resourceVersion": "6"}}))
}

#[tokio::test]
async fn an_object_takes_two_writes_and_no_read() {
    let key = identity();
    let (outcome, log) = look_with(Some(sealed(&key)), &key, Known::Absent, vec![is_secret("10", "u"), ok()]).await;
    assert_eq!(verbs(&log), ["POST secrets", "PUT status"]);
    assert_eq!(log[0].2["data"]["password"], "aHVudGVyMg==");
    let status = &log[1].2;
    assert_eq!((&status["metadata"]["uid"], &status["metadata"]["resourceVersion"]), (&json!("u"), &json!("5")));
    assert_eq!(status["status"]["applied"]["secretVersion"], "10");
    assert_eq!(outcome.verdict.unwrap().standing, Standing::Ready);
    assert_eq!(outcome.applied.unwrap().version, Version::new("10"));
}

#[tokio::test]
async fn a_conflict_is_looked_at_again_and_a_lost_answer_decided_by_ownership() {
    let key = identity();
    // Somebody wrote between look and write.
    let script = vec![
        is_secret("10", "u"),
        refusal(409, "Conflict"),
        Reply::Say(200, serde_json::to_value(sealed(&key)).unwrap()),
        is_secret("11", "u"),
        is_secret("12", "u"),
        ok(),
    ];
    let known = Known::Seen(SecretId::new("s", "10"));
    let (outcome, log) = look_with(Some(sealed(&key)), &key, known, script).await;
    let expected = ["GET secrets", "PUT secrets", "GET sealedsecrets", "GET secrets", "PUT secrets", "PUT status"];
    assert_eq!(verbs(&log), expected);
    assert_eq!(log[4].2["metadata"]["resourceVersion"], "11");
    assert_eq!(outcome.verdict.unwrap().standing, Standing::Ready);

    // The answer to a POST was lost; the next look finds the Secret there, and it is ours.
    let (outcome, log) = look_with(Some(sealed(&key)), &key, Known::Absent, vec![Reply::Lose, ok(), ok()]).await;
    assert_eq!(verbs(&log), ["POST secrets", "PUT status", "POST events"]);
    let verdict = outcome.verdict.unwrap();
    assert_eq!((verdict.standing, verdict.reason), (Standing::Reconciling, "Unavailable"));
    let script = vec![
        refusal(409, "AlreadyExists"),
        Reply::Say(200, serde_json::to_value(sealed(&key)).unwrap()),
        is_secret("10", "u"),
        is_secret("10", "u"),
        ok(),
    ];
    let (outcome, log) = look_with(Some(sealed(&key)), &key, Known::Absent, script).await;
    assert_eq!(log.len(), 5);
    assert_eq!(outcome.verdict.unwrap().standing, Standing::Ready);
    assert!(outcome.repaired.is_none());
}

#[tokio::test]
async fn what_went_away_is_made_anew_and_what_is_gone_is_forgotten() {
    let key = identity();
    let known = || Known::Seen(SecretId::new("s", "10"));
    // The Secret was deleted between look and write.
    let script = vec![
        is_secret("10", "u"),
        refusal(404, "NotFound"),
        Reply::Say(200, serde_json::to_value(sealed(&key)).unwrap()),
        is_secret("20", "u"),
        ok(),
    ];
    let (outcome, log) = look_with(Some(sealed(&key)), &key, known(), script).await;
    assert_eq!(verbs(&log), ["GET secrets", "PUT secrets", "GET sealedsecrets", "POST secrets", "PUT status"]);
    assert_eq!(outcome.verdict.unwrap().standing, Standing::Ready);
    // The SealedSecret was.
    let (outcome, _) = look_with(None, &key, known(), vec![refusal(404, "NotFound")]).await;
    assert!(outcome.gone);
    let (outcome, log) =
        look_with(Some(sealed(&key)), &key, Known::Absent, vec![is_secret("10", "u"), refusal(404, "NotFound")]).await;
    assert!(outcome.gone && log.len() == 2);
}

#[tokio::test]
async fn a_status_goes_to_the_very_object_that_was_looked_at() {
    let key = identity();
    // Only its version is another: the status is written to that.
    let mut touched = sealed(&key);
    touched.metadata.resource_version = Some("6".to_owned());
    let script = vec![
        is_secret("10", "u"),
        refusal(409, "Conflict"),
        Reply::Say(200, serde_json::to_value(&touched).unwrap()),
        ok(),
    ];
    let (_, log) = look_with(Some(sealed(&key)), &key, Known::Absent, script).await;
    assert_eq!(log[3].2["metadata"]["resourceVersion"], "6");
    // It is another object: that one is looked at, and its predecessor's Secret becomes its own.
    let mut other = sealed(&key);
    other.metadata.uid = Some("v".to_owned());
    let script = vec![
        is_secret("10", "u"),
        refusal(409, "Conflict"),
        Reply::Say(200, serde_json::to_value(&other).unwrap()),
        Reply::Say(200, serde_json::to_value(&other).unwrap()),
        is_secret("10", "u"),
        is_secret("11", "v"),
        ok(),
    ];
    let (_, log) = look_with(Some(sealed(&key)), &key, Known::Absent, script).await;
    let last = &log[6].2;
    assert_eq!((&last["metadata"]["uid"], &last["status"]["applied"]["secretVersion"]), (&json!("v"), &json!("11")));
    assert_eq!(log[5].2["metadata"]["ownerReferences"][0]["uid"], "v");
}

#[tokio::test]
async fn refusals_are_told_in_our_own_words() {
    let key = identity();
    let message = "secrets is forbidden: User \"x\" cannot create resource \"secrets\" in API group \"\" hunter2";
    let denied = json!({"code": 403, "reason": "Forbidden", "message": message});
    let throttled =
        json!({"code": 429, "reason": "TooManyRequests", "message": "hunter2", "details": {"retryAfterSeconds": 7}});
    for (code, body, reason) in [(403, denied, "Forbidden"), (429, throttled, "Throttled")] {
        let script = vec![Reply::Say(code, body), ok(), ok()];
        let (outcome, log) = look_with(Some(sealed(&key)), &key, Known::Absent, script).await;
        assert_eq!(verbs(&log), ["POST secrets", "PUT status", "POST events"]);
        assert_eq!(log[2].2["reason"], reason);
        assert!(!log[1].2.to_string().contains("hunter2") && !log[2].2.to_string().contains("hunter2"));
        assert_eq!(outcome.verdict.unwrap().reason, reason);
        assert_eq!(outcome.pause, (code == 429).then(|| Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn nothing_is_asked_about_what_is_settled() {
    let key = identity();
    let mut object = sealed(&key);
    object.status = Some(applied(&object, &settings(&[]), "s", "10"));
    let known = Known::Seen(SecretId::new("s", "10"));
    let (outcome, log) = look_with(Some(object), &key, known, Vec::new()).await;
    assert!(log.is_empty() && outcome.verdict.unwrap().standing == Standing::Ready);
}

/// A later version's object, under an older controller.
#[tokio::test]
async fn what_can_t_be_read_says_so() {
    let key = identity();
    let mut odd = serde_json::to_value(sealed(&key)).unwrap();
    odd["spec"]["drift"] = json!("ask");
    let get = || Reply::Say(200, odd.clone());
    let (outcome, log) = look_with(None, &key, Known::Absent, vec![get(), get(), ok(), ok()]).await;
    assert_eq!(verbs(&log), ["GET sealedsecrets", "GET sealedsecrets", "PUT status", "POST events"]);
    let ready = &log[2].2["status"]["conditions"][0];
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("Malformed")));
    assert_eq!(outcome.verdict.unwrap().standing, Standing::Stalled);
}
