//! Names that may be trusted, whoever gives them.

/// Whether `name` joined to a directory stays inside it.
pub fn is_safe(name: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    let special = |c: char| c.is_control() || cfg!(windows) && matches!(c, '\\' | ':');
    name.split('/').all(part) && !name.contains(special)
}

/// Whether `text` is a file name of letters, digits, `-` and `_`, as a commit and an `ETag` are.
pub fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
