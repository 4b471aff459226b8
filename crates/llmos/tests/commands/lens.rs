//! `inspect --lens` and `--histogram`: what is inside of a model.

use serde_json::Value;

use crate::program::{llmos, repository, stories};

const TEXT: &str = "Once upon a time, there was a";

fn lens(more: &[&str]) -> Value {
    llmos(&[&["inspect", &stories(), "--lens", TEXT, "--json"], more].concat()).json()
}

fn probability(row: &Value, token: &Value) -> f64 {
    let row = row.as_array().unwrap();
    row.iter().find(|next| next["token"] == *token).unwrap()["probability"].as_f64().unwrap()
}

#[test]
fn the_last_layer_says_what_the_model_says() {
    let report = lens(&["--top", "512"]);
    let next = llmos(&["next", &stories(), "-p", TEXT, "--json", "--top", "512"]).json();
    let (tokens, layers) = (&report["tokens"], report["layers"].as_array().unwrap());
    assert_eq!(tokens.as_array().unwrap().len(), 9);
    assert_eq!((&tokens[1]["token"], &tokens[1]["text"]), (&403.into(), &" Once".into()));
    assert_eq!(layers.len(), 5);
    for (index, layer) in layers.iter().enumerate() {
        assert_eq!(layer["layer"], index);
        let positions = layer["positions"].as_array().unwrap();
        assert_eq!(positions.len(), 9);
        for row in positions {
            let row = row.as_array().unwrap();
            let all: Vec<f64> = row.iter().map(|n| n["probability"].as_f64().unwrap()).collect();
            assert!(all.len() == 512 && all.is_sorted_by(|a, b| a >= b));
            assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        }
    }
    let last = &layers[4]["positions"][8];
    assert_eq!((last, &report["next_unchanged"]), (&report["next"], &report["next"]));
    for (mine, its) in last.as_array().unwrap().iter().zip(next["next"].as_array().unwrap()) {
        assert_eq!((&mine["token"], &mine["text"]), (&its["id"], &its["text"]));
        assert_eq!(mine["probability"], its["probability"]);
    }
    // The layers come to it: " little" grows likelier from the first to the last.
    let little = |layer: usize| probability(&layers[layer]["positions"][8], &376.into());
    assert!(little(0) < little(4), "{} {}", little(0), little(4));
}

#[test]
fn parts_are_switched_off() {
    let whole = lens(&["--top", "512"]);
    let off = lens(&["--top", "512", "--off", "4", "--off", "1:0,1:3"]);
    assert_eq!(off["next_unchanged"], whole["next"]);
    assert_ne!(off["next"], whole["next"]);
    // Without the last layer the one before it is the last.
    assert_eq!(off["layers"][4]["positions"], off["layers"][3]["positions"]);
    assert_eq!(off["layers"][0], whole["layers"][0]);
    assert_ne!(off["layers"][1], whole["layers"][1]);
}

#[test]
fn a_table_for_people() {
    let show = |more: &[&str]| {
        llmos(&[&["inspect", &stories(), "--lens", TEXT, "--top", "2"], more].concat()).text()
    };
    let table = show(&[]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 6, "{table}");
    assert!(lines[0].contains("·a") && lines[5].trim_start().starts_with("4  ·little"), "{table}");
    let table = show(&["--off", "0"]);
    assert!(table.contains("as it is") && table.lines().count() >= 10, "{table}");
    assert!(!table.contains('\x1b'), "colours only in a terminal");
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let fails = |more: &[&str], words: &str| {
        llmos(&[&["inspect", &stories()], more].concat()).is_error(words);
    };
    fails(&["--lens", TEXT, "--off", "5"], "a layer of 0 to 4");
    fails(&["--lens", TEXT, "--off", "0:8"], "a head of 0 to 7");
    fails(&["--lens", &"word ".repeat(600)], "512 tokens");
    fails(&["--lens", &"word ".repeat(200), "--json"], "too many to report");
    let folder = repository("testdata/architectures/gemma2").display().to_string();
    llmos(&["inspect", &folder, "--lens", "a"]).is_error("no tokenizer");
    for given in
        [&["--lens", "a", "--off", "x"][..], &["--off", "1"], &["--lens", "a", "--histogram"]]
    {
        let output = llmos(&[&["inspect", &stories()], given].concat());
        assert_eq!(output.code, Some(2), "{given:?}");
    }
}

#[test]
fn parameters_are_counted_by_their_size() {
    let report = llmos(&["inspect", &stories(), "--histogram", "--json"]).json();
    assert_eq!(report["model"], "stories260K");
    let tensors = report["tensors"].as_array().unwrap();
    let about = llmos(&["inspect", &stories(), "--json"]).json();
    let about = about["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), about.len());
    for (tensor, about) in tensors.iter().zip(about) {
        assert_eq!((&tensor["name"], &tensor["type"]), (&about["name"], &about["type"]));
        assert_eq!((&tensor["shape"], &tensor["count"]), (&about["shape"], &about["parameters"]));
        let counts = tensor["histogram"]["counts"].as_array().unwrap();
        let all: u64 = counts.iter().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!((counts.len(), tensor["count"].as_u64()), (64, Some(all)));
        let figure = |key: &str| tensor[key].as_f64().unwrap();
        assert!(figure("min") <= figure("mean") && figure("mean") <= figure("max"));
    }
    let page = llmos(&["inspect", &stories(), "--histogram"]).text();
    assert_eq!(page.lines().count(), 1 + tensors.len(), "{page}");
    assert!(page.contains("blk.4.ffn_down.weight") && page.contains('█'), "{page}");
}
