//! Conversations, messages, branches, ratings.

use std::cell::RefCell;
use std::collections::BTreeMap;

use llmos_store::{
    Attachment, Body, Conversation, Cursor, Error, Form, Message, Origin, Parent, Rating, Role,
    Thumb, Tree,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{Ground, assistant, user};

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body.content.as_str()).collect()
}

pub(crate) fn branches(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("Capitals", json!({ "system": "Be brief." })).unwrap().id;
    assert_eq!(chats.branch(&id, None).unwrap(), []);
    let first = chats.append(&id, Parent::Leaf, user("Capital of Peru?")).unwrap();
    assert_eq!((first.number, first.parent), (1, None));
    let answer = chats.append(&id, Parent::Leaf, assistant("Quito.")).unwrap();
    assert_eq!((answer.number, answer.parent), (2, Some(1)));
    // Another try, then an edit of the question.
    let again = chats.append(&id, Parent::Message(1), assistant("Lima.")).unwrap();
    assert_eq!((again.number, again.parent), (3, Some(1)));
    chats.append(&id, Parent::Leaf, user("Thanks.")).unwrap();
    let edit = chats.append(&id, Parent::Root, user("Capital of Chile?")).unwrap();
    assert_eq!((edit.number, edit.parent), (5, None));
    assert_eq!(texts(&chats.branch(&id, None).unwrap()), ["Capital of Chile?"]);
    let branch = chats.branch(&id, Some(4)).unwrap();
    assert_eq!(texts(&branch), ["Capital of Peru?", "Lima.", "Thanks."]);
    // Back to the older branch: its newest end is found.
    assert_eq!(chats.select(&id, 1).unwrap(), 4);
    assert_eq!(chats.select(&id, 2).unwrap(), 2);
    assert_eq!(texts(&chats.branch(&id, None).unwrap()), ["Capital of Peru?", "Quito."]);
    assert_eq!(chats.append(&id, Parent::Leaf, user("No.")).unwrap().parent, Some(2));
    // All of it is there after the store was opened again.
    drop(store);
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let head = chats.conversation(&id).unwrap();
    assert_eq!((head.title.as_str(), head.messages, head.leaf), ("Capitals", 6, Some(6)));
    assert_eq!(head.settings, json!({ "system": "Be brief." }));
    assert!(head.created < head.updated);
    let all = chats.messages(&id, 0, 100).unwrap();
    let parents: Vec<Option<u32>> = all.iter().map(|message| message.parent).collect();
    assert_eq!(parents, [None, Some(1), Some(1), Some(3), None, Some(2)]);
    assert_eq!(chats.tree(&id).unwrap().messages, all);
    assert_eq!(chats.messages(&id, 2, 2).unwrap(), all[2..4]);
    assert_eq!(chats.message(&id, 5).unwrap(), all[4]);
    let renamed = chats.rename(&id, "Capital cities").unwrap();
    assert_eq!(chats.conversation(&id).unwrap(), renamed);
    chats.set(&id, &Value::Null).unwrap();
    assert_eq!(chats.conversation(&id).unwrap().settings, Value::Null);
    store.check().unwrap();
}

pub(crate) fn several_messages_at_once(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("", Value::Null).unwrap().id;
    chats.append(&id, Parent::Leaf, user("6 * 7?")).unwrap();
    let mut call = assistant("");
    call.tool_calls = vec![json!({ "id": "1", "function": { "name": "f", "arguments": "{}" } })];
    let mut tool = Body::text(Role::Tool, "42");
    tool.tool_call_id = Some("1".into());
    let turn = vec![call, tool, assistant("It is 42.")];
    let added = chats.append_all(&id, Parent::Leaf, turn).unwrap();
    let places: Vec<_> = added.iter().map(|message| (message.number, message.parent)).collect();
    assert_eq!(places, [(2, Some(1)), (3, Some(2)), (4, Some(3))]);
    assert_eq!(chats.branch(&id, None).unwrap()[1..], added);
    assert_eq!(chats.append_all(&id, Parent::Leaf, vec![]).unwrap(), []);
    // One that cannot be stored keeps the others out too.
    let deep = (0..200).fold(json!(1), |value, _| json!([value]));
    let mut bad = assistant("");
    bad.tool_calls = vec![deep];
    let error = chats.append_all(&id, Parent::Leaf, vec![user("x"), bad]).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    let error = chats.append_all(&id, Parent::Message(9), vec![user("x")]).unwrap_err();
    assert!(matches!(error, Error::Missing { what: "message", .. }), "{error}");
    assert_eq!(chats.conversation(&id).unwrap().messages, 4);
}

