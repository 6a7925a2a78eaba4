//! Lists and watches that hold no more than a page at a time.
//!
//! A list comes as a stream where the API server can do that and nothing is held back (metadata of Secrets), else in pages.
//! The size of a page follows the size of what is in it, and the next is asked for only when there is room. The watch
//! begins at the version of the first page and goes on *beside* the list: what changes during a long list is seen at once. So
//! a listed object can be older than one seen before it: whoever takes them in compares versions.
//!
//! `managedFields`, half of an object, are never decoded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Request as HttpRequest, header};
use bulla::bitnami::{
    BitnamiSealedSecret, BitnamiSealedSecretSpec, BitnamiStatus, MANAGED, PATCH, SKIP_SET_OWNER_REFERENCES,
};
use bulla::metadata::SEALED_SECRET_ANNOTATION;
use bulla::resource::{GROUP, KIND, SealedSecret, SealedSecretSpec, SealedSecretStatus};
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use crate::api::{Api, Failure, METADATA_ONLY, frames, read};
use crate::object::Object;
use crate::queue::{Kind, back_off};
use crate::reconcile::SecretId;

/// Objects in the first page of a list.
const FIRST_PAGE: usize = 25;
/// Objects in a page at most.
const MOST_IN_PAGE: usize = 500;
/// Pages grow while they stay under so many bytes. A page is there three times for a moment, as it came, as text and as objects:
/// this decides the peak of memory of a start.
const PAGE: usize = 256 << 10;
/// A page that turns out larger is asked for again, in smaller ones. Only a page of one object may be larger.
const LARGEST_PAGE: usize = 2 << 20;
/// A single object, as text, is never larger.
const LARGEST_OBJECT: usize = 16 << 20;
/// Metadata lists in one answer of at most so many bytes a page.
const LIST_DEADLINE: Duration = Duration::from_secs(60);
/// How long the API server keeps a watch open. A connection that is dead is noticed after little more.
const WATCH_SECONDS: u64 = 120;
/// Longest pause between attempts.
const MOST: Duration = Duration::from_secs(30);
/// Metadata of the objects in a list.
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// How long an API server that can send a list as a stream may take until it begins.
const STREAM_PATIENCE: Duration = Duration::from_secs(30);

/// What a watch tells.
#[derive(Debug)]
pub enum Event<T> {
    /// A list begins.
    Begin,
    /// Found in a list; may be older than what was seen.
    Listed(T),
    /// The list has ended: what was neither listed nor seen since its begin is gone.
    End,
    /// New, or another than before.
    Seen(T),
    /// Deleted; as it was last.
    Gone(T),
    /// The API server answers again, after it did not.
    Restored,
    /// The API server is at an earlier version than it was: etcd was restored from a backup. A list follows, and no version that
    /// was seen before says anything of what is older.
    Rewound,
}

impl<T> Event<T> {
    /// The same of another type.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Event<U> {
        match self {
            Self::Begin => Event::Begin,
            Self::Listed(object) => Event::Listed(change(object)),
            Self::End => Event::End,
            Self::Seen(object) => Event::Seen(change(object)),
            Self::Gone(object) => Event::Gone(change(object)),
            Self::Restored => Event::Restored,
            Self::Rewound => Event::Rewound,
        }
    }
}

/// What can be watched.
pub trait Watched: Sized + Send + 'static {
    /// Whether only metadata is asked for.
    const METADATA_ONLY: bool = false;

    /// From JSON; `None` when it is not of the form that it must have.
    fn decode(text: &str) -> Option<Self>;
}

/// What is watched.
#[derive(Clone, Debug)]
pub struct Source {
    /// For the log.
    pub what: &'static str,
    /// Of the list, without a query.
    pub path: String,
    /// A field selector.
    pub fields: Option<String>,
    /// A label selector.
    pub labels: Option<String>,
    /// Whether the list may come as a stream, which can't be held back.
    pub streaming: bool,
}

impl Source {
    /// Everything at a path, in pages.
    pub const fn of(path: String) -> Self {
        Self { what: "objects", path, fields: None, labels: None, streaming: false }
    }

