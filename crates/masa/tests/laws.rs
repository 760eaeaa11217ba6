//! The laws of every method, for mixtures of atoms; and those of their own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use compress_core::{
    Matrix, Method as _, Plan, Role, Site, SourceId, Survey, Weights as _, compress_all,
    testing::Toy,
};
use compress_masa::{Count, Fit, GroupsBy, Masa, Mix};
use compress_numerics::linalg::singular_values;
use compress_svd::Norm;

fn each() -> Vec<Masa> {
    let all = Masa {
        roles: Role::ALL.into(),
        ..Masa::default()
    };
    let one = Masa {
        atoms: Count::Of(1),
        ..all.clone()
    };
    let plain = Masa {
        norm: Norm::Plain,
        fit: Fit::Plain,
        ..one.clone()
    };
    let activation = Masa {
        norm: Norm::Activation,
        ..one.clone()
    };
    let by_lens = Masa {
        groups: 2,
        groups_by: GroupsBy::LogitLens,
        ..all.clone()
    };
    vec![all, one, plain, activation, by_lens]
}

compress_core::laws!(each() => keep_one_changes_nothing, nothing_grows_and_the_budget_is_met, edits_are_what_the_step_predicted, steps_may_come_one_by_one, nothing_in_a_plan_is_ignored, the_bytes_are_the_same_on_any_number_of_threads, a_damaged_weight_is_named);

/// One role of the toy, whose two layers share, without residuals and in the plain norm.
fn without_residual(count: usize) -> Masa {
    Masa {
        roles: vec![Role::Down],
        atoms: Count::Of(count),
        residual: Some(0.0),
        norm: Norm::Plain,
        ..Masa::default()
    }
}

/// ‖W − Ŵ‖² of all weights of a plan together.
fn lost(method: &Masa, toy: &Toy) -> f64 {
    let survey = Survey::new(toy, |_| true);
    let steps = method.plan(&survey, None).unwrap();
    let edits = compress_all(method, &steps, &survey).unwrap();
    let lost = edits.iter().map(|edit| {
        let weight = toy.load(edit.site).unwrap();
        edit.factor.dense().unwrap().squared_distance(&weight)
    });
    lost.sum()
}

#[test]
fn as_many_atoms_as_layers_are_exact_and_fewer_lose_what_an_explicit_pca_does() {
    let toy = Toy::new(11);
    let sites = [0, 1].map(|layer| Site::new(layer, Role::Down));
    let [first, second] = sites.map(|site| toy.load(site).unwrap());
    let all = first.squared_norm() + second.squared_norm();
    assert!(lost(&without_residual(2), &toy) < 1e-11 * all);
    // The layers' weights as the columns of one tall matrix: one atom leaves its second singular value.
    let columns = first.data().iter().zip(second.data());
    let stacked: Vec<f32> = columns.flat_map(|(a, b)| [*a, *b]).collect();
    let stacked = Matrix::new(stacked.len() / 2, 2, stacked).unwrap();
    let singular = singular_values(&stacked).unwrap();
    let ratio = lost(&without_residual(1), &toy) / singular[1].powi(2);
    assert!((ratio - 1.0).abs() < 1e-4, "{ratio}");
}

#[test]
fn residuals_make_good_for_atoms_that_are_missing() {
    let toy = Toy::new(12);
    let method = |residual| Masa {
        residual: Some(residual),
        ..without_residual(1)
    };
    let errors = [0.0, 0.1, 0.3, 0.9].map(|residual| lost(&method(residual), &toy));
    assert!(
        errors.windows(2).all(|pair| pair[1] < pair[0]),
        "{errors:?}"
    );
}

#[test]
fn atoms_of_another_group_are_refused() {
    let toy = Toy::new(13);
    let survey = Survey::new(&toy, |_| true);
    let method = without_residual(1);
    let mut steps = method.plan(&survey, None).unwrap();
    let source = SourceId {
        name: "toy".into(),
        digest: "0".into(),
    };
    let check = |steps: Vec<Mix>| {
        let plan = Plan::new("masa", source.clone(), None, steps, &survey);
        plan.and_then(|plan| plan.check(&survey))
    };
    check(steps.clone()).unwrap();
    // Without the step that makes them, and with it twice.
    let atoms = steps.remove(0);
    assert!(check(steps.clone()).is_err());
    steps.extend([atoms.clone(), atoms]);
    assert!(check(steps).is_err());
}
