//! Other programs' archives here, and ours there: skopeo and GNU tar.

use std::path::Path;
use std::process::Command;

use crate::support::{Sample, Scratch, gzip, save};

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn skopeo(from: &str, to: &str) {
    run(Command::new("skopeo").args(["--insecure-policy", "copy", from, to]));
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

#[test]
fn skopeo_reads_what_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    for archive in [
        Sample::new(&[&[("a", b"1")], &[("b", b"2")]]).oci_archive("app:1", gzip),
        Sample::new(&[&[("a", b"1")], &[("b", b"2")]]).docker_archive(&["app:1"]),
    ] {
        let scratch = Scratch::new();
        scratch.load(&archive);
        let image = scratch.store.resolve("app:1").unwrap();
        let saved = path(dir.path(), "saved.tar");
        std::fs::write(&saved, save(&scratch.store, &["app:1"])).unwrap();
        let layout = path(dir.path(), "layout");
        skopeo(
            &format!("docker-archive:{saved}:app:1"),
            &format!("oci:{layout}:x"),
        );
        skopeo(
            &format!("oci-archive:{saved}"),
            &format!("dir:{}", path(dir.path(), "plain")),
        );
        let output = Command::new("skopeo")
            .args(["inspect", "--config", &format!("oci:{layout}:x")])
            .output()
            .unwrap();
        let config: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let diff_ids: Vec<String> = image
            .layers
            .iter()
            .map(|layer| layer.diff_id.to_string())
            .collect();
        assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(diff_ids));
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["/bin/true"]));
        std::fs::remove_dir_all(layout).unwrap();
    }
}

#[test]
fn what_skopeo_writes_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let source = path(dir.path(), "source.tar");
    std::fs::write(
        &source,
        Sample::new(&[&[("a", b"1")], &[("b", b"2")]]).docker_archive(&["app:1"]),
    )
    .unwrap();
    let source = format!("docker-archive:{source}");
    for (target, name) in [
        (
            format!(
                "docker-archive:{}:some/where:tag",
                path(dir.path(), "docker.tar")
            ),
            "some/where:tag",
        ),
        (
            format!("oci-archive:{}:localhost/x:1", path(dir.path(), "oci.tar")),
            "localhost/x:1",
        ),
    ] {
        skopeo(&source, &target);
        let file = target.split(':').nth(1).unwrap();
        let scratch = Scratch::new();
        let loaded = scratch.load(&std::fs::read(file).unwrap());
        assert_eq!(loaded[0].message(), format!("Loaded image: {name}"));
        let image = scratch.store.resolve(name).unwrap();
        let lower = scratch.store.image_layers(&image).unwrap();
        assert_eq!(std::fs::read(lower[1].join("a")).unwrap(), b"1");
        assert_eq!(std::fs::read(lower[0].join("b")).unwrap(), b"2");
    }
}

#[test]
fn what_gnu_tar_writes_is_imported_as_gnu_tar_unpacks_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        cd "$1"; mkdir -p source/a/b; cd source
        echo content > a/file; chmod 4755 a/file; chown 12:34 a/file
        ln a/file hard; ln -s a/file soft; mkfifo pipe; mknod null c 1 3
        mkdir sticky; chmod 1777 sticky; chmod 2750 a/b
        touch -d '2001-02-03 04:05:06.123456789' a/file soft -h
        setfattr -n user.note -v hello a/file 2>/dev/null || true
        for n in 1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31 33 35 37 39 41 43 45 47 49 51 53 55 57 59; do
          echo data | dd of=holes bs=65536 seek=$n conv=notrunc 2>/dev/null
        done
        truncate -s 5000000 holes
        tar --format=gnu -Scf ../sparse-gnu.tar .
        for version in 0.0 0.1 1.0; do tar --format=posix --sparse-version=$version -Scf ../sparse-$version.tar . || exit 1; done
        for format in gnu posix ustar; do
          tar --format=$format -cf ../$format.tar . || exit 1
        done
        long=$(printf 'n%.0s' $(seq 120)); mkdir $long; echo x > $long/$long; ln -s $long/$long $long/$long-link
        tar --format=gnu -cf ../long-gnu.tar . && tar --format=posix --xattrs -cf ../long-posix.tar .
    "#;
    run(Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(dir.path()));
    for format in [
        "gnu",
        "posix",
        "ustar",
        "long-gnu",
        "long-posix",
        "sparse-gnu",
        "sparse-0.0",
        "sparse-0.1",
        "sparse-1.0",
    ] {
        let scratch = Scratch::new();
        let archive = dir.path().join(format!("{format}.tar"));
        let options = wharf_image_store::ImportOptions::default();
        let id = scratch
            .store
            .import(std::fs::File::open(&archive).unwrap(), &options)
            .unwrap();
        let image = scratch.store.resolve(id.as_str()).unwrap();
        let ours = scratch.store.image_layers(&image).unwrap().remove(0);
        let theirs = dir.path().join(format!("{format}-unpacked"));
        std::fs::create_dir(&theirs).unwrap();
        run(Command::new("tar")
            .args(["--numeric-owner", "--same-owner", "-xpf"])
            .arg(&archive)
            .arg("-C")
            .arg(&theirs));
        let list = |dir: &Path| {
            let format = "%P %y %m %U %G %s %l %n %T@\n";
            let output = Command::new("find")
                .arg(dir)
                .args(["!", "-type", "d", "-printf", format])
                .output()
                .unwrap();
            let mut lines: Vec<String> = String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect();
            let output = Command::new("find")
                .arg(dir)
                .args(["-type", "d", "-printf", "%P d %m %U %G %T@\n"])
                .output()
                .unwrap();
            lines.extend(
                String::from_utf8(output.stdout)
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            );
            lines.sort();
            lines
        };
        assert_eq!(list(&ours), list(&theirs), "{format}");
        run(Command::new("diff")
            .args(["-r", "--no-dereference", "--exclude=pipe", "--exclude=null"])
            .arg(&ours)
            .arg(&theirs));
    }
}
