//! What `resolve` promises, against a hub on this machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod server;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use compress_hub::{Error, Progress, resolve};
use server::{COMMIT, Hub, Running};

const INDEX: &str = r#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-1.safetensors"}}"#;

fn sharded() -> Hub {
    Hub::of(&[
        ("config.json", "{}"),
        ("model.safetensors.index.json", INDEX),
        ("model-1.safetensors", "the first shard"),
        ("model-2.safetensors", "the second shard"),
        ("tokenizer.json", "{}"),
        ("merges.txt", ""),
        ("pytorch_model.bin", "no"),
        ("consolidated.safetensors", "no"),
        ("onnx/config.json", "no"),
    ])
}

fn single() -> Hub {
    Hub::of(&[
        ("config.json", "{}"),
        ("model.safetensors", "all of the weights"),
    ])
}

/// A model whose config says more.
fn with_config(config: &str, more: &[(&str, &str)]) -> Hub {
    let files = [("config.json", config), ("model.safetensors", "w")];
    Hub::of(&[&files, more].concat())
}

const CORRECTION: [(&str, &str); 2] = [
    ("adapter/adapter_config.json", "{}"),
    ("adapter/adapter_model.safetensors", "the correction"),
];

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn blobs(hub: &Running) -> Vec<String> {
    names(&hub.cache.path().join("models--org--model/blobs"))
}

