//! Ordinary and hostile layer archives: what they make in the layer, and that nothing outside of it
//! changes.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::error::{ArchiveProblem, EntryProblem};

/// Builds archives record by record, valid or not.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

struct Record<'a> {
    path: &'a [u8],
    link: &'a str,
    kind: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: u64,
    device: (u32, u32),
    /// What the size field says; the body's length when `None`.
    size: Option<u64>,
    body: &'a [u8],
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self {
            path: b"",
            link: "",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_000_000_000,
            device: (0, 0),
            size: None,
            body: b"",
        }
    }
}

impl Tar {
    fn raw(mut self, record: &Record<'_>) -> Self {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        assert!(record.path.len() <= 100, "use `pax` for long paths");
        old.name[..record.path.len()].copy_from_slice(record.path);
        old.linkname[..record.link.len()].copy_from_slice(record.link.as_bytes());
        header.set_mode(record.mode);
        header.set_uid(record.uid);
        header.set_gid(record.gid);
        header.set_mtime(record.mtime);
        header.set_size(record.size.unwrap_or(record.body.len() as u64));
        header.set_device_major(record.device.0).unwrap();
        header.set_device_minor(record.device.1).unwrap();
        header.as_old_mut().linkflag = [record.kind];
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(record.body);
        self.bytes.resize(self.bytes.len().div_ceil(512) * 512, 0);
        self
    }

    fn file(self, path: &str, body: &str) -> Self {
        self.raw(&Record {
            path: path.as_bytes(),
            body: body.as_bytes(),
            ..Record::default()
        })
    }

    fn dir(self, path: &str) -> Self {
        self.raw(&Record {
            path: path.as_bytes(),
            kind: b'5',
            mode: 0o755,
            ..Record::default()
        })
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(&Record {
            path: path.as_bytes(),
            kind: b'2',
            link: target,
            ..Record::default()
        })
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.raw(&Record {
            path: path.as_bytes(),
            kind: b'1',
            link: target,
            ..Record::default()
        })
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..10)
                .map(|digits| rest + digits)
                .find(|n| n.to_string().len() + rest == *n)
                .unwrap();
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.raw(&Record {
            path: b"pax",
            kind: b'x',
            body: &body,
            ..Record::default()
        })
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

/// A layer directory with a neighbour that no archive may reach.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("layer")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/victim"), "untouched").unwrap();
        Self { dir }
    }

    fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn apply(&self, archive: &[u8]) -> Result<Applied, ImageError> {
        let result = apply_layer(archive, &self.layer());
        assert_eq!(
            std::fs::read(self.outside().join("victim")).unwrap(),
            b"untouched"
        );
        assert_eq!(std::fs::read_dir(self.outside()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 2);
        let victim = std::fs::metadata(self.outside().join("victim")).unwrap();
        assert_eq!(
            (victim.mode() & 0o7777, victim.uid(), victim.nlink()),
            (0o644, 0, 1)
        );
        result
    }

    fn refused(&self, archive: &[u8]) -> EntryProblem {
        match self.apply(archive).unwrap_err() {
            ImageError::Entry { problem, .. } => problem,
            other => panic!("not refused for an entry: {other}"),
        }
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.layer().join(path)).unwrap()
    }

    fn stat(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.layer().join(path)).unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let stat = self.stat(path);
        stat.file_type().is_char_device() && stat.rdev() == 0
    }

    fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 256];
        let length =
            rustix::fs::lgetxattr(self.layer().join(path), name, value.as_mut_slice()).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn is_opaque(&self, path: &str) -> bool {
        self.xattr(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
    }
}

