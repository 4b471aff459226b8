//! Export and import.

use llmos_store::{Error, Form, Imported, Parent, Role, Thumb};
use serde_json::{Value, json};

use super::{Ground, assistant, user};

pub(crate) fn exports_come_back(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    for i in 0..150 {
        let id = chats.create(&format!("t{i}"), json!({ "i": i })).unwrap().id;
        chats.append(&id, Parent::Leaf, user("q")).unwrap();
        chats.append(&id, Parent::Leaf, assistant("a")).unwrap();
        chats.append(&id, Parent::Message(1), assistant("b")).unwrap();
        chats.rate(&id, 2, Thumb::Down, Some("no".into()), None).unwrap();
    }
    let mut first = Vec::new();
    assert_eq!(chats.export(Form::Trees, &mut first).unwrap(), 150);
    let mut plain = Vec::new();
    assert_eq!(chats.export(Form::Messages, &mut plain).unwrap(), 150);
    assert_eq!(chats.delete_all().unwrap(), 150);
    let imported = chats.import(&mut first.as_slice()).unwrap();
    let expected = Imported { conversations: 150, messages: 450, unchanged: 0, renamed: 0 };
    assert_eq!(imported, expected);
    let mut second = Vec::new();
    chats.export(Form::Trees, &mut second).unwrap();
    assert_eq!(first, second);
    assert_eq!(chats.search("q", 0, 200).unwrap().len(), 150);
    // A branch as plain messages is what anybody reads.
    let line = String::from_utf8(plain).unwrap().lines().next().unwrap().to_string();
    let row: Value = serde_json::from_str(&line).unwrap();
    let expected =
        json!([{ "role": "user", "content": "q" }, { "role": "assistant", "content": "b" }]);
    assert_eq!(row["messages"], expected);
    // Somebody else may take them too, under other ids.
    let imported = store.chats("bob").import(&mut first.as_slice()).unwrap();
    assert_eq!((imported.conversations, imported.renamed), (150, 150));
    assert_eq!(store.owners().unwrap(), [("ann".into(), 150), ("bob".into(), 150)]);
}

pub(crate) fn imports_can_be_repeated(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let lines = "\u{feff}{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\r\n\n  \n\
        {\"messages\":[{\"role\":\"user\",\"content\":\"你好\"},{\"role\":\"assistant\",\"content\":\"好\"}]}";
    let imported = chats.import(&mut lines.as_bytes()).unwrap();
    let expected = Imported { conversations: 2, messages: 3, unchanged: 0, renamed: 0 };
    assert_eq!(imported, expected);
    let imported = chats.import(&mut lines.as_bytes()).unwrap();
    let expected = Imported { conversations: 0, messages: 0, unchanged: 2, renamed: 0 };
    assert_eq!(imported, expected);
    let hit = chats.search("好", 0, 10).unwrap().remove(0);
    assert_eq!(hit.role, Some(Role::Assistant));
    // One that went on meanwhile is not overwritten.
    chats.append(&hit.conversation, Parent::Leaf, user("再见")).unwrap();
    let imported = chats.import(&mut lines.as_bytes()).unwrap();
    let expected = Imported { conversations: 1, messages: 2, unchanged: 1, renamed: 1 };
    assert_eq!(imported, expected);
    assert_eq!(chats.conversation(&hit.conversation).unwrap().messages, 3);
    assert_eq!(chats.list(None, 10).unwrap().conversations.len(), 3);
}

pub(crate) fn bad_lines_leave_nothing(ground: &Ground) {
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    let good = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\n";
    let mut check = |bad: &[u8], expected: &str| {
        let lines = [good.as_bytes(), b"\n", bad, b"\n", good.as_bytes()].concat();
        let error = chats.import(&mut lines.as_slice()).unwrap_err();
        assert!(matches!(error, Error::Row { number: 3, .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(chats.list(None, 10).unwrap().conversations.is_empty());
    };
    check(b"{", "line 3: no JSON");
    check(b"\xff", "no UTF-8");
    check(b"3", "is no object");
    check(br#"{"messages":[{"role":"user"}]}"#, "message 1 has no content");
    check("[".repeat(100_000).as_bytes(), "no JSON");
    let long = format!("\"{}", "a".repeat((64 << 20) + 8));
    check(long.as_bytes(), "longer than 64 MiB");
    assert_eq!(chats.import(&mut &b""[..]).unwrap(), Imported::default());
}
