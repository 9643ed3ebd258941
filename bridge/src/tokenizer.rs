//! Byte pair encoding with the parts of Hugging Face's `tokenizers`, in the order in which that library's own pipeline
//! runs them: added tokens, normalizer, pre-tokenizer, model. The pipeline itself is not used, because whether special
//! tokens count is a choice per call here and a property of the object there.

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

pub struct Spec<'a> {
    pub tokens: Vec<&'a str>,
    pub kinds: &'a [u8],
    pub merges: &'a [Merge],
    pub normalizer: &'a str,
    pub pre_tokenizer: &'a str,
    pub unknown: Option<usize>,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
}

// The library keeps over a hundred bytes for each byte that it works on, so a long text is encoded in pieces.
const PIECE_BYTES: usize = 64 << 10;

pub struct Tokenizer {
    may_cut: bool,
    added: AddedVocabulary,
    added_and_special: AddedVocabulary,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
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

impl Tokenizer {
    pub fn new(spec: Spec) -> Result<Tokenizer, Failure> {
        let text_of = |id: u32| {
            spec.tokens.get(id as usize).map(|text| text.to_string()).ok_or_else(|| {
                invalid(format!("a merge names token {id} of {}", spec.tokens.len()))
            })
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
        let model = builder.build().map_err(invalid)?;
        let normalizer: Option<NormalizerWrapper> = parse("normalizer", spec.normalizer)?;
        let pre_tokenizer = parse("pre-tokenizer", spec.pre_tokenizer)?;

        let tokens_of = |kinds: &[u8]| {
            let mut found = AddedVocabulary::new();
            let tokens = spec
                .tokens
                .iter()
                .zip(spec.kinds)
                .filter(|(text, kind)| kinds.contains(kind) && !text.is_empty());
            let tokens = tokens
                .map(|(text, kind)| AddedToken::from(*text, *kind == SPECIAL).normalized(false));
            found.add_tokens(tokens, &model, normalizer.as_ref()).map_err(invalid)?;
            Ok(found)
        };
        // An added token that reaches over a place where text is cut would be lost.
        let reaches_over = |(text, kind): (&&str, &u8)| *kind != 0 && text.contains([' ', '\n']);
        let may_cut =
            pre_tokenizer.is_some() && !spec.tokens.iter().zip(spec.kinds).any(reaches_over);
        Ok(Tokenizer {
            may_cut,
            added: tokens_of(&[ADDED])?,
            added_and_special: tokens_of(&[ADDED, SPECIAL])?,
            normalizer,
            pre_tokenizer,
            model,
        })
    }

    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, Failure> {
        let mut ids = Vec::new();
        let mut rest = text;
        while self.may_cut && rest.len() > PIECE_BYTES {
            let Some(end) = place_to_cut(rest.as_bytes(), PIECE_BYTES) else { break };
            self.encode_piece(&rest[..end], parse_special, &mut ids)?;
            rest = &rest[end..];
        }
        self.encode_piece(rest, parse_special, &mut ids)?;
        Ok(ids)
    }

    fn encode_piece(
        &self,
        text: &str,
        parse_special: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), Failure> {
        let added = if parse_special { &self.added_and_special } else { &self.added };
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
