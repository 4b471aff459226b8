//! `--lora`: an adapter beside its model says what both say once they are merged.

use crate::program::{Folder, llmos, repository};

#[test]
fn an_adapter_of_finetune_runs_beside_its_model_as_merged_into_it() {
    let folder = Folder::new();
    let golden = |name: &str| repository("testdata/finetune").join(name).display().to_string();
    let (base, chats) = (golden("base"), golden("chats.jsonl"));
    let (adapter, merged) = (folder.join("adapter"), folder.join("merged"));
    let arguments = ["finetune", &base, "--data", &chats, "--out", &adapter, "--lora", "r=4"];
    llmos(&[&arguments[..], &["--steps", "6", "--lr", "3e-2", "--threads", "2"]].concat()).text();
    llmos(&["merge", &base, &adapter, "--out", &merged]).text();
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
