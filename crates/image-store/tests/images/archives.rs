//! Load, save and import.

use wharf_ids::{Digest, ImageRef};
use wharf_image_store::{ImageError, ImportOptions};
use wharf_oci::platform::Platform;

use crate::support::{Compress, Sample, Scratch, digest, gzip, oci_archive, save, tar};

fn sample() -> Sample {
    Sample::new(&[
        &[("bin/", b""), ("bin/true", b"#!"), ("etc/passwd", b"root")],
        &[("etc/.wh.passwd", b""), ("new", b"x")],
    ])
}

#[test]
fn a_docker_archive_becomes_the_image_docker_makes_of_it() {
    let scratch = Scratch::new();
    let sample = sample();
    let loaded = scratch.load(&sample.docker_archive(&["app:1", "user/other:2"]));
    assert_eq!(
        loaded
            .iter()
            .map(wharf_image_store::Loaded::message)
            .collect::<Vec<_>>(),
        ["Loaded image: app:1", "Loaded image: user/other:2"]
    );
    let image = scratch.store.resolve("app:1").unwrap();
    assert_eq!(image.config_digest, digest(&sample.config()));
    assert!(image.unpacked);
    assert_eq!(image.repo_tags(), ["app:1", "user/other:2"]);
    assert_eq!(
        image.repo_digests(),
        [
            format!("app@{}", image.id),
            format!("user/other@{}", image.id)
        ]
    );
    // The manifest containerd's importer writes for the same archive, byte by byte.
    let layers: Vec<String> = sample
        .layers
        .iter()
        .map(|layer| {
            format!(
                r#"{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","digest":"{}","size":{}}}"#,
                digest(layer),
                layer.len()
            )
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{}","size":{}}},"layers":[{}]}}"#,
        image.config_digest,
        sample.config().len(),
        layers.join(",")
    );
    assert_eq!(image.id, digest(manifest.as_bytes()));
}

#[test]
fn layers_are_on_disk_with_whiteouts() {
    let scratch = Scratch::new();
    scratch.load(&sample().docker_archive(&["app"]));
    let image = scratch.store.resolve("app").unwrap();
    let lower = scratch.store.image_layers(&image).unwrap();
    assert_eq!(lower.len(), 2);
    assert_eq!(std::fs::read(lower[0].join("new")).unwrap(), b"x");
    assert_eq!(std::fs::read(lower[1].join("bin/true")).unwrap(), b"#!");
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(
        &std::fs::symlink_metadata(lower[0].join("etc/passwd"))
            .unwrap()
            .file_type()
    ));
}

#[test]
fn archives_may_be_compressed_as_a_whole() {
    let plain = sample().docker_archive(&["app"]);
    for archive in [gzip(&plain), zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        let scratch = Scratch::new();
        scratch.load(&archive);
        assert!(scratch.store.resolve("app").unwrap().unpacked);
    }
}

#[test]
fn oci_layouts_load_with_every_compression() {
    let compressions: [Compress; 3] = [
        gzip,
        |bytes| zstd::encode_all(bytes, 1).unwrap(),
        |bytes| bytes.to_vec(),
    ];
    for compress in compressions {
        let scratch = Scratch::new();
        let loaded = scratch.load(&sample().oci_archive("app:2", compress));
        assert_eq!(loaded[0].message(), "Loaded image: app:2");
        assert!(scratch.store.resolve("app:2").unwrap().unpacked);
    }
}

#[test]
fn archives_without_names_load_as_dangling() {
    let scratch = Scratch::new();
    for archive in [sample().oci_archive("", gzip), sample().docker_archive(&[])] {
        let loaded = scratch.load(&archive);
        assert_eq!(
            loaded[0].message(),
            format!("Loaded image ID: {}", loaded[0].id)
        );
        let image = scratch.store.resolve(loaded[0].id.as_str()).unwrap();
        assert!(image.is_dangling());
    }
}

