//! Any bytes are a safetensors file or an error, and every tensor of it can be reached.

#![no_main]

use compress_checkpoint::parse_header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for tensor in parse_header(bytes).into_iter().flat_map(|tensors| tensors.into_values()) {
        assert!(tensor.bytes() <= bytes.len());
    }
});
