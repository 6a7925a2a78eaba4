//! Through a document, node by node: which rule looks at what stands where.

use bulla::manifest::{Node, NodeKind, Stream, Style};

use super::cx::{Cx, Named};
use super::names::{self, Says};
use super::settings::{Form, form, pairs};
use super::value::{Verdict, assess, has_weight, is_stock};
use super::{judge, lenient, lines::Lines, login, rules, scan};

/// What a document is that is no object of Kubernetes, or what part of one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A field of an object.
    Object,
    /// Helm values.
    Values,
    /// YAML or JSON of other programs.
    Settings,
    /// A file that a ConfigMap holds, or is made of.
    ConfigFile,
    /// Terraform, in JSON.
    Terraform,
    /// A file that is there for logins.
    Logins,
    /// A piece of YAML in a text: variables of an environment are known for what they are, other names are not.
    Snippet,
    /// Names say nothing here: schemas, translations, lock files.
    Quiet,
}

/// On the way through a document.
#[derive(Clone, Copy)]
struct Path<'p> {
    /// The key that a node stands under.
    key: Option<&'p str>,
    object: Option<&'p Named>,
    place: Place,
    /// Whether these are secrets, whatever they are called: below `secrets`.
    below: bool,
    /// Whether this mapping was looked at as an environment.
    environment: bool,
    /// The name that counts instead of `default`: of a variable of Terraform.
    variable: Option<&'p str>,
}

/// Looks at a document.
pub fn document(cx: &Cx<'_>, root: &Node) {
    let kustomization = is_kustomization(cx.file);
    let kind = root.get("kind").and_then(Node::scalar);
    let is_object = kind.is_some() && root.get("apiVersion").is_some();
    if kustomization || kind == Some("Kustomization") && root.get("secretGenerator").is_some() {
        rules::bul005::kustomization(cx, root);
    }
    rules::bul005::builtin(cx, root);
    if is_schema(root) {
        return;
    }
    let place = match cx.place {
        Some(place) => place,
        None if is_object => Place::Object,
        None => of_file(cx.file, root),
    };
    let place = if is_description(root) { Place::Quiet } else { place };
    // Whatever a file of secrets calls its values.
    let below = place == Place::Values && cx.place.is_none() && rules::bul003::is_secrets_file(cx.file);
    visit(cx, root, &Path { key: None, object: None, place, below, environment: false, variable: None });
}

fn is_kustomization(path: &str) -> bool {
    matches!(
        path.rsplit('/').next().unwrap_or(path),
        "kustomization.yaml" | "kustomization.yml" | "Kustomization" | "kustomization"
    )
}

/// What a file's names say, by its own name.
fn of_file(path: &str, root: &Node) -> Place {
    let lower = path.to_lowercase();
    let name = lower.rsplit('/').next().unwrap_or(&lower);
    if rules::bul003::is_secrets_file(path) || rules::bul003::is_values_file(path) {
        return if name.ends_with(".schema.json") { Place::Quiet } else { Place::Values };
    }
    if name.ends_with(".tf.json") || name.ends_with(".tfvars.json") || name.ends_with(".tofu.json") {
        return Place::Terraform;
    }
    if name == ".yarnrc.yml" {
        return Place::Logins;
    }
    let locked =
        name.contains("lock") && (name.ends_with(".json") || name.ends_with(".yaml") || name.ends_with(".yml"));
    if locked
        || name.ends_with(".schema.json")
        || name.ends_with(".schema.yaml")
        || is_translation(&lower)
        || is_of_languages(root)
    {
        return Place::Quiet;
    }
    Place::Settings
}

/// Whether a file holds texts for people, by where it is.
pub fn is_translation(path: &str) -> bool {
    let lower = path.to_lowercase();
    let mut parts: Vec<&str> = lower.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    parts.iter().any(|part| {
        matches!(
            *part,
            "i18n"
                | "l10n"
                | "locale"
                | "locales"
                | "lang"
                | "langs"
                | "language"
                | "languages"
                | "translation"
                | "translations"
        )
    }) || ["messages", "translations", "i18n", "locale"].iter().any(|word| stem.starts_with(word))
        || is_language(stem) && name.contains('.')
}

