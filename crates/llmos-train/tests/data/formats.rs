//! The same documents in every format make the same tokens.

use std::io::Write;

use llmos_train::data::{Dataset, HeldOut, Preparation, Source, Split};

use crate::scratch::Scratch;
use crate::{bytes, characters, everything, ids, json_lines, run, story, text};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_format_does_not_matter() {
    let scratch = Scratch::new();
    let tokenizer = bytes();
    let stories: Vec<String> = (0..200).map(story).collect();
    let lines = json_lines(stories.iter().cloned());
    let plain = stories.join("\n<|endoftext|>\n");
    let values: Vec<_> = stories.iter().map(|s| serde_json::json!({"text": s})).collect();
    let array = serde_json::to_vec_pretty(&values).unwrap();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    for (name, bytes) in [
        ("a.jsonl", lines.clone()),
        ("a.txt", plain.clone().into_bytes()),
        ("a.json", array),
        ("b.jsonl.gz", gzip(&lines)),
        ("b.txt.zst", ruzstd::encoding::compress_to_vec(plain.as_bytes(), level)),
    ] {
        let path = scratch.write(name, &bytes);
        let (prepared, dataset) = run(&scratch, &everything(&path), &tokenizer).unwrap();
        let manifest = &prepared.manifest;
        assert_eq!(manifest.sources[0].rows, 200, "{name}");
        assert_eq!(manifest.train.documents + manifest.validation.documents, 200, "{name}");
        assert_eq!(manifest.tokenizer.end, Some(0));
        let whole =
            [Split::Train, Split::Validation].map(|split| text(&dataset, &tokenizer, split));
        let mut read: Vec<&str> = whole.iter().flat_map(|t| t.split("<|endoftext|>")).collect();
        read.retain(|text| !text.is_empty());
        let mut expected: Vec<&str> = stories.iter().map(String::as_str).collect();
        read.sort_unstable();
        expected.sort_unstable();
        assert_eq!(read, expected, "{name}");
        // A tenth, since so few bytes are less than 16 KiB.
        let bytes: usize = stories.iter().map(String::len).sum();
        let held = manifest.validation.bytes as f64 / bytes as f64;
        assert!((0.1..0.12).contains(&held), "{name}: {held}");
        assert_eq!(manifest.train.bytes + manifest.validation.bytes, bytes as u64);
    }
}

#[test]
fn a_single_text_gives_its_last_tenth_as_nanogpt_cuts_it() {
    let scratch = Scratch::new();
    for n in [1000, 1001, 1009] {
        let whole: String = story(1).chars().chain("\n".chars()).cycle().take(n).collect();
        let tokenizer = characters(&whole);
        let path = scratch.write("input.txt", whole.as_bytes());
        // The defaults too: a text that was named is not judged.
        let preparation = Preparation::new(vec![Source::new(&path)]);
        let (prepared, dataset) = run(&scratch, &preparation, &tokenizer).unwrap();
        let n_train = (n as f64 * 0.9) as u64;
        assert_eq!(dataset.n_token(Split::Train), n_train);
        assert_eq!(dataset.n_token(Split::Validation), n as u64 - n_train);
        assert_eq!(prepared.manifest.validation.bytes, n as u64 - n_train);
        let read = text(&dataset, &tokenizer, Split::Train)
            + &text(&dataset, &tokenizer, Split::Validation);
        assert_eq!(read, whole);
    }
}

#[test]
fn without_an_end_token_a_line_ends_a_document() {
    let scratch = Scratch::new();
    let path = scratch.write("a.jsonl", b"{\"text\": \"ab\"}\n{\"text\": \"ba\\n\"}\n\"bb\"\n");
    let tokenizer = characters("ab\n");
    let preparation = Preparation { held_out: HeldOut::Share(0.0), ..everything(&path) };
    let (prepared, dataset) = run(&scratch, &preparation, &tokenizer).unwrap();
    assert_eq!(text(&dataset, &tokenizer, Split::Train), "ab\nba\nbb\n");
    assert_eq!(dataset.n_token(Split::Validation), 0);
    assert!(prepared.warnings.iter().any(|warning| warning.contains("nothing is held out")));
}

