//! What went wrong, where, and what to do: how every error of this program is told.

use std::fmt::Write as _;
use std::path::Path;

use bulla::manifest::{ManifestError, ManifestErrorKind, SealedPlaces, Span};
use bulla::open::{OpenError, Problem, ProblemKind, Problems, Site};
use bulla::recipient::{Fingerprint, Targets};
use bulla::rewrap::{RewrapError, RewrapRefused};
use bulla::scope::PlaceError;
use bulla::seal::{SealError, SetError};

/// How the program ends (design of the command line, "Manners").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exit {
    /// 1
    #[default]
    Failed,
    /// 2
    Usage,
    /// 3: a named file or object is not there.
    Missing,
    /// 4: the cluster can't be reached, or doesn't do what it must.
    Unavailable,
    /// 130
    Interrupted,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Missing => 3,
            Self::Unavailable => 4,
            Self::Interrupted => 130,
        }
    }
}

/// A line of a file, everything that may be secret in it masked.
#[derive(Clone, Debug)]
pub struct Excerpt {
    pub text: String,
    /// Characters before the marks, and how many marks.
    pub at: usize,
    pub len: usize,
}

/// A place in a file.
#[derive(Clone, Debug)]
pub struct Location {
    pub file: String,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub excerpt: Option<Excerpt>,
}

/// One error. Never holds a value.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    pub exit: Exit,
    pub code: Option<&'static str>,
    pub message: String,
    pub location: Option<Location>,
    /// Stands after the marks under the excerpt.
    pub label: String,
    /// Indented lines below.
    pub details: Vec<String>,
    pub help: Vec<String>,
    /// More of them, of the same cause.
    pub related: Vec<Self>,
}

pub type Result<T> = std::result::Result<T, Box<Failure>>;

impl Failure {
    pub fn new(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { message: message.into(), ..Self::default() })
    }

    pub fn usage(message: impl Into<String>) -> Box<Self> {
        Self::new(message).exit(Exit::Usage)
    }

    pub fn missing(message: impl Into<String>) -> Box<Self> {
        Self::new(message).exit(Exit::Missing)
    }

    pub fn unavailable(message: impl Into<String>) -> Box<Self> {
        Self::new(message).exit(Exit::Unavailable)
    }

    pub const fn exit(mut self: Box<Self>, exit: Exit) -> Box<Self> {
        self.exit = exit;
        self
    }

    pub fn help(mut self: Box<Self>, help: impl Into<String>) -> Box<Self> {
        self.help.push(help.into());
        self
    }

    pub fn detail(mut self: Box<Self>, detail: impl Into<String>) -> Box<Self> {
        self.details.push(detail.into());
        self
    }

    pub fn label(mut self: Box<Self>, label: impl Into<String>) -> Box<Self> {
        self.label = label.into();
        self
    }

    pub fn in_file(mut self: Box<Self>, file: &str) -> Box<Self> {
        self.location.get_or_insert_with(|| Location { file: file.into(), line: None, column: None, excerpt: None });
        self
    }

    pub fn at_line(mut self: Box<Self>, file: &str, line: usize) -> Box<Self> {
        self.location = Some(Location { file: file.into(), line: Some(line), column: None, excerpt: None });
        self
    }

    /// At a place of a text whose line may be shown where it shows no value.
    pub fn at(mut self: Box<Self>, file: &str, text: Option<&str>, span: Span) -> Box<Self> {
        self.location = Some(Location {
            file: file.into(),
            line: Some(span.line),
            column: Some(span.column),
            excerpt: text.and_then(|text| excerpt(text, span)),
        });
        self
    }

    /// At a place of a text that holds nothing secret: the line is shown as it is.
    pub fn at_public(mut self: Box<Self>, file: &str, text: &str, span: Span) -> Box<Self> {
        self.location = Some(Location {
            file: file.into(),
            line: Some(span.line),
            column: Some(span.column),
            excerpt: public_excerpt(text, span),
        });
        self
    }

    /// As text: `error:`, the place, the line, details, help.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.render_into(&mut out);
        for related in &self.related {
            out.push('\n');
            related.render_into(&mut out);
        }
        out
    }

    fn render_into(&self, out: &mut String) {
        let code = self.code.map(|code| format!("[{code}]")).unwrap_or_default();
        // Writing to a String can't fail.
        _ = writeln!(out, "\u{1b}[1;31merror{code}\u{1b}[0m\u{1b}[1m:\u{1b}[0m {}", self.message);
        if let Some(location) = &self.location {
            _ = writeln!(out, "  --> {}", location.text());
            if let (Some(excerpt), Some(line)) = (&location.excerpt, location.line) {
                _ = writeln!(out, "{line} | {}", excerpt.text);
                let margin = " ".repeat(line.to_string().len());
                let marks = format!("{}{}", " ".repeat(excerpt.at), "^".repeat(excerpt.len));
                _ = writeln!(out, "{}", format!("{margin} | {marks} {}", self.label).trim_end());
            } else if !self.label.is_empty() {
                _ = writeln!(out, "  {}", self.label);
            }
        }
        for detail in &self.details {
            _ = writeln!(out, "  {detail}");
        }
        for help in &self.help {
            _ = writeln!(out, "\u{1b}[1mhelp:\u{1b}[0m {help}");
        }
    }

    /// As JSON.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let own = serde_json::json!({
            "code": self.code,
            "message": self.message,
            "file": self.location.as_ref().map(|l| &l.file),
            "line": self.location.as_ref().and_then(|l| l.line),
            "column": self.location.as_ref().and_then(|l| l.column),
            "details": self.details,
            "help": self.help,
        });
        std::iter::once(own).chain(self.related.iter().flat_map(Self::json)).collect()
    }
}

