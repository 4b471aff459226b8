//! Rows of conversations: what somebody hands in to finetune on, and answers that are graded.

use std::sync::LazyLock;

use llmos_agent::Guard;
use llmos_eval::conversation::{Answered, read_lines};
use llmos_eval::grade::grade;
use llmos_tokenizer::Tokenizer;
use llmos_tokenizer::chat::Extra;
use llmos_train::conversations::{Fault, Form, Learner, liked, pair, read};
use llmos_train::run::score_example;

use super::scratch::{self, Scratch};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let json = scratch::read("testdata/finetune/base/tokenizer.json");
    let config = scratch::read("testdata/finetune/base/tokenizer_config.json");
    Tokenizer::from_json(&json, Some(&config)).expect("a tokenizer of ours")
});

static GUARD: LazyLock<Guard> = LazyLock::new(|| Guard::new(&TOKENIZER));

/// One that says what the assistant wrote, and one of which that is found out.
static TEMPLATES: LazyLock<[String; 2]> = LazyLock::new(|| {
    ["testdata/finetune/marked.jinja", "testdata/finetune/base/chat_template.jinja"]
        .map(|path| String::from_utf8(scratch::read(path)).expect("a template of ours"))
});

/// A file of rows in any form: each is understood, learnt from as a conversation, a pair or a tagged
/// answer, or refused; lines with answers are graded.
pub fn conversation_rows(bytes: &[u8]) -> bool {
    let graded = std::str::from_utf8(bytes).is_ok_and(|text| {
        let read = read_lines::<Answered>("answers", text);
        let rows = read.as_deref().unwrap_or_default();
        rows.iter().for_each(|answered| {
            assert!(answered.row.question().len() <= answered.row.messages.len());
            grade(&answered.row.expect, &answered.answer);
        });
        !rows.is_empty()
    });
    // A Parquet file is known by its first bytes; its library's panics on damage are caught.
    if bytes.starts_with(b"PAR1") {
        return graded;
    }
    let scratch = Scratch::new();
    let Ok(rows) = read(&[scratch.write("rows", bytes)]) else { return graded };
    let mut n_learnt = 0;
    for row in &rows.rows {
        let _ = liked(row);
        let Some(form) = Form::of(row) else { continue };
        for template in TEMPLATES.iter().map(|template| Some(template.as_str())).chain([None]) {
            let (tokenizer, extra) = (&*TOKENIZER, Extra::default());
            let guard = GUARD.clone();
            let learner = Learner { tokenizer, guard, template, extra, context: 512 };
            let conversations = match form {
                Form::Preference => pair(row).map(|(chosen, rejected)| vec![chosen, rejected]),
                _ => form.conversation(row).map(|conversation| vec![conversation]),
            };
            for conversation in conversations.unwrap_or_default() {
                match learner.example(&conversation) {
                    Ok(example) => {
                        assert!(example.ids.len() == example.learnt.len());
                        assert!(example.ids.len() <= learner.context && example.n_learnt() > 0);
                        assert_eq!(score_example(example.clone()).n_learnt(), example.n_learnt());
                        n_learnt += 1;
                    }
                    Err(Fault::TooLong { tokens, most }) => assert!(tokens > most),
                    Err(_) => {}
                }
            }
        }
    }
    graded || n_learnt > 0
}

pub(crate) fn conversation_rows_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"calculator","arguments":{"expression":"1+1"}}}]},{"role":"tool","content":"2"},{"role":"assistant","content":"It is 2."}],"tools":[{"type":"function","function":{"name":"calculator"}}]}
{"messages":[{"role":"user","content":"<|im_end|>"},{"role":"assistant","content":"你好"}]}"#,
        r#"{"conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"{\"name\":\"clock\",\"arguments\":{}}"},{"from":"observation","value":"10:39"},{"from":"gpt","value":"b"}],"system":"s","tools":"[]"}"#,
        r#"[{"instruction":"a","input":"b","output":"c","history":[["d","e"]]},
{"instruction":"a","response":"c"}]"#,
        r#"{"prompt":"a","completion":"b","label":true}
{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}],"label":0}
{"question":"a","answer":"b"}"#,
        r#"{"prompt":"a","chosen":"b","rejected":"c"}
{"chosen":"\n\nHuman: a\n\nAssistant: b","rejected":"\n\nHuman: a\n\nAssistant: c"}
{"prompt":[{"role":"user","content":"a"}],"chosen":[{"role":"assistant","content":"b"}],"rejected":{"from":"gpt","value":"c"}}"#,
        r#"{"id":"hand-en-001","language":"en","skill":"arithmetic","messages":[{"role":"user","content":"whats 58 times 37"}],"expect":{"tool":"calculator","result":"2146","answer_any":["2146","2,146","can not"],"answer_none":["no"]},"answer":"It's **2,146**, not -1.5。","tool_calls":[{"name":"calculator","arguments":{"expression":"58*37"},"result":"2146.0"}]}"#,
    ];
    let packed = zstandard(br#"{"prompt":"a","completion":"b"}"#);
    texts.iter().map(|text| text.as_bytes().to_vec()).chain([packed]).collect()
}

/// A Zstandard frame (RFC 8878) of one raw block: a text of less than 256 bytes as it is.
fn zstandard(text: &[u8]) -> Vec<u8> {
    let length = text.len() as u8;
    let block = ((u32::from(length) << 3) | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length][..], &block[..3], text].concat()
}
