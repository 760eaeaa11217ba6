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

const METHODS: [About; 6] = [
    About {
        name: "svd",
        does: "each weight becomes two thin factors, same kept fraction everywhere",
        needs: "nothing",
        costs: "one eigendecomposition per weight; quality falls fast below keep 0.95",
        paper: "Eckart & Young 1936",
    },
    About {
        name: "svd --metric activation",
        does: "the same with the least error of the outputs on a text",
        needs: "a calibration text",
        costs: "about three forward passes over it; one with --one-shot",
        paper: "arXiv 2403.07378",
    },
    About {
        name: "fwsvd",
        does: "the same with the least change of the loss, by its gradients on both sides",
        needs: "a calibration text",
        costs: "about seven forward passes over it; four with --one-shot",
        paper: "arXiv 2505.17974",
    },
    About {
        name: "fwsvd --fisher rows",
        does: "the same with one number for each input",
        needs: "a calibration text",
        costs: "as fwsvd, for less",
        paper: "arXiv 2207.00112",
    },
    About {
        name: "welore",
        does: "a rank for each weight, by one threshold on what ranks are worth to the loss",
        needs: "a calibration text; nothing with --score minmax",
        costs: "as fwsvd",
        paper: "arXiv 2407.11239",
    },
    About {
        name: "lorc",
        does: "few bits for each number, and a low-rank correction of what rounding loses",
        needs: "a calibration text; nothing with --quantizer nearest --metric plain",
        costs: "about three forward passes over it; one with --one-shot",
        paper: "arXiv 2303.08302",
    },
];

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
