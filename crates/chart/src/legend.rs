//! The legend: below the plot, in as many columns as the names leave room for.

use crate::{
    chart::Line,
    look::INK,
    svg::{Anchor, Svg},
};

/// Pixels between rows.
const ROW: f64 = 18.0;

/// Pixels of a sample of a line, with the gap behind it.
const SAMPLE: (f64, f64) = (30.0, 7.0);

/// The names of lines, laid out.
pub(crate) struct Legend<'a> {
    lines: &'a [Line],
    columns: usize,
}

impl<'a> Legend<'a> {
    /// Lays out the names within a width. A single line needs none where it has no name.
    pub fn new(lines: &'a [Line], width: f64) -> Self {
        let widest = lines.iter().map(|line| line.name.chars().count()).max();
        // A letter of a sans-serif font is about half as wide as it is high.
        let column = SAMPLE.0 + 2.0 * SAMPLE.1 + 6.6 * widest.unwrap_or(0) as f64;
        let columns = ((width / column) as usize).clamp(1, 4);
        Self { lines, columns }
    }

    /// Its rows.
    fn rows(&self) -> usize {
        self.lines.len().div_ceil(self.columns)
    }

    /// How many pixels it takes.
    pub fn height(&self) -> f64 {
        ROW * self.rows() as f64
    }

    /// Draws it, column after column, so that neighbours in the list stand below each other.
    pub fn draw(&self, svg: &mut Svg, (left, top): (f64, f64), width: f64) {
        let rows = self.rows().max(1);
        for (index, line) in self.lines.iter().enumerate() {
            let x = left + (index / rows) as f64 * width / self.columns as f64;
            let y = top + ROW * ((index % rows) as f64 + 0.5);
            svg.push(&line.look.stroke(&[(x, y), (x + SAMPLE.0, y)]));
            svg.push(&line.look.mark((x + SAMPLE.0 / 2.0, y), ""));
            let place = (x + SAMPLE.0 + SAMPLE.1, y + 4.0);
            svg.text(place, Anchor::Start, INK, &line.name);
        }
    }
}
