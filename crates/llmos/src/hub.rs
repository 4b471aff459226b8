//! Hugging Face's hub, or a mirror of it: which files a repository has, and which of them to take.

mod address;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use crate::download::{Expected, Stop, refusal};
use crate::failure::{Explain, failure};
use crate::registry::Digest;
pub(crate) use address::{Address, is_safe_path};

/// The address that a person has typed or a client has sent.
///
/// # Errors
/// A text that is none.
pub(crate) fn address(text: &str) -> anyhow::Result<Address> {
    text.parse().map_err(|what: &str| {
        failure(format!("{text:?}: {what}"), "write hf:OWNER/REPO or hf:OWNER/REPO:FILE")
    })
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    /// Its path there.
    pub(crate) path: String,
    /// What the hub says of it.
    pub(crate) sha256: Option<Digest>,
    /// Its name in git, for files outside LFS.
    pub(crate) git_id: Option<String>,
    /// Its length.
    pub(crate) bytes: Option<u64>,
}

/// The hub's answer about a repository, as far as it is needed.
#[derive(Deserialize)]
struct Answer {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// A hub: its address and who is asking.
pub(crate) struct Hub {
    endpoint: String,
    pub(crate) token: Option<String>,
    agent: Agent,
    /// It may lead to hosts of Hugging Face's and its own alone.
    is_bounded: bool,
}

/// Hosts whose names end so are Hugging Face's: where large files lie.
const OWN_HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];

/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 5;

impl Hub {
    /// The hub of `HF_ENDPOINT`, asked with `HF_TOKEN`.
    pub(crate) fn from_environment(agent: Agent) -> Hub {
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = named("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = endpoint.trim_end_matches('/').into();
        Hub { endpoint, token: named("HF_TOKEN"), agent, is_bounded: false }
    }

    /// The same, asked on behalf of somebody elsewhere: it leads nowhere but to itself and to Hugging
    /// Face's own hosts, whatever it answers.
    pub(crate) fn bounded(self) -> Hub {
        Hub { is_bounded: true, ..self }
    }

    /// Asks for the bytes at `url`, which is of this hub, from byte `from` on.
    ///
    /// # Errors
    /// [`Stop::Final`] where it leads to a host that it may not.
    pub(crate) fn get(&self, url: &str, from: u64) -> Result<Response<Body>, Stop> {
        let again = |error: ureq::Error| Stop::Again(error.into());
        let mut url = url.to_string();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.agent.get(&url);
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let own = url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'));
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if !self.is_bounded {
                return request.call().map_err(again);
            }
            let response = request.config().max_redirects(0).build().call().map_err(again)?;
            let next = response.headers().get("location");
            let Some(next) = next.filter(|_| response.status().is_redirection()) else {
                return Ok(response);
            };
            let next = next.to_str().unwrap_or_default();
            url = self.led_to(&url, next).map_err(Stop::Final)?;
        }
        Err(Stop::Final(failure("the hub leads in a circle", "try again later")))
    }