#[test]
fn save_and_load_keep_ids_and_bytes() {
    let one = Scratch::new();
    one.load(&sample().oci_archive("app:1", gzip));
    one.store
        .tag("app:1", &ImageRef::parse("app:2").unwrap())
        .unwrap();
    one.load(&Sample::new(&[&[("other", b"")]]).docker_archive(&["localhost:5000/other:x"]));
    let bytes = save(&one.store, &["app", "localhost:5000/other:x"]);
    assert_eq!(bytes, save(&one.store, &["app", "localhost:5000/other:x"]));
    let two = Scratch::new();
    two.load(&bytes);
    for name in ["app:1", "app:2", "localhost:5000/other:x"] {
        assert_eq!(
            one.store.resolve(name).unwrap().id,
            two.store.resolve(name).unwrap().id
        );
    }
    assert_eq!(bytes, save(&two.store, &["app", "localhost:5000/other:x"]));
}

#[test]
fn a_saved_archive_has_the_records_docker_writes() {
    let scratch = Scratch::new();
    scratch.load(&sample().oci_archive("app:1", gzip));
    let image = scratch.store.resolve("app:1").unwrap();
    let bytes = save(&scratch.store, &["app:1"]);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut names = Vec::new();
    let mut documents = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        assert_eq!(entry.header().mtime().unwrap(), 0);
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut body).unwrap();
        if !name.starts_with("blobs/") {
            documents.insert(
                name.clone(),
                serde_json::from_slice::<serde_json::Value>(&body).unwrap(),
            );
        }
        names.push(name);
    }
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    assert_eq!(names.len(), 2 + 4 + 3);
    assert_eq!(documents["oci-layout"]["imageLayoutVersion"], "1.0.0");
    let entry = &documents["index.json"]["manifests"][0];
    assert_eq!(entry["digest"], image.id.as_str());
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        "docker.io/library/app:1"
    );
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.ref.name"],
        "1"
    );
    let docker = &documents["manifest.json"][0];
    assert_eq!(
        docker["Config"],
        format!("blobs/sha256/{}", image.config_digest.hex())
    );
    assert_eq!(docker["RepoTags"], serde_json::json!(["app:1"]));
    assert_eq!(docker["Layers"].as_array().unwrap().len(), 2);
}

#[test]
fn saving_by_id_keeps_no_name() {
    let scratch = Scratch::new();
    scratch.load(&sample().docker_archive(&["app"]));
    let id = scratch.store.resolve("app").unwrap().id.clone();
    let other = Scratch::new();
    let loaded = other.load(&save(&scratch.store, &[id.short()]));
    assert_eq!((loaded[0].name.as_ref(), &loaded[0].id), (None, &id));
}

#[test]
fn saving_what_is_not_there_says_so() {
    let scratch = Scratch::new();
    let error = scratch.store.save(&["nope".to_owned()], None).unwrap_err();
    assert_eq!(error.to_string(), "No such image: nope:latest");
}

#[test]
fn indexes_keep_their_id_and_unpack_this_machines_platform() {
    let sample = sample();
    let foreign = Sample {
        architecture: "s390x",
        ..Sample::new(&[&[("z", b"z")]])
    };
    let ((mut blobs, mut ours), (more, mut theirs)) = (sample.oci(gzip), foreign.oci(gzip));
    ours["platform"] = serde_json::json!({"os": "linux", "architecture": sample.architecture});
    theirs["platform"] = serde_json::json!({"os": "linux", "architecture": "s390x"});
    // The other platform's manifest is here, its layers are not: as after a pull.
    let theirs_hex = theirs["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    blobs.extend(more.into_iter().filter(|(hex, _)| *hex == theirs_hex));
    let index = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [theirs, ours],
    }))
    .unwrap();
    blobs.insert(digest(&index).hex().to_owned(), index.clone());
    let top = serde_json::json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(&index).to_string(), "size": index.len(),
        "annotations": {"io.containerd.image.name": "docker.io/library/multi:1"},
    });
    let scratch = Scratch::new();
    let loaded = scratch.load(&oci_archive(&blobs, &[top]));
    assert_eq!(loaded[0].id, digest(&index));
    let image = scratch.store.resolve("multi:1").unwrap();
    assert!(image.unpacked);
    assert_eq!(image.config_digest, digest(&sample.config()));
    let error = scratch
        .store
        .resolve_platform("multi:1", Some(&Platform::parse("linux/s390x").unwrap()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "image with reference multi:1 was found but does not provide the specified platform (linux/s390x)"
    );
    let again = Scratch::new();
    again.load(&save(&scratch.store, &["multi:1"]));
    assert_eq!(again.store.resolve("multi:1").unwrap().id, digest(&index));
}

