//! The permutation of largest sum: each row of a square table gets a column of its own.
//!
//! The Hungarian method with potentials, n³ steps.
//!
//! # References
//!
//! Kuhn, *The Hungarian method for the assignment problem*, 1955; in the form of Jonker & Volgenant 1987, by shortest
//! augmenting paths.

/// The column of each row, so that the sum of `gains[row][column]` is the largest. Gains are finite, the table square.
#[must_use]
pub fn assign(gains: &[Vec<f64>]) -> Vec<usize> {
    let n = gains.len();
    // Potentials and the row of each column count from 1: column 0 holds the row that looks for one.
    let (mut of_row, mut of_column) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    let mut row_of = vec![0; n + 1];
    for row in 1..=n {
        row_of[0] = row;
        let (last, before) = path(gains, &mut of_row, &mut of_column, &row_of);
        let mut column = last;
        // Along the path each column takes the row of the one before it.
        while column != 0 {
            row_of[column] = row_of[before[column]];
            column = before[column];
        }
    }
    let mut columns = vec![0; n];
    for column in 1..=n {
        columns[row_of[column] - 1] = column - 1;
    }
    columns
}

/// The shortest path from column 0 to a column without a row: its end, and what comes before each column on it. Potentials
/// are moved so that all costs on it stay zero.
fn path(
    gains: &[Vec<f64>],
    of_row: &mut [f64],
    of_column: &mut [f64],
    row_of: &[usize],
) -> (usize, Vec<usize>) {
    let n = gains.len();
    let mut before = vec![0; n + 1];
    let (mut least, mut seen) = (vec![f64::INFINITY; n + 1], vec![false; n + 1]);
    let mut column = 0;
    loop {
        seen[column] = true;
        let row = row_of[column];
        let (mut step, mut next) = (f64::INFINITY, 0);
        for other in (1..=n).filter(|&other| !seen[other]) {
            let cost = -gains[row - 1][other - 1] - of_row[row] - of_column[other];
            if cost < least[other] {
                (least[other], before[other]) = (cost, column);
            }
            if least[other] < step {
                (step, next) = (least[other], other);
            }
        }
        for other in 0..=n {
            if seen[other] {
                of_row[row_of[other]] += step;
                of_column[other] -= step;
            } else {
                least[other] -= step;
            }
        }
        column = next;
        if row_of[column] == 0 {
            return (column, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;

    use super::*;

    /// The largest sum over all permutations of the columns that are left.
    fn brute(gains: &[Vec<f64>], used: &mut Vec<usize>) -> f64 {
        let Some(row) = gains.get(used.len()) else {
            return 0.0;
        };
        let mut best = f64::NEG_INFINITY;
        for (column, gain) in row.iter().enumerate() {
            if !used.contains(&column) {
                used.push(column);
                best = best.max(gain + brute(gains, used));
                used.pop();
            }
        }
        best
    }

    #[test]
    fn no_permutation_has_a_larger_sum() {
        let mut random = Random(3);
        for n in [1, 2, 3, 5, 6, 6, 6, 7] {
            let row = |random: &mut Random| (0..n).map(|_| f64::from(random.normal())).collect();
            let gains: Vec<Vec<f64>> = (0..n).map(|_| row(&mut random)).collect();
            let columns = assign(&gains);
            let mut sorted = columns.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..n), "{columns:?}");
            let sum: f64 = columns.iter().zip(&gains).map(|(&c, row)| row[c]).sum();
            assert!((sum - brute(&gains, &mut Vec::new())).abs() < 1e-9);
        }
    }
}
