//! The form of a weight, from the tensors that there are.

use compress_core::{DictionaryForm, Form, Group, PairForm, Precision, Scheme, Site};

use super::{MOST_RANK, coefficients, correction, dictionary, module, pair};

/// Tensors from which no form follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Packed integers, of which nothing says how they are rounded.
    NoScheme {
        /// The tensor.
        tensor: String,
    },
    /// Coefficients of atoms that are not there.
    NoAtoms {
        /// The tensor.
        tensor: String,
    },
    /// The first matrix of a pair, or coefficients, with a shape that none can have.
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
}

/// The form of a weight, from the shapes of the tensors that there are; packed integers of a module are rounded by the
/// `scheme` of its name.
///
/// Where there is nothing that belongs to the weight it is taken for whole, so that its missing tensor is named.
pub fn find<'a>(
    site: Site,
    shape: impl Fn(&str) -> Option<&'a [usize]>,
    scheme: impl Fn(&str) -> Option<Scheme>,
) -> Result<Form, Fault> {
    let module = module(site);
    let find = Find { shape, scheme };
    if let Some(shared) = find.shared(site, &module)? {
        return Ok(shared);
    }
    let base = find.precision(&module)?.map(|(precision, _)| precision);
    match (base, find.pair(pair(&module))?) {
        // A weight has either; what is there beside it is found to belong to nothing.
        (None, Some(pair)) => Ok(Form::LowRank(pair)),
        (base, _) => {
            let base = base.unwrap_or(Precision::Float);
            // Only quantised weights of blocks are corrected, by floats: an adapter on anything else belongs to nothing
            // that is read here, and is refused as that.
            let corrected = site.role().is_some() && base != Precision::Float;
            let found = if corrected {
                find.pair(correction(&module))?
            } else {
                None
            };
            let sum = found.filter(|pair| *pair == PairForm::float(pair.rank));
            let sum = sum.map(|correction| Form::Sum { base, correction });
            Ok(sum.unwrap_or(Form::Whole(base)))
        }
    }
}

struct Find<S, R> {
    shape: S,
    scheme: R,
}

impl<'a, S: Fn(&str) -> Option<&'a [usize]>, R: Fn(&str) -> Option<Scheme>> Find<S, R> {
    /// How a module's matrix is kept, and the tensor that says so.
    fn precision(&self, module: &str) -> Result<Option<(Precision, String)>, Fault> {
        let (packed, whole) = (
            format!("{module}.weight_packed"),
            format!("{module}.weight"),
        );
        if (self.shape)(&packed).is_some() {
            return match (self.scheme)(module) {
                Some(scheme) => Ok(Some((Precision::Quantised(scheme), packed))),
                None => Err(Fault::NoScheme { tensor: packed }),
            };
        }
        let there = (self.shape)(&whole).is_some();
        Ok(there.then_some((Precision::Float, whole)))
    }

    /// A mixture of atoms, if there are coefficients.
    fn shared(&self, site: Site, module: &str) -> Result<Option<Form>, Fault> {
        let Some((_, tensor)) = self.precision(&coefficients(module))? else {
            return Ok(None);
        };
        let (Site::Block { layer, role }, Some(&[1, atoms @ 1..=MOST_RANK])) =
            (site, (self.shape)(&tensor))
        else {
            let shape = (self.shape)(&tensor).unwrap_or_default().to_vec();
            return Err(Fault::Shape { tensor, shape });
        };
        // The atoms that begin at this layer or nearest before it.
        let begins = |first: usize| {
            let module = dictionary(Group { role, first });
            self.precision(&module).transpose()
        };
        let found = (0..=layer)
            .rev()
            .find_map(|first| Some((first, begins(first)?)));
        let Some((first, precision)) = found else {
            return Err(Fault::NoAtoms { tensor });
        };
        let (precision, _) = precision?;
        let group = Group { role, first };
        let dictionary = DictionaryForm {
            group,
            atoms,
            precision,
        };
        let residual = self.pair(pair(module))?;
        Ok(Some(Form::Shared {
            dictionary,
            residual,
        }))
    }

    /// A pair, if its first matrix is there.
    fn pair(&self, [down, up]: [String; 2]) -> Result<Option<PairForm>, Fault> {
        let Some((precision, tensor)) = self.precision(&down)? else {
            return Ok(None);
        };
        let shape = (self.shape)(&tensor).unwrap_or_default();
        let [rank @ 1..=MOST_RANK, _] = *shape else {
            let shape = shape.to_vec();
            return Err(Fault::Shape { tensor, shape });
        };
        let up = self.precision(&up)?;
        Ok(Some(PairForm {
            rank,
            // One that is missing is named when all tensors of the form are looked up.
            up: up.map_or(precision, |(precision, _)| precision),
            down: precision,
        }))
    }
}
