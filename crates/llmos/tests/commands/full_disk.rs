//! A disk without room: nothing that was there is lost, a run of `llmos pretrain` goes on, and a merged
//! model is there whole or not at all.
#![cfg(unix)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::pretrain::{assert_same, begin, ground, run};
use crate::program::{Folder, Output, collect, command, finish, repository, scripted};

/// Bytes of a file of a run.
fn size(run: &str, name: &str) -> u64 {
    Path::new(run).join(name).metadata().unwrap().len()
}

/// The sums of all checkpoints hold, nothing else lies beside them, and every row is whole. Gives
/// the number of checkpoints and of rows.
fn assert_whole(run: &str) -> (usize, usize) {
    let mut checkpoints = 0;
    for entry in std::fs::read_dir(Path::new(run).join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("step-"), "{name} was left behind");
        let sums = std::fs::read_to_string(path.join("SHA256SUMS")).unwrap();
        let mut listed = vec!["SHA256SUMS".to_string()];
        for line in sums.lines() {
            let (sum, file) = line.split_once("  ").unwrap();
            let digest = Sha256::digest(std::fs::read(path.join(file)).unwrap());
            let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, sum, "{name}/{file}");
            listed.push(file.to_string());
        }
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), listed.len(), "{name}");
        assert!(listed.iter().any(|file| file == "optimizer.safetensors"), "{name}");
        checkpoints += 1;
    }
    let metrics = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    assert!(metrics.is_empty() || metrics.ends_with('\n'), "half a row");
    for (row, line) in metrics.lines().enumerate() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["step"], row + 1);
    }
    (checkpoints, metrics.lines().count())
}

/// Runs with a limit on the bytes of each file that is written.
fn limited(home: &Path, most: u64, arguments: &[&str]) -> Output {
    let script = format!("ulimit -f {}; exec \"$@\"", most / 512);
    finish(scripted(home, &["sh", "-c", &script], arguments), b"")
}

#[test]
fn a_limit_on_file_sizes_stops_a_run_and_loses_nothing() {
    let steps = 600;
    let home = ground(steps);
    let (recipe, text) = (home.join("recipe.toml"), home.join("story.txt"));
    let (whole, out) = (home.join("whole"), home.join("run"));
    run(home.path(), &begin(&recipe, &text, &whole)).text();
    let last = format!("checkpoints/step-{steps}");
    let optimizer = size(&whole, &format!("{last}/optimizer.safetensors"));
    let metrics = size(&whole, "metrics.jsonl");
    assert!(size(&whole, &format!("{last}/model.safetensors")) + 1024 < optimizer);
    assert!(optimizer + 4096 < metrics, "{optimizer} {metrics}: give the run more steps");
    let limited = |most: u64, arguments: &[&str]| limited(home.path(), most, arguments);
    let mut child = command(home.path(), &begin(&recipe, &text, &out)).spawn().unwrap();
    let (start, saved) = (Instant::now(), Path::new(&out).join("checkpoints/step-8"));
    while !saved.is_dir() && start.elapsed() < Duration::from_secs(60) {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    collect(child);
    let visible = |entry: &std::io::Result<std::fs::DirEntry>| {
        entry.as_ref().is_ok_and(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
    };
    let entries = std::fs::read_dir(Path::new(&out).join("checkpoints")).unwrap();
    let before = entries.filter(visible).count();
    // A checkpoint meets the limit.
    let failed = limited(optimizer - 512, &["pretrain", "--resume", &out]);
    failed.is_error("write the checkpoint");
    assert!(failed.stderr.contains("a limit on files is reached"), "{}", failed.stderr);
    assert_eq!(assert_whole(&out).0, before);
    // Rows meet it, one of them halfway.
    let failed = limited(optimizer + 2048, &["pretrain", "--resume", &out]);
    failed.is_error("metrics.jsonl");
    let (checkpoints, rows) = assert_whole(&out);
    assert!(checkpoints >= 2 && rows > 50, "{checkpoints} checkpoints, {rows} rows");
    run(home.path(), &["pretrain", "--resume", &out]).text();
    assert_same(&whole, &out, steps);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_a_run_and_loses_nothing() {
    let steps = 200;
    let home = ground(steps);
    std::fs::create_dir(home.join("disk")).unwrap();
    // As root of a namespace of one's own one may mount there.
    let mount = "mount -t tmpfs -o size=3m tmpfs disk";
    let mounted =
        Command::new("unshare").args(["-Urm", "sh", "-c", mount]).current_dir(home.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        // The test above goes the same ways with a limit.
        println!("skipped: no user namespace in which a disk can be mounted");
        return;
    }
    let (recipe, text) = (home.join("recipe.toml"), home.join("story.txt"));
    let (whole, out) = (home.join("whole"), home.join("run"));
    run(home.path(), &begin(&recipe, &text, &whole)).text();
    let script = format!("{mount} && {{ \"$@\"; code=$?; cp -a disk/run run; exit $code; }}");
    let arguments = [&begin(&recipe, &text, "disk/run")[..], &["--keep", "1000"]].concat();
    let full =
        finish(scripted(home.path(), &["unshare", "-Urm", "sh", "-c", &script], &arguments), b"");
    full.is_error("the disk is full");
    let (checkpoints, rows) = assert_whole(&out);
    assert!(checkpoints >= 2 && rows >= 8, "{checkpoints} checkpoints, {rows} rows");
    run(home.path(), &["pretrain", "--resume", &out, "--keep", "2"]).text();
    assert_same(&whole, &out, steps);
}

#[test]
fn a_merge_without_room_leaves_nothing_and_says_what_helps() {
    let home = Folder::new();
    let golden = |name: &str| repository("testdata/finetune").join(name).display().to_string();
    let (base, chats, adapter) = (golden("base"), golden("chats.jsonl"), home.join("adapter"));
    let learn = ["finetune", &base, "--data", &chats, "--out", &adapter, "--lora", "r=2"];
    run(home.path(), &[&learn[..], &["--steps", "1", "--skip-bad-rows"]].concat()).text();
    let merged = home.join("merged");
    let merge = ["merge", &base, &adapter, "--out", &merged];
    run(home.path(), &merge).text();
    let weights = size(&merged, "model.safetensors");
    std::fs::remove_dir_all(&merged).unwrap();
    let entries = || std::fs::read_dir(home.path()).unwrap().count();
    let before = entries();
    let failed = limited(home.path(), weights / 2, &merge);
    failed.is_error("model.safetensors");
    assert!(failed.stderr.contains("a limit on files is reached: make room"), "{}", failed.stderr);
    assert_eq!(entries(), before, "a part of the merged model is left");
}
