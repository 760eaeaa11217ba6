//! What the output's card keeps of the source's: licence and language, from the YAML on top of it.
//!
//! ```text
//! ---
//! license: other            a key at the margin, with its value
//! language:                 or with what is indented below it, or a list
//! - en
//! ---
//! ```
//!
//! The lines are taken as they are, without a parser of YAML. Values that may depend on other lines
//! are left out, and so are those that do not end, which would swallow what follows them.

use std::{fs::File, io::Read as _, path::Path};

use crate::{Error, Result};

/// The keys that hold for whatever is made of a model.
const KEPT: [&str; 4] = ["license", "license_name", "license_link", "language"];
/// Bytes in which the front matter must end; those of real models have a few hundred.
const MOST: u64 = 1 << 16;

/// The lines to keep of the `README.md` in a folder; empty where there is none.
pub fn kept(folder: &Path) -> Result<String> {
    let path = folder.join("README.md");
    if !path.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(Error::io(&path))?;
    file.take(MOST)
        .read_to_end(&mut bytes)
        .map_err(Error::io(&path))?;
    Ok(kept_of(&String::from_utf8_lossy(&bytes)))
}

/// The lines to keep of a card, each with its line end.
fn kept_of(card: &str) -> String {
    let mut lines = card
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim_end);
    if lines.next() != Some("---") {
        return String::new();
    }
    let lines: Vec<_> = lines.collect();
    // Without an end it is no front matter, but a rule above the text.
    let Some(end) = lines.iter().position(|line| *line == "---") else {
        return String::new();
    };
    let (mut kept, mut found) = (String::new(), Vec::new());
    let mut left = &lines[..end];
    while let Some((line, below)) = left.split_first() {
        left = below;
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        if !KEPT.contains(&key) || found.contains(&key) {
            continue;
        }
        let length = below.iter().take_while(|line| continues(line)).count();
        let entry = &below[..length];
        left = &below[length..];
        if stands_alone(value.trim(), entry) {
            found.push(key);
            for line in [&[*line], entry]
                .concat()
                .iter()
                .filter(|it| !it.is_empty())
            {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    kept
}

/// Whether a line belongs to the key above it: indented, empty, an item of a list or the end of one
/// in brackets.
fn continues(line: &str) -> bool {
    line.is_empty() || line == "-" || line.starts_with([' ', '\t', ']']) || line.starts_with("- ")
}

/// Whether a value, which begins behind its key and goes on in the lines below, is a word, a text in
/// quotes or a list of these. Anything else may refer to another place, or have no end.
fn stands_alone(value: &str, below: &[&str]) -> bool {
    let mut items = below
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    if value.starts_with('[') {
        let whole = items.fold(value.to_owned(), |whole, line| whole + " " + line);
        let count = |sign| whole.matches(sign).count();
        let known = |c: char| c.is_alphanumeric() || "[]-_., \"'".contains(c);
        count('[') == count(']')
            && whole.ends_with(']')
            && whole.chars().all(known)
            && ['"', '\''].iter().all(|&quote| count(quote) % 2 == 0)
    } else if value.is_empty() {
        let is_item = |line: &str| line.strip_prefix("- ").is_some_and(|it| is_word(it.trim()));
        items.peek().is_some() && items.all(is_item)
    } else {
        items.peek().is_none() && is_word(value)
    }
}

/// Whether a value is a plain word or text, or one in quotes.
fn is_word(value: &str) -> bool {
    match value.chars().next() {
        // Anchors and their uses, types, texts of several lines, lists and objects, comments.
        None | Some('&' | '*' | '!' | '|' | '>' | '[' | '{' | '#' | '%' | '@' | '`') => false,
        Some(quote @ ('"' | '\'')) => value.len() > 1 && value.ends_with(quote),
        _ => !value.contains(": "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_and_language_are_kept_as_they_are() {
        let card = "---\r\nlicense: other\nlicense_name: x-license  \nlicense_link: \"https://x.org/L\"\ntags:\n- a\nlanguage:\n- en\n  # and\n\n- de\nmodel-index:\n  - name: m\n    license: inner\n---\ntext\nlicense: mit\n";
        let expected = "license: other\nlicense_name: x-license\nlicense_link: \"https://x.org/L\"\nlanguage:\n- en\n  # and\n- de\n";
        assert_eq!(kept_of(card), expected);
        assert_eq!(
            kept_of("---\nlanguage: [\n  en,\n  de\n]\nx: 1\n---"),
            "language: [\n  en,\n  de\n]\n"
        );
    }

    #[test]
    fn what_is_no_front_matter_or_does_not_end_is_left_out() {
        for card in [
            "",
            "license: mit",
            "# Title\n---\nlicense: mit\n---",
            "---\nlicense: mit\n",
            "---\nlicense: mit # ---\n",
            "---\nlicense: \"mit\nx: 1\n---",
            "---\nlicense: [mit\nx: 1\n---",
            "---\nlicense: *x\n---",
            "---\nlanguage: [en, *x]\n---",
            "---\nlanguage:\n- *x\n---",
            "---\nlicense: mit\n- x\n---",
            "---\nlicense: |\n  mit\n---",
            "---\nlicense:\n---",
            "---\nlicenses: mit\n license: mit\n---",
        ] {
            assert_eq!(kept_of(card), "", "{card}");
        }
        assert_eq!(
            kept_of("---\nlicense: mit\nlicense: gpl\n---"),
            "license: mit\n"
        );
    }
}
