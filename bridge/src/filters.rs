//! The operators, filters, tests and methods that differ from the engine's own: they pay for what they build
//! (src/budget.rs), or do as Jinja and Python do where the engine does otherwise.

use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{format_filter, Environment, Error, ErrorKind, FormatStyle, State, Value};

use crate::budget::{self, charge, charge_list, charge_text};
use crate::python::{self, JsonStyle, Text};

fn wrong(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, words.into())
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// True and False count as 1 and 0, as in Python.
fn as_integer(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(value.is_true().into()),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn as_float(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(value.is_true().into()),
        ValueKind::Number => f64::try_from(value.clone())
            .ok()
            .or_else(|| as_integer(value).map(|integer| integer as f64)),
        _ => None,
    }
}

fn integer_value(result: Option<i128>, what: &str) -> Result<Value, Error> {
    let result = result.ok_or_else(|| {
        wrong(format!(
            "the result of {what} is too large, or divides by zero"
        ))
    })?;
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

fn add(left: Value, right: Value) -> Result<Value, Error> {
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        charge_text(a.len() + b.len())?;
        return Ok(Value::from([a, b].concat()));
    }
    if is_list(&left) && is_list(&right) {
        let mut items = Vec::new();
        for item in left.try_iter()?.chain(right.try_iter()?) {
            items.push(item);
            if items.len() % 1024 == 0 {
                charge_list(items.len())?;
            }
        }
        return budget::hold(Value::from(items));
    }
    arithmetic("+", &left, &right, i128::checked_add, |a, b| a + b)
}

fn multiply(left: Value, right: Value) -> Result<Value, Error> {
    let (what, times) = if as_integer(&right).is_some() {
        (&left, &right)
    } else {
        (&right, &left)
    };
    let times = as_integer(times).map(|times| usize::try_from(times.max(0)).unwrap_or(usize::MAX));
    if let (Some(text), Some(times)) = (what.as_str(), times) {
        charge_text(text.len().saturating_mul(times))?;
        return Ok(Value::from(text.repeat(times)));
    }
    if let (true, Some(times)) = (is_list(what), times) {
        let items: Vec<Value> = what.try_iter()?.collect();
        charge_list(items.len().saturating_mul(times))?;
        return budget::hold(Value::from(
            std::iter::repeat_n(items, times)
                .flatten()
                .collect::<Vec<_>>(),
        ));
    }
    arithmetic("*", &left, &right, i128::checked_mul, |a, b| a * b)
}

/// Python's: the result has the sign of the divisor.
fn remainder(left: Value, right: Value) -> Result<Value, Error> {
    if let Some(pattern) = left.as_str() {
        let values: Vec<Value> = if is_list(&right) {
            right.try_iter()?.collect()
        } else {
            vec![right]
        };
        return formatted(FormatStyle::Printf, pattern, &values);
    }
    let integer = |a: i128, b: i128| {
        let rest = a.checked_rem(b)?;
        Some(if rest != 0 && (rest < 0) != (b < 0) {
            rest + b
        } else {
            rest
        })
    };
    arithmetic("%", &left, &right, integer, |a, b| a - b * (a / b).floor())
}

fn floor_divide(left: Value, right: Value) -> Result<Value, Error> {
    let integer = |a: i128, b: i128| {
        let quotient = a.checked_div(b)?;
        Some(if a % b != 0 && (a < 0) != (b < 0) {
            quotient - 1
        } else {
            quotient
        })
    };
    arithmetic("//", &left, &right, integer, |a, b| (a / b).floor())
}

fn concatenate(left: Value, right: Value) -> Result<Value, Error> {
    let mut out = Text::new();
    python::append(&left, &mut out)?;
    python::append(&right, &mut out)?;
    out.finish().map(Value::from)
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
        false => as_integer(value)
            .map(Some)
            .ok_or_else(|| wrong("slice bounds must be integers")),
    };
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(wrong("slice step cannot be zero"));
    }
    let length = length as i128;
    let (low, high) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
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
        return Ok(Value::from(
            places
                .into_iter()
                .map(|place| chars[place])
                .collect::<String>(),
        ));
    }
    if !is_list(&value) {
        return Err(wrong(format!(
            "a value of type {} has no slices",
            value.kind()
        )));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    charge_list(items.len())?;
    let places = slice_places(items.len(), &start, &stop, &step)?;
    Ok(Value::from(
        places
            .into_iter()
            .map(|place| items[place].clone())
            .collect::<Vec<_>>(),
    ))
}

