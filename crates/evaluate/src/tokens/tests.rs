//! Tokens of pieces are those of the whole text, wherever pieces end.

use std::{env, fs, path::PathBuf, sync::LazyLock};

use compress_checkpoint::Checkpoint;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn top(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(name)
}

/// The shipped model's: byte-level, words split as GPT-2 splits them, and NFC before.
fn byte_level() -> Value {
    let text = fs::read(top("models/tiny/tokenizer.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The same with a few things otherwise.
fn changed(changes: &Value) -> Tokenizer {
    let mut json = byte_level();
    for (field, value) in changes.as_object().unwrap() {
        json[field] = value.clone();
    }
    json.to_string().parse().unwrap()
}

/// Every kind: with a pre-tokenizer and without, with one that counts digits, one that adds a space, added
/// tokens that swallow the spaces around them, and what `SentencePiece` does.
static TOKENIZERS: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
    let byte_level = |regex, space| json!({ "type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": regex });
    let digits = json!({
        "type": "Split", "pattern": { "Regex": "\\p{N}{1,3}" }, "behavior": "Isolated", "invert": false,
    });
    let digits = json!({ "type": "Sequence", "pretokenizers": [digits, byte_level(true, false)] });
    let greedy = json!([
        { "id": 0, "content": "<|story|>", "single_word": false, "lstrip": true, "rstrip": true,
          "normalized": false, "special": true },
    ]);
    let sentence_piece = Checkpoint::open(&top("tests/fixtures/gguf/llama.gguf")).unwrap();
    vec![
        ("byte level", changed(&json!({}))),
        (
            "no words",
            changed(&json!({ "pre_tokenizer": byte_level(false, false) })),
        ),
        (
            "prefix",
            changed(&json!({ "pre_tokenizer": byte_level(true, true) })),
        ),
        ("digits", changed(&json!({ "pre_tokenizer": digits }))),
        ("greedy", changed(&json!({ "added_tokens": greedy }))),
        ("sentence piece", sentence_piece.tokenizer().unwrap()),
    ]
});

fn whole(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let encoding = tokenizer.encode_fast(text, false).unwrap();
    encoding.get_ids().to_vec()
}

fn by_pieces(tokenizer: &Tokenizer, text: &str, piece: usize, overlap: usize) -> Vec<u32> {
    let tokens = Tokens::of(tokenizer, text, Division { piece, overlap });
    tokens.collect::<Result<_>>().unwrap()
}

/// What makes a boundary awkward.
fn snippet() -> impl Strategy<Value = String> {
    let words = "[a-z]{1,9}( [a-z]{1,9}){0,30}";
    let awkward = prop::sample::select(vec![
        "<|story|>",
        "<|endoftext|>",
        "</s>",
        "<s>",
        "<unk>",
        "<|sto",
        "ry|>",
        "  <|story|>  ",
        "'s",
        "it''ll",
        "é",
        "e\u{301}",
        "\u{301}\u{301}\u{301}",
        "🙂",
        "👩‍👩‍👧",
        "中文字",
        "ﷺ",
        "ﬁ",
        "Å",
        "\u{feff}",
        "\u{a0}",
        "\r\n",
        "\t",
        "\0",
        "▁",
        "Ġ",
    ]);
    let run = prop::sample::select(vec![
        " ",
        "\n",
        "a",
        "A",
        "ab",
        "é",
        "7",
        "▁",
        "🙂",
        "-",
        "\u{301}",
        "\t \n",
        "\u{316}\u{301}",
    ]);
    prop_oneof![
        6 => words.prop_map(|words| words + " "),
        3 => awkward.prop_map(str::to_owned),
        1 => (run, 1_usize..400).prop_map(|(run, count)| run.repeat(count)),
        1 => "[0-9]{1,60}",
        1 => ".{0,8}",
    ]
}

proptest! {
    #[test]
    fn pieces_give_the_tokens_of_the_whole(
        text in prop::collection::vec(snippet(), 0..60),
        piece in prop::sample::select(vec![1_usize, 100, 333, 1000, 4000]),
        overlap in prop::sample::select(vec![0_usize, 7, 90, 200, 500]),
    ) {
        let text = text.concat();
        for (name, tokenizer) in &*TOKENIZERS {
            let found = by_pieces(tokenizer, &text, piece, overlap);
            prop_assert_eq!(found, whole(tokenizer, &text), "{}", name);
        }
    }
}

#[test]
fn a_run_of_one_letter_is_one_piece_at_worst() {
    for letter in ["a", " ", "\n", "é", "🙂", "ab", "<|story|>"] {
        for lead in ["", "x", "xy", "xyz"] {
            let text = format!("{lead}{}", letter.repeat(3000));
            for (name, tokenizer) in &*TOKENIZERS {
                let found = by_pieces(tokenizer, &text, 101, 50);
                assert_eq!(found, whole(tokenizer, &text), "{name} {letter} {lead}");
            }
        }
    }
}

#[test]
fn what_swallows_or_reorders_a_long_run_before_it_is_seen() {
    // A token that takes all spaces on its left, and a mark that belongs before all others.
    let ends = [
        (" ", "<|story|> and on."),
        ("\n", "<|story|>"),
        ("\u{301}", "\u{316}a word"),
    ];
    for (run, end) in ends {
        let text = format!("Once upon a time there was {}{end}", run.repeat(5000));
        for (name, tokenizer) in &*TOKENIZERS {
            for (piece, overlap) in [(100, 90), (1000, 300)] {
                let found = by_pieces(tokenizer, &text, piece, overlap);
                assert_eq!(found, whole(tokenizer, &text), "{name} {run:?}");
            }
        }
    }
}

#[test]
fn a_shared_word_of_other_lengths_is_not_taken_for_an_agreement() {
    // Every piece splits a long number otherwise, unless it begins where the number's triples do.
    let text = format!("so {} it was", "1234567890".repeat(500));
    for (name, tokenizer) in &*TOKENIZERS {
        for piece in 200..230 {
            let found = by_pieces(tokenizer, &text, piece, 100);
            assert_eq!(found, whole(tokenizer, &text), "{name} {piece}");
        }
    }
}

#[test]
fn no_more_is_tokenised_than_is_asked_for() {
    let text = fs::read_to_string(top("models/tiny/sample.txt"))
        .unwrap()
        .repeat(20);
    let (name, tokenizer) = &TOKENIZERS[0];
    let division = Division {
        piece: 10_000,
        overlap: 1000,
    };
    let mut tokens = Tokens::of(tokenizer, &text, division);
    let first: Vec<u32> = tokens.by_ref().take(100).map(Result::unwrap).collect();
    assert_eq!(first, whole(tokenizer, &text[..2000])[..100], "{name}");
    let reached = tokens.after.as_ref().map(|(piece, _)| piece.end);
    assert!(reached.is_some_and(|end| end < 30_000), "{reached:?}");
    // And what is left is never more than a few pieces.
    while tokens.next().is_some() {
        let after = tokens
            .after
            .as_ref()
            .map_or(0, |(piece, _)| piece.end - piece.start);
        assert!(after <= 11_010 && tokens.piece.end - tokens.piece.start <= 11_010);
    }
}

#[test]
#[ignore = "needs ../shared, and SmolLM2 where COMPRESS_SMOLLM2 says"]
fn pieces_of_real_texts_give_the_tokens_of_the_whole() {
    let shared = top("../shared");
    let models = ["models/stories15m", "models/stories260k"].map(|name| shared.join(name));
    let smollm2 = env::var_os("COMPRESS_SMOLLM2").map(PathBuf::from);
    for model in models.into_iter().chain(smollm2) {
        let tokenizer = Checkpoint::open(&model).unwrap().tokenizer().unwrap();
        for text in [
            "wikitext2_raw_test.txt",
            "c4_like_web.txt",
            "tinystories_valid_docs.txt",
        ] {
            let text = fs::read_to_string(shared.join("text").join(text)).unwrap();
            let whole = whole(&tokenizer, &text);
            for (piece, overlap) in [(1000, 400), (50_000, 4096), (1 << 18, 1 << 12)] {
                assert_eq!(by_pieces(&tokenizer, &text, piece, overlap), whole);
            }
        }
    }
}