/// `de`, `pt-br`, `zh_hant`: codes of the languages that most projects have.
fn is_language(text: &str) -> bool {
    const CODES: &[&str] = &[
        "ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "gl", "he", "hi", "hr",
        "hu", "id", "it", "ja", "ko", "lt", "lv", "nb", "nl", "nn", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr",
        "sv", "th", "tr", "uk", "vi", "zh",
    ];
    let (code, rest) = text.split_at_checked(2).unwrap_or((text, ""));
    CODES.contains(&code.to_ascii_lowercase().as_str())
        && (rest.is_empty() || (rest.starts_with(['-', '_']) && (3..=5).contains(&rest.len())))
}

fn is_of_languages(root: &Node) -> bool {
    root.entries().is_some_and(|entries| {
        !entries.is_empty()
            && entries
                .iter()
                .all(|entry| entry.key.scalar().is_some_and(is_language) && entry.value.entries().is_some())
    })
}

/// JSON schemas and definitions of custom resources talk of passwords and have none.
fn is_schema(root: &Node) -> bool {
    root.get("$schema")
        .and_then(Node::scalar)
        .is_some_and(|schema| schema.contains("json-schema.org/") && root.get("properties").is_some())
        || matches!(root.get("kind").and_then(Node::scalar), Some("CustomResourceDefinition"))
}

/// Descriptions of interfaces, and schemas without a `$schema`: what stands there are examples.
fn is_description(root: &Node) -> bool {
    ["openapi", "swagger", "asyncapi"].iter().any(|key| root.get(key).is_some_and(|node| node.scalar().is_some()))
        || (root.get("properties").is_some_and(|node| node.entries().is_some())
            && root.get("type").and_then(Node::scalar) == Some("object"))
}

fn visit(cx: &Cx<'_>, node: &Node, path: &Path<'_>) {
    let key = path.key.unwrap_or_default();
    match &node.kind {
        NodeKind::Scalar { value, style, .. } => {
            // A text that an alias repeats was read where it stands.
            if path.place != Place::Object && node.alias.is_some() {
                return;
            }
            // Patches were looked at with their kustomization.
            if matches!(key, "patch" | "patchesStrategicMerge" | "patchesJson6902") && is_kustomization(cx.file) {
                return;
            }
            rules::bul002::scalar(cx, node, key);
            if rules::bul004::is_script(key) && path.place != Place::Quiet {
                rules::bul004::script(cx, node, path.object);
            } else if value.contains('\n') || is_json(value) || matches!(style, Style::Literal | Style::Folded) {
                text(cx, node, value, path);
            }
        }
        NodeKind::Sequence { items, .. } => {
            if rules::bul004::is_script(key) && path.place != Place::Quiet {
                rules::bul004::script(cx, node, path.object);
            }
            let application = path.object.is_some_and(|object| object.kind.starts_with("Application"));
            if path.place != Place::Quiet
                && !(key == "parameters" && application)
                && !rules::bul004::is_environment(key)
            {
                items
                    .iter()
                    .filter(|item| item.entries().is_some_and(|entries| (2..=5).contains(&entries.len())))
                    .for_each(|item| rules::bul004::variable(cx, item, path.object));
            }
            items.iter().for_each(|item| {
                // A script's lines were looked at as such.
                if item.scalar().is_none() || !rules::bul004::is_script(key) {
                    visit(cx, item, &Path { environment: false, ..*path });
                } else {
                    rules::bul002::scalar(cx, item, key);
                }
            });
        }
        NodeKind::Mapping { entries, .. } => {
            let named;
            let mut path = *path;
            if node.get("kind").is_some_and(|kind| kind.scalar().is_some())
                && (node.get("apiVersion").is_some() || node.get("metadata").is_some())
            {
                named = Named::of(node);
                path = Path { object: Some(&named), place: Place::Object, below: false, ..path };
                if named.kind == "ConfigMap" {
                    rules::bul014::config_map(cx, node, &named);
                }
                helm(cx, node, &named);
            }
            let config_map = path.object.is_some_and(|object| object.kind == "ConfigMap");
            if path.place != Place::Quiet || path.object.is_none() {
                rules::bul004::operation(cx, node, path.object);
            }
            let secret = rules::bul001::mapping(cx, node);
            if let Some(logins) = node.get("chpasswd").and_then(|node| node.entry("list")) {
                chpasswd(cx, logins, &path);
            }
            let mut docker = false;
            if !secret {
                if rules::bul008::mapping(cx, node) {
                    return;
                }
                docker = rules::bul009::mapping(cx, node);
            }
            for entry in entries {
                let key = entry.key.scalar().unwrap_or_default();
                if (secret && matches!(key, "data" | "stringData"))
                    || (config_map
                        && matches!(key, "data" | "binaryData")
                        && path.key.is_none_or(|key| key != "metadata"))
                {
                    continue;
                }
                if docker && (key == "auths" || entry.value.entry("auth").is_some()) {
                    continue;
                }
                let environment = rules::bul004::is_environment(key);
                // Of Compose: arguments of a build.
                let environment = environment || (key == "args" && entry.value.entries().is_some());
                // `secretEnv`: what stands there is secret, whatever it is called.
                let environment = environment && !(names::holds_secrets(key) && entry.value.entries().is_some());
                if environment && path.place != Place::Quiet {
                    rules::bul004::environment(cx, &entry.value, path.object);
                } else if !path.environment {
                    field(cx, key, entry, &path);
                }
                // SOPS and sealed files: what stands under these is ciphertext or about it.
                if matches!(key, "sops" | "encryptedData" | "status" | "managedFields") {
                    continue;
                }
                if is_sealed_part(Some(key), &path) && is_ciphertext(&entry.value) {
                    continue;
                }
                let values = holds_values(key, &entry.value) && !environment && path.place != Place::Quiet;
                let place = if values { Place::Values } else { path.place };
                let below = names::holds_secrets(key) || (path.below && !names::is_about(key));
                let variable = match (path.place, path.key) {
                    (Place::Terraform, Some("variable" | "output")) => Some(key),
                    _ => path.variable.filter(|_| path.place == Place::Terraform),
                };
                visit(cx, &entry.value, &Path { key: Some(key), place, below, environment, variable, ..path });
            }
        }
    }
}

