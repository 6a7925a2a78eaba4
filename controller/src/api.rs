//! Requests to the API server. Each has a deadline, none is retried here, and of a refusal only its kind gets past this
//! file: the server's own text can quote the value that it refused.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request as HttpRequest, Response, header};
use futures::StreamExt as _;
use kube::Client;
use kube::api::{GetParams, PostParams};
use kube::client::Body;
use kube::core::{ObjectMeta, PartialObjectMeta, Request, Status};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::lease::Fence;
use crate::metrics::{Metrics, Requested};

/// Who we are in `managedFields`.
pub const FIELD_MANAGER: &str = "bulla-controller";
/// No request waits longer. The API server itself gives up on a request after a minute, on most after 34 seconds.
const DEADLINE: Duration = Duration::from_secs(35);
/// Bytes of the largest answer that is taken: etcd keeps no object that makes a larger one.
const MAX_ANSWER: usize = 16 << 20;

/// Why a request was not done, without the server's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such object, or namespace, or kind.
    NotFound,
    /// An object of that name is there.
    AlreadyExists,
    /// The object is another, or another version, than was looked at.
    Conflict,
    /// RBAC.
    Denied,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// A ResourceQuota.
    Quota,
    /// An admission webhook or policy.
    Admission,
    /// The API server's own validation, with the fields that may be named.
    Invalid(Vec<Field>),
    /// 429.
    Throttled(Option<Duration>),
    /// 413, or etcd's limit.
    TooLarge,
    /// No answer, or one that says nothing: the request may have been done.
    Unavailable,
    /// 410: the version, or the place in a list, is too old. With it the API server may say where to go on in the list.
    Expired(Option<Box<str>>),
    /// Not asked: this process is not the leader, or can't be sure of it.
    NotLeading,
    /// Any other refusal, by its HTTP status.
    Refused(u16),
}

/// A field of a Secret that the API server found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `type`.
    Type,
    /// `immutable`, and `data` of an immutable Secret.
    Immutable,
    /// One item.
    Item(String),
    /// `data` as a whole.
    Data,
    /// Labels.
    Labels,
    /// Annotations.
    Annotations,
    /// Owner references.
    Owners,
    /// Anything else is not named.
    Other,
}

impl Field {
    fn parse(path: &str) -> Self {
        let item = path.strip_prefix("data[").and_then(|rest| rest.strip_suffix(']'));
        match path {
            "type" => Self::Type,
            "immutable" => Self::Immutable,
            "data" => Self::Data,
            _ if path.starts_with("metadata.labels") => Self::Labels,
            _ if path.starts_with("metadata.annotations") => Self::Annotations,
            _ if path.starts_with("metadata.ownerReferences") => Self::Owners,
            _ => match item {
                Some(key) if bulla::scope::is_item_key(key) => Self::Item(key.to_owned()),
                _ => Self::Other,
            },
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type => f.write_str("its type"),
            Self::Immutable => f.write_str("what is immutable"),
            Self::Item(key) => write!(f, "the item {key:?} (its type demands it, or its form)"),
            Self::Data => f.write_str("its data"),
            Self::Labels => f.write_str("its labels"),
            Self::Annotations => f.write_str("its annotations"),
            Self::Owners => f.write_str("its owner references"),
            Self::Other => f.write_str("another field"),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of(&status),
            _ => Self::Unavailable,
        }
    }
}