impl Location {
    pub fn text(&self) -> String {
        let mut text = self.file.clone();
        for number in [self.line, self.column].into_iter().flatten() {
            _ = write!(text, ":{number}");
        }
        text
    }
}

/// Several as one; `None` when there is none. It ends as the first does.
pub fn all(failures: Vec<Failure>) -> Option<Box<Failure>> {
    let mut failures = failures.into_iter();
    let mut first = failures.next()?;
    first.related.extend(failures);
    Some(Box::new(first))
}

/// The line of a place: what stands before it only if that is a key (`  name: `), and of the place itself only a key.
fn excerpt(text: &str, span: Span) -> Option<Excerpt> {
    const MASK: &str = "········";
    const MAX: usize = 160;
    // Of a line that is too long to be shown no more than that is read: many places may stand on one.
    const NEAR: usize = 8 * MAX;
    let from = span.start.saturating_sub(NEAR);
    let start = match text.as_bytes().get(from..span.start)?.iter().rposition(|b| *b == b'\n') {
        Some(at) => from + at + 1,
        None if from == 0 => 0,
        None => return None,
    };
    let rest = text.as_bytes().get(start..text.len().min(span.end.max(span.start).saturating_add(NEAR)))?;
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let end = (start..=start + end).rev().find(|at| text.is_char_boundary(*at))?;
    let line = text.get(start..end)?.trim_end_matches('\r');
    let before = line.get(..span.start - start)?;
    let bare = before.trim_start_matches([' ', '-']);
    let is_word = |word: &str| {
        let word = word.trim_matches('"');
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
    };
    if !bare.is_empty() && !bare.trim_end().strip_suffix(':').is_some_and(is_word) {
        return None;
    }
    let at = before.chars().count();
    let own = line.get(before.len()..(span.end.min(start + line.len()) - start).max(before.len()))?;
    let rest = line.get(before.len() + own.len()..)?;
    let is_key = bare.is_empty() && is_word(own) && rest.trim_start().starts_with(':');
    let (shown, tail) = if is_key {
        (own, if rest.trim() == ":" { ":" } else { ": ········" })
    } else if bare.is_empty() {
        // A whole object, or a scalar in a sequence: nothing of it is shown.
        return None;
    } else {
        (MASK, "")
    };
    let line = format!("{before}{shown}{tail}");
    (line.chars().count() <= MAX).then(|| Excerpt { len: shown.chars().count().max(1), at, text: line })
}

