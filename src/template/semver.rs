//! Versions and constraints as sprig's semver functions understand them (Masterminds/semver 3).

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;
use std::sync::LazyLock;

use regex::Regex;

use super::builtins::wrong;
use super::exec::Exec;
use super::value::{UintType, Value};
use super::{Body, Fault, Function, Limit, Param};

use Param::{Str, Version as Other};

/// A version.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Version {
    numbers: [u64; 3],
    pre: String,
    build: String,
    original: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

const IDS: &str = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*";

static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(r"^v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-({IDS}))?(?:\+({IDS}))?$")).ok()
});

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let found = VERSION.as_ref()?.captures(text)?;
        let group = |index| found.get(index).map_or("", |group| group.as_str());
        let number = |index| if group(index).is_empty() { Some(0) } else { group(index).parse().ok() };
        let numeric = |id: &str| id.bytes().all(|b| b.is_ascii_digit());
        if group(4).split('.').any(|id| id.len() > 1 && id.starts_with('0') && numeric(id)) {
            return None;
        }
        Some(Self {
            numbers: [number(1)?, number(2)?, number(3)?],
            pre: group(4).to_owned(),
            build: group(5).to_owned(),
            original: text.to_owned(),
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.as_str(), other.pre.as_str()) {
            ("", "") => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (a, b) => compare_pre(a, b),
        })
    }
}

fn compare_pre(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// One comparison.
struct Constraint {
    op: String,
    to: Version,
    minor_open: bool,
    patch_open: bool,
    open: bool,
}

const OPS: &str = r"=|!=|>=|=>|<=|=<|>|<|~>|~|\^|";

fn loose() -> String {
    format!(r"v?([0-9|xX*]+)(?:\.([0-9|xX*]+))?(?:\.([0-9|xX*]+))?(?:-({IDS}))?(?:\+({IDS}))?")
}

static ONE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!(r"^\s*({OPS})\s*{}\s*$", loose())).ok());
static EACH: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!(r"(?:{OPS})\s*{}", loose())).ok());
static RANGE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r"\s*({0})\s+-\s+({0})\s*", loose())).ok());
static ALL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let one = loose();
    Regex::new(&format!(r"^\s*(?:{OPS})\s*{one}\s*(?:(?:\s+|,\s*)(?:{OPS})\s*{one}\s*)*$")).ok()
});

impl Constraint {
    fn parse(text: &str) -> Option<Self> {
        let found = ONE.as_ref()?.captures(text)?;
        let group = |index| found.get(index).map_or("", |group| group.as_str());
        let any = |text: &str| matches!(text, "" | "x" | "X" | "*");
        let pre = if group(5).is_empty() { String::new() } else { format!("-{}", group(5)) };
        let (mut minor_open, mut patch_open) = (false, false);
        let mut open = true;
        let version = if any(group(2)) {
            format!("0.0.0{pre}")
        } else if any(group(3)) {
            minor_open = true;
            format!("{}.0.0{pre}", group(2))
        } else if any(group(4)) {
            patch_open = true;
            format!("{}.{}.0{pre}", group(2), group(3))
        } else {
            open = false;
            format!("{}.{}.{}{pre}", group(2), group(3), group(4))
        };
        Some(Self { op: group(1).to_owned(), to: Version::parse(&version)?, minor_open, patch_open, open })
    }

    fn holds(&self, version: &Version) -> bool {
        let released_only = !version.pre.is_empty() && self.to.pre.is_empty();
        let order = version.compare(&self.to);
        let [major, minor, patch] = version.numbers;
        let [to_major, to_minor, to_patch] = self.to.numbers;
        match self.op.as_str() {
            "!=" => {
                if !self.open {
                    return order != Ordering::Equal;
                }
                if released_only {
                    return false;
                }
                if major != to_major || (minor != to_minor && !self.minor_open) {
                    return true;
                }
                if self.minor_open {
                    return false;
                }
                if patch != to_patch && !self.patch_open {
                    return true;
                }
                if self.patch_open {
                    let any = !version.pre.is_empty() || !self.to.pre.is_empty();
                    return any && version.pre != self.to.pre;
                }
                order != Ordering::Equal
            }
            _ if released_only => false,
            ">" => {
                if !self.open {
                    order == Ordering::Greater
                } else if major != to_major {
                    major > to_major
                } else if self.minor_open {
                    false
                } else if self.patch_open {
                    minor > to_minor
                } else {
                    order == Ordering::Greater
                }
            }
            "<" => order == Ordering::Less,
            ">=" | "=>" => order != Ordering::Less,
            "<=" | "=<" => {
                if !self.open {
                    return order != Ordering::Greater;
                }
                major < to_major || (major == to_major && (minor <= to_minor || self.minor_open))
            }
            "^" => {
                if order == Ordering::Less {
                    false
                } else if to_major > 0 || self.minor_open {
                    major == to_major
                } else if major > 0 {
                    false
                } else if to_minor > 0 || self.patch_open {
                    minor == to_minor
                } else {
                    minor == 0 && patch == to_patch
                }
            }
            "" | "=" if !self.open => order == Ordering::Equal,
            _ => {
                if order == Ordering::Less {
                    return false;
                }
                (self.to.numbers == [0, 0, 0] && !self.minor_open && !self.patch_open)
                    || (major == to_major && (minor == to_minor || self.minor_open))
            }
        }
    }
}

