//! Every template of a table, compared with what Go makes of it.
//!
//! `golden/table.jsonl` was printed by a small Go program that runs each template through
//! `github.com/docker/cli/templates` (v28.5.2, Go 1.26) over four kinds of data:
//! - `typed`: `golden/data.json` decoded into the structs declared below,
//! - `raw`: the same decoded into `any` with `UseNumber`,
//! - `strict`: raw with `missingkey=error`, only where that makes a difference,
//! - `header`: a map of two column titles with the functions for table headers.
//!
//! The last third are random templates. Lines whose output shows the address of a pointer or the
//! inside of a `time.Time` are left out.

use wharf_go_template::{Functions, MissingKey, Schema, Template, Value};

const TYPES: &str = "
type main.Leaf struct { Name string; Count int; Tags []string `tags,omitempty`; Next *int `,omitempty` }
type main.Inner struct {
    Name  string
    Count int
    Tags  []string `tags,omitempty`
    Next  *main.Leaf `,omitempty`
}
type main.Base struct { ID string `Id`; Created string }
type main.Mode string
type main.Outer struct {
    *main.Base
    Name     string
    Running  bool
    Pid      int
    Size     uint64
    Load     float64
    Env      []string
    NilList  []string
    Labels   map[string]string
    NilMap   map[string]string
    State    *main.Inner
    Nothing  *main.Inner
    Plain    main.Inner
    Mode     main.Mode
    Any      interface {}
    Started  time.Time
    Interval time.Duration
    Hidden   string `-`
    Ports    map[main.Mode][]main.Inner
    Inners   []main.Inner
    Pointers []*main.Inner
    Small    float32
}
";

#[test]
fn every_template_of_the_table_renders_as_go_renders_it() {
    let schema = Schema::parse(TYPES).unwrap();
    let json: serde_json::Value = serde_json::from_str(include_str!("golden/data.json")).unwrap();
    let typed = schema.value("*main.Outer", &json).unwrap();
    let raw = Value::from_json(&json);
    let header = Value::string_map([("ID", "CONTAINER ID"), ("Names", "NAMES")]);
    let mut failures = 0;
    for line in include_str!("golden/table.jsonl").lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = case["template"].as_str().unwrap();
        let kind = case["data"].as_str().unwrap();
        let (functions, data) = match kind {
            "typed" => (Functions::Docker, &typed),
            "header" => (Functions::Header, &header),
            _ => (Functions::Docker, &raw),
        };
        let rule = if kind == "strict" {
            MissingKey::Error
        } else {
            MissingKey::NoValue
        };
        let found = Template::with_functions(text, functions)
            .and_then(|template| template.missing_key(rule).execute(data))
            .map_err(|error| error.to_string());
        let expected = match case["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(case["output"].as_str().unwrap().to_owned()),
        };
        if found != expected {
            failures += 1;
            eprintln!("{kind} {text:?}\n  go   {expected:?}\n  here {found:?}");
        }
    }
    assert_eq!(failures, 0, "templates differ");
}
