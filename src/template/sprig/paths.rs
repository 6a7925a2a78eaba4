//! Paths with slashes, and URLs.

use std::collections::BTreeMap;

use super::{Made, plain};
use crate::template::builtins::wrong;
use crate::template::exec::Exec;
use crate::template::value::{Elem, Text, Value};
use crate::template::{Fault, Function, Param};

use Param::{Dict, Str};

pub(super) static FUNCTIONS: &[Function] = &[
    plain("base", &[Str], |exec, args| of(exec, args, base)),
    plain("osBase", &[Str], |exec, args| of(exec, args, base)),
    plain("dir", &[Str], |exec, args| of(exec, args, dir)),
    plain("osDir", &[Str], |exec, args| of(exec, args, dir)),
    plain("clean", &[Str], |exec, args| of(exec, args, clean)),
    plain("osClean", &[Str], |exec, args| of(exec, args, clean)),
    plain("ext", &[Str], |exec, args| of(exec, args, ext)),
    plain("osExt", &[Str], |exec, args| of(exec, args, ext)),
    plain("isAbs", &[Str], |_, args| Ok(Value::Bool(text(args)?.starts_with(b"/")))),
    plain("osIsAbs", &[Str], |_, args| Ok(Value::Bool(text(args)?.starts_with(b"/")))),
    plain("urlParse", &[Str], url_parse),
    plain("urlJoin", &[Dict], url_join),
];

fn text(args: &[Value]) -> Result<&[u8], Fault> {
    if let Some(Value::Str(text)) = args.first() { Ok(text.bytes()) } else { Err(wrong()) }
}

fn of(exec: &mut Exec<'_>, args: &[Value], run: fn(&[u8]) -> Vec<u8>) -> Made {
    let path = text(args)?;
    exec.scan(path.len())?;
    exec.text(run(path))
}

fn base(path: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return b".".to_vec();
    }
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let path = path.get(..end).unwrap_or_default();
    match path.rsplit(|b| *b == b'/').next() {
        Some(b"") | None => b"/".to_vec(),
        Some(name) => name.to_vec(),
    }
}

fn dir(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    clean(path.get(..end).unwrap_or_default())
}

fn ext(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    name.iter().rposition(|b| *b == b'.').map_or_else(Vec::new, |at| name.get(at..).unwrap_or_default().to_vec())
}

fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(last) if *last != b".." => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/".as_slice(), &joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// Where in a URL a text stands: what may stay unescaped depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    User,
    Fragment,
}

fn bad() -> Fault {
    Fault::execution("this is no URL")
}

fn keeps(byte: u8, part: Part) -> bool {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
        return true;
    }
    match part {
        Part::Host => b"!$&'()*+,;=:[]<>\"".contains(&byte),
        Part::Path => b"$&+,/:;=@".contains(&byte),
        Part::User => b"$&+,;=".contains(&byte),
        Part::Fragment => b"$&+,/:;=?@!()*".contains(&byte),
    }
}

fn escape(text: &[u8], part: Part) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if keeps(*byte, part) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

fn unescape(text: &[u8], part: Part) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok()).ok_or_else(bad)?;
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            let value = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
            // In a host only what is not ASCII may be escaped.
            if part == Part::Host && value < 0x80 && digits != "25" {
                return Err(bad());
            }
            out.push(value);
            rest = after.get(2..).unwrap_or_default();
        } else if part == Part::Host && *byte < 0x80 && !keeps(*byte, part) {
            return Err(bad());
        } else {
            out.push(*byte);
        }
    }
    Ok(out)
}

fn valid_encoded(text: &[u8], part: Part) -> bool {
    text.iter().all(|b| b"!$&'()*+,;=:@[]%".contains(b) || keeps(*b, part))
}

/// A text as it was written, when that is a way to write it, else as Go would.
fn escaped(raw: &[u8], plain: &[u8], part: Part) -> Vec<u8> {
    let same = valid_encoded(raw, part) && unescape(raw, part).is_ok_and(|text| text == plain);
    if same && !raw.is_empty() {
        return raw.to_vec();
    }
    if part == Part::Path && plain == b"*" { b"*".to_vec() } else { escape(plain, part) }
}

fn cut(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|b| *b == at) {
        Some(found) => (text.get(..found).unwrap_or_default(), Some(text.get(found + 1..).unwrap_or_default())),
        None => (text, None),
    }
}

fn valid_port(port: &[u8]) -> bool {
    match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

fn host_of(host: &[u8]) -> Result<Vec<u8>, Fault> {
    if host.starts_with(b"[") {
        let close = host.iter().rposition(|b| *b == b']').ok_or_else(bad)?;
        if !valid_port(host.get(close + 1..).unwrap_or_default()) || host.contains(&b'%') {
            return Err(bad());
        }
    } else if let Some(colon) = host.iter().rposition(|b| *b == b':')
        && !valid_port(host.get(colon..).unwrap_or_default())
    {
        return Err(bad());
    }
    unescape(host, Part::Host)
}

/// User and password, escaped as Go writes them.
fn user_of(user: &[u8]) -> Result<Vec<u8>, Fault> {
    if !user.iter().all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(b)) {
        return Err(bad());
    }
    let (name, password) = cut(user, b':');
    let mut out = escape(&unescape(name, Part::User)?, Part::User);
    if let Some(password) = password {
        out.push(b':');
        out.extend_from_slice(&escape(&unescape(password, Part::User)?, Part::User));
    }
    Ok(out)
}

