//! Ctrl-C, and readers that go away.

use std::time::{Duration, Instant};

use crate::program::{Folder, collect, command, stories};

/// Sends an interrupt, as Ctrl-C does.
#[cfg(unix)]
pub(crate) fn interrupt(child: &std::process::Child) {
    let kill = format!("kill -INT {}", child.id());
    let status = std::process::Command::new("sh").args(["-c", &kill]).status();
    assert!(status.unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_at_once() {
    let home = Folder::new();
    let model = stories();
    let given = ["bench", &model, "--prompt", "500", "--generate", "400", "--repeat", "9999"];
    let mut child = command(home.path(), &given).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    assert!(child.try_wait().unwrap().is_none(), "it is still measuring");
    let start = Instant::now();
    interrupt(&child);
    let output = collect(child);
    assert_eq!(output.code, Some(130));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}

#[test]
fn a_reader_that_goes_away_ends_quietly() {
    let home = Folder::new();
    let model = stories();
    let given = ["next", &model, "-p", "Once", "--top", "500"];
    let mut child = command(home.path(), &given).spawn().unwrap();
    drop(child.stdout.take());
    let output = collect(child);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let home = Folder::new();
    let mut command = command(home.path(), &["inspect", &stories()]);
    command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    crate::program::finish(command, b"").is_error("standard output");
}
