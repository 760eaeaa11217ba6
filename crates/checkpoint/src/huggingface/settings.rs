//! Settings that other programs write into a model's files, and the rule for those that are not
//! known.
//!
//! Some are read, some only tell how the model was made, and any other that is switched on could
//! change the computation: it is refused by name.

use serde_json::{Map, Value};

/// Whether a value means that a feature is off: null, false, or empty. A number never does, since 0
/// can be a setting.
pub fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Refuses, in words, a setting that is on and in neither list of `known`: the names that are read,
/// and the names without effect.
pub fn only_known(settings: &Map<String, Value>, known: [&[&str]; 2]) -> Result<(), String> {
    let is_known = |name: &str| known.iter().any(|names| names.contains(&name));
    let mut others = settings.iter().filter(|(name, _)| !is_known(name));
    // The first that is on: one name is enough to act on.
    match others.find(|(_, value)| !is_off(value)) {
        None => Ok(()),
        Some((name, value)) => Err(format!(
            "has `{name}`: {}, which would change what the model computes, and is not supported",
            shortened(&value.to_string())
        )),
    }
}

/// The first 60 characters of a value, for messages.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    // By characters, as a cut within one would not be UTF-8.
    let start: String = text.chars().take(MOST).collect();
    if start.len() < text.len() {
        start + "…"
    } else {
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_on_and_not_known_is_refused_by_name() {
        let check = |value: Value| only_known(value.as_object().unwrap(), [&["read"], &["free"]]);
        let off =
            json!({ "read": 1, "free": "any", "a": null, "b": false, "c": {}, "d": [], "e": "" });
        assert_eq!(check(off), Ok(()));
        for on in [
            json!(true),
            json!(0),
            json!("x"),
            json!([0]),
            json!({ "x": null }),
        ] {
            let refused = check(json!({ "strange": on })).unwrap_err();
            assert!(refused.contains("`strange`"), "{refused}");
        }
    }
}