    fn url(&self, query: &[(&str, &str)]) -> String {
        let mut url = format!("{}?", self.path);
        let selectors = [("fieldSelector", self.fields.as_deref()), ("labelSelector", self.labels.as_deref())];
        let selectors = selectors.into_iter().filter_map(|(key, value)| Some((key, value?)));
        for (number, (key, value)) in query.iter().copied().chain(selectors).enumerate() {
            if number > 0 {
                url.push('&');
            }
            url.push_str(key);
            url.push('=');
            escape(value, &mut url);
        }
        url
    }
}

/// A value in a query.
fn escape(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Into memory: it can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Why a list or watch has ended.
enum Stop {
    /// Nobody listens any more.
    Closed,
    /// What it followed is too old: list again.
    Expired,
    /// The API server does not send lists as streams.
    NoStream,
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Expired(_) => Self::Expired,
            failure => Self::Failed(failure),
        }
    }
}

struct Watching<T> {
    api: Api,
    source: Source,
    number: usize,
    events: mpsc::Sender<(usize, Event<T>)>,
    room: watch::Receiver<bool>,
    /// What was logged last: a failure, if it goes on.
    told: Mutex<Option<Failure>>,
    /// The latest version that was followed; 0 for none.
    latest: AtomicU64,
    /// Whether the last connection ended sooner than the API server ends one by itself.
    ended_early: AtomicBool,
}

impl<T> Watching<T> {
    fn new(
        api: Api,
        source: Source,
        number: usize,
        events: mpsc::Sender<(usize, Event<T>)>,
        room: watch::Receiver<bool>,
    ) -> Self {
        let (told, latest, ended_early) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Self { api, source, number, events, room, told, latest, ended_early }
    }
}

/// Lists and watches until nobody listens, and tells it under a number. A page is fetched only while `room` is true.
pub async fn watch<T: Watched>(
    api: Api,
    source: Source,
    number: usize,
    events: mpsc::Sender<(usize, Event<T>)>,
    room: watch::Receiver<bool>,
) {
    let mut streaming = source.streaming;
    let watching = Watching::new(api, source, number, events, room);
    let (mut attempt, mut begun) = (0, Instant::now());
    loop {
        if begun.elapsed() > MOST * 4 {
            attempt = 0;
        }
        begun = Instant::now();
        let stop = match watching.rewind().await {
            Ok(()) if streaming => watching.stream().await,
            Ok(()) => watching.pages().await,
            Err(stop) => stop,
        };
        match stop {
            Stop::Closed => return,
            Stop::NoStream => {
                streaming = false;
                continue;
            }
            Stop::Expired => {}
            Stop::Failed(failure) => watching.broken(&failure),
        }
        tokio::time::sleep(back_off(attempt, MOST)).await;
        attempt += 1;
    }
}

/// Lists once, and tells what is there as if it had just been seen. Whether everything was.
pub async fn list_once<T: Watched>(
    api: Api,
    source: Source,
    number: usize,
    events: mpsc::Sender<(usize, Event<T>)>,
    room: watch::Receiver<bool>,
) -> bool {
    let watching = Watching::new(api, source, number, events, room);
    for attempt in 0.. {
        let listed = async {
            let first = watching.first_page().await?;
            watching.tell_page(first.objects, Event::Seen).await?;
            watching.further_pages(first.further, first.limit, Event::Seen).await
        };
        match listed.await {
            Ok(()) => return true,
            Err(Stop::Closed) => return false,
            Err(Stop::Failed(failure)) => watching.broken(&failure),
            Err(_) => {}
        }
        tokio::time::sleep(back_off(attempt, MOST)).await;
    }
    false
}

struct Page<T> {
    objects: Vec<T>,
    version: String,
    further: Option<String>,
    /// How many objects the next one may have.
    limit: usize,
}

