//! `compress methods`: the trade-offs in one table.

use anyhow::Result;
use serde::Serialize;

use crate::{Outcome, args::Methods, report};

/// What a method does, needs and costs.
#[derive(Debug, Serialize)]
struct About {
    name: &'static str,
    does: &'static str,
    needs: &'static str,
    costs: &'static str,
    paper: &'static str,
}

const METHODS: [About; 1] = [About {
    name: "svd",
    does: "each linear weight becomes two thin factors, same kept fraction everywhere",
    needs: "nothing",
    costs: "one eigendecomposition per weight; quality falls fast below keep 0.95",
    paper: "Eckart & Young 1936",
}];

pub fn run(job: &Methods) -> Result<Outcome> {
    if job.printing.json {
        report::print(serde_json::json!({ "methods": METHODS }))?;
        return Ok(Outcome::Kept);
    }
    let mut table = report::plain(["method", "does", "needs", "costs", "paper"]);
    for about in &METHODS {
        table.add_row([
            about.name,
            about.does,
            about.needs,
            about.costs,
            about.paper,
        ]);
    }
    report::print(table)?;
    Ok(Outcome::Kept)
}
