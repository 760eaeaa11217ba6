//! Tokenizers rebuilt from metadata encode as the original ones do.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use compress_gguf::{Error, Gguf, tokenizer};
use serde_json::Value;
use support::{Header, fixture};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// A byte-level vocabulary with a merge, a control token and a user-defined one.
fn byte_level(pre: &str) -> Header {
    Header::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts(
            "tokenizer.ggml.tokens",
            &[
                "<s>", "1", "2", "12", "a", "<u>", "aa", "1222", "Ã©", "Ã", "©",
            ],
        )
        .wholes(
            "tokenizer.ggml.token_type",
            &[3, 1, 1, 1, 1, 4, 1, 1, 1, 1, 1],
        )
        .texts("tokenizer.ggml.merges", &["1 2", "Ã ©"])
        .whole("tokenizer.ggml.bos_token_id", 0)
}

/// A vocabulary with scores.
fn sentence_piece() -> Header {
    let tokens = [
        "<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "▁", "a", "b", "▁a", "ab", "▁ab",
    ];
    Header::default()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .numbers(
            "tokenizer.ggml.scores",
            &[0.0, 0.0, 0.0, 0.0, 0.0, -5.0, -6.0, -7.0, -2.0, -1.0, -3.0],
        )
        .wholes(
            "tokenizer.ggml.token_type",
            &[2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1],
        )
        .whole("tokenizer.ggml.bos_token_id", 1)
        .whole("tokenizer.ggml.eos_token_id", 2)
        .whole("tokenizer.ggml.unknown_token_id", 0)
}

fn ids(header: &Header, text: &str) -> Vec<u32> {
    let tokenizer = tokenizer(&header.parse().unwrap()).unwrap();
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

fn refusal(header: &Header) -> Error {
    tokenizer(&header.parse().unwrap()).unwrap_err()
}

#[test]
fn the_fixture_s_texts_have_the_ids_that_transformers_gives_and_decode_back() {
    let gguf = Gguf::parse(&fixture("llama.gguf")).unwrap();
    let tokenizer = tokenizer(&gguf).unwrap();
    let expected: Vec<serde_json::Value> =
        serde_json::from_slice(&fixture("llama.tokens.json")).unwrap();
    for row in expected {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text, true).unwrap().get_ids(), ids);
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
}

#[test]
fn a_pre_tokenizer_decides_what_merges_may_cross() {
    assert_eq!(
        ids(&byte_level("smollm"), "12"),
        [1, 2],
        "every digit alone"
    );
    assert_eq!(ids(&byte_level("qwen2"), "12"), [1, 2], "every digit alone");
    assert_eq!(
        ids(&byte_level("gpt-2"), "1222"),
        [3, 2, 2],
        "numbers whole, by merges only"
    );
    assert_eq!(ids(&byte_level("default"), "1222"), [3, 2, 2]);
    assert_eq!(
        ids(&byte_level("llama-bpe"), "1222"),
        [0, 3, 2, 2],
        "at most three digits, and BOS by default"
    );
    assert_eq!(
        ids(&byte_level("llama3"), "aa"),
        [0, 6],
        "a word that is a token needs no merges"
    );
    assert_eq!(
        ids(&byte_level("qwen2"), "e\u{301}a"),
        [8, 4],
        "composed first"
    );
}

#[test]
fn words_are_those_of_the_library_that_the_models_were_made_with() {
    let expected: Value = serde_json::from_slice(&fixture("words.json")).unwrap();
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    for (name, words) in expected["words"].as_object().unwrap() {
        let tokenizer = tokenizer(&byte_level(name).parse().unwrap()).unwrap();
        let split = tokenizer.get_pre_tokenizer().unwrap();
        for (text, words) in texts.iter().zip(words.as_array().unwrap()) {
            let mut pieces = PreTokenizedString::from(text.as_str());
            split.pre_tokenize(&mut pieces).unwrap();
            let found: Vec<_> = pieces
                .get_splits(OffsetReferential::Original, OffsetType::Byte)
                .into_iter()
                .map(|(_, (start, end), _)| &text[start..end])
                .filter(|word| !word.is_empty())
                .collect();
            assert_eq!(words, &Value::from(found), "{name}: {text:?}");
        }
    }
}

#[test]
fn every_known_name_gives_a_tokenizer() {
    let known = refusal(&byte_level("?")).to_string();
    let (_, list) = known.split_once('(').unwrap();
    let names: Vec<_> = list.trim_end_matches(" are)").split(", ").collect();
    assert!(names.len() >= 40, "{names:?}");
    for name in names {
        let ids = ids(&byte_level(name), "12");
        assert!(ids.ends_with(&[1, 2]) || ids.ends_with(&[3]), "{name}");
    }
}

