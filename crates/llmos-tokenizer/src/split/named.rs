//! The pre-tokenizers that GGUF files name in `tokenizer.ggml.pre`.
//!
//! A name stands for a list of patterns, each cutting the pieces of the one before, and for a few
//! rules of the vocabulary (source: llama.cpp's `llama-vocab.cpp`; where that adapts a pattern to
//! what its own matcher can do, the model's original pattern stands here).

use crate::Error;
use crate::split::{Behavior, Pattern, PreTokenizer, Step, Words};

/// One entry of a name's list.
enum Stage {
    /// Cut at the matches of a pattern, which stay as pieces.
    Cut(&'static str),
    /// Digits in threes from the right; see [`Step::DigitGroups`].
    Groups { at_boundary: bool },
}
use Stage::{Cut, Groups};

/// What a name stands for.
pub(crate) struct NamedPre {
    pub(crate) pre_tokenizer: PreTokenizer,
    /// A word that is in the vocabulary is never merged.
    pub(crate) ignore_merges: bool,
    /// `add_bos` where the file does not say.
    pub(crate) add_bos: bool,
    /// Tokens are raw UTF-8 with U+2581 for a space, not the byte alphabet.
    pub(crate) characters: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const MANY_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const NO_CONTRACTIONS: &str =
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const YOUTU_WORDS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const KIMI: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const NEWLINE: &str = r"[\r\n]";
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_PUNCTUATION: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";
const DEEPSEEK_CJK: &str = r"[一-龥ࠀ-一가-퟿]+";
const CJK: &str = r"[一-龥぀-ゟ゠-ヿ]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;
const YOUTU_SCRIPTS: &str = r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
const AFMOE_SCRIPTS: &str = r"[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+";
const ASCII_PUNCTUATION: &str = r"[\p{P}!-/:-@\[-`{-~]";

/// The stages of a name.
fn stages(name: &str) -> Option<&'static [Stage]> {
    Some(match name {
        // What llama.cpp uses where a file names nothing.
        "" | "default" => {
            &[Cut(r"[\p{P}\$\+<=>\^~\|]+"), Cut(GPT2), Cut(r"\p{N}+"), Cut(r"[0-9][0-9][0-9]")]
        }
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de"
        | "a.x-4.0" | "mellum" | "modern-bert" | "exaone4" | "jina-v1-en" | "jina-v2-code"
        | "roberta-bpe" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" => &[Cut(GPT2)],
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" | "jina-v5-nano" | "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" | "glm5" => {
            &[Cut(LLAMA3)]
        }
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan"
        | "solar-open" | "grok-2" => &[Cut(QWEN2)],
        "qwen35" => &[Cut(QWEN35)],
        "ufakzeka" => &[Cut(NO_CONTRACTIONS)],
        "minicpm5" => &[Cut(r"\p{N}{1,3}"), Cut(MANY_DIGITS)],
        "laguna" => &[Cut(r"[^\n]+|[\n]+"), Cut(QWEN2)],
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => &[Cut(r"\p{N}"), Cut(GPT2)],
        "falcon" => &[Cut(r"[\p{P}\$\+<=>\^~\|`]+"), Cut(GPT2), Cut(r"[0-9][0-9][0-9]")],
        "deepseek-llm" => &[
            Cut(NEWLINE),
            Cut(DEEPSEEK_LETTERS),
            Cut(DEEPSEEK_PUNCTUATION),
            Cut(r"\s+$"),
            Cut(DEEPSEEK_CJK),
            Cut(r"\p{N}+"),
        ],
        "deepseek-coder" => {
            &[Cut(NEWLINE), Cut(r"\s?\p{L}+"), Cut(r"\s?\p{P}+"), Cut(DEEPSEEK_CJK), Cut(r"\p{N}")]
        }
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => {
            &[Cut(r"\p{N}{1,3}"), Cut(CJK), Cut(DEEPSEEK3)]
        }
        "spark2_5" => &[Cut(r"\p{N}{1,3}"), Cut(CJK), Cut(SPARK), Cut(r"\p{N}")],
        "youtu" => &[Cut(YOUTU_SCRIPTS), Cut(YOUTU_WORDS)],
        "poro-chat" | "bloom" | "gpt3-finnish" => &[Cut(BLOOM)],
        "viking" => &[Cut(BLOOM), Cut(r"\p{N}")],
        "tekken" => &[Cut(TEKKEN)],
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" | "granite-embed-multi-97m" => {
            &[Cut(GPT4O)]
        }
        "tiny_aya" | "cohere2moe" => &[Groups { at_boundary: true }, Cut(GPT4O)],
        "kimi-k2" => &[Cut(KIMI)],
        "superbpe" => &[Cut(r"\p{N}+"), Groups { at_boundary: false }],
        "bailingmoe" | "bailingmoe2" | "llada-moe" => &[Cut(BAILING)],
        "seed-coder" => &[Cut(SEED_CODER)],
        "afmoe" => &[Groups { at_boundary: false }, Cut(AFMOE_SCRIPTS), Cut(DEEPSEEK3)],
        "exaone-moe" => &[Cut(EXAONE_MOE)],
        "jais-2" => &[Cut(JAIS2)],
        "chameleon" => &[
            Cut(r"<sentinel:[0-9]+>"),
            Cut(r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
            Cut(r"([\t\n]|    |  )"),
            Cut(r"\p{N}"),
            Cut(ASCII_PUNCTUATION),
            Cut(GPT2),
        ],
        "gemma4" | "granite-embed-multi-311m" | "sarvam-moe" => &[Cut(r"[^\n]+|[\n]+")],
        "whitespace" => &[Cut(r"\S+")],
        _ => return None,
    })
}

