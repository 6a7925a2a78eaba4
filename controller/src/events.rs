//! Events: on failure, recovery and drift, never on success, and only when something changed. One POST each; an event that
//! can't be written is only logged.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;

use crate::api::{Api, FIELD_MANAGER, Failure};

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Something is wrong.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// One sentence, of fixed texts and public names.
    pub message: String,
}

impl Note {
    /// Something is wrong.
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: true, reason, message: message.into() }
    }

    /// Something is right again, or was done.
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: false, reason, message: message.into() }
    }
}

/// An object of ours to write events about.
pub fn reference(kind: &str, metadata: &ObjectMeta) -> ObjectReference {
    reference_of(
        if matches!(kind, "Secret" | "ConfigMap") { "v1" } else { bulla::resource::API_VERSION },
        kind,
        metadata,
    )
}

/// Any object to write events about.
pub fn reference_of(api_version: &str, kind: &str, metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

/// Writes events.
#[derive(Clone)]
pub struct Events {
    api: Api,
    instance: String,
}

impl Events {
    /// `instance` tells replicas apart.
    pub const fn new(api: Api, instance: String) -> Self {
        Self { api, instance }
    }

    /// Writes one.
    pub async fn publish(&self, about: ObjectReference, note: &Note) {
        let now = Timestamp::now();
        let namespace = about.namespace.clone().unwrap_or_default();
        let mut name = about.name.clone().unwrap_or_default();
        name.truncate(220);
        let event = Event {
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", name.trim_end_matches(['.', '-']), now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            note: Some(note.message.chars().take(1000).collect()),
            reason: Some(note.reason.to_owned()),
            regarding: Some(about),
            reporting_controller: Some(format!("bulla.dev/{FIELD_MANAGER}")),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let written = match serde_json::to_vec(&event) {
            Ok(body) => self.api.create(&path, body).await.map(drop),
            Err(_) => Err(Failure::Refused(0)),
        };
        if let Err(failure) = written {
            tracing::debug!(%namespace, reason = note.reason, %failure, "an event was not written");
        }
    }
}
