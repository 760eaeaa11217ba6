//! The contract: a method plans steps, and turns a step into edits.

use std::fmt::Debug;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Budget, Error, Factor, Form, Needs, Result, Shape, Site, Survey, Tokens};

/// One way to make a model smaller. Serialised, it is its own options.
pub trait Method: Sync + Serialize {
    /// One unit of work: what to compress, and how far. Methods with the same step can carry out
    /// each other's plans.
    type Step: Step;

    /// Whether a budget of parameters decides the plan; else the method's own options do.
    const BUDGETED: bool = true;

    /// Those of its own options, as serialised, that decide a plan and nothing behind it.
    const PLANNING: &'static [&'static str] = &[];

    /// The method's name on the command line and in plans.
    fn name(&self) -> &'static str;

    /// The measurements that planning and compressing rest on.
    fn needs(&self) -> Needs;

    /// Those of them that planning itself rests on.
    fn plans_by(&self) -> Needs {
        Needs::NOTHING
    }

    /// What carrying out one step rests on, which may be another method's.
    fn needs_of(&self, _step: &Self::Step) -> Needs {
        self.needs()
    }

    /// Decides every step; no weight is rewritten. What would not shrink gets no step.
    fn plan(&self, survey: &Survey<'_>, budget: Budget) -> Result<Vec<Self::Step>>;

    /// Carries out steps; gives the edits of one after the other. Given those of all weights that read one
    /// stream, it prepares what they share once.
    fn compress(&self, steps: &[Self::Step], survey: &Survey<'_>) -> Result<Vec<Edit>>;

    /// The bytes that [`compress`](Self::compress) holds at most for the steps of one stream on so many
    /// threads: weights of the given shapes, an H as the survey hands it out, and all that is made of them.
    fn memory(
        &self,
        steps: &[Self::Step],
        shape: &dyn Fn(Site) -> Result<Shape>,
        threads: usize,
    ) -> Result<usize>;
}

/// What a plan consists of. A step foretells the form of every weight it touches, so that sizes are
/// known, and files laid out, before any work is done.
pub trait Step: Clone + Debug + Send + Sync + Serialize + DeserializeOwned {
    /// What steps of this kind are called in plans.
    const KIND: &'static str;

    /// Every site that the step changes, and the form that it will have.
    fn forms(&self) -> Vec<(Site, Form)>;

    /// How much each token counts in the H that it is carried out by.
    fn tokens(&self) -> Tokens {
        Tokens::Alike
    }

    /// Whether the weights can take those forms.
    fn check(&self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()>;
}

/// One change to the model.
#[derive(Clone, Debug)]
pub enum Edit {
    /// This site becomes that factor.
    Replace {
        /// Where.
        site: Site,
        /// By what.
        factor: Factor,
        /// ‖W − Ŵ‖² / ‖W‖² in the norm that the method minimises.
        error: f64,
    },
}

/// Cut a weight to a rank: the step of every method that keeps two factors per weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// Which weight.
    pub site: Site,
    /// To which rank.
    pub rank: usize,
}

impl Step for Truncate {
    const KIND: &'static str = "truncate";

    fn forms(&self) -> Vec<(Site, Form)> {
        vec![(self.site, Form::LowRank { rank: self.rank })]
    }

    fn check(&self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()> {
        let Self { site, rank } = *self;
        let shape = shape(site)?;
        let limit = shape.full_rank();
        if (1..=limit).contains(&rank) {
            Ok(())
        } else {
            Err(Error::Rank {
                site,
                rank,
                limit,
                shape,
            })
        }
    }
}