/// The line of a place as it is, but for characters that a terminal would obey.
fn public_excerpt(text: &str, span: Span) -> Option<Excerpt> {
    const MAX: usize = 160;
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(start..)?.lines().next()?;
    let at = line.get(..span.start - start)?.chars().count();
    let end = span.end.min(start + line.len()).max(span.start);
    let marked = text.get(span.start..end)?.trim_end();
    let visible = |c: char| if c.is_control() || ('\u{200b}'..='\u{206f}').contains(&c) { '·' } else { c };
    let length = line.chars().count();
    (length <= MAX && length > at).then(|| Excerpt {
        text: line.chars().map(visible).collect(),
        at,
        len: marked.chars().count().max(1),
    })
}

/// How a path is shown.
pub fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".into() } else { printable(&path.to_string_lossy()) }
}

/// A text from outside as it may be shown: what steers a terminal or turns the direction of writing is written out.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if steers { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A word for sh, whatever is in it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// An error of reading or writing a file.
pub fn io(what: &str, path: &Path, error: &std::io::Error) -> Box<Failure> {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        std::io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        std::io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        std::io::ErrorKind::FileTooLarge => "the file would be larger than allowed".to_owned(),
        _ => error.to_string(),
    };
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::Missing } else { Exit::Failed };
    Failure::new(format!("can't {what} {}: {reason}", shown(path))).exit(exit)
}

/// An error of a manifest. `text` is the whole text, where it could be read.
pub fn manifest(file: &str, text: Option<&str>, error: &ManifestError) -> Box<Failure> {
    let mut failure = Failure::new(error.message.clone());
    // Where the text is no manifest, a line of it may be anything.
    let text = text.filter(|_| !matches!(error.kind, ManifestErrorKind::Syntax | ManifestErrorKind::Encoding));
    failure = match error.span {
        Some(span) => failure.at(file, text, span),
        None => failure.in_file(file),
    };
    match &error.help {
        Some(help) => failure.help(help.clone()),
        None => failure,
    }
}

/// A SealedSecret in its file, for placing what is wrong with it.
#[derive(Clone, Copy)]
pub struct InFile<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub places: &'a SealedPlaces,
    /// Whether a rule of the policy says whom it is sealed for: what helps differs.
    pub by_rule: bool,
}