pub(crate) fn everything_of_a_message_comes_back(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("", Value::Null).unwrap().id;
    let body = Body {
        role: Role::Assistant,
        content: "It is 42.".into(),
        reasoning_content: Some("Six times seven.".into()),
        tool_calls: vec![json!({ "b": 1, "a": [0.1, -0.0, 1e300, null, u64::MAX] })],
        tool_call_id: Some("call-1".into()),
        name: Some("Deep Thought".into()),
        attachments: vec![
            Attachment { name: "b.txt".into(), media: "text/plain".into(), text: "bee".into() },
            Attachment { name: "a.rs".into(), media: "text/x-rust".into(), text: "".into() },
        ],
        origin: Some(Origin {
            model: "llmos-mini".into(),
            digest: "sha256:00".into(),
            prompt_hash: "ff".into(),
            prompt_tokens: 3,
            prompt: Some(vec![1, u32::MAX, 3]),
            tokens: 5,
            finish: Some("length".into()),
            seed: u64::MAX,
            sampling: json!({ "temperature": 0.7, "min_p": 0.05, "top_k": 40 }),
        }),
    };
    let added = chats.append(&id, Parent::Leaf, body.clone()).unwrap();
    chats.append(&id, Parent::Leaf, user("")).unwrap();
    let read = chats.message(&id, 1).unwrap();
    assert_eq!((&read, &read.body), (&added, &body));
    assert_eq!(read.body.tool_calls[0].to_string(), body.tool_calls[0].to_string());
}

pub(crate) fn every_character_comes_back(ground: &Ground) {
    let mut store = ground.open();
    let odd = "a\0b\u{1}0\u{1}1 \u{feff}\u{202e}é\u{301}𠮷👩‍👩‍👧 '\"$1?1%_\\ \r\n\u{7f}\u{10ffff}";
    let id = store.chats(odd).create(odd, json!({ odd: odd })).unwrap().id;
    let mut body = user(odd);
    body.reasoning_content = Some(odd.into());
    body.attachments = vec![Attachment { name: odd.into(), media: odd.into(), text: odd.into() }];
    store.chats(odd).append(&id, Parent::Leaf, body.clone()).unwrap();
    let reason = Some(odd.to_string());
    store.chats(odd).rate(&id, 1, Thumb::Down, reason.clone(), reason.clone()).unwrap();
    drop(store);
    let mut store = ground.open();
    assert_eq!(store.owners().unwrap(), [(odd.to_string(), 1)]);
    let tree = store.chats(odd).tree(&id).unwrap();
    assert_eq!(tree.conversation.title, odd);
    assert_eq!(tree.conversation.settings, json!({ odd: odd }));
    assert_eq!(tree.messages[0].body, body);
    assert_eq!(tree.messages[0].rating.as_ref().unwrap().ideal, reason);
}

pub(crate) fn lists_have_pages(ground: &Ground) {
    let mut store = ground.open();
    store.chats("bob").create("not mine", Value::Null).unwrap();
    let mut chats = store.chats("ann");
    let ids: Vec<String> =
        (0..25).map(|i| chats.create(&format!("{i}"), Value::Null).unwrap().id).collect();
    chats.append(&ids[3], Parent::Leaf, user("me first")).unwrap();
    let mut seen = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = chats.list(after.as_ref(), 10).unwrap();
        assert!(page.conversations.len() <= 10);
        seen.extend(page.conversations.into_iter().map(|head| head.id));
        // As it goes through a client.
        let Some(next) = page.next else { break };
        after = Some(next.to_string().parse().unwrap());
    }
    let mut expected: Vec<String> = ids.iter().rev().cloned().collect();
    let first = expected.remove(25 - 1 - 3);
    expected.insert(0, first);
    assert_eq!(seen, expected);
    for text in ["", "x", "x.y", "1"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
}

