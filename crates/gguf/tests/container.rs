//! The header: what is read of a good file, and that a bad one costs an error and nothing else.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use compress_gguf::{BlockType, Error, Gguf, Value, huggingface, tokenizer};
use proptest::prelude::*;
use support::{Header, array, fixture, start, string};

/// Asserts that parsing fails with an error of this shape.
macro_rules! refused {
    ($bytes:expr, $error:pat $(if $guard:expr)?) => {
        match Gguf::parse(&$bytes) {
            Err($error) $(if $guard)? => {}
            other => panic!("{other:?}"),
        }
    };
}

#[test]
fn a_tensor_is_found_under_its_name_with_its_outermost_dimension_first() {
    let file = fixture("q4_1.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let tensor = &gguf.tensors()["blk.0.ffn_down.weight"];
    assert_eq!(
        (tensor.kind, tensor.shape.as_slice()),
        (BlockType::Q4_1, [4, 512].as_slice())
    );
    assert_eq!(
        (tensor.range.len(), tensor.range.end),
        (4 * 512 / 32 * 20, file.len())
    );
    assert_eq!(tensor.kind.to_string(), "Q4_1");
}

#[test]
fn every_type_of_metadata_is_read() {
    let nested = array(9, &[array(1, &[vec![0xFF]]), array(1, &[])]);
    let gguf = Header::default()
        .entry("u8", 0, &[200])
        .entry("i8", 1, &[200])
        .entry("u16", 2, &[0, 1])
        .entry("i16", 3, &[0xFE, 0xFF])
        .whole("u32", 7)
        .entry("i32", 5, &(-7_i32).to_le_bytes())
        .number("f32", 1e-5)
        .truth("bool", true)
        .text("text", "Ġé")
        .entry("nested", 9, &nested)
        .entry("u64", 10, &u64::MAX.to_le_bytes())
        .entry("i64", 11, &i64::MIN.to_le_bytes())
        .entry("f64", 12, &0.1_f64.to_le_bytes())
        .parse()
        .unwrap();
    let found: Vec<_> = gguf
        .metadata()
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    let inner = vec![Value::Array(vec![Value::Signed(-1)]), Value::Array(vec![])];
    let expected = [
        ("bool", Value::Bool(true)),
        ("f32", Value::F32(1e-5)),
        ("f64", Value::F64(0.1)),
        ("i16", Value::Signed(-2)),
        ("i32", Value::Signed(-7)),
        ("i64", Value::Signed(i64::MIN)),
        ("i8", Value::Signed(-56)),
        ("nested", Value::Array(inner)),
        ("text", Value::Text("Ġé".to_owned())),
        ("u16", Value::Unsigned(256)),
        ("u32", Value::Unsigned(7)),
        ("u64", Value::Unsigned(u64::MAX)),
        ("u8", Value::Unsigned(200)),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        gguf.metadata()["f32"].as_f64(),
        Some(1e-5),
        "the shortest decimal, not its nearest single"
    );
}

#[test]
fn versions_2_and_3_are_read_and_no_other() {
    assert!(Gguf::parse(&start(2, 0, 0)).is_ok());
    assert!(Gguf::parse(&start(3, 0, 0)).is_ok());
    refused!(start(1, 0, 0), Error::Version { version: 1 });
    refused!(start(3_u32.swap_bytes(), 0, 0), Error::Version { .. });
    refused!(*b"GGML\x03\0\0\0", Error::NotGguf { .. });
}

#[test]
fn every_truncation_of_a_real_file_is_refused() {
    let file = fixture("llama.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let begin = gguf
        .tensors()
        .values()
        .map(|tensor| tensor.range.start)
        .min()
        .unwrap();
    let end = gguf
        .tensors()
        .values()
        .map(|tensor| tensor.range.end)
        .max()
        .unwrap();
    // Within the data every length takes the same path; a prime step keeps the loop short.
    for length in (0..begin).chain((begin..end).step_by(61)).chain([end - 1]) {
        match Gguf::parse(&file[..length]) {
            Err(Error::Truncated { .. } | Error::OutOfRange { .. }) => {}
            other => panic!("{length} bytes: {other:?}"),
        }
    }
    assert_eq!(Gguf::parse(&file[..end]).unwrap(), gguf);
}

#[test]
fn no_changed_bit_of_a_header_makes_parsing_panic() {
    let mut file = Header::default()
        .whole("general.alignment", 32)
        .texts("tokens", &["a", "b"])
        .entry("nested", 9, &array(9, &[array(7, &[vec![1]])]))
        .tensor("one", &[32, 2], 2, 0)
        .tensor("two", &[3], 0, 64)
        .data(96)
        .bytes();
    for at in 0..file.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            let _ = Gguf::parse(&file);
            file[at] ^= 1 << bit;
        }
    }
}

proptest! {
    #[test]
    fn no_garbage_in_a_real_header_makes_reading_panic(at in 0_usize..9000, garbage in proptest::collection::vec(any::<u8>(), 1..16)) {
        let mut file = fixture("llama.gguf");
        file[at..at + garbage.len()].copy_from_slice(&garbage);
        if let Ok(gguf) = Gguf::parse(&file) {
            let _ = (huggingface::config(&gguf), tokenizer(&gguf));
            for name in gguf.tensors().keys() {
                let _ = huggingface::values(&gguf, &file, name);
            }
        }
    }
}

