//! Which weights share which atoms, and the rank of each residual.
//!
//! ```text
//! price     S·m·n for the atoms of a group, S + r (m + n) for a mixture, m·n for a weight that stays whole
//! ranks     by one threshold on the spectra of what the atoms leave, as welore has it on those of whole weights
//! atoms     given, or for each role the number with which the plan loses least
//! ```
//!
//! The layers of a model share little: where their weights are orthogonal to each other, S atoms are S of them, and whoever
//! keeps those whole pays as much. So no role has to share, and of a group any weight may stay whole.

use std::collections::BTreeSet;

use compress_core::{Budget, Result, Role, Shape, Site, Step, Survey};
use compress_numerics::side_by_side;
use compress_svd::{Metric, Norm, under_norm};
use compress_welore::{Base, Candidate, Count, allocate_within};

use crate::{
    GroupsBy, Masa, atoms,
    mixture::{fit, rest},
    partition::partition,
    step::{Atoms, AtomsOf, Mix, Mixture},
};

/// Some weights of one role in consecutive groups of layers.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its weights, in the order of layers.
    pub sites: Vec<Site>,
    /// The shape of each.
    pub shape: Shape,
}

impl Group {
    /// The same but for some weights.
    fn without(&self, some: &[Site]) -> Self {
        let sites = self.sites.iter().filter(|site| !some.contains(site));
        Self {
            sites: sites.copied().collect(),
            ..self.clone()
        }
    }

    /// So many atoms of its weights, as far as there are as many weights; none of no weights.
    fn atoms(&self, count: usize) -> Option<Atoms> {
        let layers: Vec<usize> = self.sites.iter().filter_map(|site| site.layer()).collect();
        let count = count.min(layers.len());
        let start = *self.sites.first()?;
        (count > 0).then_some(Atoms {
            start,
            layers,
            count,
        })
    }
}

/// The groups of all chosen weights of some roles, each role's layers in so many parts. Fails where they are cut by the logit
/// lens and it was not measured.
pub fn groups(
    survey: &Survey<'_>,
    roles: &[Role],
    (parts, by): (usize, GroupsBy),
) -> Result<Vec<Group>> {
    // Whatever was said twice is one role.
    let roles: BTreeSet<Role> = roles.iter().copied().collect();
    let mut groups = Vec::new();
    for role in roles {
        let sites = survey.sites().filter(|(site, _)| site.role() == Some(role));
        let sites: Vec<(Site, Shape)> = sites.collect();
        let starts = starts(&sites, survey, (parts, by))?;
        let ends = starts.iter().skip(1).copied().chain([sites.len()]);
        groups.extend(starts.iter().zip(ends).filter_map(|(&start, end)| {
            let members = &sites[start..end];
            let (_, shape) = *members.first()?;
            // All weights of a role have one shape; one that has another shares nothing.
            let alike = members.iter().filter(|(_, other)| *other == shape);
            let sites = alike.map(|(site, _)| *site).collect();
            Some(Group { sites, shape })
        }));
    }
    Ok(groups)
}

/// The places among a role's weights at which groups begin.
fn starts(
    sites: &[(Site, Shape)],
    survey: &Survey<'_>,
    (parts, by): (usize, GroupsBy),
) -> Result<Vec<usize>> {
    let parts = parts.clamp(1, sites.len().max(1));
    if by == GroupsBy::Even || parts == 1 {
        return Ok((0..parts).map(|part| part * sites.len() / parts).collect());
    }
    let layers: Vec<usize> = sites.iter().filter_map(|(site, _)| site.layer()).collect();
    // Over layers that were not chosen, the sum of the steps.
    let apart = |pair: &[usize]| {
        (pair[0] + 1..=pair[1])
            .map(|layer| survey.lens(layer))
            .sum()
    };
    let apart = layers.windows(2).map(apart).collect::<Result<Vec<f64>>>()?;
    Ok(partition(&apart, parts))
}

/// Steps with the same number of atoms in every group, and residuals of rank ⌊ρ m n / (m + n)⌋; none for groups of fewer
/// weights than atoms, which would only grow.
#[must_use]
pub fn uniform(groups: &[Group], count: usize, residual: f64) -> Vec<Mix> {
    let large = groups.iter().filter(|group| group.sites.len() >= count);
    let steps = large.flat_map(|group| {
        // As many atoms as weights leave nothing.
        let exact = count == group.sites.len();
        let rank = (residual * group.shape.break_even_rank()) as usize * usize::from(!exact);
        let atoms = group.atoms(count);
        let of = atoms.as_ref().map(Atoms::reference);
        let mixtures = group.sites.iter().map(move |&site| {
            Mix::Mixture(Mixture {
                site,
                atoms: of,
                residual: rank.max(usize::from(of.is_none())),
            })
        });
        atoms.map(Mix::Atoms).into_iter().chain(mixtures)
    });
    steps.collect()
}

