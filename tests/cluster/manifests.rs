//! What is shipped for clusters, as the API server reads it: every field known, every value allowed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kube::api::{Api, DynamicObject, GroupVersionKind, Patch, PatchParams, ValidationDirective};
use serde_json::Value;

use super::world::World;

/// Kinds of other programs, which this API server does not know.
const OTHERS: &[&str] = &["argoproj.io", "toolkit.fluxcd.io", "monitoring.coreos.com", "kustomize.config.k8s.io"];

fn files(folder: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, out)?;
        } else if path.extension().is_some_and(|end| end == "yaml") && !path.ends_with(".bulla.yaml") {
            out.push(path);
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_shipped_manifest_is_taken_by_the_api_server() -> Result<()> {
    let world = World::bare("manifests").await?;
    world.cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: bulla-system}\n").await?;
    world.cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: argocd}\n").await?;
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy"), &mut all)?;
    all.sort();
    let mut taken = 0;
    for file in all {
        let text = std::fs::read_to_string(&file)?;
        for document in serde_yaml::Deserializer::from_str(&text) {
            let mut document: Value =
                serde::Deserialize::deserialize(document).with_context(|| file.display().to_string())?;
            let Some(version) = document["apiVersion"].as_str() else { continue };
            let group = version.rsplit_once('/').map_or("", |(group, _)| group);
            if OTHERS.iter().any(|other| group.ends_with(other)) {
                continue;
            }
            let kind = document["kind"].as_str().context("a kind")?.to_owned();
            let name = document["metadata"]["name"].as_str().context("a name")?.to_owned();
            let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
            let gvk = GroupVersionKind::gvk(group, version, &kind);
            let (resource, capabilities) = kube::discovery::pinned_kind(&world.client, &gvk).await?;
            let api: Api<DynamicObject> = if capabilities.scope == kube::discovery::Scope::Namespaced {
                // Namespaces of examples are not here.
                let namespace = document["metadata"]["namespace"].as_str().unwrap_or(&world.app).to_owned();
                let namespace = if ["bulla-system", "argocd"].contains(&namespace.as_str()) {
                    namespace
                } else {
                    world.app.clone()
                };
                document["metadata"]["namespace"] = namespace.clone().into();
                Api::namespaced_with(world.client.clone(), &namespace, &resource)
            } else {
                Api::all_with(world.client.clone(), &resource)
            };
            let params = PatchParams {
                dry_run: true,
                force: true,
                field_manager: Some("manifests".into()),
                field_validation: Some(ValidationDirective::Strict),
            };
            let answer = api.patch(&name, &params, &Patch::Apply(&document)).await;
            answer.with_context(|| format!("{}: {kind} {name}", file.display()))?;
            taken += 1;
        }
    }
    ensure!(taken >= 15, "{taken}");
    Ok(())
}
