//! What one rendering may still do. Fuel (in the engine) bounds the number of instructions; this bounds what a single
//! instruction may build or walk, so that neither a doubling string nor a list of lists of lists escapes it. One unit is
//! a visited value or sixteen bytes of new text: measured, the whole budget takes a second or two at most.

use std::cell::RefCell;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

pub const FUEL: u64 = 10_000_000;
const WORK: u64 = 20_000_000;
// All that is printed, into variables and macros too; the prompt is a part of it.
const OUTPUT_BYTES: usize = 128 << 20;
const VALUE_BYTES: usize = 64 << 20;
const VALUE_PARTS: usize = 1_000_000;
const VALUE_DEPTH: usize = 128;

#[derive(Default)]
struct Budget {
    work: u64,
    output_bytes: usize,
    raised: Option<String>,
    exceeded: bool,
}

thread_local! {
    // A rendering stays on one thread.
    static BUDGET: RefCell<Budget> = RefCell::new(Budget::default());
}

pub fn begin() {
    BUDGET.with(|budget| *budget.borrow_mut() = Budget { work: WORK, ..Budget::default() });
}

/// What the template said by raise_exception, and whether it met a limit.
pub fn end() -> (Option<String>, bool) {
    BUDGET.with(|budget| {
        let budget = std::mem::take(&mut *budget.borrow_mut());
        (budget.raised, budget.exceeded)
    })
}

pub fn raise(words: String) -> Error {
    BUDGET.with(|budget| budget.borrow_mut().raised = Some(words.clone()));
    Error::new(ErrorKind::InvalidOperation, words)
}

pub fn exceeded(what: impl Into<String>) -> Error {
    BUDGET.with(|budget| budget.borrow_mut().exceeded = true);
    Error::new(ErrorKind::InvalidOperation, what.into())
}

pub fn charge(units: usize) -> Result<(), Error> {
    let enough = BUDGET.with(|budget| {
        let mut budget = budget.borrow_mut();
        let left = budget.work.checked_sub(units as u64);
        budget.work = left.unwrap_or(0);
        left.is_some()
    });
    if enough {
        Ok(())
    } else {
        Err(exceeded("it does more work than a chat template may"))
    }
}

pub fn check_text(bytes: usize) -> Result<(), Error> {
    if bytes > VALUE_BYTES {
        return Err(exceeded(format!("it builds a text of more than {} MiB", VALUE_BYTES >> 20)));
    }
    Ok(())
}

/// Before a text of this size is built.
pub fn charge_text(bytes: usize) -> Result<(), Error> {
    check_text(bytes)?;
    charge(bytes / 16 + 1)
}

/// Before text of this size is printed.
pub fn charge_output(bytes: usize) -> Result<(), Error> {
    let output_bytes = BUDGET.with(|budget| {
        let mut budget = budget.borrow_mut();
        budget.output_bytes += bytes;
        budget.output_bytes
    });
    if output_bytes > OUTPUT_BYTES {
        return Err(exceeded(format!("it prints more than {} MiB", OUTPUT_BYTES >> 20)));
    }
    charge(bytes / 16 + 1)
}

fn check_list(length: usize) -> Result<(), Error> {
    if length > VALUE_PARTS {
        return Err(exceeded(format!("it builds a list of more than {VALUE_PARTS} values")));
    }
    Ok(())
}

/// Before a list of this length is built.
pub fn charge_list(length: usize) -> Result<(), Error> {
    check_list(length)?;
    charge(length + 1)
}

/// While a list of unknown length grows, after every value.
pub fn charge_growth(length: usize) -> Result<(), Error> {
    if length % 1024 != 0 {
        return Ok(());
    }
    check_list(length)?;
    charge(1024)
}

pub fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

struct Size {
    parts: usize,
    bytes: usize,
}

fn walk(value: &Value, depth: usize, size: &mut Size) -> Result<(), Error> {
    if depth > VALUE_DEPTH {
        return Err(exceeded(format!("it nests values more than {VALUE_DEPTH} deep")));
    }
    size.parts += 1;
    if size.parts > VALUE_PARTS {
        return Err(exceeded(format!("it builds a value of more than {VALUE_PARTS} parts")));
    }
    if size.parts % 1024 == 0 {
        charge(1024)?;
    }
    match value.kind() {
        ValueKind::String => size.bytes += value.as_str().map_or(0, str::len),
        ValueKind::Bytes => size.bytes += value.as_bytes().map_or(0, <[u8]>::len),
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                walk(&item, depth + 1, size)?;
            }
        }
        ValueKind::Map => {
            // A namespace can be changed, so one inside a value could make that value contain itself.
            if depth > 0 && is_namespace(value) {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "a namespace cannot be stored in another value",
                ));
            }
            if let Some(pairs) = value.as_object().and_then(|object| object.try_iter_pairs()) {
                for (key, item) in pairs {
                    walk(&key, depth + 1, size)?;
                    walk(&item, depth + 1, size)?;
                }
            }
        }
        _ => {}
    }
    if size.bytes > VALUE_BYTES {
        return Err(exceeded(format!("it builds a value of more than {} MiB", VALUE_BYTES >> 20)));
    }
    Ok(())
}

/// Pays for walking all of a value, and checks that it is small, shallow and free of cycles.
pub fn weigh(value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String => charge_text(value.as_str().map_or(0, str::len)),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let mut size = Size { parts: 0, bytes: 0 };
            walk(value, 0, &mut size)?;
            charge(size.parts % 1024)
        }
        _ => Ok(()),
    }
}

/// Pays for looking at all of a text; other values are looked at for nothing.
pub fn touch(value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) if text.len() >= 64 => charge_text(text.len()),
        _ => Ok(()),
    }
}

/// Pays for walking over a value once, not into its parts.
pub fn walk_over(value: &Value) -> Result<(), Error> {
    touch(value)?;
    charge_list(value.len().unwrap_or(0))
}

/// A value that the template has made: weighed, and no longer lazy, so that what was paid for is what there is.
pub fn hold(value: Value) -> Result<Value, Error> {
    weigh(&value)?;
    if value.kind() == ValueKind::Iterable {
        return Ok(Value::from(value.try_iter()?.collect::<Vec<_>>()));
    }
    Ok(value)
}