pub(crate) fn ratings(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("", Value::Null).unwrap().id;
    for text in ["a", "b", "c"] {
        chats.append(&id, Parent::Leaf, assistant(text)).unwrap();
    }
    let ideal = Some("B!".to_string());
    chats.rate(&id, 1, Thumb::Up, None, None).unwrap();
    let second = chats.rate(&id, 2, Thumb::Down, Some("too short".into()), ideal).unwrap();
    chats.rate(&id, 3, Thumb::Up, None, None).unwrap();
    let third = chats.rate(&id, 3, Thumb::Down, None, None).unwrap();
    let rated = |chats: &mut llmos_store::Chats<'_>, thumb| {
        let rated = chats.rated(thumb, 0, 10).unwrap();
        rated.into_iter().map(|rated| (rated.message, rated.rating)).collect::<Vec<_>>()
    };
    assert_eq!(rated(&mut chats, Some(Thumb::Down)), [(3, third.clone()), (2, second.clone())]);
    assert_eq!(rated(&mut chats, Some(Thumb::Up)).len(), 1);
    assert_eq!(rated(&mut chats, None).len(), 3);
    assert_eq!(chats.rated(None, 1, 1).unwrap()[0].message, 2);
    assert_eq!(chats.message(&id, 2).unwrap().rating, Some(second));
    chats.unrate(&id, 2).unwrap();
    chats.unrate(&id, 2).unwrap();
    assert_eq!(chats.message(&id, 2).unwrap().rating, None);
    let all: Vec<Option<Rating>> =
        chats.branch(&id, None).unwrap().into_iter().map(|message| message.rating).collect();
    assert_eq!(all[2], Some(third));
    assert!(all[1].is_none() && all[0].is_some());
}

pub(crate) fn what_is_missing_is_said(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let id = chats.create("", Value::Null).unwrap().id;
    chats.append(&id, Parent::Leaf, user("a")).unwrap();
    let check = |error: Error, expected: &str| assert_eq!(error.to_string(), expected);
    let none = "there is no conversation x";
    check(chats.conversation("x").unwrap_err(), none);
    check(chats.tree("x").unwrap_err(), none);
    check(chats.messages("x", 0, 1).unwrap_err(), none);
    check(chats.branch("x", None).unwrap_err(), none);
    check(chats.rename("x", "y").unwrap_err(), none);
    check(chats.set("x", &Value::Null).unwrap_err(), none);
    check(chats.append("x", Parent::Leaf, user("a")).unwrap_err(), none);
    check(chats.select("x", 1).unwrap_err(), none);
    check(chats.rate("x", 1, Thumb::Up, None, None).unwrap_err(), none);
    check(chats.delete("x").unwrap_err(), none);
    for number in [0, 2, u32::MAX] {
        let none = &format!("there is no message {number}");
        check(chats.message(&id, number).unwrap_err(), none);
        check(chats.branch(&id, Some(number)).unwrap_err(), none);
        check(chats.select(&id, number).unwrap_err(), none);
        check(chats.rate(&id, number, Thumb::Up, None, None).unwrap_err(), none);
        check(chats.unrate(&id, number).unwrap_err(), none);
        check(chats.append(&id, Parent::Message(number), user("a")).unwrap_err(), none);
    }
    assert_eq!(chats.conversation(&id).unwrap().messages, 1);
}