#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(default)]
    metadata: ListHead,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ListHead {
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default, rename = "continue")]
    further: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkHead,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkHead {
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl<T: Watched> Watching<T> {
    async fn tell(&self, event: Event<T>) -> Result<(), Stop> {
        self.events.send((self.number, event)).await.map_err(|_| Stop::Closed)
    }

    async fn tell_page(&self, objects: Vec<T>, as_: impl Fn(T) -> Event<T>) -> Result<(), Stop> {
        for object in objects {
            self.tell(as_(object)).await?;
        }
        Ok(())
    }

    /// Logs a failure, unless it is the one that was logged last.
    fn broken(&self, failure: &Failure) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() == Some(failure) {
            return;
        }
        let what = self.source.what;
        match failure {
            Failure::NotFound => {
                tracing::warn!(
                    what,
                    "the API server does not know the resource: install the custom resource definitions"
                );
            }
            Failure::Denied => tracing::warn!(what, "the service account has no right to list and watch"),
            failure => tracing::warn!(what, %failure, "a watch is interrupted; trying again"),
        }
        *told = Some(failure.clone());
    }

    async fn works(&self) -> Result<(), Stop> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        if told.is_some() {
            tracing::info!(what = self.source.what, "the watch goes on");
            self.tell(Event::Restored).await?;
        }
        Ok(())
    }

    fn follows(&self, version: &str) {
        self.latest.fetch_max(version.parse().unwrap_or_default(), Ordering::Relaxed);
    }

    /// Whether the API server is at an earlier version than was followed. A watch from a later version than there is would
    /// wait, without an error, until there is one.
    async fn is_rewound(&self) -> Result<bool, Stop> {
        let latest = self.latest.load(Ordering::Relaxed);
        if latest == 0 {
            return Ok(false);
        }
        let request = self.request(self.source.url(&[("limit", "1")]), METADATA_LIST)?;
        let body =
            tokio::time::timeout(LIST_DEADLINE, async { read(self.api.ask(request).await?, LARGEST_PAGE).await });
        let body = body.await.unwrap_or(Err(Failure::Unavailable)).map_err(Stop::Failed)?;
        let listing = serde_json::from_slice::<Listing<'_>>(&body).map_err(|_| Stop::Failed(Failure::Unavailable))?;
        let now: Option<u64> = listing.metadata.resource_version.and_then(|version| version.parse().ok());
        Ok(now.is_some_and(|now| now < latest))
    }

    /// Before another list: tells when versions begin anew.
    async fn rewind(&self) -> Result<(), Stop> {
        if self.is_rewound().await? {
            tracing::warn!(
                what = self.source.what,
                "the API server is at an earlier version than before: looking at everything"
            );
            self.latest.store(0, Ordering::Relaxed);
            self.tell(Event::Rewound).await?;
        }
        Ok(())
    }

    fn request(&self, url: String, accept: &'static str) -> Result<HttpRequest<Vec<u8>>, Stop> {
        let mut request = HttpRequest::get(url).body(Vec::new()).map_err(|_| Stop::Failed(Failure::Refused(400)))?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        Ok(request)
    }

    async fn first_page(&self) -> Result<Page<T>, Stop> {
        self.page(None, FIRST_PAGE).await
    }

    /// One page; in smaller ones when it is too large.
    async fn page(&self, further: Option<&str>, mut limit: usize) -> Result<Page<T>, Stop> {
        loop {
            let text = limit.to_string();
            let mut query = vec![("limit", text.as_str())];
            query.extend(further.map(|token| ("continue", token)));
            let request = self
                .request(self.source.url(&query), if T::METADATA_ONLY { METADATA_LIST } else { "application/json" })?;
            let most = if limit == 1 { LARGEST_OBJECT } else { LARGEST_PAGE };
            let body = tokio::time::timeout(LIST_DEADLINE, async { read(self.api.ask(request).await?, most).await });
            let body = match body.await.unwrap_or(Err(Failure::Unavailable)) {
                Ok(body) => body,
                Err(Failure::TooLarge) if limit > 1 => {
                    limit = (limit / 8).max(1);
                    continue;
                }
                Err(failure) => return Err(Stop::Failed(failure)),
            };
            let Ok(listing) = serde_json::from_slice::<Listing<'_>>(&body) else {
                return Err(Stop::Failed(Failure::Unavailable));
            };
            let items = listing.items.unwrap_or_default();
            // As many as fit by the size of these, but no more than twice as many at once.
            let each = body.len() / items.len().max(1) + 1;
            let limit = (PAGE / each).clamp(1, MOST_IN_PAGE).min(limit * 2);
            let objects = items.iter().filter_map(|item| self.decode(item)).collect();
            let further = listing.metadata.further.filter(|token| !token.is_empty());
            let version = listing.metadata.resource_version.unwrap_or_default();
            self.follows(&version);
            self.works().await?;
            return Ok(Page { objects, version, further, limit });
        }
    }

    fn decode(&self, object: &RawValue) -> Option<T> {
        let decoded = T::decode(object.get());
        if decoded.is_none() {
            tracing::warn!(what = self.source.what, "an object is not of the form that its definition demands");
        }
        decoded
    }

    async fn further_pages(
        &self,
        mut further: Option<String>,
        mut limit: usize,
        as_: impl Fn(T) -> Event<T> + Copy,
    ) -> Result<(), Stop> {
        let (mut room, mut attempt) = (self.room.clone(), 0);
        while let Some(token) = &further {
            room.wait_for(|room| *room).await.map_err(|_| Stop::Closed)?;
            match self.page(Some(token), limit).await {
                Ok(page) => {
                    attempt = 0;
                    (further, limit) = (page.further, page.limit);
                    self.tell_page(page.objects, as_).await?;
                }
                // The list took longer than its version is kept. What follows is newer than what came, as the watch is.
                Err(Stop::Failed(Failure::Expired(Some(token)))) => further = Some(token.into()),
                Err(Stop::Failed(Failure::Expired(None))) => return Err(Stop::Expired),
                Err(Stop::Failed(failure)) => {
                    self.broken(&failure);
                    tokio::time::sleep(pause_for(&failure, attempt)).await;
                    attempt += 1;
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// A list in pages, with the watch beside it.
    async fn pages(&self) -> Stop {
        let started = async {
            let first = self.first_page().await?;
            self.tell(Event::Begin).await?;
            self.tell_page(first.objects, Event::Listed).await?;
            Ok((first.version, first.further, first.limit))
        };
        let (version, further, limit) = match started.await {
            Ok(first) => first,
            Err(Stop::Failed(failure)) => return failure.into(),
            Err(stop) => return stop,
        };
        let mut follow = std::pin::pin!(self.follow(version));
        let list = async {
            self.further_pages(further, limit, Event::Listed).await?;
            self.tell(Event::End).await
        };
        tokio::select! {
            stop = &mut follow => return stop,
            listed = list => {
                if let Err(stop) = listed {
                    return stop;
                }
            }
        }
        follow.await
    }

    /// A list as a stream, and the watch that it becomes.
    async fn stream(&self) -> Stop {
        let mut version = String::new();
        match self.connection(&mut version, true).await {
            Ok(()) => {}
            // Asked what it does not know, or does not do.
            Err(Stop::Failed(Failure::Invalid(_) | Failure::Refused(400))) => return Stop::NoStream,
            Err(stop) => return stop,
        }
        self.follow(version).await
    }

    /// Watches from a version on, for as long as that works.
    async fn follow(&self, mut version: String) -> Stop {
        let mut attempt = 0;
        loop {
            let begun = Instant::now();
            let early = self.ended_early.swap(false, Ordering::Relaxed);
            let checked = if early { self.is_rewound().await } else { Ok(false) };
            let connection = match checked {
                Ok(true) => return Stop::Expired,
                Ok(false) => self.connection(&mut version, false).await,
                Err(stop) => {
                    self.ended_early.store(true, Ordering::Relaxed);
                    Err(stop)
                }
            };
            match connection {
                Ok(()) if begun.elapsed() > Duration::from_secs(2) => attempt = 0,
                Ok(()) => {
                    tokio::time::sleep(back_off(attempt, MOST)).await;
                    attempt += 1;
                }
                Err(Stop::Failed(failure @ (Failure::Unavailable | Failure::Throttled(_)))) => {
                    self.broken(&failure);
                    tokio::time::sleep(pause_for(&failure, attempt)).await;
                    attempt += 1;
                }
                Err(stop) => return stop,
            }
        }
    }

    /// One connection; `Ok` when the API server closes it as it does after a time. With `list` what is there comes first.
    async fn connection(&self, version: &mut String, list: bool) -> Result<(), Stop> {
        let begun = Instant::now();
        let ended = self.connect(version, list).await;
        self.ended_early.store(begun.elapsed() < Duration::from_secs(WATCH_SECONDS - 10), Ordering::Relaxed);
        ended
    }

    async fn connect(&self, version: &mut String, list: bool) -> Result<(), Stop> {
        let seconds = WATCH_SECONDS.to_string();
        let mut query = vec![("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", &seconds)];
        if list {
            query.extend([("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]);
        } else {
            query.push(("resourceVersion", version));
        }
        let accept = if T::METADATA_ONLY { METADATA_ONLY } else { "application/json" };
        let request = self.request(self.source.url(&query), accept)?;
        let asked = tokio::time::timeout(STREAM_PATIENCE, self.api.ask(request));
        let response = asked.await.unwrap_or(Err(Failure::Unavailable))?;
        self.works().await?;
        let mut frames = frames(response);
        let mut listing = list;
        if list {
            self.tell(Event::Begin).await?;
        }
        let (mut buffer, mut searched) = (Vec::new(), 0);
        let patience = Duration::from_secs(WATCH_SECONDS + 15);
        loop {
            let frame = match tokio::time::timeout(patience, frames.next()).await {
                Ok(Some(Ok(frame))) => frame,
                // Closed.
                Ok(None) if !listing => return Ok(()),
                _ => return Err(Stop::Failed(Failure::Unavailable)),
            };
            self.works().await?;
            buffer.extend_from_slice(&frame);
            let mut start = 0;
            while let Some(end) = memchr(&buffer, searched.max(start)) {
                self.line(&buffer[start..end], version, &mut listing).await?;
                start = end + 1;
                searched = start;
            }
            buffer.drain(..start);
            searched = buffer.len();
            if buffer.capacity() > 256 * 1024 && buffer.len() < 64 * 1024 {
                buffer.shrink_to(64 * 1024);
            }
            if buffer.len() > LARGEST_OBJECT {
                return Err(Stop::Failed(Failure::TooLarge));
            }
        }
    }

    async fn line(&self, line: &[u8], version: &mut String, listing: &mut bool) -> Result<(), Stop> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let Ok(Line { kind, object }) = serde_json::from_slice::<Line<'_>>(line) else {
            return Err(Stop::Failed(Failure::Unavailable));
        };
        let event: fn(T) -> Event<T> = match &*kind {
            "ADDED" if *listing => Event::Listed,
            "ADDED" | "MODIFIED" => Event::Seen,
            "DELETED" => Event::Gone,
            "BOOKMARK" => {
                if let Ok(bookmark) = serde_json::from_str::<Bookmark>(object.get()) {
                    *version = bookmark.metadata.resource_version;
                    self.follows(version);
                    let ends = bookmark.metadata.annotations.get("k8s.io/initial-events-end");
                    if *listing && ends.is_some_and(|ends| ends == "true") {
                        *listing = false;
                        self.tell(Event::End).await?;
                    }
                }
                return Ok(());
            }
            _ => {
                let status: kube::core::Status = serde_json::from_str(object.get()).unwrap_or_default();
                return Err(Failure::of(&status).into());
            }
        };
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            metadata: Version<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version<'a> {
            #[serde(borrow)]
            resource_version: Cow<'a, str>,
        }
        if let Some(decoded) = self.decode(object) {
            self.tell(event(decoded)).await?;
        }
        // Initial objects come in no order of their versions: where to go on is said at their end.
        if !*listing && let Ok(head) = serde_json::from_str::<Head<'_>>(object.get()) {
            *version = head.metadata.resource_version.into_owned();
            self.follows(version);
        }
        Ok(())
    }
}

/// The next line's end.
fn memchr(buffer: &[u8], from: usize) -> Option<usize> {
    buffer.get(from..)?.iter().position(|byte| *byte == b'\n').map(|at| from + at)
}

fn pause_for(failure: &Failure, attempt: u32) -> Duration {
    let asked = if let Failure::Throttled(pause) = failure { pause.unwrap_or_default() } else { Duration::ZERO };
    back_off(attempt, MOST).max(asked.min(Duration::from_secs(120)))
}

impl Watched for Lease {
    fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Metadata without `managedFields`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<LeanMeta> for ObjectMeta {
    fn from(metadata: LeanMeta) -> Self {
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            deletion_timestamp: metadata.deletion_timestamp,
            labels: metadata.labels,
            annotations: metadata.annotations,
            ..Self::default()
        }
    }
}

/// An object of ours, of whichever kind.
#[derive(Deserialize)]
struct Lean<Spec, Status> {
    metadata: LeanMeta,
    spec: Spec,
    #[serde(default)]
    status: Option<Status>,
}

impl Watched for SealedSecret {
    fn decode(text: &str) -> Option<Self> {
        let lean: Lean<SealedSecretSpec, SealedSecretStatus> = serde_json::from_str(text).ok()?;
        Some(Self { metadata: lean.metadata.into(), spec: lean.spec, status: lean.status })
    }
}

impl Watched for BitnamiSealedSecret {
    fn decode(text: &str) -> Option<Self> {
        let lean: Lean<BitnamiSealedSecretSpec, BitnamiStatus> = serde_json::from_str(text).ok()?;
        Some(Self { metadata: lean.metadata.into(), spec: lean.spec, status: lean.status })
    }
}

/// A SealedSecret of `bulla.dev`, whatever it holds.
#[derive(Debug)]
pub struct NativeSeen(pub Object);

impl Watched for NativeSeen {
    fn decode(text: &str) -> Option<Self> {
        SealedSecret::decode(text).map(Object::from).or_else(|| unreadable(Kind::Native, text)).map(Self)
    }
}

/// A SealedSecret of `bitnami.com`, whatever it holds.
#[derive(Debug)]
pub struct TheirsSeen(pub Object);

impl Watched for TheirsSeen {
    fn decode(text: &str) -> Option<Self> {
        BitnamiSealedSecret::decode(text).map(Object::from).or_else(|| unreadable(Kind::Bitnami, text)).map(Self)
    }
}

/// What is not of the form that it must have is seen too: it has to be said of it.
fn unreadable(kind: Kind, text: &str) -> Option<Object> {
    #[derive(Deserialize)]
    struct Head {
        metadata: LeanMeta,
    }
    let head: Head = serde_json::from_str(text).ok()?;
    Some(Object::Unreadable(kind, Box::new(head.metadata.into())))
}

/// A Secret as far as the watch looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSeen {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which it is.
    pub id: SecretId,
    /// Whether it says that a SealedSecret made it.
    pub marked: Marks,
}

/// Which kinds of SealedSecrets a Secret says it has to do with. Annotations, which can be large and quote values, are skipped
/// but for the names of those that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Of `bulla.dev`.
    pub native: bool,
    /// Of `bitnami.com`.
    pub bitnami: bool,
}