/// A width or a precision of many digits asks for as many bytes.
fn formatted(style: FormatStyle, pattern: &str, values: &[Value]) -> Result<Value, Error> {
    let digits = pattern
        .as_bytes()
        .split(|byte| !byte.is_ascii_digit())
        .map(<[u8]>::len)
        .max();
    if digits.unwrap_or(0) > 4 || (matches!(style, FormatStyle::Printf) && pattern.contains('*')) {
        return Err(budget::exceeded(
            "it formats a value wider than 9999 characters",
        ));
    }
    charge_text(pattern.len().saturating_mul(4))?;
    for value in values {
        budget::weigh(value)?;
    }
    format_filter(style, pattern, values).map(Value::from)
}

fn format(pattern: &Value, values: Rest<Value>) -> Result<Value, Error> {
    let pattern = pattern
        .as_str()
        .ok_or_else(|| wrong("format needs a text"))?;
    formatted(FormatStyle::Printf, pattern, &values)
}

/// Hugging Face's filter: json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
fn tojson(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let (ascii, indent, separators, sort_keys, kwargs): (
        Option<bool>,
        Option<Value>,
        Option<Value>,
        Option<bool>,
        Kwargs,
    ) = from_args(&args)?;
    let given = |positional: Option<Value>, name: &str| -> Result<Option<Value>, Error> {
        let value = match positional {
            Some(value) => Some(value),
            None => kwargs.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let ascii = given(ascii.map(Value::from), "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = given(indent, "indent")?;
    let separators = given(separators, "separators")?;
    let sort_keys =
        given(sort_keys.map(Value::from), "sort_keys")?.is_some_and(|value| value.is_true());
    kwargs.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(value) => Some(match (value.as_str(), as_integer(&value)) {
            (Some(text), _) if text.len() <= 64 => text.to_owned(),
            (_, Some(width)) if width <= 64 => " ".repeat(width.max(0) as usize),
            _ => return Err(wrong("tojson indents by at most 64 characters")),
        }),
    };
    let (item_separator, key_separator) = match separators {
        None => (
            if indent.is_some() { "," } else { ", " }.to_owned(),
            ": ".to_owned(),
        ),
        Some(pair) => {
            let parts: Vec<Value> = pair.try_iter()?.take(3).collect();
            match parts.as_slice() {
                [item, key] => (python::to_text(item)?, python::to_text(key)?),
                _ => return Err(wrong("separators must be a pair")),
            }
        }
    };
    let style = JsonStyle {
        indent,
        item_separator,
        key_separator,
        sort_keys,
        ascii,
    };
    python::to_json(value, &style).map(Value::from)
}

fn join_with(joiner: &str, values: impl Iterator<Item = Value>) -> Result<Value, Error> {
    let mut out = Text::new();
    for (index, value) in values.enumerate() {
        charge(1)?;
        if index > 0 {
            out.push(joiner)?;
        }
        python::append(&value, &mut out)?;
    }
    out.finish().map(Value::from)
}

fn join(value: Value, joiner: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let attribute: Option<String> = kwargs.get("attribute")?;
    let joiner = match joiner {
        Some(joiner) => Some(joiner),
        None => kwargs.get("d")?,
    };
    kwargs.assert_all_used()?;
    let joiner = joiner.map_or_else(|| Ok(String::new()), |joiner| python::to_text(&joiner))?;
    match attribute {
        None => join_with(&joiner, value.try_iter()?),
        Some(name) => {
            let values = value
                .try_iter()?
                .map(|item| item.get_attr(&name))
                .collect::<Result<Vec<_>, _>>()?;
            join_with(&joiner, values.into_iter())
        }
    }
}

fn replaced(text: &str, old: &str, new: &str, count: Option<i64>) -> Result<Value, Error> {
    charge_text(text.len())?;
    let most = count
        .filter(|count| *count >= 0)
        .map_or(usize::MAX, |count| count as usize);
    let found = if new.len() > old.len() {
        text.matches(old).take(most).count()
    } else {
        0
    };
    charge_text(
        text.len()
            .saturating_add(found.saturating_mul(new.len() - old.len().min(new.len()))),
    )?;
    Ok(Value::from(if most == usize::MAX {
        text.replace(old, new)
    } else {
        text.replacen(old, new, most)
    }))
}

fn replace(value: Value, old: Value, new: Value, count: Option<i64>) -> Result<Value, Error> {
    replaced(
        &python::to_text(&value)?,
        &python::to_text(&old)?,
        &python::to_text(&new)?,
        count,
    )
}

/// Jinja's: the lines after the first, and those that are not empty, unless told otherwise.
fn indent(
    value: Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let width = match width {
        Some(width) => Some(width),
        None => kwargs.get("width")?,
    };
    let first = first
        .map_or_else(
            || kwargs.get::<Option<bool>>("first"),
            |first| Ok(Some(first)),
        )?
        .unwrap_or(false);
    let blank = blank
        .map_or_else(
            || kwargs.get::<Option<bool>>("blank"),
            |blank| Ok(Some(blank)),
        )?
        .unwrap_or(false);
    kwargs.assert_all_used()?;
    let indention = match width {
        None => " ".repeat(4),
        Some(width) => match (width.as_str(), as_integer(&width)) {
            (Some(text), _) => text.to_owned(),
            (_, Some(width)) if width <= 10_000 => " ".repeat(width.max(0) as usize),
            _ => return Err(wrong("indent takes a width of at most 10000, or a text")),
        },
    };
    let text = python::to_text(&value)?;
    let mut out = Text::new();
    for (index, line) in text.split('\n').enumerate() {
        charge(1)?;
        if index > 0 {
            out.push("\n")?;
        }
        if (index > 0 || first) && (blank || !line.is_empty() || index == 0) {
            out.push(&indention)?;
        }
        out.push(line)?;
    }
    out.finish().map(Value::from)
}

fn list(value: Value) -> Result<Value, Error> {
    charge_list(value.len().unwrap_or(0))?;
    budget::hold(Value::from(value.try_iter()?.collect::<Vec<_>>()))
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value
        .len()
        .ok_or_else(|| wrong(format!("a value of type {} has no length", value.kind())))
}

fn to_integer(value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.map_or_else(
        || kwargs.get::<Option<Value>>("default"),
        |default| Ok(Some(default)),
    )?;
    let parsed = match value.as_str() {
        Some(text) => {
            let text = text.trim();
            text.parse::<i128>().ok().or_else(|| {
                text.parse::<f64>()
                    .ok()
                    .filter(|x| x.is_finite())
                    .map(|x| x as i128)
            })
        }
        None => as_integer(value)
            .or_else(|| as_float(value).filter(|x| x.is_finite()).map(|x| x as i128)),
    };
    match parsed {
        Some(number) => integer_value(Some(number), "int"),
        None => Ok(default.unwrap_or_else(|| Value::from(0))),
    }
}

fn to_float(value: &Value, default: Option<Value>) -> Value {
    let parsed = match value.as_str() {
        Some(text) => text.trim().parse::<f64>().ok(),
        None => as_float(value),
    };
    parsed.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from)
}

/// Python's round: half goes to the even neighbour; "ceil" and "floor" as Jinja has them. Always a float.
fn round(
    value: &Value,
    precision: Option<i32>,
    method: Option<String>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let precision = precision.map_or_else(
        || kwargs.get::<Option<i32>>("precision"),
        |precision| Ok(Some(precision)),
    )?;
    let method = method.map_or_else(
        || kwargs.get::<Option<String>>("method"),
        |method| Ok(Some(method)),
    )?;
    kwargs.assert_all_used()?;
    let number = as_float(value).ok_or_else(|| {
        wrong(format!(
            "a value of type {} cannot be rounded",
            value.kind()
        ))
    })?;
    let precision = precision.unwrap_or(0).clamp(-300, 300);
    let scale = 10f64.powi(precision);
    Ok(Value::from(match method.as_deref().unwrap_or("common") {
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        "common" if precision >= 0 => format!("{number:.*}", precision as usize)
            .parse()
            .unwrap_or(number),
        "common" => (number * scale).round_ties_even() / scale,
        other => {
            return Err(wrong(format!(
                "round knows common, ceil and floor, not '{other}'"
            )))
        }
    }))
}

fn groups(
    value: Value,
    count: usize,
    fill: Option<Value>,
    state: &State,
    each: bool,
) -> Result<Value, Error> {
    charge_list(count)?;
    charge_list(value.len().unwrap_or(0))?;
    if each {
        minijinja::filters::batch(state, value, count, fill)
    } else {
        minijinja::filters::slice(state, value, count, fill)
    }
}

// Python's white space: Unicode's, and the four information separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn split_text(
    text: &str,
    separator: Option<&str>,
    most: Option<i64>,
    from_right: bool,
) -> Result<Value, Error> {
    charge(text.len() / 16)?;
    let most = most
        .filter(|most| *most >= 0)
        .map_or(usize::MAX, |most| most as usize);
    let mut parts: Vec<Value> = Vec::new();
    let mut rest = text;
    let add = |parts: &mut Vec<Value>, part: &str| {
        parts.push(Value::from(part));
        if parts.len() % 1024 == 0 {
            charge_list(parts.len())
        } else {
            Ok(())
        }
    };
    match (separator, from_right) {
        (Some(""), _) => return Err(wrong("empty separator")),
        (Some(separator), false) => {
            while let Some(at) = (parts.len() < most).then(|| rest.find(separator)).flatten() {
                add(&mut parts, &rest[..at])?;
                rest = &rest[at + separator.len()..];
            }
            add(&mut parts, rest)?;
        }
        (Some(separator), true) => {
            while let Some(at) = (parts.len() < most)
                .then(|| rest.rfind(separator))
                .flatten()
            {
                add(&mut parts, &rest[at + separator.len()..])?;
                rest = &rest[..at];
            }
            add(&mut parts, rest)?;
            parts.reverse();
        }
        (None, false) => {
            rest = rest.trim_start_matches(is_space);
            while let Some(at) = (parts.len() < most).then(|| rest.find(is_space)).flatten() {
                add(&mut parts, &rest[..at])?;
                rest = rest[at..].trim_start_matches(is_space);
            }
            if !rest.is_empty() {
                add(&mut parts, rest)?;
            }
        }
        (None, true) => {
            rest = rest.trim_end_matches(is_space);
            while let Some(at) = (parts.len() < most).then(|| rest.rfind(is_space)).flatten() {
                let width = rest[at..].chars().next().map_or(1, char::len_utf8);
                add(&mut parts, &rest[at + width..])?;
                rest = rest[..at].trim_end_matches(is_space);
            }
            if !rest.is_empty() {
                add(&mut parts, rest)?;
            }
            parts.reverse();
        }
    }
    Ok(Value::from(parts))
}