#[test]
fn a_guessed_pre_tokenizer_is_told() {
    let warnings = |header: &Header| {
        let header = header.clone().text("general.architecture", "llama");
        header.parse().unwrap().warnings().unwrap()
    };
    let without = Header::default()
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", &["1", "2", "12"])
        .texts("tokenizer.ggml.merges", &["1 2"]);
    assert_eq!(ids(&without, "12"), [2]);
    let told = warnings(&without);
    assert!(
        matches!(&told[..], [one] if one.contains("tokenizer.ggml.pre is missing") && one.contains("GPT-2")),
        "{told:?}"
    );
    assert_eq!(warnings(&byte_level("default")).len(), 1);
    assert!(warnings(&byte_level("gpt-2")).is_empty());
    assert!(warnings(&sentence_piece()).is_empty());
}

#[test]
fn marked_tokens_are_found_in_text_and_only_control_ones_are_special() {
    let tokenizer = tokenizer(&byte_level("gpt-2").parse().unwrap()).unwrap();
    let ids = tokenizer
        .encode("a<s>a<u>a", true)
        .unwrap()
        .get_ids()
        .to_vec();
    assert_eq!(ids, [4, 0, 4, 5, 4]);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "aa<u>a");
}

#[test]
fn the_file_s_flags_decide_about_bos_and_eos() {
    let flags = |bos, eos| {
        sentence_piece()
            .truth("tokenizer.ggml.add_bos_token", bos)
            .truth("tokenizer.ggml.add_eos_token", eos)
    };
    assert_eq!(ids(&sentence_piece(), "a"), [1, 8], "BOS by default");
    assert_eq!(ids(&flags(false, false), "a"), [8]);
    assert_eq!(ids(&flags(true, true), "a"), [1, 8, 2]);
    let bare = tokenizer(&flags(true, true).parse().unwrap()).unwrap();
    assert_eq!(
        bare.encode("a", false).unwrap().get_ids(),
        [8],
        "and never without special tokens"
    );
}

#[test]
fn scores_order_the_merges_and_bytes_catch_the_rest() {
    let tokenizer = tokenizer(&sentence_piece().parse().unwrap()).unwrap();
    let ids = tokenizer.encode("ab aé", false).unwrap().get_ids().to_vec();
    assert_eq!(ids, [10, 8, 3, 4], "a+b first, then ▁+ab");
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "ab aé");
    assert_eq!(
        tokenizer.encode("?", false).unwrap().get_ids(),
        [5, 0],
        "unknown where no byte token is"
    );
}

#[test]
fn a_file_may_do_without_the_space_before_the_text() {
    let header = sentence_piece().truth("tokenizer.ggml.add_space_prefix", false);
    assert_eq!(ids(&header, "ab a"), [1, 9, 8]);
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    let pre = refusal(&byte_level("poro-chat")).to_string();
    assert!(
        pre.starts_with("tokenizer.ggml.pre \"poro-chat\" is not known (default, gpt-2, phi-2"),
        "{pre}"
    );
    let model = Header::default()
        .text("tokenizer.ggml.model", "bert")
        .texts("tokenizer.ggml.tokens", &[]);
    assert_eq!(
        refusal(&model).to_string(),
        "tokenizer.ggml.model \"bert\" is not known (gpt2, llama are)"
    );
}

#[test]
fn malformed_vocabularies_are_refused() {
    assert!(matches!(
        refusal(&Header::default()),
        Error::MissingKey { .. }
    ));
    let tokens = |model| {
        Header::default()
            .text("tokenizer.ggml.model", model)
            .texts("tokenizer.ggml.tokens", &["a"])
    };
    assert!(
        matches!(refusal(&tokens("llama")), Error::MissingKey { key } if key == "tokenizer.ggml.scores")
    );
    assert!(
        matches!(refusal(&tokens("gpt2")), Error::MissingKey { key } if key == "tokenizer.ggml.merges")
    );
    let short = tokens("llama").numbers("tokenizer.ggml.scores", &[]);
    assert!(matches!(
        refusal(&short),
        Error::Vocabulary {
            key: "tokenizer.ggml.scores",
            tokens: 1
        }
    ));
    let types = tokens("gpt2").wholes("tokenizer.ggml.token_type", &[1, 1]);
    assert!(matches!(
        refusal(&types),
        Error::Vocabulary {
            key: "tokenizer.ggml.token_type",
            tokens: 1
        }
    ));
    for outside in ["aa", "a a", "a b", "b a", " a", ""] {
        let merge = tokens("gpt2").texts("tokenizer.ggml.merges", &[outside]);
        assert!(matches!(refusal(&merge), Error::Merge { merge } if merge == outside));
    }
    let bos = tokens("gpt2")
        .texts("tokenizer.ggml.merges", &[])
        .truth("tokenizer.ggml.add_bos_token", true);
    assert!(
        matches!(refusal(&bos), Error::MissingKey { key } if key == "tokenizer.ggml.bos_token_id")
    );
    assert!(matches!(
        refusal(&bos.whole("tokenizer.ggml.bos_token_id", 1)),
        Error::Vocabulary {
            key: "tokenizer.ggml.bos_token_id",
            ..
        }
    ));
}
