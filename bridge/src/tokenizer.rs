//! Byte pair encoding with the parts of Hugging Face's `tokenizers`, in the order in which that library's own pipeline
//! runs them: added tokens, normalizer, pre-tokenizer, model. The pipeline itself is not used, because whether special
//! tokens count is a choice per call here and a property of the object there, and because a text without pre-tokenizer
//! (SentencePiece) would be one word however long it is.

use std::collections::HashSet;

use tokenizers::models::bpe::BPE;
use tokenizers::{
    AddedToken, AddedVocabulary, Model, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizer, PreTokenizerWrapper,
};

use crate::{Failure, Status};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Merge {
    left: u32,
    right: u32,
}

const ADDED: u8 = 1;
const SPECIAL: u8 = 2;

// What an added token takes of the white space around it.
const STRIPS_LEFT: u8 = 1;
const STRIPS_RIGHT: u8 = 2;

/// How spaces are written in the vocabulary.
#[derive(Clone, Copy, PartialEq)]
pub enum Spaces {
    /// As the pre-tokenizer writes them.
    Plain,
    /// As U+2581.
    Visible,
    /// The same, with one more before every text between added tokens.
    OneBeforeEach,
    /// The same, with one before the beginning unless the text begins with one.
    OneBeforeFirst,
}

impl TryFrom<u8> for Spaces {
    type Error = Failure;
    fn try_from(number: u8) -> Result<Spaces, Failure> {
        match number {
            0 => Ok(Spaces::Plain),
            1 => Ok(Spaces::Visible),
            2 => Ok(Spaces::OneBeforeEach),
            3 => Ok(Spaces::OneBeforeFirst),
            _ => Err(invalid(format!("no way to write spaces has the number {number}"))),
        }
    }
}

const VISIBLE_SPACE: char = '\u{2581}';

pub struct Spec<'a> {
    pub tokens: Vec<&'a str>,
    pub kinds: &'a [u8],
    pub strips: &'a [u8],
    pub merges: &'a [Merge],
    pub normalizer: &'a str,
    pub pre_tokenizer: &'a str,
    pub spaces: Spaces,
    pub unknown: Option<usize>,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
}

// The library keeps over a hundred bytes for each byte that it works on, so a long text is encoded in pieces.
const PIECE_BYTES: usize = 64 << 10;

pub struct Tokenizer {
    may_cut: bool,
    plain_before_added: bool,
    added: AddedVocabulary,
    added_and_special: AddedVocabulary,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    spaces: Spaces,
    words: Option<Words>,
    model: BPE,
}

fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure::new(Status::Invalid, error.to_string())
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<Option<T>, Failure> {
    if json.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(json).map(Some).map_err(|error| invalid(format!("{what}: {error}")))
}

/// Where a text with visible spaces falls apart: merges make tokens only, so none reaches over a character and a space
/// that no token has side by side.
struct Words {
    before_space: HashSet<char>,
}

impl Words {
    fn new(spec: &Spec) -> Option<Words> {
        // Without a token for the space itself, what is unknown on both sides of it would be one unknown token.
        if spec.spaces == Spaces::Plain || !spec.tokens.contains(&"\u{2581}") {
            return None;
        }
        let mut before_space = HashSet::new();
        for text in &spec.tokens {
            for (at, _) in text.match_indices(VISIBLE_SPACE) {
                before_space.extend(text[..at].chars().next_back());
            }
        }
        Some(Words { before_space })
    }

    fn ends_at(&self, last: char) -> bool {
        !self.before_space.contains(&last)
    }

    /// The first word of `text`, and the rest.
    fn split<'a>(&self, text: &'a str) -> (&'a str, &'a str) {
        let mut last = None;
        for (at, character) in text.char_indices() {
            if character == VISIBLE_SPACE && last.is_some_and(|last| self.ends_at(last)) {
                return text.split_at(at);
            }
            last = Some(character);
        }
        (text, "")
    }
}

