//! Lists, dictionaries, defaults, reflection.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Made, many, plain};
use crate::template::builtins::wrong;
use crate::template::exec::{Exec, used};
use crate::template::format::{self, deep_equal};
use crate::template::value::{Elem, List, MapId, Text, Value};
use crate::template::{Fault, Function, Param};

use Param::{Any, Bool, Dict, Int, Str};

pub(super) static FUNCTIONS: &[Function] = &[
    // Lists.
    many("list", &[], Any, |exec, args| exec.list(Elem::Any, args.to_vec())),
    many("tuple", &[], Any, |exec, args| exec.list(Elem::Any, args.to_vec())),
    plain("append", &[Any, Any], append),
    plain("mustAppend", &[Any, Any], append),
    plain("push", &[Any, Any], append),
    plain("mustPush", &[Any, Any], append),
    plain("prepend", &[Any, Any], prepend),
    plain("mustPrepend", &[Any, Any], prepend),
    plain("first", &[Any], |exec, args| end(exec, args, |list| list.values.first())),
    plain("mustFirst", &[Any], |exec, args| end(exec, args, |list| list.values.first())),
    plain("last", &[Any], |exec, args| end(exec, args, |list| list.values.last())),
    plain("mustLast", &[Any], |exec, args| end(exec, args, |list| list.values.last())),
    plain("rest", &[Any], |exec, args| part(exec, args, 1, 0)),
    plain("mustRest", &[Any], |exec, args| part(exec, args, 1, 0)),
    plain("initial", &[Any], |exec, args| part(exec, args, 0, 1)),
    plain("mustInitial", &[Any], |exec, args| part(exec, args, 0, 1)),
    plain("reverse", &[Any], reverse),
    plain("mustReverse", &[Any], reverse),
    plain("compact", &[Any], compact),
    plain("mustCompact", &[Any], compact),
    plain("uniq", &[Any], uniq),
    plain("mustUniq", &[Any], uniq),
    many("without", &[Any], Any, without),
    many("mustWithout", &[Any], Any, without),
    plain("has", &[Any, Any], has),
    plain("mustHas", &[Any, Any], has),
    many("slice", &[Any], Any, slice),
    many("mustSlice", &[Any], Any, slice),
    many("concat", &[], Any, concat),
    plain("chunk", &[Int, Any], chunk),
    plain("mustChunk", &[Int, Any], chunk),
    plain("sortAlpha", &[Any], sort_alpha),
    plain("toStrings", &[Any], |exec, args| {
        let [value] = args else { return Err(wrong()) };
        if matches!(value, Value::List(id) if exec.heap.list(*id).elem == Elem::Str) {
            return Ok(value.clone());
        }
        let texts = strings_of(exec, value)?;
        exec.strings(texts)
    }),
    // Dictionaries.
    many("dict", &[], Any, dict),
    plain("get", &[Dict, Str], |exec, args| {
        let (id, key) = entry(args)?;
        exec.heap.map(id).entries.get(key).cloned().map_or_else(|| exec.str(""), Ok)
    }),
    plain("set", &[Dict, Str, Any], |exec, args| {
        let (id, key) = entry(args)?;
        let value = args.get(2).cloned().unwrap_or(Value::Nil);
        put(exec, id, key.clone(), value)?;
        Ok(Value::Map(id))
    }),
    plain("unset", &[Dict, Str], |exec, args| {
        let (id, key) = entry(args)?;
        exec.heap.map_mut(id).entries.remove(key);
        Ok(Value::Map(id))
    }),
    plain("hasKey", &[Dict, Str], |exec, args| {
        let (id, key) = entry(args)?;
        Ok(Value::Bool(exec.heap.map(id).entries.contains_key(key)))
    }),
    many("pluck", &[Str], Dict, |exec, args| {
        let Some((Value::Str(key), dicts)) = args.split_first() else { return Err(wrong()) };
        let found = dicts.iter().filter_map(|dict| match dict {
            Value::Map(id) => exec.heap.map(*id).entries.get(key).cloned(),
            _ => None,
        });
        let found = found.collect();
        exec.list(Elem::Any, found)
    }),
    many("keys", &[], Dict, |exec, args| {
        let mut keys = Vec::new();
        for id in args.iter().filter_map(map_id) {
            exec.room(exec.heap.map(id).entries.len())?;
            keys.extend(exec.heap.map(id).entries.keys().cloned().map(Value::Str));
        }
        exec.list(Elem::Str, keys)
    }),
    plain("values", &[Dict], |exec, args| {
        let id = args.iter().find_map(map_id).ok_or_else(wrong)?;
        exec.room(exec.heap.map(id).entries.len())?;
        let values = exec.heap.map(id).entries.values().cloned().collect();
        exec.list(Elem::Any, values)
    }),
    many("pick", &[Dict], Str, |exec, args| choose(exec, args, true)),
    many("omit", &[Dict], Str, |exec, args| choose(exec, args, false)),
    many("merge", &[Dict], Dict, |exec, args| merge(exec, args, false)),
    many("mustMerge", &[Dict], Dict, |exec, args| merge(exec, args, false)),
    many("mergeOverwrite", &[Dict], Dict, |exec, args| merge(exec, args, true)),
    many("mustMergeOverwrite", &[Dict], Dict, |exec, args| merge(exec, args, true)),
    plain("deepCopy", &[Any], |exec, args| deep_copy(exec, args.first().ok_or_else(wrong)?)),
    plain("mustDeepCopy", &[Any], |exec, args| deep_copy(exec, args.first().ok_or_else(wrong)?)),
    many("dig", &[], Any, dig),
    // Defaults.
    many("default", &[Any], Any, |exec, args| match args {
        [default, given, ..] if is_empty(exec, given) => Ok(default.clone()),
        [_, given, ..] => Ok(given.clone()),
        [default] => Ok(default.clone()),
        [] => Err(wrong()),
    }),
    plain("empty", &[Any], |exec, args| Ok(Value::Bool(args.iter().all(|value| is_empty(exec, value))))),
    many("coalesce", &[], Any, |exec, args| {
        Ok(args.iter().find(|value| !is_empty(exec, value)).cloned().unwrap_or(Value::Nil))
    }),
    many("all", &[], Any, |exec, args| Ok(Value::Bool(!args.iter().any(|value| is_empty(exec, value))))),
    many("any", &[], Any, |exec, args| Ok(Value::Bool(args.iter().any(|value| !is_empty(exec, value))))),
    plain("ternary", &[Any, Any, Bool], |_, args| match args {
        [yes, _, Value::Bool(true)] => Ok(yes.clone()),
        [_, no, _] => Ok(no.clone()),
        _ => Err(wrong()),
    }),
    // Reflection.
    plain("typeOf", &[Any], |exec, args| {
        let name = exec.heap.type_name(args.first().ok_or_else(wrong)?);
        exec.str(&name)
    }),
    plain("typeIs", &[Str, Any], |exec, args| {
        let (wanted, value) = named(args)?;
        Ok(Value::Bool(exec.heap.type_name(value).as_bytes() == wanted))
    }),
    plain("typeIsLike", &[Str, Any], |exec, args| {
        let (wanted, value) = named(args)?;
        let name = exec.heap.type_name(value);
        Ok(Value::Bool(name.as_bytes() == wanted || name.strip_prefix('*').is_some_and(|n| n.as_bytes() == wanted)))
    }),
    plain("kindOf", &[Any], |exec, args| exec.str(format::kind_of(args.first().ok_or_else(wrong)?))),
    plain("kindIs", &[Str, Any], |_, args| {
        let (wanted, value) = named(args)?;
        Ok(Value::Bool(format::kind_of(value).as_bytes() == wanted))
    }),
    plain("deepEqual", &[Any, Any], |exec, args| match args {
        [a, b] => Ok(Value::Bool(deep_equal(exec, a, b)?)),
        _ => Err(wrong()),
    }),
];