#[test]
fn images_for_other_machines_are_kept_but_not_unpacked() {
    let scratch = Scratch::new();
    let foreign = Sample {
        architecture: "s390x",
        ..Sample::new(&[&[("z", b"z")]])
    };
    scratch.load(&foreign.docker_archive(&["foreign"]));
    let image = scratch.store.resolve("foreign").unwrap();
    assert!(!image.unpacked);
    assert!(scratch.store.ensure_unpacked(&image).unwrap().unpacked);
}

#[test]
fn the_same_layer_twice_in_one_image_unpacks_twice() {
    let scratch = Scratch::new();
    let layer: &[(&str, &[u8])] = &[("a", &[b'x'; 100_000])];
    scratch.load(&Sample::new(&[layer, layer, layer]).docker_archive(&["twice"]));
    let image = scratch.store.resolve("twice").unwrap();
    assert_eq!(scratch.store.image_layers(&image).unwrap().len(), 3);
}

#[test]
fn shared_layers_are_unpacked_once() {
    let scratch = Scratch::new();
    let base: &[(&str, &[u8])] = &[("base", &[b'x'; 100_000])];
    scratch.load(&Sample::new(&[base, &[("one", b"")]]).docker_archive(&["one"]));
    scratch.load(&Sample::new(&[base, &[("two", b"")]]).oci_archive("two", gzip));
    let layers = scratch
        .files()
        .iter()
        .filter(|path| path.ends_with("fs/base"))
        .count();
    assert_eq!(layers, 1);
}

#[test]
fn a_docker_archive_of_a_known_image_keeps_its_compressed_layers() {
    let scratch = Scratch::new();
    scratch.load(&sample().oci_archive("app", gzip));
    scratch.load(&sample().docker_archive(&["again"]));
    let (app, again) = (
        scratch.store.resolve("app").unwrap(),
        scratch.store.resolve("again").unwrap(),
    );
    let digests = |image: &wharf_image_store::Image| -> Vec<Digest> {
        image
            .layers
            .iter()
            .map(|layer| layer.blob.digest.clone())
            .collect()
    };
    assert_eq!(digests(&app), digests(&again));
}

