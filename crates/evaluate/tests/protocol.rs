//! Texts are cut into windows as the protocol says, or refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use compress_evaluate::{Error, Protocol};
use tokenizers::{Tokenizer, models::wordlevel::WordLevel, pre_tokenizers::whitespace::Whitespace};

/// The words "0" to "99" are the tokens 0 to 99; BOS is 7.
fn tokenizer() -> Tokenizer {
    let words = (0..100_u32).map(|i| (i.to_string(), i));
    let model = WordLevel::builder()
        .vocab(words.collect())
        .unk_token("0".into())
        .build()
        .unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(Whitespace));
    tokenizer
}

const BOS: Option<u32> = Some(7);

fn cut(protocol: &Protocol, text: &str) -> Result<Vec<Vec<u32>>, Error> {
    protocol.cut(text, &tokenizer(), BOS)
}

fn windows(context: usize, windows: Option<usize>) -> Protocol {
    Protocol {
        context,
        windows,
        bos: false,
        documents: None,
    }
}

#[test]
fn windows_follow_each_other_and_the_rest_is_dropped() {
    let found = cut(&windows(3, None), "1 2 3 4 5 6 8").unwrap();
    assert_eq!(found, [[1, 2, 3], [4, 5, 6]]);
    assert_eq!(
        cut(&windows(3, Some(1)), "1 2 3 4 5 6 8").unwrap(),
        [[1, 2, 3]]
    );
}

#[test]
fn a_leading_bos_counts_as_a_token_of_the_window() {
    let found = cut(
        &Protocol {
            bos: true,
            ..windows(3, None)
        },
        "1 2 3 4 5",
    )
    .unwrap();
    assert_eq!(found, [[7, 1, 2], [7, 3, 4]]);
}

#[test]
fn documents_are_led_by_bos_and_cut_at_the_context() {
    let protocol = Protocol {
        documents: Some("|".into()),
        ..windows(3, None)
    };
    let found = cut(&protocol, "1 2 3 4 | 5 || 6 8 ").unwrap();
    assert_eq!(found, [vec![7, 1, 2], vec![7, 5], vec![7, 6, 8]]);
}

#[test]
fn a_text_too_short_is_refused_with_its_length() {
    for protocol in [windows(5, None), windows(3, Some(2))] {
        let refused = cut(&protocol, "1 2 3 4");
        assert!(
            matches!(refused, Err(Error::TooShort { found: 4, .. })),
            "{refused:?}"
        );
    }
    let documents = Protocol {
        documents: Some("|".into()),
        ..windows(3, Some(3))
    };
    assert!(matches!(
        cut(&documents, "1 | 2"),
        Err(Error::TooShort { .. })
    ));
}

#[test]
fn a_protocol_that_scores_nothing_is_refused() {
    assert!(matches!(
        cut(&windows(1, None), "1 2"),
        Err(Error::Protocol { .. })
    ));
    assert!(matches!(
        cut(&windows(2, Some(0)), "1 2"),
        Err(Error::Protocol { .. })
    ));
    let leading = Protocol {
        bos: true,
        ..windows(2, None)
    };
    assert!(matches!(
        leading.cut("1 2", &tokenizer(), None),
        Err(Error::Protocol { .. })
    ));
}
