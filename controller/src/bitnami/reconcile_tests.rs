#![allow(clippy::unwrap_used)]

use axum::http::Method;
use bulla::bitnami::{Certificate, PrivateKey, label, seal_item};
use bulla::scope::Scope;
use clap::Parser as _;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::bitnami::keys::{RsaKey, RsaRing};
use crate::bitnami::metrics::Metrics;
use crate::events::Events;
use crate::queue::Kind;
use crate::reconcile::tests::{Reply, ok, refusal, scripted, verbs};

fn pair() -> (PrivateKey, Certificate) {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/bitnami.json")).unwrap();
    let text = |field: &str| vectors["keys"][0][field].as_str().unwrap().as_bytes().to_vec();
    let certificate = Certificate::from_pem(&text("certificate")).unwrap();
    (PrivateKey::with_certificate(&text("privateKey"), &certificate).unwrap(), certificate)
}

fn sealed() -> BitnamiSealedSecret {
    let item = seal_item(&pair().1, &label(Scope::Strict, "shop", "db"), b"hunter2").unwrap();
    serde_json::from_value(json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": {"name": "db", "namespace": "shop", "uid": "u", "generation": 1, "resourceVersion": "5"},
        "spec": {"encryptedData": {"password": item}},
    }))
    .unwrap()
}

fn secret(version: &str, value: &str) -> Reply {
    Reply::Say(
        200,
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"password": value},
            "metadata": {
                "name": "db", "namespace": "shop", "uid": "s", "resourceVersion": version,
                "ownerReferences": [
                    {"apiVersion": API_VERSION, "kind": KIND, "name": "db", "uid": "u", "controller": true},
                ],
            },
        }),
    )
}

const SAME: &str = "aHVudGVyMg==";

async fn look_with(
    args: &[&str],
    object: Option<BitnamiSealedSecret>,
    known: Known,
    script: Vec<Reply>,
) -> (Outcome, Vec<(Method, String, Value)>) {
    let (api, log, served) = scripted(script);
    let (key, certificate) = pair();
    let key =
        RsaKey { name: "k".into(), key: Arc::new(key), certificate: Arc::new(certificate), at: Timestamp::UNIX_EPOCH };
    let shared = Shared {
        observed: Arc::default(),
        ring: watch::channel(Arc::new(RsaRing { complete: true, keys: vec![key] })).1,
        hints: Arc::default(),
        metrics: Arc::new(Metrics::new(true)),
        telling: Arc::new(Semaphore::new(1)),
    };
    let settings = crate::args::Args::parse_from([&["bulla-controller"], args].concat()).settings().unwrap();
    let context = Context {
        events: Events::new(api.clone(), "test".to_owned()),
        api,
        settings: Arc::new(settings),
        ring: watch::channel(Arc::default()).1,
        metrics: Arc::default(),
        opening: Semaphore::new(1),
        bitnami: Some(shared.clone()),
    };
    let key = ObjectKey { kind: Kind::Bitnami, namespace: "shop".into(), name: "db".into() };
    let outcome = reconcile(&context, &shared, &key, object.map(Box::new), known, true).await;
    drop((context, shared));
    served.await.unwrap();
    let log = std::mem::take(&mut *log.lock().unwrap());
    assert!(log.iter().all(|(_, path, _)| path != "UNEXPECTED"), "{log:?}");
    (outcome, log)
}

fn again() -> Reply {
    Reply::Say(200, serde_json::to_value(sealed()).unwrap())
}

#[tokio::test]
async fn a_lost_answer_is_decided_by_comparing() {
    // The POST was done and its answer lost: it says that the Secret is there, and it is what it should be.
    let script = vec![refusal(409, "AlreadyExists"), again(), secret("10", SAME), ok(), ok()];
    let (outcome, log) = look_with(&["--bitnami"], Some(sealed()), Known::Absent, script).await;
    let expected = ["POST secrets", "GET sealedsecrets", "GET secrets", "PUT status", "POST events"];
    assert_eq!(verbs(&log), expected);
    assert_eq!(log[3].2["status"]["conditions"][0]["type"], "Synced");
    let memory = log[3].2["status"]["conditions"][1]["message"].as_str().unwrap();
    assert!(memory.starts_with("secret=s version=10 inputs=i"), "{memory}");
    assert_eq!(outcome.applied, Some(SecretId::new("s", "10")));
    assert!(outcome.repaired.is_none());
    // Without an answer at all it is tried again.
    let script = vec![Reply::Lose, ok(), ok()];
    let (outcome, log) = look_with(&["--bitnami"], Some(sealed()), Known::Absent, script).await;
    assert_eq!(verbs(&log), ["POST secrets", "PUT status", "POST events"]);
    assert_eq!(outcome.verdict.unwrap().standing, Standing::Reconciling);
}

