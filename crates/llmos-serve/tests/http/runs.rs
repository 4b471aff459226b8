//! Training runs over HTTP: what is handed in is handed out, and no id leads elsewhere.

use std::sync::{Arc, Mutex};

use llmos_serve::{Models, Runs, ServerOptions, Trouble, TroubleKind};
use serde_json::{Value, json};

use crate::client::get;
use crate::house::{options, run};

/// Knows one run, and notes what it is asked for.
#[derive(Default)]
pub(crate) struct One {
    asked: Mutex<Vec<(String, Option<u64>)>>,
}

impl Runs for One {
    fn list(&self) -> Result<Vec<Value>, Trouble> {
        Ok(vec![json!({ "id": "one", "step": 3 })])
    }

    fn one(&self, id: &str, after: Option<u64>) -> Result<Option<Value>, Trouble> {
        self.asked.lock().unwrap().push((id.to_string(), after));
        match id {
            "one" => Ok(Some(json!({ "run": { "id": "one" }, "metrics": [], "dreams": [] }))),
            "broken" => Err(Trouble {
                kind: TroubleKind::Outside,
                message: "cannot be read".into(),
                hint: "look at it".into(),
            }),
            _ => Ok(None),
        }
    }
}

#[test]
fn runs_are_listed_and_read_by_steps() {
    let runs = Arc::new(One::default());
    let options = ServerOptions { runs: Some(runs.clone()), ..options() };
    let server = run(options, Models::new(None));
    let list = get(server.address, "/v1/runs").json();
    assert_eq!(list, json!({ "data": [{ "id": "one", "step": 3 }] }));
    assert_eq!(get(server.address, "/v1/runs/one").json()["run"]["id"], "one");
    assert_eq!(get(server.address, "/v1/runs/one?after=12").json()["run"]["id"], "one");
    let asked = std::mem::take(&mut *runs.asked.lock().unwrap());
    assert_eq!(asked, [("one".to_string(), None), ("one".to_string(), Some(12))]);
    get(server.address, "/v1/runs/one?after=x").is_refusal(400, "after");
    get(server.address, "/v1/runs/two").is_refusal(404, "no run");
    get(server.address, "/v1/runs/broken").is_refusal(502, "cannot be read");
    // Nothing that leads out of a folder is even looked for.
    runs.asked.lock().unwrap().clear();
    for id in ["%2e%2e", "..%2fone", "%2e%2e%2f%2e%2e%2fetc", ".git", "a%00b", "c%3a", "a%5cb"] {
        get(server.address, &format!("/v1/runs/{id}")).is_refusal(404, "no run");
    }
    for path in ["/v1/runs/../models", "/v1/runs/a/b", "/v1/runs/"] {
        assert_eq!(get(server.address, path).status, 404, "{path}");
    }
    assert!(runs.asked.lock().unwrap().is_empty());
}

#[test]
fn a_server_without_a_folder_of_runs_has_none() {
    let server = run(options(), Models::new(None));
    assert_eq!(get(server.address, "/v1/runs").json(), json!({ "data": [] }));
    get(server.address, "/v1/runs/one").is_refusal(404, "no run");
}
