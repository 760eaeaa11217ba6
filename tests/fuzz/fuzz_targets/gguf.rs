//! Any bytes are a GGUF file or an error, down to the config, the tokenizer and every tensor's numbers.

#![no_main]

use compress_gguf::{Gguf, huggingface, tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::parse(bytes) else { return };
    let _ = huggingface::config(&gguf);
    let _ = tokenizer(&gguf);
    let _ = gguf.warnings();
    let _ = Gguf::join(vec![gguf.clone(), gguf.clone()]);
    for name in gguf.tensors().keys() {
        let _ = huggingface::tensor_name(name);
        let _ = huggingface::values(&gguf, bytes, name);
    }
});
