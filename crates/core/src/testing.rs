//! The laws that every method obeys, stated once; a method's tests instantiate them with [`laws!`](crate::laws).
//!
//! Each law is a function of a method that panics where the law is broken, and runs on small made-up models: [`Toy`]
//! with [`ToyEvidence`], or wider ones where threads or memory are concerned.

#![expect(
    clippy::missing_panics_doc,
    reason = "a broken law panics, as a test does"
)]

use std::{collections::BTreeMap, sync::Arc};

use compress_numerics::Random;
use serde_json::Value;

mod gram;
mod memory;
mod threads;

pub use gram::gram;
pub use memory::memory_is_predicted;
pub use threads::the_bytes_are_the_same_on_any_number_of_threads;

use crate::{
    Bits, Budget, Dictionaries as _, DictionariesInMemory, Dictionary, Edit, Error, Evidence,
    Factor, Group, LayerInput, Matrix, Method, Pair, Plan, Quantised, Result, Role, Scheme, Shape,
    Site, SourceId, Step, Store, Survey, Symmetric, Weights, compress_all,
};

/// A model of two blocks in memory: square, wide and tall weights (24 × 24, 8 × 24, 40 × 24, 24 × 40) with decaying
/// spectra.
#[derive(Clone, Debug)]
pub struct Toy(BTreeMap<Site, Matrix>);

impl Toy {
    /// The same weights for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let shape = |role| match role {
            Role::Query | Role::Output => Shape::new(24, 24),
            Role::Key | Role::Value => Shape::new(8, 24),
            Role::Gate | Role::Up => Shape::new(40, 24),
            Role::Down => Shape::new(24, 40),
        };
        let layers = 0..2;
        let sites = layers.flat_map(|layer| Role::ALL.map(|role| (layer, role)));
        let weight = |(layer, role)| (Site::new(layer, role), random.weight(shape(role)));
        Self(sites.map(weight).collect())
    }

    /// The same model with one weight replaced.
    #[must_use]
    pub fn with(mut self, site: Site, weight: Matrix) -> Self {
        self.0.insert(site, weight);
        self
    }
}

impl Weights for Toy {
    fn shapes(&self) -> BTreeMap<Site, Shape> {
        self.0
            .iter()
            .map(|(site, weight)| (*site, weight.shape()))
            .collect()
    }

    fn load(&self, site: Site) -> Result<Matrix> {
        self.0.get(&site).cloned().ok_or(Error::NoSuchSite { site })
    }
}

/// Made-up measurements for the toy, the same in each run: positive definite, with decaying spectra.
#[derive(Clone, Copy, Debug)]
pub struct ToyEvidence;

impl Evidence for ToyEvidence {
    fn activations(&self, input: LayerInput) -> Result<Symmetric> {
        let seed = 10 * input.layer as u64 + input.kind as u64;
        let wide = input.kind == crate::InputKind::Down;
        Ok(Random(100 + seed).gram(if wide { 40 } else { 24 }))
    }

    fn attention_weighted(&self, layer: usize) -> Result<Symmetric> {
        Ok(Random(300 + layer as u64).gram(24))
    }

    fn output_gradients(&self, site: Site) -> Result<Symmetric> {
        let Site::Block { layer, role } = site else {
            return Err(Error::NotMeasured { site });
        };
        let outputs = match role {
            Role::Query | Role::Output | Role::Down => 24,
            Role::Key | Role::Value => 8,
            Role::Gate | Role::Up => 40,
        };
        Ok(Random(200 + 10 * layer as u64 + role as u64).gram(outputs))
    }

    fn input_fisher(&self, site: Site) -> Result<Vec<f64>> {
        let input = site.input().ok_or(Error::NotMeasured { site })?;
        Ok(self.activations(input)?.diagonal().collect())
    }

    fn lens(&self, layer: usize) -> Result<f64> {
        Ok(1.0 / (1 + layer) as f64)
    }
}

/// A factor of every structure, with every store in every place: of a weight of this shape, pairs of rank 2.
pub fn factors(rows: usize, cols: usize) -> Result<Vec<Factor>> {
    let scheme = Scheme {
        symmetric: false,
        ..Scheme::symmetric(Bits::Eight, None)
    };
    let mut random = Random(1);
    let mut both = |rows, cols| {
        let matrix = random.matrix(rows, cols);
        let quantised = Quantised::nearest(&matrix, scheme)?;
        Ok::<_, Error>([Store::Float(matrix), Store::Quantised(quantised)])
    };
    let (wholes, ups, downs) = (both(rows, cols)?, both(rows, 2)?, both(2, cols)?);
    let mut factors: Vec<Factor> = wholes.iter().cloned().map(Factor::Whole).collect();
    let pair = |up: &Store, down: &Store| {
        let (up, down) = (up.clone(), down.clone());
        Pair { up, down }
    };
    for stacked in both(3 * rows, cols)? {
        let dictionary = Arc::new(Dictionary {
            group: Group {
                role: Role::Query,
                first: 0,
            },
            atoms: 3,
            stacked,
        });
        let mixture = |residual| Factor::Shared {
            dictionary: Arc::clone(&dictionary),
            coefficients: Store::Float(Matrix::from_fn(1, 3, |_, s| 1.0 - s as f32)),
            residual,
        };
        factors.push(mixture(None));
        factors.extend(
            ups.iter()
                .zip(&downs)
                .map(|(up, down)| mixture(Some(pair(up, down)))),
        );
    }
    for up in &ups {
        for down in &downs {
            let pair = pair(up, down);
            factors.extend(wholes.iter().cloned().map(|base| Factor::Sum {
                base,
                correction: pair.clone(),
            }));
            factors.push(Factor::LowRank(pair));
        }
    }
    Ok(factors)
}