#[test]
fn files_keep_owner_mode_times_and_content() {
    let site = Site::new();
    let archive = Tar::default()
        .dir("bin/")
        .pax(&[("mtime", b"1350244992.023960108")])
        .raw(&Record {
            path: b"bin/su",
            mode: 0o4755,
            uid: 1000,
            gid: 1001,
            body: b"program",
            ..Record::default()
        })
        .raw(&Record {
            path: b"tmp",
            kind: b'5',
            mode: 0o1777,
            gid: 5,
            ..Record::default()
        })
        .symlink("sh", "bin/su")
        .raw(&Record {
            path: b"fifo",
            kind: b'6',
            mode: 0o622,
            uid: 7,
            ..Record::default()
        })
        .raw(&Record {
            path: b"null",
            kind: b'3',
            mode: 0o666,
            device: (1, 3),
            ..Record::default()
        })
        .raw(&Record {
            path: b"disk",
            kind: b'4',
            mode: 0o660,
            device: (8, 300),
            ..Record::default()
        })
        .end();
    let applied = site.apply(&archive).unwrap();
    assert_eq!(applied.entries, 7);
    let su = site.stat("bin/su");
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid()),
        (0o4755, 1000, 1001)
    );
    assert_eq!((su.mtime(), su.mtime_nsec()), (1_350_244_992, 23_960_108));
    assert_eq!(site.read("bin/su"), "program");
    assert_eq!(site.stat("bin").mtime(), 1_000_000_000);
    assert_eq!(
        (site.stat("tmp").mode() & 0o7777, site.stat("tmp").gid()),
        (0o1777, 5)
    );
    assert_eq!(
        std::fs::read_link(site.layer().join("sh")).unwrap(),
        Path::new("bin/su")
    );
    assert_eq!(site.stat("sh").mtime(), 1_000_000_000);
    assert!(site.stat("fifo").file_type().is_fifo());
    assert_eq!(
        (site.stat("fifo").mode() & 0o777, site.stat("fifo").uid()),
        (0o622, 7)
    );
    assert!(site.stat("null").file_type().is_char_device());
    assert_eq!(site.stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(site.stat("disk").rdev(), rustix::fs::makedev(8, 300));
}

#[test]
fn capabilities_survive_the_change_of_owner() {
    let site = Site::new();
    let capability = [1, 0, 0, 2, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = Tar::default()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"a\nb"),
        ])
        .raw(&Record {
            path: b"ping",
            mode: 0o755,
            uid: 12,
            body: b"x",
            ..Record::default()
        })
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(
        site.xattr("ping", "security.capability").unwrap(),
        capability
    );
    assert_eq!(site.xattr("ping", "user.note").unwrap(), b"a\nb");
}

#[test]
fn hard_links_share_their_inode() {
    let site = Site::new();
    let archive = Tar::default()
        .file("a/one", "x")
        .hard_link("b/two", "a/one")
        .hard_link("b/two", "/a/one")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(site.stat("a/one").ino(), site.stat("b/two").ino());
}

#[test]
fn whiteouts_become_overlay_marks() {
    let site = Site::new();
    let archive = Tar::default()
        .dir("etc")
        .file("etc/.wh.passwd", "")
        .dir("var")
        .file("var/.wh..wh..opq", "")
        .file("var/kept", "x")
        .file(".wh..wh.plnk", "")
        .file("var/.wh..wh.aufs", "")
        .end();
    let applied = site.apply(&archive).unwrap();
    assert!(site.is_whiteout("etc/passwd"));
    assert!(!site.is_opaque("etc"));
    assert!(site.is_opaque("var"));
    assert_eq!(site.read("var/kept"), "x");
    assert!(!applied.opaque);
    assert_eq!(std::fs::read_dir(site.layer()).unwrap().count(), 2);
    assert_eq!(
        std::fs::read_dir(site.layer().join("var")).unwrap().count(),
        1
    );
}

#[test]
fn an_opaque_root_is_reported_because_overlay_has_none() {
    let site = Site::new();
    let applied = site
        .apply(&Tar::default().file(".wh..wh..opq", "").file("a", "").end())
        .unwrap();
    assert!(applied.opaque);
}