pub(crate) fn owners_are_apart(ground: &Ground) {
    let mut store = ground.open();
    let id = store.chats("ann").create("secret garden", Value::Null).unwrap().id;
    store.chats("ann").append(&id, Parent::Leaf, user("a secret")).unwrap();
    store.chats("ann").rate(&id, 1, Thumb::Up, None, None).unwrap();
    let before = store.chats("ann").tree(&id).unwrap();
    for other in ["bob", "", "ANN", "ann ", "ann' OR '1'='1", "%"] {
        let mut chats = store.chats(other);
        assert!(chats.list(None, 10).unwrap().conversations.is_empty());
        assert!(chats.search("secret", 0, 10).unwrap().is_empty());
        assert!(chats.rated(None, 0, 10).unwrap().is_empty());
        let mut out = Vec::new();
        assert_eq!(chats.export(Form::Trees, &mut out).unwrap(), 0);
        assert!(!chats.export_one(&id, Form::Trees, &mut out).unwrap());
        assert!(out.is_empty());
        let missing = |error: Error| assert!(matches!(error, Error::Missing { .. }), "{error}");
        missing(chats.conversation(&id).unwrap_err());
        missing(chats.tree(&id).unwrap_err());
        missing(chats.messages(&id, 0, 10).unwrap_err());
        missing(chats.message(&id, 1).unwrap_err());
        missing(chats.branch(&id, Some(1)).unwrap_err());
        missing(chats.select(&id, 1).unwrap_err());
        missing(chats.append(&id, Parent::Leaf, user("x")).unwrap_err());
        missing(chats.rename(&id, "x").unwrap_err());
        missing(chats.set(&id, &Value::Null).unwrap_err());
        missing(chats.rate(&id, 1, Thumb::Down, None, None).unwrap_err());
        missing(chats.unrate(&id, 1).unwrap_err());
        missing(chats.delete(&id).unwrap_err());
        assert_eq!(chats.delete_all().unwrap(), 0);
    }
    assert_eq!(store.chats("ann").tree(&id).unwrap(), before);
    assert_eq!(store.owners().unwrap(), [("ann".to_string(), 1)]);
}

pub(crate) fn deletion(ground: &Ground) {
    let mut store = ground.open();
    let mut ids = Vec::new();
    for i in 0..3 {
        let mut chats = store.chats("ann");
        let id = chats.create(&format!("title{i}"), Value::Null).unwrap().id;
        let mut body = user(&format!("content{i}"));
        let text = format!("attached{i}");
        body.attachments = vec![Attachment { name: "f".into(), media: "text/plain".into(), text }];
        chats.append(&id, Parent::Leaf, body).unwrap();
        chats.rate(&id, 1, Thumb::Up, None, None).unwrap();
        ids.push(id);
    }
    assert!(store.deletions().unwrap().is_empty());
    let mut chats = store.chats("ann");
    chats.delete(&ids[1]).unwrap();
    for (owner, id) in [("ann", &ids[1]), ("bob", &ids[0])] {
        let error = store.chats(owner).delete(id).unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }
    // What was deleted is counted for whoever remembers something of it.
    assert_eq!(store.deletions().unwrap(), BTreeMap::from([("ann".to_string(), 1)]));
    let mut chats = store.chats("ann");
    assert!(matches!(chats.conversation(&ids[1]), Err(Error::Missing { .. })));
    for (i, expected) in [(0, 1), (1, 0), (2, 1)] {
        for word in ["title", "content", "attached"] {
            let hits = chats.search(&format!("{word}{i}"), 0, 10).unwrap();
            assert_eq!(hits.len(), expected, "{word}{i}");
        }
    }
    assert_eq!(chats.rated(None, 0, 10).unwrap().len(), 2);
    assert_eq!(chats.delete_all().unwrap(), 2);
    assert_eq!(chats.delete_all().unwrap(), 0);
    assert!(chats.list(None, 10).unwrap().conversations.is_empty());
    assert_eq!(store.deletions().unwrap(), BTreeMap::from([("ann".to_string(), 2)]));
    store.check().unwrap();
    for table in ["conversation", "message", "attachment", "rating", "passage"] {
        assert_eq!((ground.count)(table), 0, "{table}");
    }
}

