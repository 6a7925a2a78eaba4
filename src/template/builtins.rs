//! The functions of Go's text/template itself. `call` is left out: no value is a function.

use std::cmp::Ordering;

use super::exec::Exec;
use super::value::{Buf, Elem, Value, runes};
use super::{Body, Fault, Function, Param, format};

use Param::{Any, Str};

type Made = Result<Value, Fault>;

const fn plain(
    name: &'static str,
    params: &'static [Param],
    variadic: Option<Param>,
    run: fn(&mut Exec<'_>, &[Value]) -> Made,
) -> Function {
    Function { name, params, variadic, body: Body::Plain(run) }
}

pub(super) static FUNCTIONS: &[Function] = &[
    Function { name: "and", params: &[Any], variadic: Some(Any), body: Body::And },
    Function { name: "or", params: &[Any], variadic: Some(Any), body: Body::Or },
    plain("not", &[Any], None, |exec, args| match args {
        [value] => Ok(Value::Bool(!exec.heap.truth(value))),
        _ => Err(wrong()),
    }),
    plain("len", &[Any], None, len),
    plain("index", &[Any], Some(Any), index),
    plain("print", &[], Some(Any), |exec, args| printed(exec, |exec, buf| format::sprint(exec, args, buf))),
    plain("println", &[], Some(Any), |exec, args| printed(exec, |exec, buf| format::sprintln(exec, args, buf))),
    plain("printf", &[Str], Some(Any), |exec, args| match args {
        [Value::Str(text), rest @ ..] => {
            exec.scan(text.bytes().len())?;
            printed(exec, |exec, buf| format::sprintf(exec, text.bytes(), rest, buf))
        }
        _ => Err(wrong()),
    }),
    plain("html", &[], Some(Any), |exec, args| escaped(exec, args, html)),
    plain("js", &[], Some(Any), |exec, args| escaped(exec, args, js)),
    plain("urlquery", &[], Some(Any), |exec, args| escaped(exec, args, urlquery)),
    plain("eq", &[Any], Some(Any), |exec, args| {
        let Some((first, rest)) = args.split_first().filter(|(_, rest)| !rest.is_empty()) else {
            return Err(Fault::execution("too few arguments"));
        };
        for other in rest {
            if equal(exec, first, other)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    plain("ne", &[Any, Any], None, |exec, args| match args {
        [a, b] => Ok(Value::Bool(!equal(exec, a, b)?)),
        _ => Err(wrong()),
    }),
    plain("lt", &[Any, Any], None, |_, args| ordered(args, |o| o == Some(Ordering::Less))),
    plain("le", &[Any, Any], None, |_, args| ordered(args, |o| matches!(o, Some(Ordering::Less | Ordering::Equal)))),
    plain("gt", &[Any, Any], None, |_, args| ordered(args, |o| !matches!(o, Some(Ordering::Less | Ordering::Equal)))),
    plain("ge", &[Any, Any], None, |_, args| ordered(args, |o| o != Some(Ordering::Less))),
];

/// What the types of the parameters rule out.
pub(super) const fn wrong() -> Fault {
    Fault::execution("arguments of the wrong type")
}

pub(super) fn printed(exec: &mut Exec<'_>, print: impl FnOnce(&mut Exec<'_>, &mut Buf) -> Result<(), Fault>) -> Made {
    let mut buf = exec.buf();
    print(exec, &mut buf)?;
    exec.made(buf)
}

fn len(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let len = match args {
        [Value::Str(text)] => text.bytes().len(),
        [Value::List(id)] => exec.heap.list(*id).values.len(),
        [Value::Map(id)] => exec.heap.map(*id).entries.len(),
        _ => return Err(Fault::execution("this has no length")),
    };
    Ok(Value::int(i64::try_from(len).unwrap_or(i64::MAX)))
}

fn position(value: &Value) -> Result<usize, Fault> {
    let position = match value {
        Value::Int(_, n) => usize::try_from(*n).ok(),
        Value::Uint(_, n) => usize::try_from(*n).ok(),
        _ => return Err(Fault::execution("an index that is no integer")),
    };
    position.ok_or_else(|| Fault::execution("an index out of range"))
}

fn index(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let Some((item, indexes)) = args.split_first() else { return Err(wrong()) };
    if item.is_nil() {
        return Err(Fault::execution("an index of nil"));
    }
    let out = || Fault::execution("an index out of range");
    let mut item = item.clone();
    for index in indexes {
        exec.step(1)?;
        item = match &item {
            Value::Str(text) => {
                let byte = text.bytes().get(position(index)?).copied().ok_or_else(out)?;
                format::byte(byte)
            }
            Value::List(id) => {
                let at = position(index)?;
                exec.heap.list(*id).values.get(at).cloned().ok_or_else(out)?
            }
            Value::Map(id) => {
                let map = exec.heap.map(*id);
                let Value::Str(key) = index else { return Err(Fault::execution("a key that is no string")) };
                match map.entries.get(key) {
                    Some(value) => value.clone(),
                    None if map.elem == Elem::Str => Value::Str("".into()),
                    None => Value::Nil,
                }
            }
            _ => return Err(Fault::execution("this can't be indexed")),
        };
    }
    Ok(item)
}

/// Of which kind Go compares a value.
fn kind(value: &Value) -> u8 {
    match value {
        Value::Bool(_) => 1,
        Value::Int(..) => 2,
        Value::Uint(..) => 3,
        Value::Float(_) => 4,
        Value::Str(_) | Value::Binary => 5,
        Value::Nil | Value::List(_) | Value::Map(_) | Value::Version(_) => 0,
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(_, n) => Some(i128::from(*n)),
        Value::Uint(_, n) => Some(i128::from(*n)),
        _ => None,
    }
}

pub(super) fn is_nil(exec: &Exec<'_>, value: &Value) -> bool {
    match value {
        Value::Nil => true,
        Value::List(id) => exec.heap.list(*id).nil,
        Value::Map(id) => exec.heap.map(*id).nil,
        _ => false,
    }
}

fn equal(exec: &mut Exec<'_>, a: &Value, b: &Value) -> Result<bool, Fault> {
    exec.step(1)?;
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return Ok(a == b);
    }
    let different = || Fault::execution("values of types that can't be compared");
    if kind(a) != kind(b) {
        // Something and nothing.
        return if a.is_nil() || b.is_nil() { Ok(false) } else { Err(different()) };
    }
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Str(a), Value::Str(b)) => {
            exec.scan(a.bytes().len().min(b.bytes().len()))?;
            Ok(a == b)
        }
        _ => {
            let kinds = (format::kind_of(a), format::kind_of(b));
            if kinds.0 != kinds.1 && !a.is_nil() && !b.is_nil() {
                return Err(different());
            }
            let (nil_a, nil_b) = (is_nil(exec, a), is_nil(exec, b));
            if nil_a || nil_b {
                return Ok(nil_a == nil_b);
            }
            match (a, b) {
                (Value::Version(a), Value::Version(b)) => Ok(std::rc::Rc::ptr_eq(a, b)),
                _ => Err(different()),
            }
        }
    }
}