const fn map_id(value: &Value) -> Option<MapId> {
    if let Value::Map(id) = value { Some(*id) } else { None }
}

fn entry(args: &[Value]) -> Result<(MapId, &Text), Fault> {
    match args {
        [Value::Map(id), Value::Str(key), ..] => Ok((*id, key)),
        _ => Err(wrong()),
    }
}

fn named(args: &[Value]) -> Result<(&[u8], &Value), Fault> {
    match args {
        [Value::Str(name), value] => Ok((name.bytes(), value)),
        _ => Err(wrong()),
    }
}

/// A value as sprig makes a string of it.
pub(super) fn strval(exec: &mut Exec<'_>, value: &Value) -> Result<Vec<u8>, Fault> {
    match value {
        Value::Str(text) => Ok(text.bytes().to_vec()),
        value => format::shown(exec, value),
    }
}

/// What sprig takes for a list of strings: nil elements are left out.
pub(super) fn strings_of(exec: &mut Exec<'_>, value: &Value) -> Result<Vec<Vec<u8>>, Fault> {
    match value {
        Value::Nil => Ok(Vec::new()),
        Value::List(id) => {
            let list = exec.elements(*id)?;
            let mut texts = Vec::with_capacity(list.values.len());
            let mut bytes = 0;
            for value in list.values.iter().filter(|value| !value.is_nil()) {
                let text = strval(exec, value)?;
                bytes += text.len();
                if bytes > crate::template::MAX_WORK / 4 {
                    return Err(Fault::limit(crate::template::Limit::Value));
                }
                exec.scan(text.len())?;
                texts.push(text);
            }
            Ok(texts)
        }
        value => Ok(vec![strval(exec, value)?]),
    }
}

