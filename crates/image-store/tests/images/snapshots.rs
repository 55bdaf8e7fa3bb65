//! Containers' read-write layers.

use std::os::unix::fs::MetadataExt as _;

use wharf_ids::ContainerId;
use wharf_image_store::{ImageError, RemoveOptions};
use wharf_state::Batch;

use crate::support::{Sample, Scratch, nobody, tar};

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let mut sample = Sample::new(&[&[("etc/", b""), ("etc/x", b"1")], &[("y", b"2")]]);
    // The topmost layer says what the root looks like.
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o711);
    header.set_uid(77);
    header.set_size(0);
    builder.append_data(&mut header, "./", &b""[..]).unwrap();
    sample.layers.push(builder.into_inner().unwrap());
    scratch.load(&sample.docker_archive(&["app"]));
    scratch
}

#[test]
fn a_containers_directories_are_ready_for_overlay() {
    let scratch = scratch();
    let image = scratch.store.resolve("app").unwrap();
    let id = ContainerId::random();
    let mut batch = Batch::new();
    let layer = scratch
        .store
        .prepare_container(&id, &image, &mut batch)
        .unwrap();
    scratch.state.commit(batch).unwrap();
    let mut lower = scratch.store.image_layers(&image).unwrap();
    lower.push(scratch.path().join("mount-points"));
    assert_eq!(layer.lower, lower);
    let upper = std::fs::metadata(&layer.upper).unwrap();
    assert_eq!((upper.mode() & 0o7777, upper.uid()), (0o711, 77));
    assert!(layer.work.is_dir());
    assert_eq!(scratch.store.container_layer(&id).unwrap(), layer);
    std::fs::write(layer.upper.join("new"), vec![1; 10_000]).unwrap();
    assert_eq!(scratch.store.container_rw_bytes(&id).unwrap(), 12 * 1024);
    assert_eq!(
        scratch.store.container_root_bytes(&id).unwrap(),
        12 * 1024 + image.unpacked_bytes
    );
    let scratch = scratch.reopened();
    assert_eq!(scratch.store.container_layer(&id).unwrap(), layer);
    assert!(layer.upper.join("new").exists());
    let mut batch = Batch::new();
    scratch.store.release_container(&id, &mut batch);
    scratch.state.commit(batch).unwrap();
    scratch.store.discard_container(&id).unwrap();
    assert!(matches!(
        scratch.store.container_layer(&id),
        Err(ImageError::NoContainerLayer(_))
    ));
    scratch.store.empty_trash().unwrap();
    assert!(!layer.upper.exists());
}

#[test]
fn layers_below_a_container_stay_when_its_image_goes() {
    let scratch = scratch();
    let image = scratch.store.resolve("app").unwrap();
    let id = ContainerId::random();
    let mut batch = Batch::new();
    let layer = scratch
        .store
        .prepare_container(&id, &image, &mut batch)
        .unwrap();
    // Not even committed yet.
    scratch
        .store
        .remove("app", RemoveOptions { force: true }, &nobody)
        .unwrap();
    assert!(layer.lower.iter().all(|dir| dir.exists()));
    scratch.state.commit(batch).unwrap();
    let scratch = scratch.reopened();
    scratch.store.collect_garbage().unwrap();
    assert!(layer.lower.iter().all(|dir| dir.exists()));
    let mut batch = Batch::new();
    scratch.store.release_container(&id, &mut batch);
    scratch.state.commit(batch).unwrap();
    scratch.store.discard_container(&id).unwrap();
    scratch.store.collect_garbage().unwrap();
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_kernel_shows_what_the_layers_say() {
    let scratch = Scratch::new();
    let lower: &[(&str, &[u8])] = &[
        ("etc/", b""),
        ("etc/gone", b"1"),
        ("etc/kept", b"2"),
        ("var/old", b"3"),
        ("all/x", b""),
    ];
    let upper: &[(&str, &[u8])] = &[
        ("etc/.wh.gone", b""),
        ("var/.wh..wh..opq", b""),
        ("var/new", b"4"),
    ];
    scratch.load(&Sample::new(&[lower, upper]).docker_archive(&["app"]));
    scratch.load(
        &Sample::new(&[lower, &[(".wh..wh..opq", b""), ("only", b"5")]])
            .docker_archive(&["opaque"]),
    );
    let list = |name: &str| -> Vec<String> {
        let image = scratch.store.resolve(name).unwrap();
        let id = ContainerId::random();
        let layer = scratch
            .store
            .prepare_container(&id, &image, &mut Batch::new())
            .unwrap();
        let target = scratch.path().join("mounted");
        std::fs::create_dir_all(&target).unwrap();
        let lower: Vec<String> = layer
            .lower
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            layer.upper.display(),
            layer.work.display()
        );
        // In a mount namespace of its own: nothing stays mounted.
        let output = std::process::Command::new("unshare")
            .args([
                "-m",
                "sh",
                "-c",
                "mount -t overlay overlay -o \"$1\" \"$2\" && cd \"$2\" && find . -type f | sort",
                "sh",
            ])
            .arg(options)
            .arg(&target)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let with_mount_points = |own: &[&'static str]| {
        let mut all = own.to_vec();
        all.extend([
            "./.dockerenv",
            "./etc/hostname",
            "./etc/hosts",
            "./etc/resolv.conf",
        ]);
        all.sort_unstable();
        all
    };
    assert_eq!(
        list("app"),
        with_mount_points(&["./all/x", "./etc/kept", "./var/new"])
    );
    assert_eq!(list("opaque"), with_mount_points(&["./only"]));
}

#[test]
fn images_without_layers_have_containers_too() {
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[]).docker_archive(&["empty"]));
    let image = scratch.store.resolve("empty").unwrap();
    let layer = scratch
        .store
        .prepare_container(&ContainerId::random(), &image, &mut Batch::new())
        .unwrap();
    assert_eq!(layer.lower, [scratch.path().join("mount-points")]);
    assert!(tar(&[]).len() == 1024);
}