/// Whether a version satisfies constraints; `None` when they are none.
fn satisfies(constraints: &str, version: &str) -> Option<bool> {
    let rewritten = RANGE.as_ref()?.replace_all(constraints, |found: &regex::Captures<'_>| {
        let group = |index| found.get(index).map_or("", |group| group.as_str());
        format!(">= {}, <= {} ", group(1), group(7))
    });
    let mut alternatives = Vec::new();
    for part in rewritten.split("||") {
        let mut all = Vec::new();
        if !ALL.as_ref()?.is_match(part) {
            return None;
        }
        for one in EACH.as_ref()?.find_iter(part) {
            all.push(Constraint::parse(one.as_str())?);
        }
        alternatives.push(all);
    }
    let version = Version::parse(version)?;
    Some(alternatives.iter().any(|all| all.iter().all(|one| one.holds(&version))))
}

fn short(exec: &mut Exec<'_>, value: &Value) -> Result<String, Fault> {
    let Value::Str(text) = value else { return Err(wrong()) };
    if text.bytes().len() > 4096 {
        return Err(Fault::limit(Limit::Searched));
    }
    exec.step(200 + text.bytes().len() as u64 * 4)?;
    let text = std::str::from_utf8(text.bytes()).map_err(|_| Fault::execution("this is no version"))?;
    Ok(text.to_owned())
}

const fn plain(
    name: &'static str,
    params: &'static [Param],
    run: fn(&mut Exec<'_>, &[Value]) -> Result<Value, Fault>,
) -> Function {
    Function { name, params, variadic: None, body: Body::Plain(run) }
}

pub(super) static FUNCTIONS: &[Function] = &[
    plain("semver", &[Str], |exec, args| {
        let text = short(exec, args.first().ok_or_else(wrong)?)?;
        exec.room(text.len() / 16)?;
        let version = Version::parse(&text).ok_or_else(|| Fault::execution("this is no version"))?;
        Ok(Value::Version(Rc::new(version)))
    }),
    plain("semverCompare", &[Str, Str], |exec, args| {
        let [constraints, version] = args else { return Err(wrong()) };
        let (constraints, version) = (short(exec, constraints)?, short(exec, version)?);
        let holds = satisfies(&constraints, &version);
        holds.map(Value::Bool).ok_or_else(|| Fault::execution("this is no version, or no constraint"))
    }),
];

fn of(args: &[Value]) -> Result<&Version, Fault> {
    if let Some(Value::Version(version)) = args.first() { Ok(version) } else { Err(wrong()) }
}

fn compared(args: &[Value], test: fn(Ordering) -> bool) -> Result<Value, Fault> {
    let [Value::Version(a), Value::Version(b)] = args else { return Err(wrong()) };
    Ok(Value::Bool(test(a.compare(b))))
}

/// What a version can be asked: its first parameter is the version.
static METHODS: &[Function] = &[
    plain("Major", &[Other], |_, args| Ok(Value::Uint(UintType::Uint64, of(args)?.numbers[0]))),
    plain("Minor", &[Other], |_, args| Ok(Value::Uint(UintType::Uint64, of(args)?.numbers[1]))),
    plain("Patch", &[Other], |_, args| Ok(Value::Uint(UintType::Uint64, of(args)?.numbers[2]))),
    plain("Prerelease", &[Other], |exec, args| exec.str(&of(args)?.pre)),
    plain("Metadata", &[Other], |exec, args| exec.str(&of(args)?.build)),
    plain("Original", &[Other], |exec, args| exec.str(&of(args)?.original)),
    plain("String", &[Other], |exec, args| exec.str(&of(args)?.to_string())),
    plain("Compare", &[Other, Other], |_, args| {
        let [Value::Version(a), Value::Version(b)] = args else { return Err(wrong()) };
        Ok(Value::int(a.compare(b) as i64))
    }),
    plain("Equal", &[Other, Other], |_, args| compared(args, Ordering::is_eq)),
    plain("LessThan", &[Other, Other], |_, args| compared(args, Ordering::is_lt)),
    plain("GreaterThan", &[Other, Other], |_, args| compared(args, Ordering::is_gt)),
    plain("LessThanEqual", &[Other, Other], |_, args| compared(args, Ordering::is_le)),
    plain("GreaterThanEqual", &[Other, Other], |_, args| compared(args, Ordering::is_ge)),
];

pub(super) fn method(name: &[u8]) -> Option<&'static Function> {
    METHODS.iter().find(|method| method.name.as_bytes() == name)
}