#[test]
fn whiteouts_spare_what_the_same_layer_has() {
    let site = Site::new();
    let archive = Tar::default()
        .file("file", "x")
        .file(".wh.file", "")
        .dir("dir")
        .file("dir/in", "x")
        .file(".wh.dir", "")
        .file(".wh.late", "")
        .dir("late")
        .file(".wh.parent", "")
        .file("parent/child", "x")
        .file(".wh.again", "")
        .file("again", "x")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(site.read("file"), "x");
    assert_eq!(site.read("dir/in"), "x");
    assert!(site.is_opaque("dir"));
    assert!(site.is_opaque("late"));
    assert_eq!(site.read("parent/child"), "x");
    assert!(site.is_opaque("parent"));
    assert_eq!(site.read("again"), "x");
}

#[test]
fn devices_0_0_are_whiteouts_and_not_files() {
    let site = Site::new();
    let archive = Tar::default()
        .raw(&Record {
            path: b"gone",
            kind: b'3',
            mode: 0o666,
            uid: 5,
            ..Record::default()
        })
        .file("here", "x")
        .raw(&Record {
            path: b"here",
            kind: b'3',
            ..Record::default()
        })
        .end();
    site.apply(&archive).unwrap();
    assert!(site.is_whiteout("gone"));
    assert_eq!(site.read("here"), "x");
}

#[test]
fn overlay_attributes_in_the_archive_are_left_out() {
    let site = Site::new();
    let archive = Tar::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .dir("d")
        .pax(&[("SCHILY.xattr.trusted.overlay.metacopy", b"")])
        .file("f", "")
        .end();
    site.apply(&archive).unwrap();
    for (path, name) in [
        ("d", "trusted.overlay.redirect"),
        ("d", "trusted.overlay.opaque"),
        ("d", "user.overlay.opaque"),
        ("f", "trusted.overlay.metacopy"),
    ] {
        assert_eq!(site.xattr(path, name), None, "{name}");
    }
}

#[test]
fn bad_whiteout_names_are_refused() {
    for name in [".wh.", "a/.wh..", "a/.wh..."] {
        assert_eq!(
            Site::new().refused(&Tar::default().file(name, "").end()),
            EntryProblem::BadWhiteout,
            "{name}"
        );
    }
}

#[test]
fn absolute_paths_begin_at_the_layer() {
    let site = Site::new();
    let path = format!("{}/new", site.outside().display());
    site.apply(&Tar::default().file(&path, "x").file("//etc/x", "y").end())
        .unwrap();
    assert_eq!(site.read("etc/x"), "y");
    assert_eq!(site.read(path.trim_start_matches('/')), "x");
}

#[test]
fn dot_dot_paths_are_refused() {
    for path in ["../outside/victim", "a/../../outside/victim", "..", "/../x"] {
        let site = Site::new();
        assert_eq!(
            site.refused(&Tar::default().file(path, "x").end()),
            EntryProblem::PathOutside,
            "{path}"
        );
    }
}

#[test]
fn symlinked_parents_stay_inside() {
    let site = Site::new();
    let outside = site.outside().display().to_string();
    let archive = Tar::default()
        .symlink("absolute", &outside)
        .file("absolute/victim", "x")
        .symlink("relative", "../outside")
        .file("relative/victim", "y")
        .symlink("up", "../../../../../../../..")
        .file("up/file", "z")
        .end();
    site.apply(&archive).unwrap();
    // The targets were made inside of the layer, as a root directory there would see them.
    assert_eq!(
        site.read(&format!("{}/victim", outside.trim_start_matches('/'))),
        "x"
    );
    assert_eq!(site.read("outside/victim"), "y");
    assert_eq!(site.read("file"), "z");
}

#[test]
fn symlinks_as_targets_are_replaced_and_not_followed() {
    let site = Site::new();
    let victim = site.outside().join("victim").display().to_string();
    let archive = Tar::default()
        .symlink("a", &victim)
        .raw(&Record {
            path: b"a",
            mode: 0o777,
            uid: 9,
            body: b"x",
            ..Record::default()
        })
        .symlink("b", &site.outside().display().to_string())
        .raw(&Record {
            path: b"b",
            kind: b'5',
            mode: 0o777,
            uid: 9,
            ..Record::default()
        })
        .file("b/victim", "x")
        .symlink("c", &victim)
        .raw(&Record {
            path: b"c",
            kind: b'6',
            mode: 0o777,
            uid: 9,
            ..Record::default()
        })
        .symlink("d", &victim)
        .symlink("d", "elsewhere")
        .end();
    site.apply(&archive).unwrap();
    assert!(site.stat("a").is_file());
    assert!(site.stat("b").is_dir());
    assert_eq!(site.read("b/victim"), "x");
    assert!(site.stat("c").file_type().is_fifo());
}

