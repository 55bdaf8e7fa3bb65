//! The fixtures themselves: foreign tools must be able to read them.

use wharf_tests::{fixtures, run};

#[test]
fn skopeo_reads_every_fixture() {
    for archive in [
        fixtures::busybox(),
        fixtures::debian(),
        fixtures::nginx(),
        fixtures::redis(),
        fixtures::postgres(),
    ] {
        let mut skopeo = std::process::Command::new("skopeo");
        skopeo
            .args(["inspect", "--raw"])
            .arg(format!("docker-archive:{}", archive.display()));
        run(skopeo, None).ok().says("layers");
    }
}
