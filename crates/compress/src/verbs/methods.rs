//! `compress methods`: the trade-offs in one table.
//!
//! Its rows are those that the methods have beside their options, in `args/options.rs`.

use anyhow::Result;

use crate::{
    Outcome,
    args::{ABOUT, About, Methods, Think},
    report,
};

/// Prints a row for each way of each method.
pub fn run(job: &Methods) -> Result<Outcome> {
    let rows: Vec<&About> = ABOUT
        .iter()
        .copied()
        .flatten()
        .chain(Think::ABOUT)
        .collect();
    if job.printing.json {
        report::print(serde_json::json!({ "methods": rows }))?;
        return Ok(Outcome::Kept);
    }
    let cells = rows.iter().map(|about| {
        let &&About {
            name,
            does,
            needs,
            costs,
            paper,
        } = about;
        [name, does, needs, costs, paper]
    });
    let header = ["method", "does", "needs", "costs", "paper"];
    report::print(report::worded(header, cells))?;
    Ok(Outcome::Kept)
}