impl Failure {
    /// What a refusal is.
    pub fn of(status: &Status) -> Self {
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        // The text is looked at and dropped: the server tells these kinds apart in no other way.
        let says = |words: &str| status.message.contains(words);
        match (status.code, status.reason.as_str()) {
            (404, _) => Self::NotFound,
            (409, "AlreadyExists") => Self::AlreadyExists,
            (409, _) => Self::Conflict,
            (403, _) if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => Self::NamespaceTerminating,
            (403, _) if says("exceeded quota") || says("failed quota") => Self::Quota,
            (403, _) if says("cannot ") && says("in API group") => Self::Denied,
            (401, _) => Self::Denied,
            (400..500, _) if says("admission webhook") || says("ValidatingAdmissionPolicy") => Self::Admission,
            (403, _) => Self::Admission,
            (422, _) => Self::Invalid(causes.iter().map(|cause| Field::parse(&cause.field)).collect()),
            (429, _) => {
                let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                Self::Throttled((seconds > 0).then(|| Duration::from_secs(seconds.into())))
            }
            (410, _) => {
                let further = status.metadata.as_ref().and_then(|metadata| metadata.continue_.as_deref());
                Self::Expired(further.filter(|token| !token.is_empty()).map(Into::into))
            }
            // A version that is not there yet: etcd was restored from a backup.
            (504, _) if causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge") => Self::Expired(None),
            (413, _) => Self::TooLarge,
            (500.., _) if says("request is too large") => Self::TooLarge,
            (0 | 408 | 500.., _) => Self::Unavailable,
            (code, _) => Self::Refused(code),
        }
    }
}

/// One line for a log.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::AlreadyExists => f.write_str("already exists"),
            Self::Conflict => f.write_str("conflict"),
            Self::Denied => f.write_str("no right to it"),
            Self::NamespaceTerminating => f.write_str("the namespace is being deleted"),
            Self::Quota => f.write_str("a quota is exceeded"),
            Self::Admission => f.write_str("admission control refuses it"),
            Self::Invalid(_) => f.write_str("invalid"),
            Self::Throttled(_) => f.write_str("the API server asks to slow down"),
            Self::TooLarge => f.write_str("too large"),
            Self::Unavailable => f.write_str("the API server does not answer"),
            Self::Expired(_) => f.write_str("what was asked for is too old"),
            Self::NotLeading => f.write_str("this replica is not the leader"),
            Self::Refused(code) => write!(f, "refused with status {code}"),
        }
    }
}

/// A client that answers in kinds of failure. With a [`Fence`] it writes only while this process leads.
#[derive(Clone)]
pub struct Api {
    client: Client,
    fence: Fence,
    metrics: Arc<Metrics>,
}

/// Answers with metadata only, also to a write.
pub const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

impl Api {
    /// Wraps a client, without a fence.
    pub fn new(client: Client) -> Self {
        Self { client, fence: Fence::open(), metrics: Arc::default() }
    }

