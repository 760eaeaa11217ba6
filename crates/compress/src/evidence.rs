//! Measurements for the methods that need them: from the store, or taken now.
//!
//! A run asks twice: before planning, for what the method ranks weights by ([`Measurements::to_plan`]), and before
//! compressing, for what the steps of the plan need ([`Measurements::to_compress`]). [`Route`] says which of it is
//! left to be measured when weights have their turn, in `carry_out`. Needs a calibration text; only the shipped model
//! has one of its own.

use std::{sync::Mutex, time::Instant};

use anyhow::{Context as _, Result, bail};
use compress_calibrate::{EvidenceStore, Progress, RefitTarget, calibrate};
use compress_checkpoint::Config;
use compress_core::{Method, Needs, Plan, Role, Survey};
use compress_evaluate::Protocol;
use compress_models::CPU;
use compress_numerics::Random;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    cache,
    footprint::room_to_measure,
    job::{Planning, SAMPLES, Target},
    model::Opened,
    progress, shipped, text,
};

/// The windows of a calibration text that measurements are taken on.
struct Sample {
    /// Tokens, of one length each.
    windows: Vec<Vec<u32>>,
    /// Text, windows and context, for records.
    about: Value,
}

impl Sample {
    /// Reads and cuts the calibration text as the arguments say; `context` is the evaluation's.
    ///
    /// Fails where there is no text, or one of fewer windows than were asked for.
    fn new(arguments: &Planning, context: Option<usize>, model: &Opened) -> Result<Self> {
        let options = &arguments.calibration;
        let (name, text) = match &options.text {
            Some(path) => (path.display().to_string(), text::read(path)?),
            None if model.is_shipped() => (
                "shipped calibration text".to_owned(),
                shipped::CALIBRATION.to_owned(),
            ),
            None => bail!(
                "this needs a text to calibrate on: give --calibrate FILE, of the kind that the model is meant for, \
                 but not the one that the result is judged by"
            ),
        };
        let config = model.checkpoint.config();
        let (_, time) = options.windows(context, config);
        let protocol = Protocol {
            context: time,
            windows: options.samples.filter(|_| options.seed.is_none()),
            // As running text: windows begin in the midst of it, and get no BOS.
            bos: false,
            documents: None,
        };
        // Windows from all over the text are chosen among all that there are.
        let most = options.seed.map_or(SAMPLES, |_| usize::MAX);
        let tokenizer = model.checkpoint.tokenizer()?;
        let cut = protocol.cut_at_most(most, &text, &tokenizer, config.bos);
        let mut windows = cut.with_context(|| format!("cannot calibrate on {name}"))?;
        if let Some(seed) = options.seed {
            Random(seed).shuffle(&mut windows);
        }
        // A text that is shorter than usual will do; one that is shorter than was asked for will not.
        let wanted = options.samples.unwrap_or(SAMPLES.min(windows.len()));
        if windows.len() < wanted {
            let found = windows.len();
            bail!(
                "{name} has {found} windows of {} tokens, but --samples asks for {wanted}",
                protocol.context
            );
        }
        windows.truncate(wanted);
        warn_of_few(wanted * protocol.context, config);
        let about = json!({
            "text": name,
            "windows": wanted,
            "context": protocol.context,
            "seed": options.seed,
        });
        Ok(Self { windows, about })
    }

    /// Everything that decides the measurements, as the key of their store.
    ///
    /// Tokens stand for the text and the way in which it was drawn; the number of windows says how they are cut. The
    /// config is in it beside the weights, since it decides what the model makes of them.
    fn key(&self, model: &Opened) -> Result<Value> {
        let mut key = json!({
            "version": 4, // of the way of measuring
            "model": model.id()?.digest,
            "config": model.checkpoint.config().json,
            "tokens": text::digest(self.windows.iter().flatten()),
            "windows": self.windows.len(),
        });
        // Any CPU gives the same bytes; GPUs sum in orders of their own. Their drivers are not told apart: what they
        // measure agrees to some 10⁻⁶.
        if let Some(device) = self.about.get("device") {
            key["device"] = device.clone();
        }
        Ok(key)
    }
}

