//! What a user, or a test, does with a cluster.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    TypeMeta,
};
use kube::discovery::Scope;
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Component, ControlPlane, eventually, netns};

const SOON: Duration = Duration::from_secs(30);

impl ControlPlane {
    /// A client of the cluster's administrator. Its connections belong to the runtime in which it is made: one a test.
    ///
    /// # Errors
    /// When it cannot be set up; it does not connect yet.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config(self.admin_token())?)?)
    }

    /// The administrator's configuration, for a client of another make.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn client_config(&self) -> Result<kube::Config> {
        self.config(self.admin_token())
    }

    /// A client of a service account, with a token from the API server, as a Pod would have.
    ///
    /// # Errors
    /// When the service account does not come into being, or gets no token.
    pub async fn client_as_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        let token = self.service_account_token(namespace, name).await?;
        Ok(Client::try_from(self.config(&token)?)?)
    }

    /// [`service_account_token`] of this cluster.
    ///
    /// # Errors
    /// As there.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        service_account_token(&self.client()?, namespace, name).await
    }

    /// [`service_account_kubeconfig`] of this cluster.
    ///
    /// # Errors
    /// As there.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str, dir: &Path) -> Result<PathBuf> {
        service_account_kubeconfig(&self.client_config()?, namespace, name, dir).await
    }

    /// Makes a namespace with a name of its own that begins with `prefix`, and returns the name.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some(format!("{prefix}-"));
        let namespaces: Api<Namespace> = Api::all(self.client()?);
        Ok(namespaces.create(&PostParams::default(), &namespace).await?.name_any())
    }

    /// What `kubectl apply --server-side` does with a file of any number of documents, Lists included: the namespace is
    /// `default` where a document names none. Custom resource definitions and namespaces go first, and the definitions
    /// are waited for. Returns what the API server made of it, in the order of application.
    ///
    /// # Errors
    /// When the text is not YAML of Kubernetes objects, or the API server refuses one.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.apply_in("default", yaml).await
    }

    /// [`ControlPlane::apply`] with another namespace for documents that name none: `kubectl --namespace`.
    ///
    /// # Errors
    /// As there.
    pub async fn apply_in(&self, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
        apply(&self.client()?, namespace, yaml).await
    }

    /// [`ControlPlane::apply`] for custom resource definitions, after which the garbage collector knows their kinds. By
    /// itself it learns of new kinds every thirty seconds, and until then does not notice that an owner of
    /// such a kind was deleted: so the controller manager is started anew if there were new ones.
    ///
    /// # Errors
    /// As [`ControlPlane::apply`]; or when the controller manager cannot be started.
    pub async fn install_crds(&self, yaml: &str) -> Result<()> {
        let before = self.crd_names().await?;
        self.apply(yaml).await?;
        if self.crd_names().await? != before {
            self.restart(Component::ControllerManager)?;
        }
        Ok(())
    }

    async fn crd_names(&self) -> Result<Vec<String>> {
        let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let api: Api<DynamicObject> = Api::all_with(self.client()?, &ApiResource::from_gvk(&kind));
        Ok(api.list_metadata(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect())
    }

    /// How many requests the API server has answered since it was started, from its own metrics, by verb (as `GET`,
    /// `LIST`, `POST`, `PUT`, `PATCH`, `APPLY`, `DELETE`, `WATCH`) and resource (as `secrets`, `deployments.apps`,
    /// `sealedsecrets.bulla.dev/status`). Everybody's, its own and the controller manager's included; a watch counts when it ends.
    ///
    /// # Errors
    /// When the metrics cannot be read.
    pub async fn apiserver_requests(&self) -> Result<BTreeMap<(String, String), u64>> {
        let request = kube::core::Request::new("/metrics").list(&ListParams::default())?;
        requests(&self.client()?.request_text(request).await?)
    }

    /// Puts a process of this machine behind a Service, so that the API server's proxy reaches it: at
    /// `/api/v1/namespaces/NAMESPACE/services/http:NAME:PORT_NAME/proxy/`. `address` is what it listens on, and must not be
    /// loopback: this works in what [`netns::command`] runs, with [`netns::address`].
    ///
    /// # Errors
    /// Outside a network namespace; when the API server refuses.
    pub async fn publish_service(
        &self,
        namespace: &str,
        name: &str,
        port_name: &str,
        address: &str,
        port: u16,
    ) -> Result<()> {
        let ports = json!([{"name": port_name, "port": port, "protocol": "TCP"}]);
        let service = json!({"metadata": {"name": name}, "spec": {"ports": ports}});
        create::<Service>(&self.client()?, namespace, service).await?;
        self.publish_endpoint(namespace, name, port_name, address, port).await
    }

    /// The same for a Service that is there already.
    ///
    /// # Errors
    /// As [`ControlPlane::publish_service`].
    pub async fn publish_endpoint(
        &self,
        namespace: &str,
        name: &str,
        port_name: &str,
        address: &str,
        port: u16,
    ) -> Result<()> {
        ensure!(netns::address().is_some(), "the service proxy reaches processes only in a network namespace of tests");
        let client = self.client()?;
        let ports = json!([{"name": port_name, "port": port, "protocol": "TCP"}]);
        // The proxy goes only to addresses of Pods that exist.
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "process", "image": "none.invalid/none"}]},
        });
        let pod = create::<Pod>(&client, namespace, pod).await?;
        let status = json!({"status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
        let slice = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": if address.contains(':') { "IPv6" } else { "IPv4" },
            "ports": ports,
            "endpoints": [{
                "addresses": [address],
                "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": name, "uid": pod.uid()},
            }],
        });
        create::<EndpointSlice>(&client, namespace, slice).await?;
        Ok(())
    }
}

