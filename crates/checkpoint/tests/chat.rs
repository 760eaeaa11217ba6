//! Conversations are rendered as transformers renders them: `tests/fixtures/generation/chat.json` has what it gave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use common::{changed, fixture};
use compress_checkpoint::{Checkpoint, Message};
use serde_json::{Map, Value, json};

fn cases() -> Value {
    let path = fixture("..").join("generation/chat.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A model with a chat template; `file` says where it has it.
fn model(template: &Value, file: &str) -> tempfile::TempDir {
    let model = changed("llama", |_, _| ());
    let mut settings = template["special"].as_object().unwrap().clone();
    let write = |name: &str, text: String| fs::write(model.path().join(name), text).unwrap();
    if file == "chat_template.jinja" {
        write(file, template["text"].as_str().unwrap().into());
    } else {
        settings.insert("chat_template".into(), template["text"].clone());
    }
    write("tokenizer_config.json", Value::Object(settings).to_string());
    model
}

fn named<'a>(list: &'a Value, name: &Value) -> &'a Value {
    let mut all = list.as_array().unwrap().iter();
    all.find(|it| it["name"] == *name).unwrap()
}

fn render(folder: &Path, case: &Value, all: &Value) -> String {
    let messages = &named(&all["conversations"], &case["conversation"])["messages"];
    let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
    let variables = case["variables"].as_object().cloned().unwrap_or_default();
    let reply = case["add_generation_prompt"] == true;
    let model = Checkpoint::open(folder).unwrap();
    model.chat(&messages, reply, variables).unwrap()
}

#[test]
fn conversations_are_those_of_transformers() {
    let all = cases();
    for file in ["chat_template.jinja", "tokenizer_config.json"] {
        for case in all["cases"].as_array().unwrap() {
            let model = model(named(&all["templates"], &case["template"]), file);
            let found = render(model.path(), case, &all);
            assert_eq!(found, case["text"], "{case}");
        }
    }
}

#[test]
fn a_template_that_refuses_says_why_and_a_model_without_one_too() {
    let template = json!({
        "special": {},
        "text": "{% if messages[0].role != 'user' %}{{ raise_exception('users come first') }}{% endif %}",
    });
    let refusing = model(&template, "chat_template.jinja");
    let say = |folder: &Path| {
        let message = Message {
            role: "system".into(),
            content: "Be kind.".into(),
        };
        let model = Checkpoint::open(folder).unwrap();
        let error = model.chat(&[message], true, Map::new()).unwrap_err();
        error.to_string()
    };
    assert!(say(refusing.path()).contains("users come first"));
    assert!(say(&fixture("llama")).contains("no chat template"));
}

#[test]
fn end_tokens_are_those_of_the_generation_settings_else_of_the_config() {
    let model = changed("llama", |json, _| json["eos_token_id"] = 7.into());
    let ends = || {
        Checkpoint::open(model.path())
            .unwrap()
            .end_tokens()
            .unwrap()
    };
    assert_eq!(ends(), [7]);
    let write = |text: &str| fs::write(model.path().join("generation_config.json"), text).unwrap();
    write(r#"{"eos_token_id": [3, 4]}"#);
    assert_eq!(ends(), [3, 4]);
    write(r#"{"temperature": 0.6}"#);
    assert_eq!(ends(), [7]);
}