/// What a plan is made of: the groups, the survey that measures them, and the parameters that may stay.
pub struct Planning<'a> {
    pub method: &'a Masa,
    pub survey: &'a Survey<'a>,
    pub groups: &'a [Group],
    pub parameters: usize,
}

/// A plan, and what it is expected to lose: Σ of the eigenvalues that are cut off, in the norm of the method.
pub struct Found {
    pub steps: Vec<Mix>,
    pub loss: f64,
}

impl Planning<'_> {
    /// All groups, and the parameters that a budget leaves them.
    #[must_use]
    pub fn parameters(groups: &[Group], budget: Budget) -> usize {
        let all = groups
            .iter()
            .map(|group| group.sites.len() * group.shape.size());
        (budget.fraction() * all.sum::<usize>() as f64) as usize
    }

    /// The plan that loses least: role after role, the number of atoms is changed for as long as that helps.
    pub fn best(&self) -> Result<Found> {
        let mut counts = vec![0; self.groups.len()];
        let mut best = self.with(&counts)?;
        for place in 0..self.groups.len() {
            let layers = self.groups[place].sites.len();
            let mut tried = vec![1, layers / 6, layers / 3, layers / 2];
            tried.sort_unstable();
            tried.dedup();
            for count in tried
                .into_iter()
                .filter(|count| (1..layers).contains(count))
            {
                let before = std::mem::replace(&mut counts[place], count);
                let found = self.with(&counts)?;
                if found.loss < best.loss {
                    best = found;
                } else {
                    counts[place] = before;
                }
            }
        }
        Ok(best)
    }

    /// The plan with the same number of atoms in every group; with fewer where the budget does not admit so many.
    pub fn fixed(&self, count: usize) -> Result<Found> {
        let price = |count: usize| -> usize {
            let of_group = |group: &Group| {
                let count = count.min(group.sites.len());
                count * (group.shape.size() + group.sites.len())
            };
            self.groups.iter().map(of_group).sum()
        };
        let most = self.groups.iter().map(|group| group.sites.len()).max();
        // More atoms than weights would be none.
        let counts = 0..=count.min(most.unwrap_or(0));
        let fits = counts.rev().find(|&count| price(count) <= self.parameters);
        self.with(&vec![fits.unwrap_or(0); self.groups.len()])
    }

    /// The plan with so many atoms in each group.
    ///
    /// Twice: weights that are found to be worth staying whole need no atoms, which are then made of the others.
    fn with(&self, counts: &[usize]) -> Result<Found> {
        let first = self.given(counts, &[])?;
        let whole = first.whole(self.groups);
        if whole.is_empty() || counts.iter().all(|&count| count == 0) {
            return Ok(first);
        }
        let second = self.given(counts, &whole)?;
        Ok(if second.loss < first.loss {
            second
        } else {
            first
        })
    }

    /// The same where some weights are to stay whole, whatever else does.
    fn given(&self, counts: &[usize], whole: &[Site]) -> Result<Found> {
        let mut candidates = Vec::new();
        let mut paid = 0;
        let mut dictionaries = Vec::new();
        for (group, &count) in self.groups.iter().zip(counts) {
            let mixed = group.without(whole);
            let atoms = mixed.atoms(count);
            paid += (group.sites.len() - mixed.sites.len()) * group.shape.size();
            if let Some(Atoms { count, .. }) = &atoms {
                paid += count * (group.shape.size() + mixed.sites.len());
            }
            let spectra = self.spectra(&mixed.sites, atoms.as_ref())?;
            let of = atoms.as_ref().map(Atoms::reference);
            dictionaries.extend(atoms);
            for (site, spectrum) in mixed.sites.into_iter().zip(spectra) {
                candidates.push((of, candidate((site, group.shape), of, &spectrum)));
            }
        }
        let left = self.parameters.saturating_sub(paid);
        let (names, candidates): (Vec<Option<AtomsOf>>, Vec<Candidate>) =
            candidates.into_iter().unzip();
        let ranks = allocate_within(left, &candidates, Count::Envelope).ranks;
        // Counted as if the budget were kept: a plan that it does not admit loses all.
        let mut loss = if paid > self.parameters {
            f64::INFINITY
        } else {
            0.0
        };
        let mut mixtures = Vec::new();
        for ((of, candidate), rank) in names.into_iter().zip(&candidates).zip(ranks) {
            let coefficients = of.map_or(0, |of| of.count);
            let smaller = |rank: &usize| {
                let size = candidate.shape.low_rank_size(*rank) + coefficients;
                size < candidate.shape.size()
            };
            // A weight that would not be smaller stays whole, as one does that was found to be worth it.
            let Some(rank) = rank.filter(smaller) else {
                continue;
            };
            let price = candidate.shape.low_rank_size(1) as f64;
            let lost = candidate.scores.iter().skip(rank);
            loss += price * lost.sum::<f64>();
            mixtures.push(Mixture {
                site: candidate.site,
                atoms: of,
                residual: rank,
            });
        }
        // Atoms that no weight is left to mix are not made.
        let used = |atoms: &Atoms| {
            mixtures
                .iter()
                .any(|it| it.atoms == Some(atoms.reference()))
        };
        let dictionaries = dictionaries.into_iter().filter(used).map(Mix::Atoms);
        let mut steps: Vec<Mix> = dictionaries.collect();
        steps.extend(mixtures.into_iter().map(Mix::Mixture));
        Ok(Found { steps, loss })
    }

    /// The spectrum of what the atoms leave of each weight, in its norm, as shares of the weight where the norm does not
    /// compare across weights.
    fn spectra(&self, sites: &[Site], atoms: Option<&Atoms>) -> Result<Vec<Vec<f64>>> {
        let norm = self.method.norm;
        let name = atoms.map_or_else(|| norm.name().into(), |atoms| name(self.method, atoms));
        let known = sites
            .iter()
            .map(|site| self.survey.known_spectrum(*site, &name));
        let known: Option<Vec<Vec<f64>>> = known.collect::<Result<_>>()?;
        let of_whole = |place: usize| norm.spectrum(sites[place], self.survey);
        let spectra = match (known, atoms) {
            (Some(known), _) => known,
            (None, None) => side_by_side(sites.len(), usize::MAX, of_whole)?,
            (None, Some(atoms)) => {
                // Of one group at a time.
                let dictionary = atoms::dictionary(atoms, self.survey)?;
                let of_rest = |place: usize, metric: &Metric| {
                    self.survey.spectrum(sites[place], &name, |weight| {
                        let by = self.method.fit.metric(metric);
                        let coefficients = fit(weight, &dictionary, by)?;
                        norm.spectrum_of(&rest(weight, &dictionary, &coefficients)?, metric)
                    })
                };
                under_norm(sites, self.survey, norm, of_rest)?
            }
        };
        if norm == Norm::Kronecker {
            return Ok(spectra);
        }
        // Of the whole weight, not of the rest: a rest that is small counts for little.
        let whole = side_by_side(sites.len(), usize::MAX, of_whole)?;
        let relative = |(spectrum, whole): (Vec<f64>, Vec<f64>)| {
            let all: f64 = whole.iter().sum();
            let by = if all > 0.0 { all.recip() } else { 0.0 };
            spectrum.iter().map(|x| x * by).collect()
        };
        Ok(spectra.into_iter().zip(whole).map(relative).collect())
    }
}