    /// Where `from` leads with `location`.
    fn led_to(&self, from: &str, location: &str) -> anyhow::Result<String> {
        let host = |url: &str| -> Option<(String, String)> {
            let url: Uri = url.parse().ok()?;
            Some((url.scheme_str()?.to_string(), url.authority()?.as_str().to_ascii_lowercase()))
        };
        let here = host(from);
        let target = match location.starts_with('/') && !location.starts_with("//") {
            true => here.as_ref().map(|(scheme, host)| format!("{scheme}://{host}{location}")),
            false => Some(location.to_string()),
        };
        let is_own = |name: &str| {
            let rest = OWN_HOSTS.iter().find_map(|own| name.strip_suffix(own));
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let endpoint = host(&self.endpoint);
        let found = target.filter(|target| {
            let Some(there) = host(target) else { return false };
            (there.0 == "https" && is_own(&there.1)) || endpoint.as_ref() == Some(&there)
        });
        found.ok_or_else(|| {
            failure(
                format!("the hub leads to {location:?}, which is not its own"),
                "pull it beside the server, with `llmos pull`, if that is to be trusted",
            )
        })
    }

    /// The commit of a revision and its files, sorted by path.
    ///
    /// # Errors
    /// No connection, no such repository, or an answer that is not the hub's.
    pub(crate) fn list(&self, address: &Address) -> anyhow::Result<(Option<String>, Vec<Listed>)> {
        let Address { repository, revision, file } = address;
        let api = format!("{}/api/models/{repository}", self.endpoint);
        let mut url = format!("{api}/revision/{revision}?blobs=true");
        let mut response = self.ask(&url)?;
        // A small mirror may know of no revision but its own, or have files and no listing at all.
        if response.status() == StatusCode::NOT_FOUND && revision == "main" {
            url = format!("{api}?blobs=true");
            response = self.ask(&url)?;
        }
        if response.status() == StatusCode::NOT_FOUND
            && let Some(path) = file.clone().filter(|file| is_model(file))
        {
            return Ok((None, vec![Listed { path, sha256: None, git_id: None, bytes: None }]));
        }
        if response.status() != StatusCode::OK {
            return Err(refusal(&url, response.status(), self.token.is_some()));
        }
        // The answer of the largest repositories is some megabytes.
        let text = response
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_vec()
            .explain(|| format!("{url}: the answer broke off"), || "try again".into())?;
        let answer: Answer = serde_json::from_slice(&text).explain(
            || format!("{url}: not a hub's answer"),
            || "HF_ENDPOINT must be a mirror with the hub's own interface".into(),
        )?;
        let mut files: Vec<Listed> = answer
            .siblings
            .into_iter()
            .filter(|file| is_safe_path(&file.rfilename))
            .map(|file| {
                let sha256 =
                    file.lfs.as_ref().and_then(|lfs| Digest::parse(lfs.sha256.as_deref()?));
                let git_id = file.blob_id.filter(|id| file.lfs.is_none() && is_git_id(id));
                let bytes = file.lfs.and_then(|lfs| lfs.size).or(file.size);
                Listed { path: file.rfilename, sha256, git_id, bytes }
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let commit = answer.sha.filter(|sha| is_git_id(sha));
        Ok((commit, files))
    }

    fn ask(&self, url: &str) -> anyhow::Result<Response<Body>> {
        match self.get(url, 0) {
            Ok(response) => Ok(response),
            Err(Stop::Final(error)) => Err(error),
            Err(Stop::Again(error)) => Err(error).explain(
                || format!("cannot reach {}", self.endpoint),
                || "check the connection, or set HF_ENDPOINT to a mirror".into(),
            ),
        }
    }

    /// Where a file's bytes are.
    pub(crate) fn url(&self, address: &Address, revision: &str, path: &str) -> String {
        format!("{}/{}/resolve/{revision}/{path}", self.endpoint, address.repository)
    }

    /// What the hub promises about a file: its listing, and the headers in front of its bytes.
    ///
    /// # Errors
    /// No connection, no such file, or listing and headers that contradict each other.
    pub(crate) fn expect(&self, url: &str, listed: &Listed) -> anyhow::Result<Expected> {
        let mut expected = Expected {
            sha256: listed.sha256.clone(),
            git_id: listed.git_id.clone(),
            bytes: listed.bytes,
        };
        // The digest is in the hub's own answer, not in that of the store it redirects to.
        let mut request = self.agent.head(url).config().max_redirects(0).build();
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().explain(
            || format!("cannot reach {url}"),
            || "check the connection, or set HF_ENDPOINT to a mirror".into(),
        )?;
        let status = response.status();
        // Without headers the listing has to do.
        if status.is_client_error() && status != StatusCode::METHOD_NOT_ALLOWED {
            return Err(refusal(url, status, self.token.is_some()));
        }
        let headers = response.headers();
        let tag = tag(headers, "x-linked-etag").or_else(|| tag(headers, "etag"));
        let promised = tag.as_deref().and_then(Digest::parse);
        match (&expected.sha256, promised) {
            (Some(listed), Some(promised)) if *listed != promised => {
                return Err(failure(
                    format!("{url}: two digests, {} and {}", listed.hex(), promised.hex()),
                    "the file is being replaced, or a proxy is lying: try again later",
                ));
            }
            (None, Some(promised)) => expected.sha256 = Some(promised),
            _ => {}
        }
        if expected.sha256.is_none() && expected.git_id.is_none() {
            expected.git_id = tag.filter(|tag| is_git_id(tag));
        }
        let length = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
        if expected.bytes.is_none() {
            expected.bytes = length("x-linked-size")
                .or_else(|| status.is_success().then(|| length("content-length"))?);
        }
        Ok(expected)
    }
}

/// An entity tag without its quotes and weakness mark.
fn tag(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.trim_start_matches("W/").trim_matches('"').to_string())
}

fn is_git_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The files of one model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    /// What to call it after the repository's name: a GGUF file's name without its ending.
    pub(crate) name: Option<String>,
    /// The file to open; none opens the folder.
    pub(crate) entry: Option<String>,
    /// Indices into the listing.
    pub(crate) files: Vec<usize>,
}

/// Quantisations in the order that they are taken in: 4 bits lose little and fit most machines,
/// then more bits, then fewer.
const PREFERRED: [&str; 16] = [
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0", "IQ4_XS", "IQ4_NL", "Q4_1", "Q5_K_S", "Q6_K", "Q8_0",
    "MXFP4", "Q3_K_M", "Q2_K", "BF16", "F16", "F32",
];

/// Files that a folder of safetensors needs, where they exist.
const FOLDER_FILES: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Picks the files of a model: those that `wanted` names, else a GGUF of the preferred
/// quantisation, else the folder of safetensors.
///
/// # Errors
/// There is no such model; the error lists what there is.
pub(crate) fn choose(files: &[Listed], wanted: Option<&str>) -> anyhow::Result<Choice> {
    let models: Vec<usize> = (0..files.len()).filter(|&i| is_model(&files[i].path)).collect();
    if let Some(wanted) = wanted {
        let exact = models.iter().copied().find(|&i| files[i].path == wanted);
        let by_kind = || models.iter().copied().find(|&i| has_kind(&files[i].path, wanted));
        if let Some(first) = exact.or_else(by_kind) {
            return gguf(files, first);
        }
        let folder = files.iter().any(|file| file.path == wanted);
        if !(folder && wanted.ends_with(".safetensors")) {
            let names: Vec<&str> = models.iter().map(|&i| files[i].path.as_str()).collect();
            let hint = match names.as_slice() {
                [] => "leave FILE out: this repository has no GGUF".to_string(),
                names => format!("it has {}", names.join(", ")),
            };
            return Err(failure(format!("the repository has no model {wanted:?}"), hint));
        }
    } else {
        let preferred = PREFERRED
            .iter()
            .find_map(|kind| models.iter().copied().find(|&i| has_kind(&files[i].path, kind)))
            .or(models.first().copied());
        if let Some(first) = preferred {
            return gguf(files, first);
        }
    }
    let weights = |path: &str| {
        path.ends_with(".safetensors") && path.starts_with("model") && !path.contains('/')
    };
    let taken: Vec<usize> = (0..files.len())
        .filter(|&i| weights(&files[i].path) || FOLDER_FILES.contains(&files[i].path.as_str()))
        .collect();
    let has = |test: &dyn Fn(&str) -> bool| taken.iter().any(|&i| test(&files[i].path));
    if !has(&weights) || !has(&|path| path == "config.json") {
        return Err(failure(
            "the repository has neither a GGUF nor safetensors with a config.json",
            "look for a GGUF conversion of the model, often in a repository named …-GGUF",
        ));
    }
    Ok(Choice { name: None, entry: None, files: taken })
}

/// A GGUF file with weights of a language model.
fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let companion = ["mmproj", "imatrix", "projector"].iter().any(|word| name.contains(word));
    name.ends_with(".gguf") && !companion
}

