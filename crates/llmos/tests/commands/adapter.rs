//! Adapters beside their models, in a command, a batch and a server, say what both say once they are
//! merged.

use serde_json::{Value, json};

use crate::program::{Folder, llmos, repository};

fn golden(name: &str) -> String {
    repository("testdata/finetune").join(name).display().to_string()
}

/// A base, an adapter that learnt beside it, and both merged.
fn learnt(folder: &Folder) -> (String, String, String) {
    let (base, chats) = (golden("base"), golden("chats.jsonl"));
    let (adapter, merged) = (folder.join("adapter"), folder.join("merged"));
    let arguments = ["finetune", &base, "--data", &chats, "--out", &adapter, "--lora", "r=4"];
    llmos(&[&arguments[..], &["--steps", "6", "--lr", "3e-2", "--threads", "2"]].concat()).text();
    llmos(&["merge", &base, &adapter, "--out", &merged]).text();
    (base, adapter, merged)
}

#[test]
fn an_adapter_of_finetune_runs_beside_its_model_as_merged_into_it() {
    let folder = Folder::new();
    let (base, adapter, merged) = learnt(&folder);
    let said = |command: &str, model: &str, more: &[&str]| {
        let arguments = [command, model, "-p", "What are you?", "-n", "12", "--temp", "0"];
        llmos(&[&arguments[..], more].concat()).text()
    };
    let (nothing, twice) = (format!("{adapter}:0"), format!("{adapter}:2"));
    for command in ["run", "chat"] {
        let own = said(command, &base, &[]);
        let together = said(command, &merged, &[]);
        assert_ne!(own, together, "{command}: the adapter has learnt nothing");
        assert_eq!(said(command, &base, &["--lora", &adapter]), together, "{command}");
        assert_eq!(said(command, &base, &["--lora", &nothing]), own, "{command}");
        assert_ne!(said(command, &base, &["--lora", &twice]), own, "{command}");
        let refused = |model: &str, lora: &str, words: &str| {
            llmos(&[command, model, "-p", "a", "--lora", lora]).is_error(words);
        };
        refused(&base, &base, "is no adapter");
        refused(&repository("testdata/agent/base").display().to_string(), &adapter, "adapter");
    }
}

