//! The page's words: the same in both languages, and there wherever they are asked for.

use serde_json::json;

use crate::browser::Tab;
use crate::house::House;

/// Goes through the tables and the code of all pages, and lists what is wrong with their words.
const LOOK: &str = r#"(async () => {
    const wrong = [];
    const shared = (await import("/web/strings.js")).default;
    const holes = (text) => [...new Set(text.match(/\{\w+\}/g))].sort().join(" ");
    const compare = (name, { en, zh }) => {
        for (const key of new Set([...Object.keys(en), ...Object.keys(zh)])) {
            // Chinese has no form of its own for one.
            if (key.endsWith(".one") && en[key.slice(0, -4)] && !(key in zh)) continue;
            if (!(key in en)) wrong.push(`${name}: ${key} is not in English`);
            else if (!(key in zh)) wrong.push(`${name}: ${key} is not in Chinese`);
            else if (holes(en[key]) !== holes(zh[key])) wrong.push(`${name}: ${key} is filled with ${holes(en[key])} or ${holes(zh[key])}`);
            else if (/[a-z]{3} /.test(en[key]) && en[key] === zh[key]) wrong.push(`${name}: ${key} is the same in both`);
        }
    };
    // The code of a module and of all that it imports, libraries of others aside.
    const read = async (path, seen = new Map()) => {
        if (seen.has(path) || path.startsWith("/web/vendor/")) return seen;
        const text = (await (await fetch(path)).text()).replace(/^ *(\/\/| ?\*|\/\*\*).*$/gm, "");
        seen.set(path, text);
        for (const [, to] of text.matchAll(/ from "(\.[^"]+)"/g)) await read(new URL(to, location.origin + path).pathname, seen);
        return seen;
    };
    // Keys that are written out: t("key", …), and both sides of t(is ? "key" : "other").
    const keys = (text) => [...text.matchAll(/\bt\(([^()`]*?)[,)]/g)].flatMap(([, inside]) =>
        [...inside.matchAll(/(===? )?"([\w.]+)"/g)].filter(([, compared]) => !compared).map(([, , key]) => key));
    let found = 0;
    const check = async (name, path, own) => {
        for (const [file, text] of await read(path)) {
            for (const key of keys(text)) {
                found += 1;
                if (!(key in own.en) && !(key in shared.en)) wrong.push(`${name}: ${file} asks for ${key}`);
            }
        }
    };
    compare("shared", shared);
    await check("shared", "/web/app.js", { en: {} });
    for (const name of PAGES) {
        const own = (await import(`/web/pages/${name}.strings.js`)).default;
        compare(name, own);
        await check(name, `/web/pages/${name}.js`, own);
    }
    return { wrong, found };
})()"#;

#[test]
fn both_languages_say_everything_that_is_asked_for() {
    let house = House::start(&[]);
    let Some(mut tab) = Tab::open(&house, "") else { return };
    let names = tab.evaluate(
        "[...document.querySelectorAll('nav.tabs a')].map((a) => a.hash.slice('#/'.length))",
    );
    let found = tab.evaluate(&LOOK.replace("PAGES", &names.to_string()));
    assert_eq!(found["wrong"], json!([]));
    assert!(found["found"].as_u64().unwrap() > 200, "{found}");
    tab.close();
}
