//! Documents: tables and pictures that are made of records of comparisons.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::PathBuf};

use common::{compress, fixture, folder, json, success, text};

/// A file of this repository.
fn own(name: &str) -> PathBuf {
    fixture("../..").join(name)
}

#[test]
fn the_documents_say_what_their_records_say() {
    let (readme, results) = (own("README.md"), own("docs/RESULTS.md"));
    success(&compress(&[
        "report",
        "--check",
        text(&readme),
        text(&results),
    ]));
}

#[test]
fn a_figure_that_was_changed_by_hand_is_overwritten() {
    let place = folder();
    let document = place.path().join("results.md");
    let record = own("benches/results/smollm2_caches.json")
        .canonicalize()
        .unwrap();
    let marker = format!("<!-- record: {} | plot: caches.svg -->", text(&record));
    let written =
        format!("# Caches\n\n{marker}\n\n16.0 is better\n<!-- end of record -->\n\nProse.\n");
    fs::write(&document, written).unwrap();
    let check = ["report", "--check", text(&document)];
    assert_eq!(compress(&check).status.code(), Some(1));
    assert!(
        !place.path().join("caches.svg").exists(),
        "a check writes nothing"
    );
    success(&compress(&["report", text(&document)]));
    success(&compress(&check));
    let filled = fs::read_to_string(&document).unwrap();
    assert!(
        !filled.contains("16.0 is better") && filled.ends_with("-->\n\nProse.\n"),
        "{filled}"
    );
    assert!(filled.contains("17.439"), "{filled}");
    fs::write(&document, filled.replace("17.439", "16.000")).unwrap();
    assert_eq!(compress(&check).status.code(), Some(1));
    // A picture that does not fit its record is told of, too.
    success(&compress(&["report", text(&document)]));
    fs::write(place.path().join("caches.svg"), "<svg/>").unwrap();
    assert_eq!(compress(&check).status.code(), Some(1));
}

#[test]
fn a_marker_that_cannot_be_answered_is_named_with_its_line() {
    let place = folder();
    let document = place.path().join("results.md");
    let record = own("benches/results/smollm2_caches.json")
        .canonicalize()
        .unwrap();
    let record = text(&record);
    for (marker, rest, problem) in [
        (
            "nowhere.json".to_owned(),
            "<!-- end of record -->",
            "cannot read",
        ),
        (
            format!("{record} | columns: bytes"),
            "<!-- end of record -->",
            "`bytes` is no column",
        ),
        (
            format!("{record} | only: svd"),
            "<!-- end of record -->",
            "no variant `svd`",
        ),
        (
            format!("{record} | picture: x.svg"),
            "<!-- end of record -->",
            "none of only, columns",
        ),
        (
            record.to_owned(),
            "prose",
            "no `<!-- end of record -->` follows",
        ),
    ] {
        fs::write(&document, format!("\n<!-- record: {marker} -->\n{rest}\n")).unwrap();
        let run = compress(&["report", text(&document)]);
        let error = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{marker}");
        assert!(
            error.contains("line 2") && error.contains(problem),
            "{error}"
        );
    }
}

#[test]
fn a_comparison_records_what_a_document_tells() {
    let place = folder();
    let other = own("models/tiny/calibration.txt");
    let arguments = [
        "compare",
        "--methods",
        "svd",
        "--keep",
        "0.9,0.6",
        "--ctx",
        "64",
    ];
    let texts = ["--windows", "24", "--also-text", text(&other)];
    let record = json(&[&arguments[..], &texts[..]].concat());
    let report = &record["variants"][1]["report"];
    for model in [
        &report["before"],
        &report["after"],
        &report["also"]["after"],
    ] {
        let (error, perplexity) = (&model["standard_error"], &model["perplexity"]);
        let share = error.as_f64().unwrap() / perplexity.as_f64().unwrap();
        assert!((0.001..0.5).contains(&share), "{model}");
    }
    // Tiny is kept in 16 bits a number, of which 0.6 are left, a little less for whole ranks.
    let bits = |model: &serde_json::Value| {
        8.0 * model["block_bytes"].as_f64().unwrap() / model["block_weights"].as_f64().unwrap()
    };
    let kept = bits(&report["after"]) / bits(&report["before"]);
    assert!((0.5..=0.6).contains(&kept), "{kept}");
    if cfg!(target_os = "linux") {
        assert!(report["peak_bytes"].as_u64().unwrap() > 1_000_000);
    }
    fs::write(place.path().join("record.json"), record.to_string()).unwrap();
    let document = place.path().join("results.md");
    fs::write(
        &document,
        "<!-- record: record.json -->\n<!-- end of record -->\n",
    )
    .unwrap();
    success(&compress(&["report", text(&document)]));
    let filled = fs::read_to_string(&document).unwrap();
    for part in [
        "perplexity, calibration",
        "bits per block weight",
        "compress compare",
        "`svd --keep 0.6`",
    ] {
        assert!(filled.contains(part), "{part}: {filled}");
    }
}

#[test]
fn lines_end_as_they_did_and_what_is_shown_in_a_fence_is_no_marker() {
    let place = folder();
    let document = place.path().join("results.md");
    let record = own("benches/results/smollm2_caches.json")
        .canonicalize()
        .unwrap();
    let marker = format!("<!-- record: {} -->", text(&record));
    let shown = "```\n<!-- record: FILE.json -->\n```\n";
    let written = format!("{shown}\n{marker}\n<!-- end of record -->\n").replace('\n', "\r\n");
    fs::write(&document, written).unwrap();
    success(&compress(&["report", text(&document)]));
    let filled = fs::read_to_string(&document).unwrap();
    assert!(filled.contains("FILE.json") && filled.contains("17.439"));
    let ends = filled.matches('\n').count();
    assert_eq!(filled.matches("\r\n").count(), ends);
    success(&compress(&["report", "--check", text(&document)]));
}

#[test]
fn chosen_variants_that_all_failed_make_a_table_of_their_errors() {
    let place = folder();
    let document = place.path().join("results.md");
    let variants = place.path().join("variants.toml");
    let good = "[good]\nmethod = \"svd\"\nkeep = 0.5\n\n";
    fs::write(&variants, format!("{good}[nope]\nmethod = \"nope\"\n")).unwrap();
    let (model, variants) = (own("models/tiny"), text(&variants));
    let compare = ["compare", text(&model), variants, "--windows", "1"];
    let compared = compress(&[&compare[..], &["--json", "-q"]].concat());
    let record = place.path().join("record.json");
    fs::write(&record, compared.stdout).unwrap();
    let marker =
        "<!-- record: record.json | command: no | only: nope -->\n<!-- end of record -->\n";
    fs::write(&document, marker).unwrap();
    success(&compress(&["report", text(&document)]));
    let filled = fs::read_to_string(&document).unwrap();
    let rows = filled.lines().filter(|line| line.starts_with('|'));
    assert!(rows.clone().count() == 4 && rows.clone().all(|row| row.matches('|').count() == 3));
}