/// Warns where a text cannot show all directions of an input: H = Σ x xᵀ of fewer tokens than inputs is singular, and
/// in the directions that it lacks nothing but its damping decides.
fn warn_of_few(tokens: usize, config: &Config) {
    let inputs = Role::ALL.map(|role| config.shape(role).cols);
    let widest = inputs.into_iter().max().unwrap_or(0);
    if tokens < widest {
        tell!(
            "warning: {tokens} calibration tokens for weights with up to {widest} inputs: for what the text never shows, the \
             result is a guess, and may be far off; give more --samples, or a longer --calibrate-ctx"
        );
    }
}

/// When each measurement of a run is taken: before anything is compressed, or when weights have their turn.
pub struct Route {
    /// The refit target; none where all weights are compressed as in the original.
    pub refit: Option<RefitTarget>,
    /// The measurements taken before anything is compressed.
    pub before: Needs,
    /// Whether activations are measured when the weights that they enter have their turn.
    pub in_turn: bool,
}

impl Route {
    /// The route of carrying out a plan. `footprint` predicts by it what the run will do.
    pub fn of<M: Method>(method: &M, plan: &Plan<M::Step>, arguments: &Planning) -> Self {
        let needs = plan.needs(method);
        let refit = arguments.calibration.refit(needs);
        // Of H, n × n numbers, one at a time is enough, unless it is to stay, was made to plan by, or comes with the
        // gradients, whose pass goes the other way.
        let passing = (needs.activations || needs.attention_weighted)
            && !needs.gradients
            && arguments.calibration.evidence.is_none()
            && method.needs_to_plan() == Needs::NOTHING;
        let in_turn = refit.is_some() || passing;
        let before = Needs {
            activations: needs.activations && !in_turn,
            attention_weighted: needs.attention_weighted && !in_turn,
            ..needs
        };
        Self {
            refit,
            before,
            in_turn,
        }
    }
}

/// The measurements that a method asked for, if it asked for any; its store is in use until it is dropped.
pub struct Measurements(Option<Gathered>);

/// A calibration text, and what was measured on it so far.
struct Gathered {
    /// The text, cut.
    sample: Sample,
    /// The name of its store.
    key: String,
    /// The measurements taken before anything is compressed; none where none are needed.
    store: Option<EvidenceStore>,
    /// Whether activations are measured when their turn comes.
    in_turn: bool,
    /// Whether the store is to stay.
    kept: bool,
    /// How long measuring took in this run.
    seconds: f64,
}

impl Measurements {
    /// The measurements that planning needs; `context` is the evaluation's. None where the plan is given.
    pub fn to_plan<M: Method>(
        method: &M,
        arguments: &Planning,
        context: Option<usize>,
        model: &Opened,
    ) -> Result<Self> {
        if matches!(arguments.target, Target::Plan(_)) || method.needs_to_plan() == Needs::NOTHING {
            return Ok(Self(None));
        }
        Self::gather((method.needs_to_plan(), false), arguments, context, model)
    }

    /// The measurements that carrying out a plan needs: its steps say, whichever method planned them.
    pub fn to_compress<M: Method>(
        method: &M,
        plan: &Plan<M::Step>,
        arguments: &Planning,
        context: Option<usize>,
        model: &Opened,
    ) -> Result<Self> {
        let Route {
            before, in_turn, ..
        } = Route::of(method, plan, arguments);
        // Plain svd, and whatever else asks nothing of a text.
        if before == Needs::NOTHING && !in_turn {
            if arguments.calibration.text.is_some() && !arguments.printing.quiet {
                tell!("warning: this needs no measurements, so --calibrate is not read");
            }
            return Ok(Self(None));
        }
        Self::gather((before, in_turn), arguments, context, model)
    }

