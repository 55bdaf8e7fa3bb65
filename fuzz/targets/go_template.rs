//! `--format`: any template over any JSON ends with a text or an error, within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_go_template::{Value, render};

fuzz_target!(|input: (&str, &str)| {
    let (template, data) = input;
    let data = serde_json::from_str(data)
        .unwrap_or_else(|_| serde_json::json!({"ID": "x", "List": [1, "two", null], "Map": {"k": true}, "N": 1.5}));
    drop(render(template, &Value::from_json(&data)));
});
