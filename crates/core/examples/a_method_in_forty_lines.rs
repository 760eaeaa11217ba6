//! A whole method: every weight is replaced by its mean row, as a pair of rank one.
//!
//! ```sh
//! cargo run --release -p compress-core --example a_method_in_forty_lines
//! ```

use compress_core::{
    Budget, Edit, Factor, Matrix, Method, Needs, Result, Shape, Site, Survey, Truncate,
    testing::{self, Toy},
};
use serde::Serialize;

/// W ≈ 1 · mean(W): out × 1 times 1 × in.
#[derive(Serialize)]
struct MeanRow;

impl Method for MeanRow {
    type Step = Truncate; // the form of a low-rank pair, and plans in common with svd

    fn name(&self) -> &'static str {
        "mean_row"
    }

    fn needs(&self, _: &Truncate) -> Needs {
        Needs::NOTHING // no calibration text
    }

    fn plan(&self, survey: &Survey<'_>, budget: Option<Budget>) -> Result<Vec<Truncate>> {
        let smaller = |shape: Shape| budget < Some(Budget::ALL) && shape.shrinks_at(1);
        let sites = survey.sites().filter(|(_, shape)| smaller(*shape));
        Ok(sites.map(|(site, _)| Truncate { site, rank: 1 }).collect())
    }

    fn compress(&self, steps: &[Truncate], survey: &Survey<'_>) -> Result<Vec<Edit>> {
        let one = |step: &Truncate| {
            let weight = survey.weight(step.site)?;
            let Shape { rows, cols } = weight.shape();
            let column = |j: usize| weight.data().iter().skip(j).step_by(cols);
            let mean = |_, j| column(j).sum::<f32>() / rows as f32;
            let (up, down) = (
                Matrix::from_fn(rows, 1, |_, _| 1.0),
                Matrix::from_fn(1, cols, mean),
            );
            let factor = Factor::low_rank(up, down);
            let error = factor.dense()?.squared_distance(&weight) / weight.squared_norm();
            Ok(Edit {
                site: step.site,
                factor,
                error,
            })
        };
        steps.iter().map(one).collect()
    }

    fn memory(
        &self,
        steps: &[Truncate],
        shape: &dyn Fn(Site) -> Result<Shape>,
        _: usize,
    ) -> Result<usize> {
        let bytes = |step: &Truncate| Ok(2 * size_of::<f32>() * shape(step.site)?.size());
        let each = steps.iter().map(bytes).collect::<Result<Vec<_>>>()?;
        Ok(each.into_iter().max().unwrap_or(0))
    }
}

fn main() -> Result<()> {
    // The laws that every method obeys; a method's tests make one test of each by `compress_core::laws!`.
    testing::keep_one_changes_nothing(&MeanRow)?;
    testing::edits_are_what_the_step_predicted(&MeanRow)?;
    testing::a_damaged_weight_is_named(&MeanRow)?;
    let model = Toy::new(1);
    let survey = Survey::new(&model, |_| true);
    let steps = MeanRow.plan(&survey, Some(Budget::keep(0.5)?))?;
    for Edit {
        site,
        factor,
        error,
    } in MeanRow.compress(&steps, &survey)?
    {
        println!(
            "{site}: {}, relative squared error {error:.3}",
            factor.form()
        );
    }
    Ok(())
}