#[test]
fn a_sharded_model_is_downloaded_without_the_files_that_nobody_reads() {
    let hub = sharded().run();
    let directory = hub.resolve("org/model").unwrap();
    assert_eq!(
        directory,
        hub.cache
            .path()
            .join("models--org--model/snapshots")
            .join(COMMIT)
    );
    let wanted = [
        "config.json",
        "merges.txt",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(
        names(&directory),
        [&wanted[..], &["tokenizer.json"]].concat()
    );
    assert_eq!(
        fs::read_to_string(directory.join("model-2.safetensors")).unwrap(),
        "the second shard"
    );
    assert_eq!(
        fs::read_to_string(hub.cache.path().join("models--org--model/refs/main")).unwrap(),
        COMMIT
    );
}

#[test]
fn the_adapter_that_the_config_names_comes_with_the_model() {
    let hub = with_config(r#"{"compress_adapter":"adapter"}"#, &CORRECTION).run();
    let directory = hub.resolve("org/model").unwrap();
    let weights = directory.join(CORRECTION[1].0);
    assert_eq!(fs::read_to_string(&weights).unwrap(), "the correction");
    assert!(directory.join(CORRECTION[0].0).is_file());
    // A copy that another program has left without it is not complete.
    fs::remove_file(&weights).unwrap();
    hub.requests();
    assert_eq!(hub.resolve("org/model").unwrap(), directory);
    assert!(!hub.requests().is_empty() && weights.is_file());
    assert_eq!(hub.resolve("org/model").unwrap(), directory);
    assert!(hub.requests().is_empty());
}

#[test]
fn an_adapter_that_is_named_and_not_there_is_an_error_and_nothing_large_is_downloaded() {
    let hub = with_config(r#"{"compress_adapter":"adapter"}"#, &CORRECTION[..1]).run();
    let error = hub.resolve("org/model").unwrap_err();
    assert!(
        matches!(&error, Error::Incomplete { missing, .. } if missing == CORRECTION[1].0),
        "{error}"
    );
    let asked = hub.requests();
    assert!(!asked.iter().any(|line| line.contains("model.safetensors")));
    for name in ["../adapter", "/etc", ""] {
        let config = format!(r#"{{"compress_adapter":"{name}"}}"#);
        let hub = with_config(&config, &CORRECTION).run();
        let error = hub.resolve("org/model").unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error}");
    }
}

#[test]
fn an_adapter_that_nothing_names_is_fetched_only_with_an_output_of_ours() {
    let hub = with_config("{}", &CORRECTION).run();
    let directory = hub.resolve("org/model").unwrap();
    assert!(!directory.join("adapter").exists());
    let output = [&CORRECTION[..], &[("compression.json", "{}")]].concat();
    let hub = with_config("{}", &output).run();
    let directory = hub.resolve("org/model").unwrap();
    assert!(directory.join(CORRECTION[1].0).is_file());
}

#[test]
fn a_complete_copy_is_used_without_asking_the_hub() {
    let mut hub = sharded().run();
    let first = hub.resolve("org/model").unwrap();
    assert!(!hub.requests().is_empty());
    assert_eq!(hub.resolve("org/model").unwrap(), first);
    assert_eq!(hub.resolve(&format!("org/model@{COMMIT}")).unwrap(), first);
    hub.settings.offline = true;
    assert_eq!(hub.resolve("org/model").unwrap(), first);
    assert!(hub.requests().is_empty());
}

#[test]
fn only_what_is_missing_is_downloaded() {
    let hub = sharded().run();
    let directory = hub.resolve("org/model").unwrap();
    fs::remove_file(fs::canonicalize(directory.join("model-1.safetensors")).unwrap()).unwrap();
    hub.requests();
    assert_eq!(hub.resolve("org/model").unwrap(), directory);
    let file = format!("/org/model/resolve/{COMMIT}/model-1.safetensors");
    let asked = [
        "GET /api/models/org/model/revision/main -",
        &format!("HEAD {file} -"),
        &format!("GET {file} -"),
    ];
    assert_eq!(hub.requests(), asked);
}

#[test]
fn offline_an_empty_cache_is_a_clear_error() {
    let mut hub = single().run();
    hub.settings.offline = true;
    let error = hub.resolve("org/model").unwrap_err();
    assert!(matches!(error, Error::Offline { .. }));
    let text = error.to_string();
    let cache = hub.cache.path().display().to_string();
    assert!(
        ["org/model", "HF_HUB_OFFLINE", "local directory", &cache]
            .iter()
            .all(|part| text.contains(part)),
        "{text}"
    );
    assert!(hub.requests().is_empty());
}

#[test]
fn a_hub_that_cannot_be_reached_is_a_clear_error_at_once() {
    let mut hub = single().run();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    hub.settings.endpoint = format!("http://{closed}");
    let start = Instant::now();
    let error = hub.resolve("org/model").unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    assert!(start.elapsed() < Duration::from_secs(5));
    let text = error.to_string();
    let cache = hub.cache.path().display().to_string();
    let parts = [
        "org/model",
        &hub.settings.endpoint,
        "HF_ENDPOINT",
        "local directory",
        &cache,
    ];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn a_refusal_speaks_of_gates_and_tokens() {
    for status in [401, 403] {
        let hub = Hub {
            status: Some(status),
            ..single()
        }
        .run();
        let error = hub.resolve("org/model").unwrap_err();
        assert!(matches!(
            error,
            Error::Refused {
                token_sent: false,
                ..
            }
        ));
        let text = error.to_string();
        assert!(
            ["private or gated", "HF_TOKEN"]
                .iter()
                .all(|part| text.contains(part)),
            "{text}"
        );
    }
}

#[test]
fn a_model_that_is_not_there_is_not_found() {
    let hub = single().run();
    assert!(matches!(
        hub.resolve("org/other"),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        hub.resolve("org/model@other"),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn a_failing_hub_is_named() {
    let hub = Hub {
        status: Some(503),
        ..single()
    }
    .run();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::Failed { status: 503, .. })
    ));
}

#[test]
fn a_hostile_name_stops_the_download() {
    for name in ["../../evil.json", "/evil.json", "a/../../evil.json"] {
        let hub = Hub {
            listed: vec![name.to_owned()],
            ..single()
        }
        .run();
        assert!(matches!(
            hub.resolve("org/model"),
            Err(Error::UnsafeName { .. })
        ));
        assert_eq!(names(hub.cache.path()), [""; 0]);
    }
}

#[test]
fn a_hostile_etag_or_commit_names_no_file() {
    let hub = Hub {
        etag: Some("../../../evil".to_owned()),
        ..single()
    }
    .run();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::BadAnswer { .. })
    ));
    let hub = Hub {
        commit: Some("../../../evil".to_owned()),
        ..single()
    }
    .run();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::BadAnswer { .. })
    ));
}

