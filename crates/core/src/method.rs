//! The contract: a method plans steps, and turns a step into edits.

use std::fmt::Debug;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Budget, Error, Factor, Form, Needs, Result, Shape, Site, Survey, TokenWeights};

/// One way to make a model smaller. Serialised, it is its own options.
///
/// Whoever calls a method guarantees that
///
/// - a [`Survey`] has the measurements that [`needs_to_plan`](Self::needs_to_plan) names when a plan is asked for,
///   and those that [`needs`](Self::needs) names when steps are carried out;
/// - under refit, [`Survey::weight`] gives the target that was solved for in the place of the weight, and
///   [`Survey::activations`] what enters the weight behind the compressed blocks before it. A method does the same
///   with either;
/// - all steps whose weights read one layer input come in one call of [`compress`](Self::compress), so that what they share
///   (a factorisation of H) is made once. Calls for different inputs may come from different threads at the same time.
pub trait Method: Sync + Serialize {
    /// One unit of work: what to compress, and how far. Methods with the same step can carry out
    /// each other's plans.
    type Step: Step;

    /// Those of its own options, as serialised, that decide a plan and nothing behind it.
    const PLANNING: &'static [&'static str] = &[];

    /// The method's name on the command line and in plans.
    fn name(&self) -> &'static str;

    /// The measurements that planning rests on.
    fn needs_to_plan(&self) -> Needs {
        Needs::NOTHING
    }

    /// The measurements that carrying out a step rests on, which another method may have planned.
    fn needs(&self, step: &Self::Step) -> Needs;

    /// Decides every step; no weight is rewritten. What would not shrink gets no step.
    ///
    /// Without a budget the method's own options say how far to go.
    fn plan(&self, survey: &Survey<'_>, budget: Option<Budget>) -> Result<Vec<Self::Step>>;

    /// Carries out steps; gives the edits of one after the other.
    fn compress(&self, steps: &[Self::Step], survey: &Survey<'_>) -> Result<Vec<Edit>>;

    /// The bytes that [`compress`](Self::compress) holds at most for the steps of one layer input on so many
    /// threads: weights of the given shapes, an H as the survey hands it out, and all that is made of them.
    fn memory(
        &self,
        steps: &[Self::Step],
        shape: &dyn Fn(Site) -> Result<Shape>,
        threads: usize,
    ) -> Result<usize>;
}

/// What a plan consists of. A step predicts the form of every weight it touches, so that sizes are
/// known, and files laid out, before any work is done.
pub trait Step: Clone + Debug + Send + Sync + Serialize + DeserializeOwned {
    /// What steps of this kind are called in plans.
    const KIND: &'static str;

    /// Every site that the step changes, and the form that it will have.
    fn forms(&self) -> Vec<(Site, Form)>;

    /// How much each token counts in the H that it is carried out by.
    fn tokens(&self) -> TokenWeights {
        TokenWeights::Uniform
    }

    /// Whether the weights can take those forms.
    fn check(&self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()>;
}

/// One change to the model: a site becomes a factor.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Where.
    pub site: Site,
    /// What takes the weight's place.
    pub factor: Factor,
    /// ‖W − Ŵ‖² / ‖W‖² in the norm that the method minimises.
    pub error: f64,
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
        vec![(self.site, Form::low_rank(self.rank))]
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
