//! Removing names and images, pruning, garbage collection.

use wharf_ids::{Digest, ImageRef};
use wharf_image_store::{ContainerUse, PruneFilters, RemoveOptions, Removed};

use crate::support::{Sample, Scratch, gzip, nobody};

const PLAIN: RemoveOptions = RemoveOptions { force: false };
const FORCE: RemoveOptions = RemoveOptions { force: true };

fn scratch(names: &[&str]) -> (Scratch, Digest) {
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[&[("a", b"1")], &[("b", b"2")]]).docker_archive(names));
    let id = scratch.store.resolve(names[0]).unwrap().id.clone();
    (scratch, id)
}

fn used(running: bool) -> impl Fn(&Digest) -> Vec<ContainerUse> {
    move |_| {
        vec![ContainerUse {
            id: "0123456789abcdef".repeat(4),
            running,
        }]
    }
}

fn untagged(name: &str) -> Removed {
    Removed::Untagged(name.to_owned())
}

fn deleted(id: &Digest) -> Removed {
    Removed::Deleted(id.to_string())
}

#[test]
fn the_last_name_takes_the_image_along() {
    let (scratch, id) = scratch(&["app:1", "app:2"]);
    assert_eq!(
        scratch.store.remove("app:1", PLAIN, &nobody).unwrap(),
        [untagged("app:1")]
    );
    assert_eq!(
        scratch.store.remove("app:2", PLAIN, &nobody).unwrap(),
        [untagged("app:2"), deleted(&id)]
    );
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(
        scratch
            .store
            .remove("app:2", PLAIN, &nobody)
            .unwrap_err()
            .to_string(),
        "No such image: app:2"
    );
}

#[test]
fn an_id_takes_all_names_of_one_repository_and_needs_force_for_more() {
    let (scratch, id) = scratch(&["app:1", "app:2"]);
    assert_eq!(
        scratch.store.remove(id.short(), PLAIN, &nobody).unwrap(),
        [untagged("app:1"), untagged("app:2"), deleted(&id)]
    );
    let (scratch, id) = self::scratch(&["app:1", "other:1"]);
    let error = scratch
        .store
        .remove(id.as_str(), PLAIN, &nobody)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            id.short()
        )
    );
    scratch.store.remove(id.as_str(), FORCE, &nobody).unwrap();
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn containers_are_in_the_way_in_dockers_words() {
    let (scratch, id) = scratch(&["app:1"]);
    let short = id.short();
    for (text, options, running, message) in [
        (
            id.as_str(),
            PLAIN,
            true,
            format!(
                "conflict: unable to delete {short} (cannot be forced) - image is being used by running container 0123456789ab"
            ),
        ),
        (
            id.as_str(),
            FORCE,
            true,
            format!(
                "conflict: unable to delete {short} (cannot be forced) - image is being used by running container 0123456789ab"
            ),
        ),
        (
            id.as_str(),
            PLAIN,
            false,
            format!(
                "conflict: unable to delete {short} (must be forced) - image is being used by stopped container 0123456789ab"
            ),
        ),
        (
            "app:1",
            PLAIN,
            false,
            format!(
                "conflict: unable to delete app:1 (must be forced) - container 0123456789ab is using its referenced image {short}"
            ),
        ),
    ] {
        let error = scratch
            .store
            .remove(text, options, &used(running))
            .unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(
        scratch.store.remove("app:1", FORCE, &used(false)).unwrap(),
        [untagged("app:1")]
    );
    assert!(scratch.store.resolve(id.as_str()).unwrap().is_dangling());
    assert_eq!(
        scratch.store.remove(short, FORCE, &used(false)).unwrap(),
        [deleted(&id)]
    );
}

#[test]
fn prune_takes_dangling_images_and_with_all_every_unused_one() {
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[&[("a", b"1")]]).docker_archive(&["app:1"]));
    scratch.load(&Sample::new(&[&[("a", b"2")]]).docker_archive(&["app:2"]));
    scratch
        .store
        .tag("app:2", &ImageRef::parse("app:1").unwrap())
        .unwrap();
    let filters = PruneFilters {
        labels: vec!["kind=other".to_owned()],
        ..PruneFilters::default()
    };
    assert!(
        scratch
            .store
            .prune(&filters, &nobody)
            .unwrap()
            .removed
            .is_empty()
    );
    let filters = PruneFilters {
        until: Some("2019-01-01T00:00:00Z".parse().unwrap()),
        ..PruneFilters::default()
    };
    assert!(
        scratch
            .store
            .prune(&filters, &nobody)
            .unwrap()
            .removed
            .is_empty()
    );
    let filters = PruneFilters {
        labels: vec!["kind=sample".to_owned()],
        ..PruneFilters::default()
    };
    let pruned = scratch.store.prune(&filters, &nobody).unwrap();
    assert_eq!(pruned.removed.len(), 1);
    assert!(pruned.reclaimed_bytes > 0);
    let all = PruneFilters {
        all: true,
        ..PruneFilters::default()
    };
    assert!(
        scratch
            .store
            .prune(&all, &used(false))
            .unwrap()
            .removed
            .is_empty()
    );
    let pruned = scratch.store.prune(&all, &nobody).unwrap();
    assert_eq!(pruned.removed.len(), 3);
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn shared_layers_stay_for_the_other_image() {
    let base: &[(&str, &[u8])] = &[("base", b"x")];
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[base, &[("one", b"")]]).docker_archive(&["one"]));
    scratch.load(&Sample::new(&[base, &[("two", b"")]]).docker_archive(&["two"]));
    scratch.store.remove("one", PLAIN, &nobody).unwrap();
    let two = scratch.store.resolve("two").unwrap();
    for layer in scratch.store.image_layers(&two).unwrap() {
        assert!(layer.exists());
    }
    assert_eq!(
        scratch
            .files()
            .iter()
            .filter(|path| path.ends_with("fs"))
            .count(),
        2
    );
    let again = Scratch::new();
    again.load(&crate::support::save(&scratch.store, &["two"]));
}

