//! What comes out: one graded conversation a row, in OpenAI's shape.

use serde::Serialize;

/// Which half of the templates and word lists a row is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To measure by.
    Test,
}

impl Split {
    /// Both.
    pub const ALL: [Split; 2] = [Split::Train, Split::Test];

    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }

    /// The split of that name.
    pub fn from_name(name: &str) -> Option<Split> {
        Split::ALL.into_iter().find(|split| split.name() == name)
    }
}

/// What a conversation teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skill {
    /// Short stories, and questions about them.
    Stories,
    /// Arithmetic through the calculator.
    Arithmetic,
    /// Clock, calculator or neither.
    Routing,
    /// Letters, characters, words and lists: spelled, counted, ordered.
    Spelling,
    /// Simple sentences between English and Chinese.
    Translation,
    /// Who llmos is and is not.
    Identity,
    /// What it does not know and cannot do, beside a few things that everybody knows.
    Limits,
    /// Harmful requests, beside harmless ones that sound like them.
    Refusal,
    /// Greetings, thanks, small instructions.
    SmallTalk,
}

impl Skill {
    /// All, in the order in which they are reported.
    pub const ALL: [Skill; 9] = [
        Skill::Stories,
        Skill::Arithmetic,
        Skill::Routing,
        Skill::Spelling,
        Skill::Translation,
        Skill::Identity,
        Skill::Limits,
        Skill::Refusal,
        Skill::SmallTalk,
    ];

    /// Its name in rows and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Skill::Stories => "stories",
            Skill::Arithmetic => "arithmetic",
            Skill::Routing => "routing",
            Skill::Spelling => "spelling",
            Skill::Translation => "translation",
            Skill::Identity => "identity",
            Skill::Limits => "limits",
            Skill::Refusal => "refusal",
            Skill::SmallTalk => "small-talk",
        }
    }

    /// The skill of that name.
    pub fn from_name(name: &str) -> Option<Skill> {
        Skill::ALL.into_iter().find(|skill| skill.name() == name)
    }

    /// Rows of a hundred that are of this skill where all are asked for: most where there is most
    /// to learn.
    pub(super) fn weight(self) -> usize {
        match self {
            Skill::Arithmetic | Skill::Routing => 18,
            Skill::Stories => 14,
            Skill::Translation => 10,
            Skill::Identity | Skill::Limits => 9,
            Skill::Spelling => 8,
            Skill::Refusal | Skill::SmallTalk => 7,
        }
    }
}

/// A tool that an assistant may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// One argument, `expression`; answers as [`llmos_agent::calculator::reply`] does.
    Calculator,
    /// No argument; answers such as `Friday, 27 November 2026, 10:39`.
    Clock,
}

impl Tool {
    /// `calculator` or `clock`.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Calculator => "calculator",
            Tool::Clock => "clock",
        }
    }
}

/// A graded conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `gen-SPLIT-LANGUAGE-SKILL-NUMBER`.
    pub id: String,
    /// `en` or `zh`: what it is held in.
    pub language: &'static str,
    /// What its last question is about.
    pub skill: Skill,
    /// Its turns.
    pub messages: Vec<Message>,
    /// What the answer to its last question must be like.
    pub expect: Expect,
}

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// The tool that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    /// Empty where tools are called.
    pub content: String,
    /// The tools that an assistant calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

impl Message {
    /// A turn that is text alone.
    pub(super) fn text(role: &'static str, content: impl Into<String>) -> Message {
        Message { role, name: None, content: content.into(), tool_calls: Vec::new() }
    }
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolCall {
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What is called.
    pub function: Function,
}

/// A tool and what it is given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    /// The tool's name.
    pub name: &'static str,
    /// What it is given.
    pub arguments: Arguments,
}

/// The arguments of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Arguments {
    /// The calculator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// What the answer to the last question of a conversation must be like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expect {
    /// The tool that must be called first; none where no tool may be called.
    pub tool: Option<&'static str>,
    /// What that tool answers: the calculator must, and the clock of whoever grades should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The final answer says one of these, as the grader of `llmos-eval` looks for it: a number by
    /// its value, another phrase where it stands on its own. Anything where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answer_any: Vec<String>,
    /// It says none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answer_none: Vec<String>,
}