/// True if the file's name has `kind` between separators: `x-Q4_K_M.gguf`, `x.q4_0.gguf`.
fn has_kind(path: &str, kind: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_uppercase();
    let kind = kind.to_ascii_uppercase();
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    name.match_indices(&kind).any(|(at, _)| {
        !inside(name[..at].chars().next_back()) && !inside(name[at + kind.len()..].chars().next())
    })
}

/// The model of one GGUF file, with all parts of a split one.
fn gguf(files: &[Listed], first: usize) -> anyhow::Result<Choice> {
    let path = files[first].path.as_str();
    let stem = path.strip_suffix(".gguf").unwrap_or(path);
    let Some((base, parts)) = split(stem) else {
        let name = stem.rsplit('/').next().map(str::to_string);
        return Ok(Choice { name, entry: Some(path.into()), files: vec![first] });
    };
    let part = |number: u32| format!("{base}-{number:05}-of-{parts:05}.gguf");
    let mut taken = Vec::new();
    for number in 1..=parts {
        let path = part(number);
        let Some(index) = files.iter().position(|file| file.path == path) else {
            return Err(failure(format!("part {path} is missing"), "take another file"));
        };
        taken.push(index);
    }
    let name = base.rsplit('/').next().map(str::to_string);
    Ok(Choice { name, entry: Some(part(1)), files: taken })
}