#[test]
fn a_long_text_is_whole_and_a_long_line_too() {
    let scratch = Scratch::new();
    let tokenizer = characters("0123456789 \n语");
    for line in ["0123456789 ", "0123 语\n"] {
        let whole = line.repeat(1_000_000);
        let path = scratch.write("input.txt", whole.as_bytes());
        let (_, dataset) = run(&scratch, &everything(&path), &tokenizer).unwrap();
        let n_char = whole.chars().count();
        // More than 2 MiB are not held out of 10 MB.
        let held = dataset.n_byte(Split::Validation);
        assert!((held as i64 - whole.len().div_ceil(10).min(2 << 20) as i64).abs() < 6, "{held}");
        let read = text(&dataset, &tokenizer, Split::Train)
            + &text(&dataset, &tokenizer, Split::Validation);
        assert!(read == whole);
        let n_token = dataset.n_token(Split::Train) + dataset.n_token(Split::Validation);
        assert_eq!(n_token, n_char as u64);
    }
}

#[test]
fn folders_are_one_source_with_a_licence() {
    let scratch = Scratch::new();
    for number in 0..30 {
        let name = format!("raw/{}/{number}.md", number % 3);
        scratch.write(&name, story(number).as_bytes());
    }
    scratch.write("raw/SOURCE.json", br#"{"licence": "CC BY 4.0"}"#);
    scratch.write("raw/picture.png", b"\x89PNG\0");
    scratch.write("raw/empty.txt", b"");
    let raw = scratch.path().join("raw");
    let (prepared, dataset) = run(&scratch, &everything(&raw), &bytes()).unwrap();
    let source = &prepared.manifest.sources[0];
    assert_eq!((source.files.len(), source.rows), (31, 31));
    assert_eq!(source.licence.as_deref(), Some("CC BY 4.0"));
    assert!(source.licence_from.as_deref().is_some_and(|path| path.ends_with("SOURCE.json")));
    assert_eq!(source.skipped["png"], 1);
    assert_eq!(prepared.manifest.removed.len(), 1, "the empty file");
    // The hash is that of `sha256sum`'s list.
    let list: String =
        source.files.iter().map(|file| format!("{}  {}\n", file.sha256, file.name)).collect();
    assert_eq!(source.sha256, sha256(list.as_bytes()));
    assert_eq!(source.files[0].sha256, sha256(story(0).as_bytes()));
    assert!(dataset.n_token(Split::Validation) > 0);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_token_is_traced_to_its_row() {
    let scratch = Scratch::new();
    let tokenizer = bytes();
    scratch.write("raw/a.jsonl", &json_lines((0..50).map(story)));
    scratch.write("raw/b.txt", b"\xef\xbb\xbffirst\n<|endoftext|>\n  second");
    let plain = "\u{feff}third\r\n语".to_string();
    let named = scratch.write("c.txt", plain.as_bytes());
    let mut preparation = everything(scratch.path().join("raw"));
    preparation.sources.push(Source::new(&named));
    let (_, dataset) = run(&scratch, &preparation, &tokenizer).unwrap();
    let mut n_traced = 0;
    for split in [Split::Train, Split::Validation] {
        let ids = ids(&dataset, split);
        for (token, &id) in (0..).zip(&ids) {
            let origin = dataset.origin(split, token).unwrap().unwrap();
            let path = std::path::Path::new(&origin.source);
            let path = if path.is_dir() { path.join(&origin.file) } else { path.to_path_buf() };
            let bytes = std::fs::read(path).unwrap();
            let row = &bytes[origin.offset as usize..];
            let text = match origin.file.ends_with("jsonl") {
                true => {
                    let line = row.split(|&byte| byte == b'\n').next().unwrap();
                    let value: serde_json::Value = serde_json::from_slice(line).unwrap();
                    assert_eq!(value["text"], story(origin.row));
                    story(origin.row)
                }
                false => String::from_utf8(row.to_vec()).unwrap().replace("\r\n", "\n"),
            };
            let mut expected = tokenizer.encode(&text, llmos_tokenizer::Special::None);
            expected.push(0);
            let is_end = id == 0;
            assert!(is_end || expected[origin.token as usize] == id, "{origin:?}");
            n_traced += 1;
        }
        assert_eq!(dataset.origin(split, ids.len() as u64).unwrap(), None);
    }
    assert!(n_traced > 2000, "{n_traced}");
}

#[test]
fn what_nobody_can_train_on_is_refused_and_leaves_nothing() {
    let scratch = Scratch::new();
    let check = |bytes: &[u8], name: &str, tokenizer: &llmos_tokenizer::Tokenizer, words: &str| {
        let path = scratch.write(name, bytes);
        let error = run(&scratch, &everything(&path), tokenizer).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        std::fs::remove_file(path).unwrap();
    };
    check(b"", "a.txt", &bytes(), "nothing is left to train on: 1 read, 1 empty");
    check(b"{\"body\": \"a\"}\n", "a.jsonl", &bytes(), "1 no text in the row");
    check(b"caf\xe9 au lait", "a.txt", &bytes(), "no UTF-8, at byte 3");
    check(b"GIF89a\0\0", "a.txt", &bytes(), "a zero byte: this is no text, at byte 6");
    check(b"{\"text\": \"a\"}\n{\"text\": ", "a.jsonl", &bytes(), "line 2: no JSON");
    check("从前有一个小女孩".as_bytes(), "a.txt", &characters("abc"), "nothing is left");
    let mixed = "从前有一个小女孩 abc".as_bytes();
    check(
        mixed,
        "a.txt",
        &characters("abc 有一个"),
        "the tokenizer: it does not fit".trim_start_matches("the "),
    );
}

#[test]
fn the_folder_is_the_same_whatever_the_threads() {
    let scratch = Scratch::new();
    let path = scratch.write("a.jsonl", &json_lines((0..3000).map(|n| story(n % 2900))));
    let tokenizer = bytes();
    let read = |threads: usize| -> Vec<(String, Vec<u8>)> {
        let preparation = Preparation {
            threads: std::num::NonZero::new(threads).unwrap(),
            ..Preparation::new(vec![Source::new(&path)])
        };
        run(&scratch, &preparation, &tokenizer).unwrap();
        let mut files: Vec<_> = std::fs::read_dir(scratch.path().join("data"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let one = read(1);
    assert_eq!(one.len(), 7);
    assert!(one == read(2) && one == read(5));
}

#[test]
fn a_flipped_byte_is_found_when_the_folder_is_opened() {
    let scratch = Scratch::new();
    let path = scratch.write("a.jsonl", &json_lines((0..100).map(story)));
    let tokenizer = bytes();
    run(&scratch, &everything(&path), &tokenizer).unwrap();
    let folder = scratch.path().join("data");
    for name in ["train-00000.bin", "validation.bin", "documents.bin", "validation-documents.bin"] {
        let path = folder.join(name);
        let sound = std::fs::read(&path).unwrap();
        for at in [0, 8, 30, 70, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 4;
            std::fs::write(&path, &damaged).unwrap();
            let error = Dataset::open(&folder).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        std::fs::write(&path, &sound[..sound.len() - 2]).unwrap();
        assert!(Dataset::open(&folder).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(Dataset::open(&folder).is_err());
        std::fs::write(&path, &sound).unwrap();
    }
    // A shard of another data set does not fit the manifest.
    let other = Scratch::new();
    let path = other.write("a.jsonl", &json_lines((100..200).map(story)));
    run(&other, &everything(&path), &tokenizer).unwrap();
    let shard = std::fs::read(other.path().join("data/train-00000.bin")).unwrap();
    let own = std::fs::read(folder.join("train-00000.bin")).unwrap();
    std::fs::write(folder.join("train-00000.bin"), shard).unwrap();
    let error = Dataset::open_unread(&folder).unwrap_err().to_string();
    assert!(error.contains("manifest.json"), "{error}");
    std::fs::write(folder.join("train-00000.bin"), own).unwrap();
    Dataset::open(&folder).unwrap();
    // Another tokenizer would read other texts out of the ids.
    let path = folder.join("tokenizer.json");
    std::fs::write(&path, crate::characters("abc").to_json()).unwrap();
    let error = Dataset::open(&folder).unwrap_err().to_string();
    assert!(error.contains("expected the one that made the ids"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = Dataset::open(&folder).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}
