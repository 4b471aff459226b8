//! Full-text search.

use llmos_store::{Attachment, Chats, Parent};
use serde_json::Value;

use super::{Ground, assistant, user};

/// The numbers of the messages that a query finds; 0 is the title.
fn found(chats: &mut Chats<'_>, query: &str) -> Vec<u32> {
    let hits = chats.search(query, 0, 100).unwrap();
    let mut numbers: Vec<u32> = hits.iter().map(|hit| hit.message.unwrap_or(0)).collect();
    numbers.sort_unstable();
    numbers
}

pub(crate) fn words_are_found(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("", Value::Null).unwrap().id;
    for text in [
        "The cat sat on a mat.",
        "Concatenate cats; don't.",
        "我想学习大模型的原理。",
        "模具和类型，机器学习",
        "Ein Käse aus Österreich, v1.5 of snake_case",
        "日本語とカタカナ、한국어 검색",
    ] {
        chats.append(&id, Parent::Leaf, user(text)).unwrap();
    }
    let mut check = |query: &str, expected: &[u32]| {
        assert_eq!(found(&mut chats, query), expected, "{query}");
    };
    check("cat", &[1, 2]);
    check("CAT", &[1, 2]);
    check("cats", &[2]);
    check("conca", &[2]);
    check("catenate", &[]);
    check("cat mat", &[1]);
    check("mat cat", &[1]);
    check("\"mat cat\"", &[]);
    check("\"sat on\"", &[1]);
    check("cat zebra", &[]);
    check("don't", &[2]);
    // One, two and more characters of Chinese, inside of what a reader would call words too.
    check("模", &[3, 4]);
    check("模型", &[3]);
    check("大模型", &[3]);
    check("型的", &[3]);
    check("学习", &[3, 4]);
    check("学习 类型", &[4]);
    check("习学", &[]);
    check("カタ", &[6]);
    check("국어", &[6]);
    check("kase", &[5]);
    check("ＫÄＳＥ", &[5]);
    check("osterreich", &[5]);
    check("v1.5", &[5]);
    check("snake_case", &[5]);
    let hits = chats.search("模型", 0, 10).unwrap();
    assert_eq!(hits[0].conversation, id);
    assert_eq!(&hits[0].snippet[hits[0].place.clone()], "模型");
}

pub(crate) fn attachments_and_titles_are_found(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let one = chats.create("Fishing trip", Value::Null).unwrap().id;
    let two = chats.create("钓鱼", Value::Null).unwrap().id;
    let mut body = user("See the file.");
    body.attachments = vec![Attachment {
        name: "report.md".into(),
        media: "text/markdown".into(),
        text: "Salmon in the river".into(),
    }];
    chats.append(&two, Parent::Leaf, body).unwrap();
    let mut check = |query: &str, expected: &[(&str, Option<u32>)]| {
        let hits = chats.search(query, 0, 10).unwrap();
        let hits: Vec<_> =
            hits.iter().map(|hit| (hit.conversation.as_str(), hit.message)).collect();
        assert_eq!(hits, expected, "{query}");
    };
    check("fishing", &[(&one, None)]);
    check("鱼", &[(&two, None)]);
    check("salmon", &[(&two, Some(1))]);
    check("report", &[(&two, Some(1))]);
    // In the text, in the attachment: together in one message.
    check("see river", &[(&two, Some(1))]);
    let hit = chats.search("salmon", 0, 1).unwrap().remove(0);
    assert_eq!((hit.snippet.as_str(), hit.place), ("Salmon in the river", 0..6));
    chats.rename(&one, "Hiking").unwrap();
    assert_eq!(found(&mut chats, "fishing"), [0u32; 0]);
    assert_eq!(found(&mut chats, "hiking"), [0]);
    // Pages of hits do not overlap.
    for i in 0..10 {
        chats.append(&one, Parent::Leaf, assistant(&format!("trout {i}"))).unwrap();
    }
    let mut seen = Vec::new();
    for skip in [0, 4, 8] {
        let hits = chats.search("trout", skip, 4).unwrap();
        seen.extend(hits.into_iter().map(|hit| hit.message.unwrap()));
    }
    assert_eq!(seen, (1..=10).rev().collect::<Vec<u32>>());
}

pub(crate) fn long_texts_are_found_everywhere(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("", Value::Null).unwrap().id;
    // Numbers as Chinese digits, so that every place has a substring of its own.
    let digits: Vec<char> = "零一二三四五六七八九".chars().collect();
    let chinese = |n: usize| -> String {
        format!("{n:05}").bytes().map(|byte| digits[usize::from(byte - b'0')]).collect()
    };
    let text: String = (0..4000).map(|n| format!("的{}", chinese(n))).collect();
    chats.append(&id, Parent::Leaf, user(&text)).unwrap();
    chats.append(&id, Parent::Leaf, user(&"哈".repeat(30_000))).unwrap();
    chats.append(&id, Parent::Leaf, user(&"x".repeat(100_000))).unwrap();
    for n in (0..4000).step_by(97) {
        let query = format!("的{}", chinese(n));
        assert_eq!(found(&mut chats, &query), [1], "{query}");
    }
    let across: String = (330..336).map(|n| format!("的{}", chinese(n))).collect();
    assert_eq!(found(&mut chats, &across), [1]);
    assert_eq!(found(&mut chats, "哈哈哈"), [2]);
    assert_eq!(found(&mut chats, "xxx"), [3]);
    // At both ends of a text that has several passages.
    let both = format!("的{} 的{}", chinese(0), chinese(3999));
    assert_eq!(found(&mut chats, &both), [1]);
}

pub(crate) fn no_query_is_an_error(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("t", Value::Null).unwrap().id;
    chats.append(&id, Parent::Leaf, user("near and or not words 1")).unwrap();
    for query in [
        "",
        " ",
        "\"",
        "\"\"",
        "*",
        "a*",
        "NEAR(a b)",
        "OR",
        "AND NOT",
        "words:1",
        "^near",
        "-or",
        "(",
        ")",
        "'",
        "''",
        "\\",
        "a\0b",
        "\u{1}",
        "$1",
        "?1",
        "a & b",
        "a | !b",
        "a <-> b",
        "a:*",
        "{words}: near",
        "--",
        ";",
        "%",
        "_",
        "\u{10ffff}",
        "\"a\"\"b\"",
    ] {
        chats.search(query, 0, 10).unwrap_or_else(|error| panic!("{query:?}: {error}"));
    }
    assert_eq!(found(&mut chats, "AND OR NEAR"), [1]);
    chats.search(&"字 ".repeat(10_000), 0, u32::MAX).unwrap();
    chats.search(&"word".repeat(10_000), u32::MAX, 1).unwrap();
}

/// Substrings of Chinese, against looking at every message.
pub(crate) fn search_is_as_a_scan(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("", Value::Null).unwrap().id;
    let alphabet: Vec<char> = "天地人大小上下".chars().collect();
    let mut state = 7_u64;
    let mut draw = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % n
    };
    let texts: Vec<String> = (0..60)
        .map(|_| (0..1 + draw(30)).map(|_| alphabet[draw(alphabet.len())]).collect())
        .collect();
    for text in &texts {
        chats.append(&id, Parent::Leaf, user(text)).unwrap();
    }
    for _ in 0..80 {
        let query: String = (0..1 + draw(4)).map(|_| alphabet[draw(alphabet.len())]).collect();
        let expected: Vec<u32> =
            (1..).zip(&texts).filter(|(_, text)| text.contains(&query)).map(|(n, _)| n).collect();
        assert_eq!(found(&mut chats, &query), expected, "{query}");
    }
}