#[test]
fn a_directory_entry_after_its_symlink_does_not_use_the_remembered_directory() {
    let site = Site::new();
    let archive = Tar::default()
        .dir("real")
        .symlink("link", "real")
        .file("link/one", "1")
        .dir("link")
        .file("link/two", "2")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(site.read("real/one"), "1");
    assert!(!site.layer().join("real/two").exists());
    assert_eq!(site.read("link/two"), "2");
}

#[test]
fn hard_links_to_the_outside_are_refused() {
    for target in [
        "../outside/victim",
        "missing",
        "missing/file",
        "",
        "/",
        "..",
    ] {
        let site = Site::new();
        let problem = site.refused(&Tar::default().hard_link("stolen", target).end());
        assert!(
            matches!(problem, EntryProblem::LinkTarget(_)),
            "{target}: {problem}"
        );
    }
    let site = Site::new();
    let path = site.outside().join("victim").display().to_string();
    assert!(matches!(
        site.refused(&Tar::default().hard_link("stolen", &path).end()),
        EntryProblem::LinkTarget(_)
    ));
    let site = Site::new();
    let outside = site.outside().display().to_string();
    let archive = Tar::default()
        .symlink("dir", &outside)
        .hard_link("stolen", "dir/victim")
        .end();
    assert!(matches!(
        site.refused(&archive),
        EntryProblem::LinkTarget(_)
    ));
}

#[test]
fn hard_links_to_symlinks_do_not_reach_their_target() {
    let site = Site::new();
    let victim = site.outside().join("victim").display().to_string();
    let archive = Tar::default()
        .symlink("s", &victim)
        .raw(&Record {
            path: b"h",
            kind: b'1',
            link: "s",
            mode: 0o777,
            uid: 5,
            ..Record::default()
        })
        .end();
    site.apply(&archive).unwrap();
    assert!(site.stat("h").is_symlink());
}

#[test]
fn circular_links_are_refused() {
    let site = Site::new();
    let archive = Tar::default()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", "")
        .end();
    assert_eq!(site.refused(&archive), EntryProblem::LinkLoop);
}

#[test]
fn a_file_can_not_be_a_parent() {
    let site = Site::new();
    assert_eq!(
        site.refused(&Tar::default().file("a", "").file("a/b", "").end()),
        EntryProblem::ParentNotDirectory
    );
}

#[test]
fn files_and_directories_replace_each_other() {
    let site = Site::new();
    let archive = Tar::default()
        .dir("a")
        .file("a/deep", "x")
        .file("a", "now a file")
        .file("b", "x")
        .dir("b")
        .file("b/in", "now a directory")
        .file("c", "1")
        .file("c", "2")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(site.read("a"), "now a file");
    assert_eq!(site.read("b/in"), "now a directory");
    assert_eq!(site.read("c"), "2");
}

#[test]
fn replaced_hard_links_do_not_change_the_other_name() {
    let site = Site::new();
    let archive = Tar::default()
        .file("one", "1")
        .hard_link("two", "one")
        .file("two", "2")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(
        (site.read("one"), site.read("two")),
        ("1".to_owned(), "2".to_owned())
    );
}

#[test]
fn the_root_keeps_its_attributes_and_stays_a_directory() {
    let site = Site::new();
    site.apply(
        &Tar::default()
            .raw(&Record {
                path: b"./",
                kind: b'5',
                mode: 0o711,
                uid: 3,
                ..Record::default()
            })
            .end(),
    )
    .unwrap();
    let root = std::fs::metadata(site.layer()).unwrap();
    assert_eq!(
        (root.mode() & 0o7777, root.uid(), root.mtime()),
        (0o711, 3, 1_000_000_000)
    );
    for kind in [b'0', b'1', b'2', b'6'] {
        let record = Record {
            path: b"./",
            kind,
            link: "x",
            ..Record::default()
        };
        assert_eq!(
            site.refused(&Tar::default().raw(&record).end()),
            EntryProblem::RootNotDirectory
        );
    }
    assert_eq!(
        site.refused(&Tar::default().raw(&Record::default()).end()),
        EntryProblem::EmptyPath
    );
}