impl Found {
    /// The weights that no step changes.
    fn whole(&self, groups: &[Group]) -> Vec<Site> {
        let changed = self.steps.iter().flat_map(Step::forms);
        let changed: BTreeSet<Site> = changed.map(|(site, _)| site).collect();
        let all = groups.iter().flat_map(|group| &group.sites);
        all.filter(|site| !changed.contains(site))
            .copied()
            .collect()
    }
}

/// The name under which the spectra of what atoms leave are kept, beside those of whole weights: all that decides them,
/// the layers as a hash, since a name of a file cannot list them all.
fn name(method: &Masa, atoms: &Atoms) -> String {
    let Atoms {
        start,
        layers,
        count,
    } = atoms;
    // FNV-1a, which is the same on every machine.
    let hash = layers
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, layer| {
            (hash ^ *layer as u64).wrapping_mul(0x100_0000_01b3)
        });
    let (norm, fit) = (method.norm.name(), method.fit.name());
    format!("{norm}-{fit}-{count}-{start}-{hash:016x}")
}

/// A weight for the hand-out of ranks.
fn candidate((site, shape): (Site, Shape), atoms: Option<AtomsOf>, spectrum: &[f64]) -> Candidate {
    let price = shape.low_rank_size(1) as f64;
    Candidate {
        site,
        shape,
        scores: spectrum.iter().map(|x| x / price).collect(),
        base: match atoms {
            Some(_) => Base::Shared,
            None => Base::Nothing,
        },
    }
}