/// Makes a test of each law, for each of some methods: of all laws of methods that take a budget, or of those
/// that are named.
///
/// ```ignore
/// compress_core::laws!(BOTH);
/// compress_core::laws!(EACH => edits_are_what_the_step_predicted, nothing_in_a_plan_is_ignored);
/// ```
#[macro_export]
macro_rules! laws {
    ($methods:expr) => {
        $crate::laws!(
            $methods => keep_one_changes_nothing,
            nothing_grows_and_the_budget_is_met,
            more_budget_never_hurts,
            edits_are_what_the_step_predicted,
            steps_may_come_one_by_one,
            nothing_in_a_plan_is_ignored,
            the_bytes_are_the_same_on_any_number_of_threads,
            a_damaged_weight_is_named,
        );
    };
    ($methods:expr => $($law:ident),+ $(,)?) => {
        $(
            #[test]
            fn $law() -> $crate::Result<()> {
                $methods.iter().try_for_each($crate::testing::$law)
            }
        )+
    };
}

/// Law: keep 1 leaves every weight as it is.
pub fn keep_one_changes_nothing<M: Method>(method: &M) -> Result<()> {
    let toy = Toy::new(1);
    let steps = method.plan(
        &Survey::new(&toy, |_| true).with_evidence(&ToyEvidence),
        Some(Budget::ALL),
    )?;
    assert!(
        steps.is_empty(),
        "{} plans {} steps at keep 1",
        method.name(),
        steps.len()
    );
    Ok(())
}

/// Law: no step enlarges a weight, and together they keep to the budget.
pub fn nothing_grows_and_the_budget_is_met<M: Method>(method: &M) -> Result<()> {
    let toy = Toy::new(2);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    for percent in [1, 5, 20, 50, 80, 90, 99] {
        let keep = f64::from(percent) / 100.0;
        let mut kept: BTreeMap<_, _> = survey
            .sites()
            .map(|(site, shape)| (site, shape.size()))
            .collect();
        let before: usize = kept.values().sum();
        let steps = method.plan(&survey, Some(Budget::keep(keep)?))?;
        for (site, form) in steps.iter().flat_map(Step::forms) {
            let shape = survey.shape(site)?;
            assert!(
                form.parameters(shape) < shape.size(),
                "{site} grows at keep {keep}"
            );
            kept.insert(site, form.parameters(shape));
        }
        // Where even rank one everywhere exceeds the budget, it is the least that a plan can do.
        let least: usize = survey
            .sites()
            .map(|(_, shape)| shape.low_rank_size(1))
            .sum();
        let atoms = steps.iter().filter_map(Step::dictionary);
        let atoms = atoms.map(|form| Ok(form.shape(survey.shape(form.group.start())?).size()));
        let atoms = atoms.sum::<Result<usize>>()?;
        let after: usize = atoms + kept.values().sum::<usize>();
        assert!(
            after <= least.max((keep * before as f64) as usize),
            "keep {keep}: {after} of {before}"
        );
    }
    Ok(())
}

/// Law: more budget never means more error, in the norm that the method minimises.
pub fn more_budget_never_hurts<M: Method>(method: &M) -> Result<()> {
    let toy = Toy::new(3);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let mut last = f64::INFINITY;
    for percent in [5, 20, 40, 60, 80, 90] {
        let steps = method.plan(&survey, Some(Budget::keep(f64::from(percent) / 100.0)?))?;
        let mut error = 0.0;
        for edit in compress_all(method, &steps, &survey)? {
            error += edit.error;
        }
        assert!(
            // Equal plans give equal errors, up to the rounding of factors to `f32`.
            error <= last * (1.0 + 1e-6),
            "{percent} %: {error} after {last}"
        );
        last = error;
    }
    Ok(())
}