#[test]
fn leases_keep_what_a_pull_has_brought_so_far() {
    let scratch = Scratch::new();
    let (blobs, manifest) = Sample::new(&[&[("a", b"1")]]).oci(gzip);
    let lease = scratch.store.lease();
    for bytes in blobs.values() {
        lease.put_blob(bytes, None).unwrap();
    }
    assert_eq!(scratch.store.collect_garbage().unwrap().blobs, 0);
    let target: wharf_oci::image::Descriptor = serde_json::from_value(manifest).unwrap();
    lease.unpack(&target, None, &|_| {}).unwrap();
    let collected = scratch.store.collect_garbage().unwrap();
    assert_eq!((collected.blobs, collected.layers), (0, 0));
    scratch
        .store
        .set_image(&ImageRef::parse("kept").unwrap(), &target)
        .unwrap();
    drop(lease);
    assert_eq!(scratch.store.collect_garbage().unwrap().blobs, 0);
    assert!(scratch.store.resolve("kept").unwrap().unpacked);
    let lease = scratch.store.lease();
    lease.put_blob(b"unfinished", None).unwrap();
    drop(lease);
    assert_eq!(scratch.store.collect_garbage().unwrap().blobs, 1);
}

#[test]
fn layers_of_a_platform_that_came_later_stay() {
    let ours = Sample::new(&[&[("a", b"1")]]);
    let foreign = Sample {
        architecture: "s390x",
        ..Sample::new(&[&[("z", b"z")]])
    };
    let ((mut blobs, mut first), (more, mut second)) = (ours.oci(gzip), foreign.oci(gzip));
    first["platform"] = serde_json::json!({"os": "linux", "architecture": ours.architecture});
    second["platform"] = serde_json::json!({"os": "linux", "architecture": "s390x"});
    let manifest = second["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    blobs.insert(manifest.clone(), more[&manifest].clone());
    let index =
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [first, second]}))
            .unwrap();
    let digest = crate::support::digest(&index);
    blobs.insert(digest.hex().to_owned(), index.clone());
    let top = serde_json::json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(), "size": index.len(),
        "annotations": {"io.containerd.image.name": "docker.io/library/multi:1"},
    });
    let scratch = Scratch::new();
    scratch.load(&crate::support::oci_archive(&blobs, &[top]));
    let target = scratch.store.resolve("multi:1").unwrap().target.clone();
    let platform = wharf_oci::platform::Platform::parse("linux/s390x").unwrap();
    let lease = scratch.store.lease();
    for bytes in more.values() {
        lease.put_blob(bytes, None).unwrap();
    }
    lease.unpack(&target, Some(&platform), &|_| {}).unwrap();
    scratch
        .store
        .set_image(&ImageRef::parse("multi:1").unwrap(), &target)
        .unwrap();
    drop(lease);
    scratch.store.collect_garbage().unwrap();
    let image = scratch
        .store
        .resolve_platform("multi:1", Some(&platform))
        .unwrap();
    assert!(
        scratch.store.image_layers(&image).unwrap()[0]
            .join("z")
            .exists()
    );
    assert!(scratch.store.resolve("multi:1").unwrap().unpacked);
}