#[test]
fn an_index_that_points_outside_the_folder_is_not_complete() {
    let index = r#"{"weight_map":{"a":"../../../outside.safetensors"}}"#;
    let hub = Hub::of(&[
        ("config.json", "{}"),
        ("model.safetensors.index.json", index),
    ])
    .run();
    fs::write(hub.cache.path().join("outside.safetensors"), "").unwrap();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::Incomplete { .. })
    ));
}

#[test]
fn a_model_that_lacks_a_shard_or_a_config_is_not_complete() {
    let mut hub = sharded();
    hub.files.remove("model-2.safetensors");
    let error = hub.run().resolve("org/model").unwrap_err();
    assert!(matches!(error, Error::Incomplete { missing, .. } if missing == "model-2.safetensors"));
    let error = Hub::of(&[("model.safetensors", "w")])
        .run()
        .resolve("org/model")
        .unwrap_err();
    assert!(matches!(error, Error::Incomplete { missing, .. } if missing == "config.json"));
}

#[test]
fn the_token_goes_to_the_hub_only_and_only_if_there_is_one() {
    let mut hub = Hub {
        store: true,
        token: Some("hf_secret".to_owned()),
        ..single()
    }
    .run();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::Refused {
            token_sent: false,
            ..
        })
    ));
    assert!(hub.requests().iter().all(|request| request.ends_with(" -")));
    hub.settings.token = Some("hf_other".to_owned());
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::Refused {
            token_sent: true,
            ..
        })
    ));
    hub.requests();
    hub.settings.token = Some("hf_secret".to_owned());
    hub.resolve("org/model").unwrap();
    for request in hub.requests() {
        let expected = if request.contains("/store/") {
            " -"
        } else {
            " Bearer hf_secret"
        };
        assert!(request.ends_with(expected), "{request}");
    }
}

#[test]
fn a_renamed_model_is_followed_and_its_token_with_it() {
    let token = Some("hf_secret".to_owned());
    let mut hub = Hub {
        moved: true,
        store: true,
        token: token.clone(),
        ..single()
    }
    .run();
    hub.settings.token = token;
    let directory = hub.resolve("org/model").unwrap();
    assert_eq!(
        fs::read_to_string(directory.join("model.safetensors")).unwrap(),
        "all of the weights"
    );
    assert!(!blobs(&hub).contains(&"another".to_owned()));
}

#[test]
fn a_hub_that_sends_too_much_is_not_believed() {
    let hub = Hub {
        surplus: 1 << 20,
        ..single()
    }
    .run();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::Damaged { .. })
    ));
    assert_eq!(blobs(&hub), [""; 0]);
}

#[test]
fn a_download_that_breaks_off_continues_where_it_stopped() {
    let hub = Hub {
        broken_answers: 3,
        bytes_of_a_broken_answer: 1,
        ..single()
    }
    .run();
    let directory = hub.resolve("org/model").unwrap();
    assert_eq!(
        fs::read_to_string(directory.join("model.safetensors")).unwrap(),
        "all of the weights"
    );
}

#[test]
fn a_broken_download_leaves_nothing_under_the_final_name() {
    let hub = Hub {
        broken_answers: 1,
        bytes_of_a_broken_answer: 0,
        ..single()
    }
    .run();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::Interrupted { .. })
    ));
    assert!(blobs(&hub).iter().all(|name| name.ends_with(".incomplete")));
    assert!(
        !hub.cache
            .path()
            .join("models--org--model/snapshots")
            .exists()
    );
    hub.resolve("org/model").unwrap();
    assert!(!blobs(&hub).iter().any(|name| name.ends_with(".incomplete")));
}

