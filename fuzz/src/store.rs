//! Rows of conversations that are imported into a store.

use llmos_store::Tree;

/// Lines of an export or of anybody's: what is taken is written and read again as it was.
pub fn stored_rows(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut n_taken = 0;
    for line in text.lines() {
        let Ok(tree) = Tree::parse(line, 7) else { continue };
        let again = Tree::parse(&tree.to_json().to_string(), 8).expect("a row of ours");
        assert_eq!(again, tree);
        let branch = tree.branch().len();
        assert!(branch <= tree.messages.len());
        let plain = Tree::parse(&tree.to_plain_json().to_string(), 9).expect("plain messages");
        assert_eq!(plain.messages.len(), branch);
        n_taken += 1;
    }
    n_taken > 0
}

pub(crate) fn stored_rows_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"id":"a","title":"T","settings":{"system":"s"},"leaf":3,"created":1,"updated":2,"tree":[{"number":1,"parent":null,"created":1,"role":"user","content":"Hi","attachments":[{"name":"a.txt","media":"text/plain","text":"x"}]},{"number":2,"parent":1,"created":1,"role":"assistant","content":"Ho","reasoning_content":"r","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}],"origin":{"model":"m","digest":"d","prompt_hash":"p","prompt_tokens":3,"prompt":[1,2,3],"tokens":1,"seed":18446744073709551615,"sampling":{"temperature":0.7}},"rating":{"thumb":"down","reason":"rude","ideal":"Hello","created":2}},{"number":3,"parent":1,"created":2,"role":"tool","content":"Hello","tool_call_id":"1","name":"f"}]}"#,
        r#"{"title":"T","tools":[{"type":"function"}],"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},"b"]},{"role":"assistant","content":null,"thinking":"t","tool_calls":[{"id":"1"}]},{"role":"tool","content":"42","tool_call_id":"1"}]}
{"messages":[]}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
