//! What the benches share: how they are timed (here), what they run (`models.rs`), what stays of it (`record.rs`).
//!
//! | variable | what |
//! |---|---|
//! | `COMPRESS_SMOLLM2` | a model to measure beside the one that ships |
//! | `COMPRESS_WIKITEXT2` | the text for it; without one it is left out where a text is wanted |
//! | `COMPRESS_BENCH=all` | also what takes minutes a time |
//! | `COMPRESS_RECORD` | the folder of the record, in place of `benches/record` |

pub mod models;
mod record;

use std::{env, fmt::Display, path::PathBuf, time::Duration};

use compress_models::DeviceChoice;
use criterion::{
    Bencher, BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime,
};

use record::{Case, Record};

/// Runs a bench by itself, as `cargo bench` starts it, and adds what was found to the record.
pub fn run(name: &'static str, bench: impl FnOnce(&mut Bench)) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../criterion");
    // Ten samples are the fewest that criterion takes: of what takes seconds, each is one run.
    let criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(1))
        .output_directory(&folder)
        .configure_from_args();
    let mut running = Bench {
        criterion,
        record: Record::new(name),
    };
    bench(&mut running);
    running.criterion.final_summary();
    match running.record.write(&folder) {
        Ok(Some(file)) => println!("recorded in {}", file.display()),
        Ok(None) => (),
        Err(error) => println!("not recorded: {error:#}"),
    }
}

/// The same over every model and device.
pub fn run_models(name: &'static str, measure: fn(&mut Bench, &models::Model, DeviceChoice)) {
    run(name, |bench| {
        for model in models::models() {
            for device in devices() {
                measure(bench, &model, device);
            }
        }
    });
}

/// Whether what takes minutes a time is wanted as well.
pub fn all() -> bool {
    env::var_os("COMPRESS_BENCH").is_some_and(|value| value == "all")
}

/// The devices to measure on: the CPU, and a card where one answers.
pub fn devices() -> Vec<DeviceChoice> {
    let card = DeviceChoice::Automatic.open();
    let has_card = card.is_ok_and(|(_, name)| name != "cpu");
    let card = has_card.then_some(DeviceChoice::Wgpu);
    [DeviceChoice::Cpu].into_iter().chain(card).collect()
}

/// A bench that is running.
pub struct Bench {
    criterion: Criterion,
    record: Record,
}

impl Bench {
    /// The measurements of one subject: a model, or a shape.
    pub fn group<'a>(&'a mut self, subject: &'a str) -> Group<'a> {
        let name = format!("{} of {subject}", self.record.bench);
        Group {
            inner: self.criterion.benchmark_group(name.clone()),
            name,
            record: &mut self.record,
            subject,
        }
    }
}

/// Measurements of one subject, which criterion draws in one picture.
pub struct Group<'a> {
    inner: BenchmarkGroup<'a, WallTime>,
    name: String,
    record: &'a mut Record,
    subject: &'a str,
}

impl Group<'_> {
    /// Times something, and says whether it was run: what the command line leaves out is not. With a number of `tokens`
    /// that one run takes, tokens per second are recorded, else milliseconds.
    pub fn time(
        &mut self,
        (form, device): (&str, &str),
        quantity: &str,
        tokens: Option<u64>,
        mut routine: impl FnMut(&mut Bencher<'_>),
    ) -> bool {
        // A group has one throughput until it gets another.
        let elements = Throughput::Elements(tokens.unwrap_or(1));
        self.inner.throughput(elements);
        let value = format!("{quantity} on {device}");
        let mut ran = false;
        self.inner
            .bench_function(BenchmarkId::new(form, &value), |bencher| {
                ran = true;
                routine(bencher);
            });
        let case = self.case(form, device, quantity);
        let id = format!("{}/{form}/{value}", self.name);
        self.record.times.push((id, case, tokens));
        ran
    }

    /// Takes the last time back where what was timed has failed, and says so.
    pub fn check(&mut self, form: &str, quantity: &str, failed: Option<impl Display>) {
        if let Some(reason) = failed {
            self.record.times.pop();
            self.skip(form, format_args!("{quantity}: {reason}"));
        }
    }

    /// Prints and records a figure that is not a time.
    pub fn value(&mut self, (form, device): (&str, &str), quantity: &str, value: f64) {
        println!("{}: {form}: {quantity} {value:.6}", self.name);
        let case = self.case(form, device, quantity);
        self.record.values.push((case, value));
    }

    /// Says that something cannot be measured, and why.
    pub fn skip(&self, form: &str, reason: impl Display) {
        println!("{}: {form}: left out: {reason}", self.name);
    }

    fn case(&self, form: &str, device: &str, quantity: &str) -> Case {
        [self.subject, form, device, quantity].map(str::to_owned)
    }
}
