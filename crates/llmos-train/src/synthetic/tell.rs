//! Stories that are told when somebody asks for one: a text becomes a conversation.

use super::draw::Draw;
use super::row::{Expect, Message, Row, Skill};
use crate::data::Language;

/// What is asked for where the story may be about anything.
const ENGLISH: [&str; 12] = [
    "Tell me a story.",
    "Can you tell me a story?",
    "Please tell me a short story.",
    "I want to hear a story.",
    "tell me a story please",
    "Write a short story.",
    "A story, please!",
    "Do you know a story?",
    "Could you tell me a bedtime story?",
    "I cannot sleep. Tell me a story.",
    "Let's hear a story from you.",
    "Make up a little story for me.",
];

const CHINESE: [&str; 10] = [
    "给我讲个故事吧。",
    "讲一个故事。",
    "你能讲个故事吗？",
    "我想听故事。",
    "请写一个小故事。",
    "来个故事吧！",
    "编一个故事给我听。",
    "睡不着，给我讲个故事。",
    "你会讲故事吗？讲一个吧。",
    "说个短故事。",
];

/// What is asked for where it is about `{}`.
const ENGLISH_ABOUT: [&str; 6] = [
    "Tell me a story about {}.",
    "Can you write a story about {}?",
    "Please tell a short story about {}.",
    "I want a story about {}.",
    "a story about {} please",
    "Make up a story about {}.",
];

const CHINESE_ABOUT: [&str; 5] = [
    "讲一个关于{}的故事。",
    "给我讲个{}的故事吧。",
    "写一个关于{}的小故事。",
    "我想听{}的故事。",
    "编一个和{}有关的故事。",
];

/// What stories of children are about.
const ENGLISH_THINGS: [&str; 40] = [
    "dog",
    "cat",
    "bird",
    "rabbit",
    "bear",
    "fish",
    "frog",
    "mouse",
    "horse",
    "duck",
    "lion",
    "monkey",
    "butterfly",
    "ball",
    "car",
    "truck",
    "train",
    "boat",
    "kite",
    "doll",
    "tree",
    "flower",
    "garden",
    "park",
    "forest",
    "beach",
    "castle",
    "king",
    "princess",
    "dragon",
    "robot",
    "cake",
    "apple",
    "hat",
    "book",
    "box",
    "star",
    "moon",
    "snow",
    "rainbow",
];

const CHINESE_THINGS: [&str; 24] = [
    "老师",
    "学生",
    "医生",
    "画家",
    "科学家",
    "机器人",
    "公主",
    "国王",
    "魔法",
    "森林",
    "大海",
    "岛",
    "山",
    "村庄",
    "城市",
    "学校",
    "友谊",
    "爱情",
    "家人",
    "音乐",
    "星球",
    "宝藏",
    "梦",
    "狗",
];

/// Longest story in characters: with its question it has to fit a small model's context.
const MOST: [usize; 2] = [1500, 500];

/// Shortest one.
const LEAST: [usize; 2] = [200, 60];

/// The `number`th story as a conversation, its question drawn by `seed`; none where the text is too
/// short or too long to be told.
pub fn tell(text: &str, seed: u64, number: u64) -> Option<Row> {
    let text = text.trim();
    let is_chinese = Language::of(text) == Language::Zh;
    let length = text.chars().count();
    if !(LEAST[usize::from(is_chinese)]..=MOST[usize::from(is_chinese)]).contains(&length) {
        return None;
    }
    let mut draw = Draw::new(seed, number);
    let question = question(text, is_chinese, &mut draw);
    let language = if is_chinese { "zh" } else { "en" };
    Some(Row {
        id: format!("tell-{language}-{number:06}"),
        language,
        skill: Skill::Stories,
        messages: vec![Message::text("user", question), Message::text("assistant", text)],
        expect: Expect {
            tool: None,
            result: None,
            answer_any: Vec::new(),
            answer_none: Vec::new(),
        },
    })
}

fn question(text: &str, is_chinese: bool, draw: &mut Draw) -> String {
    let topic = if draw.chance(70) { topic(text, is_chinese, draw) } else { None };
    match (topic, is_chinese) {
        (Some(topic), false) => draw.pick(&ENGLISH_ABOUT).replace("{}", &topic),
        (Some(topic), true) => draw.pick(&CHINESE_ABOUT).replace("{}", &topic),
        (None, false) => draw.pick(&ENGLISH).to_string(),
        (None, true) => draw.pick(&CHINESE).to_string(),
    }
}

/// Something that comes more than once in the story.
fn topic(text: &str, is_chinese: bool, draw: &mut Draw) -> Option<String> {
    if is_chinese {
        let is_in = |thing: &&&str| text.matches(**thing).count() > 1;
        let things: Vec<&str> = CHINESE_THINGS.iter().filter(is_in).copied().collect();
        return (!things.is_empty()).then(|| draw.pick(&things).to_string());
    }
    let words = || text.split(|c: char| !c.is_ascii_alphabetic());
    let is_in = |thing: &&&str| words().filter(|word| word == *thing).count() > 1;
    let things: Vec<&str> = ENGLISH_THINGS.iter().filter(is_in).copied().collect();
    let article =
        |thing: &str| if thing.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let named = words().skip_while(|word| *word != "named").nth(1).filter(|name| !name.is_empty());
    match things.is_empty() {
        false if named.is_none() || draw.chance(70) => {
            let thing = draw.pick(&things);
            // Of some things there is only one, or no number.
            let is_bare = ["snow"].contains(&thing);
            Some(if is_bare { thing.into() } else { format!("{} {thing}", article(thing)) })
        }
        _ => named.map(str::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_asked_for_by_what_is_in_it() {
        let story = "Once upon a time there was a boy named Ben. Ben had a frog. The frog liked Ben and \
            Ben liked the frog. They sat by the pond every day and sang a song. At night they went \
            home and slept, and in the morning they sat by the pond again.";
        let rows: Vec<Row> = (0..200).map(|number| tell(story, 1, number).unwrap()).collect();
        let asks =
            |words: &str| rows.iter().filter(|row| row.messages[0].content.contains(words)).count();
        assert!(asks("a frog") > 50 && asks("Ben") > 10 && asks("a story.") > 5);
        assert_eq!(asks("dog"), 0);
        assert!(rows.iter().all(|row| row.messages[1].content == story && row.language == "en"));
        assert_eq!(tell(story, 1, 7), tell(story, 1, 7));
        let chinese = "从前有一位老师，她很爱她的学生。老师每天给学生讲大海的事。".repeat(3);
        let row = tell(&chinese, 1, 2).unwrap();
        assert_eq!((row.language, row.id.as_str()), ("zh", "tell-zh-000002"));
        assert_eq!(tell("Too short.", 1, 0), None);
        assert_eq!(tell(&story.repeat(9), 1, 0), None);
    }
}
