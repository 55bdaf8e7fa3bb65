//! Where a copy lands: pure decisions about paths, as `cp -a` makes them.
//!
//! | destination | source file | source directory |
//! |---|---|---|
//! | directory | below it | below it, or its content when the source ends in `/.` |
//! | file | replaces it | refused |
//! | not there | becomes it | becomes it |
//! | not there, ends in `/` | refused | becomes it |

use std::fs;
use std::path::Path;

use crate::container::options::reason;
use crate::outcome::{Failure, Outcome};

/// What is copied.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) is_dir: bool,
    /// The name it has in its archive, when that is not the last part of `path`.
    pub(super) rename: Option<String>,
}

/// Where it is copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) is_dir: bool,
}

/// Where the archive is unpacked, and what its top entry is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: String,
    /// Old and new name of the top entry.
    pub(super) rename: Option<(String, String)>,
}

impl Place {
    pub(super) fn of(source: &Source, target: &Target) -> Outcome<Self> {
        let (directory, base) = split(&target.path);
        let old = source
            .rename
            .clone()
            .unwrap_or_else(|| split(&source.path).1);
        let renamed = Self {
            directory,
            rename: Some((old, base)),
        };
        match (target.exists, target.is_dir, source.is_dir) {
            (true, true, _) => Ok(Self {
                directory: target.path.clone(),
                rename: None,
            }),
            (true, false, true) => Err(Failure::new("cannot copy directory")),
            (true, false, false) | (false, _, true) => Ok(renamed),
            (false, _, false) if asserts_directory(&target.path) => {
                Err(Failure::new("no such directory"))
            }
            (false, _, false) => Ok(renamed),
        }
    }
}

