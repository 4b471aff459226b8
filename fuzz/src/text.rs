//! Vocabularies, chat templates and grammars: what a model brings along for its text.

use std::sync::LazyLock;

use llmos_model::grammar::{GrammarSource, GrammarVocabulary};
use llmos_tokenizer::{Special, Tokenizer, chat};

use super::scratch::read;

/// Text that has a bit of everything: scripts, digits, spaces, marks, special tokens, no UTF-8.
const TEXT: &[u8] = b"Hello, World's 12345  \t\n\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd <s>\xf0\x9f\x99\x82\xff\xc3</s> e\xcc\x81";

/// Encodes and decodes with a tokenizer that loaded.
fn exercise(tokenizer: Tokenizer) -> bool {
    for special in [Special::None, Special::Parse] {
        let ids = tokenizer.encode(TEXT, special);
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{ids:?}");
        tokenizer.decode(&ids);
        tokenizer.decode_text(&ids, true);
    }
    tokenizer.encode_prompt(TEXT);
    for id in (0..64).chain([u32::MAX]) {
        tokenizer.token_text(id);
    }
    true
}

/// A `tokenizer.json`.
pub fn tokenizer_json(bytes: &[u8]) -> bool {
    Tokenizer::from_json(bytes, None).is_ok_and(exercise)
}

pub(crate) fn tokenizer_json_seeds() -> Vec<Vec<u8>> {
    let word_piece = br####"{"added_tokens":[{"id":0,"content":"[UNK]","special":true}],
"normalizer":{"type":"BertNormalizer","lowercase":true},
"pre_tokenizer":{"type":"BertPreTokenizer"},"decoder":{"type":"WordPiece","prefix":"##"},
"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",
"max_input_chars_per_word":100,"vocab":{"[UNK]":0,"hello":1,"wor":2,"##ld":3,"1":4}}}"####;
    let unigram = br####"{"added_tokens":[],"normalizer":{"type":"NFKC"},
"pre_tokenizer":{"type":"Metaspace","replacement":"_","prepend_scheme":"always"},
"decoder":{"type":"Metaspace","replacement":"_","prepend_scheme":"always"},
"model":{"type":"Unigram","unk_id":0,"byte_fallback":false,
"vocab":[["<unk>",0.0],["_",-2.0],["H",-3.0],["ello",-1.5]]}}"####;
    vec![
        word_piece.to_vec(),
        unigram.to_vec(),
        read("testdata/architectures/qwen3/tokenizer.json"),
        read("testdata/architectures/llama/tokenizer.json"),
    ]
}

/// A SentencePiece `tokenizer.model`.
pub fn sentencepiece(bytes: &[u8]) -> bool {
    Tokenizer::from_sentencepiece(bytes).is_ok_and(exercise)
}

pub(crate) fn sentencepiece_seeds() -> Vec<Vec<u8>> {
    vec![read("testdata/architectures/llama/tokenizer.model")]
}

/// A chat template, over a conversation with tools.
pub fn chat_template(bytes: &[u8]) -> bool {
    let Ok(template) = std::str::from_utf8(bytes) else { return false };
    let messages = serde_json::json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it \"warm\" in Gen\u{e8}ve?\n"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"type": "function", "function": {"name": "weather", "arguments": {"city": "Gen\u{e8}ve"}}}
        ]},
        {"role": "tool", "content": "21.5"},
    ]);
    let tools = serde_json::json!([
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ]);
    let extra = chat::Extra { now: Some(1_700_000_000), ..chat::Extra::default() };
    chat::render(template, &messages, Some(&tools), true, &extra).is_ok()
}

pub(crate) fn chat_template_seeds() -> Vec<Vec<u8>> {
    [
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}\
         {%- if add_generation_prompt %}<|assistant|>{% endif %}",
        "{%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ strftime_now('%d %b %Y') }}",
        "{%- macro f(x, n=1) -%}{{ x.strip().split('\\n')[-1] * n }}{%- endmacro -%}\
         {% set ns = namespace(i=0) %}{% for m in messages %}{% if m.content is string %}\
         {{ f(m.content, 2) }}{% set ns.i = ns.i + 1 %}{% endif %}{% endfor %}{{ ns.i }}",
        "{% generation %}{{ raise_exception('no') if messages[0].role != 'system' }}{% endgeneration %}",
    ]
    .map(|template| template.as_bytes().to_vec())
    .to_vec()
}

/// A grammar (the first byte says of which kind), then up to sixteen tokens that it allows.
pub fn grammar(bytes: &[u8]) -> bool {
    static VOCABULARY: LazyLock<GrammarVocabulary> = LazyLock::new(|| {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        tokens.extend(["true", "\": ", "word", ""].map(|token| token.as_bytes().to_vec()));
        let end = tokens.len() as u32 - 1;
        GrammarVocabulary::new(&tokens, end).expect("a sound vocabulary")
    });
    let Some((&first, text)) = bytes.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let source = match first % 3 {
        0 => GrammarSource::JsonSchema(text),
        1 => GrammarSource::Regex(text),
        _ => GrammarSource::Lark(text),
    };
    let Ok(mut grammar) = VOCABULARY.compile(&source) else { return false };
    for step in 0..16 {
        let mut logits = vec![0.0f32; 260];
        if grammar.mask(&mut logits).is_err() {
            break;
        }
        let allowed: Vec<u32> = (0..260).filter(|&id| logits[id as usize] == 0.0).collect();
        let Some(&token) = allowed.get(step * 7 % allowed.len().max(1)) else { break };
        if grammar.commit(token).is_err() || token == 259 {
            break;
        }
    }
    true
}

pub(crate) fn grammar_seeds() -> Vec<Vec<u8>> {
    [
        "0{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":3},\
         \"b\":{\"enum\":[true,null,\"x\"]}},\"required\":[\"a\"],\"additionalProperties\":false}",
        "0{\"$defs\":{\"t\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"},\"maxItems\":3}},\
         \"$ref\":\"#/$defs/t\"}",
        "1(yes|no)[ .]{1,3}[a-z]*\\d+",
        "2start: \"a\" (word | NUMBER)+\nword: /[a-z]+/\nNUMBER: /[0-9]+/\n",
    ]
    .map(|grammar| grammar.as_bytes().to_vec())
    .to_vec()
}