#[test]
fn huge_counts_are_refused_before_memory_is_set_aside() {
    for huge in [1 << 20, 1 << 40, u64::MAX / 8, u64::MAX] {
        refused!(start(3, huge, 0), Error::Truncated { .. });
        refused!(start(3, 0, huge), Error::Truncated { .. });
        let count = huge.to_le_bytes();
        refused!(
            [start(3, 0, 1), count.to_vec()].concat(),
            Error::Truncated { .. }
        );
        refused!(
            Header::default().entry("text", 8, &count).bytes(),
            Error::Truncated { .. }
        );
        for id in 0_u32..13 {
            let list = [id.to_le_bytes().as_slice(), &count].concat();
            refused!(
                Header::default().entry("list", 9, &list).bytes(),
                Error::Truncated { .. }
            );
        }
    }
}

#[test]
fn malformed_metadata_are_refused() {
    let one = |id: u32, value: &[u8]| Header::default().entry("key", id, value).bytes();
    refused!(one(13, &[0; 8]), Error::ValueType { id: 13, .. });
    refused!(one(9, &array(13, &[])), Error::ValueType { id: 13, .. });
    refused!(one(7, &[2]), Error::Bool { byte: 2, .. });
    refused!(
        one(8, &[2, 0, 0, 0, 0, 0, 0, 0, 0xC3, 0x28]),
        Error::Text { .. }
    );
    let deep = (0..100_000).fold(array(0, &[]), |inner, _| match inner.len() {
        0..100 => array(9, &[inner]),
        _ => inner,
    });
    refused!(one(9, &deep), Error::Nested { limit: 4, .. });
    refused!(Header::default().whole("key", 1).whole("key", 2).bytes(), Error::DuplicateKey { key } if key == "key");
}

#[test]
fn an_alignment_is_a_power_of_two_and_obeyed() {
    let aligned = |alignment: u32, offset| {
        Header::default()
            .whole("general.alignment", alignment)
            .tensor("t", &[8], 0, offset)
            .data(128)
    };
    for wrong in [0, 3, 48] {
        refused!(aligned(wrong, 0).bytes(), Error::Alignment { alignment } if alignment == u64::from(wrong));
    }
    refused!(
        Header::default().text("general.alignment", "32").bytes(),
        Error::WrongType { .. }
    );
    refused!(
        aligned(64, 32).bytes(),
        Error::Misaligned {
            offset: 32,
            alignment: 64,
            ..
        }
    );
    refused!(aligned(32, 8).bytes(), Error::Misaligned { .. });
    assert_eq!(
        aligned(16, 48).parse().unwrap().tensors()["t"].range.start % 16,
        0
    );
}

#[test]
fn a_tensor_has_one_to_four_dimensions_of_whole_blocks() {
    let one = |dims: &[u64], kind| {
        Header::default()
            .tensor("t", dims, kind, 0)
            .data(4096)
            .bytes()
    };
    assert!(Gguf::parse(&one(&[32, 2, 1, 3], 2)).is_ok());
    refused!(one(&[], 0), Error::Rank { dimensions: 0, .. });
    refused!(one(&[1; 5], 0), Error::Rank { dimensions: 5, .. });
    refused!(one(&[4, 0], 0), Error::Shape { shape, .. } if shape == [0, 4]);
    refused!(
        one(&[16, 2], 2),
        Error::Shape {
            kind: BlockType::Q4_0,
            ..
        }
    );
    refused!(one(&[u64::MAX, u64::MAX], 0), Error::Shape { .. });
    refused!(one(&[u64::MAX / 4], 0), Error::OutOfRange { .. });
    refused!(one(&[u64::MAX / 2], 0), Error::Shape { .. });
}

#[test]
fn a_type_that_is_not_supported_is_named_with_its_tensor() {
    for (id, name) in [
        (40, "NVFP4"),
        (41, "Q1_0"),
        (28, "F64"),
        (4, "number 4"),
        (99, "number 99"),
    ] {
        let file = Header::default()
            .tensor("t", &[256], id, 0)
            .data(4096)
            .bytes();
        refused!(file, Error::UnsupportedType { tensor, kind } if tensor == "t" && kind == name);
    }
}

#[test]
fn tensors_lie_inside_the_file_and_apart_from_each_other() {
    let two = |first, second| {
        Header::default()
            .tensor("a", &[16], 0, first)
            .tensor("b", &[16], 0, second)
            .data(128)
            .bytes()
    };
    assert!(Gguf::parse(&two(64, 0)).is_ok());
    refused!(two(0, 32), Error::Overlap { first, second } if (first.as_str(), second.as_str()) == ("a", "b"));
    refused!(two(0, 0), Error::Overlap { .. });
    refused!(two(0, 96), Error::OutOfRange { tensor, .. } if tensor == "b");
    refused!(two(0, u64::MAX - 31), Error::OutOfRange { .. });
    let twice = Header::default()
        .tensor("a", &[8], 0, 0)
        .tensor("a", &[8], 0, 32)
        .data(64)
        .bytes();
    refused!(twice, Error::DuplicateTensor { tensor } if tensor == "a");
}

#[test]
fn a_string_longer_than_the_file_is_refused_where_it_begins() {
    let mut file = [start(3, 0, 1), string("general.architecture")].concat();
    file[24] = 255;
    refused!(
        file,
        Error::Truncated {
            at: 32,
            needed: 255,
            left: 20,
            ..
        }
    );
}
