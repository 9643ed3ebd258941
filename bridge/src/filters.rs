//! Filters, tests and functions that differ from the engine's own: they pay for what they build (src/budget.rs), or do as
//! Jinja and Hugging Face do where the engine does otherwise.

use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, FormatStyle, State, Value};

use crate::budget::{self, charge, charge_list};
use crate::methods::{
    capitalize, formatted, is_space, join_with, padded, replaced, unknown_method,
};
use crate::operators::{add, as_float, as_integer, integer_value};
use crate::python::{self, JsonStyle, Text};
use crate::{operators, wrong};

fn format(pattern: &Value, values: Rest<Value>) -> Result<Value, Error> {
    let pattern = pattern.as_str().ok_or_else(|| wrong("format needs a text"))?;
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
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let parts: Vec<Value> = pair.try_iter()?.take(3).collect();
            match parts.as_slice() {
                [item, key] => (python::to_text(item)?, python::to_text(key)?),
                _ => return Err(wrong("separators must be a pair")),
            }
        }
    };
    let style = JsonStyle { indent, item_separator, key_separator, sort_keys, ascii };
    python::to_json(value, &style).map(Value::from)
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

fn replace(value: Value, old: Value, new: Value, count: Option<i64>) -> Result<Value, Error> {
    replaced(&python::to_text(&value)?, &python::to_text(&old)?, &python::to_text(&new)?, count)
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
        .map_or_else(|| kwargs.get::<Option<bool>>("first"), |first| Ok(Some(first)))?
        .unwrap_or(false);
    let blank = blank
        .map_or_else(|| kwargs.get::<Option<bool>>("blank"), |blank| Ok(Some(blank)))?
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
    value.len().ok_or_else(|| wrong(format!("a value of type {} has no length", value.kind())))
}

fn to_integer(value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default
        .map_or_else(|| kwargs.get::<Option<Value>>("default"), |default| Ok(Some(default)))?;
    let parsed = match value.as_str() {
        Some(text) => {
            let text = text.trim();
            text.parse::<i128>()
                .ok()
                .or_else(|| text.parse::<f64>().ok().filter(|x| x.is_finite()).map(|x| x as i128))
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
    let precision = precision
        .map_or_else(|| kwargs.get::<Option<i32>>("precision"), |precision| Ok(Some(precision)))?;
    let method =
        method.map_or_else(|| kwargs.get::<Option<String>>("method"), |method| Ok(Some(method)))?;
    kwargs.assert_all_used()?;
    let number = as_float(value)
        .ok_or_else(|| wrong(format!("a value of type {} cannot be rounded", value.kind())))?;
    let precision = precision.unwrap_or(0).clamp(-300, 300);
    let scale = 10f64.powi(precision);
    Ok(Value::from(match method.as_deref().unwrap_or("common") {
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        "common" if precision >= 0 => {
            format!("{number:.*}", precision as usize).parse().unwrap_or(number)
        }
        "common" => (number * scale).round_ties_even() / scale,
        other => return Err(wrong(format!("round knows common, ceil and floor, not '{other}'"))),
    }))
}

fn sum(value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let attribute: Option<String> = kwargs.get("attribute")?;
    let start: Option<Value> = kwargs.get("start")?;
    kwargs.assert_all_used()?;
    let mut total = start.unwrap_or_else(|| Value::from(0));
    for item in value.try_iter()? {
        let item = match &attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        total = add(total, item)?;
    }
    Ok(total)
}

/// As MarkupSafe writes it.
fn escape(value: &Value) -> Result<Value, Error> {
    let text = python::to_text(value)?;
    if value.is_safe() {
        return Ok(value.clone());
    }
    let mut out = Text::new();
    let mut buffer = [0; 4];
    for c in text.chars() {
        out.push(match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&#34;",
            '\'' => "&#39;",
            c => c.encode_utf8(&mut buffer),
        })?;
    }
    out.finish().map(Value::from_safe_string)
}

fn trim(value: &Value, chars: Option<&str>) -> Result<Value, Error> {
    let text = python::to_text(value)?;
    let drop = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    Ok(Value::from(text.trim_matches(drop)))
}

/// Filters of text take anything, as it prints.
fn install_text_filters(environment: &mut Environment) {
    type Change = fn(&str) -> String;
    let changes: [(&str, Change); 4] = [
        ("upper", |text| text.to_uppercase()),
        ("lower", |text| text.to_lowercase()),
        ("capitalize", capitalize),
        ("title", |text| minijinja::filters::title(text.into())),
    ];
    for (name, change) in changes {
        environment.add_filter(name, move |value: &Value| {
            python::to_text(value).map(|text| change(&text))
        });
    }
    environment.add_filter("trim", trim);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("wordcount", |value: &Value| {
        python::to_text(value).map(|text| {
            text.split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty())
                .count()
        })
    });
    environment.add_filter("center", |value: &Value, width: Option<usize>| {
        let text = python::to_text(value)?;
        padded(&text, &[Value::from(width.unwrap_or(80))], |missing| missing / 2)
    });
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

fn raise_exception(words: Value) -> Result<Value, Error> {
    Err(budget::raise(python::to_text(&words)?))
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
    operators::install(environment);
    install_tests(environment);
    install_text_filters(environment);
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
    environment.add_filter("sum", sum);
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