impl InFile<'_> {
    /// With whether a rule of the policy says whom it is sealed for.
    pub const fn by_rule(mut self, by_rule: bool) -> Self {
        self.by_rule = by_rule;
        self
    }

    /// The options that `reseal` takes for new recipients.
    const fn new_recipients(&self) -> &'static str {
        if self.by_rule { "" } else { " -R NEW.pub" }
    }

    fn span(&self, site: &Site) -> Span {
        let places = self.places;
        match site {
            Site::Object => None,
            Site::Template(key) => self.places.template_data.get(key).copied(),
            Site::Item(key) => places.items.get(key).map(|item| item.key),
            Site::Envelope(name) => places.envelopes.lines.get(name).map(|(key, _)| *key),
            Site::ItemEnvelope(key, name) => {
                places.items.get(key).and_then(|item| item.envelopes.lines.get(name)).map(|(key, _)| *key)
            }
        }
        .unwrap_or(places.object)
    }

    /// An error at a site of the SealedSecret.
    pub fn fail(&self, site: &Site, message: impl Into<String>) -> Box<Failure> {
        Failure::new(message).at(self.file, Some(self.text), self.span(site))
    }

    pub fn problem(&self, problem: &Problem) -> Box<Failure> {
        let site = &problem.site;
        match &problem.kind {
            ProblemKind::Misplaced(place) => {
                let Site::Item(_) = site else { return self.fail(site, problem.to_string()) };
                let mut failure = self
                    .fail(site, "sealed for another place; will not open here")
                    .label(format!("not sealed for {place}"))
                    .help(format!("bulla move {} --from NAMESPACE/NAME -i IDENTITY", self.file))
                    .help(format!(
                        "without an identity: put the names back, or enter again all that is misplaced: bulla set {} KEY…",
                        self.file
                    ));
                failure.code = Some("BUL101");
                failure
            }
            ProblemKind::NoEnvelopes => self
                .fail(site, format!("{site} has no envelope: nobody can open it"))
                .help("take the file from Git as it was, or enter the value again: bulla set"),
            ProblemKind::Place(PlaceError::NoNamespace(scope)) => self
                .fail(site, format!("the SealedSecret has no namespace, and scope {scope} binds to one"))
                .help("add \"namespace:\" under metadata, as it was when it was sealed"),
            ProblemKind::Place(PlaceError::NoName) => {
                self.fail(site, "the SealedSecret has no name, and scope strict binds to one")
            }
            ProblemKind::Text(_) => {
                let failure = self.fail(site, problem.to_string());
                failure.help("take the file from Git as it was")
            }
            _ => self.fail(site, problem.to_string()),
        }
    }

    /// Everything that is wrong.
    pub fn problems(&self, problems: &Problems) -> Box<Failure> {
        all(problems.as_slice().iter().map(|problem| *self.problem(problem)).collect())
            .unwrap_or_else(|| Failure::new("nothing is wrong"))
    }

    /// It does not open. `place` is how the object is called; `held` are the identity files with their fingerprints.
    pub fn open(&self, place: &str, held: &[(String, Vec<String>)], error: &OpenError) -> Box<Failure> {
        match error {
            OpenError::Problems(problems) => self.problems(problems),
            OpenError::NoEnvelope { sealed_for, .. } => {
                let lines =
                    sealed_for.iter().map(|(name, fingerprint)| named(name, &fingerprint.to_string())).collect();
                no_identity(self.file, place, held, lines)
            }
            OpenError::Failed(site) => self
                .fail(site, format!("{site} does not open: it was changed, or sealed for another place"))
                .help("take the file from Git as it was"),
            OpenError::Template { key, .. } => self
                .fail(&Site::Template(key.clone()), error.to_string())
                .help("docs/templates.md lists what templates can do"),
        }
    }

    /// It can't be wrapped anew.
    pub fn rewrap(&self, place: &str, held: &[(String, Vec<String>)], error: &RewrapError) -> Box<Failure> {
        match error {
            RewrapError::Broken(problems) => self.problems(problems),
            RewrapError::Open(error) => self.open(place, held, error),
            RewrapError::Seal(error) => seal(place, error).in_file(self.file),
            RewrapError::NoEnvelope { item, sealed_for } => {
                let place = item.as_ref().map_or_else(|| place.to_owned(), |key| format!("item \"{key}\" of {place}"));
                let lines = sealed_for.iter().map(ToString::to_string).collect();
                no_identity(self.file, &place, held, lines)
            }
            RewrapError::Refused(RewrapRefused::MustReseal) => Failure::new(format!(
                "{place}: its old envelope is classical: the data key must be replaced, not wrapped anew"
            ))
            .in_file(self.file)
            .help(format!("bulla reseal {} --fresh -i OLD{}", self.file, self.new_recipients()))
            .help(format!(
                "or, who may read the Secret: kubectl get secret NAME -o yaml | bulla seal{} -w FILE --replace",
                self.new_recipients()
            )),
            RewrapError::NotCovered { name, fingerprint } => self.not_covered(name, &fingerprint.to_string()),
            RewrapError::NotOne(_) => Failure::usage(error.to_string()),
            _ => Failure::new(format!("{place}: {error}")).in_file(self.file),
        }
    }

    /// A value can't be set.
    pub fn set(&self, place: &str, targets: &Targets, error: &SetError) -> Box<Failure> {
        match error {
            SetError::Broken(problems) => self.problems(problems),
            SetError::Seal(error) => seal(place, error).in_file(self.file),
            SetError::NotCovered { name, fingerprint } => {
                match targets.as_slice().iter().find(|target| target.name == *name) {
                    Some(target) => self.another_key(name, *fingerprint, target.recipient.fingerprint()),
                    None => self.not_covered(name, &fingerprint.to_string()),
                }
            }
            SetError::WiderScope { .. } => {
                let failure =
                    Failure::new(error.to_string()).help("leave --scope out, or seal it anew in a file of its own");
                match self.places.scope {
                    Some(span) => failure.at(self.file, Some(self.text), span),
                    None => failure.in_file(self.file),
                }
            }
            SetError::TooManyDataKeys => Failure::new(format!(
                "{} has {} data keys already, one for each value that was set by itself",
                self.file,
                bulla::limits::MAX_DATA_KEYS_WRITE
            ))
            .in_file(self.file)
            .help(format!(
                "make one of them: bulla reseal {} --fresh -i IDENTITY{}",
                self.file,
                if self.by_rule { "" } else { " -R RECIPIENT.pub" }
            )),
        }
    }

    /// The same name, another key: one of the two is from before a rotation.
    fn another_key(&self, name: &str, in_file: Fingerprint, given: Fingerprint) -> Box<Failure> {
        let file = self.file;
        let (which, fetch) = match self.by_rule {
            true => ("pinned", format!("pin is old: bulla recipients update {name}")),
            false => ("given", "one given is old, fetch the new one: bulla recipients > prod.pub".to_owned()),
        };
        Failure::new(format!(
            "{file} is sealed for another key called {name} ({in_file}) than the one {which} ({given})"
        ))
        .in_file(file)
        .help(format!("if the {fetch}"))
        .help(format!(
            "if the file is old, wrap it anew first: bulla reseal {file} --live, or -i OLD{}",
            self.new_recipients()
        ))
    }

    fn not_covered(&self, name: &str, fingerprint: &str) -> Box<Failure> {
        let file = self.file;
        let failure = |whose: &str| {
            Failure::new(format!(
                "{file} is sealed for {} too, who is not among the recipients {whose} and would lose the value",
                named(name, fingerprint)
            ))
            .in_file(file)
        };
        match self.by_rule {
            true => failure("of its rule")
                .help("let the rule of .bulla.yaml name that recipient; or, for this once, name all with -r or -R")
                .help("to take a reader away for good: enter the values in a new file"),
            false => failure("given").help(format!(
                "name that recipient as well (-r or -R), or first: bulla reseal {file} --live, or -i OLD -R NEW.pub"
            )),
        }
    }
}

