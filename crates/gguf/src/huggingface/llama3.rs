//! Llama 3's scaling of the rotary frequencies, recovered from the divisors that the conversion
//! made of it.
//!
//! ```text
//! wavelength λ = 2π · θ^(2i / d)                           of pair i, a head of d
//! smooth       = (context / λ − low) / (high − low)        kept within 0 and 1
//! divisor      = 1 / ((1 − smooth) / factor + smooth)
//! ```
//!
//! A file has the divisors only. The factor is the last of them; of context, low and high they give
//! the ratios, and on nothing else do the frequencies depend: any three that reproduce the divisors
//! describe the same network.
//!
//! # References
//! Grattafiori et al.: The Llama 3 Herd of Models, 2024; the formula is that of Llama 3.1's code.

use std::f64::consts::TAU;

use serde_json::{Value, json};

/// The largest relative error of a divisor. Those in files were computed in single precision.
const TOLERANCE: f64 = 1e-5;

/// The `low_freq_factor` and `high_freq_factor` of all Llama models.
const USUAL: (f64, f64) = (1.0, 4.0);

/// The settings as a config has them.
#[derive(Clone, Copy)]
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    context: f64,
}

/// The `rope_scaling` of a config that gives these divisors; null where all are 1, none where no
/// settings give them. `original` is the context length before the scaling, if the file says.
pub(super) fn recover(divisors: &[f32], theta: f64, original: Option<usize>) -> Option<Value> {
    if divisors
        .iter()
        .all(|divisor| (f64::from(*divisor) - 1.0).abs() <= TOLERANCE)
    {
        return Some(Value::Null);
    }
    // As the shortest decimal, like other numbers of a file.
    let factor: f64 = divisors.last()?.to_string().parse().ok()?;
    let wavelength = |i: usize| TAU * theta.powf(i as f64 / divisors.len() as f64);
    let pairs: Vec<_> = divisors
        .iter()
        .enumerate()
        .map(|(i, divisor)| (wavelength(i), f64::from(*divisor)))
        .collect();
    // What models have comes first, since few divisors may fit several contexts.
    let contexts = original
        .map(|context| context as f64)
        .into_iter()
        .chain([8192.0])
        .chain((10..=20).map(|power| f64::from(1 << power)));
    let usual = contexts.map(|context| Llama3 {
        factor,
        low: USUAL.0,
        high: USUAL.1,
        context,
    });
    usual
        .chain(Llama3::fit(&pairs, factor))
        .find(|settings| settings.gives(&pairs))
        .map(Llama3::json)
}

impl Llama3 {
    /// The settings by the line through two divisors between 1 and the factor, with low = 1: smooth
    /// = slope / λ − offset, where slope = context / (high − low) and offset = low / (high − low).
    fn fit(pairs: &[(f64, f64)], factor: f64) -> Option<Self> {
        let mut between = pairs
            .iter()
            .filter(|(_, divisor)| *divisor > 1.0 && *divisor < factor)
            .map(|(wavelength, divisor)| {
                let smooth = (1.0 / divisor - 1.0 / factor) / (1.0 - 1.0 / factor);
                (1.0 / wavelength, smooth)
            });
        let (first, last) = (between.next()?, between.next_back()?);
        let slope = (first.1 - last.1) / (first.0 - last.0);
        let offset = slope * first.0 - first.1;
        Some(Self {
            factor,
            low: 1.0,
            // Rounded, as people write such numbers; whether they still fit is checked.
            high: ((1.0 + 1.0 / offset) * 1e3).round() / 1e3,
            context: (slope / offset).round(),
        })
    }

    /// Whether these settings are possible and give the divisors. NaN from absurd numbers compares
    /// as false.
    fn gives(&self, pairs: &[(f64, f64)]) -> bool {
        let possible = self.factor >= 1.0
            && self.low > 0.0
            && self.high > self.low
            && (1.0..=1e9).contains(&self.context);
        possible
            && pairs.iter().all(|&(wavelength, divisor)| {
                let smooth = (self.context / wavelength - self.low) / (self.high - self.low);
                let smooth = smooth.clamp(0.0, 1.0);
                let expected = 1.0 / ((1.0 - smooth) / self.factor + smooth);
                (divisor / expected - 1.0).abs() <= TOLERANCE
            })
    }

    /// As in `config.json`.
    fn json(self) -> Value {
        json!({
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low,
            "high_freq_factor": self.high,
            "original_max_position_embeddings": self.context as u64,
        })
    }
}
