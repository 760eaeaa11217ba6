//! Tables of text: of figures, as Markdown, and of words; fitted to the terminal.

use std::io::{self, IsTerminal as _};

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets,
};

/// Letters on a line where words go to no terminal.
const LINE: u16 = 120;

/// A Markdown table, since model cards have it as well; all columns but the first to the right.
pub fn plain<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A table of words: all to the left, with a line between rows, and no wider than the terminal; than 120 letters where
/// there is none.
pub fn worded<'a, const N: usize>(
    header: [&'a str; N],
    rows: impl IntoIterator<Item = [&'a str; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_NO_BORDERS);
    table.set_header(header).add_rows(rows);
    let width = terminal(&table).unwrap_or(LINE);
    fit(&mut table, width);
    // Without the spaces at the ends of lines.
    table.trim_fmt()
}

/// A table of figures as it is shown: on a terminal no wider than that, elsewhere as it is, to be copied.
pub fn fitted(mut table: Table) -> Table {
    if let Some(width) = terminal(&table) {
        fit(&mut table, width);
    }
    table
}

/// The width of the terminal, if results go to one.
fn terminal(table: &Table) -> Option<u16> {
    table.width().filter(|_| io::stdout().is_terminal())
}

/// Breaks cells between words where the table is too wide. Numbers keep their units; where that is not enough, lines
/// are left to the terminal.
fn fit(table: &mut Table, width: u16) {
    for index in 0..table.column_count() {
        let cells = table.column_cells_with_header_iter(index).flatten();
        let least = cells.map(unbroken).max().unwrap_or(0);
        if let Some(column) = table.column_mut(index)
            && !column.is_hidden()
        {
            let least = Width::Fixed(least + column.padding_width());
            column.set_constraint(ColumnConstraint::LowerBoundary(least));
        }
    }
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width);
}

/// The letters of a cell that stay on one line: those of its longest word, or all of a number's.
fn unbroken(cell: &Cell) -> u16 {
    let content = cell.content();
    let number = content.starts_with(|c: char| c.is_ascii_digit() || "×−-".contains(c));
    let longest = if number {
        content.chars().count()
    } else {
        let words = content.split_whitespace().map(|word| word.chars().count());
        words.max().unwrap_or(0)
    };
    longest as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_broken_to_the_width_and_numbers_are_not() {
        let mut table = plain(["what", "a long header of many words"]);
        table.add_row(["some words that take room", "1234567.8 MB"]);
        fit(&mut table, 30);
        assert!(table.to_string().contains("1234567.8 MB"));
        assert!(
            table.lines().all(|line| line.chars().count() <= 30),
            "{table}"
        );
    }

    #[test]
    fn a_table_that_fits_stays_as_it_is() {
        let mut table = plain(["a", "b"]);
        table.add_row(["words of text", "1 MB"]);
        let before = table.to_string();
        fit(&mut table, 100);
        assert_eq!(table.to_string(), before);
    }
}
