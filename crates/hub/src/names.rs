//! Checks of names from the hub before they become paths.

/// Whether `name`, joined to a directory, stays inside it: relative, without `.`, `..`, empty
/// components and control characters; on Windows also without `\` and `:`.
pub fn is_safe(name: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    let special = |c: char| c.is_control() || cfg!(windows) && matches!(c, '\\' | ':');
    name.split('/').all(part) && !name.contains(special)
}

/// Whether `text` is 1 to 128 letters, digits, `-` or `_`, as commits and `ETag`s are: one path
/// component that is never special.
pub fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
