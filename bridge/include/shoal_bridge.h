/* The Rust libraries that Shoal uses, in C: Hugging Face's `tokenizers` and `minijinja`.
 *
 * Any thread may call anything; objects are immutable once made. No call unwinds, whatever the
 * input: a failure is a status other than SHOAL_OK and a sentence in *error. What a call hands out
 * (texts, ids, tokenizers) is the caller's to free with the function named for it; an out parameter
 * is written only where this says so. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char* data; /* may be NULL when size is 0 */
  size_t size;
} ShoalSlice;

typedef struct {
  char* data;
  size_t size;
} ShoalText;

void shoal_text_free(ShoalText text);

typedef enum {
  SHOAL_OK = 0,
  SHOAL_INVALID = 1,  /* the input is not what this call takes */
  SHOAL_SYNTAX = 2,   /* a template that does not parse */
  SHOAL_RAISED = 3,   /* the template called raise_exception; the text is its own */
  SHOAL_FAILED = 4,   /* the template did something that has no answer */
  SHOAL_LIMIT = 5,    /* the template ran too long or built too much */
  SHOAL_INTERNAL = 6, /* a bug here */
} ShoalStatus;

/* Tokenizers */

typedef struct ShoalTokenizer ShoalTokenizer;

typedef enum {
  SHOAL_TOKEN_ORDINARY = 0, /* reached by merges */
  SHOAL_TOKEN_ADDED = 1,    /* found as text before anything else */
  SHOAL_TOKEN_SPECIAL = 2,  /* likewise, but only when special tokens are asked for */
} ShoalTokenKind;

/* What a token that is not ordinary takes of the white space around it: bits. */
typedef enum {
  SHOAL_STRIPS_LEFT = 1,
  SHOAL_STRIPS_RIGHT = 2,
} ShoalStrips;

/* How the vocabulary writes spaces. */
typedef enum {
  SHOAL_SPACES_PLAIN = 0,            /* as normalizer and pre-tokenizer write them */
  SHOAL_SPACES_VISIBLE = 1,          /* as U+2581; there is neither normalizer nor pre-tokenizer */
  SHOAL_SPACES_ONE_BEFORE_EACH = 2,  /* so, and one more before every text between other tokens */
  SHOAL_SPACES_ONE_BEFORE_FIRST = 3, /* so, and one before a text that does not begin with one */
} ShoalSpaces;

typedef struct {
  uint32_t left;
  uint32_t right;
} ShoalMerge;

/* A byte pair encoding model. The id of a token is its place in `tokens`; of equal texts the first
 * counts. */
typedef struct {
  const ShoalSlice* tokens; /* UTF-8 */
  const uint8_t* kinds;     /* ShoalTokenKind, one per token */
  const uint8_t* strips;    /* ShoalStrips, one per token */
  size_t token_count;
  const ShoalMerge* merges; /* best first; the texts joined must be a token */
  size_t merge_count;
  ShoalSlice normalizer;    /* as in a tokenizer.json; empty for none */
  ShoalSlice pre_tokenizer; /* likewise */
  uint8_t spaces;           /* ShoalSpaces */
  int64_t unknown;          /* token for what has none, or -1: such text is dropped */
  bool byte_fallback;       /* text without a token becomes tokens <0x00> to <0xFF> */
  bool ignore_merges;       /* a piece that is a token as a whole is that token */
} ShoalTokenizerSpec;

/* Writes *out on success, *error otherwise. */
ShoalStatus shoal_tokenizer_new(const ShoalTokenizerSpec* spec, ShoalTokenizer** out,
                                ShoalText* error);
void shoal_tokenizer_free(ShoalTokenizer* tokenizer);
/* Writes *ids and *count on success, *error otherwise. `text` must be UTF-8. */
ShoalStatus shoal_tokenizer_encode(const ShoalTokenizer* tokenizer, ShoalSlice text,
                                   bool parse_special, uint32_t** ids, size_t* count,
                                   ShoalText* error);
void shoal_ids_free(uint32_t* ids, size_t count);

/* Chat templates */

/* SHOAL_SYNTAX and a sentence with the line when `source` does not parse. */
ShoalStatus shoal_template_check(ShoalSlice source, ShoalText* error);
/* Renders `source` with the variables of `context`, a JSON object whose order of keys is kept.
 * `now_unix_s` is the time that strftime_now tells, in the machine's time zone. Writes *out on
 * success, *error otherwise. */
ShoalStatus shoal_template_render(ShoalSlice source, ShoalSlice context, int64_t now_unix_s,
                                  ShoalText* out, ShoalText* error);

#ifdef __cplusplus
}
#endif
