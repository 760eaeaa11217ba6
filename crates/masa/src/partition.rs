//! Consecutive groups of layers with the least divergence inside.
//!
//! ```text
//! cost[k][i] = min over j of cost[k − 1][j] + d(j + 1) + … + d(i − 1)      the first i layers in k groups
//! ```
//!
//! d(l) is how far layer l is from the one before it; what lies between two groups costs nothing. A layer by itself shares
//! with nobody, so that no group has fewer than two where there are enough layers for that.

/// The first layer of each of `parts` groups, given how far each layer but the first is from the one before it.
///
/// As many groups as there are layers at most. Of several best partitions the one whose last groups begin first.
#[must_use]
pub fn partition(distances: &[f64], parts: usize) -> Vec<usize> {
    let layers = distances.len() + 1;
    let parts = parts.clamp(1, layers);
    let least = (layers / parts).min(LEAST);
    // inside(j, i): of the layers j … i − 1.
    let inside = |j: usize, i: usize| distances[j..i - 1].iter().sum::<f64>();
    let mut cost: Vec<f64> = (0..=layers)
        .map(|i| if i == 0 { 0.0 } else { f64::INFINITY })
        .collect();
    let mut begins = Vec::with_capacity(parts);
    for _ in 0..parts {
        let (mut next, mut from) = (vec![f64::INFINITY; layers + 1], vec![0; layers + 1]);
        for i in least..=layers {
            for (j, before) in cost.iter().enumerate().take(i + 1 - least) {
                let total = before + inside(j, i);
                if total < next[i] {
                    (next[i], from[i]) = (total, j);
                }
            }
        }
        cost = next;
        begins.push(from);
    }
    let mut end = layers;
    let mut starts: Vec<usize> = begins
        .iter()
        .rev()
        .map(|from| {
            end = from[end];
            end
        })
        .collect();
    starts.reverse();
    starts
}

/// The fewest layers of a group that can share anything.
const LEAST: usize = 2;

#[cfg(test)]
mod tests {
    use compress_numerics::Random;

    use super::*;

    /// The divergence inside of all groups that begin there.
    fn inside(distances: &[f64], starts: &[usize]) -> f64 {
        let layers = 1..=distances.len();
        let within = layers.filter(|layer| !starts.contains(layer));
        within.map(|layer| distances[layer - 1]).sum()
    }

    /// Whether no group is shorter than they have to be.
    fn admitted(layers: usize, starts: &[usize]) -> bool {
        let ends = starts.iter().skip(1).chain([&layers]);
        let least = (layers / starts.len()).min(LEAST);
        starts[0] == 0
            && starts
                .iter()
                .zip(ends)
                .all(|(start, end)| end - start >= least)
    }

    #[test]
    fn no_other_partition_has_less_inside() {
        let mut random = Random(5);
        for layers in 1..10 {
            let distances: Vec<f64> = (1..layers).map(|_| random.uniform().into()).collect();
            for parts in 1..=layers {
                let found = partition(&distances, parts);
                assert_eq!(found.len(), parts);
                assert!(admitted(layers, &found), "{layers} {found:?}");
                // All sets of so many places to begin at, as bits.
                let all = (0..1_usize << layers).map(|set| {
                    let starts = (0..layers).filter(|layer| set >> layer & 1 == 1);
                    starts.collect::<Vec<_>>()
                });
                let all = all.filter(|it| it.len() == parts && admitted(layers, it));
                let costs = all.map(|starts| inside(&distances, &starts));
                let best = costs.fold(f64::INFINITY, f64::min);
                assert!(
                    (inside(&distances, &found) - best).abs() < 1e-9,
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn groups_are_cut_where_layers_are_far_apart() {
        assert_eq!(partition(&[0.1, 0.1, 5.0, 0.1, 0.1], 2), [0, 3]);
        // The first layer is far from all others, and has to be with one of them.
        assert_eq!(partition(&[9.0, 1.0, 2.0, 1.0, 1.0], 2), [0, 3]);
        assert_eq!(partition(&[], 4), [0]);
    }
}