fn no_identity(file: &str, place: &str, held: &[(String, Vec<String>)], lines: Vec<String>) -> Box<Failure> {
    let files = held.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>().join(", ");
    let width = held.iter().map(|(file, _)| file.chars().count() + 1).max().unwrap_or(0).max("sealed for:".len());
    let mut failure = Failure::new(format!("no identity in {files} opens {place}")).in_file(file).detail(format!(
        "{:width$} {}",
        "sealed for:",
        lines.join(", ")
    ));
    for (file, fingerprints) in held {
        failure = failure.detail(format!("{:width$} {}", format!("{file}:"), fingerprints.join(", ")));
    }
    failure
}

/// A recipient for a person: its name and fingerprint, or the fingerprint alone.
pub fn named(name: &str, fingerprint: &str) -> String {
    if name == fingerprint { fingerprint.to_owned() } else { format!("{name} {fingerprint}") }
}

/// A Secret can't be sealed. `what` is how it is called.
pub fn seal(what: &str, error: &SealError) -> Box<Failure> {
    match error {
        SealError::Place(PlaceError::NoNamespace(scope)) => {
            Failure::new(format!("{what} has no namespace, and scope {scope} binds to one"))
                .help("add \"namespace:\" under metadata, or pass -n (your kubectl context is not used)")
        }
        SealError::Place(PlaceError::NoName) => {
            Failure::new(format!("{what} has no name, and scope strict binds to one"))
                .help("add \"name:\" under metadata, or pass --name")
        }
        SealError::Place(error) => Failure::new(format!("{what}: {error}")),
        SealError::TooLarge { size } => Failure::new(format!(
            "{what} is too large: sealed it has {size} bytes as the cluster counts them; at most {} (etcd's limit)",
            bulla::limits::MAX_OBJECT
        ))
        .help("split the Secret"),
        _ => Failure::new(format!("{what}: {error}")),
    }
}
