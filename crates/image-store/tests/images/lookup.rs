//! What a text names, and Docker's answers when it names nothing.

use wharf_ids::ImageRef;

use crate::support::{Sample, Scratch, gzip};

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.load(&Sample::new(&[&[("a", b"1")]]).oci_archive("app:1", gzip));
    scratch.load(&Sample::new(&[&[("a", b"2")]]).oci_archive("app:latest", gzip));
    scratch.load(
        &Sample::new(&[&[("a", b"3")]]).oci_archive("registry.example:5000/team/app:1", gzip),
    );
    scratch
}

#[test]
fn names_ids_and_their_beginnings_find_the_image() {
    let scratch = scratch();
    let find = |text: &str| {
        scratch
            .store
            .resolve(text)
            .map(|image| image.id.clone())
            .map_err(|e| e.to_string())
    };
    let id = find("app:1").unwrap();
    let latest = find("app").unwrap();
    assert_ne!(id, latest);
    assert_eq!(find("docker.io/library/app").unwrap(), latest);
    assert_eq!(find(id.as_str()).unwrap(), id);
    assert_eq!(find(id.hex()).unwrap(), id);
    assert_eq!(find(id.short()).unwrap(), id);
    assert_eq!(find(&format!("sha256:{}", id.short())).unwrap(), id);
    assert_eq!(find(&format!("app@{id}")).unwrap(), id);
    assert_eq!(
        find(&format!("other@{id}")).unwrap_err(),
        format!("No such image: other@{id}")
    );
    assert_eq!(find("app:9").unwrap_err(), "No such image: app:9");
    assert_eq!(
        find("nothing").unwrap_err(),
        "No such image: nothing:latest"
    );
    assert_eq!(find("").unwrap_err(), "invalid reference format");
    assert!(find("App").unwrap_err().contains("must be lowercase"));
    let missing = "sha256:aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999";
    assert_eq!(
        find(missing).unwrap_err(),
        format!("No such image: {missing}")
    );
}

#[test]
fn beginnings_of_several_ids_are_ambiguous() {
    let scratch = Scratch::new();
    // Seventeen images: two ids at least begin with the same digit.
    for n in 0..17 {
        scratch.load(
            &Sample::new(&[&[("n", format!("{n}").as_bytes())]])
                .docker_archive(&[&format!("n:{n}")]),
        );
    }
    let mut first: Vec<String> = scratch
        .store
        .list()
        .iter()
        .map(|image| image.id.hex()[..1].to_owned())
        .collect();
    first.sort();
    let shared = first.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].clone();
    let error = scratch.store.resolve(&shared).unwrap_err();
    assert_eq!(error.to_string(), "ambiguous reference");
}

#[test]
fn resolved_images_are_shared_and_follow_new_tags() {
    let scratch = scratch();
    let one = scratch.store.resolve("app:1").unwrap();
    assert!(std::sync::Arc::ptr_eq(
        &one,
        &scratch.store.resolve(one.id.as_str()).unwrap()
    ));
    scratch
        .store
        .tag("app:1", &ImageRef::parse("more:tags").unwrap())
        .unwrap();
    assert_eq!(
        scratch.store.resolve("app:1").unwrap().repo_tags(),
        ["app:1", "more:tags"]
    );
}

#[test]
fn a_warm_image_is_found_without_the_disk() {
    let scratch = scratch();
    scratch.store.resolve("app:1").unwrap();
    std::fs::rename(
        scratch.path().join("content"),
        scratch.path().join("elsewhere"),
    )
    .unwrap();
    assert!(scratch.store.resolve("app:1").unwrap().unpacked);
}

#[test]
fn a_name_that_moves_on_leaves_its_image_dangling() {
    let scratch = scratch();
    let old = scratch.store.resolve("app:1").unwrap();
    scratch
        .store
        .tag("app:latest", &ImageRef::parse("app:1").unwrap())
        .unwrap();
    let old = scratch.store.resolve(old.id.as_str()).unwrap();
    assert!(old.is_dangling());
    scratch
        .store
        .tag(old.id.as_str(), &ImageRef::parse("named:again").unwrap())
        .unwrap();
    let again = scratch.store.resolve(old.id.as_str()).unwrap();
    assert_eq!(again.repo_tags(), ["named:again"]);
}

#[test]
fn names_survive_a_restart() {
    let scratch = scratch();
    let ids: Vec<_> = scratch
        .store
        .list()
        .iter()
        .map(|image| image.id.clone())
        .collect();
    let scratch = scratch.reopened();
    assert_eq!(
        scratch
            .store
            .list()
            .iter()
            .map(|image| image.id.clone())
            .collect::<Vec<_>>(),
        ids
    );
    assert!(scratch.store.resolve("app:1").unwrap().unpacked);
}

#[test]
fn a_tag_can_not_be_a_digest() {
    let scratch = scratch();
    let id = scratch.store.resolve("app:1").unwrap().id.clone();
    let target = ImageRef::parse(&format!("x@{id}")).unwrap();
    let error = scratch.store.tag("app:1", &target).unwrap_err();
    assert_eq!(
        error.to_string(),
        "refusing to create a tag with a digest reference"
    );
}
