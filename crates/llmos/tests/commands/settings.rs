//! Flags beat variables, which beat `llmos.toml`, which beats the defaults.

use crate::program::{Folder, command, finish, stories};

#[test]
fn layers_in_their_order() {
    let home = Folder::new();
    std::fs::write(home.join("llmos.toml"), "threads = 3\n[bench]\nrepeat = 1\n").unwrap();
    let check = |flags: &[&str], variable: Option<&str>, expected: u64| {
        let model = stories();
        let given = ["bench", &model, "--prompt", "4", "--generate", "0", "--json"];
        let mut command = command(home.path(), &[&given[..], flags].concat());
        if let Some(value) = variable {
            command.env("LLMOS_THREADS", value);
        }
        let report = finish(command, b"").json();
        assert_eq!(report["threads"], expected);
        assert_eq!(report["repeat"], 1);
    };
    check(&[], None, 3);
    check(&[], Some("2"), 2);
    check(&["--threads", "1"], Some("2"), 1);
}

#[test]
fn a_setting_that_no_command_has_is_an_error() {
    let home = Folder::new();
    std::fs::write(home.join("llmos.toml"), "thread = 3\n").unwrap();
    finish(command(home.path(), &["models"]), b"").is_error("thread is not a setting");
    std::fs::write(home.join("llmos.toml"), "threads = [").unwrap();
    finish(command(home.path(), &["models"]), b"").is_error("llmos.toml is not TOML");
}

#[test]
fn quiet_and_verbose() {
    let given = ["run", &stories(), "-p", "Once", "-n", "3", "--temp", "0"];
    let home = Folder::new();
    let run = |more: &[&str]| finish(command(home.path(), &[&given[..], more].concat()), b"");
    assert_eq!(run(&["-q"]).stderr, "");
    let verbose = run(&["-v"]).stderr;
    assert!(verbose.contains("kernels:") && verbose.contains("temp = 0 (flag)"), "{verbose}");
    let mut broken = command(home.path(), &["-q", "run", "nothing", "-p", "x"]);
    broken.env("NO_COLOR", "1");
    finish(broken, b"").is_error("nothing");
}
