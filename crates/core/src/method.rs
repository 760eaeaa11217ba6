//! The contract of a compression method: plan steps for a budget, then turn steps into edits.
//!
//! Planning and carrying out are separate, so that a plan can be read, edited and compared before hours are spent, and
//! carried out by another method. Both see the model through a [`Survey`].

use std::fmt::Debug;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Budget, DictionariesInMemory, Dictionary, DictionaryForm, Error, Factor, Form, Needs, Result,
    Shape, Site, Survey, TokenWeights,
};

/// One way to make a model smaller. Serialised, it is its own options.
///
/// Whoever calls a method guarantees that
///
/// - a [`Survey`] has the measurements that [`needs_to_plan`](Self::needs_to_plan) names when a plan is asked for,
///   and those that [`needs`](Self::needs) names when steps are carried out;
/// - under refit, [`Survey::weight`] gives the refit target in the place of the weight, and
///   [`Survey::activations`] the H of the layer input behind the compressed blocks before it. A method does the same
///   with either;
/// - the steps that make what several weights share ([`Step::dictionary`]) come first, each in a call of
///   [`share`](Self::share); what it gave, as it is stored, is in the survey when those weights have their turn;
/// - the steps whose weights read one layer input come in one call of [`compress`](Self::compress), so that what they
///   share (a factorisation of H) is made once; in several only where memory does not suffice for all of them, or a
///   killed run goes on. Calls for different inputs may come from different threads at the same time.
pub trait Method: Sync + Serialize {
    /// One unit of work: what to compress, and how far. Methods with the same step can carry out
    /// each other's plans.
    type Step: Step;

    /// The serialised options that only planning depends on: the same plan carried out under other values of them
    /// gives the same factors.
    const PLANNING: &'static [&'static str] = &[];

    /// The method's name on the command line and in plans.
    fn name(&self) -> &'static str;

    /// The measurements that planning needs; nothing unless a method ranks sites by their spectra or errors.
    fn needs_to_plan(&self) -> Needs {
        Needs::NOTHING
    }

    /// The measurements that carrying out a step needs. It takes the step, since another method may have planned it.
    fn needs(&self, step: &Self::Step) -> Needs;

    /// Decides the steps for the chosen sites; no weight is rewritten. Sites that would not shrink get no step.
    ///
    /// Without a budget the method's own options say how far to go. Fails where a measurement is missing or a weight
    /// that has to be looked at is damaged.
    fn plan(&self, survey: &Survey<'_>, budget: Option<Budget>) -> Result<Vec<Self::Step>>;

    /// What else decided a plan that was made on this survey, for reports and records; none where options and budget say all.
    fn decided_by(&self, _survey: &Survey<'_>) -> Result<Option<Value>> {
        Ok(None)
    }

    /// Carries out a step that makes atoms for several weights, from the weights of the original. Methods whose steps
    /// make none leave this as it is.
    fn share(&self, _step: &Self::Step, _survey: &Survey<'_>) -> Result<Dictionary> {
        Err(Error::NothingShared {
            method: self.name(),
        })
    }

    /// Carries out steps that change weights, and returns the edits in the order of the steps.
    ///
    /// Fails where a step does not fit its weight, a measurement is missing, or a number is not finite. The result has
    /// the same bytes on any number of threads, and whether steps come in one call or in several.
    fn compress(&self, steps: &[Self::Step], survey: &Survey<'_>) -> Result<Vec<Edit>>;

    /// The peak bytes of [`compress`](Self::compress) for the steps of one layer input on so many threads: weights of
    /// the given shapes, H as the survey hands it out, and everything derived from them.
    ///
    /// [`memory_is_predicted`](crate::testing::memory_is_predicted) measures that this is right to a tenth.
    fn memory(
        &self,
        steps: &[Self::Step],
        shape: &dyn Fn(Site) -> Result<Shape>,
        threads: usize,
    ) -> Result<usize>;
}

/// One step of a plan. It predicts the form of every weight that it touches, so that sizes are known, and files laid
/// out, before any work is done.
pub trait Step: Clone + Debug + Send + Sync + Serialize + DeserializeOwned {
    /// The name of this kind of step in plans.
    const KIND: &'static str;

    /// Every site that the step changes, and the form that it will have; none for a step that makes a dictionary.
    fn forms(&self) -> Vec<(Site, Form)>;

    /// The form of the dictionary that the step makes, if it makes one.
    fn dictionary(&self) -> Option<DictionaryForm> {
        None
    }

    /// The token weights of the H that the step is carried out with.
    fn tokens(&self) -> TokenWeights {
        TokenWeights::Uniform
    }

    /// Fails where a site does not exist or its shape does not admit the form.
    fn check(&self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()>;
}

/// Carries out all steps of a plan in memory: what they share first, then the weights; the edits in the order of the
/// steps.
pub fn compress_all<M: Method>(
    method: &M,
    steps: &[M::Step],
    survey: &Survey<'_>,
) -> Result<Vec<Edit>> {
    let shared = DictionariesInMemory::of(method, steps, survey)?;
    let of_weights = steps.iter().filter(|step| step.dictionary().is_none());
    let of_weights: Vec<M::Step> = of_weights.cloned().collect();
    let survey = survey.for_part().with_dictionaries(&shared);
    method.compress(&of_weights, &survey)
}

/// One change to the model: a site becomes a factor.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Where.
    pub site: Site,
    /// The factor that takes the weight's place, as it will be stored.
    pub factor: Factor,
    /// The relative squared error ‖W − Ŵ‖² / ‖W‖² in the norm that the method minimises; W is what the survey gave,
    /// so under refit the target.
    pub error: f64,
}

/// Truncation of a weight to a rank: the step of every method whose factors are a low-rank pair, so that svd, fwsvd
/// and welore can carry out each other's plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// Which weight.
    pub site: Site,
    /// The rank to cut to, in 1..=min(out, in).
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
