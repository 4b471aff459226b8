//! What keeps a person with a screen reader or a keyboard out, as axe-core finds it.

use serde_json::Value;

use crate::browser::Tab;
use crate::house::repository;

impl Tab {
    /// Looks through the page as it is; nothing serious may be found.
    #[track_caller]
    pub(crate) fn is_accessible(&mut self) {
        if self.evaluate("typeof axe") == "undefined" {
            let script = std::fs::read_to_string(repository("testdata/axe/axe.min.js")).unwrap();
            self.evaluate(&format!("{script}; 0"));
        }
        let found = self.evaluate(
            // Without its own look at style sheets, which the page's policy would complain of.
            "axe.run(document, { resultTypes: ['violations'], preload: false }).then(({ violations }) =>
                violations.map(({ id, impact, help, nodes }) =>
                    ({ id, impact, help, nodes: nodes.map((node) => node.failureSummary + node.html) })))",
        );
        let serious: Vec<&Value> = found
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["impact"] == "serious" || one["impact"] == "critical")
            .collect();
        assert!(serious.is_empty(), "{serious:#?}");
    }
}
