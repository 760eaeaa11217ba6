//! What of a rank-one change leaves eigenvalues where they are: z with zeros, and poles that are the same.
//!
//! Where ρ zᵢ is within rounding of zero, dᵢ is an eigenvalue as it is. Where dᵢ and dⱼ are within rounding of each other,
//! a rotation of the two makes zᵢ zero. What is left goes to the secular equation; often that is a small part.
//!
//! # References
//!
//! Dongarra & Sorensen, *A fully parallel algorithm for the symmetric eigenvalue problem*, SIAM J. Sci. Stat. Comput. 1987,
//! section 4; LAPACK's `laed2` for the rule, here with twice its tolerance.

use super::secular::Secular;

/// What is smaller beside a matrix of size 1 is nothing: a part of it may have only such numbers, whose squares and inverse
/// squares in the secular equation are no numbers any more.
const SMALLEST: f64 = 1e-100;

/// A rank-one change without what is known already.
pub(super) struct Deflated {
    pub secular: Secular,
    /// Where the poles of the secular equation were in D, in its order.
    pub kept: Vec<usize>,
    /// Eigenvalues that stay, and where they were in D.
    pub known: Vec<(f64, usize)>,
    /// D + ρ z zᵀ = G (…) Gᵀ with G their product, in their order.
    pub rotations: Vec<Rotation>,
}

/// Mixes two columns: (x, y) becomes (c x + s y, c y − s x).
#[derive(Clone, Copy)]
pub(super) struct Rotation {
    pub x: usize,
    pub y: usize,
    pub c: f64,
    pub s: f64,
}

/// A pole and its element of z.
#[derive(Clone, Copy)]
struct Pole {
    index: usize,
    d: f64,
    z: f64,
}

/// Deflates D + ρ z zᵀ, a part of a matrix of size 1, for ‖z‖ = 1 and ρ ≥ 0. `epsilon` is the rounding of the numbers that eigenvectors are kept in.
pub(super) fn deflate(d: &[f64], z: &[f64], rho: f64, epsilon: f64) -> Deflated {
    let mut poles: Vec<Pole> = (0..d.len())
        .map(|index| Pole {
            index,
            d: d[index],
            z: z[index],
        })
        .collect();
    poles.sort_by(|a, b| a.d.total_cmp(&b.d));
    let size = d
        .iter()
        .fold(rho.max(SMALLEST), |most, d| most.max(d.abs()));
    let within = 8.0 * epsilon * size;
    let (mut kept, mut known, mut rotations) = (Vec::new(), Vec::new(), Vec::new());
    // The last pole with a z, which may still be the same as the next.
    let mut last: Option<Pole> = None;
    for mut pole in poles {
        if rho * pole.z.abs() <= within {
            known.push((pole.d, pole.index));
            continue;
        }
        if let Some(last) = last.take() {
            match same(last, pole, within) {
                Some(merged) => {
                    rotations.push(merged.rotation);
                    known.push((merged.known, last.index));
                    pole = merged.pole;
                }
                None => kept.push(last),
            }
        }
        last = Some(pole);
    }
    kept.extend(last);
    let secular = Secular::new(
        kept.iter().map(|pole| pole.d).collect(),
        kept.iter().map(|pole| pole.z).collect(),
        rho,
    );
    Deflated {
        secular,
        kept: kept.iter().map(|pole| pole.index).collect(),
        known,
        rotations,
    }
}

/// Two poles of which one has all of z.
struct Merged {
    rotation: Rotation,
    /// What becomes of the first pole: an eigenvalue.
    known: f64,
    /// What becomes of the second.
    pole: Pole,
}

/// The rotation that takes all of z from a pole to the next, where that changes D within rounding.
fn same(first: Pole, second: Pole, within: f64) -> Option<Merged> {
    let z = first.z.hypot(second.z);
    let (c, s) = (second.z / z, -first.z / z);
    // The element beside the diagonal that is left out.
    if ((second.d - first.d) * c * s).abs() > within {
        return None;
    }
    let rotation = Rotation {
        x: first.index,
        y: second.index,
        c,
        s,
    };
    let d = first.d * s * s + second.d * c * c;
    Some(Merged {
        rotation,
        known: first.d * c * c + second.d * s * s,
        pole: Pole { d, z, ..second },
    })
}
