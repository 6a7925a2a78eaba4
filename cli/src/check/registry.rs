//! All rules, in the order of their ids. To add one: a file in `rules/`, a page in `docs/rules/`, a line here.

use super::rules;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Should be put right.
    Warning,
    /// A secret is readable, or a sealed one won't open.
    Error,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Never changes, and is never used for another rule.
    pub id: &'static str,
    /// A few words with hyphens.
    pub name: &'static str,
    pub severity: Severity,
    /// What is wrong, in one line.
    pub summary: &'static str,
    /// `docs/rules/ID.md`.
    pub page: &'static str,
}

impl Rule {
    /// The page for people: without what only its tests read.
    pub fn text(&self) -> String {
        self.page.lines().filter(|line| !line.starts_with("<!--")).flat_map(|line| [line, "\n"]).collect()
    }

    /// The same without the examples: what looks like a Secret in a report would be found there.
    pub fn without_examples(&self) -> String {
        let mut example = false;
        let mut out = String::new();
        for line in self.text().lines() {
            if line.starts_with("## ") {
                example = matches!(line, "## Bad" | "## Good");
            }
            if !example {
                out.push_str(line);
                out.push('\n');
            }
        }
        out
    }
}

/// All of them.
pub const ALL: &[&Rule] = &[
    &rules::bul001::RULE,
    &rules::bul002::RULE,
    &rules::bul003::RULE,
    &rules::bul004::RULE,
    &rules::bul005::RULE,
    &rules::bul006::RULE,
    &rules::bul007::RULE,
    &rules::bul008::RULE,
    &rules::bul009::RULE,
    &rules::bul010::RULE,
    &rules::bul011::RULE,
    &rules::bul012::RULE,
    &rules::bul013::RULE,
    &rules::bul014::RULE,
    &rules::bul015::RULE,
    &rules::bul016::RULE,
    &rules::bul017::RULE,
    &rules::bul018::RULE,
    &rules::bul101::RULE,
    &rules::bul102::RULE,
    &rules::bul103::RULE,
    &rules::bul104::RULE,
    &rules::bul105::RULE,
    &rules::bul106::RULE,
    &rules::bul107::RULE,
    &rules::bul108::RULE,
    &rules::bul109::RULE,
    &rules::bul110::RULE,
    &rules::bul111::RULE,
    &rules::bul112::RULE,
    &rules::bul201::RULE,
    &rules::bul202::RULE,
    &rules::bul203::RULE,
    &rules::bul204::RULE,
    &rules::bul205::RULE,
];

/// A rule by its id, in any case.
pub fn by_id(id: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_page_and_its_place() {
        for pair in ALL.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} before {}", pair[0].id, pair[1].id);
        }
        for rule in ALL {
            assert!(rule.page.starts_with(&format!("# {}: ", rule.id)), "{}", rule.id);
            for part in ["## Why", "## Bad", "## Good", "## Remedy"] {
                assert!(rule.page.contains(part), "{} has no {part}", rule.id);
            }
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules");
        let mut pages: Vec<_> = std::fs::read_dir(folder)
            .expect("docs/rules")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .filter(|name| name.starts_with("BUL"))
            .collect();
        pages.sort();
        assert_eq!(pages, ALL.iter().map(|rule| format!("{}.md", rule.id)).collect::<Vec<_>>());
    }
}