#[tokio::test]
async fn somebody_who_writes_between_look_and_write_is_looked_at() {
    let script = vec![
        secret("10", "eA=="),
        refusal(409, "Conflict"),
        again(),
        secret("11", "eQ=="),
        Reply::Say(200, json!({"metadata": {"name": "db", "uid": "s", "resourceVersion": "12"}})),
        ok(),
        ok(),
    ];
    let known = Known::Seen(SecretId::new("s", "10"));
    let (outcome, log) = look_with(&["--bitnami"], Some(sealed()), known, script).await;
    assert_eq!(
        verbs(&log),
        ["GET secrets", "PUT secrets", "GET sealedsecrets", "GET secrets", "PUT secrets", "PUT status", "POST events"]
    );
    assert_eq!((&log[4].2["metadata"]["uid"], &log[4].2["metadata"]["resourceVersion"]), (&json!("s"), &json!("11")));
    assert_eq!(outcome.applied, Some(SecretId::new("s", "12")));
}

#[tokio::test]
async fn no_text_of_a_refusal_gets_into_status_or_event() {
    for code in [403, 422, 500] {
        let script = vec![refusal(code, "Whatever"), ok(), ok()];
        let (outcome, log) = look_with(&["--bitnami"], Some(sealed()), Known::Absent, script).await;
        assert_eq!(verbs(&log), ["POST secrets", "PUT status", "POST events"], "{code}");
        let synced = &log[1].2["status"]["conditions"][0];
        assert_eq!(synced["status"], "False");
        assert_eq!(log[2].2["reason"], "ErrUpdateFailed");
        let told = format!("{} {}", log[1].2, log[2].2);
        assert!(!told.contains("hunter2") && !told.contains(SAME), "{told}");
        assert_ne!(outcome.verdict.unwrap().standing, Standing::Ready);
    }
}

#[tokio::test]
async fn observing_asks_and_writes_nothing() {
    for (value, reason) in [(SAME, "Same"), ("eA==", "Different")] {
        let known = Known::Seen(SecretId::new("s", "10"));
        let script = vec![secret("10", value)];
        let (outcome, log) = look_with(&["--bitnami=observe"], Some(sealed()), known, script).await;
        assert_eq!(verbs(&log), ["GET secrets"]);
        assert_eq!(outcome.verdict.unwrap().reason, reason);
    }
    let (outcome, log) = look_with(&["--bitnami=observe"], Some(sealed()), Known::Absent, vec![]).await;
    assert_eq!((log.len(), outcome.verdict.unwrap().reason), (0, "Missing"));
}

/// Made without an owner, the answer lost, and the controller killed: what is there is known again by who wrote it and by what is in it.
#[tokio::test]
async fn a_secret_without_an_owner_is_known_again_after_a_crash() {
    let mut free = sealed();
    let annotations = [(bulla::bitnami::SKIP_SET_OWNER_REFERENCES.to_owned(), "true".to_owned())];
    let metadata = ObjectMeta { annotations: Some(annotations.into()), ..ObjectMeta::default() };
    free.spec.template = Some(bulla::bitnami::BitnamiSecretTemplate { metadata: Some(metadata), ..Default::default() });
    let there = |value: &str, managers: &[&str], owners: Value| {
        let fields: Vec<_> = managers.iter().map(|name| json!({"manager": name, "operation": "Update"})).collect();
        Reply::Say(
            200,
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"password": value},
                "metadata": {
                    "name": "db", "namespace": "shop", "uid": "s", "resourceVersion": "10", "ownerReferences": owners,
                    "annotations": {bulla::bitnami::SKIP_SET_OWNER_REFERENCES: "true"}, "managedFields": fields,
                },
            }),
        )
    };
    let us = crate::api::FIELD_MANAGER;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]);
    for (secret, known_again) in [
        (there(SAME, &[us], Value::Null), true),
        (there("eA==", &[us], Value::Null), false),
        (there(SAME, &[us, "kubectl"], Value::Null), false),
        (there(SAME, &[], Value::Null), false),
        (there(SAME, &[us], owner), false),
    ] {
        let known = Known::Seen(SecretId::new("s", "10"));
        let (outcome, log) = look_with(&["--bitnami"], Some(free.clone()), known, vec![secret, ok(), ok()]).await;
        assert_eq!(verbs(&log), ["GET secrets", "PUT status", "POST events"]);
        let standing = outcome.verdict.unwrap().standing;
        assert_eq!(standing, if known_again { Standing::Ready } else { Standing::Stalled });
    }
}

#[tokio::test]
async fn what_can_t_be_read_says_so() {
    let mut odd = serde_json::to_value(sealed()).unwrap();
    odd["spec"]["template"] = json!({"metadata": {"labels": {"release": 5}}});
    let get = || Reply::Say(200, odd.clone());
    let (outcome, log) = look_with(&["--bitnami"], None, Known::Absent, vec![get(), get(), ok(), ok()]).await;
    assert_eq!(verbs(&log), ["GET sealedsecrets", "GET sealedsecrets", "PUT status", "POST events"]);
    let synced = &log[2].2["status"]["conditions"][0];
    assert_eq!((&synced["type"], &synced["status"]), (&json!("Synced"), &json!("False")));
    assert_eq!(log[2].2["status"]["observedGeneration"], 1);
    assert!(synced["message"].as_str().unwrap().contains("labels and annotations are texts"), "{synced}");
    assert_eq!(outcome.verdict.unwrap().standing, Standing::Stalled);
    let (_, log) = look_with(&["--bitnami=observe"], None, Known::Absent, vec![get()]).await;
    assert_eq!(verbs(&log), ["GET sealedsecrets"]);
}
