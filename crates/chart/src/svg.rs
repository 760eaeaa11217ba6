//! The few shapes of SVG that are used.

use std::fmt::Write as _;

use crate::look::INK;

/// A drawing, as it grows.
#[derive(Debug, Default)]
pub struct Svg {
    body: String,
}

/// Which part of a text lies at its point.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// Its begin.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

impl Svg {
    /// Adds an element as it is.
    pub(crate) fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// Begins a part that nothing leaves, from one corner to the other; `</svg>` ends it.
    pub(crate) fn begin(&mut self, (left, top): (f64, f64), (right, bottom): (f64, f64)) {
        let (width, height) = (right - left, bottom - top);
        self.push(&format!(
            "<svg x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             viewBox=\"{left:.1} {top:.1} {width:.1} {height:.1}\">"
        ));
    }

    /// A straight line of `width` pixels, in the colour of text.
    pub(crate) fn rule(&mut self, from: (f64, f64), to: (f64, f64), faint: bool) {
        let opacity = if faint { "0.22" } else { "0.9" };
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{INK}\" stroke-opacity=\"{opacity}\"/>"
        ));
    }

    /// A filled rectangle: its upper left corner, its width and height.
    pub fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        self.push(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    /// A text on one line; its base line is at the point.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: &str, text: &str) {
        let anchor = anchor.name();
        self.push(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
            escaped(text)
        ));
    }

    /// A text that is read upwards, around the point.
    pub(crate) fn upright(&mut self, (x, y): (f64, f64), text: &str) {
        self.push(&format!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"{INK}\">{}</text>",
            escaped(text)
        ));
    }

    /// The whole file, for a drawing of so many pixels.
    #[must_use]
    pub fn finish(&self, (width, height): (f64, f64)) -> String {
        let mut file = String::new();
        // Writing to a text does not fail.
        let _ = writeln!(
            file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"12\">"
        );
        file + &self.body + "</svg>\n"
    }
}

impl Anchor {
    /// As SVG has it.
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A text without the signs that mean something to XML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
