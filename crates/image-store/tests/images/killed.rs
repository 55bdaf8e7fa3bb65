//! The store in a process of its own that is killed, or whose disk is full.
//!
//! The test program runs itself again with `WHARF_IMAGES_ROOT` naming a data root: then the tests
//! here are that process.

#![allow(
    clippy::print_stdout,
    reason = "how the process tells its parent what is done"
)]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use wharf_ids::{ContainerId, ImageRef};
use wharf_image_store::{ImageStore, RemoveOptions};
use wharf_state::{Batch, Store};

use crate::support::{Sample, gzip, nobody, save};

const ROOT: &str = "WHARF_IMAGES_ROOT";

fn child_root() -> Option<PathBuf> {
    std::env::var_os(ROOT).map(PathBuf::from)
}

fn open(root: &Path) -> (Store, ImageStore) {
    let state = Store::open(&root.join("state.redb")).unwrap();
    let store = ImageStore::open(root, state.clone()).unwrap();
    (state, store)
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let base = vec![b'x'; 300_000];
    (0..3)
        .map(|n| {
            let own = format!("{n}").into_bytes();
            let layers: [&[(&str, &[u8])]; 2] =
                [&[("base/", b""), ("base/file", &base)], &[("own", &own)]];
            let sample = Sample::new(&layers);
            let name = format!("app:{n}");
            let archive = if n == 1 {
                sample.oci_archive(&name, gzip)
            } else {
                sample.docker_archive(&[&name])
            };
            (name, archive)
        })
        .collect()
}

/// Everything a daemon does with images, over and over, saying what is done.
fn work(root: &Path) -> ! {
    let (state, store) = open(root);
    let samples = samples();
    println!("ready");
    loop {
        for (name, archive) in &samples {
            store.load(archive.as_slice(), None, &|_| {}).unwrap();
            println!("loaded {name}");
            let other = ImageRef::parse(&format!("other-{name}")).unwrap();
            store.tag(name, &other).unwrap();
            let image = store.resolve(name).unwrap();
            let id = ContainerId::random();
            let mut batch = Batch::new();
            store.prepare_container(&id, &image, &mut batch).unwrap();
            state.commit(batch).unwrap();
            let mut batch = Batch::new();
            store.release_container(&id, &mut batch);
            state.commit(batch).unwrap();
            store.discard_container(&id).unwrap();
            store
                .remove(&other.familiar(), RemoveOptions { force: false }, &nobody)
                .unwrap();
        }
        for (name, _) in &samples {
            println!("removing {name}");
            store
                .remove(name, RemoveOptions { force: false }, &nobody)
                .unwrap();
        }
        store.empty_trash().unwrap();
    }
}

#[test]
fn a_killed_daemon_loses_nothing_acknowledged_and_leaves_nothing() {
    if let Some(root) = child_root() {
        work(&root);
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..30_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "killed::a_killed_daemon_loses_nothing_acknowledged_and_leaves_nothing",
            ])
            .env(ROOT, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Somewhere else every time: the steps take a few milliseconds each.
        std::thread::sleep(Duration::from_millis(20 + round * 37 % 150));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let mut acknowledged: Vec<&str> = Vec::new();
        // A line the kill cut short says nothing.
        for line in said.lines().take(said.matches('\n').count()) {
            if let Some(name) = line.strip_prefix("loaded ") {
                acknowledged.push(name);
            } else if let Some(name) = line.strip_prefix("removing ") {
                acknowledged.retain(|known| *known != name);
            }
        }

        let (state, store) = open(dir.path());
        for name in acknowledged {
            let image = store.resolve(name).unwrap();
            for (lower, file) in store
                .image_layers(&image)
                .unwrap()
                .iter()
                .zip(["own", "base/file"])
            {
                assert!(lower.join(file).exists(), "{name} lacks {file}");
            }
            save(&store, &[name]);
        }
        for image in store.list() {
            assert!(image.unpacked);
            store
                .remove(image.id.as_str(), RemoveOptions { force: true }, &nobody)
                .unwrap();
        }
        // A container whose record was committed stays, and so do the layers below it.
        for entry in std::fs::read_dir(dir.path().join("containers-rw")).unwrap() {
            let id: ContainerId = entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(
                store
                    .container_layer(&id)
                    .unwrap()
                    .lower
                    .iter()
                    .all(|lower| lower.exists())
            );
            let mut batch = Batch::new();
            store.release_container(&id, &mut batch);
            state.commit(batch).unwrap();
            store.discard_container(&id).unwrap();
        }
        store.collect_garbage().unwrap();
        store.empty_trash().unwrap();
        for place in [
            "content/blobs/sha256",
            "content/ingest",
            "layers",
            "containers-rw",
            "unpacking",
            "trash",
        ] {
            let left: Vec<_> = std::fs::read_dir(dir.path().join(place)).unwrap().collect();
            assert!(left.is_empty(), "round {round}: {place} has {left:?}");
        }
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_room_again() {
    if let Some(root) = child_root() {
        return on_full_disk(&root);
    }
    let dir = tempfile::tempdir().unwrap();
    // A mount namespace of its own: the small file system goes with the process.
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t tmpfs -o size=5m tmpfs \"$1\" && exec \"$2\" --exact --nocapture killed::a_full_disk_is_named_and_leaves_room_again", "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .env(ROOT, dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn on_full_disk(root: &Path) {
    let (_state, store) = open(root);
    let big = vec![b'x'; 3_000_000];
    for sample in [
        Sample::new(&[&[("big", &big)]]),
        Sample::new(&[&[("small", b"")], &[("big", &big), ("big2", &big)]]),
    ] {
        let error = store
            .load(sample.docker_archive(&["big"]).as_slice(), None, &|_| {})
            .unwrap_err();
        assert!(
            wharf_fault::chain(&error).contains("No space left on device"),
            "{}",
            wharf_fault::chain(&error)
        );
        // The same bytes fit once, compressed.
    }
    store
        .load(
            Sample::new(&[&[("big", &big)]])
                .oci_archive("fits", gzip)
                .as_slice(),
            None,
            &|_| {},
        )
        .unwrap();
    assert!(store.resolve("fits").unwrap().unpacked);
}
