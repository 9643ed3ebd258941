//! What the rewritten tree calls in place of the engine's operators (src/rewrite.rs): they pay for what they build, and do
//! with numbers, texts and lists as Python does.

use minijinja::{Environment, Error, FormatStyle, Value};

use crate::budget::{self, charge, charge_growth, charge_list, charge_text};
use crate::methods::formatted;
use crate::python::{self, Text};
use crate::wrong;
use minijinja::value::ValueKind;

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// True and False count as 1 and 0, as in Python.
pub fn as_integer(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(value.is_true().into()),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

pub fn as_float(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(value.is_true().into()),
        ValueKind::Number => f64::try_from(value.clone())
            .ok()
            .or_else(|| as_integer(value).map(|integer| integer as f64)),
        _ => None,
    }
}

pub fn integer_value(result: Option<i128>, what: &str) -> Result<Value, Error> {
    let result = result
        .ok_or_else(|| wrong(format!("the result of {what} is too large, or divides by zero")))?;
    Ok(i64::try_from(result).map_or_else(|_| Value::from(result), Value::from))
}

fn arithmetic(
    symbol: &str,
    left: &Value,
    right: &Value,
    integer: impl Fn(i128, i128) -> Option<i128>,
    float: impl Fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    if let (Some(a), Some(b)) = (as_integer(left), as_integer(right)) {
        return integer_value(integer(a, b), symbol);
    }
    match (as_float(left), as_float(right)) {
        (Some(a), Some(b)) => Ok(Value::from(float(a, b))),
        _ => Err(wrong(format!(
            "{symbol} has no meaning between {} and {}",
            left.kind(),
            right.kind()
        ))),
    }
}

pub fn add(left: Value, right: Value) -> Result<Value, Error> {
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        charge_text(a.len() + b.len())?;
        return Ok(Value::from([a, b].concat()));
    }
    if is_list(&left) && is_list(&right) {
        let mut items = Vec::new();
        for item in left.try_iter()?.chain(right.try_iter()?) {
            items.push(item);
            charge_growth(items.len())?;
        }
        return budget::hold(Value::from(items));
    }
    arithmetic("+", &left, &right, i128::checked_add, |a, b| a + b)
}

fn multiply(left: Value, right: Value) -> Result<Value, Error> {
    let (what, times) =
        if as_integer(&right).is_some() { (&left, &right) } else { (&right, &left) };
    let times = as_integer(times).map(|times| usize::try_from(times.max(0)).unwrap_or(usize::MAX));
    if let (Some(text), Some(times)) = (what.as_str(), times) {
        charge_text(text.len().saturating_mul(times))?;
        return Ok(Value::from(text.repeat(times)));
    }
    if let (true, Some(times)) = (is_list(what), times) {
        let items: Vec<Value> = what.try_iter()?.collect();
        charge_list(items.len().saturating_mul(times))?;
        return budget::hold(Value::from(
            std::iter::repeat_n(items, times).flatten().collect::<Vec<_>>(),
        ));
    }
    arithmetic("*", &left, &right, i128::checked_mul, |a, b| a * b)
}

/// Python's: the result has the sign of the divisor.
fn remainder(left: Value, right: Value) -> Result<Value, Error> {
    if let Some(pattern) = left.as_str() {
        let values: Vec<Value> =
            if is_list(&right) { right.try_iter()?.collect() } else { vec![right] };
        return formatted(FormatStyle::Printf, pattern, &values);
    }
    let integer = |a: i128, b: i128| {
        let rest = a.checked_rem(b)?;
        Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
    };
    arithmetic("%", &left, &right, integer, |a, b| a - b * (a / b).floor())
}

fn floor_divide(left: Value, right: Value) -> Result<Value, Error> {
    let integer = |a: i128, b: i128| {
        let quotient = a.checked_div(b)?;
        Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
    };
    arithmetic("//", &left, &right, integer, |a, b| (a / b).floor())
}

fn concatenate(left: Value, right: Value) -> Result<Value, Error> {
    let mut out = Text::new();
    python::append(&left, &mut out)?;
    python::append(&right, &mut out)?;
    out.finish().map(Value::from)
}

fn divide(left: Value, right: Value) -> Result<Value, Error> {
    match (as_float(&left), as_float(&right)) {
        (Some(_), Some(0.0)) => Err(wrong("division by zero")),
        (Some(a), Some(b)) => Ok(Value::from(a / b)),
        _ => arithmetic("/", &left, &right, |_, _| None, |a, b| a / b),
    }
}

/// The places that Python's slice takes from something of `length`.
fn slice_places(
    length: usize,
    start: &Value,
    stop: &Value,
    step: &Value,
) -> Result<Vec<usize>, Error> {
    let bound = |value: &Value| match value.is_none() {
        true => Ok(None),
        false => as_integer(value).map(Some).ok_or_else(|| wrong("slice bounds must be integers")),
    };
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(wrong("slice step cannot be zero"));
    }
    let length = length as i128;
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |value: i128| {
        if value < 0 {
            (value + length).max(low)
        } else {
            value.min(high)
        }
    };
    let start = bound(start)?.map_or(if step > 0 { low } else { high }, clamp);
    let stop = bound(stop)?.map_or(if step > 0 { high } else { low }, clamp);
    let mut places = Vec::new();
    let mut at = start;
    while if step > 0 { at < stop } else { at > stop } {
        places.push(at as usize);
        at = match at.checked_add(step) {
            Some(next) => next,
            None => break,
        };
    }
    Ok(places)
}

fn slice(value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        charge_text(text.len())?;
        charge(text.len() / 4)?;
        let chars: Vec<char> = text.chars().collect();
        let places = slice_places(chars.len(), &start, &stop, &step)?;
        return Ok(Value::from(places.into_iter().map(|place| chars[place]).collect::<String>()));
    }
    if !is_list(&value) {
        return Err(wrong(format!("a value of type {} has no slices", value.kind())));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    charge_list(items.len())?;
    let places = slice_places(items.len(), &start, &stop, &step)?;
    Ok(Value::from(places.into_iter().map(|place| items[place].clone()).collect::<Vec<_>>()))
}

/// What a loop walks over. The characters of a text become a list, so that the loop knows which is the last.
fn items(value: Value) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return Ok(value) };
    budget::charge_list(text.chars().count())?;
    Ok(Value::from(text.chars().map(|c| Value::from(c.to_string())).collect::<Vec<_>>()))
}

/// What the rewritten tree calls (src/rewrite.rs).
pub fn install(environment: &mut Environment) {
    environment.add_filter("__add", add);
    environment.add_filter("__mul", multiply);
    environment.add_filter("__rem", remainder);
    environment.add_filter("__floordiv", floor_divide);
    environment.add_filter("__div", divide);
    environment.add_filter("__concat", concatenate);
    environment.add_filter("__slice", slice);
    environment.add_filter("__hold", budget::hold);
    environment.add_filter("__weigh", |value: Value| budget::weigh(&value).map(|()| value));
    environment.add_filter("__items", items);
    environment.add_filter("__touch", |value: Value| budget::touch(&value).map(|()| value));
    environment.add_filter("__walk", |value: Value| budget::walk_over(&value).map(|()| value));
    // For what compares all values with each other.
    environment.add_filter("__sort", |value: Value| {
        budget::walk_over(&value)?;
        budget::weigh(&value)?;
        charge(value.len().unwrap_or(0).saturating_mul(16)).map(|()| value)
    });
    environment.add_filter("__store", |value: Value| match budget::is_namespace(&value) {
        true => Err(wrong("a namespace cannot be stored in another value")),
        false => Ok(value),
    });
}
