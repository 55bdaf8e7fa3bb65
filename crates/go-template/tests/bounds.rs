//! Whatever the template: no panic, no endless work, no unbounded memory, no stack overflow.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use wharf_go_template::{Error, Limits, Methods, Template, Value, render};

fn data() -> Value {
    let json = serde_json::json!({
        "Name": "web", "Pid": 7, "Env": ["A=1", "B"], "Labels": {"a": "1"}, "None": null,
        "Nested": [[1, 2], [3]], "Flag": true,
    });
    Value::from_json(&json)
}

fn small() -> Limits {
    Limits {
        output_bytes: 1 << 16,
        work: 1 << 18,
        ..Limits::default()
    }
}

/// Pieces that make templates which often parse.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec![
            "{{", "}}", "{{- ", " -}}", "if ", "else", "end", "range ", "with ", "define ", "block ",
            "template ", "break", "continue", "nil", "true", ".", ".Name", ".Env", ".Labels", ".None",
            ".Nested", ".Pid", "$", "$x", "$x := ", "$x = ", "$i, $e := ", "|", "(", ")", " ", ",",
            "\"x\"", "`y`", "'c'", "1", "-3", "0x1f", "1.5", "1e9", "\n", "/*", "*/",
            "printf \"%v %5d %-10s %+q %x %[2]*[1]d %.3f %T %#v\" ", "print ", "println ", "len ",
            "index ", "slice ", "json ", "split ", "join ", "title ", "upper ", "pad ", "truncate ",
            "eq ", "lt ", "and ", "or ", "not ", "html ", "js ", "urlquery ", "call ", "text",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ]
}

/// A whole action around random operands.
fn action() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 1..6).prop_map(|pieces| format!("{{{{{}}}}}", pieces.concat()))
}

/// `PROPTEST_CASES`, else enough for every day.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_text_is_rendered_or_refused(pieces in prop::collection::vec(piece(), 0..40)) {
        if let Ok(template) = Template::parse(&pieces.concat()) {
            let _ = template.limits(small()).execute(&data());
        }
    }

    #[test]
    fn any_action_is_rendered_or_refused(actions in prop::collection::vec(action(), 0..6)) {
        if let Ok(template) = Template::parse(&actions.concat()) {
            let _ = template.limits(small()).execute(&data());
        }
    }

    #[test]
    fn any_format_is_formatted(format in "[%0-9.*+# \\[\\]a-zA-Z-]{0,12}", number: i64, float: f64, text in "\\PC{0,8}") {
        let template = Template::parse("{{printf .f .i .d .s .i}}").unwrap().limits(small());
        let data = Value::map([
            ("f", Value::from(format)), ("i", number.into()), ("d", float.into()), ("s", text.into()),
        ]);
        let _ = template.execute(&data);
    }

    #[test]
    fn text_without_actions_is_itself(text in "[^{]*") {
        prop_assert_eq!(render(&text, &data()), Ok(text));
    }

    #[test]
    fn json_of_json_is_the_same_document(text in "\\PC*", number: i64) {
        let json = serde_json::json!({"a": text, "b": [number, null, true]});
        let shown = render("{{json .}}", &Value::from_json(&json)).unwrap();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
    }
}

fn is_limit(result: &Result<String, Error>) -> bool {
    matches!(result, Err(Error::Limit(_)))
}

#[test]
fn costly_templates_end_with_an_error() {
    for template in [
        "{{range 1000000000}}{{end}}",
        "{{range 1000000000}}x{{end}}",
        "{{range 100000}}{{range 100000}}{{end}}{{end}}",
        "{{$x := \"ab\"}}{{range 100}}{{$x = print $x $x}}{{end}}",
        "{{$x := \"ab\"}}{{range 26}}{{$x = printf \"%s%s\" $x $x}}{{end}}",
        "{{range 100000}}{{$x := printf \"%900000d\" 1}}{{end}}",
        "{{pad \"x\" 9000000000000 1}}",
        "{{printf \"%*d\" 1000000 1 | split \"\"}}{{range 100000}}{{printf \"%1000000d\" 1}}{{end}}",
        "{{define \"r\"}}{{template \"r\" .}}{{end}}{{template \"r\"}}",
        "{{define \"r\"}}{{if true}}{{range 1}}{{(template)}}{{end}}{{end}}{{end}}",
    ] {
        let result = render(template, &data());
        assert!(
            result.is_err(),
            "{template}: {:?}",
            result.map(|text| text.len())
        );
    }
    assert!(is_limit(&render("{{range 1000000000}}x{{end}}", &data())));
    assert!(is_limit(&render(&"x".repeat(1 << 20), &data())));
}

