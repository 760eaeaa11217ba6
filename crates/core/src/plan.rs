//! A plan: the steps for the sites of a model, in a file that one may read, edit and hand to another method.
//!
//! A plan is made by [`Method::plan`], written as JSON, and checked against the model when it is carried out. Unknown
//! fields are refused, so that a misspelt one is not silently ignored.
//!
//! ```text
//! version, kind   the format, and the kind of steps (which methods can carry them out)
//! method, source  who made it, and of which model
//! keep            the budget, if there was one
//! steps           each with the parameters before and after
//! whole           chosen sites that get no step
//! ```

mod head;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::{Budget, Error, Form, Method, Needs, Result, Site, Step, Survey, TokenWeights};

pub use head::{Kind, Version};

/// The model that a plan was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceId {
    /// The name it was given by: a path or a hub id.
    pub name: String,
    /// A digest of its weights, by which a changed model is noticed.
    pub digest: String,
}

/// A list of steps, and what they were decided from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "S: Step"), deny_unknown_fields)]
pub struct Plan<S: Step> {
    /// The version of the plan format.
    pub version: Version,
    /// The kind of its steps; any method with this kind can carry the plan out.
    pub kind: Kind<S>,
    /// The name of the method that made it.
    pub method: String,
    /// The model it was made for.
    pub source: SourceId,
    /// The budget that it was made for; absent in a plan written by hand, or by a method without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Budget>,
    /// The steps; in `WeLore`'s terms the low-rank components, LRC.
    pub steps: Vec<Planned<S>>,
    /// Weights that were chosen but stay whole, N-LRC in those terms; informative.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole: Vec<Site>,
}

/// A step, and the parameters that it saves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "S: Step"), deny_unknown_fields)]
pub struct Planned<S: Step> {
    /// The step itself.
    pub step: S,
    /// Parameters of the touched weights before and after; informative, recomputed when carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<[usize; 2]>,
}

impl<S: Step> Plan<S> {
    /// Reads a plan from JSON. A plan of another version or of another kind of steps is refused with an error that says
    /// so; so is an unknown field. Whether it fits a model, [`check`](Self::check) says.
    pub fn parse(text: &[u8]) -> Result<Self> {
        // First: a step of another kind would be reported as an unknown field.
        head::check::<S>(text)?;
        serde_json::from_slice(text).map_err(Error::Plan)
    }

    /// Wraps a method's steps, with the parameters before and after each. Fails where a step names a site that the
    /// model does not have.
    pub fn new(
        method: &str,
        source: SourceId,
        keep: Option<Budget>,
        steps: Vec<S>,
        survey: &Survey<'_>,
    ) -> Result<Self> {
        let touched: HashSet<Site> = steps
            .iter()
            .flat_map(Step::forms)
            .map(|(site, _)| site)
            .collect();
        let whole = survey.sites().map(|(site, _)| site);
        let whole = whole.filter(|site| !touched.contains(site)).collect();
        let planned = |step: S| {
            let mut parameters = [0, 0];
            for (site, form) in step.forms() {
                let shape = survey.shape(site)?;
                parameters[0] += shape.size();
                parameters[1] += form.parameters(shape);
            }
            if let Some(atoms) = step.dictionary() {
                parameters[1] += atoms.shape(survey.shape(atoms.group.start())?).size();
            }
            Ok(Planned {
                step,
                parameters: Some(parameters),
            })
        };
        let steps = steps.into_iter().map(planned).collect::<Result<_>>()?;
        Ok(Self {
            version: Version,
            kind: Kind::default(),
            method: method.into(),
            source,
            keep,
            steps,
            whole,
        })
    }

    /// Checks a plan, which may have been written by hand, against the model: every site exists, none is touched twice,
    /// every form is possible for its shape, and the atoms that weights share are made by one step. The first error is
    /// returned.
    pub fn check(&self, survey: &Survey<'_>) -> Result<()> {
        let mut seen = HashSet::new();
        for planned in &self.steps {
            planned.step.check(|site| survey.shape(site))?;
            for (site, _) in planned.step.forms() {
                if !seen.insert(site) {
                    return Err(Error::Twice { site });
                }
            }
        }
        self.check_dictionaries()
    }

    /// Fails where atoms are made twice, and where a weight mixes others than those of its group: it is the atoms that
    /// begin nearest before it which a file has for it.
    fn check_dictionaries(&self) -> Result<()> {
        let mut made = BTreeMap::new();
        for form in self
            .steps
            .iter()
            .filter_map(|planned| planned.step.dictionary())
        {
            let group = form.group;
            if made.insert(group, form).is_some() {
                let problem = "the plan makes these atoms twice";
                return Err(Error::Dictionary { group, problem });
            }
        }
        let mut unused = made.clone();
        for (site, form) in self.forms() {
            let Some(used) = form.dictionary() else {
                continue;
            };
            unused.remove(&used.group);
            let nearest = made.iter().rev().find(|(group, _)| group.admits(site));
            if nearest != Some((&used.group, &used)) {
                return Err(Error::Dictionary {
                    group: used.group,
                    problem: "no step of the plan makes the atoms that its weights are to be mixtures of",
                });
            }
        }
        match unused.keys().next() {
            Some(&group) => Err(Error::Dictionary {
                group,
                problem: "the plan makes these atoms, and no weight is to be a mixture of them",
            }),
            None => Ok(()),
        }
    }

    /// The token weights that its steps ask for; one pass over the text serves all steps, so the strongest wins.
    #[must_use]
    pub fn tokens(&self) -> TokenWeights {
        let tokens = self.steps.iter().map(|planned| planned.step.tokens());
        // `Uniform` comes first in the order of the variants.
        tokens.max().unwrap_or_default()
    }

    /// The union of the measurements that carrying out its steps by a method needs.
    #[must_use]
    pub fn needs<M: Method<Step = S>>(&self, method: &M) -> Needs {
        let needs = self.steps.iter();
        let needs = needs.map(|planned| method.needs(&planned.step));
        needs.fold(Needs::NOTHING, Needs::and)
    }

    /// Every site that changes, and the form that it will have: enough to lay out the output's files beforehand.
    #[must_use]
    pub fn forms(&self) -> Vec<(Site, Form)> {
        self.steps
            .iter()
            .flat_map(|planned| planned.step.forms())
            .collect()
    }
}