#[test]
fn a_batch_asks_each_adapter_that_its_rows_name() {
    let folder = Folder::new();
    let (base, adapter, merged) = learnt(&folder);
    let (rows, out) = (folder.join("rows.jsonl"), folder.join("out.jsonl"));
    let row = |adapter: Value| {
        let mut row = json!({ "prompt": "What are you?" });
        if !adapter.is_null() {
            row["adapter"] = adapter;
        }
        row.to_string() + "\n"
    };
    let given = [json!("poet"), Value::Null, json!("poet"), json!("nobody"), json!(3)];
    std::fs::write(&rows, given.map(row).concat()).unwrap();
    let named = format!("poet={adapter}");
    let flags = ["--temp", "0", "-n", "12", "--no-tools"];
    let batch =
        ["chat", &base, "--batch", &rows, "--out", &out, "--adapter", &named, "--parallel", "4"];
    let output = llmos(&[&batch[..], &flags].concat());
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    let answers: Vec<Value> = std::fs::read_to_string(&out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said = |model: &str| {
        let one = ["chat", model, "-p", "What are you?", "--json"];
        llmos(&[&one[..], &flags].concat()).json()["answer"].clone()
    };
    let (own, together) = (said(&base), said(&merged));
    assert_ne!(own, together);
    let got: Vec<&Value> = answers.iter().map(|answer| &answer["answer"]).collect();
    assert_eq!(got[..3], [&together, &own, &together]);
    assert!(answers[3]["error"].as_str().unwrap().contains("no adapter \"nobody\""));
    assert!(answers[4]["error"].as_str().unwrap().contains("adapter is no text"));
    let wrong = |flag: &str, words: &str| {
        let batch = ["chat", &base, "--batch", &rows, "--out", &out, "--adapter", flag];
        llmos(&batch).is_error(words);
    };
    let nameless = ["chat", &base, "--batch", &rows, "--out", &out, "--adapter", "poet"];
    let nameless = llmos(&nameless);
    assert_eq!(nameless.code, Some(2));
    assert!(nameless.stderr.contains("an adapter is NAME=FOLDER"), "{}", nameless.stderr);
    wrong(&format!("poet={base}"), "no adapter in its folder");
}

#[cfg(unix)]
#[test]
fn a_server_answers_with_the_adapter_that_is_asked_for() {
    use crate::program::{collect, command};
    use crate::serve::{address, ask};

    let home = Folder::new();
    let (base, adapter, merged) = learnt(&home);
    let named = format!("poet={adapter}");
    let arguments = ["serve", &base, &merged, "--adapter", &named, "--port", "0"];
    let mut child = command(home.path(), &arguments).spawn().unwrap();
    let address = address(&mut child);
    let models = ask(&address, "GET", "/v1/models", &Value::Null);
    let listed: Vec<(&str, &Value)> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| (model["id"].as_str().unwrap(), &model["adapters"]))
        .collect();
    let (poets, none) = (json!(["base:poet"]), json!([]));
    assert_eq!(listed, [("base", &poets), ("base:poet", &none), ("merged", &none)]);
    // Long enough to fill blocks of the cache.
    let text = format!("{}What are you?", "Say it in few words. ".repeat(8));
    let answer = |model: &str| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": text }],
                           "temperature": 0, "max_tokens": 12 });
        let answer = ask(&address, "POST", "/v1/chat/completions", &body);
        assert_eq!(answer["model"], model);
        let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        (answer["choices"][0]["message"]["content"].clone(), cached)
    };
    let (together, _) = answer("merged");
    let (own, cached) = answer("base");
    assert_eq!(cached, 0);
    assert_ne!(own, together);
    // Nothing that was computed without the adapter is taken for what is computed with it.
    assert_eq!(answer("base:poet"), (together.clone(), 0));
    let (again, cached) = answer("base:poet");
    assert!(again == together && cached > 0, "{again} {cached}");
    assert_eq!(answer("base").0, own);
    let scored = |model: &str| {
        let body = json!({ "model": model, "text": "You are a very small model." });
        ask(&address, "POST", "/v1/score", &body)["nats_per_token"].as_f64().unwrap()
    };
    assert!((scored("base:poet") - scored("merged")).abs() < 1e-4);
    assert!((scored("base:poet") - scored("base")).abs() > 1e-3);
    let unknown = json!({ "model": "base:painter", "prompt": "a" });
    let unknown = ask(&address, "POST", "/v1/completions", &unknown);
    assert_eq!(unknown["error"]["code"], "model_not_found");
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
    let lost = format!("nothing:poet={adapter}");
    llmos(&["serve", &base, "--adapter", &lost, "--port", "0"]).is_error("no model nothing");
}

#[cfg(unix)]
#[test]
fn answers_with_and_without_an_adapter_are_the_same_where_memory_is_short() {
    use crate::program::{collect, command};
    use crate::serve::{address, ask};

    let home = Folder::new();
    let (base, adapter, _) = learnt(&home);
    let named = format!("poet={adapter}");
    let answers = |memory: &str, at_once: bool| -> Vec<Value> {
        let arguments =
            ["serve", &base, "--adapter", &named, "--port", "0", "--cache-memory", memory];
        let mut child = command(home.path(), &arguments).spawn().unwrap();
        let address = address(&mut child);
        let answer = |number: u32| {
            let model = if number.is_multiple_of(2) { "base" } else { "base:poet" };
            let body = json!({ "model": model, "prompt": [[20 + number, 30, 40]],
                               "temperature": 0, "max_tokens": 220,
                               "logit_bias": { "0": -100, "2": -100 } });
            let answer = ask(&address, "POST", "/v1/completions", &body);
            assert_eq!(answer["usage"]["completion_tokens"], 220, "{answer}");
            answer["choices"][0]["text"].clone()
        };
        let answer = &answer;
        let found = match at_once {
            false => (0..6).map(answer).collect(),
            true => std::thread::scope(|scope| {
                let asked: Vec<_> =
                    (0..6).map(|number| scope.spawn(move || answer(number))).collect();
                asked.into_iter().map(|thread| thread.join().unwrap()).collect()
            }),
        };
        crate::interrupt::interrupt(&child);
        assert_eq!(collect(child).code, Some(0));
        found
    };
    let alone = answers("4M", false);
    assert_ne!(alone[0], alone[1]);
    // Room for two or three of them: the others are written out and come back.
    assert_eq!(answers("80K", true), alone);
}