    /// Counts into these.
    pub fn measured(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// Writes only while `fence` lets.
    pub fn fenced(self, fence: Fence) -> Self {
        Self { fence, ..self }
    }

    /// Whether a write would be sent now.
    pub fn may_write(&self) -> bool {
        self.fence.holds()
    }

    /// The client, for watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: Result<HttpRequest<Vec<u8>>, kube::core::request::Error>,
        metadata_only: bool,
    ) -> Result<T, Failure> {
        let mut request = request.map_err(|_| Failure::Refused(400))?;
        if metadata_only {
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(METADATA_ONLY));
        }
        // Checked last: whoever was stopped until somebody else leads gets no further than this.
        if request.method() != Method::GET && !self.fence.holds() {
            return Err(Failure::NotLeading);
        }
        let (verb, resource) = (verb(request.method()), resource(request.uri().path()));
        let started = Instant::now();
        let answer = tokio::time::timeout(DEADLINE, async {
            let response = self.ask(request).await?;
            read(response, MAX_ANSWER).await
        });
        let answer = answer.await.unwrap_or(Err(Failure::Unavailable));
        let outcome = answer.as_ref().map_or_else(Failure::word, |_| "done");
        let measured = self.metrics.api.get_or_create(&Requested { verb, resource, outcome });
        measured.observe(started.elapsed().as_secs_f64());
        drop(measured);
        // An answer of another form says nothing: what was asked for may have been done.
        serde_json::from_slice(&answer?).map_err(|_| Failure::Unavailable)
    }

    /// Sends a request and returns the head of its answer, when it is no refusal. Without a deadline: for watches.
    pub async fn ask(&self, request: HttpRequest<Vec<u8>>) -> Result<Response<Body>, Failure> {
        let response = self.client.send(request.map(Body::from)).await.map_err(Failure::from)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read(response, 1 << 20).await.unwrap_or_default();
        let mut status: Status = serde_json::from_slice(&body).unwrap_or_default();
        status.code = code;
        Err(match Failure::of(&status) {
            Failure::Throttled(None) => Failure::Throttled(wait.map(Duration::from_secs)),
            failure => failure,
        })
    }

    /// POST of a SelfSubjectAccessReview: whether this `verb` on the resource of the group is allowed, in a namespace or, when it
    /// is empty, in all.
    pub async fn allowed(&self, namespace: &str, verb: &str, group: &str, resource: &str) -> Result<bool, Failure> {
        #[derive(serde::Deserialize)]
        struct Review {
            status: Answer,
        }
        #[derive(serde::Deserialize)]
        struct Answer {
            allowed: bool,
        }
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = serde_json::json!({
            "namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource,
        });
        let body = serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = Request::new(path).create(&PostParams::default(), body.to_string().into_bytes());
        // A question, though it is a POST: asked without leading too.
        let api = Self { fence: Fence::open(), ..self.clone() };
        api.send::<Review>(request, false).await.map(|review| review.status.allowed)
    }

    /// GET.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, name: &str) -> Result<T, Failure> {
        self.send(Request::new(path).get(name, &GetParams::default()), false).await
    }

    /// GET of the metadata.
    pub async fn get_metadata(&self, path: &str, name: &str) -> Result<ObjectMeta, Failure> {
        let request = Request::new(path).get(name, &GetParams::default());
        self.send::<PartialObjectMeta>(request, true).await.map(|object| object.metadata)
    }

    /// POST; answers with metadata.
    pub async fn create(&self, path: &str, body: Vec<u8>) -> Result<ObjectMeta, Failure> {
        let request = Request::new(path).create(&params(), body);
        self.send::<PartialObjectMeta>(request, true).await.map(|object| object.metadata)
    }

    /// PUT; answers with metadata.
    pub async fn replace(&self, path: &str, name: &str, body: Vec<u8>) -> Result<ObjectMeta, Failure> {
        let request = Request::new(path).replace(name, &params(), body);
        self.send::<PartialObjectMeta>(request, true).await.map(|object| object.metadata)
    }

    /// PUT to the status; answers with metadata.
    pub async fn replace_status(&self, path: &str, name: &str, body: Vec<u8>) -> Result<ObjectMeta, Failure> {
        let request = Request::new(path).replace_subresource("status", name, &params(), body);
        self.send::<PartialObjectMeta>(request, true).await.map(|object| object.metadata)
    }

    /// A JSON merge patch; answers with metadata.
    pub async fn merge(&self, path: &str, name: &str, body: Vec<u8>) -> Result<ObjectMeta, Failure> {
        let mut request = Request::new(path).replace(name, &params(), body);
        if let Ok(request) = &mut request {
            *request.method_mut() = Method::PATCH;
            let merge = HeaderValue::from_static("application/merge-patch+json");
            request.headers_mut().insert(header::CONTENT_TYPE, merge);
        }
        self.send::<PartialObjectMeta>(request, true).await.map(|object| object.metadata)
    }
}

impl Failure {
    /// For a metric.
    const fn word(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::NamespaceTerminating | Self::Quota | Self::Admission => "forbidden",
            Self::Invalid(_) => "invalid",
            Self::Throttled(_) => "throttled",
            Self::TooLarge => "too-large",
            Self::Unavailable => "unavailable",
            Self::Expired(_) => "expired",
            Self::NotLeading => "not-leading",
            Self::Refused(_) => "refused",
        }
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ => "other",
    }
}

