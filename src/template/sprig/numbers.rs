//! Integers and floats.

use super::{Made, many, plain};
use crate::template::builtins::wrong;
use crate::template::exec::Exec;
use crate::template::format;
use crate::template::parse::{parse_float, parse_int};
use crate::template::value::{Elem, Value};
use crate::template::{Fault, Function, Param};

use Param::{Any, Float, Int, Str};

pub(super) static FUNCTIONS: &[Function] = &[
    plain("atoi", &[Str], |_, args| match args {
        [Value::Str(text)] => Ok(Value::int(atoi(text.bytes()))),
        _ => Err(wrong()),
    }),
    plain("int", &[Any], |_, args| Ok(Value::int(to_int64(one(args)?)))),
    plain("int64", &[Any], |_, args| Ok(Value::int64(to_int64(one(args)?)))),
    plain("float64", &[Any], |_, args| Ok(Value::Float(to_float(one(args)?)))),
    plain("toDecimal", &[Any], |exec, args| {
        let shown = format::shown(exec, one(args)?)?;
        let digits = std::str::from_utf8(&shown).unwrap_or_default();
        Ok(Value::int64(i64::from_str_radix(digits, 8).unwrap_or(0)))
    }),
    many("add", &[], Any, |_, args| Ok(Value::int64(ints(args).fold(0, i64::wrapping_add)))),
    plain("add1", &[Any], |_, args| Ok(Value::int64(to_int64(one(args)?).wrapping_add(1)))),
    plain("sub", &[Any, Any], |_, args| two(args, |a, b| Some(a.wrapping_sub(b)))),
    plain("div", &[Any, Any], |_, args| two(args, |a, b| (b != 0).then(|| a.wrapping_div(b)))),
    plain("mod", &[Any, Any], |_, args| two(args, |a, b| (b != 0).then(|| a.wrapping_rem(b)))),
    many("mul", &[Any], Any, |_, args| Ok(Value::int64(ints(args).fold(1, i64::wrapping_mul)))),
    many("max", &[Any], Any, |_, args| Ok(Value::int64(ints(args).max().unwrap_or(0)))),
    many("biggest", &[Any], Any, |_, args| Ok(Value::int64(ints(args).max().unwrap_or(0)))),
    many("min", &[Any], Any, |_, args| Ok(Value::int64(ints(args).min().unwrap_or(0)))),
    many("maxf", &[Any], Any, |_, args| extreme(args, f64::INFINITY, |a, b| a > b)),
    many("minf", &[Any], Any, |_, args| extreme(args, f64::NEG_INFINITY, |a, b| a < b)),
    plain("add1f", &[Any], |_, args| decimal(to_float(one(args)?), &[Value::Float(1.0)], '+')),
    many("addf", &[], Any, |_, args| decimal(0.0, args, '+')),
    many("subf", &[Any], Any, |_, args| first_and(args, '-')),
    many("mulf", &[Any], Any, |_, args| first_and(args, '*')),
    many("divf", &[Any], Any, |_, args| first_and(args, '/')),
    plain("floor", &[Any], |_, args| Ok(Value::Float(to_float(one(args)?).floor()))),
    plain("ceil", &[Any], |_, args| Ok(Value::Float(to_float(one(args)?).ceil()))),
    many("round", &[Any, Int], Float, round),
    plain("until", &[Int], |exec, args| match args {
        [Value::Int(_, count)] => until_step(exec, 0, *count, if *count < 0 { -1 } else { 1 }),
        _ => Err(wrong()),
    }),
    plain("untilStep", &[Int, Int, Int], |exec, args| match args {
        [Value::Int(_, start), Value::Int(_, stop), Value::Int(_, step)] => until_step(exec, *start, *stop, *step),
        _ => Err(wrong()),
    }),
    many("seq", &[], Int, seq),
];

fn one(args: &[Value]) -> Result<&Value, Fault> {
    args.first().ok_or_else(wrong)
}

