//! A directory's tokenizer gives the ids that transformers gives, whatever files it is in, and refuses what it
//! cannot read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use compress_checkpoint::Checkpoint;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizers::Tokenizer;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// A small model without a tokenizer.
fn model(architecture: &str) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let network = fixtures().join("networks").join(architecture);
    for name in ["config.json", "model.safetensors"] {
        fs::copy(network.join(name), place.path().join(name)).unwrap();
    }
    place
}

fn open(place: &TempDir) -> Result<Tokenizer, String> {
    let model = Checkpoint::open(place.path()).unwrap();
    model.tokenizer().map_err(|e| e.to_string())
}

/// What is said of a model of one architecture with these files.
fn refusal(architecture: &str, files: &[(&str, &[u8])]) -> String {
    let place = model(architecture);
    for (name, contents) in files {
        fs::write(place.path().join(name), contents).unwrap();
    }
    open(&place).unwrap_err()
}

fn ids(tokenizer: &Tokenizer, text: &str, around: bool) -> Vec<u32> {
    tokenizer.encode(text, around).unwrap().get_ids().to_vec()
}

fn sentence_piece() -> Vec<u8> {
    fs::read(fixtures().join("tokenizers/bpe.model")).unwrap()
}

#[test]
fn every_kind_of_files_gives_the_ids_of_transformers() {
    let cases = fs::read(fixtures().join("tokenizers/cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let texts: Vec<String> = serde_json::from_value(cases["texts"].clone()).unwrap();
    for case in cases["cases"].as_array().unwrap() {
        let place = model(case["model_type"].as_str().unwrap());
        for (ours, name) in case["files"].as_object().unwrap() {
            let from = fixtures().join("tokenizers").join(ours);
            fs::copy(from, place.path().join(name.as_str().unwrap())).unwrap();
        }
        for (name, contents) in case["beside"].as_object().unwrap() {
            fs::write(place.path().join(name), contents.to_string()).unwrap();
        }
        let tokenizer = open(&place).unwrap();
        let of = format!("{} {}", case["files"], case["beside"]);
        for (at, text) in texts.iter().enumerate() {
            let found = ids(&tokenizer, text, false);
            assert_eq!(json!(found), case["ids"][at], "{of}: {text:?}");
            // The library writes these added tokens with a space since 0.23; transformers has 0.22.
            if text.contains("<new>") {
                continue;
            }
            let decoded = tokenizer.decode(&found, true).unwrap();
            assert_eq!(json!(decoded), case["decoded"][at], "{of}: {text:?}");
        }
        assert_eq!(
            json!(ids(&tokenizer, &texts[0], true)),
            case["around"],
            "{of}"
        );
    }
}

#[test]
fn a_damaged_sentence_piece_model_is_refused() {
    let whole = sentence_piece();
    // At every place, as the file has fields of all kinds: an error, or a model of fewer tokens.
    for end in (0..whole.len()).step_by(97) {
        let place = model("llama");
        fs::write(place.path().join("tokenizer.model"), &whole[..end]).unwrap();
        drop(open(&place));
    }
    let length_of_2_to_60 = [&[0x0a][..], &[0x80; 8], &[0x10]].concat();
    let twice = b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01a\x1a\x02\x20\x00";
    let not_a_number = b"\x0a\x08\x0a\x01a\x15\x00\x00\xc0\x7f";
    for (bytes, problem) in [
        (&whole[..whole.len() / 2], "ends inside"),
        (&length_of_2_to_60[..], "ends inside"),
        (&[0x08, 0xff][..], "ends inside"),
        (&[0xff; 16][..], "longer than 64 bits"),
        (&b"\x0a\x05\x0a\x03\xff\xff\xff"[..], "not UTF-8"),
        (&b""[..], "no tokens"),
        (&b"\x0a\x02\x0a\x00"[..], "a token is empty"),
        (&twice[..], "`a` is token 0 and token 1"),
        (&not_a_number[..], "not finite"),
    ] {
        let said = refusal("llama", &[("tokenizer.model", bytes)]);
        assert!(
            said.contains(problem) && said.contains("tokenizer.model"),
            "{said}"
        );
    }
}

/// A `SentencePiece` model with another normalizer: the last field of its kind counts.
fn normalized_by(fields: &[u8]) -> Vec<u8> {
    let length = u8::try_from(fields.len()).unwrap();
    [&sentence_piece()[..], &[0x1a, length], fields].concat()
}

#[test]
fn what_is_not_read_is_refused_with_the_command_that_converts_it() {
    let nfkc = normalized_by(b"\x0a\x04nfkc\x12\x01x");
    let strips = normalized_by(b"\x20\x01");
    let no_prefix = normalized_by(b"\x18\x00");
    let words = [&sentence_piece()[..], b"\x12\x02\x18\x03"].concat();
    let tiktoken = b"IQ== 0\nIg== 1\n".to_vec();
    for (bytes, problem) in [
        (nfkc, "(`nfkc`)"),
        (strips, "removes extra spaces"),
        (no_prefix, "no space before a text"),
        (words, "words or characters"),
        (tiktoken, "tiktoken"),
    ] {
        let said = refusal("llama", &[("tokenizer.model", &bytes)]);
        assert!(
            said.contains(problem) && said.contains("save_pretrained(\""),
            "{said}"
        );
    }
    let gemma = br#"{"tokenizer_class": "GemmaTokenizer"}"#;
    let files = [
        ("tokenizer.model", &sentence_piece()[..]),
        ("tokenizer_config.json", gemma),
    ];
    let said = refusal("llama", &files);
    assert!(
        said.contains("GemmaTokenizer") && said.contains("save_pretrained"),
        "{said}"
    );
    let said = refusal("llama", &[("vocab.json", b"{}")]);
    assert!(
        said.contains("LlamaTokenizer") && said.contains("save_pretrained"),
        "{said}"
    );
    let said = refusal("llama", &[]);
    assert!(
        said.contains("tokenizer.model") && said.contains("copy"),
        "{said}"
    );
}

#[test]
fn bad_vocabularies_of_qwen2_are_refused() {
    let merges = |text: &'static str| ("merges.txt", text.as_bytes());
    for (vocabulary, merges, problem) in [
        (r#"{"a": 0}"#, None, "merges.txt"),
        (r#"{"a": -1}"#, None, "no id"),
        (r#"{"a": 4294967296}"#, None, "no id"),
        (r#"{"a": 0, "b": 0}"#, None, "one id"),
        ("[]", None, "not tokens"),
        (r#"{"a": 0, "b": 1}"#, Some(merges("a b")), "a b"),
        (
            r#"{"a": 0, "b": 1, "ab": 2}"#,
            Some(merges("#version: 1\nab")),
            "ab",
        ),
    ] {
        let mut files = vec![("vocab.json", vocabulary.as_bytes())];
        files.extend(merges);
        let said = refusal("qwen2", &files);
        assert!(said.contains(problem), "{said}");
    }
}

#[test]
fn bad_added_tokens_are_refused() {
    let json = fs::read(fixtures().join("tokenizers/tokenizer.json")).unwrap();
    for (name, contents, problem) in [
        ("added_tokens.json", r#"{"<x>": -1}"#, "`<x>` is -1"),
        ("added_tokens.json", r#"{"<x>": 1.5}"#, "`<x>` is 1.5"),
        ("added_tokens.json", r#"{"<x>": 4294967296}"#, "4294967296"),
        (
            "added_tokens.json",
            r#"{"<x>": 7, "<y>": 7}"#,
            "`<x>` and `<y>` both have the id 7",
        ),
        ("added_tokens.json", "[]", "not a JSON object"),
        ("added_tokens.json", "{", "not valid JSON"),
        (
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": 1}"#,
            "added_tokens_decoder",
        ),
        (
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"-1": "a"}}"#,
            "`-1`",
        ),
        (
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"1": {}}}"#,
            "no token",
        ),
        (
            "tokenizer_config.json",
            r#"{"bos_token": 3}"#,
            "3 is no token",
        ),
        (
            "tokenizer_config.json",
            r#"{"bos_token": null}"#,
            "add_bos_token",
        ),
        (
            "tokenizer_config.json",
            r#"{"add_bos_token": 1}"#,
            "neither true nor false",
        ),
    ] {
        let files = [("tokenizer.json", &json[..]), (name, contents.as_bytes())];
        let said = refusal("llama", &files);
        assert!(said.contains(problem) && said.contains(name), "{said}");
    }
}
