//! Any bytes are a plan that fits the model, or an error.

#![no_main]

use compress_core::{Plan, Survey, Truncate, testing::Toy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(plan) = Plan::<Truncate>::parse(bytes) else { return };
    let toy = Toy::new(1);
    let survey = Survey::new(&toy, |_| true);
    if plan.check(&survey).is_ok() {
        assert!(plan.steps.len() <= survey.sites().count());
    }
});
