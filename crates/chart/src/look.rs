//! What tells lines apart: colour, marker and dashes.

use std::borrow::Cow;

/// The width of a line, and how much of it is seen.
const PEN: (f64, f64) = (1.6, 1.0);

/// The colour of text, axes and whatever is no data: a grey that can be read on white and on black.
pub const INK: &str = "#7d8590";

/// Colours that most eyes tell apart, on white and on black.
pub const COLOURS: [&str; 8] = [
    "#2f81d7", "#d9622b", "#1a9e77", "#c368a6", "#c79100", "#8a6fd8", "#3fa6bd", "#a0522d",
];

/// Dashes of a line; the first has none.
const DASHES: [&str; 5] = ["", "7 3", "2 3", "9 3 2 3", "4 2"];

/// The corners of markers around a point; the first is a circle, which has none.
const CORNERS: [&[(f64, f64)]; 6] = [
    &[],
    &[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)],
    &[(0.0, -4.8), (4.6, 3.4), (-4.6, 3.4)],
    &[(0.0, -5.2), (5.2, 0.0), (0.0, 5.2), (-5.2, 0.0)],
    &[(0.0, 4.8), (4.6, -3.4), (-4.6, -3.4)],
    &[
        (-4.8, 0.0),
        (-2.4, -4.2),
        (2.4, -4.2),
        (4.8, 0.0),
        (2.4, 4.2),
        (-2.4, 4.2),
    ],
];

/// How a line looks.
#[derive(Clone, Debug)]
pub struct Look {
    /// Its colour, in CSS.
    pub colour: Cow<'static, str>,
    /// Whether points have a marker, and which.
    pub marker: Option<usize>,
    /// Its dashes; the first kind is none.
    pub dashes: usize,
    /// Its width in pixels, and how much of it is seen through.
    pub(crate) pen: (f64, f64),
}

impl Look {
    /// A broad band, for lines to lie on.
    pub(crate) const BROAD: Self = Self {
        colour: Cow::Borrowed(INK),
        marker: None,
        dashes: 0,
        pen: (9.0, 0.3),
    };

    /// A level to compare with.
    pub(crate) const LEVEL: Self = Self {
        dashes: 2,
        pen: PEN,
        ..Self::BROAD
    };

    /// A colour and a marker for `family`, dashes for the members of it.
    #[must_use]
    pub fn marked(family: usize, member: usize) -> Self {
        Self {
            marker: Some(family),
            dashes: member,
            ..Self::plain(family)
        }
    }

    /// A colour alone, for a line of many points.
    #[must_use]
    pub fn plain(index: usize) -> Self {
        Self {
            colour: Cow::Borrowed(COLOURS[index % COLOURS.len()]),
            marker: None,
            dashes: 0,
            pen: PEN,
        }
    }

    /// A line through pixels.
    pub(crate) fn stroke(&self, points: &[(f64, f64)]) -> String {
        let dashes = match DASHES[self.dashes % DASHES.len()] {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        };
        let (points, colour) = (corners(points.iter().copied()), &self.colour);
        let (width, opacity) = self.pen;
        format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
             stroke-opacity=\"{opacity}\" stroke-linejoin=\"round\"{dashes}/>"
        )
    }

    /// A marker at a pixel, which says `what` where it is pointed at.
    pub(crate) fn mark(&self, (x, y): (f64, f64), what: &str) -> String {
        let Some(marker) = self.marker else {
            return String::new();
        };
        let colour = &self.colour;
        match CORNERS[marker % CORNERS.len()] {
            [] => format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.8\" fill=\"{colour}\">{what}</circle>"
            ),
            shape => {
                let shape = corners(shape.iter().map(|(dx, dy)| (x + dx, y + dy)));
                format!("<polygon points=\"{shape}\" fill=\"{colour}\">{what}</polygon>")
            }
        }
    }
}

/// Points as SVG has them.
fn corners(points: impl Iterator<Item = (f64, f64)>) -> String {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    points.join(" ")
}