/// The pre-tokenizer of a name; the empty name is a file without one.
///
/// # Errors
/// [`Error::Unsupported`] for a name that is not known.
pub(crate) fn named(name: &str) -> Result<NamedPre, Error> {
    let Some(stages) = stages(name) else {
        return Err(Error::unsupported("pre-tokenizer", format!("`{name}`")));
    };
    let mut steps = Vec::with_capacity(stages.len());
    for stage in stages {
        steps.push(match *stage {
            Groups { at_boundary } => Step::DigitGroups { at_boundary },
            Cut(pattern) => match Pattern::regex(pattern)? {
                Pattern::Words(words) => Step::Words(words),
                pattern => Step::Split { pattern, behavior: Behavior::Isolated, invert: false },
            },
        });
    }
    Ok(NamedPre {
        pre_tokenizer: PreTokenizer { steps },
        ignore_merges: matches!(
            name,
            "minicpm5"
                | "llama3"
                | "llama-v3"
                | "llama-bpe"
                | "falcon3"
                | "falcon-h1"
                | "pixtral"
                | "midm-2.0"
                | "lfm2"
                | "jina-v5-nano"
                | "youtu"
                | "glm4"
                | "glm5"
                | "tekken"
                | "granite-embed-multi-97m"
        ),
        add_bos: matches!(
            name,
            "llama3"
                | "llama-v3"
                | "llama-bpe"
                | "falcon3"
                | "falcon-h1"
                | "pixtral"
                | "midm-2.0"
                | "lfm2"
                | "jina-v5-nano"
                | "tekken"
                | "chameleon"
                | "gemma4"
                | "granite-embed-multi-311m"
        ),
        characters: matches!(
            name,
            "gemma4" | "granite-embed-multi-311m" | "sarvam-moe" | "whitespace"
        ),
    })
}

/// The name that a GGUF file gives to a pre-tokenizer of these patterns, in order.
pub(crate) fn known_name(patterns: &[&str], ignore_merges: bool) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "gpt-2",
        "llama-bpe",
        "dbrx",
        "qwen2",
        "qwen35",
        "ufakzeka",
        "minicpm5",
        "starcoder",
        "falcon",
        "deepseek-llm",
        "deepseek-coder",
        "deepseek-v3",
        "bloom",
        "viking",
        "tekken",
        "gpt-4o",
        "kimi-k2",
        "bailingmoe",
        "seed-coder",
        "jais-2",
        "exaone-moe",
        "laguna",
    ];
    let same = |name: &&&str| {
        let Some(stages) = stages(name) else { return false };
        stages.len() == patterns.len()
            && stages.iter().zip(patterns).all(|(stage, pattern)| match stage {
                Cut(own) => {
                    let words = Words::of_pattern(own).zip(Words::of_pattern(pattern));
                    own == pattern || words.is_some_and(|(own, other)| own.is_alike(other))
                }
                Groups { .. } => false,
            })
    };
    let rule = |name: &&&str| named(name).is_ok_and(|named| named.ignore_merges == ignore_merges);
    let all = || NAMES.iter().filter(same);
    all().find(rule).or_else(|| all().next()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_compiles_and_an_unknown_one_is_an_error() {
        let source = include_str!("named.rs");
        let table = &source[source.find("Some(match name").expect("the table")..];
        let table = &table[..table.find("_ => return None").expect("its end")];
        let mut names = 0;
        for quoted in table.split('"').skip(1).step_by(2).filter(|name| stages(name).is_some()) {
            named(quoted).unwrap_or_else(|error| panic!("{quoted}: {error}"));
            names += 1;
        }
        assert!(names > 80, "{names}");
        assert!(matches!(named("no-such-pre"), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn patterns_find_their_name() {
        assert_eq!(known_name(&[LLAMA3], true), Some("llama-bpe"));
        assert_eq!(known_name(&[LLAMA3], false), Some("dbrx"));
        assert_eq!(known_name(&[QWEN2], false), Some("qwen2"));
        assert_eq!(known_name(&[r"\p{N}", GPT2], false), Some("starcoder"));
        assert_eq!(known_name(&["x"], false), None);
    }
}
