//! What a daemon that was killed leaves, and that the next one removes it.

use std::io::Read;

use wharf_ids::{ContainerId, ImageRef};
use wharf_image_store::ImageError;
use wharf_state::Batch;

use crate::support::{Sample, Scratch, digest, gzip};

/// A source that ends with an error, as a connection does.
struct Cut<'a>(&'a [u8]);

impl Read for Cut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        self.0.read(buffer)
    }
}

#[test]
fn a_load_that_is_cut_anywhere_leaves_nothing() {
    let big = vec![b'x'; 100_000];
    let archive =
        Sample::new(&[&[("a/", b""), ("a/big", &big)], &[("b", b"2")]]).docker_archive(&["app"]);
    let scratch = Scratch::new();
    for position in (0..archive.len()).step_by(archive.len() / 40) {
        scratch
            .store
            .load(Cut(&archive[..position]), None, &|_| {})
            .unwrap_err();
        assert_eq!(
            scratch.files(),
            Vec::<std::path::PathBuf>::new(),
            "cut at {position}"
        );
    }
    scratch.load(&archive);
}

#[test]
fn a_cut_blob_goes_on_where_it_was_even_after_a_restart() {
    let scratch = Scratch::new();
    let bytes = vec![7; 3_000_000];
    let lease = scratch.store.lease();
    let mut writer = lease
        .begin_blob(&digest(&bytes), Some(bytes.len() as u64))
        .unwrap()
        .unwrap();
    writer.write(&bytes[..1_234_567]).unwrap();
    drop((writer, lease));
    let scratch = scratch.reopened();
    let lease = scratch.store.lease();
    let mut writer = lease
        .begin_blob(&digest(&bytes), Some(bytes.len() as u64))
        .unwrap()
        .unwrap();
    assert_eq!(writer.offset(), 1_234_567);
    writer.write(&bytes[1_234_567..]).unwrap();
    writer.commit().unwrap();
    assert!(lease.begin_blob(&digest(&bytes), None).unwrap().is_none());
    drop(lease);
    scratch.store.collect_garbage().unwrap();
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn wrong_bytes_are_thrown_away() {
    let scratch = Scratch::new();
    let lease = scratch.store.lease();
    let expected = digest(b"right");
    let mut writer = lease.begin_blob(&expected, None).unwrap().unwrap();
    writer.write(b"wrong").unwrap();
    assert!(matches!(
        writer.commit(),
        Err(ImageError::DigestMismatch { .. })
    ));
    let mut writer = lease.begin_blob(&expected, Some(5)).unwrap().unwrap();
    assert_eq!(writer.offset(), 0);
    assert!(matches!(
        writer.write(b"too long"),
        Err(ImageError::SizeMismatch { .. })
    ));
    drop(writer);
    let mut writer = lease.begin_blob(&expected, Some(5)).unwrap().unwrap();
    writer.write(b"rig").unwrap();
    assert!(matches!(
        writer.commit(),
        Err(ImageError::SizeMismatch { .. })
    ));
    let mut writer = lease.begin_blob(&expected, Some(5)).unwrap().unwrap();
    assert_eq!(writer.offset(), 3);
    writer.write(b"ht").unwrap();
    writer.commit().unwrap();
}

#[test]
fn two_writers_of_one_blob_take_turns() {
    let scratch = Scratch::new();
    let bytes = vec![1; 100_000];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lease = scratch.store.lease();
                if let Some(mut writer) = lease.begin_blob(&digest(&bytes), None).unwrap() {
                    writer.restart().unwrap();
                    writer.write(&bytes).unwrap();
                    writer.commit().unwrap();
                }
                assert!(lease.has_blob(&digest(&bytes)));
            });
        }
    });
}

#[test]
fn unpacked_layers_without_an_image_are_collected() {
    let scratch = Scratch::new();
    let (blobs, manifest) = Sample::new(&[&[("a", b"1")], &[("b", b"2")]]).oci(gzip);
    let target: wharf_oci::image::Descriptor = serde_json::from_value(manifest).unwrap();
    let lease = scratch.store.lease();
    for bytes in blobs.values() {
        lease.put_blob(bytes, None).unwrap();
    }
    let layers = scratch.store.layers(&target).unwrap();
    lease.unpack_layer(&layers[1], &|_| {}).unwrap();
    // Killed here: unpacked, but not in its place. `forget` is what `kill -9` is for the store.
    std::mem::forget(lease);
    let scratch = scratch.reopened_after_kill();
    let lease = scratch.store.lease();
    for bytes in blobs.values() {
        lease.put_blob(bytes, None).unwrap();
    }
    lease.unpack(&target, None, &|_| {}).unwrap();
    // Killed here: everything done but the name.
    std::mem::forget(lease);
    let scratch = scratch.reopened_after_kill();
    scratch.store.collect_garbage().unwrap();
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn orphans_of_every_kind_are_removed_by_the_next_start() {
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[&[("a", b"1")]]).docker_archive(&["app"]));
    let before = scratch.files();
    let image = scratch.store.resolve("app").unwrap();
    // Prepared, never committed.
    scratch
        .store
        .prepare_container(&ContainerId::random(), &image, &mut Batch::new())
        .unwrap();
    for dir in [
        "layers/aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999/fs",
        "unpacking/7/fs",
        "trash/old/deep",
    ] {
        std::fs::create_dir_all(scratch.path().join(dir)).unwrap();
        std::fs::write(scratch.path().join(dir).join("file"), "x").unwrap();
    }
    std::fs::write(scratch.path().join("content/ingest/new-5"), "x").unwrap();
    let scratch = scratch.reopened();
    scratch.store.collect_garbage().unwrap();
    assert_eq!(scratch.files(), before);
}

