//! Many threads at once.

use std::sync::atomic::{AtomicBool, Ordering};

use wharf_ids::{ContainerId, ImageRef};
use wharf_image_store::{ContainerUse, ImageError, PruneFilters, RemoveOptions};
use wharf_state::Batch;

use crate::support::{Sample, Scratch, gzip, nobody, save};

#[test]
fn loads_removals_containers_and_collections_do_not_hurt_each_other() {
    let scratch = Scratch::new();
    let base = vec![b'x'; 200_000];
    let archives: Vec<(String, Vec<u8>)> = (0..4)
        .map(|n| {
            let own = format!("{n}").into_bytes();
            let layers: [&[(&str, &[u8])]; 2] = [&[("base", &base)], &[("own", &own)]];
            let name = format!("app:{n}");
            let sample = Sample::new(&layers);
            let archive = if n % 2 == 0 {
                sample.docker_archive(&[&name])
            } else {
                sample.oci_archive(&name, gzip)
            };
            (name, archive)
        })
        .collect();
    let ended = AtomicBool::new(false);
    let (store, state) = (&scratch.store, &scratch.state);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let archives = &archives;
                scope.spawn(move || {
                    for round in 0..12 {
                        let (name, archive) = &archives[(worker + round) % archives.len()];
                        store.load(archive.as_slice(), None, &|_| {}).unwrap();
                        // Somebody else may remove it at any time; what is got hold of has to work.
                        let Ok(image) = store.resolve(name) else {
                            continue;
                        };
                        let id = ContainerId::random();
                        let mut batch = Batch::new();
                        match store.prepare_container(&id, &image, &mut batch) {
                            Ok(layer) => {
                                state.commit(batch).unwrap();
                                assert!(layer.lower[0].join("own").exists());
                                assert!(layer.lower[1].join("base").exists());
                                let mut batch = Batch::new();
                                store.release_container(&id, &mut batch);
                                state.commit(batch).unwrap();
                                store.discard_container(&id).unwrap();
                            }
                            Err(ImageError::NoSuchImage(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                        drop(store.tag(
                            name,
                            &ImageRef::parse(&format!("tag{worker}:{round}")).unwrap(),
                        ));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for (name, _) in &archives {
                    match store.remove(name, RemoveOptions { force: true }, &nobody) {
                        Ok(_) | Err(ImageError::NoSuchImage(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                store.collect_garbage().unwrap();
                store.empty_trash().unwrap();
                store.list();
            }
        });
        let results: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        ended.store(true, Ordering::Relaxed);
        for result in results {
            result.unwrap();
        }
    });
    for (name, archive) in &archives {
        scratch.load(archive);
        assert!(store.resolve(name).unwrap().unpacked);
        save(store, &[name]);
    }
    let all = PruneFilters {
        all: true,
        ..PruneFilters::default()
    };
    store.prune(&all, &|_| Vec::<ContainerUse>::new()).unwrap();
    assert_eq!(scratch.files(), Vec::<std::path::PathBuf>::new());
}
