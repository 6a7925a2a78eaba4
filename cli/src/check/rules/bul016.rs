//! BUL016: a login in a file that programs read logins from.

use bulla::manifest::Span;

use crate::check::cx::{Cx, clean};
use crate::check::registry::{Rule, Severity};
use crate::check::settings::{Form, pairs};
use crate::check::value::{Verdict, assess, is_stock};
use crate::check::{judge, login};

pub const RULE: Rule = Rule {
    id: "BUL016",
    name: "credentials-file",
    severity: Severity::Error,
    summary: "a login in a file that programs read logins from",
    page: include_str!("../../../../docs/rules/BUL016.md"),
};

/// How such a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Names and values.
    Settings(Form),
    /// Keys of npm, which begin with an underscore after the registry.
    Npm,
    /// `machine … login … password …`.
    Netrc,
    /// Five fields with colons.
    Pgpass,
    /// A URL a line.
    Urls,
    /// `user:hash`.
    Htpasswd,
}

/// By the name of a file.
pub fn kind(path: &str) -> Option<Kind> {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or(path);
    let folder = parts.next().unwrap_or_default();
    Some(match name {
        ".npmrc" => Kind::Npm,
        ".netrc" | "_netrc" => Kind::Netrc,
        ".pgpass" | "pgpass.conf" => Kind::Pgpass,
        ".git-credentials" => Kind::Urls,
        ".htpasswd" | "htpasswd" => Kind::Htpasswd,
        "settings.xml" | "NuGet.Config" | "nuget.config" | "NuGet.config" => Kind::Settings(Form::Xml),
        "credentials" if matches!(folder, ".aws" | "aws") => Kind::Settings(Form::Plain),
        ".pypirc" | "pip.conf" | ".my.cnf" | ".mylogin.cnf" | ".s3cfg" | "rclone.conf" | ".boto" | ".terraformrc"
        | "terraform.rc" | "gradle.properties" | ".yarnrc" => Kind::Settings(Form::Plain),
        _ => return None,
    })
}

/// Looks at such a file.
pub fn file(cx: &Cx<'_>, kind: Kind, text: &str) {
    if let Kind::Settings(form) = kind {
        pairs(form, text, |pair| {
            // Maven's own encryption.
            let encrypted = form == Form::Xml && pair.value.starts_with('{') && pair.value.ends_with('}');
            if !pair.loose && !encrypted && judge::text(pair.name, pair.value) {
                report(cx, cx.lines.span(pair.at), pair.name);
            }
        });
        return;
    }
    let counts = |value: &str| assess(value.trim_matches(['"', '\''])) == Verdict::Value && !is_stock(value);
    let mut offset = 0;
    // Of a file of machines: whether the word before was `password`, also over the end of a line.
    let mut password = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        let mut found: Option<(&str, usize)> = None;
        if !bare.is_empty() && !bare.starts_with(['#', ';']) {
            match kind {
                Kind::Npm => {
                    if let Some((name, value)) = bare.split_once('=') {
                        let key = name.trim().rsplit(':').next().unwrap_or_default();
                        if matches!(key, "_authToken" | "_auth" | "_password") && counts(value.trim()) {
                            found = Some((key, 0));
                        }
                    }
                }
                Kind::Netrc => {
                    for word in line.split_whitespace() {
                        if password && counts(word) {
                            found = Some(("password", word.as_ptr() as usize - line.as_ptr() as usize));
                        }
                        password = word == "password";
                    }
                }
                Kind::Pgpass => {
                    if bare.matches(':').count() >= 4 {
                        let last = bare.splitn(5, ':').last().unwrap_or_default();
                        found = counts(last).then_some(("password", 0));
                    }
                }
                Kind::Urls => found = login::in_url(bare).then_some(("password", 0)),
                Kind::Htpasswd => {
                    found = bare
                        .split_once(':')
                        .filter(|(user, hash)| !user.is_empty() && counts(hash))
                        .map(|_| ("password", 0));
                }
                Kind::Settings(_) => {}
            }
        }
        if let Some((name, at)) = found {
            report(cx, cx.lines.span(offset + at..offset + at + 1), name);
        }
        offset += line.len();
    }
}

/// Says it.
pub fn report(cx: &Cx<'_>, at: Span, name: &str) {
    let name = clean(name);
    let mut finding = cx.finding(&RULE, at, format!("a login in a file of logins: {name}"));
    finding.excerpt = None;
    finding.help.push("take it from the environment, take the file out of Git, and revoke the login".into());
    finding.keys = vec![name];
    cx.add(finding);
}