/// Whether a value is empty, as sprig says.
fn is_empty(exec: &Exec<'_>, value: &Value) -> bool {
    !exec.heap.truth(value)
}

fn append(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let [list, value] = args else { return Err(wrong()) };
    let list = exec.values(list)?;
    exec.room(list.values.len())?;
    let mut values = list.values.clone();
    values.push(value.clone());
    exec.list(Elem::Any, values)
}

fn prepend(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let [list, value] = args else { return Err(wrong()) };
    let list = exec.values(list)?;
    exec.room(list.values.len())?;
    let values = std::iter::once(value).chain(&list.values).cloned().collect();
    exec.list(Elem::Any, values)
}

fn end(exec: &mut Exec<'_>, args: &[Value], which: fn(&List) -> Option<&Value>) -> Made {
    let list = exec.values(args.first().ok_or_else(wrong)?)?;
    let value = which(&list).cloned().unwrap_or(Value::Nil);
    used(&value)?;
    Ok(value)
}

fn part(exec: &mut Exec<'_>, args: &[Value], before: usize, after: usize) -> Made {
    let list = exec.values(args.first().ok_or_else(wrong)?)?;
    if list.values.is_empty() {
        return exec.nil_list(Elem::Any);
    }
    let values = list.values.get(before..list.values.len() - after).unwrap_or_default().to_vec();
    exec.list(Elem::Any, values)
}

fn reverse(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let list = exec.values(args.first().ok_or_else(wrong)?)?;
    let values = list.values.iter().rev().cloned().collect();
    exec.list(Elem::Any, values)
}

fn compact(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let list = exec.values(args.first().ok_or_else(wrong)?)?;
    let values = list.values.iter().filter(|value| !is_empty(exec, value)).cloned().collect();
    exec.list(Elem::Any, values)
}

