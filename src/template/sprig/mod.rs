//! Sprig's functions, less those that read the environment, the network, the clock, the time zone or randomness, less
//! those that derive or generate keys, and less `fail` (docs/templates.md lists both).

mod data;
mod json;
mod numbers;
mod paths;
mod regex;
mod strings;

use super::exec::Exec;
use super::value::Value;
use super::{Body, Fault, Function, Param};

type Made = Result<Value, Fault>;
type Run = fn(&mut Exec<'_>, &[Value]) -> Made;

const fn plain(name: &'static str, params: &'static [Param], run: Run) -> Function {
    Function { name, params, variadic: None, body: Body::Plain(run) }
}

const fn many(name: &'static str, params: &'static [Param], rest: Param, run: Run) -> Function {
    Function { name, params, variadic: Some(rest), body: Body::Plain(run) }
}

pub(super) fn tables() -> [&'static [Function]; 7] {
    [
        data::FUNCTIONS,
        json::FUNCTIONS,
        numbers::FUNCTIONS,
        paths::FUNCTIONS,
        regex::FUNCTIONS,
        strings::FUNCTIONS,
        super::semver::FUNCTIONS,
    ]
}