/// Whether ciphertext stands under a key, or what is said of it.
fn is_sealed_part(key: Option<&str>, path: &Path<'_>) -> bool {
    let of_sealed = path.object.is_some_and(|object| object.kind == "SealedSecret");
    of_sealed && matches!(key, Some("items" | "envelopes" | "encryptedData"))
}

/// Whether there are only texts here as sealing makes them.
fn is_ciphertext(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Scalar { value, .. } => {
            value.len() >= 40
                && value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b':' | b'_' | b'-'))
        }
        NodeKind::Mapping { entries, .. } => entries.iter().all(|entry| is_ciphertext(&entry.value)),
        NodeKind::Sequence { .. } => false,
    }
}

/// An entry whose name may say that its value is secret.
fn field(cx: &Cx<'_>, key: &str, entry: &bulla::manifest::Entry, path: &Path<'_>) {
    if matches!(path.place, Place::Quiet | Place::Snippet)
        || rules::bul004::is_script(key)
        || is_spoken(key)
        || is_bound(key, path)
    {
        return;
    }
    let name = match path.variable.or(path.key) {
        Some(around) if names::is_form(key) => around,
        _ => key,
    };
    let found = match &entry.value.kind {
        NodeKind::Scalar { value, .. } => {
            let mut says = names::says(name);
            if says == Says::Nothing && path.below && !names::is_about(key) {
                says = Says::Perhaps;
            }
            judge::node_as(says, name, &entry.value)
                && (path.place != Place::Settings || says == Says::Nothing || has_weight(value))
        }
        NodeKind::Sequence { items, .. } => {
            // The place of a list is that of its element.
            let says = names::says_of_elements(name);
            for item in items.iter().filter(|item| judge::node_as(says, name, item) && cx.is_news(item)) {
                report(cx, item.alias.unwrap_or(item.span), name, path.object, path.place);
            }
            false
        }
        NodeKind::Mapping { .. } => false,
    };
    if found && cx.is_news(&entry.value) {
        report(cx, entry.key.alias.unwrap_or(entry.key.span), name, path.object, path.place);
    }
}

/// What cloud-init's `chpasswd` sets: lines `user:password`, or a list of them. `R` and `RANDOM` let it make one.
fn chpasswd(cx: &Cx<'_>, logins: &bulla::manifest::Entry, path: &Path<'_>) {
    let counts = |line: &str| {
        line.split_once(':').is_some_and(|(_, password)| {
            let password = password.trim();
            assess(password) == Verdict::Value && !is_stock(password) && !matches!(password, "R" | "RANDOM")
        })
    };
    let items = logins.value.items().unwrap_or_default().iter().filter_map(Node::scalar);
    let found = logins.value.scalar().into_iter().flat_map(str::lines).chain(items).any(counts);
    if found && path.place != Place::Quiet {
        report(cx, logins.key.span, "chpasswd", path.object, path.place);
    }
}