#[test]
fn wrong_archives_are_refused_and_leave_nothing() {
    let sample = sample();
    let wrong_name = tar(&[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        (
            "blobs/sha256/aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999",
            b"not that",
        ),
    ]);
    let (mut blobs, manifest) = sample.oci(gzip);
    let layer = blobs
        .iter()
        .find(|(_, bytes)| bytes.starts_with(&[0x1f, 0x8b]))
        .unwrap()
        .0
        .clone();
    blobs.remove(&layer);
    let missing_layer = oci_archive(&blobs, &[manifest]);
    let mut lying = sample.docker_archive(&["x"]);
    // One byte inside the first layer's first file.
    let position = lying.windows(2).position(|pair| pair == b"#!").unwrap();
    lying[position] = b'X';
    let cut = sample.docker_archive(&["x"]);
    for (what, archive, message) in [
        ("nothing", b"".to_vec(), "unrecognized image format"),
        ("text", b"hello world".to_vec(), "unrecognized image format"),
        (
            "other tar",
            tar(&[("etc/passwd", b"root")]),
            "unrecognized image format",
        ),
        ("wrong name", wrong_name, "content digest mismatch"),
        ("missing layer", missing_layer, "is missing"),
        ("wrong diff id", lying, "diff id"),
        ("cut", cut[..cut.len() / 2].to_vec(), "unexpected end"),
        (
            "version",
            tar(&[
                ("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#),
                ("index.json", b"{}"),
            ]),
            "version 2.0.0",
        ),
        (
            "json",
            tar(&[("manifest.json", b"[{")]),
            "manifest.json is not valid",
        ),
        (
            "no image",
            tar(&[("manifest.json", b"[]")]),
            "contains no image",
        ),
        (
            "uppercase",
            sample.docker_archive(&["Upper"]),
            "must be lowercase",
        ),
        (
            "outside",
            tar(&[(
                "manifest.json",
                br#"[{"Config":"../../etc/passwd","Layers":[]}]"#,
            )]),
            "is missing",
        ),
    ] {
        let scratch = Scratch::new();
        let error = scratch
            .store
            .load(archive.as_slice(), None, &|_| {})
            .unwrap_err();
        assert!(
            wharf_fault::chain(&error).contains(message),
            "{what}: {}",
            wharf_fault::chain(&error)
        );
        assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new(), "{what}");
        assert!(scratch.store.list().is_empty(), "{what}");
    }
}

#[test]
fn hostile_layers_are_refused_and_leave_nothing() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..14].copy_from_slice(b"../../escaped\0");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, &b""[..]).unwrap();
    let mut sample = sample();
    sample.layers.push(builder.into_inner().unwrap());
    let scratch = Scratch::new();
    let error = scratch
        .store
        .load(sample.docker_archive(&["evil"]).as_slice(), None, &|_| {})
        .unwrap_err();
    assert!(matches!(error, ImageError::Entry { .. }), "{error}");
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn import_makes_an_image_with_changes() {
    let scratch = Scratch::new();
    let rootfs = tar(&[("bin/", b""), ("bin/sh", b"shell")]);
    for source in [
        rootfs.clone(),
        gzip(&rootfs),
        zstd::encode_all(rootfs.as_slice(), 1).unwrap(),
    ] {
        let options = ImportOptions {
            name: Some(ImageRef::parse("imported:1").unwrap()),
            message: "from a test".to_owned(),
            changes: vec!["CMD [\"sh\"]".to_owned(), "ENV A=b".to_owned()],
            platform: None,
        };
        let id = scratch.store.import(source.as_slice(), &options).unwrap();
        let image = scratch.store.resolve("imported:1").unwrap();
        assert_eq!(image.id, id);
        assert!(image.unpacked);
        assert_eq!(
            image.config.config.cmd.as_deref(),
            Some(&["sh".to_owned()][..])
        );
        assert_eq!(image.layers[0].diff_id, digest(&rootfs));
        assert_eq!(image.history()[0].comment, "from a test");
        let lower = scratch.store.image_layers(&image).unwrap();
        assert_eq!(std::fs::read(lower[0].join("bin/sh")).unwrap(), b"shell");
    }
    // Each import took the name from the one before.
    assert_eq!(
        scratch
            .store
            .list()
            .iter()
            .filter(|image| image.is_dangling())
            .count(),
        2
    );
}

#[test]
fn failed_imports_leave_nothing() {
    for (source, changes, message) in [
        (
            &b"no archive, but long enough to be read as one"[..],
            vec![],
            "unexpected end",
        ),
        (&[b'x'; 2048][..], vec![], "invalid tar header"),
        (
            &b""[..],
            vec!["RUN x".to_owned()],
            "run is not a valid change command",
        ),
    ] {
        let scratch = Scratch::new();
        let options = ImportOptions {
            changes,
            ..ImportOptions::default()
        };
        let error = scratch.store.import(source, &options).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
    }
}
