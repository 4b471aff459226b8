//! The web page's files: whole, with the headers that keep others out, and not sent twice.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::client::{Connection, Reply, get, request};
use crate::house::{Kind, simple};

#[test]
fn each_file_comes_with_its_kind_and_the_page_s_policy() {
    let server = simple(Kind::Stories);
    for (path, kind, words) in [
        ("/", "text/html; charset=utf-8", "<div id=\"app\">"),
        ("/web/index.html", "text/html; charset=utf-8", "<div id=\"app\">"),
        ("/web/app.js", "text/javascript; charset=utf-8", "export default function Page"),
        ("/web/pages/chat/tree.js", "text/javascript; charset=utf-8", "export function"),
        ("/web/style.css", "text/css; charset=utf-8", "--accent"),
        ("/web/icon.svg", "image/svg+xml", "<svg"),
        ("/web/vendor/LICENSE-preact", "text/plain; charset=utf-8", "MIT"),
    ] {
        let reply = get(server.address, path);
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.body.contains(words), "{path}: {words:?} not in {}", reply.body);
        for (name, value) in [
            ("content-type", kind),
            ("cache-control", "no-cache"),
            ("vary", "accept-encoding"),
            ("content-encoding", ""),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name).unwrap_or_default(), value, "{path} {name}");
        }
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    }
    let index = get(server.address, "/").body;
    assert!(!index.contains("style=") && !index.contains(" on"), "{index}");
    for path in ["/web/nothing.js", "/web/../Cargo.toml", "/web/%2e%2e/Cargo.toml"] {
        get(server.address, path).is_refusal(404, "no such file");
    }
}

#[test]
fn a_browser_that_has_a_file_is_told_so() {
    let server = simple(Kind::Stories);
    let ask = |method: &str, headers: &[&str]| -> Reply {
        let headers = [&["Host: localhost"], headers].concat();
        let bytes = request(method, "/web/app.js", &headers, b"");
        Connection::send(server.address, &bytes).finish()
    };
    let whole = ask("GET", &[]);
    let tag = whole.header("etag").unwrap().to_string();
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
        let reply = ask("GET", &[&format!("If-None-Match: {known}")]);
        assert_eq!((reply.status, reply.body.as_str()), (304, ""), "{known}");
        assert_eq!(reply.header("etag"), Some(tag.as_str()));
    }
    assert_eq!(ask("GET", &["If-None-Match: \"other\""]).body, whole.body);
    let head = ask("HEAD", &[]);
    let length = whole.body.len().to_string();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    assert_eq!(ask("POST", &[]).status, 405);
}

#[test]
fn who_takes_gzip_gets_the_same_file_by_another_name() {
    let server = simple(Kind::Stories);
    let ask = |headers: &[&str]| -> Reply {
        let headers = [&["Host: localhost"], headers].concat();
        Connection::send(server.address, &request("HEAD", "/web/app.js", &headers, b"")).finish()
    };
    let (plain, packed) = (ask(&[]), ask(&["Accept-Encoding: gzip, br"]));
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("content-type"), plain.header("content-type"));
    let length = |reply: &Reply| reply.header("content-length").unwrap().parse::<u64>().unwrap();
    assert!(2 * length(&packed) < length(&plain));
    // Each form is known by its own tag alone.
    let [one, other] = [&plain, &packed].map(|reply| reply.header("etag").unwrap().to_string());
    assert_ne!(one, other);
    for (tag, accepts, status) in [
        (&one, "identity", 304),
        (&other, "identity", 200),
        (&one, "gzip", 200),
        (&other, "gzip", 304),
    ] {
        let reply =
            ask(&[&format!("If-None-Match: {tag}"), &format!("Accept-Encoding: {accepts}")]);
        assert_eq!((reply.status, reply.header("vary")), (status, Some("accept-encoding")));
    }
}

#[test]
fn every_file_of_the_page_is_in_the_program_and_those_of_others_are_as_they_were_taken() {
    let server = simple(Kind::Stories);
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let mut folders = vec![web.clone()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&web).unwrap().display().to_string();
            let reply = get(server.address, &format!("/web/{name}"));
            assert_eq!(reply.body, std::fs::read_to_string(&path).unwrap(), "{name}");
            count += 1;
        }
    }
    assert!(count > 20, "{count} files");
    let notice = std::fs::read_to_string(web.join("vendor/NOTICE.md")).unwrap();
    let rows = notice.lines().filter(|line| line.contains(".js |"));
    let mut checked = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let digest = Sha256::digest(std::fs::read(web.join("vendor").join(cells[1])).unwrap());
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(cells[6], digits, "{}", cells[1]);
        checked += 1;
    }
    assert_eq!(checked, 4);
}
