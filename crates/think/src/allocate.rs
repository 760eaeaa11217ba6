//! A policy for each layer, for a budget of bytes.

/// A choice for each layer, an index into `costs`, such that the costs of all layers together stay within `budget`.
///
/// By Lagrange's multiplier, one price of a byte for all layers, found by bisection: of all choices that cost as much or
/// less none has a smaller sum of `errors`. What is left of the budget then goes, as long as there is a step that it pays,
/// to the step that buys most per byte. `errors` are by layer and choice; a choice costs the same in every layer. None
/// where even the cheapest is too much, or the budget is no number.
#[must_use]
pub fn allocate(errors: &[Vec<f64>], costs: &[f64], budget: f64) -> Option<Vec<usize>> {
    let chosen = |price: f64| -> Vec<usize> {
        let best = |errors: &Vec<f64>| {
            let loss = |choice: usize| errors[choice] + price * costs[choice];
            // Of equal ones the first.
            (0..costs.len()).min_by(|&a, &b| loss(a).total_cmp(&loss(b)))
        };
        errors.iter().filter_map(best).collect()
    };
    let cost = |choices: &[usize]| choices.iter().map(|&choice| costs[choice]).sum::<f64>();
    let free = chosen(0.0);
    if cost(&free) <= budget {
        return Some(free);
    }
    // A price at which all layers take what is cheapest: more than any error can be worth.
    let worst = errors.iter().flatten().copied().fold(0.0, f64::max);
    let mut dear = (worst + 1.0) * 1e12 / costs.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut fits = chosen(dear);
    if budget.is_nan() || cost(&fits) > budget {
        return None;
    }
    let mut cheap = 0.0;
    for _ in 0..200 {
        let price = f64::midpoint(cheap, dear);
        let choices = chosen(price);
        if cost(&choices) <= budget {
            (dear, fits) = (price, choices);
        } else {
            cheap = price;
        }
    }
    let rest = budget - cost(&fits);
    spend(errors, costs, rest, &mut fits);
    Some(fits)
}

/// Spends what is left of a budget on single layers.
fn spend(errors: &[Vec<f64>], costs: &[f64], mut rest: f64, choices: &mut [usize]) {
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (layer, &now) in choices.iter().enumerate() {
            for choice in 0..costs.len() {
                let (more, less) = (
                    costs[choice] - costs[now],
                    errors[layer][now] - errors[layer][choice],
                );
                let worth = less / more;
                if more > 0.0
                    && more <= rest
                    && less > 0.0
                    && best.is_none_or(|(most, ..)| worth > most)
                {
                    best = Some((worth, layer, choice));
                }
            }
        }
        let Some((_, layer, choice)) = best else {
            return;
        };
        rest -= costs[choice] - costs[choices[layer]];
        choices[layer] = choice;
    }
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;

    use super::*;

    fn total(errors: &[Vec<f64>], choices: &[usize]) -> f64 {
        errors.iter().zip(choices).map(|(e, &c)| e[c]).sum()
    }

    #[test]
    fn the_budget_is_kept_and_no_step_that_it_pays_is_left() {
        // Three choices in four layers: all 81 can be tried.
        let costs = [4.0, 2.0, 1.0];
        for seed in 0..50 {
            let mut random = Random(seed);
            let layer = |_| {
                let mut errors: Vec<f64> = (0..3).map(|_| f64::from(random.uniform())).collect();
                errors.sort_by(f64::total_cmp);
                errors
            };
            let errors: Vec<Vec<f64>> = (0..4).map(layer).collect();
            for budget in [4.0, 7.0, 11.0, 16.0] {
                let found = allocate(&errors, &costs, budget).unwrap();
                let cost = |choices: &[usize]| choices.iter().map(|&c| costs[c]).sum::<f64>();
                assert!(cost(&found) <= budget);
                for layer in 0..4 {
                    for choice in 0..3 {
                        let mut other = found.clone();
                        other[layer] = choice;
                        let better = total(&errors, &other) < total(&errors, &found) - 1e-12;
                        assert!(!better || cost(&other) > budget);
                    }
                }
                // Next to the best of all 81, which lies off the hull that prices find.
                let all = (0..81).map(|all| vec![all % 3, all / 3 % 3, all / 9 % 3, all / 27]);
                let within = all.filter(|choices| cost(choices) <= budget);
                let best = within
                    .map(|choices| total(&errors, &choices))
                    .fold(f64::MAX, f64::min);
                assert!(total(&errors, &found) <= best + 0.5);
            }
        }
    }

    #[test]
    fn what_cannot_be_reached_is_none() {
        assert_eq!(allocate(&[vec![0.0, 1.0]], &[2.0, 1.0], 0.5), None);
        assert_eq!(allocate(&[vec![0.0, 1.0]], &[2.0, 1.0], f64::NAN), None);
        assert_eq!(allocate(&[vec![0.0, 1.0]], &[2.0, 1.0], 1.0), Some(vec![1]));
    }
}