/// What `kubectl apply --server-side` does; see [`ControlPlane::apply_in`].
///
/// # Errors
/// When the text is not YAML of Kubernetes objects, or the API server refuses one.
pub async fn apply(client: &Client, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut documents = documents(yaml)?;
    documents.sort_by_key(|document| match document["kind"].as_str() {
        Some("CustomResourceDefinition") => 0,
        Some("Namespace") => 1,
        _ => 2,
    });
    let brings_kinds = documents.iter().any(|document| document["kind"] == "CustomResourceDefinition");
    let patience = if brings_kinds { SOON } else { Duration::from_secs(1) };
    let mut applied = Vec::new();
    let mut known = BTreeMap::new();
    for document in documents {
        let object = DynamicObject::deserialize(&document).context("a document that is no Kubernetes object")?;
        let types = object.types.clone().context("a document without apiVersion or kind")?;
        let name = object.metadata.name.clone().with_context(|| format!("a {} without a name", types.kind))?;
        let key = (types.api_version.clone(), types.kind.clone());
        let (resource, scope) = match known.get(&key) {
            Some(found) => found,
            None => known.entry(key).or_insert(discover(client, &types, patience).await?),
        };
        let api: Api<DynamicObject> = match scope {
            Scope::Cluster => Api::all_with(client.clone(), resource),
            Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
                Api::namespaced_with(client.clone(), namespace, resource)
            }
        };
        let made = api
            .patch(&name, &PatchParams::apply("kubectl"), &Patch::Apply(&document))
            .await
            .with_context(|| format!("applying {} {name}", types.kind))?;
        if types.kind == "CustomResourceDefinition" {
            established(&api, &name).await?;
        }
        applied.push(made);
    }
    Ok(applied)
}

/// Deletes what a file lists, but for some kinds. What is not there is no error.
///
/// # Errors
/// When the text is not YAML of Kubernetes objects, or the API server refuses.
pub async fn delete(client: &Client, yaml: &str, except: &[&str]) -> Result<()> {
    for document in documents(yaml)? {
        let object = DynamicObject::deserialize(&document).context("a document that is no Kubernetes object")?;
        let types = object.types.clone().context("a document without apiVersion or kind")?;
        if except.contains(&types.kind.as_str()) {
            continue;
        }
        let (resource, scope) = discover(client, &types, Duration::from_secs(1)).await?;
        let api: Api<DynamicObject> = match (scope, object.metadata.namespace.as_deref()) {
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &resource),
            (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
            (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        };
        match api.delete(&object.name_any(), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            answer => drop(answer?),
        }
    }
    Ok(())
}

/// A token of a service account, valid for an hour. Waits for the account: a namespace's `default` is made by a
/// controller.
///
/// # Errors
/// When the service account does not come into being, or gets no token.
pub async fn service_account_token(client: &Client, namespace: &str, name: &str) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    eventually(&format!("a token of {namespace}/{name}"), SOON, async || {
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        Ok(answer.status.context("an answer without a status")?.token)
    })
    .await
}

