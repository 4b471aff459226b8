//! What a model wrote: text, thoughts and calls.

use llmos_agent::messages::normalized;
use llmos_agent::{Call, CallFormat, Piece, Reader, tool};

/// An answer is read alike in one piece and letter by letter, nothing of what opens a call is shown,
/// and a call can be run. The first byte says how calls are written.
pub fn answer(bytes: &[u8]) -> bool {
    let Some((&first, bytes)) = bytes.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if let Ok(messages) = serde_json::from_str::<Vec<serde_json::Value>>(text) {
        let _ = normalized(&messages);
    }
    let format = match first % 4 {
        0 => Some(CallFormat::Tags),
        1 => Some(CallFormat::Bare),
        2 => Some(CallFormat::List),
        _ => None,
    };
    let is_thinking = first & 4 != 0;
    let mut letters = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
    let whole = read(format, is_thinking, &mut std::iter::once(text));
    assert_eq!(read(format, is_thinking, &mut letters), whole, "{text:?}");
    let tools = [tool::calculator(), tool::clock(|| 0)];
    let n_call = whole.2.len();
    whole.2.into_iter().for_each(|call| drop(tool::run(&tools, call)));
    n_call > 0
}

fn read(
    format: Option<CallFormat>,
    is_thinking: bool,
    parts: &mut dyn Iterator<Item = &str>,
) -> (String, String, Vec<Call>) {
    let names = vec!["calculator".to_string(), "clock".to_string()];
    let mut reader = Reader::new(format, names, is_thinking);
    let mut pieces: Vec<Piece> = parts.flat_map(|part| reader.push(part)).collect();
    pieces.extend(reader.finish());
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Text(part) => text += &part,
            Piece::Reasoning(part) => reasoning += &part,
            Piece::Begun => {}
            Piece::Call(call) => calls.push(call),
        }
    }
    (text, reasoning, calls)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "0<think>\nHm.\n</think>\n\nSo:\n<tool_call>\n{\"name\": \"calculator\", \"arguments\": \
         {\"expression\": \"1 / 3\"}}\n</tool_call>\n<tool_call>{\"name\": \"clock\"}</tool_call>",
        "1{\"name\": \"clock\", \"parameters\": {}}; {\"name\": \"clock\", \"parameters\": {}}",
        "1<|python_tag|>{\"name\": \"clock\", \"parameters\": {}}",
        "2Let me see.[TOOL_CALLS][{\"name\": \"clock\", \"arguments\": {}, \"id\": \"call00001\"}]",
        "3No <tool_call> here.",
        "4thinking</think>said",
        "0[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Hi\"}]}]",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