/// `None` is what NaN compares as.
fn ordered(args: &[Value], test: fn(Option<Ordering>) -> bool) -> Made {
    let [a, b] = args else { return Err(wrong()) };
    let order = match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        _ => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => return Err(Fault::execution("values of types that have no order")),
        },
    };
    Ok(Value::Bool(test(order)))
}

fn escaped(exec: &mut Exec<'_>, args: &[Value], escape: fn(&[u8], &mut Buf) -> Result<(), Fault>) -> Made {
    let mut text = exec.buf();
    if let [Value::Str(one)] = args {
        text.push(one.bytes())?;
    } else {
        let shown: Vec<Value> =
            args.iter().map(|v| if v.is_nil() { Value::Str("<no value>".into()) } else { v.clone() }).collect();
        format::sprint(exec, &shown, &mut text)?;
    }
    exec.scan(text.len())?;
    let mut out = exec.buf();
    escape(text.bytes(), &mut out)?;
    exec.made(out)
}

fn html(text: &[u8], out: &mut Buf) -> Result<(), Fault> {
    for byte in text {
        match byte {
            0 => out.push("\u{fffd}".as_bytes())?,
            b'"' => out.push(b"&#34;")?,
            b'\'' => out.push(b"&#39;")?,
            b'&' => out.push(b"&amp;")?,
            b'<' => out.push(b"&lt;")?,
            b'>' => out.push(b"&gt;")?,
            _ => out.byte(*byte)?,
        }
    }
    Ok(())
}

fn js(text: &[u8], out: &mut Buf) -> Result<(), Fault> {
    let mut at = 0;
    for (c, len) in runes(text) {
        let bytes = text.get(at..at + len).unwrap_or_default();
        at += len;
        match c {
            '\\' => out.push(b"\\\\")?,
            '\'' => out.push(b"\\'")?,
            '"' => out.push(b"\\\"")?,
            '<' => out.push(b"\\u003C")?,
            '>' => out.push(b"\\u003E")?,
            '&' => out.push(b"\\u0026")?,
            '=' => out.push(b"\\u003D")?,
            _ if c.is_ascii() && c >= ' ' && c != '\u{7f}' => out.char(c)?,
            _ if c.is_ascii_control() && c != '\u{7f}' => {
                out.push(format!("\\u{:04X}", u32::from(c)).as_bytes())?;
            }
            '\u{7f}' => out.byte(0x7f)?,
            _ if format::is_printable(c) => out.push(bytes)?,
            _ => out.push(format!("\\u{:04X}", u32::from(c)).as_bytes())?,
        }
    }
    Ok(())
}

pub(super) fn urlquery(text: &[u8], out: &mut Buf) -> Result<(), Fault> {
    for byte in text {
        match byte {
            b' ' => out.byte(b'+')?,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.byte(*byte)?,
            _ => out.push(format!("%{byte:02X}").as_bytes())?,
        }
    }
    Ok(())
}