/// The base and the number of parts of `NAME-00001-of-00003`.
fn split(stem: &str) -> Option<(&str, u32)> {
    let (rest, parts) = stem.rsplit_once("-of-")?;
    let (base, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(parts) && is_number(number)).then(|| Some((base, parts.parse().ok()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_is_bounded_leads_to_its_own_hosts_alone() {
        let hub = |endpoint: &str| Hub {
            endpoint: endpoint.into(),
            token: None,
            agent: Agent::new_with_defaults(),
            is_bounded: true,
        };
        let check = |endpoint: &str, location: &str, expected: Option<&str>| {
            let from = format!("{endpoint}/o/r/resolve/main/m.gguf");
            let found = hub(endpoint).led_to(&from, location).ok();
            assert_eq!(found.as_deref(), expected, "{location}");
        };
        let own = "https://huggingface.co";
        let store = "https://cas-bridge.xethub.hf.co/x?y=1";
        check(own, store, Some(store));
        check(own, "/api/x", Some("https://huggingface.co/api/x"));
        check("http://127.0.0.1:9", "/store/m", Some("http://127.0.0.1:9/store/m"));
        check("http://127.0.0.1:9", "http://127.0.0.1:9/m", Some("http://127.0.0.1:9/m"));
        for bad in [
            "http://127.0.0.1:8/m",
            "http://169.254.169.254/latest",
            "https://hf.co.evil.example/m",
            "https://evilhf.co/m",
            "https://huggingface.co@evil.example/m",
            "http://huggingface.co/m",
            "//evil.example/m",
            "file:///etc/passwd",
            "",
        ] {
            check("http://127.0.0.1:9", bad, None);
            check(own, bad, None);
        }
    }

    fn listing(paths: &[&str]) -> Vec<Listed> {
        let listed =
            |path: &&str| Listed { path: (*path).into(), sha256: None, git_id: None, bytes: None };
        paths.iter().map(listed).collect()
    }

    #[test]
    fn choices() {
        let check = |paths: &[&str], wanted: Option<&str>, expected: Option<(&str, &[usize])>| {
            let choice = choose(&listing(paths), wanted).ok();
            let found = choice.as_ref().map(|choice| {
                (choice.entry.as_deref().unwrap_or("folder"), choice.files.as_slice())
            });
            assert_eq!(found, expected, "{paths:?} {wanted:?}");
        };
        let quants = ["README.md", "m-F16.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf"];
        check(&quants, None, Some(("m-Q4_K_M.gguf", &[2])));
        check(&quants, Some("q8_0"), Some(("m-Q8_0.gguf", &[3])));
        check(&quants, Some("m-F16.gguf"), Some(("m-F16.gguf", &[1])));
        check(&quants, Some("Q4_K"), None);
        check(&["x.gguf"], None, Some(("x.gguf", &[0])));
        let split = ["q/m-Q8_0-00001-of-00002.gguf", "q/m-Q8_0-00002-of-00002.gguf"];
        check(&split, Some("Q8_0"), Some((split[0], &[0, 1])));
        check(&split[1..], None, None);
        let folder = ["config.json", "model-00001-of-00001.safetensors", "pytorch_model.bin"];
        check(&folder, None, Some(("folder", &[0, 1])));
        check(&folder, Some("model-00001-of-00001.safetensors"), Some(("folder", &[0, 1])));
        check(&["README.md"], None, None);
    }
}