fn model_of(spec: &Spec) -> Result<BPE, Failure> {
    let text_of = |id: u32| {
        spec.tokens
            .get(id as usize)
            .map(|text| text.to_string())
            .ok_or_else(|| invalid(format!("a merge names token {id} of {}", spec.tokens.len())))
    };
    let mut merges = Vec::with_capacity(spec.merges.len());
    for merge in spec.merges {
        merges.push((text_of(merge.left)?, text_of(merge.right)?));
    }
    let mut vocabulary = tokenizers::models::bpe::Vocab::with_capacity(spec.tokens.len());
    for (id, text) in spec.tokens.iter().enumerate() {
        vocabulary.entry(text.to_string()).or_insert(id as u32);
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .byte_fallback(spec.byte_fallback)
        .ignore_merges(spec.ignore_merges);
    if let Some(unknown) = spec.unknown {
        builder = builder.unk_token(text_of(unknown as u32)?).fuse_unk(true);
    }
    builder.build().map_err(invalid)
}

fn added_tokens(spec: &Spec, model: &BPE, kinds: &[u8]) -> Result<AddedVocabulary, Failure> {
    let mut found = AddedVocabulary::new();
    let tokens = spec.tokens.iter().zip(spec.kinds.iter().zip(spec.strips));
    let tokens = tokens.filter(|(text, (kind, _))| kinds.contains(kind) && !text.is_empty());
    let tokens = tokens.map(|(text, (kind, strips))| {
        AddedToken::from(*text, *kind == SPECIAL)
            .normalized(false)
            .lstrip(strips & STRIPS_LEFT != 0)
            .rstrip(strips & STRIPS_RIGHT != 0)
    });
    found.add_tokens(tokens, model, None::<&NormalizerWrapper>).map_err(invalid)?;
    Ok(found)
}

/// Whether an added token may reach over, or end at, a place where `place_to_cut` cuts.
fn reaches_over_cut((text, kind): (&&str, &u8)) -> bool {
    let inside = |window: &[u8]| window[0].is_ascii_alphabetic() && window[1] == b' ';
    *kind != 0
        && (text.as_bytes().windows(2).any(inside)
            || text.ends_with(|last: char| last.is_ascii_alphabetic()))
}

impl Tokenizer {
    pub fn new(spec: Spec) -> Result<Tokenizer, Failure> {
        let model = model_of(&spec)?;
        let normalizer = parse("normalizer", spec.normalizer)?;
        let pre_tokenizer = parse("pre-tokenizer", spec.pre_tokenizer)?;
        let words = Words::new(&spec);
        let cuts_words = match (&pre_tokenizer, &words) {
            (Some(_), _) => true,
            (None, Some(words)) => ('a'..='z').chain('A'..='Z').all(|last| words.ends_at(last)),
            (None, None) => false,
        };
        let may_cut = cuts_words && !spec.tokens.iter().zip(spec.kinds).any(reaches_over_cut);
        let plain_before_added = spec.spaces != Spaces::Plain
            && !spec
                .tokens
                .iter()
                .zip(spec.kinds)
                .any(|(text, kind)| *kind != 0 && text.contains(VISIBLE_SPACE));
        Ok(Tokenizer {
            may_cut,
            plain_before_added,
            added: added_tokens(&spec, &model, &[ADDED])?,
            added_and_special: added_tokens(&spec, &model, &[ADDED, SPECIAL])?,
            normalizer,
            pre_tokenizer,
            spaces: spec.spaces,
            words,
            model,
        })
    }

    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, Failure> {
        let added = if parse_special { &self.added_and_special } else { &self.added };
        // A visible space in the text is a space; added tokens made of spaces have plain ones.
        let plain = (self.plain_before_added && text.contains(VISIBLE_SPACE))
            .then(|| text.replace(VISIBLE_SPACE, " "));
        let text = plain.as_deref().unwrap_or(text);
        let mut ids = Vec::new();
        let mut at = 0;
        while self.may_cut && text.len() - at > PIECE_BYTES {
            let Some(end) = place_to_cut(&text.as_bytes()[at..], PIECE_BYTES) else { break };
            self.encode_piece(added, &text[at..at + end], at == 0, &mut ids)?;
            at += end;
        }
        self.encode_piece(added, &text[at..], at == 0, &mut ids)?;
        Ok(ids)
    }

    /// `begins`: the piece is the beginning of the text, not its continuation.
    fn encode_piece(
        &self,
        added: &AddedVocabulary,
        text: &str,
        begins: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), Failure> {
        if self.spaces != Spaces::Plain {
            return self.encode_with_visible_spaces(added, text, begins, ids);
        }
        let mut pieces = added.extract_and_normalize(self.normalizer.as_ref(), text);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(invalid)?;
        }
        pieces.tokenize(|piece| self.model.tokenize(piece.get())).map_err(invalid)?;
        let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        let tokens = splits.iter().filter_map(|(_, _, tokens)| tokens.as_ref());
        ids.extend(tokens.flatten().map(|token| token.id));
        Ok(())
    }

    fn encode_with_visible_spaces(
        &self,
        added: &AddedVocabulary,
        text: &str,
        begins: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), Failure> {
        let pieces = added.extract_and_normalize(None::<&NormalizerWrapper>, text);
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        for (text, (start, _), tokens) in splits {
            if let Some(tokens) = tokens {
                ids.extend(tokens.iter().map(|token| token.id));
                continue;
            }
            let mut visible = String::with_capacity(text.len() * 2);
            let continues = start == 0 && !begins;
            let one_before = match self.spaces {
                Spaces::OneBeforeEach => !continues,
                Spaces::OneBeforeFirst => {
                    start == 0 && begins && !text.starts_with([' ', VISIBLE_SPACE])
                }
                _ => false,
            };
            if one_before && !text.is_empty() {
                visible.push(VISIBLE_SPACE);
            }
            visible.extend(text.chars().map(|c| if c == ' ' { VISIBLE_SPACE } else { c }));
            let mut rest = visible.as_str();
            while !rest.is_empty() {
                let word = match &self.words {
                    Some(words) => words.split(rest),
                    None => (rest, ""),
                };
                let tokens = self.model.tokenize(word.0).map_err(invalid)?;
                ids.extend(tokens.iter().map(|token| token.id));
                rest = word.1;
            }
        }
        Ok(())
    }
}

/// A place from `from` on where every pre-tokenizer of the table (src/tokenizer/pre_tokenizers.cc) cuts anyway, whatever
/// stands before and behind: between a letter and a space that a letter follows. Of ASCII only, so that no normalizer
/// reaches over it either.
fn place_to_cut(text: &[u8], from: usize) -> Option<usize> {
    let is_place = |window: &[u8]| {
        window[0].is_ascii_alphabetic() && window[1] == b' ' && window[2].is_ascii_alphabetic()
    };
    text[from - 1..].windows(3).position(is_place).map(|at| from + at)
}
