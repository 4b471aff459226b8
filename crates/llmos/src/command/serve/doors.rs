//! Names that a server answers to, and pages that may ask, as they are typed.

/// A host's name, as it is compared with what a client asks by.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    let name = text.trim_end_matches('.');
    let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    match !name.is_empty() && name.chars().all(is_name) {
        true => Ok(name.to_string()),
        false => Err("a name is models.example, without https:// and a port".to_string()),
    }
}

/// A page's origin, as browsers write it.
pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    let origin = text.trim_end_matches('/').to_ascii_lowercase();
    let is_sound = origin.split_once("://").is_some_and(|(scheme, host)| {
        let is_host = |c: char| c.is_alphanumeric() || "-_.:[]".contains(c);
        !scheme.is_empty() && !host.is_empty() && host.chars().all(is_host)
    });
    match is_sound {
        true => Ok(origin),
        false => Err("an origin is https://chat.example, without a path".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_origins_are_what_clients_send() {
        for (text, expected) in [
            ("models.example", Some("models.example")),
            ("box.", Some("box")),
            ("https://models.example", None),
            ("models.example:8080", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(parse_name(text).ok().as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("https://chat.example", Some("https://chat.example")),
            ("HTTPS://Chat.Example:8443/", Some("https://chat.example:8443")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("chrome-extension://abcdef", Some("chrome-extension://abcdef")),
            ("https://chat.example/app", None),
            ("chat.example", None),
            ("https://", None),
            ("*", None),
            ("null", None),
        ] {
            assert_eq!(parse_origin(text).ok().as_deref(), expected, "{text}");
        }
    }
}
