//! Python's methods of texts, where the engine's are missing, differ or build without bounds.

use minijinja::value::{from_args, Kwargs, ValueKind};
use minijinja::{format_filter, Error, FormatStyle, State, Value};

use crate::budget::{self, charge, charge_growth, charge_text};
use crate::python::{self, Text};
use crate::wrong;

/// A width or a precision of many digits asks for as many bytes.
/// Every place of the pattern may print the longest of the values, padded to the widest width.
pub fn formatted(style: FormatStyle, pattern: &str, values: &[Value]) -> Result<Value, Error> {
    let is_printf = matches!(style, FormatStyle::Printf);
    let numbers = pattern.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let widest = numbers.map(|digits| digits.parse().unwrap_or(usize::MAX)).max().unwrap_or(0);
    if widest > 9999 || (is_printf && pattern.contains('*')) || pattern.contains("{:{") {
        return Err(budget::exceeded("it formats a value wider than 9999 characters"));
    }
    let mut longest = 0;
    for value in values {
        longest = longest.max(python::to_text(value)?.len());
    }
    let places = pattern.matches(if is_printf { '%' } else { '{' }).count();
    charge_text(pattern.len().saturating_add(places.saturating_mul(widest + longest)))?;
    format_filter(style, pattern, values).map(Value::from)
}

pub fn join_with(joiner: &str, values: impl Iterator<Item = Value>) -> Result<Value, Error> {
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

pub fn replaced(text: &str, old: &str, new: &str, count: Option<i64>) -> Result<Value, Error> {
    charge_text(text.len())?;
    let most = count.filter(|count| *count >= 0).map_or(usize::MAX, |count| count as usize);
    let found = if new.len() > old.len() { text.matches(old).take(most).count() } else { 0 };
    charge_text(
        text.len().saturating_add(found.saturating_mul(new.len() - old.len().min(new.len()))),
    )?;
    Ok(Value::from(if most == usize::MAX {
        text.replace(old, new)
    } else {
        text.replacen(old, new, most)
    }))
}

pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    first + &chars.as_str().to_lowercase()
}

// Python's white space: Unicode's, and the four information separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn split_text(
    text: &str,
    separator: Option<&str>,
    most: Option<i64>,
    from_right: bool,
) -> Result<Value, Error> {
    charge(text.len() / 16)?;
    let most = most.filter(|most| *most >= 0).map_or(usize::MAX, |most| most as usize);
    let mut parts: Vec<Value> = Vec::new();
    let mut rest = text;
    let add = |parts: &mut Vec<Value>, part: &str| {
        parts.push(Value::from(part));
        charge_growth(parts.len())
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
            while let Some(at) = (parts.len() < most).then(|| rest.rfind(separator)).flatten() {
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
        charge_growth(lines.len())?;
        rest = &rest[next..];
    }
    Ok(Value::from(lines))
}

pub fn padded(text: &str, args: &[Value], left: impl Fn(usize) -> usize) -> Result<Value, Error> {
    let (width, fill): (usize, Option<&str>) = from_args(args)?;
    let missing = width.saturating_sub(text.chars().count());
    let fill = fill.unwrap_or(" ");
    if fill.chars().count() != 1 {
        return Err(wrong("the fill character must be exactly one character long"));
    }
    charge_text(text.len().saturating_add(missing.saturating_mul(fill.len())))?;
    let before = left(missing);
    Ok(Value::from([&fill.repeat(before), text, &fill.repeat(missing - before)].concat()))
}

/// A place in a text as Python counts it.
fn place(text: &str, found: Option<usize>) -> Value {
    found.map_or(Value::from(-1), |at| Value::from(text[..at].chars().count()))
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
            let most =
                most.map_or_else(|| kwargs.get::<Option<i64>>("maxsplit"), |most| Ok(Some(most)))?;
            kwargs.assert_all_used()?;
            split_text(text, separator, most, method == "rsplit")?
        }
        "splitlines" => {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep =
                keep.map_or_else(|| kwargs.get::<Option<bool>>("keepends"), |keep| Ok(Some(keep)))?;
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
                kind => Err(wrong(format!("join takes texts, not a value of type {kind}"))),
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
            let found = if method.starts_with('r') { text.rfind(what) } else { text.find(what) };
            if found.is_none() && method.ends_with("index") {
                return Err(wrong("substring not found"));
            }
            place(text, found)
        }
        _ if method.starts_with("is") && method != "isascii" && text.is_empty() => {
            Value::from(false)
        }
        "isupper" => Value::from(
            text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
        ),
        "islower" => Value::from(
            text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
        ),
        "capitalize" => Value::from(capitalize(text)),
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
            let found =
                if right { text.rsplit_once(separator) } else { text.split_once(separator) };
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

pub fn unknown_method(
    state: &State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    for arg in args {
        budget::touch(arg)?;
    }
    let found = match value.as_str() {
        Some(text) => string_method(text, method, args)?,
        None => None,
    };
    match found {
        Some(value) => Ok(value),
        None => {
            if value.as_str().is_none() {
                budget::walk_over(value)?;
            }
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        }
    }
}
