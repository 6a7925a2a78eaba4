#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use axum::body::Body as Answer;
use axum::http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

#[test]
fn of_a_secret_only_what_is_needed_is_taken() {
    let text = json!({
        "kind": "PartialObjectMetadata", "metadata": {
            "name": "db", "namespace": "shop", "uid": "12345678-9abc-def0-1234-56789abcdef0", "resourceVersion": "7",
            "annotations": {"last-applied": "{\"data\":\"hunter2\"}", "bulla.dev/sealed-secret": "db", "x\"y": "z"},
            "managedFields": [{"manager": "m", "fieldsV1": {"f:data": {}}}],
        },
    });
    let seen = SecretSeen::decode(&text.to_string()).unwrap();
    assert!(seen.marked.native);
    assert_eq!((&*seen.namespace, &*seen.name), ("shop", "db"));
    assert_eq!(seen.id, SecretId::new("12345678-9abc-def0-1234-56789abcdef0", "7"));
    let mut other = text.clone();
    other["metadata"]["annotations"] = Value::Null;
    assert!(!SecretSeen::decode(&other.to_string()).unwrap().marked.native);
    let owner = |api: &str, kind: &str| json!([{"apiVersion": api, "kind": kind, "name": "db", "uid": "u"}]);
    for (api, kind, marked) in [
        ("bulla.dev/v1alpha1", "SealedSecret", true),
        ("bulla.dev/v9", "SealedSecret", true),
        ("bulla.dev.evil/v1", "SealedSecret", false),
        ("bitnami.com/v1alpha1", "SealedSecret", false),
        ("bulla.dev/v1alpha1", "SealingKey", false),
    ] {
        other["metadata"]["ownerReferences"] = owner(api, kind);
        assert_eq!(SecretSeen::decode(&other.to_string()).unwrap().marked.native, marked, "{api} {kind}");
    }
}

#[test]
fn of_a_sealed_secret_everything_but_managed_fields_is_taken() {
    let text = json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
        "metadata": {
            "name": "db", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {"a": "b"}, "annotations": {"bulla.dev/reconcile-at": "1"},
            "deletionTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "m"}], "selfLink": "x",
        },
        "spec": {"items": {"a": {"sealed": "x"}}, "unknown": 1},
        "status": {"observedGeneration": -1},
    });
    let whole: SealedSecret = serde_json::from_value(text.clone()).unwrap();
    let lean = SealedSecret::decode(&text.to_string()).unwrap();
    assert_eq!(lean.spec, whole.spec);
    assert_eq!(lean.status, whole.status);
    let mut metadata = whole.metadata;
    metadata.managed_fields = None;
    metadata.self_link = None;
    assert_eq!(lean.metadata, metadata);
    assert!(SealedSecret::decode(r#"{"metadata": {}, "spec": {"items": []}}"#).is_none());
    // Somebody has to say of it that it can't be read.
    let odd = r#"{"metadata": {"name": "db", "uid": "u"}, "spec": {"items": []}}"#;
    let Some(NativeSeen(Object::Unreadable(Kind::Native, metadata))) = NativeSeen::decode(odd) else { panic!("{odd}") };
    assert_eq!((metadata.name.as_deref(), metadata.uid.as_deref()), (Some("db"), Some("u")));
    let odd = r#"{"metadata": {"name": "db"}, "spec": {"template": {"metadata": {"labels": {"a": 5}}}}}"#;
    assert!(matches!(TheirsSeen::decode(odd), Some(TheirsSeen(Object::Unreadable(Kind::Bitnami, _)))));
    assert!(TheirsSeen::decode("[]").is_none());
}

#[test]
fn a_selector_is_escaped() {
    let source = Source { fields: Some("type!=a/b c".into()), ..Source::of("/api/v1/secrets".into()) };
    assert_eq!(source.url(&[("limit", "25")]), "/api/v1/secrets?limit=25&fieldSelector=type%21%3Da%2Fb%20c");
}

type Asked = Arc<Mutex<Vec<String>>>;

/// An API server that answers requests by what `answer` makes of their query.
fn api(mut answer: impl FnMut(&str) -> Response<Answer> + Send + 'static) -> (Api, Asked, JoinHandle<()>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Answer>>();
    let asked = Asked::default();
    let log = asked.clone();
    let task = tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let query = request.uri().query().unwrap_or_default().to_owned();
            log.lock().unwrap().push(query.clone());
            send.send_response(answer(&query));
        }
    });
    (Api::new(kube::Client::new(service, "shop")), asked, task)
}

fn said(code: u16, body: impl Into<String>) -> Response<Answer> {
    Response::builder().status(code).body(Answer::from(body.into().into_bytes())).unwrap()
}

/// What is asked after a connection that ended early: at which version the API server is.
const WHERE: &str = "limit=1";

fn at(version: u64) -> Response<Answer> {
    said(200, json!({"metadata": {"resourceVersion": version.to_string()}, "items": []}).to_string())
}

