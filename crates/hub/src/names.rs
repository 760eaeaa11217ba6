//! Checks of names from the hub before they become paths.

/// Whether `name`, joined to a directory, stays inside it: relative, without `.`, `..`, empty
/// components and control characters; on Windows also without `\` and `:`.
pub fn is_safe(name: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    let special = |c: char| c.is_control() || cfg!(windows) && matches!(c, '\\' | ':');
    name.split('/').all(part) && !name.contains(special)
}

/// Every file of the GGUF model that `file` is one of, as `NAME-00002-of-00003.gguf` is of three; itself
/// where its name says nothing of others.
pub fn parts(file: &str) -> Vec<String> {
    // More than any model has; a name must not make up thousands of requests.
    const MOST: usize = 999;
    let number = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
    let split = || {
        let (rest, count) = file.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (name, part) = rest.rsplit_once('-')?;
        let (part, count): (usize, usize) = (number(part)?, number(count)?);
        let is_one = (1..=count).contains(&part) && count <= MOST;
        is_one.then_some((name, count))
    };
    split().map_or_else(
        || vec![file.to_owned()],
        |(name, count)| {
            let all = 1..=count;
            all.map(|part| format!("{name}-{part:05}-of-{count:05}.gguf"))
                .collect()
        },
    )
}

/// Whether `text` is 1 to 128 letters, digits, `-` or `_`, as commits and `ETag`s are: one path
/// component that is never special.
pub fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_part_tells_of_the_others() {
        let all = ["q4/x-00001-of-00002.gguf", "q4/x-00002-of-00002.gguf"];
        assert_eq!(parts(all[0]), all);
        assert_eq!(parts(all[1]), all);
        for whole in [
            "x.gguf",
            "x-1-of-2.gguf",
            "x-00003-of-00002.gguf",
            "x-00001-of-99999.gguf",
            "x-00001-of-00002.bin",
        ] {
            assert_eq!(parts(whole), [whole]);
        }
    }
}
