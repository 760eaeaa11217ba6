//! Models in several files: what belongs together is put together, and nothing else.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use compress_gguf::{Error, Gguf, Part};
use support::Header;

/// A part with one tensor of eight numbers, and perhaps the number of all tensors.
fn part(number: u32, count: u32, tensors: Option<u32>, name: &str) -> Gguf {
    let header = Header::default()
        .whole("split.no", number)
        .whole("split.count", count)
        .text("from", &format!("part {number}"))
        .tensor(name, &[8], 0, 0)
        .data(32);
    let header = match tensors {
        Some(tensors) => header.whole("split.tensors.count", tensors),
        None => header,
    };
    header.parse().unwrap()
}

fn refusal(parts: Vec<Gguf>) -> String {
    match Gguf::join(parts) {
        Err(error @ (Error::Part { .. } | Error::DuplicateTensor { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_says_which_part_it_is() {
    let parts = part(1, 3, None, "a").part().unwrap();
    assert_eq!(
        parts,
        Some(Part {
            number: 1,
            count: 3
        })
    );
    // A model that was put together again, and one of a single part.
    for count in [0, 1] {
        assert_eq!(part(0, count, None, "a").part().unwrap(), None);
    }
    assert_eq!(Header::default().parse().unwrap().part().unwrap(), None);
    assert!(matches!(
        part(3, 3, None, "a").part(),
        Err(Error::Part { part: 3, .. })
    ));
    let nameless = Header::default().whole("split.count", 2).parse().unwrap();
    assert!(matches!(nameless.part(), Err(Error::MissingKey { key }) if key == "split.no"));
    let huge = Header::default().whole("split.no", 0).entry(
        "split.count",
        10,
        &(1_u64 << 60).to_le_bytes(),
    );
    let huge = huge.parse().unwrap();
    assert_eq!(huge.part().unwrap().unwrap().count, 1 << 60);
    assert!(refusal(vec![huge]).contains(&(1_u64 << 60).to_string()));
    let text = Header::default().text("split.count", "2").parse().unwrap();
    assert!(matches!(text.part(), Err(Error::WrongType { .. })));
}

#[test]
fn parts_give_the_metadata_of_the_first_and_the_tensors_of_all() {
    let parts = vec![part(0, 2, Some(2), "a"), part(1, 2, Some(2), "b")];
    let whole = Gguf::join(parts).unwrap();
    assert_eq!(whole.metadata()["from"].as_str(), Some("part 0"));
    let places: Vec<_> = whole
        .tensors()
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.part))
        .collect();
    assert_eq!(places, [("a", 0), ("b", 1)]);
    let alone = part(0, 1, None, "a");
    assert_eq!(Gguf::join(vec![alone.clone()]).unwrap(), alone);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let a = || part(0, 2, None, "a");
    let b = || part(1, 2, None, "b");
    assert!(refusal(vec![]).contains("missing"));
    assert!(refusal(vec![a()]).contains("part 0 of 2"));
    assert!(refusal(vec![b(), a()]).contains("part 1 of 2"));
    assert!(refusal(vec![a(), a()]).contains("part 0 of 2"));
    assert!(refusal(vec![a(), part(1, 3, None, "b")]).contains("part 1 of 3"));
    assert!(refusal(vec![a(), part(1, 2, None, "a")]).contains("appears twice"));
    let whole = Header::default().parse().unwrap();
    assert!(refusal(vec![a(), whole]).contains("a whole model"));
    let counted = refusal(vec![part(0, 2, Some(3), "a"), b()]);
    assert!(
        counted.contains("is 3, but all parts together have 2"),
        "{counted}"
    );
}