impl Marks {
    /// Whether it says so of this kind.
    pub const fn of(self, kind: Kind) -> bool {
        match kind {
            Kind::Native => self.native,
            Kind::Bitnami => self.bitnami,
        }
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Marks;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("annotations")
            }
            fn visit_unit<E>(self) -> Result<Marks, E> {
                Ok(Marks::default())
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Marks, A::Error> {
                let mut marks = Marks::default();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    marks.native |= key.0 == SEALED_SECRET_ANNOTATION;
                    marks.bitnami |= [MANAGED, PATCH, SKIP_SET_OWNER_REFERENCES].contains(&&*key.0);
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
                Ok(marks)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Borrowed where there is nothing escaped in it.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Watched for SecretSeen {
    const METADATA_ONLY: bool = true;

    fn decode(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            metadata: Meta<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Meta<'a> {
            name: String,
            namespace: String,
            #[serde(borrow)]
            uid: Cow<'a, str>,
            #[serde(borrow)]
            resource_version: Cow<'a, str>,
            #[serde(default)]
            annotations: Marks,
            #[serde(borrow, default)]
            owner_references: Option<Vec<Owner<'a>>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Owner<'a> {
            #[serde(borrow)]
            api_version: Cow<'a, str>,
            #[serde(borrow)]
            kind: Cow<'a, str>,
        }
        let Head { metadata } = serde_json::from_str(text).ok()?;
        let mut marked = metadata.annotations;
        for owner in metadata.owner_references.iter().flatten().filter(|owner| owner.kind == KIND) {
            let group = owner.api_version.split_once('/').map(|(group, _)| group);
            marked.native |= group == Some(GROUP);
            marked.bitnami |= group == Some(bulla::bitnami::GROUP);
        }
        Some(Self {
            marked,
            id: SecretId::new(&metadata.uid, &metadata.resource_version),
            namespace: metadata.namespace,
            name: metadata.name,
        })
    }
}

/// A namespace: only its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSeen(pub String);

impl Watched for NamespaceSeen {
    const METADATA_ONLY: bool = true;

    fn decode(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            metadata: Meta,
        }
        #[derive(Deserialize)]
        struct Meta {
            name: String,
        }
        serde_json::from_str::<Head>(text).ok().map(|head| Self(head.metadata.name))
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
