//! What deploy/ gives to `llmos serve` is what it takes, and what it asks of it is answered.

use std::process::{Command, Stdio};

use crate::program::{Folder, command, finish, llmos, repository};

#[test]
fn flags_in_deploy_are_flags_of_serve() {
    let help = llmos(&["serve", "--help"]).text();
    let known = |flag: &str| help.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
    for (file, begin) in
        [("deploy/llmos.service", "ExecStart="), ("deploy/Dockerfile", "CMD [\"serve\"")]
    {
        let text = std::fs::read_to_string(repository(file)).unwrap();
        let line = text.lines().find(|line| line.starts_with(begin)).unwrap();
        let words = line.split([' ', '"', ',']).filter(|word| word.starts_with("--"));
        let flags: Vec<&str> = words.collect();
        assert!(flags.len() >= 3, "{file}: {flags:?}");
        for flag in flags {
            assert!(known(flag), "{file}: {flag} is no flag of serve");
        }
    }
    let unit = std::fs::read_to_string(repository("deploy/llmos.service")).unwrap();
    for variable in ["LLMOS_TLS_CERT", "LLMOS_TLS_KEY"] {
        let flag = variable.replace("LLMOS_", "--").replace('_', "-").to_lowercase();
        assert!(unit.contains(variable) && known(&flag), "{variable}");
    }
}

/// The image's own question, in the shell that it names, at another port.
#[cfg(unix)]
#[test]
fn the_image_s_health_is_the_server_s() {
    let text = std::fs::read_to_string(repository("deploy/Dockerfile")).unwrap();
    let words = text.split_once("HEALTHCHECK").unwrap().1.split_once("CMD ").unwrap().1;
    let words: Vec<String> = serde_json::from_str(words.lines().next().unwrap()).unwrap();
    assert!(words.iter().any(|word| word.contains("/8080")), "{words:?}");
    let is_healthy = |port: &str| {
        let words: Vec<String> =
            words.iter().map(|word| word.replace("/8080", &format!("/{port}"))).collect();
        let mut asked = Command::new(&words[0]);
        asked.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().unwrap().success()
    };
    let home = Folder::new();
    // With a key, as in the image.
    assert_eq!(finish(command(home.path(), &["keys", "add", "ann"]), b"").code, Some(0));
    let mut child = command(home.path(), &["serve", "--port", "0", "-q"]).spawn().unwrap();
    let address = crate::serve::address(&mut child);
    let port = address.rsplit(':').next().unwrap();
    assert!(is_healthy(port));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!is_healthy(port));
}