    /// Reads the text, takes from the store what is there, and measures the rest.
    fn gather(
        (needs, in_turn): (Needs, bool),
        arguments: &Planning,
        context: Option<usize>,
        model: &Opened,
    ) -> Result<Self> {
        let mut sample = Sample::new(arguments, context, model)?;
        let (device, device_name) = arguments.machine.device.open()?;
        if device_name != CPU {
            sample.about["device"] = device_name.into();
        }
        let about = sample.key(model)?;
        let start = Instant::now();
        let measure = || {
            let root = &arguments.calibration.evidence;
            // Without --evidence they lie in the cache, so that a run that fails later does not measure again.
            let root = root.clone().map_or_else(cache::evidence, Ok)?;
            let store = EvidenceStore::open(&root, &about)?;
            let bar = Bar::new(arguments.printing.quiet);
            let room = room_to_measure(arguments.machine.memory);
            calibrate(
                &model.checkpoint,
                &sample.windows,
                needs,
                (&store, room),
                &device,
                &bar,
            )?;
            bar.finish();
            anyhow::Ok(store)
        };
        // Where all of it is measured in turn, no folder is made.
        let store = (needs != Needs::NOTHING).then(measure).transpose()?;
        Ok(Self(Some(Gathered {
            key: EvidenceStore::name(&about),
            store,
            sample,
            in_turn,
            kept: arguments.calibration.evidence.is_some(),
            seconds: start.elapsed().as_secs_f64(),
        })))
    }

    /// Removes what was measured, unless it is to stay. To be called when all is done: until then a run that fails
    /// can be repeated without measuring again.
    ///
    /// A store that another value or another run uses stays until the last of them lets go.
    pub fn let_go(self) {
        if let Some(Gathered {
            store: Some(store),
            kept: false,
            ..
        }) = self.0
            && let Err(error) = store.remove()
        {
            // The model is there; what stays of the measurements is removed by `compress cache --clear`.
            tell!("warning: {error}");
        }
    }

    /// Gives a survey what was measured.
    pub fn inform<'a>(&'a self, survey: Survey<'a>) -> Survey<'a> {
        match self.0.as_ref().and_then(|gathered| gathered.store.as_ref()) {
            Some(store) => survey.with_evidence(store),
            None => survey,
        }
    }

    /// The name of its store, which says in short what the measurements are of.
    pub fn key(&self) -> Option<&str> {
        self.0.as_ref().map(|gathered| gathered.key.as_str())
    }

    /// The text that it was measured on, for records.
    pub fn about(&self) -> Option<Value> {
        self.0
            .as_ref()
            .map(|gathered| gathered.sample.about.clone())
    }

    /// How long measuring took in this run.
    pub fn seconds(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |gathered| gathered.seconds)
    }

    /// The windows to take through the model, where activations are measured when their turn comes.
    pub fn windows_in_turn(&self) -> Option<&[Vec<u32>]> {
        let gathered = self.0.as_ref().filter(|gathered| gathered.in_turn)?;
        Some(gathered.sample.windows.as_slice())
    }
}

/// A progress bar for each of the passes, one after the other.
pub struct Bar {
    /// Without progress.
    quiet: bool,
    /// The bar of the pass under way.
    current: Mutex<Option<ProgressBar>>,
}

impl Bar {
    /// No bar yet: a pass starts its own.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            current: Mutex::new(None),
        }
    }

    /// The bar under the lock; it is usable even where a thread has failed while it held it.
    fn current(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.current
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Bar {
    fn start(&self, what: &'static str, steps: usize) {
        // Passes start one after the other and are not ended in between; two bars would write over each other.
        self.finish();
        *self.current() = Some(progress::bar(what, steps, self.quiet));
    }

    fn advance(&self, steps: usize) {
        if let Some(bar) = &*self.current() {
            bar.inc(steps as u64);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.current().take() {
            bar.finish_and_clear();
        }
    }

    fn show(&self, news: &str) {
        if let Some(bar) = &*self.current() {
            bar.set_message(news.to_owned());
        }
    }
}
