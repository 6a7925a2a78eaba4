//! Requests to the API server. Each has a deadline, none is retried here, and of a refusal only its kind gets past this
//! file: the server's own text can quote the value that it refused.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderValue, Request as HttpRequest, header};
use kube::Client;
use kube::api::{GetParams, PostParams};
use kube::core::{ObjectMeta, PartialObjectMeta, Request};
use serde::de::DeserializeOwned;

/// Who we are in `managedFields`.
pub const FIELD_MANAGER: &str = "bulla-controller";
/// No request waits longer.
const DEADLINE: Duration = Duration::from_secs(35);

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
        let kube::Error::Api(status) = error else { return Self::Unavailable };
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
            Self::Refused(code) => write!(f, "refused with status {code}"),
        }
    }
}

/// A client that answers in kinds of failure.
#[derive(Clone)]
pub struct Api {
    client: Client,
}

/// Answers with metadata only, also to a write.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

impl Api {
    /// Wraps a client.
    pub const fn new(client: Client) -> Self {
        Self { client }
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
        match tokio::time::timeout(DEADLINE, self.client.request(request)).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::Unavailable),
        }
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
            *request.method_mut() = axum::http::Method::PATCH;
            let merge = HeaderValue::from_static("application/merge-patch+json");
            request.headers_mut().insert(header::CONTENT_TYPE, merge);
        }
        self.send::<PartialObjectMeta>(request, true).await.map(|object| object.metadata)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: serde_json::Value) -> Failure {
        let status: kube::core::Status = serde_json::from_value(status).unwrap_or_default();
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
