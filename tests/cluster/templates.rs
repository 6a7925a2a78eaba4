//! Values that templates make of opened items, on a real API server.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::world::World;

const GOOD: &str = "[client]\nuser={{ .user }}\npassword={{ .password | quote }}\n";

fn templates(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("my.cnf".to_owned(), text.to_owned())])
}

#[tokio::test]
async fn a_configuration_file_is_made_of_two_items() -> Result<()> {
    let mut world = World::new("templates").await?;
    let items = [("password", "hunter2-templates"), ("user", "admin-templates")];
    let sealed = world.seal_as("db", &items, |t| t.data = templates(GOOD)).await?;
    world.create(&sealed).await?;
    world.ready("db", "Applied").await?;
    let file = "[client]\nuser=admin-templates\npassword=\"hunter2-templates\"\n";
    world.holds("db", &[items[0], items[1], ("my.cnf", file)]).await?;

    // Another template is another Secret.
    let mut changed = world.sealed().get("db").await?;
    changed.spec.template.get_or_insert_default().data = templates("u={{ .user | upper }}");
    world.update(&changed).await?;
    world.holds("db", &[items[0], items[1], ("my.cnf", "u=ADMIN-TEMPLATES")]).await?;

    // One that fails leaves the Secret as it is, and tells a place.
    let mut broken = world.sealed().get("db").await?;
    broken.spec.template.get_or_insert_default().data =
        templates("\n{{ printf \"%d%s\" .password \"canary-text\" | int | repeat }}");
    world.update(&broken).await?;
    let ready = world.ready("db", "TemplateFailed").await?;
    ensure!(ready.message.contains("my.cnf") && ready.message.contains("line 2"), "{}", ready.message);
    let status = world.sealed().get("db").await?.status.context("no status")?;
    ensure!(status.conditions.iter().any(|c| c.type_ == "Stalled"), "{status:?}");
    let event = world.event(&world.app, "db", "TemplateFailed").await?;
    let told = format!("{} {event} {}", ready.message, world.log());
    ensure!(!told.contains("canary-text") && !told.contains("ADMIN-TEMPLATES") && !told.contains("printf"), "{told}");
    world.holds("db", &[items[0], items[1], ("my.cnf", "u=ADMIN-TEMPLATES")]).await?;
    world.finish().await
}

#[tokio::test]
async fn a_controller_that_renders_none_says_so() -> Result<()> {
    let mut world = World::with("templates-off", &["--templates", "off"]).await?;
    let items = [("password", "hunter2-off"), ("user", "admin-off")];
    let sealed = world.seal_as("db", &items, |t| t.data = templates(GOOD)).await?;
    world.create(&sealed).await?;
    let ready = world.ready("db", "TemplatesOff").await?;
    ensure!(ready.message.contains("--templates=off"), "{}", ready.message);
    ensure!(world.secrets().get_opt("db").await?.is_none());
    world.make("plain", &[("a", "hunter2-off")]).await?;
    world.finish().await
}
