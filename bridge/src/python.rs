//! Values as Python prints them: str(), repr() and json.dumps(), because templates are written against those.

use std::fmt::Write;
use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use regex::Regex;

use crate::budget;

/// Text that may not grow past what the budget allows.
pub struct Text {
    text: String,
    paid: usize,
}

impl Text {
    pub fn new() -> Text {
        Text { text: String::new(), paid: 0 }
    }

    pub fn push(&mut self, text: &str) -> Result<(), Error> {
        self.text.push_str(text);
        // In steps, so that short texts cost next to nothing.
        if self.text.len() >= self.paid + 4096 {
            budget::check_text(self.text.len())?;
            budget::charge((self.text.len() - self.paid) / 16)?;
            self.paid = self.text.len();
        }
        Ok(())
    }

    pub fn finish(self) -> Result<String, Error> {
        budget::charge_text(self.text.len() - self.paid)?;
        Ok(self.text)
    }
}

/// repr(float): the shortest digits that read back as the same number, with an exponent outside 1e-4 to 1e16.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("has an exponent");
    let exponent: i32 = exponent.parse().expect("is a number");
    if value != 0.0 && !(-4..16).contains(&exponent) {
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

/// None, True, 1, 2.5: everything that is neither text nor a container.
fn scalar_text(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "None".into(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float_text)
        }
        _ => value.to_string(),
    }
}

fn push_quoted(text: &str, out: &mut Text) -> Result<(), Error> {
    static UNPRINTABLE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[\p{C}\p{Z}]$").expect("is a pattern"));
    let quote = if text.contains('\'') && !text.contains('"') { "\"" } else { "'" };
    out.push(quote)?;
    let mut buffer = [0; 4];
    for c in text.chars() {
        match c {
            '\\' => out.push("\\\\")?,
            '\n' => out.push("\\n")?,
            '\r' => out.push("\\r")?,
            '\t' => out.push("\\t")?,
            ' '..='~' => {
                let c = &*c.encode_utf8(&mut buffer);
                if c == quote {
                    out.push("\\")?;
                }
                out.push(c)?;
            }
            _ if UNPRINTABLE.is_match(c.encode_utf8(&mut [0; 4])) => {
                let code = c as u32;
                out.push(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                })?;
            }
            _ => out.push(c.encode_utf8(&mut buffer))?,
        }
    }
    out.push(quote)
}

fn push_repr(value: &Value, out: &mut Text) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String => push_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Undefined => out.push("Undefined"),
        _ => push_str(value, out),
    }
}

/// str(value), after `value` was weighed where it could be large or contain itself.
fn push_str(value: &Value, out: &mut Text) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String => out.push(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push("[")?;
            for (index, item) in value.try_iter()?.enumerate() {
                if index > 0 {
                    out.push(", ")?;
                }
                push_repr(&item, out)?;
            }
            out.push("]")
        }
        ValueKind::Map => {
            let Some(pairs) = value.as_object().and_then(|object| object.try_iter_pairs()) else {
                return out.push(&value.to_string());
            };
            out.push("{")?;
            for (index, (key, item)) in pairs.enumerate() {
                if index > 0 {
                    out.push(", ")?;
                }
                push_repr(&key, out)?;
                out.push(": ")?;
                push_repr(&item, out)?;
            }
            out.push("}")
        }
        _ => out.push(&scalar_text(value)),
    }
}

/// str(value) appended to `out`.
pub fn append(value: &Value, out: &mut Text) -> Result<(), Error> {
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        budget::weigh(value)?;
    }
    push_str(value, out)
}

pub fn to_text(value: &Value) -> Result<String, Error> {
    let mut out = Text::new();
    append(value, &mut out)?;
    out.finish()
}

/// How json.dumps lays its text out.
pub struct JsonStyle {
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
    pub ascii: bool,
}

pub fn to_json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    budget::weigh(value)?;
    let mut out = Text::new();
    push_json(value, style, 0, &mut out)?;
    out.finish()
}

fn push_line(style: &JsonStyle, depth: usize, out: &mut Text) -> Result<(), Error> {
    if let Some(indent) = &style.indent {
        out.push("\n")?;
        for _ in 0..depth {
            out.push(indent)?;
        }
    }
    Ok(())
}

fn push_json(value: &Value, style: &JsonStyle, depth: usize, out: &mut Text) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push("null"),
        ValueKind::Bool => out.push(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push(&json_number(value)),
        ValueKind::String => push_json_string(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push("[")?;
            let mut empty = true;
            for item in value.try_iter()? {
                if !empty {
                    out.push(&style.item_separator)?;
                }
                empty = false;
                push_line(style, depth + 1, out)?;
                push_json(&item, style, depth + 1, out)?;
            }
            if !empty {
                push_line(style, depth, out)?;
            }
            out.push("]")
        }
        ValueKind::Map => push_json_object(value, style, depth, out),
        kind => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a value of type {kind} cannot be written as JSON"),
        )),
    }
}

fn json_number(value: &Value) -> String {
    match scalar_text(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        text => text.into(),
    }
}

fn push_json_object(
    value: &Value,
    style: &JsonStyle,
    depth: usize,
    out: &mut Text,
) -> Result<(), Error> {
    let Some(pairs) = value.as_object().and_then(|object| object.try_iter_pairs()) else {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "this object cannot be written as JSON",
        ));
    };
    let mut members = Vec::new();
    for (key, item) in pairs {
        let name = match key.kind() {
            ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
            ValueKind::None => "null".into(),
            ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
            ValueKind::Number => json_number(&key),
            kind => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("a key of type {kind} cannot be written as JSON"),
                ))
            }
        };
        members.push((name, item));
    }
    if style.sort_keys {
        members.sort_by(|a, b| a.0.cmp(&b.0));
    }
    out.push("{")?;
    for (index, (name, item)) in members.iter().enumerate() {
        if index > 0 {
            out.push(&style.item_separator)?;
        }
        push_line(style, depth + 1, out)?;
        push_json_string(name, style, out)?;
        out.push(&style.key_separator)?;
        push_json(item, style, depth + 1, out)?;
    }
    if !members.is_empty() {
        push_line(style, depth, out)?;
    }
    out.push("}")
}

fn push_json_string(text: &str, style: &JsonStyle, out: &mut Text) -> Result<(), Error> {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for c in text.chars() {
        match c {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            '\u{8}' => written.push_str("\\b"),
            '\u{c}' => written.push_str("\\f"),
            c if (c as u32) < 0x20 || (style.ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(written, "\\u{unit:04x}").expect("a string takes all");
                }
            }
            c => written.push(c),
        }
    }
    written.push('"');
    out.push(&written)
}