#[test]
fn a_hub_without_ranges_starts_again() {
    let hub = Hub {
        broken_answers: 1,
        bytes_of_a_broken_answer: 1,
        no_ranges: true,
        ..single()
    }
    .run();
    let directory = hub.resolve("org/model").unwrap();
    assert_eq!(
        fs::read_to_string(directory.join("config.json")).unwrap(),
        "{}"
    );
}

#[test]
fn a_file_that_is_not_the_announced_one_is_deleted() {
    let hub = Hub {
        etag: Some("0".repeat(64)),
        ..single()
    }
    .run();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::Damaged { .. })
    ));
    assert_eq!(blobs(&hub), [""; 0]);
}

#[test]
fn gguf_files_are_listed_and_one_can_be_had() {
    let hub = Hub::of(&[
        ("README.md", ""),
        ("model-q4.gguf", "four"),
        ("q8/model.gguf", "eight"),
    ])
    .run();
    let Err(Error::OnlyGguf { files, .. }) = hub.resolve("org/model") else {
        panic!("not refused")
    };
    assert_eq!(files, ["model-q4.gguf", "q8/model.gguf"]);
    let path = hub.resolve("org/model:q8/model.gguf").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "eight");
    hub.requests();
    assert_eq!(hub.resolve("org/model:q8/model.gguf").unwrap(), path);
    assert!(hub.requests().is_empty());
    let Err(Error::NoSuchFile { files, .. }) = hub.resolve("org/model:q2.gguf") else {
        panic!("not refused")
    };
    assert_eq!(files.len(), 2);
}

#[test]
fn a_gguf_model_in_parts_comes_whole() {
    let [first, second] = [1, 2].map(|part| format!("q4/model-0000{part}-of-00002.gguf"));
    let hub = Hub::of(&[(first.as_str(), "one"), (second.as_str(), "two")]).run();
    let path = hub.resolve(&format!("org/model:{second}")).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    let other = path.with_file_name("model-00001-of-00002.gguf");
    assert_eq!(fs::read_to_string(other).unwrap(), "one");
    hub.requests();
    assert_eq!(
        hub.resolve(&format!("org/model:{first}")).unwrap().parent(),
        path.parent()
    );
    assert!(hub.requests().is_empty());
    let hub = Hub::of(&[(first.as_str(), "one")]).run();
    let missing = hub.resolve(&format!("org/model:{first}"));
    assert!(matches!(missing, Err(Error::NoSuchFile { .. })));
}

#[test]
fn other_weights_are_refused_by_name() {
    let hub = Hub::of(&[("config.json", "{}"), ("pytorch_model.bin", "w")]).run();
    let Err(Error::OnlyPickle { files, .. }) = hub.resolve("org/model") else {
        panic!("not refused")
    };
    assert_eq!(files, ["pytorch_model.bin"]);
    let hub = Hub::of(&[("config.json", "{}")]).run();
    assert!(matches!(
        hub.resolve("org/model"),
        Err(Error::NoWeights { .. })
    ));
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error() {
    let mut hub = single().run();
    let file = hub.cache.path().join("file");
    fs::write(&file, "").unwrap();
    hub.settings.cache = file;
    assert!(matches!(hub.resolve("org/model"), Err(Error::Io { .. })));
}

#[test]
fn progress_ends_with_every_byte_of_every_file() {
    #[derive(Default)]
    struct Last(Mutex<BTreeMap<String, (u64, u64)>>);
    impl Progress for Last {
        fn advance(&self, file: &str, done: u64, total: u64) {
            self.0
                .lock()
                .unwrap()
                .insert(file.to_owned(), (done, total));
        }
    }
    let hub = single().run();
    let last = Last::default();
    resolve(&"org/model".parse().unwrap(), &hub.settings, &last).unwrap();
    let last = last.0.into_inner().unwrap();
    assert_eq!(last["config.json"], (2, 2));
    assert_eq!(last["model.safetensors"], (18, 18));
}