#[test]
fn directories_made_ahead_are_used_and_left_ones_removed() {
    let scratch = scratch();
    let image = scratch.store.resolve("app").unwrap();
    let made = |scratch: &Scratch| {
        std::fs::read_dir(scratch.path().join("containers-rw"))
            .unwrap()
            .count()
    };
    scratch.store.get_ready().unwrap();
    scratch.store.get_ready().unwrap();
    assert_eq!(made(&scratch), 1);
    let id = ContainerId::random();
    let layer = scratch
        .store
        .prepare_container(&id, &image, &mut Batch::new())
        .unwrap();
    assert_eq!(made(&scratch), 1);
    let upper = std::fs::metadata(&layer.upper).unwrap();
    assert_eq!((upper.mode() & 0o7777, upper.uid()), (0o711, 77));
    scratch.store.discard_container(&id).unwrap();
    scratch.store.get_ready().unwrap();
    assert_eq!(made(&scratch.reopened()), 0);
}

#[test]
fn a_container_id_is_prepared_once() {
    let scratch = scratch();
    let image = scratch.store.resolve("app").unwrap();
    let id = ContainerId::random();
    let layer = scratch
        .store
        .prepare_container(&id, &image, &mut Batch::new())
        .unwrap();
    assert!(
        scratch
            .store
            .prepare_container(&id, &image, &mut Batch::new())
            .is_err()
    );
    assert!(layer.upper.exists());
}

#[test]
fn very_deep_trees_leave_the_trash() {
    let scratch = scratch();
    let image = scratch.store.resolve("app").unwrap();
    let id = ContainerId::random();
    let layer = scratch
        .store
        .prepare_container(&id, &image, &mut Batch::new())
        .unwrap();
    // Deeper than a path can be: made step by step as a container would.
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(&layer.upper, flags, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&dir, "d", rustix::fs::Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, "d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    scratch.store.discard_container(&id).unwrap();
    scratch.store.empty_trash().unwrap();
    assert_eq!(
        std::fs::read_dir(scratch.path().join("trash"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn immutable_files_leave_the_trash() {
    let scratch = scratch();
    let image = scratch.store.resolve("app").unwrap();
    let id = ContainerId::random();
    let layer = scratch
        .store
        .prepare_container(&id, &image, &mut Batch::new())
        .unwrap();
    let (dir, file) = (layer.upper.join("dir"), layer.upper.join("dir/file"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&file, "x").unwrap();
    for (flag, path) in [("+i", &file), ("+i", &dir)] {
        let status = std::process::Command::new("chattr")
            .arg(flag)
            .arg(path)
            .status()
            .unwrap();
        if !status.success() {
            eprintln!("not tested: this file system has no immutable files");
            return;
        }
    }
    scratch.store.discard_container(&id).unwrap();
    scratch.store.empty_trash().unwrap();
    assert_eq!(
        std::fs::read_dir(scratch.path().join("trash"))
            .unwrap()
            .count(),
        0
    );
}