impl Target {
    /// Looks at a local path, following symbolic links: a copy goes where a link leads.
    pub(super) fn local(path: &str) -> Outcome<Self> {
        /// More links than this in a row are a loop.
        const LINKS_MAX: usize = 10;
        let mut path = path.to_owned();
        for _ in 0..=LINKS_MAX {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_symlink() => {
                    let link = fs::read_link(&path)?;
                    let link = link.to_string_lossy();
                    path = if link.starts_with('/') {
                        link.into_owned()
                    } else {
                        join(&split(&path).0, &link)
                    };
                }
                Ok(meta) => {
                    return Ok(Self {
                        path,
                        exists: true,
                        is_dir: meta.is_dir(),
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let parent = split(&path).0;
                    return match fs::metadata(&parent) {
                        Ok(meta) if meta.is_dir() => Ok(Self {
                            path,
                            exists: false,
                            is_dir: false,
                        }),
                        Ok(_) => Err(Failure::new("not a directory")),
                        Err(_) => Err(Failure::new(format!(
                            "invalid output path: directory \"{parent}\" does not exist"
                        ))),
                    };
                }
                Err(error) => {
                    return Err(Failure::new(format!("lstat {path}: {}", reason(&error))));
                }
            }
        }
        Err(Failure::new(format!("too many symlinks in {path}")))
    }
}

/// Directory and last part of a path, cleaned; `/.` at the end is a last part of its own.
pub(super) fn split(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if path == "." || path.ends_with("/.") {
        cleaned = if cleaned == "/" {
            "/.".to_owned()
        } else {
            cleaned + "/."
        };
    }
    match cleaned.rsplit_once('/') {
        Some(("", "")) => ("/".to_owned(), "/".to_owned()),
        Some(("", base)) => ("/".to_owned(), base.to_owned()),
        Some((directory, base)) => (directory.to_owned(), base.to_owned()),
        None => (".".to_owned(), cleaned),
    }
}

/// Two parts as one cleaned path.
pub(super) fn join(directory: &str, rest: &str) -> String {
    clean(&format!("{directory}/{rest}"))
}

fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// A path without `.`, `..` and doubled slashes, as far as text can tell.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// A cleaned path that still ends in `/` or `/.` when it did.
pub(super) fn clean_keeping_end(path: &str) -> String {
    let cleaned = clean(path);
    let end = if path.ends_with("/.") {
        "/."
    } else if path.ends_with('/') {
        "/"
    } else {
        ""
    };
    if cleaned == "/" {
        format!("/{}", end.trim_start_matches('/'))
    } else {
        cleaned + end
    }
}

/// The path of an entry with its top part renamed; entries outside of it keep theirs.
pub(super) fn renamed(path: &Path, rename: Option<&(String, String)>) -> std::path::PathBuf {
    let Some((old, new)) = rename else {
        return path.to_owned();
    };
    let text = path.to_string_lossy();
    let trimmed = text
        .strip_prefix("./")
        .filter(|_| old != ".")
        .unwrap_or(&text);
    // The root of a file system is archived as `/`, its entries without a top part.
    if old == "/" {
        return Path::new(new).join(trimmed.trim_start_matches('/'));
    }
    match trimmed.strip_prefix(old.as_str()) {
        Some("") => Path::new(new).to_owned(),
        Some(rest) if rest.starts_with('/') => Path::new(new).join(rest.trim_start_matches('/')),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(
        source: &str,
        is_dir: bool,
        target: &str,
        state: Option<bool>,
    ) -> Result<(String, Option<(String, String)>), String> {
        let source = Source {
            path: source.to_owned(),
            is_dir,
            rename: None,
        };
        let target = Target {
            path: target.to_owned(),
            exists: state.is_some(),
            is_dir: state == Some(true),
        };
        Place::of(&source, &target)
            .map(|p| (p.directory, p.rename))
            .map_err(|failure| failure.text().to_owned())
    }

    fn pair(a: &str, b: &str) -> Option<(String, String)> {
        Some((a.to_owned(), b.to_owned()))
    }

    #[test]
    fn each_case_lands_where_cp_puts_it() {
        assert_eq!(
            place("/a/f", false, "/d", Some(true)),
            Ok(("/d".into(), None))
        );
        assert_eq!(
            place("/a/f", false, "/d/g", Some(false)),
            Ok(("/d".into(), pair("f", "g")))
        );
        assert_eq!(
            place("/a/f", false, "/d/g", None),
            Ok(("/d".into(), pair("f", "g")))
        );
        assert_eq!(
            place("/a/f", false, "/d/g/", None),
            Err("no such directory".into())
        );
        assert_eq!(
            place("/a/s", true, "/d/g", None),
            Ok(("/d".into(), pair("s", "g")))
        );
        assert_eq!(
            place("/a/s/.", true, "/d/g", None),
            Ok(("/d".into(), pair(".", "g")))
        );
        assert_eq!(
            place("/a/s", true, "/d/f", Some(false)),
            Err("cannot copy directory".into())
        );
    }

    #[test]
    fn paths_are_cleaned_and_split() {
        assert_eq!(split("/a/b/../c/"), ("/a".into(), "c".into()));
        assert_eq!(split("/a/."), ("/a".into(), ".".into()));
        assert_eq!(split("/"), ("/".into(), "/".into()));
        assert_eq!(split("/x"), ("/".into(), "x".into()));
        assert_eq!(clean("/../../a//b/./"), "/a/b");
        assert_eq!(clean_keeping_end("/a/b/."), "/a/b/.");
        assert_eq!(clean_keeping_end("/a/../"), "/");
    }

    #[test]
    fn entries_follow_the_new_name() {
        let rename = pair("s", "g");
        let path = |text: &str| {
            renamed(Path::new(text), rename.as_ref())
                .to_string_lossy()
                .into_owned()
        };
        assert_eq!(path("s"), "g");
        assert_eq!(path("s/a/b"), "g/a/b");
        assert_eq!(path("sx/a"), "sx/a");
        let content = pair(".", "g");
        assert_eq!(
            renamed(Path::new("./a"), content.as_ref()),
            Path::new("g/a")
        );
    }
}