fn is_in(exec: &mut Exec<'_>, list: &[Value], value: &Value) -> Result<bool, Fault> {
    for other in list {
        if deep_equal(exec, other, value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uniq(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let list = exec.values(args.first().ok_or_else(wrong)?)?;
    let mut values = Vec::new();
    for value in &list.values {
        if !is_in(exec, &values, value)? {
            values.push(value.clone());
        }
    }
    exec.list(Elem::Any, values)
}

fn without(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let Some((list, omitted)) = args.split_first() else { return Err(wrong()) };
    let list = exec.values(list)?;
    let mut values = Vec::new();
    for value in &list.values {
        if !is_in(exec, omitted, value)? {
            values.push(value.clone());
        }
    }
    exec.list(Elem::Any, values)
}

fn has(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let [needle, list] = args else { return Err(wrong()) };
    if list.is_nil() {
        return Ok(Value::Bool(false));
    }
    let list = exec.values(list)?;
    Ok(Value::Bool(is_in(exec, &list.values, needle)?))
}

fn slice(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let Some((list, indexes)) = args.split_first() else { return Err(wrong()) };
    let list = exec.values(list)?;
    if list.values.is_empty() {
        return Ok(Value::Nil);
    }
    let at = |value: &Value| {
        usize::try_from(super::numbers::to_int64(value)).map_err(|_| Fault::execution("an index out of range"))
    };
    let start = indexes.first().map_or(Ok(0), at)?;
    let end = indexes.get(1).map_or(Ok(list.values.len()), at)?;
    let values = list.values.get(start..end).ok_or_else(|| Fault::execution("an index out of range"))?.to_vec();
    exec.list(list.elem, values)
}

fn concat(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let mut values = Vec::new();
    for list in args {
        let list = exec.values(list)?;
        exec.room(list.values.len())?;
        values.extend(list.values.iter().cloned());
    }
    if values.is_empty() { exec.nil_list(Elem::Any) } else { exec.list(Elem::Any, values) }
}

fn chunk(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let [Value::Int(_, size), list] = args else { return Err(wrong()) };
    let list = exec.values(list)?;
    let size = usize::try_from(*size).ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| Fault::execution("the size of a chunk is at least 1"))?;
    let mut chunks = Vec::new();
    for chunk in list.values.chunks(size) {
        chunks.push(exec.list(Elem::Any, chunk.to_vec())?);
    }
    exec.list(Elem::List, chunks)
}

fn sort_alpha(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let value = args.first().ok_or_else(wrong)?;
    let texts = match value {
        Value::List(id) => {
            let list = exec.elements(*id)?;
            let bytes: usize =
                list.values.iter().map(|v| if let Value::Str(text) = v { text.bytes().len() } else { 8 }).sum();
            // Comparing looks at most at all of each string, as often as sorting compares it.
            let rounds = usize::BITS - list.values.len().leading_zeros() + 1;
            exec.step((bytes as u64 / 16 + list.values.len() as u64) * u64::from(rounds))?;
            if list.elem == Elem::Str {
                drop(list);
                exec.heap.sort(*id);
                return Ok(value.clone());
            }
            let mut texts = strings_of(exec, value)?;
            texts.sort();
            texts
        }
        value => vec![strval(exec, value)?],
    };
    exec.strings(texts)
}

fn put(exec: &mut Exec<'_>, id: MapId, key: Text, value: Value) -> Result<(), Fault> {
    exec.room(2)?;
    let map = exec.heap.map_mut(id);
    if map.nil {
        return Err(Fault::execution("an entry of a nil map"));
    }
    map.entries.insert(key, value);
    Ok(())
}

fn dict(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let mut entries = BTreeMap::new();
    for pair in args.chunks(2) {
        let Some((key, value)) = pair.split_first() else { continue };
        let key = strval(exec, key)?;
        exec.scan(key.len())?;
        entries.insert(Text::new(key), value.first().cloned().unwrap_or_else(|| Value::Str("".into())));
    }
    exec.map(Elem::Any, entries)
}

fn choose(exec: &mut Exec<'_>, args: &[Value], listed: bool) -> Made {
    let Some((Value::Map(id), keys)) = args.split_first() else { return Err(wrong()) };
    let keys: std::collections::BTreeSet<&Text> =
        keys.iter().filter_map(|key| if let Value::Str(key) = key { Some(key) } else { None }).collect();
    exec.room(exec.heap.map(*id).entries.len())?;
    let entries = exec.heap.map(*id).entries.iter();
    let entries = entries
        .filter(|(key, _)| keys.contains(key) == listed)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    exec.map(Elem::Any, entries)
}

fn merge(exec: &mut Exec<'_>, args: &[Value], overwrite: bool) -> Made {
    let Some((Value::Map(target), sources)) = args.split_first() else { return Err(wrong()) };
    for source in sources.iter().filter_map(map_id) {
        merge_into(exec, *target, source, overwrite)?;
    }
    Ok(Value::Map(*target))
}

fn merge_into(exec: &mut Exec<'_>, target: MapId, source: MapId, overwrite: bool) -> Result<(), Fault> {
    if target == source {
        return Ok(());
    }
    exec.enter()?;
    exec.room(exec.heap.map(source).entries.len())?;
    let entries: Vec<_> = exec.heap.map(source).entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, new) in entries {
        let old = exec.heap.map(target).entries.get(&key).cloned();
        match (&old, &new) {
            (_, Value::Nil) => {
                if overwrite {
                    put(exec, target, key, new)?;
                }
            }
            (Some(Value::Map(old)), Value::Map(new_id)) => {
                if exec.heap.map(*old).elem != exec.heap.map(*new_id).elem {
                    return Err(Fault::execution("maps of different types"));
                }
                merge_into(exec, *old, *new_id, overwrite)?;
            }
            (Some(old), _) if !overwrite && !is_empty(exec, old) => {}
            _ => put(exec, target, key, new)?,
        }
    }
    exec.leave();
    Ok(())
}

fn deep_copy(exec: &mut Exec<'_>, value: &Value) -> Made {
    exec.step(1)?;
    match value {
        Value::List(id) => {
            let list = Rc::clone(exec.heap.list(*id));
            exec.enter()?;
            let mut values = Vec::with_capacity(list.values.len());
            for value in &list.values {
                values.push(deep_copy(exec, value)?);
            }
            exec.leave();
            if list.nil { exec.nil_list(list.elem) } else { exec.list(list.elem, values) }
        }
        Value::Map(id) => {
            exec.room(exec.heap.map(*id).entries.len())?;
            let map = exec.heap.map(*id).clone();
            exec.enter()?;
            let mut entries = BTreeMap::new();
            for (key, value) in map.entries {
                entries.insert(key, deep_copy(exec, &value)?);
            }
            exec.leave();
            exec.map(map.elem, entries)
        }
        value => Ok(value.clone()),
    }
}

fn dig(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let [keys @ .., default, dict] = args else { return Err(Fault::execution("too few arguments")) };
    if keys.is_empty() {
        return Err(Fault::execution("too few arguments"));
    }
    if !keys.iter().all(|key| matches!(key, Value::Str(_))) {
        return Err(wrong());
    }
    let mut at = dict.clone();
    for key in keys {
        exec.step(1)?;
        let (Value::Map(id), Value::Str(key)) = (&at, key) else { return Err(wrong()) };
        let map = exec.heap.map(*id);
        if map.elem != Elem::Any {
            return Err(wrong());
        }
        match map.entries.get(key) {
            Some(value) => at = value.clone(),
            None => return Ok(default.clone()),
        }
    }
    used(&at)?;
    Ok(at)
}
