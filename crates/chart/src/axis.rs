//! An axis: from numbers to pixels, and the round numbers that are written beside it.

/// How numbers lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences take equal room.
    Linear,
    /// Equal ratios take equal room; round numbers are 1, 2 and 5 times powers of ten.
    Log,
    /// The same with powers of two, as suits bits.
    Log2,
}

/// What an axis shows.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its name and unit.
    pub label: String,
    /// How numbers lie along it.
    pub scale: Scale,
}

impl Axis {
    /// An axis with its name and scale.
    #[must_use]
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        let label = label.into();
        Self { label, scale }
    }
}

/// Numbers on their way to pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    scale: Scale,
    /// The numbers that are seen, from the least to the largest.
    seen: (f64, f64),
    /// Where these two lie.
    pixels: (f64, f64),
}

impl Mapping {
    /// Puts all of `numbers` between two pixels, with some room at either end.
    pub fn new(scale: Scale, numbers: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let finite = numbers.filter(|x| x.is_finite() && (scale == Scale::Linear || *x > 0.0));
        let (least, most) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| {
            (a.min(x), b.max(x))
        });
        // Without a number there is still an axis.
        let (least, most) = if least > most {
            (1.0, 2.0)
        } else {
            (least, most)
        };
        let (low, high) = (forward(scale, least), forward(scale, most));
        // One number alone gets some room, too.
        let margin = 0.05 * (high - low).max(0.02 * high.abs()).max(1e-3);
        let seen = (
            backward(scale, low - margin),
            backward(scale, high + margin),
        );
        Self {
            scale,
            seen,
            pixels,
        }
    }

    /// The pixel of a number.
    pub fn at(&self, x: f64) -> f64 {
        let [low, high, x] = [self.seen.0, self.seen.1, x].map(|x| forward(self.scale, x));
        let (from, to) = self.pixels;
        from + (x - low) / (high - low) * (to - from)
    }

    /// Round numbers that are seen, at most `most` of them, as many as fit.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let within = |x: &f64| (self.seen.0..=self.seen.1).contains(x);
        let fits = |ticks: &Vec<f64>| (3..=most).contains(&ticks.len());
        let candidates = logarithmic(self.scale).into_iter().map(|ticks| {
            let ticks = ticks.into_iter().filter(within);
            ticks.collect::<Vec<f64>>()
        });
        // From the finest to the coarsest; a narrow range of ratios has equal steps.
        let mut candidates = candidates.filter(fits);
        candidates.next().unwrap_or_else(|| self.steps(most))
    }

    /// Equal steps of 1, 2 or 5 times a power of ten.
    fn steps(&self, most: usize) -> Vec<f64> {
        let (low, high) = self.seen;
        let powers = (-12..13).flat_map(|power| [1.0, 2.0, 5.0].map(|x| x * 10_f64.powi(power)));
        let fits = |step: &f64| (high / step).floor() - (low / step).ceil() < most as f64;
        let step = powers.into_iter().find(fits).unwrap_or(high - low);
        let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

/// A number's place along a scale.
fn forward(scale: Scale, x: f64) -> f64 {
    match scale {
        Scale::Linear => x,
        Scale::Log | Scale::Log2 => x.max(f64::MIN_POSITIVE).ln(),
    }
}

/// The number at a place.
fn backward(scale: Scale, place: f64) -> f64 {
    match scale {
        Scale::Linear => place,
        Scale::Log | Scale::Log2 => place.exp(),
    }
}

/// The round numbers of logarithmic scales, finest first; a linear one has none.
fn logarithmic(scale: Scale) -> Vec<Vec<f64>> {
    let (base, levels): (f64, &[&[f64]]) = match scale {
        Scale::Linear => return Vec::new(),
        Scale::Log => (
            10.0,
            &[
                &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
                &[1.0, 2.0, 5.0],
                &[1.0],
            ],
        ),
        Scale::Log2 => (2.0, &[&[1.0, 1.25, 1.5, 1.75], &[1.0, 1.5], &[1.0]]),
    };
    let all = |level: &&[f64]| {
        let powers = (-40..41).map(|power| base.powi(power));
        let ticks = powers.flat_map(|power| level.iter().map(move |x| x * power));
        ticks.collect()
    };
    levels.iter().map(all).collect()
}

/// A tick in words: without the digits that floating point adds.
pub(crate) fn label(x: f64) -> String {
    if x != 0.0 && !(1e-4..1e6).contains(&x.abs()) {
        return format!("{x:e}");
    }
    let text = format!("{x:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(scale: Scale, range: [f64; 2]) -> Vec<String> {
        let mapping = Mapping::new(scale, range.into_iter(), (0.0, 100.0));
        mapping.ticks(9).into_iter().map(label).collect()
    }

    #[test]
    fn a_wide_logarithmic_axis_has_powers_of_ten() {
        let found = ticks(Scale::Log, [4.0, 4000.0]);
        assert!(
            ["10", "100", "1000"]
                .iter()
                .all(|tick| found.contains(&(*tick).into()))
        );
        assert!(ticks(Scale::Log, [1e-3, 1e5]).contains(&"100".into()));
    }

    #[test]
    fn bits_have_powers_of_two() {
        let found = ticks(Scale::Log2, [2.5, 32.0]);
        assert_eq!(found, ["3", "4", "6", "8", "12", "16", "24", "32"]);
    }

    #[test]
    fn a_narrow_range_has_equal_steps_whatever_the_scale() {
        for scale in [Scale::Linear, Scale::Log] {
            let found = ticks(scale, [17.42, 17.61]);
            assert!(
                ["17.45", "17.5", "17.55"]
                    .iter()
                    .all(|tick| found.contains(&(*tick).into()))
            );
        }
    }

    #[test]
    fn one_number_or_none_has_an_axis_too() {
        assert!(!ticks(Scale::Log, [3.0, 3.0]).is_empty());
        assert!(!ticks(Scale::Linear, [f64::NAN, f64::INFINITY]).is_empty());
    }
}
