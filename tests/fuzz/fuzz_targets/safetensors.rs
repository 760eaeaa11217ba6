//! Any bytes are a safetensors file or an error, and every tensor of it can be reached; the same bytes
//! as a `config.json` are a network or an error.

#![no_main]

use compress_checkpoint::{Config, parse_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for tensor in parse_header(bytes).into_iter().flat_map(|tensors| tensors.into_values()) {
        assert!(tensor.bytes() <= bytes.len());
    }
    if let Ok(json) = serde_json::from_slice(bytes) {
        let _ = Config::parse(json, "config.json".as_ref());
    }
});