#[test]
fn deep_nesting_fits_a_small_stack() {
    let run = || {
        let mut parens = String::from("{{");
        parens.push_str(&"(".repeat(99));
        parens.push('1');
        parens.push_str(&")".repeat(99));
        parens.push_str("}}");
        assert_eq!(render(&parens, &data()), Ok("1".to_owned()));

        let deep = "{{if true}}".repeat(99) + "x" + &"{{end}}".repeat(99);
        assert_eq!(render(&deep, &data()), Ok("x".to_owned()));

        for (open, close) in [
            ("{{if true}}", "{{end}}"),
            ("{{(", ""),
            ("{{range .}}", "{{end}}"),
        ] {
            let text = open.repeat(5000) + &close.repeat(5000);
            assert!(render(&text, &data()).is_err());
        }
        // The deepest chain of frames: calls inside parentheses inside recursive definitions.
        let mut call = String::from(".Env");
        for _ in 0..90 {
            call = format!("(slice {call} 0)");
        }
        let text = format!(
            "{{{{define \"r\"}}}}{{{{if true}}}}{{{{template \"r\" {call}}}}}{{{{end}}}}{{{{end}}}}{{{{template \"r\" .}}}}"
        );
        assert!(render(&text, &data()).is_err());
        let text = "{{define \"r\"}}{{with .}}{{range $.Env}}{{template \"r\" $}}{{end}}{{end}}{{end}}{{template \"r\" .}}";
        assert!(is_limit(&render(text, &data())));
    };
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn complex_numbers_are_refused() {
    for template in ["{{1i}}", "{{1+2i}}"] {
        let error = render(template, &data()).unwrap_err().to_string();
        assert!(error.contains("complex constant not supported"), "{error}");
    }
}

/// A row as tables have them.
#[derive(Debug)]
struct Row;

impl Methods for Row {
    fn type_name(&self) -> &str {
        "*formatter.ContainerContext"
    }

    fn arity(&self, method: &str) -> Option<usize> {
        match method {
            "ID" | "Broken" => Some(0),
            "Label" => Some(1),
            _ => None,
        }
    }

    fn call(&self, method: &str, args: &[&str]) -> Result<Value, String> {
        match method {
            "ID" => Ok("abc".into()),
            "Label" => {
                let mut text = String::new();
                let _ = write!(text, "<{}>", args[0]);
                Ok(text.into())
            }
            _ => Err("out of order".to_owned()),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"ID": "abc", "Labels": ""})
    }
}

#[test]
fn rows_answer_to_their_methods() {
    let row = Value::methods(Arc::new(Row));
    let run = |template: &str| render(template, &row).map_err(|error| error.to_string());
    assert_eq!(
        run("{{.ID}} {{.Label \"x\"}} {{\"y\" | .Label}}"),
        Ok("abc <x> <y>".into())
    );
    assert_eq!(
        run("{{json .}}"),
        Ok("{\"ID\":\"abc\",\"Labels\":\"\"}".into())
    );
    assert_eq!(
        run("{{range 2}}{{$.ID | upper}}{{end}}"),
        Ok("ABCABC".into())
    );
    let refused = [
        (
            "{{.Foo}}",
            "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext",
        ),
        (
            "{{.Label}}",
            "template: :1:2: executing \"\" at <.Label>: wrong number of args for Label: want 1 got 0",
        ),
        (
            "{{.ID 1}}",
            "template: :1:2: executing \"\" at <.ID>: wrong number of args for ID: want 0 got 1",
        ),
        (
            "{{.Label 1}}",
            "template: :1:9: executing \"\" at <1>: expected string; found 1",
        ),
        (
            "{{.Broken}}",
            "template: :1:2: executing \"\" at <.Broken>: error calling Broken: out of order",
        ),
    ];
    for (template, message) in refused {
        assert_eq!(run(template), Err(message.to_owned()));
    }
}

#[test]
fn records_are_structs() {
    let record = Value::record("main.Row", [("A", Value::from(1)), ("B", Value::from("x"))]);
    assert_eq!(
        render("{{.}} {{json .}}", &record),
        Ok("{1 x} {\"A\":1,\"B\":\"x\"}".to_owned())
    );
    let error = render("{{.C}}", &record).unwrap_err().to_string();
    assert!(
        error.ends_with("can't evaluate field C in type main.Row"),
        "{error}"
    );
}
