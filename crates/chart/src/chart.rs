//! A chart: axes, lines with their points, a level to compare with, the frontier, and a legend.

use crate::{
    axis::{Axis, Mapping, label},
    legend::Legend,
    look::{INK, Look},
    svg::{Anchor, Svg, escaped},
};

/// A line, and the points on it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
    /// How it looks.
    pub look: Look,
}

impl Line {
    /// A line with its name and points.
    #[must_use]
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>, look: Look) -> Self {
        let name = name.into();
        Self { name, points, look }
    }
}

/// A second axis above the plot, whose numbers are those below times a slope, and some.
#[derive(Clone, Debug)]
pub struct TopAxis {
    /// Its name and unit.
    pub label: String,
    /// Its number at 0.
    pub offset: f64,
    /// By how much it grows where the axis below grows by 1.
    pub slope: f64,
}

/// The pixels of a plot, axes and legend not counted.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Of the whole chart.
    pub width: f64,
    /// Of the plot alone.
    pub height: f64,
}

/// All that is to be drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The axis below.
    pub x: Axis,
    /// The axis to the left.
    pub y: Axis,
    /// The axis above, where there is a second unit.
    pub top: Option<TopAxis>,
    /// The lines, in the order of the legend.
    pub lines: Vec<Line>,
    /// A level to compare with, and its name.
    pub level: Option<(String, f64)>,
    /// The largest number to the left; lines leave the plot above it, so that far points do not press the others together.
    pub most: Option<f64>,
    /// A number to the left that is seen whatever the lines are, for charts beside each other.
    pub least: Option<f64>,
    /// Points that no other beats in both directions; see [`frontier`].
    pub frontier: Vec<(f64, f64)>,
    /// A title above, where one is wanted.
    pub title: Option<String>,
    /// How large it is.
    pub size: Size,
}

/// The points that no other beats in both directions, from left to right: less is better in both.
#[must_use]
pub fn frontier(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = points.into_iter().collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut least = f64::INFINITY;
    points.retain(|point| {
        let better = point.1 < least;
        least = least.min(point.1);
        better
    });
    points
}

/// Where numbers lie in the picture.
struct Plot {
    x: Mapping,
    y: Mapping,
    /// The edges, in pixels.
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Chart {
    /// A chart without lines, 640 pixels wide.
    #[must_use]
    pub const fn new(x: Axis, y: Axis) -> Self {
        Self {
            x,
            y,
            top: None,
            lines: Vec::new(),
            level: None,
            most: None,
            least: None,
            frontier: Vec::new(),
            title: None,
            size: Size {
                width: 640.0,
                height: 330.0,
            },
        }
    }

    /// The chart as a file of its own.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = Svg::default();
        let height = self.draw(&mut svg, (0.0, 0.0));
        svg.finish((self.size.width, height))
    }

    /// Draws the chart with its upper left corner somewhere, and tells how high it became.
    pub fn draw(&self, svg: &mut Svg, (left, top): (f64, f64)) -> f64 {
        let plot = self.plot((left, top));
        if let Some(title) = &self.title {
            let middle = f64::midpoint(plot.left, plot.right);
            svg.text((middle, top + 14.0), Anchor::Middle, INK, title);
        }
        self.draw_axes(svg, &plot);
        self.draw_lines(svg, &plot);
        // Names that are all empty are those of lines that need none.
        let named = self.lines.iter().any(|line| !line.name.is_empty());
        let legend = Legend::new(
            if named { &self.lines } else { &[] },
            self.size.width - 30.0,
        );
        let below = plot.bottom + if self.x.label.is_empty() { 22.0 } else { 46.0 };
        legend.draw(svg, (left + 20.0, below), self.size.width - 30.0);
        below + legend.height() + 8.0 - top
    }

    /// Finds where numbers lie.
    fn plot(&self, (left, top): (f64, f64)) -> Plot {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let over = if self.top.is_some() { 44.0 } else { 10.0 };
        let over = over + self.title.as_ref().map_or(0.0, |_| 14.0);
        let (right, y0) = (left + self.size.width - 14.0, top + over);
        let x0 = left + if self.y.label.is_empty() { 44.0 } else { 62.0 };
        let y1 = y0 + self.size.height;
        let level = self.level.iter().map(|(_, level)| *level);
        // Below the level is room for its name.
        let room = if self.level.is_some() { 14.0 } else { 0.0 };
        let most = self.most.unwrap_or(f64::INFINITY);
        let ys = points()
            .map(|point| point.1.min(most))
            .chain(level)
            .chain(self.least);
        Plot {
            x: Mapping::new(self.x.scale, points().map(|point| point.0), (x0, right)),
            y: Mapping::new(self.y.scale, ys, (y1 - room, y0)),
            left: x0,
            right,
            top: y0,
            bottom: y1,
        }
    }

