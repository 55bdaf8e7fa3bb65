//! `-v`: `TARGET`, `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`.

use std::path::{Component, Path, PathBuf};

/// What one `-v` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volume {
    /// Only a target: an anonymous volume there.
    Anonymous(String),
    /// The text for `HostConfig.Binds`, with a relative source made absolute.
    Bind(String),
}

/// Parses one `-v`; `directory` is what a source like `./data` is relative to.
///
/// What options mean is the engine's business; here only the shape is checked.
pub fn parse(spec: &str, directory: &Path) -> Result<Volume, String> {
    if spec.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    if spec.len() <= 2 {
        return Ok(Volume::Anonymous(spec.to_owned()));
    }
    let fail = |why: &str| Err(format!("invalid spec: {spec}: {why}"));
    let sections: Vec<&str> = spec.split(':').collect();
    if sections.iter().any(|section| section.is_empty()) {
        return fail("empty section between colons");
    }
    match sections.as_slice() {
        [target] => Ok(Volume::Anonymous((*target).to_owned())),
        [_, _] | [_, _, _] => {
            let (source, rest) = spec.split_once(':').unwrap_or((spec, ""));
            Ok(Volume::Bind(format!(
                "{}:{rest}",
                absolute(source, directory)
            )))
        }
        _ => fail("too many colons"),
    }
}

/// A source that starts with a dot, made absolute and free of dots; others as they are.
pub fn absolute(source: &str, directory: &Path) -> String {
    if !source.starts_with('.') {
        return source.to_owned();
    }
    let mut out = PathBuf::new();
    for component in directory.join(source).components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(spec: &str) -> Result<Volume, String> {
        parse(spec, Path::new("/work/dir"))
    }

    #[test]
    fn each_shape_is_read() {
        assert_eq!(run("/data"), Ok(Volume::Anonymous("/data".into())));
        assert_eq!(run("/a:/b:ro,z"), Ok(Volume::Bind("/a:/b:ro,z".into())));
        assert_eq!(run("name:/b"), Ok(Volume::Bind("name:/b".into())));
        assert_eq!(run("./x:/b"), Ok(Volume::Bind("/work/dir/x:/b".into())));
        assert_eq!(run("../x/.:/b"), Ok(Volume::Bind("/work/x:/b".into())));
        assert_eq!(
            run("/x:"),
            Err("invalid spec: /x:: empty section between colons".into())
        );
        assert_eq!(
            run("/x:/y:ro:z"),
            Err("invalid spec: /x:/y:ro:z: too many colons".into())
        );
        assert_eq!(run(""), Err("invalid empty volume spec".into()));
    }

    proptest! {
        #[test]
        fn nothing_panics(spec in ".{0,40}") {
            let _ = run(&spec);
        }
    }
}