fn url_parse(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let url = text(args)?;
    exec.scan(url.len() * 4)?;
    if url.iter().any(|b| *b < b' ' || *b == 0x7f) {
        return Err(bad());
    }
    let (rest, fragment) = cut(url, b'#');
    let mut found: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut rest = rest;
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => continue,
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => continue,
            b':' if at == 0 => return Err(bad()),
            b':' => {
                found.insert("scheme", rest.get(..at).unwrap_or_default().to_ascii_lowercase());
                rest = rest.get(at + 1..).unwrap_or_default();
            }
            _ => {}
        }
        break;
    }
    let has_scheme = found.contains_key("scheme");
    let (before, query) = cut(rest, b'?');
    found.insert("query", query.unwrap_or_default().to_vec());
    rest = before;
    let mut opaque = false;
    if !rest.starts_with(b"/") {
        if has_scheme {
            found.insert("opaque", rest.to_vec());
            opaque = true;
        } else if rest.split(|b| *b == b'/').next().is_some_and(|first| first.contains(&b':')) {
            return Err(bad());
        }
    }
    if !opaque {
        if let Some(after) = rest.strip_prefix(b"//")
            && (has_scheme || !rest.starts_with(b"///"))
        {
            let end = after.iter().position(|b| *b == b'/').unwrap_or(after.len());
            let (authority, path) = after.split_at(end);
            rest = path;
            let (user, host) = match authority.iter().rposition(|b| *b == b'@') {
                Some(at) => (authority.get(..at), authority.get(at + 1..).unwrap_or_default()),
                None => (None, authority),
            };
            let host = host_of(host)?;
            found.insert("hostname", hostname(&host));
            found.insert("host", host);
            if let Some(user) = user {
                found.insert("userinfo", user_of(user)?);
            }
        }
        found.insert("path", unescape(rest, Part::Path)?);
    }
    found.insert("fragment", unescape(fragment.unwrap_or_default(), Part::Fragment)?);
    let mut entries = BTreeMap::new();
    for name in ["scheme", "host", "hostname", "path", "query", "opaque", "fragment", "userinfo"] {
        let value = exec.text(found.remove(name).unwrap_or_default())?;
        entries.insert(Text::from(name), value);
    }
    exec.map(Elem::Any, entries)
}

fn hostname(host: &[u8]) -> Vec<u8> {
    let end = match host.iter().rposition(|b| *b == b':') {
        Some(colon) if valid_port(host.get(colon..).unwrap_or_default()) => colon,
        _ => host.len(),
    };
    let name = host.get(..end).unwrap_or_default();
    name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(name).to_vec()
}

fn url_join(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let Some(Value::Map(id)) = args.first() else { return Err(wrong()) };
    let entries = exec.entries(*id).entries.clone();
    let mut total = 0;
    let mut get = |name: &str| match entries.get(name.as_bytes()) {
        None => Ok(Vec::new()),
        Some(Value::Str(text)) => {
            total += text.bytes().len();
            Ok(text.bytes().to_vec())
        }
        Some(_) => Err(wrong()),
    };
    let (scheme, host, path) = (get("scheme")?, get("host")?, get("path")?);
    let (query, opaque, fragment, user) = (get("query")?, get("opaque")?, get("fragment")?, get("userinfo")?);
    exec.scan(total * 4)?;
    let user = if user.is_empty() {
        None
    } else {
        if user.iter().any(|b| *b < b' ' || matches!(b, 0x7f | b'#' | b'?' | b'/')) {
            return Err(bad());
        }
        Some(user_of(&user)?)
    };
    let mut out = Vec::new();
    if !scheme.is_empty() {
        out.extend_from_slice(&scheme);
        out.push(b':');
    }
    if opaque.is_empty() {
        if !scheme.is_empty() || !host.is_empty() || user.is_some() {
            if !host.is_empty() || !path.is_empty() || user.is_some() {
                out.extend_from_slice(b"//");
            }
            if let Some(user) = &user {
                out.extend_from_slice(user);
                out.push(b'@');
            }
            out.extend_from_slice(&escape(&host, Part::Host));
        }
        let path = escaped(b"", &path, Part::Path);
        if !path.is_empty() && !path.starts_with(b"/") && !host.is_empty() {
            out.push(b'/');
        }
        if out.is_empty() && path.split(|b| *b == b'/').next().is_some_and(|first| first.contains(&b':')) {
            out.extend_from_slice(b"./");
        }
        out.extend_from_slice(&path);
    } else {
        out.extend_from_slice(&opaque);
    }
    if !query.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&query);
    }
    if !fragment.is_empty() {
        out.push(b'#');
        out.extend_from_slice(&escape(&fragment, Part::Fragment));
    }
    exec.text(out)
}