fn split_lines(text: &str, keep_ends: bool) -> Result<Value, Error> {
    charge(text.len() / 16)?;
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_end).unwrap_or(rest.len());
        let mut next = end + rest[end..].chars().next().map_or(0, char::len_utf8);
        if rest[end..].starts_with("\r\n") {
            next = end + 2;
        }
        lines.push(Value::from(&rest[..if keep_ends { next } else { end }]));
        if lines.len() % 1024 == 0 {
            charge_list(lines.len())?;
        }
        rest = &rest[next..];
    }
    Ok(Value::from(lines))
}

fn padded(text: &str, args: &[Value], left: impl Fn(usize) -> usize) -> Result<Value, Error> {
    let (width, fill): (usize, Option<&str>) = from_args(args)?;
    let missing = width.saturating_sub(text.chars().count());
    let fill = fill.unwrap_or(" ");
    if fill.chars().count() != 1 {
        return Err(wrong(
            "the fill character must be exactly one character long",
        ));
    }
    charge_text(
        text.len()
            .saturating_add(missing.saturating_mul(fill.len())),
    )?;
    let before = left(missing);
    Ok(Value::from(
        [&fill.repeat(before), text, &fill.repeat(missing - before)].concat(),
    ))
}

/// A place in a text as Python counts it.
fn place(text: &str, found: Option<usize>) -> Value {
    found.map_or(Value::from(-1), |at| {
        Value::from(text[..at].chars().count())
    })
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    charge_text(text.len())?;
    let stripped = |start: bool, end: bool| -> Result<Value, Error> {
        let (chars,): (Option<&str>,) = from_args(args)?;
        let drop = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
        let mut rest = text;
        if start {
            rest = rest.trim_start_matches(drop);
        }
        if end {
            rest = rest.trim_end_matches(drop);
        }
        Ok(Value::from(rest))
    };
    Ok(Some(match method {
        "strip" => stripped(true, true)?,
        "lstrip" => stripped(true, false)?,
        "rstrip" => stripped(false, true)?,
        "split" | "rsplit" => {
            let (separator, most, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = separator.map_or_else(
                || kwargs.get::<Option<&str>>("sep"),
                |separator| Ok(Some(separator)),
            )?;
            let most = most.map_or_else(
                || kwargs.get::<Option<i64>>("maxsplit"),
                |most| Ok(Some(most)),
            )?;
            kwargs.assert_all_used()?;
            split_text(text, separator, most, method == "rsplit")?
        }
        "splitlines" => {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.map_or_else(
                || kwargs.get::<Option<bool>>("keepends"),
                |keep| Ok(Some(keep)),
            )?;
            split_lines(text, keep.unwrap_or(false))?
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            replaced(text, old, new, count)?
        }
        "join" => {
            let (values,): (&Value,) = from_args(args)?;
            let values = values.try_iter()?.map(|value| match value.kind() {
                ValueKind::String => Ok(value),
                kind => Err(wrong(format!(
                    "join takes texts, not a value of type {kind}"
                ))),
            });
            join_with(text, values.collect::<Result<Vec<_>, _>>()?.into_iter())?
        }
        "format" => formatted(FormatStyle::StrFormat, text, args)?,
        "count" => {
            let (what,): (&str,) = from_args(args)?;
            Value::from(if what.is_empty() {
                text.chars().count() + 1
            } else {
                text.matches(what).count()
            })
        }
        "find" | "index" | "rfind" | "rindex" => {
            let (what,): (&str,) = from_args(args)?;
            let found = if method.starts_with('r') {
                text.rfind(what)
            } else {
                text.find(what)
            };
            if found.is_none() && method.ends_with("index") {
                return Err(wrong("substring not found"));
            }
            place(text, found)
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(wrong("empty separator"));
            }
            let right = method == "rpartition";
            let found = if right {
                text.rsplit_once(separator)
            } else {
                text.split_once(separator)
            };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if right => ["", "", text],
                None => [text, "", ""],
            };
            Value::from(parts.map(Value::from).to_vec())
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let sign = if text.starts_with(['+', '-']) { 1 } else { 0 };
            let missing = width.saturating_sub(text.chars().count());
            charge_text(text.len().saturating_add(missing))?;
            Value::from([&text[..sign], &"0".repeat(missing), &text[sign..]].concat())
        }
        "ljust" => padded(text, args, |_| 0)?,
        "rjust" => padded(text, args, |missing| missing)?,
        "center" => padded(text, args, |missing| missing / 2)?,
        "swapcase" => {
            let swap = |c: char| {
                if c.is_uppercase() {
                    c.to_lowercase().collect::<String>()
                } else {
                    c.to_uppercase().collect()
                }
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "casefold" => Value::from(text.to_lowercase()),
        _ => return Ok(None),
    }))
}

fn unknown_method(
    state: &State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let found = match value.as_str() {
        Some(text) => string_method(text, method, args)?,
        None => None,
    };
    match found {
        Some(value) => Ok(value),
        None => {
            budget::weigh_top(value)?;
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        }
    }
}

fn raise_exception(words: Value) -> Result<Value, Error> {
    Err(budget::raise(python::to_text(&words)?))
}

/// What the rewritten tree calls (src/rewrite.rs).
fn install_operators(environment: &mut Environment) {
    environment.add_filter("__add", add);
    environment.add_filter("__mul", multiply);
    environment.add_filter("__rem", remainder);
    environment.add_filter("__floordiv", floor_divide);
    environment.add_filter("__concat", concatenate);
    environment.add_filter("__slice", slice);
    environment.add_filter("__hold", budget::hold);
    environment.add_filter("__weigh", |value: Value| {
        budget::weigh(&value).map(|()| value)
    });
    environment.add_filter("__walk", |value: Value| {
        charge_list(value.len().unwrap_or(0)).map(|()| value)
    });
    environment.add_filter("__store", |value: Value| {
        match budget::is_namespace(&value) {
            true => Err(wrong("a namespace cannot be stored in another value")),
            false => Ok(value),
        }
    });
}

fn install_tests(environment: &mut Environment) {
    let has_items = |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String
                | ValueKind::Seq
                | ValueKind::Iterable
                | ValueKind::Map
                | ValueKind::Undefined
        )
    };
    environment.add_test("sequence", move |value: &Value| has_items(value));
    environment.add_test("iterable", move |value: &Value| has_items(value));
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("integer", |value: &Value| {
        value.kind() == ValueKind::Number && value.is_integer()
    });
}

pub fn install(environment: &mut Environment) {
    install_operators(environment);
    install_tests(environment);
    environment.add_filter("tojson", tojson);
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter("format", format);
    environment.add_filter("list", list);
    environment.add_filter("string", |value: &Value| python::to_text(value));
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("int", to_integer);
    environment.add_filter("float", to_float);
    environment.add_filter("round", round);
    environment.add_filter(
        "batch",
        |state: &State, value: Value, count: usize, fill: Option<Value>| {
            groups(value, count, fill, state, true)
        },
    );
    environment.add_filter(
        "slice",
        |state: &State, value: Value, count: usize, fill: Option<Value>| {
            groups(value, count, fill, state, false)
        },
    );
    environment.add_function("raise_exception", raise_exception);
    environment.remove_global("debug");
    environment.set_unknown_method_callback(unknown_method);
}