fn ints(args: &[Value]) -> impl Iterator<Item = i64> + '_ {
    args.iter().map(to_int64)
}

fn two(args: &[Value], run: fn(i64, i64) -> Option<i64>) -> Made {
    let [a, b] = args else { return Err(wrong()) };
    run(to_int64(a), to_int64(b)).map(Value::int64).ok_or_else(|| Fault::execution("division by zero"))
}

/// `strconv.Atoi`, which clamps what is too large.
fn atoi(text: &[u8]) -> i64 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX })
}

/// A whole number without its `.000`.
fn without_zeros(text: &str) -> &str {
    match text.trim_end_matches('0').strip_suffix('.') {
        Some(whole) if text.ends_with('0') => whole,
        _ => text,
    }
}

/// What sprig takes for an integer; 0 for what is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
pub(super) fn to_int64(value: &Value) -> i64 {
    match value {
        Value::Int(_, n) => *n,
        Value::Uint(_, n) => *n as i64,
        Value::Float(f) if (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(f) => *f as i64,
        // As on amd64.
        Value::Float(_) => i64::MIN,
        Value::Bool(b) => i64::from(*b),
        Value::Str(text) => {
            let text = std::str::from_utf8(text.bytes()).unwrap_or_default();
            parse_int(without_zeros(text)).and_then(|n| i64::try_from(n).ok()).unwrap_or(0)
        }
        _ => 0,
    }
}

/// What sprig takes for a float; 0 for what is none.
#[allow(clippy::cast_precision_loss)]
fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(_, n) => *n as f64,
        Value::Uint(_, n) => *n as f64,
        Value::Float(f) => *f,
        Value::Bool(b) => f64::from(*b),
        Value::Str(text) => std::str::from_utf8(text.bytes()).ok().and_then(parse_float).unwrap_or(0.0),
        _ => 0.0,
    }
}

fn extreme(args: &[Value], bound: f64, better: fn(f64, f64) -> bool) -> Made {
    let mut floats = args.iter().map(to_float);
    let mut best = floats.next().ok_or_else(wrong)?;
    for float in floats {
        #[allow(clippy::float_cmp)]
        if best == bound || float == bound {
            best = bound;
        } else if best.is_nan() || float.is_nan() {
            best = f64::NAN;
        } else if better(float, best) {
            best = float;
        } else if float == 0.0 && best == 0.0 {
            best = match (bound > 0.0, best.is_sign_negative()) {
                (true, true) => float,
                (true, false) => best,
                (false, true) => best,
                (false, false) => float,
            };
        }
    }
    Ok(Value::Float(best))
}

fn first_and(args: &[Value], op: char) -> Made {
    let Some((first, rest)) = args.split_first() else { return Err(wrong()) };
    decimal(to_float(first), rest, op)
}

/// Digits times a power of ten.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    fn of(float: f64) -> Option<Self> {
        let shown = format!("{float:e}");
        let (mantissa, exponent) = shown.split_once('e')?;
        let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let digits = mantissa.replace('.', "").parse().ok()?;
        Some(Self { digits, exponent: exponent.parse::<i32>().ok()? - i32::try_from(fraction).ok()? })
    }

    fn at(self, exponent: i32) -> Option<i128> {
        self.digits.checked_mul(10_i128.checked_pow(u32::try_from(self.exponent - exponent).ok()?)?)
    }

    fn apply(self, other: Self, op: char) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        match op {
            '+' => Some(Self { digits: self.at(exponent)?.checked_add(other.at(exponent)?)?, exponent }),
            '-' => Some(Self { digits: self.at(exponent)?.checked_sub(other.at(exponent)?)?, exponent }),
            '*' => Some(Self {
                digits: self.digits.checked_mul(other.digits)?,
                exponent: self.exponent.checked_add(other.exponent)?,
            }),
            _ => {
                // To 16 digits after the point, halves away from zero.
                let power = self.exponent - other.exponent + 16;
                let ten = 10_i128.checked_pow(power.unsigned_abs())?;
                let (over, under) = if power >= 0 {
                    (self.digits.checked_mul(ten)?, other.digits)
                } else {
                    (self.digits, other.digits.checked_mul(ten)?)
                };
                let (quotient, rest) = (over.checked_div(under)?, over.checked_rem(under)?);
                let up = rest.unsigned_abs().checked_mul(2)? >= under.unsigned_abs();
                let sign = if (over < 0) == (under < 0) { 1 } else { -1 };
                Some(Self { digits: if up { quotient + sign } else { quotient }, exponent: -16 })
            }
        }
    }
}