/// Fields that are texts for people, or expressions over what is measured or asked for.
fn is_spoken(key: &str) -> bool {
    matches!(
        key,
        "description" | "message" | "summary" | "help" | "notes" | "comment" | "title" | "expression" | "rego" | "expr"
    )
}

/// Fields that are no settings: of a policy, what is wanted; of a sealed file, ciphertext; of references, names.
fn is_bound(key: &str, path: &Path<'_>) -> bool {
    let Some(object) = path.object.filter(|_| path.place == Place::Object) else { return false };
    is_sealed_part(path.key, path)
        || (matches!(key, "secretKey" | "property" | "version")
            && (object.kind.ends_with("ExternalSecret") || object.kind == "PushSecret"))
}

/// Says it by the rule of the place.
pub fn report(cx: &Cx<'_>, at: bulla::manifest::Span, name: &str, object: Option<&Named>, place: Place) {
    match place {
        Place::Values => rules::bul003::report(cx, at, name, object),
        Place::ConfigFile => rules::bul014::report(cx, at, name, object),
        Place::Terraform => rules::bul017::report(cx, at, name),
        Place::Logins => rules::bul016::report(cx, at, name),
        Place::Object | Place::Settings => rules::bul015::report(cx, at, name, object),
        Place::Snippet | Place::Quiet => {}
    }
}

/// A text of several lines in a field: settings of some form, or YAML.
fn text(cx: &Cx<'_>, node: &Node, value: &str, path: &Path<'_>) {
    let key = path.key.unwrap_or_default();
    if matches!(path.place, Place::Quiet | Place::Snippet)
        || is_spoken(key)
        || bulla::metadata::is_last_applied(key)
        || value.len() > 1024 * 1024
    {
        return;
    }
    // Of HelmReleases, HelmCharts and Applications.
    let place = if matches!(key, "values" | "valuesContent") { Place::Values } else { path.place };
    within(cx, node, value, key, path.object, place);
}

/// A text that stands in a document as a file of its own: its name says what it is, or it does itself.
pub fn within(cx: &Cx<'_>, node: &Node, value: &str, name: &str, object: Option<&Named>, place: Place) {
    let lower = name.to_ascii_lowercase();
    if is_translation(&lower) {
        return;
    }
    let inner = Cx { place: Some(place), ..cx.inner(node, value, None) };
    // Each document a mapping or a list: no other form reads like that.
    let is_yaml = [".yaml", ".yml", ".json", ".tpl"].iter().any(|end| lower.ends_with(end)) || is_structured(value);
    if is_yaml {
        let within = format!("the text of {}", super::cx::clean(name));
        let inner = Cx { within: inner.within.or(Some(&within)), ..inner };
        if scan::read(&inner, value) {
            return;
        }
    }
    let exact = !matches!(inner.origin, super::cx::Origin::Fixed(_));
    let prose = [".md", ".txt", ".adoc", ".rst", ".html"].iter().any(|end| lower.ends_with(end));
    let loose = !prose && !matches!(place, Place::Snippet | Place::Quiet);
    lines(value, form(name, value), loose, |name, at| {
        let at = if exact { at } else { node.span };
        let cx = if exact { &inner } else { cx };
        report(cx, at, name, object, place);
    });
}

/// Whether the names in a text that is a file of its own say that one of its values is secret.
pub fn holds_literal(cx: &Cx<'_>, node: &Node, value: &str, name: &str) -> bool {
    let report = std::cell::RefCell::new(super::cx::Report::default());
    within(&Cx { report: &report, ..*cx }, node, value, name, None, Place::ConfigFile);
    !report.into_inner().findings.is_empty()
}

