//! Any bytes as a `config.json` are a network or an error, and its rotary embedding frequencies or an error.

#![no_main]

use compress_checkpoint::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    let Ok(config) = Config::parse(json, "config.json".as_ref()) else { return };
    let _ = config.rope();
    assert!(config.heads % config.key_value_heads == 0 && config.head_size % 2 == 0);
});
