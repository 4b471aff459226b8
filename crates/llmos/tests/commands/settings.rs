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
    // A line a value, whatever the value has in it; what flags are grouped by is no value.
    let values: Vec<&str> = verbose.lines().filter(|line| line.contains(" = ")).collect();
    let names: Vec<&str> = values.iter().filter_map(|line| line.split(" = ").next()).collect();
    assert_eq!(names.iter().filter(|name| **name == "verbose").count(), 1, "{verbose}");
    assert!(!names.contains(&"Sampling"), "{verbose}");
    assert!(verbose.contains(r#"dry_breaker = "\n : \" *""#), "{verbose}");
    let plan = ["plan", "-v", "--params", "1B", "--gpu", "h100", "--json"];
    let verbose = finish(command(home.path(), &plan), b"").stderr;
    assert!(verbose.contains("gpu = h100") && !verbose.contains("Arguments = "), "{verbose}");
    let mut broken = command(home.path(), &["-q", "run", "nothing", "-p", "x"]);
    broken.env("NO_COLOR", "1");
    finish(broken, b"").is_error("nothing");
}

#[test]
fn a_run_goes_by_its_flags_and_its_recipe() {
    let home = crate::pretrain::ground(3);
    // Of `run`: how long a text is, and what it is drawn with.
    std::fs::write(home.join("llmos.toml"), "tokens = 640\nseed = 5\n").unwrap();
    let (recipe, text, out) = (home.join("recipe.toml"), home.join("story.txt"), home.join("run"));
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = command(home.path(), arguments);
        command.envs(variables.iter().copied());
        finish(command, b"")
    };
    let given = crate::pretrain::begin(&recipe, &text, &out);
    let report = run(&[&given[..], &["--json"]].concat(), &[("LLMOS_SEED", "7")]).json();
    assert_eq!((&report["step"], &report["recipe"]["train"]["seed"]), (&3.into(), &1.into()));
    run(&["pretrain", "--resume", &out], &[("LLMOS_TOKENS", "7")]).text();
    let plan = ["plan", "--params", "1B", "--gpu", "h100", "--json"];
    assert_eq!(run(&plan, &[]).json()["tokens"], 20e9);
    // What is given beats what is set and does not go together with it.
    let chat = ["chat", &stories(), "-p", "hi", "-n", "1", "--tools", "calculator", "-q"];
    let output = run(&chat, &[("LLMOS_NO_TOOLS", "1")]);
    assert!(!output.stderr.contains("cannot be used with"), "{}", output.stderr);
    let quiet = run(&["models", "-v"], &[("LLMOS_QUIET", "1")]);
    assert_eq!(quiet.code, Some(0), "{}", quiet.stderr);
}
