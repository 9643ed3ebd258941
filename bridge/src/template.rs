//! Chat templates in the environment in which Hugging Face renders them: blocks trimmed, loop controls, raise_exception,
//! strftime_now, Python's methods and printing. A template comes from a stranger's file, so what it may do is bounded:
//! its size, its instructions (fuel), what it builds (src/budget.rs), its output and the depth of its recursion.

use std::borrow::Cow;
use std::ffi::CString;
use std::sync::LazyLock;

use minijinja::machinery::{ast, make_string_output, parse, CodeGenerator, Vm, WhitespaceConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
};
use regex::Regex;

use crate::budget;
use crate::filters;
use crate::python;
use crate::rewrite;
use crate::{words_of_panic, Failure, Status};

const NAME: &str = "chat template";
// Only what is used is touched; the trees and calls that the other limits admit need less.
const STACK_BYTES: usize = 64 << 20;

const WHITESPACE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

/// Hugging Face marks what an assistant said with {% generation %}; in a plain rendering the mark does nothing.
fn without_generation_marks(source: &str) -> Cow<'_, str> {
    static BEGIN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*generation\s*([-+]?)%\}").expect("is a pattern")
    });
    static END: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}").expect("is a pattern")
    });
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let begun = BEGIN.replace_all(source, "{%$1 if true $2%}");
    Cow::Owned(END.replace_all(&begun, "{%$1 endif $2%}").into_owned())
}

fn sentence(error: &Error) -> String {
    let words = match error.detail() {
        Some(detail)
            if error.kind() == ErrorKind::InvalidOperation
                || error.kind() == ErrorKind::SyntaxError =>
        {
            detail.to_owned()
        }
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("line {line}: {words}"),
        None => words,
    }
}

fn parsed(source: &str) -> Result<ast::Stmt<'_>, Failure> {
    rewrite::check_size(source, WHITESPACE)?;
    let tree = parse(source, NAME, SyntaxConfig::default(), WHITESPACE)
        .map_err(|error| Failure::new(Status::Syntax, sentence(&error)))?;
    Ok(rewrite::statement(&tree))
}

/// Runs `work` on a stack that is deep enough for every tree that is let through.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| {
            Failure::new(Status::Internal, format!("no thread to render a template: {error}"))
        })?;
        thread.join().unwrap_or_else(|payload| {
            Err(Failure::new(Status::Internal, words_of_panic(payload.as_ref())))
        })
    })
}

pub fn check(source: &str) -> Result<(), Failure> {
    on_deep_stack(|| parsed(&without_generation_marks(source)).map(drop))
}

/// Prints a value as Python would. Captured output counts too: it is text in memory like any other.
fn print(out: &mut Output, _: &State, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        budget::charge_output(text.len())?;
        return out.write_str(text).map_err(Error::from);
    }
    let text = python::to_text(value)?;
    budget::charge_output(text.len())?;
    out.write_str(&text).map_err(Error::from)
}

/// The time as C's strftime writes it, in this machine's time zone.
fn strftime(now_unix_s: i64, format: &str) -> Result<String, Error> {
    let wrong = |words: &str| Error::new(ErrorKind::InvalidOperation, words.to_owned());
    if format.len() > 1000 {
        return Err(wrong("strftime_now takes a format of at most 1000 bytes"));
    }
    if format.is_empty() {
        return Ok(String::new());
    }
    let pattern = CString::new(format).map_err(|_| wrong("strftime_now takes no zero bytes"))?;
    let time = now_unix_s as libc::time_t;
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    if unsafe { libc::localtime_r(&time, &mut parts) }.is_null() {
        return Err(wrong("this machine's clock tells no time"));
    }
    let mut buffer = vec![0u8; 64 << 10];
    let size = unsafe {
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), pattern.as_ptr(), &parts)
    };
    buffer.truncate(size);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

fn environment(now_unix_s: i64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(budget::FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_recursion_limit(200);
    environment.set_formatter(print);
    filters::install(&mut environment);
    environment.add_function("strftime_now", move |format: &str| strftime(now_unix_s, format));
    environment
}

fn rendered(source: &str, context: Value, now_unix_s: i64) -> Result<String, Failure> {
    let tree = parsed(source)?;
    let environment = environment(now_unix_s);
    let mut generator = CodeGenerator::new(NAME, source);
    generator.compile_stmt(&tree);
    let (instructions, blocks) = generator.finish();
    budget::begin();
    let mut text = String::new();
    let result = {
        let mut output = make_string_output(&mut text);
        let vm = Vm::new(&environment);
        vm.eval(&instructions, context, &blocks, &mut output, AutoEscape::None).map(drop)
    };
    let (raised, exceeded) = budget::end();
    match result {
        Ok(()) => Ok(text),
        Err(error) => Err(match raised {
            Some(words) => Failure::new(Status::Raised, words),
            None if error.kind() == ErrorKind::OutOfFuel => {
                Failure::new(Status::Limit, format!("it runs for more than {} steps", budget::FUEL))
            }
            None if exceeded => Failure::new(Status::Limit, sentence(&error)),
            None => Failure::new(Status::Failed, sentence(&error)),
        }),
    }
}

pub fn render(source: &str, context: &str, now_unix_s: i64) -> Result<String, Failure> {
    on_deep_stack(|| {
        let context: Value = serde_json::from_str(context).map_err(|error| {
            Failure::new(Status::Invalid, format!("the messages cannot be read: {error}"))
        })?;
        rendered(&without_generation_marks(source), context, now_unix_s)
    })
}
