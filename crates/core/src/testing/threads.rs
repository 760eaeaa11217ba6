//! The law that results have the same bytes on any number of threads.

use std::collections::BTreeMap;

use compress_numerics::Random;

use crate::{
    Budget, Error, Evidence, InputKind, LayerInput, Matrix, Method, Result, Role, Shape, Site,
    Survey, Symmetric, Weights, compress_all,
};

/// A model of one block with the given widths, and made-up measurements of it.
pub struct Wide {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the gated activations.
    pub gated: usize,
    /// By how many powers of e a weight's columns fall from the first to the last, at most to a thousandth.
    pub decay: f32,
}

/// Wider than one tile of a parallel product, so that work really is shared between threads.
pub const WIDE: Wide = Wide {
    hidden: 320,
    gated: 576,
    // So that what a cut to a third leaves is small, which svd looks at more closely.
    decay: 45.0,
};

impl Wide {
    /// Grouped-query attention: keys and values have half of the heads.
    fn shape(&self, role: Role) -> Shape {
        let (hidden, gated) = (self.hidden, self.gated);
        match role {
            Role::Query | Role::Output => Shape::new(hidden, hidden),
            Role::Key | Role::Value => Shape::new(hidden / 2, hidden),
            Role::Gate | Role::Up => Shape::new(gated, hidden),
            Role::Down => Shape::new(hidden, gated),
        }
    }
}

/// The role of a site; there is nothing but a block.
fn block_role(site: Site) -> Result<Role> {
    site.role().ok_or(Error::NotMeasured { site })
}

/// A decaying diagonal plus 40 outer products: positive definite, far from diagonal.
fn gram(size: usize, seed: u64) -> Symmetric {
    let mut random = Random(seed);
    let mut gram = Symmetric::zeros(size);
    let diagonal = gram.diagonal_mut().enumerate();
    diagonal.for_each(|(i, x)| *x = 1.0 + 50.0 / (1.0 + i as f64));
    for _ in 0..40 {
        let x = random.matrix(1, size);
        for (row, a) in gram.rows_mut().zip(x.data()) {
            let pairs = row.iter_mut().zip(x.data());
            pairs.for_each(|(sum, b)| *sum += f64::from(*a) * f64::from(*b));
        }
    }
    gram
}

impl Weights for Wide {
    fn shapes(&self) -> BTreeMap<Site, Shape> {
        let site = |role| (Site::new(0, role), self.shape(role));
        Role::ALL.map(site).into()
    }

    fn load(&self, site: Site) -> Result<Matrix> {
        let role = block_role(site)?;
        let Shape { rows, cols } = self.shape(role);
        let decay = |j: usize| (-self.decay * j as f32 / cols as f32).exp().max(1e-3);
        let mut random = Random(role as u64);
        Ok(Matrix::from_fn(rows, cols, |_, j| {
            random.normal() * decay(j)
        }))
    }
}

impl Evidence for Wide {
    fn activations(&self, input: LayerInput) -> Result<Symmetric> {
        let size = self.shape(input.kind.reader()).cols;
        Ok(gram(size, 10 + input.kind as u64))
    }

    fn attention_weighted(&self, _: usize) -> Result<Symmetric> {
        Ok(gram(self.hidden, 20))
    }

    fn output_gradients(&self, site: Site) -> Result<Symmetric> {
        let role = block_role(site)?;
        Ok(gram(self.shape(role).rows, 30 + role as u64))
    }

    fn input_fisher(&self, site: Site) -> Result<Vec<f64>> {
        let input = LayerInput::new(0, InputKind::Down);
        let count = self.shape(block_role(site)?).cols;
        Ok(self.activations(input)?.diagonal().take(count).collect())
    }

    fn lens(&self, layer: usize) -> Result<f64> {
        Ok(1.0 / (1 + layer) as f64)
    }
}

/// Law: plans, factors and errors have the same bytes on 1, 2, 3 and 8 threads.
pub fn the_bytes_are_the_same_on_any_number_of_threads<M: Method>(method: &M) -> Result<()> {
    let told = || {
        let survey = Survey::new(&WIDE, |_| true).with_evidence(&WIDE);
        let steps = method.plan(&survey, Some(Budget::keep(0.5)?))?;
        let edits = compress_all(method, &steps, &survey)?;
        Ok::<_, Error>(format!("{steps:?} {edits:?}"))
    };
    let mut known = None;
    for threads in [1, 2, 3, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().map_err(Error::source)?;
        let found = pool.install(told)?;
        let first = known.get_or_insert_with(|| found.clone());
        assert!(
            *first == found,
            "{} on {threads} threads does not give what it gives on one",
            method.name()
        );
    }
    Ok(())
}
