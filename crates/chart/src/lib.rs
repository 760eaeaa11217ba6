//! Line charts as SVG, to be read at a width of 600 pixels, on a light page and on a dark one.
//!
//! Nothing is drawn behind them: text and axes have a grey that stands out from white and from black alike. The legend
//! stands below the plot, so that it covers no point. The same chart is the same text on every machine.
//!
//! ```
//! use compress_chart::{Axis, Chart, Line, Look, Scale};
//!
//! let mut chart = Chart::new(Axis::new("bits", Scale::Linear), Axis::new("perplexity", Scale::Log));
//! chart.lines.push(Line::new("svd", vec![(4.0, 20.0), (8.0, 10.0)], Look::marked(0, 0)));
//! assert!(chart.svg().starts_with("<svg"));
//! ```

mod axis;
mod chart;
mod legend;
mod look;
mod svg;

pub use axis::{Axis, Scale};
pub use chart::{Chart, Line, Size, TopAxis, frontier};
pub use look::{COLOURS, INK, Look};
pub use svg::{Anchor, Svg};