#[test]
fn pax_overrides_paths_and_sizes() {
    let site = Site::new();
    let long = format!("{}/file", "d".repeat(200));
    let archive = Tar::default()
        .pax(&[
            ("path", b"first"),
            ("path", long.as_bytes()),
            ("size", b"3"),
        ])
        .raw(&Record {
            path: b"ignored",
            size: Some(0),
            body: b"abc",
            ..Record::default()
        })
        .file("next", "x")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(site.read(&long), "abc");
    assert_eq!(site.read("next"), "x");
    assert!(!site.layer().join("first").exists());
}

#[test]
fn pax_paths_are_checked_like_others() {
    let path = |path: &[u8]| {
        Site::new().refused(&Tar::default().pax(&[("path", path)]).file("x", "").end())
    };
    assert_eq!(path(b"../outside/victim"), EntryProblem::PathOutside);
    assert_eq!(path(b"a\0b"), EntryProblem::NulInPath);
    assert_eq!(path(&[b'a'; 5000]), EntryProblem::PathTooLong);
    let archive = Tar::default()
        .pax(&[("linkpath", b"a\0b")])
        .symlink("x", "y")
        .end();
    assert_eq!(Site::new().refused(&archive), EntryProblem::NulInPath);
}

#[test]
fn pax_numbers_are_checked() {
    for (key, value, problem) in [
        ("size", "-1", EntryProblem::Number("size")),
        (
            "size",
            "99999999999999999999999",
            EntryProblem::Number("size"),
        ),
        ("uid", "4294967295", EntryProblem::Number("user id")),
        ("gid", "-1", EntryProblem::Number("group id")),
        (
            "mtime",
            "tomorrow",
            EntryProblem::Number("modification time"),
        ),
    ] {
        let archive = Tar::default()
            .pax(&[(key, value.as_bytes())])
            .file("x", "")
            .end();
        assert_eq!(Site::new().refused(&archive), problem, "{key}={value}");
    }
    let archive = Tar::default()
        .raw(&Record {
            path: b"x",
            uid: u64::from(u32::MAX),
            ..Record::default()
        })
        .end();
    assert_eq!(
        Site::new().refused(&archive),
        EntryProblem::Number("user id")
    );
}

#[test]
fn huge_sizes_end_with_the_stream() {
    let site = Site::new();
    for size in [1 << 40, i64::MAX as u64 - 600] {
        let archive = Tar::default().raw(&Record {
            path: b"x",
            size: Some(size),
            body: b"abc",
            ..Record::default()
        });
        let error = site.apply(&archive.end()).unwrap_err();
        assert!(
            matches!(error, ImageError::Archive(ArchiveProblem::Truncated)),
            "{error}"
        );
    }
    let archive = Tar::default().raw(&Record {
        path: b"x",
        size: Some(u64::MAX - 5),
        ..Record::default()
    });
    assert!(matches!(
        site.apply(&archive.end()).unwrap_err(),
        ImageError::Archive(_)
    ));
}

#[test]
fn huge_extended_headers_are_refused() {
    for kind in [b'x', b'g', b'L', b'K'] {
        let record = Record {
            path: b"x",
            kind,
            size: Some(1 << 40),
            body: b"abc",
            ..Record::default()
        };
        let error = Site::new()
            .apply(&Tar::default().raw(&record).end())
            .unwrap_err();
        assert!(
            matches!(
                error,
                ImageError::Archive(ArchiveProblem::ExtendedHeaderTooLarge)
            ),
            "{error}"
        );
    }
}

