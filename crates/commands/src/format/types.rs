//! The Go structs Docker's client hands to templates, declared for [`wharf_go_template::Schema`].
//!
//! Only commands with a template read this, so the text is parsed when it is needed. Field order
//! and types are those of the API's Go types; a field that JSON may leave out says `omitempty`.

use serde_json::Value as Json;
use wharf_go_template::{Schema, Value};

/// An object as a value of a declared type; `None` when it does not fit, in which case Docker's
/// client goes on with plain JSON too.
pub(crate) fn value(type_name: &str, object: &Json) -> Option<Value> {
    Schema::parse(DECLARATIONS)
        .ok()?
        .value(type_name, object)
        .ok()
}

const DECLARATIONS: &str = include_str!("types.go.txt");

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wharf_go_template::render;

    use super::*;

    #[test]
    fn the_declarations_are_well_formed() {
        Schema::parse(DECLARATIONS).unwrap();
    }

    #[test]
    fn absent_fields_have_zero_values_and_structs_their_order() {
        let event = json!({"Action": "start", "Type": "container", "Actor": {"ID": "x", "Attributes": {"name": "web"}}});
        let event = value("events.Message", &event).unwrap();
        assert_eq!(
            render(
                "{{.Type}} {{.Status}}{{.Actor.Attributes.name}} {{.Time}}",
                &event
            )
            .unwrap(),
            "container web 0"
        );
        assert!(
            render("{{.Foo}}", &event)
                .unwrap_err()
                .to_string()
                .ends_with("can't evaluate field Foo in type events.Message")
        );
        let state = json!({"State": {"Status": "running", "Running": true, "Pid": 7}, "Config": {"Tty": true}});
        let container = value("container.InspectResponse", &state).unwrap();
        assert_eq!(
            render(
                "{{.State.Pid}} {{.State.Health}} {{.Config.Tty}} {{.RestartCount}}",
                &container
            )
            .unwrap(),
            "7 <nil> true 0"
        );
    }
}
