//! The rights that are shipped, and one that is missing.

use anyhow::{Result, ensure};
use bulla_tests::{Component, ControlPlane, Program, Signal, binary, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, PostParams};

use super::world::{DEPLOY, SOON, World, definitions, sealed_for, values};

#[tokio::test]
async fn a_missing_right_is_named_and_its_return_noticed() -> Result<()> {
    let mut world = World::bare("rights").await?;
    // All that is shipped but to create Secrets.
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), &world.app);
    let served = bindings.get("bulla-served").await?;
    bindings.delete("bulla-served", &DeleteParams::default()).await?;
    let name = format!("less-{}", world.app);
    let less = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {name}, namespace: {0}}}\nrules:\n\
         - {{apiGroups: [bulla.dev], resources: [sealedsecrets], verbs: [get, list, watch]}}\n\
         - {{apiGroups: [bulla.dev], resources: [sealedsecrets/status], verbs: [update]}}\n\
         - {{apiGroups: [''], resources: [secrets], verbs: [get, list, watch, update]}}\n\
         - {{apiGroups: [events.k8s.io], resources: [events], verbs: [create]}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: {0}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}\n\
         subjects: [{{kind: ServiceAccount, name: bulla, namespace: {1}}}]\n",
        world.app, world.system
    );
    world.cluster.apply(&less).await?;
    world.start().await?;
    let sealed = world.seal("db", &[("a", "hunter2-rights")]).await?;
    world.create(&sealed).await?;
    let ready = world.ready("db", "Forbidden").await?;
    ensure!(ready.message.contains("create secrets"), "{ready:?}");
    let mut again = RoleBinding { role_ref: served.role_ref, subjects: served.subjects, ..RoleBinding::default() };
    again.metadata.name = Some("bulla-served".to_owned());
    bindings.create(&PostParams::default(), &again).await?;
    world.holds("db", &[("a", "hunter2-rights")]).await?;
    world.finish().await
}

/// What `bulla install` applies, on a control plane of its own, for the whole cluster.
#[tokio::test]
async fn the_shipped_manifest_works_as_it_is() -> Result<()> {
    let plane = tokio::task::spawn_blocking(ControlPlane::start).await??;
    plane.install_crds(&definitions()).await?;
    plane.apply(DEPLOY).await?;
    let client = plane.client()?;
    let dir = tempfile::tempdir()?;
    let kubeconfig = plane.service_account_kubeconfig("bulla-system", "bulla", dir.path()).await?;
    let controller = Program::launch(binary("bulla-controller")?)
        .args(["--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--log-format", "json"])
        .env("KUBECONFIG", &kubeconfig)
        .spawn()?;
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), "bulla-system");
    let recipient = eventually("the recipients", SOON, async || {
        let data = configs.get("bulla-recipients").await?.data.unwrap_or_default();
        let text = data.get("recipients").cloned().unwrap_or_default();
        Ok(bulla::recipient::parse_recipients(&text)?.swap_remove(0).recipient)
    })
    .await?;
    for namespace in [plane.namespace("one").await?, plane.namespace("two").await?] {
        let sealed = sealed_for(recipient.clone(), &namespace, "db", &[("a", "hunter2-shipped")])?;
        Api::namespaced(client.clone(), &namespace).create(&PostParams::default(), &sealed).await?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        eventually("the Secret", SOON, async || {
            let secret = secrets.get("db").await?;
            ensure!(values(&secret)["a"] == "hunter2-shipped");
            Ok(())
        })
        .await?;
    }
    ensure!(!controller.log().contains("no right"), "{}", controller.log());
    // Without an API server it goes on waiting, and one that is started meanwhile waits too.
    plane.kill(Component::ApiServer)?;
    controller.signal(Signal::Term)?;
    ensure!(controller.wait(SOON).await?.success(), "{}", controller.log());
    let early = Program::launch(binary("bulla-controller")?)
        .args(["--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--log-format", "json"])
        .env("KUBECONFIG", &kubeconfig)
        .spawn()?;
    early.wait_for_line("waiting for the API server", SOON).await?;
    plane.restart(Component::ApiServer)?;
    plane.wait_until_ready()?;
    early.wait_for_line("the caches are in", SOON).await?;
    // And one whose watches broke takes them up again.
    plane.kill(Component::ApiServer)?;
    plane.restart(Component::ApiServer)?;
    plane.wait_until_ready()?;
    let namespace = plane.namespace("three").await?;
    let sealed = sealed_for(recipient, &namespace, "db", &[("a", "hunter2-shipped")])?;
    Api::namespaced(client.clone(), &namespace).create(&PostParams::default(), &sealed).await?;
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    eventually("the Secret", 2 * SOON, async || Ok(secrets.get("db").await?)).await?;
    let controller = early;
    controller.signal(Signal::Term)?;
    ensure!(controller.wait(SOON).await?.success());
    let log = controller.log();
    ensure!(!log.contains("hunter2-shipped"), "{log}");
    ensure!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
    Ok(())
}