/// A kubeconfig in `dir` with a service account's token, and its namespace as the default one.
///
/// # Errors
/// As [`service_account_token`]; or when the file cannot be written.
pub async fn service_account_kubeconfig(
    config: &kube::Config,
    namespace: &str,
    name: &str,
    dir: &Path,
) -> Result<PathBuf> {
    let token = service_account_token(&Client::try_from(config.clone())?, namespace, name).await?;
    let mut cluster = json!({ "server": config.cluster_url.to_string() });
    if let Some(certificates) = &config.root_cert {
        let pem: String = certificates
            .iter()
            .map(|der| {
                let body = BASE64_STANDARD.encode(der);
                format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
            })
            .collect();
        cluster["certificate-authority-data"] = BASE64_STANDARD.encode(pem).into();
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": name, "namespace": namespace}}],
        "current-context": "test",
    });
    let path = dir.join(format!("kubeconfig-{namespace}-{name}"));
    write_private(&path, &serde_json::to_vec_pretty(&config)?)?;
    Ok(path)
}

/// Writes a file that only its owner reads.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)?;
    Ok(())
}

async fn create<K>(client: &Client, namespace: &str, object: Value) -> Result<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let object = K::deserialize(object)?;
    Ok(Api::<K>::namespaced(client.clone(), namespace).create(&PostParams::default(), &object).await?)
}

/// The objects of a YAML file. JSON is YAML.
fn documents(yaml: &str) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let document = Value::deserialize(document).context("not YAML")?;
        match (&document, document.get("items")) {
            (Value::Null, _) => {}
            (_, Some(Value::Array(items))) if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                found.extend(items.iter().cloned());
            }
            _ => found.push(document),
        }
    }
    Ok(found)
}

/// The resource of a kind. One whose definition is new may take the API server a moment.
async fn discover(client: &Client, types: &TypeMeta, timeout: Duration) -> Result<(ApiResource, Scope)> {
    let kind = GroupVersionKind::try_from(types)?;
    let what = format!("the kind {} of {}", kind.kind, types.api_version);
    eventually(&what, timeout, async || {
        let (resource, capabilities) = kube::discovery::pinned_kind(client, &kind).await?;
        Ok((resource, capabilities.scope))
    })
    .await
}

async fn established(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    eventually(&format!("{name} to be established"), SOON, async || {
        let definition = api.get(name).await?;
        let conditions = definition.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let established = conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True");
        ensure!(established, "its conditions are {conditions:?}");
        Ok(())
    })
    .await
}

/// Sums `apiserver_request_total` of Prometheus's text format.
fn requests(metrics: &str) -> Result<BTreeMap<(String, String), u64>> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
        let Some((labels, count)) = rest.rsplit_once("} ") else { bail!("a metric without a value: {line}") };
        let label = |name: &str| {
            let start = labels.match_indices(name).find(|(at, _)| {
                labels[at + name.len()..].starts_with("=\"") && (*at == 0 || labels[..*at].ends_with(','))
            });
            start.and_then(|(at, _)| labels[at + name.len() + 2..].split('"').next()).unwrap_or_default()
        };
        let mut resource = label("resource").to_owned();
        for (separator, part) in [(".", label("group")), ("/", label("subresource"))] {
            if !part.is_empty() && !resource.is_empty() {
                resource.push_str(separator);
                resource.push_str(part);
            }
        }
        let count: f64 = count.trim().parse().with_context(|| format!("a metric that is no number: {line}"))?;
        *sums.entry((label("verb").to_owned(), resource)).or_default() += count as u64;
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed_by_verb_and_resource() -> Result<()> {
        let metrics = "# TYPE apiserver_request_total counter\n\
            apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"bulla.dev\",resource=\"sealedsecrets\",scope=\"resource\",subresource=\"status\",verb=\"PUT\",version=\"v1\"} 3\n\
            apiserver_request_total{code=\"409\",component=\"apiserver\",dry_run=\"\",group=\"bulla.dev\",resource=\"sealedsecrets\",scope=\"resource\",subresource=\"status\",verb=\"PUT\",version=\"v1\"} 2\n\
            apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"secrets\",scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1\n";
        let sums = requests(metrics)?;
        assert_eq!(sums.len(), 2);
        assert_eq!(sums[&("PUT".to_owned(), "sealedsecrets.bulla.dev/status".to_owned())], 5);
        assert_eq!(sums[&("LIST".to_owned(), "secrets".to_owned())], 1);
        Ok(())
    }

    #[test]
    fn documents_of_files_and_lists() -> Result<()> {
        let found = documents(
            "---\nkind: A\n---\n# nothing\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n---\n{\"kind\": \"D\"}\n",
        )?;
        let kinds: Vec<_> = found.iter().filter_map(|document| document["kind"].as_str()).collect();
        assert_eq!(kinds, ["A", "B", "C", "D"]);
        Ok(())
    }
}