fn namespace(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version.to_string()}})
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn start(api: Api, streaming: bool) -> (mpsc::Receiver<(usize, Event<NamespaceSeen>)>, watch::Sender<bool>) {
    let (sender, events) = mpsc::channel(64);
    let room = watch::Sender::new(true);
    let source = Source { streaming, ..Source::of("/api/v1/namespaces".into()) };
    tokio::spawn(watch(api, source, 0, sender, room.subscribe()));
    (events, room)
}

async fn told(events: &mut mpsc::Receiver<(usize, Event<NamespaceSeen>)>) -> String {
    match events.recv().await.unwrap().1 {
        Event::Begin => "begin".to_owned(),
        Event::Listed(NamespaceSeen(name)) => format!("listed {name}"),
        Event::End => "end".to_owned(),
        Event::Seen(NamespaceSeen(name)) => format!("seen {name}"),
        Event::Gone(NamespaceSeen(name)) => format!("gone {name}"),
        Event::Restored => "restored".to_owned(),
        Event::Rewound => "rewound".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_a_list_and_goes_on_as_a_watch() {
    let end = json!({"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}});
    let (api, asked, _task) = api(move |query| {
        if query.contains("sendInitialEvents") {
            let lines = [line("ADDED", &namespace("a", 12)), line("ADDED", &namespace("b", 3)), line("BOOKMARK", &end)];
            return said(200, lines.concat() + &line("DELETED", &namespace("b", 10)));
        }
        if query == WHERE {
            return at(11);
        }
        said(
            200,
            if query.ends_with("resourceVersion=10") { line("ADDED", &namespace("c", 11)) } else { String::new() },
        )
    });
    let (mut events, _room) = start(api, true);
    for expected in ["begin", "listed a", "listed b", "end", "gone b", "seen c"] {
        assert_eq!(told(&mut events).await, expected);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut asked = asked.lock().unwrap().clone();
    asked.retain(|query| query != WHERE);
    assert!(asked[1].ends_with("resourceVersion=10"), "{asked:?}");
    assert!(asked[2..].iter().all(|query| query.ends_with("resourceVersion=11")), "{asked:?}");
    assert!(asked.len() < 12, "a watch that ends at once is not asked for all the time: {}", asked.len());
}

#[tokio::test(start_paused = true)]
async fn pages_come_where_streams_do_not_and_wait_for_room() {
    let (api, asked, _task) = api(|query| {
        if query.contains("sendInitialEvents") {
            return said(422, json!({"code": 422, "reason": "Invalid"}).to_string());
        }
        if query.contains("watch=true") {
            return said(200, line("MODIFIED", &namespace("b", 20)));
        }
        if query == WHERE {
            return at(20);
        }
        let (items, further) = match query.split("continue=").nth(1) {
            None => (vec![namespace("a", 1)], "two"),
            Some("two") => (vec![namespace("b", 2)], "three"),
            // The list took too long: it goes on from here at a newer version.
            Some("three") => {
                return said(
                    410,
                    json!({"code": 410, "reason": "Expired", "metadata": {"continue": "four"}}).to_string(),
                );
            }
            Some(_) => (vec![namespace("c", 3)], ""),
        };
        said(200, json!({"metadata": {"resourceVersion": "10", "continue": further}, "items": items}).to_string())
    });
    let (mut events, room) = start(api, true);
    room.send_replace(false);
    assert_eq!(told(&mut events).await, "begin");
    assert_eq!(told(&mut events).await, "listed a");
    // The watch does not wait for the list.
    assert_eq!(told(&mut events).await, "seen b");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!asked.lock().unwrap().iter().any(|query| query.contains("continue=")));
    room.send_replace(true);
    let mut rest = Vec::new();
    while rest.last().is_none_or(|last| last != "end") {
        rest.push(told(&mut events).await);
    }
    rest.retain(|event| event != "seen b");
    assert_eq!(rest, ["listed b", "listed c", "end"]);
}

#[tokio::test(start_paused = true)]
async fn pages_grow_with_small_objects_and_shrink_with_large_ones() {
    let large = "x".repeat(1 << 20);
    let (api, asked, _task) = api(move |query| {
        if query.contains("watch=true") {
            return said(200, "");
        }
        let limit: usize = query.split("limit=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
        let from: usize = query.split("continue=").nth(1).map_or(0, |token| token.parse().unwrap());
        // A thousand small ones, then forty of a megabyte.
        let of = |number: usize| {
            let mut object = namespace(&format!("n{number}"), 1);
            if number >= 1000 {
                object["spec"] = large.clone().into();
            }
            object
        };
        let items: Vec<_> = (from..(from + limit).min(1040)).map(of).collect();
        let next = from + items.len();
        let further = if next < 1040 { next.to_string() } else { String::new() };
        said(200, json!({"metadata": {"resourceVersion": "10", "continue": further}, "items": items}).to_string())
    });
    let (mut events, _room) = start(api, false);
    let mut names = Vec::new();
    loop {
        match told(&mut events).await.as_str() {
            "begin" => {}
            "end" => break,
            name => names.push(name.to_owned()),
        }
    }
    assert_eq!(names.len(), 1040);
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 1040);
    let limits: Vec<usize> = asked
        .lock()
        .unwrap()
        .iter()
        .filter(|query| !query.contains("watch=true") && *query != WHERE)
        .map(|query| query.split("limit=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(limits[..5], [25, 50, 100, 200, 400]);
    assert!(limits.last().unwrap() <= &2, "{limits:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_listed_again_and_a_missing_right_is_not_asked_for_all_the_time() {
    let mut lists = 0;
    let (api, asked, _task) = api(move |query| {
        if query.contains("watch=true") {
            return said(200, line("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})));
        }
        if query == WHERE {
            return at(10);
        }
        lists += 1;
        if lists > 2 {
            return said(403, json!({"code": 403, "message": "x cannot list resource in API group \"\""}).to_string());
        }
        said(200, json!({"metadata": {"resourceVersion": "10"}, "items": [namespace("a", 1)]}).to_string())
    });
    let (mut events, _room) = start(api, false);
    for _ in 0..2 {
        for expected in ["begin", "listed a", "end"] {
            assert_eq!(told(&mut events).await, expected);
        }
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = asked.lock().unwrap().iter().filter(|query| *query != WHERE).count();
    assert!((20..60).contains(&asked), "{asked} requests in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_busy_api_server_is_left_alone_as_long_as_it_asks() {
    let begun = tokio::time::Instant::now();
    let mut asked = 0;
    let (api, ..) = api(move |query| {
        asked += 1;
        if query.contains("continue=") && asked < 5 {
            return Response::builder().status(429).header("Retry-After", "40").body(Answer::from(Vec::new())).unwrap();
        }
        if query.contains("watch=true") {
            return said(200, "");
        }
        let further = if query.contains("continue=") { "" } else { "more" };
        said(200, json!({"metadata": {"resourceVersion": "10", "continue": further}, "items": []}).to_string())
    });
    let (mut events, _room) = start(api, false);
    for expected in ["begin", "restored", "end"] {
        assert_eq!(told(&mut events).await, expected);
    }
    assert!(begun.elapsed() >= Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn versions_that_begin_anew_are_noticed() {
    let mut checks = 0;
    let (api, asked, _task) = api(move |query| {
        if query.contains("watch=true") {
            return said(200, "");
        }
        if query == WHERE {
            checks += 1;
            // First it is away, then etcd is back, from a backup.
            return if checks == 1 { said(503, "") } else { at(50) };
        }
        let version = if checks == 0 { "100" } else { "50" };
        said(200, json!({"metadata": {"resourceVersion": version}, "items": [namespace("a", 7)]}).to_string())
    });
    let (mut events, _room) = start(api, false);
    for expected in ["begin", "listed a", "end", "rewound", "restored", "begin", "listed a", "end"] {
        assert_eq!(told(&mut events).await, expected);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = asked.lock().unwrap().clone();
    let last = asked.iter().rfind(|query| query.contains("watch=true")).unwrap();
    assert!(last.ends_with("resourceVersion=50"), "{asked:?}");
    assert!(events.try_recv().is_err(), "nothing is told twice");
}

/// A network that is cut for minutes without anybody being told: the watch is taken up where it was, and what failed meanwhile is
/// tried again.
#[tokio::test(start_paused = true)]
async fn a_connection_that_falls_silent_is_given_up() {
    let end = json!({"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}});
    let mut watches = 0;
    let (api, asked, _task) = api(move |query| {
        if query.contains("sendInitialEvents") {
            return said(200, line("ADDED", &namespace("a", 3)) + &line("BOOKMARK", &end));
        }
        if query == WHERE {
            return at(9);
        }
        watches += 1;
        if watches == 1 {
            let silence = futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
            return Response::builder().body(Answer::from_stream(silence)).unwrap();
        }
        said(200, line("ADDED", &namespace("c", 10)))
    });
    let (mut events, _room) = start(api, true);
    for expected in ["begin", "listed a", "end"] {
        assert_eq!(told(&mut events).await, expected);
    }
    let silent = tokio::time::Instant::now();
    for expected in ["restored", "seen c"] {
        assert_eq!(told(&mut events).await, expected);
    }
    let passed = silent.elapsed();
    assert!(
        passed > Duration::from_secs(WATCH_SECONDS) && passed < Duration::from_secs(WATCH_SECONDS + 60),
        "{passed:?}"
    );
    let followed: Vec<_> =
        asked.lock().unwrap().iter().filter(|query| query.ends_with("resourceVersion=9")).cloned().collect();
    assert!(followed.len() >= 2, "it begins where it was: {followed:?}");
}
