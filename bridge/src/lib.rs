//! The C interface of include/shoal_bridge.h. Nothing unwinds across it: what panics becomes a status and a sentence.

mod budget;
mod filters;
mod methods;
mod operators;
mod python;
mod rewrite;
mod template;
mod tokenizer;

use std::any::Any;
use std::ffi::c_char;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const c_char,
    size: usize,
}

impl Slice {
    /// # Safety
    /// `data` must point at `size` bytes that live as long as the result is used.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            &[]
        } else {
            unsafe { std::slice::from_raw_parts(self.data.cast(), self.size) }
        }
    }

    /// # Safety
    /// As for `bytes`.
    unsafe fn text<'a>(self, what: impl std::fmt::Display) -> Result<&'a str, Failure> {
        std::str::from_utf8(unsafe { self.bytes() }).map_err(|error| {
            Failure::new(
                Status::Invalid,
                format!("{what} is not UTF-8: byte {} begins no character", error.valid_up_to()),
            )
        })
    }
}

/// # Safety
/// `data` must point at `count` values that live as long as the result is used; it may be null when `count` is 0.
unsafe fn slice_of<'a, T>(data: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        &[]
    } else {
        unsafe { std::slice::from_raw_parts(data, count) }
    }
}

#[repr(C)]
pub struct Text {
    data: *mut c_char,
    size: usize,
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        let bytes = Box::leak(text.into_bytes().into_boxed_slice());
        Text { data: bytes.as_mut_ptr().cast(), size: bytes.len() }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    Invalid = 1,
    Syntax = 2,
    Raised = 3,
    Failed = 4,
    Limit = 5,
    Internal = 6,
}

pub struct Failure {
    pub status: Status,
    pub message: String,
}

impl Failure {
    pub fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }
}

/// An error of a template's own making.
fn wrong(words: impl Into<String>) -> minijinja::Error {
    minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, words.into())
}

pub fn words_of_panic(payload: &(dyn Any + Send)) -> String {
    let words = payload
        .downcast_ref::<&str>()
        .map(|words| words.to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason given".to_owned());
    format!("a library stopped unexpectedly: {words}")
}

/// Runs `body`; on failure writes `*error`.
unsafe fn guarded(error: *mut Text, body: impl FnOnce() -> Result<(), Failure>) -> Status {
    static SILENT: Once = Once::new();
    // The words go to the caller; standard error is not this library's.
    SILENT.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::new(Status::Internal, words_of_panic(payload.as_ref())),
    };
    if !error.is_null() {
        unsafe { error.write(failure.message.into()) };
    }
    failure.status
}

/// # Safety
/// `text` must come from this library and not have been freed.
#[no_mangle]
pub unsafe extern "C" fn shoal_text_free(text: Text) {
    if !text.data.is_null() {
        drop(unsafe {
            Box::from_raw(std::ptr::slice_from_raw_parts_mut(text.data.cast::<u8>(), text.size))
        });
    }
}

#[repr(C)]
pub struct TokenizerSpec {
    tokens: *const Slice,
    kinds: *const u8,
    strips: *const u8,
    token_count: usize,
    merges: *const tokenizer::Merge,
    merge_count: usize,
    normalizer: Slice,
    pre_tokenizer: Slice,
    spaces: u8,
    unknown: i64,
    byte_fallback: bool,
    ignore_merges: bool,
}

/// # Safety
/// As include/shoal_bridge.h says.
#[no_mangle]
pub unsafe extern "C" fn shoal_tokenizer_new(
    spec: *const TokenizerSpec,
    out: *mut *mut tokenizer::Tokenizer,
    error: *mut Text,
) -> Status {
    unsafe {
        guarded(error, || {
            let spec = &*spec;
            let slices = slice_of(spec.tokens, spec.token_count);
            let mut tokens = Vec::with_capacity(slices.len());
            for (id, slice) in slices.iter().enumerate() {
                tokens.push(slice.text(format_args!("token {id}"))?);
            }
            let made = tokenizer::Tokenizer::new(tokenizer::Spec {
                tokens,
                kinds: slice_of(spec.kinds, spec.token_count),
                strips: slice_of(spec.strips, spec.token_count),
                merges: slice_of(spec.merges, spec.merge_count),
                normalizer: spec.normalizer.text("the normalizer")?,
                pre_tokenizer: spec.pre_tokenizer.text("the pre-tokenizer")?,
                spaces: spec.spaces.try_into()?,
                unknown: usize::try_from(spec.unknown).ok(),
                byte_fallback: spec.byte_fallback,
                ignore_merges: spec.ignore_merges,
            })?;
            out.write(Box::into_raw(Box::new(made)));
            Ok(())
        })
    }
}

/// # Safety
/// As include/shoal_bridge.h says.
#[no_mangle]
pub unsafe extern "C" fn shoal_tokenizer_free(tokenizer: *mut tokenizer::Tokenizer) {
    if !tokenizer.is_null() {
        drop(unsafe { Box::from_raw(tokenizer) });
    }
}

/// # Safety
/// As include/shoal_bridge.h says.
#[no_mangle]
pub unsafe extern "C" fn shoal_tokenizer_encode(
    tokenizer: *const tokenizer::Tokenizer,
    text: Slice,
    parse_special: bool,
    ids: *mut *mut u32,
    count: *mut usize,
    error: *mut Text,
) -> Status {
    unsafe {
        guarded(error, || {
            let found = (*tokenizer).encode(text.text("the text")?, parse_special)?;
            let found = Box::leak(found.into_boxed_slice());
            ids.write(found.as_mut_ptr());
            count.write(found.len());
            Ok(())
        })
    }
}

/// # Safety
/// As include/shoal_bridge.h says.
#[no_mangle]
pub unsafe extern "C" fn shoal_ids_free(ids: *mut u32, count: usize) {
    if !ids.is_null() {
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(ids, count)) });
    }
}

/// # Safety
/// As include/shoal_bridge.h says.
#[no_mangle]
pub unsafe extern "C" fn shoal_template_check(source: Slice, error: *mut Text) -> Status {
    unsafe { guarded(error, || template::check(source.text("the template")?)) }
}

/// # Safety
/// As include/shoal_bridge.h says.
#[no_mangle]
pub unsafe extern "C" fn shoal_template_render(
    source: Slice,
    context: Slice,
    now_unix_s: i64,
    out: *mut Text,
    error: *mut Text,
) -> Status {
    unsafe {
        guarded(error, || {
            let text = template::render(
                source.text("the template")?,
                context.text("the context")?,
                now_unix_s,
            )?;
            out.write(text.into());
            Ok(())
        })
    }
}