/// Law: steps give the same bytes whether they come in one call or one by one.
pub fn steps_may_come_one_by_one<M: Method>(method: &M) -> Result<()> {
    let toy = Toy::new(9);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let steps = method.plan(&survey, Some(Budget::keep(0.5)?))?;
    let shared = DictionariesInMemory::of(method, &steps, &survey)?;
    let survey = survey.with_dictionaries(&shared);
    let together = compress_all(method, &steps, &survey)?.into_iter();
    let mut together = together.map(|edit| (edit.site, edit.factor));
    for step in steps.iter().filter(|step| step.dictionary().is_none()) {
        for edit in method.compress(std::slice::from_ref(step), &survey)? {
            assert_eq!(together.next(), Some((edit.site, edit.factor)));
        }
    }
    assert_eq!(together.next(), None);
    Ok(())
}

/// Law: a step's edits have the forms it predicted, denote a matrix of the weight's shape, and apply
/// as that matrix does.
pub fn edits_are_what_the_step_predicted<M: Method>(method: &M) -> Result<()> {
    let toy = Toy::new(4);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let mut random = Random(5);
    let steps = method.plan(&survey, Some(Budget::keep(0.5)?))?;
    let shared = DictionariesInMemory::of(method, &steps, &survey)?;
    let survey = survey.with_dictionaries(&shared);
    for step in steps {
        if let Some(form) = step.dictionary() {
            assert_eq!(shared.dictionary(form.group)?.form(), form);
            continue;
        }
        let edits = method.compress(std::slice::from_ref(&step), &survey)?;
        let made: Vec<_> = edits
            .iter()
            .map(|edit| (edit.site, edit.factor.form()))
            .collect();
        assert_eq!(made, step.forms());
        for Edit { site, factor, .. } in &edits {
            let shape = survey.shape(*site)?;
            assert_eq!(factor.shape(), shape);
            let x = random.matrix(shape.cols, 3);
            let dense = Factor::whole(factor.dense()?).apply(&x)?;
            let distance = factor.apply(&x)?.squared_distance(&dense);
            assert!(
                // Squared: 10⁻⁵ in length, some hundred roundings of `f32`.
                distance <= 1e-10 * dense.squared_norm(),
                "{site}: {distance}"
            );
        }
    }
    Ok(())
}

/// Law: a weight with a NaN is refused by name.
pub fn a_damaged_weight_is_named<M: Method>(method: &M) -> Result<()> {
    let site = Site::new(1, Role::Up);
    let damaged = Matrix::from_fn(40, 24, |i, j| if (i, j) == (7, 5) { f32::NAN } else { 1.0 });
    let toy = Toy::new(6).with(site, damaged);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let steps = method.plan(&survey, Some(Budget::keep(0.5)?));
    let outcome = steps.and_then(|steps| compress_all(method, &steps, &survey));
    assert!(
        matches!(outcome, Err(Error::NonFinite { site: at, row: 7, column: 5, .. }) if at == site),
        "{outcome:?}"
    );
    Ok(())
}

/// Law: a plan is read as it was written, and with anything else in it not at all: a field that is not
/// known, wherever it stands, another kind or version, or none.
pub fn nothing_in_a_plan_is_ignored<M: Method>(method: &M) -> Result<()> {
    let toy = Toy::new(7);
    let survey = Survey::new(&toy, |_| true).with_evidence(&ToyEvidence);
    let keep = Budget::keep(0.5)?;
    let steps = method.plan(&survey, Some(keep))?;
    let source = SourceId {
        name: "toy".into(),
        digest: "0".into(),
    };
    let plan = Plan::new(method.name(), source, Some(keep), steps, &survey)?;
    let written = serde_json::to_value(&plan).map_err(Error::Plan)?;
    let read = |plan: &Value| Plan::<M::Step>::parse(plan.to_string().as_bytes());
    assert_eq!(
        serde_json::to_value(read(&written)?).map_err(Error::Plan)?,
        written
    );
    // Into every object of the plan, nested ones as well, one unknown field at a time.
    for place in objects(&written, "") {
        let mut changed = written.clone();
        let fields = changed.pointer_mut(&place).and_then(Value::as_object_mut);
        fields.map(|fields| fields.insert("surprise".into(), 1.into()));
        assert!(
            read(&changed).is_err(),
            "a surprise at `{place}` is ignored"
        );
    }
    for field in ["version", "kind"] {
        for value in [Value::Null, 2.into(), "another".into()] {
            let mut changed = written.clone();
            changed[field] = value;
            let refused = read(&changed).map_err(|error| error.to_string());
            assert!(
                matches!(&refused, Err(text) if text.contains(field) || text.contains("not a plan")),
                "{refused:?}"
            );
        }
    }
    Ok(())
}

/// The JSON pointers of all objects within a value, itself among them.
fn objects(value: &Value, at: &str) -> Vec<String> {
    let (own, inner): (_, Vec<(String, &Value)>) = match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), value));
            (Some(at.to_owned()), fields.collect())
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            (
                None,
                items.map(|(i, value)| (i.to_string(), value)).collect(),
            )
        }
        _ => (None, Vec::new()),
    };
    let inner = inner.into_iter();
    let inner = inner.flat_map(|(name, value)| objects(value, &format!("{at}/{name}")));
    own.into_iter().chain(inner).collect()
}