/// The resource in a path, of a fixed set.
fn resource(path: &str) -> &'static str {
    const RESOURCES: [&str; 7] =
        ["secrets", "sealedsecrets", "sealingkeys", "configmaps", "leases", "events", "selfsubjectaccessreviews"];
    let mut parts = path.rsplit('/').take(3);
    parts.find_map(|part| RESOURCES.into_iter().find(|name| *name == part)).unwrap_or("other")
}

/// The bytes of an answer, at most so many, in a buffer that is cleared.
///
/// # Errors
/// [`Failure::TooLarge`], and [`Failure::Unavailable`] when the answer breaks off.
pub async fn read(response: Response<Body>, most: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // As long as it says, so that growing leaves no copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.unwrap_or(4096_usize).min(most)));
    let mut frames = frames(response);
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| Failure::Unavailable)?;
        if bytes.len() + frame.len() > most {
            return Err(Failure::TooLarge);
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes)
}

/// The frames of an answer.
pub fn frames(response: Response<Body>) -> axum::body::BodyDataStream {
    axum::body::Body::new(response.into_body()).into_data_stream()
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// `/api/v1/namespaces/NAMESPACE/RESOURCE`.
pub fn core_path(namespace: &str, resource: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{resource}")
}

/// `/apis/bulla.dev/v1alpha1/namespaces/NAMESPACE/RESOURCE`.
pub fn own_path(namespace: &str, resource: &str) -> String {
    format!("/apis/{}/namespaces/{namespace}/{resource}", bulla::resource::API_VERSION)
}

/// `/apis/bitnami.com/v1alpha1/namespaces/NAMESPACE/sealedsecrets`.
pub fn their_path(namespace: &str) -> String {
    format!("/apis/{}/namespaces/{namespace}/sealedsecrets", bulla::bitnami::API_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: serde_json::Value) -> Failure {
        let status: Status = serde_json::from_value(status).unwrap_or_default();
        Failure::from(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn refusals_are_told_apart_and_their_text_is_dropped() {
        let cases = [
            (
                serde_json::json!({"code": 403, "reason": "Forbidden", "message":
                    "secrets is forbidden: User \"u\" cannot create resource \"secrets\" in API group \"\" in the namespace \"a\""}),
                Failure::Denied,
            ),
            (
                serde_json::json!({"code": 403, "reason": "Forbidden", "message": "x", "details": {"causes":
                    [{"reason": "NamespaceTerminating", "message": "x", "field": "metadata.namespace"}]}}),
                Failure::NamespaceTerminating,
            ),
            (
                serde_json::json!({"code": 403, "reason": "Forbidden", "message": "exceeded quota: q, requested: x"}),
                Failure::Quota,
            ),
            (
                serde_json::json!({"code": 400, "reason": "BadRequest", "message": "admission webhook \"w\" denied: hunter2"}),
                Failure::Admission,
            ),
            (
                serde_json::json!({"code": 422, "reason": "Invalid", "message": "hunter2", "details": {"causes":
                    [{"field": "data[tls.crt]", "reason": "FieldValueRequired", "message": "hunter2"},
                     {"field": "type", "reason": "FieldValueInvalid", "message": "hunter2"},
                     {"field": "data[hunter2: bad]", "reason": "FieldValueInvalid", "message": "hunter2"}]}}),
                Failure::Invalid(vec![Field::Item("tls.crt".into()), Field::Type, Field::Other]),
            ),
            (
                serde_json::json!({"code": 429, "reason": "TooManyRequests", "message": "x", "details": {"retryAfterSeconds": 3}}),
                Failure::Throttled(Some(Duration::from_secs(3))),
            ),
            (serde_json::json!({"code": 409, "reason": "AlreadyExists"}), Failure::AlreadyExists),
            (serde_json::json!({"code": 409, "reason": "Conflict"}), Failure::Conflict),
            (serde_json::json!({"code": 503, "reason": "ServiceUnavailable"}), Failure::Unavailable),
            (serde_json::json!({"code": 500, "message": "etcdserver: request is too large"}), Failure::TooLarge),
        ];
        for (status, expected) in cases {
            assert_eq!(refusal(status.clone()), expected, "{status}");
        }
    }
}