#[test]
fn long_gnu_names_end_at_nul_and_win_over_the_header() {
    let site = Site::new();
    let long = "n".repeat(150);
    let body = format!("{long}\0rubbish");
    let archive = Tar::default()
        .raw(&Record {
            path: b"././@LongLink",
            kind: b'L',
            body: body.as_bytes(),
            ..Record::default()
        })
        .file("short", "x")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(site.read(&long), "x");
}

#[test]
fn links_and_directories_have_no_body_whatever_their_size_says() {
    let site = Site::new();
    let archive = Tar::default()
        .raw(&Record {
            path: b"d",
            kind: b'5',
            mode: 0o755,
            size: Some(4096),
            ..Record::default()
        })
        .raw(&Record {
            path: b"l",
            kind: b'2',
            link: "d",
            size: Some(77),
            ..Record::default()
        })
        .file("f", "x")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(site.read("f"), "x");
}

#[test]
fn unknown_record_types_are_refused_by_name() {
    for kind in [b'V', b'M', b'Z'] {
        let problem = Site::new().refused(
            &Tar::default()
                .raw(&Record {
                    path: b"x",
                    kind,
                    ..Record::default()
                })
                .end(),
        );
        assert!(matches!(problem, EntryProblem::Type(_)), "{problem}");
    }
}

#[test]
fn sparse_maps_are_checked() {
    for records in [
        &[
            ("GNU.sparse.size", &b"10"[..]),
            ("GNU.sparse.map", b"0,5,2,1"),
        ][..],
        &[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,5,6")],
        &[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,-5")],
        &[("GNU.sparse.size", b"2"), ("GNU.sparse.map", b"0,3")],
        &[("GNU.sparse.map", b"0,3")],
        &[
            ("GNU.sparse.size", b"18446744073709551615"),
            ("GNU.sparse.map", b"0,3"),
        ],
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"10")],
        &[("GNU.sparse.size", b"10"), ("GNU.sparse.offset", b"0")],
    ] {
        let archive = Tar::default().pax(records).file("x", "abc").end();
        assert_eq!(
            Site::new().refused(&archive),
            EntryProblem::SparseMap,
            "{records:?}"
        );
    }
    let record = Record {
        path: b"x",
        kind: b'S',
        body: b"abc",
        ..Record::default()
    };
    assert_eq!(
        Site::new().refused(&Tar::default().raw(&record).end()),
        EntryProblem::SparseMap
    );
}

#[test]
fn sparse_files_get_their_holes_back() {
    let site = Site::new();
    let archive = Tar::default()
        .pax(&[
            ("GNU.sparse.size", b"100000"),
            ("GNU.sparse.map", b"2,3,50000,1"),
            ("GNU.sparse.name", b"real"),
        ])
        .file("GNUSparseFile.0/real", "abcd")
        .end();
    site.apply(&archive).unwrap();
    let bytes = std::fs::read(site.layer().join("real")).unwrap();
    assert_eq!(
        (bytes.len(), &bytes[..6], bytes[50_000]),
        (100_000, &b"\0\0abc\0"[..], b'd')
    );
}

#[test]
fn extended_headers_are_bounded_together() {
    let mut tar = Tar::default();
    let long = [b'v'; 60_000];
    for _ in 0..20 {
        tar = tar.pax(&[("comment", &long)]);
    }
    let error = Site::new().apply(&tar.file("x", "").end()).unwrap_err();
    assert!(
        matches!(
            error,
            ImageError::Archive(ArchiveProblem::ExtendedHeaderTooLarge)
        ),
        "{error}"
    );
}

#[test]
fn what_is_no_tar_archive_is_refused() {
    let site = Site::new();
    for bytes in [
        &b"hello"[..],
        &[7; 4096],
        &Tar::default().file("x", "y").bytes[..300],
    ] {
        assert!(matches!(
            site.apply(bytes).unwrap_err(),
            ImageError::Archive(_)
        ));
    }
    let mut damaged = Tar::default().file("x", "y").end();
    damaged[0] = b'z';
    assert!(matches!(
        site.apply(&damaged).unwrap_err(),
        ImageError::Archive(ArchiveProblem::Header)
    ));
    let error = site.apply(b"\xfd7zXZ\0\0\0rest").unwrap_err();
    assert!(
        wharf_fault::chain(&error).contains("xz compression is not supported"),
        "{error}"
    );
}

