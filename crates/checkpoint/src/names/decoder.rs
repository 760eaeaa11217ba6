//! Names of a decoder that was saved by itself, without a head.

use std::collections::BTreeMap;

/// The tensors of a decoder that was saved by itself, by the names that they have in a model with a head: `layers.…`
/// becomes `model.layers.…`. Those of a whole model stay as they are.
#[must_use]
pub fn of_decoder<T>(tensors: BTreeMap<String, T>) -> BTreeMap<String, T> {
    const PREFIX: &str = "model.";
    if tensors.keys().any(|name| name.starts_with(PREFIX)) {
        return tensors;
    }
    let is_own = |name: &str| {
        ["embed_tokens.", "layers.", "norm.", "dictionaries."]
            .iter()
            .any(|part| name.starts_with(part))
    };
    let tensors = tensors.into_iter();
    tensors
        .map(|(name, tensor)| {
            if is_own(&name) {
                (format!("{PREFIX}{name}"), tensor)
            } else {
                (name, tensor)
            }
        })
        .collect()
}