/// Any JSON that is not too deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    let attachment = (any::<String>(), any::<String>(), any::<String>())
        .prop_map(|(name, media, text)| Attachment { name, media, text });
    let origin = (any::<[String; 3]>(), any::<[u64; 3]>(), any::<Option<Vec<u32>>>(), any_json())
        .prop_map(
            |([model, digest, prompt_hash], [prompt_tokens, tokens, seed], prompt, sampling)| {
                let finish = prompt.as_ref().map(|_| digest.clone());
                Origin {
                    model,
                    digest,
                    prompt_hash,
                    prompt_tokens,
                    prompt,
                    tokens,
                    finish,
                    seed,
                    sampling,
                }
            },
        );
    let texts = any::<(String, Option<String>, Option<String>, Option<String>)>();
    (
        prop::sample::select(Role::ALL.to_vec()),
        texts,
        prop::collection::vec(any_json(), 0..3),
        prop::collection::vec(attachment, 0..3),
        prop::option::of(origin),
    )
        .prop_map(|(role, texts, tool_calls, attachments, origin)| {
            let (content, reasoning_content, tool_call_id, name) = texts;
            Body {
                role,
                content,
                reasoning_content,
                tool_calls,
                tool_call_id,
                name,
                attachments,
                origin,
            }
        })
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let rating = (any::<bool>(), any::<Option<String>>(), any::<Option<String>>(), any::<i64>());
    let rating = rating.prop_map(|(up, reason, ideal, created)| {
        let thumb = if up { Thumb::Up } else { Thumb::Down };
        Rating { thumb, reason, ideal, created }
    });
    let message =
        (any_body(), any::<prop::sample::Index>(), any::<i64>(), prop::option::of(rating));
    let head = ("[a-zA-Z0-9_-]{1,64}", any::<String>(), any_json(), any::<[i64; 2]>());
    let leaf = any::<prop::sample::Index>();
    (head, prop::collection::vec(message, 0..12), leaf).prop_map(|(head, messages, leaf)| {
        let (id, title, settings, [created, updated]) = head;
        let messages: Vec<Message> = (1..)
            .zip(messages)
            .map(|(number, (body, parent, created, rating))| {
                // 0 is no parent.
                let parent = Some(parent.index(number as usize) as u32).filter(|&n| n > 0);
                Message { number, parent, created, body, rating }
            })
            .collect();
        let n = messages.len();
        let leaf = (n > 0).then(|| leaf.index(n) as u32 + 1);
        let messages_count = n as u32;
        let conversation =
            Conversation { id, title, settings, leaf, messages: messages_count, created, updated };
        Tree { conversation, messages }
    })
}

/// Trees go in as lines, are read back, go out as lines, and are the same throughout.
pub(crate) fn random_trees_come_back(ground: &Ground) {
    let store = RefCell::new(ground.open());
    let mut runner =
        TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let result = runner.run(&prop::collection::vec(any_tree(), 1..4), |trees| {
        let mut trees = trees;
        trees.dedup_by(|a, b| a.conversation.id == b.conversation.id);
        let lines: String = trees.iter().map(|tree| format!("{}\n", tree.to_json())).collect();
        let mut store = store.borrow_mut();
        let mut chats = store.chats("ann");
        let imported = chats.import(&mut lines.as_bytes()).unwrap();
        for tree in &trees {
            let id = &tree.conversation.id;
            prop_assert_eq!(&chats.tree(id).unwrap(), tree);
            let branch = chats.branch(id, None).unwrap();
            prop_assert!(branch.iter().eq(tree.branch()));
        }
        prop_assert_eq!(imported.conversations, trees.len() as u64);
        let mut out = Vec::new();
        chats.export(Form::Trees, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let mut exported: Vec<&str> = out.lines().collect();
        let mut expected: Vec<&str> = lines.lines().collect();
        exported.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(exported, expected);
        chats.delete_all().unwrap();
        Ok(())
    });
    result.unwrap();
    store.into_inner().check().unwrap();
}
