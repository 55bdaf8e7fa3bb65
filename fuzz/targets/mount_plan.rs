//! Mounts of a document: destinations stay absolute and normalised, an attribute is never both set
//! and cleared, and a bind takes no option that is not known.
#![no_main]

use std::path::Component;

use libfuzzer_sys::fuzz_target;
use wharf_container_runtime::mount_plan::{Kind, plan};
use wharf_oci::runtime::Mount;
use wharf_sys::mount::Attributes;

/// Options a bind mount may have, from the runtime specification and mount(8).
const KNOWN: [&str; 49] = [
    "bind", "rbind", "ro", "rw", "rro", "rrw", "suid", "nosuid", "rsuid", "rnosuid", "dev", "nodev", "rdev", "rnodev",
    "exec", "noexec", "rexec", "rnoexec", "atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "diratime", "nodiratime", "rdiratime", "rnodiratime", "symfollow", "nosymfollow", "rsymfollow", "rnosymfollow",
    "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable", "defaults", "async",
    "nomand", "loud", "silent", "iversion", "noiversion", "nolazytime", "rw,async",
];

/// Options that later versions may learn: refused or understood, never passed over.
const FURTHER: [&str; 12] = [
    "idmap", "ridmap", "remount", "tmpcopyup", "rnoatime", "rstrictatime", "rrelatime", "ratime", "rnorelatime",
    "rnostrictatime", "sync", "dirsync",
];

fuzz_target!(|input: (String, Option<String>, Option<String>, Vec<(u8, String)>)| {
    let (destination, kind, source, options) = input;
    // Mostly words with a meaning, sometimes anything.
    let options: Vec<String> = options
        .into_iter()
        .map(|(choice, text)| KNOWN.get(usize::from(choice)).map_or(text, |word| (*word).to_owned()))
        .collect();
    let mount = Mount { destination, kind, source, options, ..Mount::default() };
    let Ok(planned) = plan(&mount) else { return };
    assert!(planned.destination.is_absolute());
    assert!(
        planned
            .destination
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
    );
    assert!(!planned.destination.as_os_str().as_encoded_bytes().contains(&0));
    assert_eq!(planned.set.0 & planned.clear.0 & !Attributes::ACCESS_TIME.0, 0);
    assert_eq!(planned.set_recursively.0 & planned.clear_recursively.0 & !Attributes::ACCESS_TIME.0, 0);
    match &planned.kind {
        Kind::Bind { source, .. } => {
            assert!(source.to_bytes().starts_with(b"/"));
            for option in &mount.options {
                let known = KNOWN.contains(&option.as_str()) || FURTHER.contains(&option.as_str());
                // With a mapping given in the option itself, should that be understood.
                assert!(known || option.starts_with("idmap=") || option.starts_with("ridmap="), "{option:?}");
            }
        }
        Kind::New { filesystem, parameters } => {
            assert!(!filesystem.is_empty());
            for (key, value) in parameters {
                // What is left for the kernel to judge is what the document says, word for word.
                let text = value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"));
                let of_the_plan = key == "source" || key == "ro";
                assert!(of_the_plan || mount.options.contains(&text), "{text:?}");
            }
        }
        Kind::Cgroup | Kind::Remount => {}
    }
});