#[test]
fn empty_and_unfinished_archives_are_accepted_as_docker_does() {
    let site = Site::new();
    assert_eq!(site.apply(b"").unwrap().entries, 0);
    assert_eq!(site.apply(&Tar::default().end()).unwrap().entries, 0);
    assert_eq!(
        site.apply(&Tar::default().file("x", "y").bytes)
            .unwrap()
            .entries,
        1
    );
}

#[test]
fn compressed_layers_are_recognised_by_their_bytes() {
    let plain = Tar::default().file("x", "y").end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    for bytes in [
        gzip.finish().unwrap(),
        zstd::encode_all(plain.as_slice(), 1).unwrap(),
    ] {
        let site = Site::new();
        site.apply(&bytes).unwrap();
        assert_eq!(site.read("x"), "y");
        let cut = &bytes[..bytes.len() - 12];
        assert!(Site::new().apply(cut).is_err());
    }
}

#[test]
fn implied_directories_get_their_attributes_from_below() {
    let lower = Site::new();
    let archive = Tar::default()
        .raw(&Record {
            path: b"a",
            kind: b'5',
            mode: 0o2750,
            uid: 11,
            gid: 12,
            ..Record::default()
        })
        .raw(&Record {
            path: b"a/b",
            kind: b'5',
            mode: 0o700,
            uid: 13,
            mtime: 5,
            ..Record::default()
        })
        .end();
    lower.apply(&archive).unwrap();
    std::fs::set_permissions(lower.layer(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let upper = Site::new();
    let applied = upper
        .apply(&Tar::default().file("a/b/c", "").file("new/x", "").end())
        .unwrap();
    assert_eq!(applied.implicit, [&b""[..], b"a", b"a/b", b"new"]);
    let root = open_dir(&upper.layer()).unwrap();
    inherit_directories(&root, &applied.implicit, &[lower.layer()]).unwrap();
    let (a, b) = (upper.stat("a"), upper.stat("a/b"));
    assert_eq!(
        (a.mode() & 0o7777, a.uid(), a.gid(), a.mtime()),
        (0o2750, 11, 12, 1_000_000_000)
    );
    assert_eq!((b.mode() & 0o7777, b.uid(), b.mtime()), (0o700, 13, 5));
    assert_eq!(upper.stat("new").mode() & 0o7777, 0o755);
    assert_eq!(upper.stat("").mode() & 0o7777, 0o711);
}

#[test]
fn deep_trees_are_removed_when_they_are_replaced() {
    let site = Site::new();
    let deep = vec!["d"; 150].join("/");
    let archive = Tar::default()
        .pax(&[("path", deep.as_bytes())])
        .dir("x")
        .file("d", "flat")
        .end();
    site.apply(&archive).unwrap();
    assert_eq!(site.read("d"), "flat");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_archives_never_reach_outside(
        records in proptest::collection::vec(
            ("[ab./]{1,8}|\\.wh\\.[ab]|\\.wh\\.\\.wh\\.\\.opq|a/\\.wh\\.b", "[ab./]{0,12}|\\.\\./outside/victim", prop::sample::select(b"0123567".to_vec()), 0_u32..0o7777),
            0..12,
        ),
    ) {
        let mut tar = Tar::default();
        for (path, link, kind, mode) in &records {
            tar = tar.raw(&Record { path: path.as_bytes(), link, kind: *kind, mode: *mode, body: if *kind == b'0' { b"x" } else { b"" }, ..Record::default() });
        }
        drop(Site::new().apply(&tar.end()));
    }

    #[test]
    fn damaged_archives_never_reach_outside(position in 0_usize..2048, byte: u8) {
        let mut archive = Tar::default().pax(&[("path", b"a/b"), ("size", b"3")]).file("x", "abc").symlink("l", "a").end();
        let position = position % archive.len();
        archive[position] = byte;
        drop(Site::new().apply(&archive));
    }
}