/// In decimal, as sprig does it, so that 0.1 and 0.2 are 0.3; beyond 38 digits in binary.
fn decimal(first: f64, rest: &[Value], op: char) -> Made {
    let bad = || Fault::execution("no number of this size, or division by zero");
    if !first.is_finite() {
        return Err(bad());
    }
    let (mut exact, mut rough) = (Decimal::of(first), first);
    for value in rest {
        let float = to_float(value);
        if !float.is_finite() || (op == '/' && float == 0.0) {
            return Err(bad());
        }
        exact = exact.and_then(|exact| exact.apply(Decimal::of(float)?, op));
        rough = match op {
            '+' => rough + float,
            '-' => rough - float,
            '*' => rough * float,
            _ => rough / float,
        };
        if let Some(exact) = exact {
            rough = format!("{}e{}", exact.digits, exact.exponent).parse().unwrap_or(rough);
        }
    }
    Ok(Value::Float(rough))
}

#[allow(clippy::float_cmp)]
fn round(_: &mut Exec<'_>, args: &[Value]) -> Made {
    let [value, Value::Int(_, places), rest @ ..] = args else { return Err(wrong()) };
    let on = if let Some(Value::Float(on)) = rest.first() { *on } else { 0.5 };
    let places = i32::try_from((*places).clamp(-400, 400)).unwrap_or(0);
    // Go's powers of ten are exact ones.
    let pow: f64 = format!("1e{places}").parse().unwrap_or(f64::INFINITY);
    let digit = pow * to_float(value);
    let fraction = if digit.is_infinite() { f64::NAN } else { digit.fract() };
    let rounded = if fraction >= on { digit.ceil() } else { digit.floor() };
    Ok(Value::Float(rounded / pow))
}

fn steps(start: i64, stop: i64, step: i64) -> u64 {
    let distance = if stop < start {
        if step >= 0 {
            return 0;
        }
        start.abs_diff(stop)
    } else {
        if step <= 0 {
            return 0;
        }
        stop.abs_diff(start)
    };
    distance.div_ceil(step.unsigned_abs())
}

fn numbers(exec: &mut Exec<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, Fault> {
    let count = usize::try_from(steps(start, stop, step)).unwrap_or(usize::MAX);
    exec.room(count)?;
    Ok((0..count).map(|i| start.wrapping_add(step.wrapping_mul(i64::try_from(i).unwrap_or(0)))).collect())
}

fn until_step(exec: &mut Exec<'_>, start: i64, stop: i64, step: i64) -> Made {
    let numbers = numbers(exec, start, stop, step)?;
    exec.list(Elem::Int, numbers.into_iter().map(Value::int).collect())
}

fn seq(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let (start, step, end) = match *ints(args).collect::<Vec<_>>().as_slice() {
        [end] => (1, if end < 1 { -1 } else { 1 }, end),
        [start, end] => (start, if end < start { -1 } else { 1 }, end),
        [start, step, end] if end >= start || step <= 0 => (start, step, end),
        _ => return exec.str(""),
    };
    let stop = end.wrapping_add(if end < start { -1 } else { 1 });
    let numbers = numbers(exec, start, stop, step)?;
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    exec.str(&texts.join(" "))
}