    /// Axes, their round numbers, and their names.
    fn draw_axes(&self, svg: &mut Svg, plot: &Plot) {
        let &Plot {
            left,
            right,
            top,
            bottom,
            ..
        } = plot;
        let wide = ((right - left) / 55.0) as usize;
        for tick in plot.x.ticks(wide.min(9)) {
            let x = plot.x.at(tick);
            svg.rule((x, top), (x, bottom), true);
            svg.text((x, bottom + 16.0), Anchor::Middle, INK, &label(tick));
            if let Some(axis) = &self.top {
                let number = format!("{:.1}", axis.offset + axis.slope * tick);
                svg.text((x, top - 7.0), Anchor::Middle, INK, &number);
            }
        }
        for tick in plot.y.ticks(9) {
            let y = plot.y.at(tick);
            svg.rule((left, y), (right, y), true);
            svg.text((left - 7.0, y + 4.0), Anchor::End, INK, &label(tick));
        }
        svg.rule((left, bottom), (right, bottom), false);
        svg.rule((left, top), (left, bottom), false);
        let middle = f64::midpoint(left, right);
        if let Some(axis) = &self.top {
            svg.rule((left, top), (right, top), false);
            svg.text((middle, top - 26.0), Anchor::Middle, INK, &axis.label);
        }
        svg.text((middle, bottom + 36.0), Anchor::Middle, INK, &self.x.label);
        svg.upright((left - 48.0, f64::midpoint(top, bottom)), &self.y.label);
    }

    /// The frontier, the level and the lines, in this order: what is measured lies above what explains it. An image
    /// within the image, since nothing leaves that.
    fn draw_lines(&self, svg: &mut Svg, plot: &Plot) {
        let at = |&(x, y): &(f64, f64)| (plot.x.at(x), plot.y.at(y));
        svg.begin((plot.left, plot.top), (plot.right, plot.bottom));
        if !self.frontier.is_empty() {
            svg.push(&Look::BROAD.stroke(&self.frontier.iter().map(at).collect::<Vec<_>>()));
        }
        if let Some((name, level)) = &self.level {
            let y = plot.y.at(*level);
            svg.push(&Look::LEVEL.stroke(&[(plot.left, y), (plot.right, y)]));
            svg.text((plot.left + 6.0, y + 14.0), Anchor::Start, INK, name);
        }
        for line in &self.lines {
            let pixels: Vec<(f64, f64)> = line.points.iter().map(at).collect();
            svg.push(&line.look.stroke(&pixels));
            if line.look.marker.is_none() {
                continue;
            }
            for (point, place) in line.points.iter().zip(pixels) {
                let what = format!("{}: {:.4}, {:.4}", line.name, point.0, point.1);
                let what = format!("<title>{}</title>", escaped(&what));
                svg.push(&line.look.mark(place, &what));
            }
        }
        svg.push("</svg>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;

    #[test]
    fn the_frontier_has_the_points_that_no_other_beats() {
        let points = [(4.0, 5.0), (3.0, 9.0), (5.0, 5.0), (6.0, 4.0), (3.0, 10.0)];
        assert_eq!(frontier(points), [(3.0, 9.0), (4.0, 5.0), (6.0, 4.0)]);
    }

    #[test]
    fn names_are_escaped_and_no_point_leaves_the_plot() {
        let axes = [Axis::new("x", Scale::Log2), Axis::new("y", Scale::Log)];
        let [x, y] = axes;
        let mut chart = Chart::new(x, y);
        let points = vec![(2.5, 2000.0), (4.5, 4.2), (28.8, 4.6)];
        chart
            .lines
            .push(Line::new("a < b & c", points.clone(), Look::marked(0, 0)));
        chart.level = Some(("original".into(), 4.05));
        let plot = chart.plot((0.0, 0.0));
        for (x, y) in points {
            assert!((plot.left..=plot.right).contains(&plot.x.at(x)));
            assert!((plot.top..=plot.bottom).contains(&plot.y.at(y)));
        }
        assert!(chart.svg().contains("a &lt; b &amp; c"));
    }
}