/// Settings line by line. `loose`: also such as are joined by a blank alone.
pub fn lines(text: &str, form: Form, loose: bool, mut each: impl FnMut(&str, bulla::manifest::Span)) {
    let places = Lines::new(text);
    // One is told of a line.
    let mut told = std::collections::HashSet::new();
    pairs(form, text, |pair| {
        let counts = if pair.loose {
            loose
                && names::says(pair.name) != Says::Nothing
                && has_weight(pair.value)
                && judge::text(pair.name, pair.value)
        } else {
            judge::text(pair.name, pair.value)
        };
        if counts {
            let span = places.span(pair.at);
            if told.insert(span.line) {
                each(pair.name, span);
            }
        }
    });
    if form == Form::Shell {
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            if line.len() < 8192 && !line.trim_start().starts_with('#') {
                super::command::literals(&super::command::tokens(line), |name, at| {
                    let span = places.span(offset + at..offset + at + 1);
                    if told.insert(span.line) {
                        each(name, span);
                    }
                });
            }
            offset += line.len();
        }
    }
    // A login wherever it stands on a line, but in prose and in comments.
    if loose && text.contains("://") {
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            let bare = line.trim_start();
            let comment = ["#", "//", ";", "--", "<!--", "/*", "*", "!"].iter().any(|begin| bare.starts_with(begin));
            if !comment && line.len() < 8192 && login::in_url(line) {
                let at = offset + line.len() - bare.len();
                let span = places.span(at..at + 1);
                if told.insert(span.line) {
                    each("a URL", span);
                }
            }
            offset += line.len();
        }
    }
}

/// Whether a text of one line may be JSON with names in it.
fn is_json(text: &str) -> bool {
    let bare = text.trim();
    text.contains("\":")
        && ((bare.starts_with('{') && bare.ends_with('}')) || (bare.starts_with('[') && bare.ends_with(']')))
        || text.contains("\" :") && bare.starts_with('{')
}

/// Whether a text is YAML or JSON with keys in it, and not lines of another form that YAML takes as well.
fn is_structured(text: &str) -> bool {
    let bare = text.trim_start();
    if bare.starts_with(['{', '[']) && text.trim_end().ends_with(['}', ']']) {
        return true;
    }
    let first = bare.lines().find(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    first.is_some_and(|line| {
        let line = line.trim_start_matches("- ");
        line.trim() == "---" || line.trim_end().ends_with(':') || line.contains(": ")
    })
}

/// Whether Helm values stand under a key: in helmfiles, Fleet, Skaffold, kustomizations, Flux, Argo CD. A selector's `values` are texts.
fn holds_values(key: &str, node: &Node) -> bool {
    matches!(key, "values" | "valuesInline" | "valuesObject" | "setValues" | "setValueTemplates")
        && (node.entries().is_some()
            || node.items().is_some_and(|items| items.iter().any(|item| item.entries().is_some())))
}

/// Values within objects of Flux and Argo CD.
fn helm(cx: &Cx<'_>, node: &Node, object: &Named) {
    let Some(spec) = node.get("spec") else { return };
    match object.kind.as_str() {
        "HelmRelease" | "HelmChart" | "HelmChartConfig" | "HelmApp" => {
            if let Some(node) = spec.get("valuesContent") {
                text_values(cx, node, object);
            }
        }
        "SecretStore" | "ClusterSecretStore" => rules::bul003::fake_store(cx, node, object),
        "Application" | "ApplicationSet" => {
            let spec = spec.get("template").and_then(|template| template.get("spec")).unwrap_or(spec);
            let sources = spec.get("sources").and_then(Node::items).unwrap_or_default();
            for helm in spec.get("source").into_iter().chain(sources).filter_map(|source| source.get("helm")) {
                if let Some(node) = helm.get("values") {
                    text_values(cx, node, object);
                }
                if let Some(list) = helm.get("parameters") {
                    rules::bul003::parameters(cx, list, object);
                }
            }
        }
        _ => {}
    }
}

/// Values that stand as text in an object.
fn text_values(cx: &Cx<'_>, node: &Node, object: &Named) {
    // Of several lines they are looked at where they stand.
    let Some(text) = node.scalar().filter(|text| !text.contains('\n')) else { return };
    let inner = Cx { place: Some(Place::Values), ..cx.inner(node, text, None) };
    let bare = zeroize::Zeroizing::new(lenient::without_templates(text));
    let Ok(stream) = Stream::read_any(&bare) else { return };
    let path = Path {
        key: None,
        object: Some(object),
        place: Place::Values,
        below: false,
        environment: false,
        variable: None,
    };
    for document in stream.documents() {
        visit(&inner, &document.root, &path);
    }
}
