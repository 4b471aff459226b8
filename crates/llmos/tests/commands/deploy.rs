//! What deploy/ gives to `llmos serve` is what it takes.

use crate::program::{llmos, repository};

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