#[test]
fn a_layer_that_vanished_is_unpacked_again() {
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[&[("a", b"1")]]).docker_archive(&["app"]));
    let image = scratch.store.resolve("app").unwrap();
    let lower = scratch.store.image_layers(&image).unwrap();
    std::fs::remove_dir_all(lower[0].parent().unwrap()).unwrap();
    let scratch = scratch.reopened();
    let image = scratch.store.resolve("app").unwrap();
    assert!(!image.unpacked);
    let image = scratch.store.ensure_unpacked(&image).unwrap();
    assert!(
        scratch.store.image_layers(&image).unwrap()[0]
            .join("a")
            .exists()
    );
}

#[test]
fn a_damaged_document_is_noticed() {
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[&[("a", b"1")]]).docker_archive(&["app", "same"]));
    let image = scratch.store.resolve("app").unwrap();
    let path = scratch
        .path()
        .join("content/blobs/sha256")
        .join(image.config_digest.hex());
    std::fs::write(path, "{}").unwrap();
    let scratch = scratch.reopened();
    let error = scratch.store.resolve("app").unwrap_err();
    assert!(matches!(error, ImageError::DigestMismatch { .. }));
    // It hides nothing else and can be removed.
    assert!(scratch.store.list().is_empty());
    scratch
        .store
        .tag("app", &ImageRef::parse("other").unwrap())
        .unwrap();
    let force = wharf_image_store::RemoveOptions { force: true };
    scratch
        .store
        .remove(image.id.as_str(), force, &crate::support::nobody)
        .unwrap();
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn blobs_no_image_needs_do_not_survive_a_reboot_but_a_restart() {
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[&[("a", b"1")]]).docker_archive(&["app"]));
    let before = scratch.files();
    drop(
        scratch
            .store
            .lease()
            .put_blob(b"perhaps never flushed", None)
            .unwrap(),
    );
    let scratch = scratch.reopened();
    assert_eq!(scratch.files().len(), before.len() + 1);
    let mut batch = Batch::new();
    batch.put("image-store", "boot-id", &"another boot");
    scratch.state.commit(batch).unwrap();
    let scratch = scratch.reopened();
    assert_eq!(scratch.files(), before);
}

#[test]
fn layers_are_unpacked_while_they_come_in_even_when_cut_in_between() {
    let big = vec![b'x'; 2_000_000];
    let layers: [&[(&str, &[u8])]; 2] = [&[("big", &big), ("after", b"1")], &[("b", b"2")]];
    let compressions: [crate::support::Compress; 2] = [gzip, |bytes| bytes.to_vec()];
    for compress in compressions {
        let scratch = Scratch::new();
        let (blobs, manifest) = Sample::new(&layers).oci(compress);
        let target: wharf_oci::image::Descriptor = serde_json::from_value(manifest).unwrap();
        let unpacked = || {
            std::fs::read_dir(scratch.path().join("unpacking"))
                .unwrap()
                .count()
        };
        let first = scratch.store.lease();
        for bytes in blobs.values() {
            let mut writer = first
                .begin_layer(&digest(bytes), Some(bytes.len() as u64))
                .unwrap()
                .unwrap();
            writer.write(&bytes[..bytes.len() / 2]).unwrap();
        }
        assert_eq!(unpacked(), 0);
        let lease = scratch.store.lease();
        for (n, bytes) in blobs.values().enumerate() {
            let mut writer = lease
                .begin_layer(&digest(bytes), Some(bytes.len() as u64))
                .unwrap()
                .unwrap();
            if n == 0 {
                writer.restart().unwrap();
            }
            let offset = usize::try_from(writer.offset()).unwrap();
            for piece in bytes[offset..].chunks(10_000) {
                writer.write(piece).unwrap();
            }
            writer.commit().unwrap();
        }
        // Documents are no layers; the two layers are done.
        assert_eq!(unpacked(), 2);
        lease.unpack(&target, None, &|_| {}).unwrap();
        assert_eq!(unpacked(), 0);
        scratch
            .store
            .set_image(&ImageRef::parse("app").unwrap(), &target)
            .unwrap();
        let lower = scratch
            .store
            .image_layers(&scratch.store.resolve("app").unwrap())
            .unwrap();
        assert_eq!(std::fs::read(lower[1].join("big")).unwrap(), big);
        assert_eq!(std::fs::read(lower[1].join("after")).unwrap(), b"1");
        assert_eq!(std::fs::read(lower[0].join("b")).unwrap(), b"2");
    }
}

#[test]
fn a_layer_with_wrong_bytes_is_not_kept_unpacked() {
    let scratch = Scratch::new();
    let right = crate::support::tar(&[("a", b"1")]);
    let wrong = crate::support::tar(&[("a", b"2")]);
    let lease = scratch.store.lease();
    let mut writer = lease
        .begin_layer(&digest(&right), Some(right.len() as u64))
        .unwrap()
        .unwrap();
    writer.write(&wrong).unwrap();
    assert!(matches!(
        writer.commit(),
        Err(ImageError::DigestMismatch { .. })
    ));
    scratch.store.empty_trash().unwrap();
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}
