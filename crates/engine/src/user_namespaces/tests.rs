//! Mappings from modes and ranges, without a host.

use proptest::prelude::*;

use super::*;

fn set(ranges: &[(u32, u32)]) -> RangeSet {
    ranges.iter().map(|(a, n)| IdRange::new(*a, *n)).collect()
}

fn initial() -> Own {
    let all = kernel_map("         0          0 4294967295\n").unwrap();
    Own {
        initial: true,
        uids: all.clone(),
        gids: all,
    }
}

fn keep(text: &str) -> KeepId {
    match Mode::parse(text).unwrap() {
        Mode::KeepId(keep) => keep,
        other => panic!("{other:?}"),
    }
}

#[test]
fn given_ids_are_kept_and_the_rest_is_taken_around_them() {
    let map = around(
        &[Extent::from((1000, 1000, 1))],
        65536,
        &set(&[(500_000, 70_000)]),
    )
    .unwrap();
    assert_eq!(
        map.to_wire(),
        ["0:500000:1000", "1000:1000:1", "1001:501000:64535"]
    );
    // Pieces are put together, given ids of the pool are not taken twice.
    let map = around(
        &[Extent::from((0, 105, 1))],
        12,
        &set(&[(100, 10), (200, 5)]),
    )
    .unwrap();
    assert_eq!(map.to_wire(), ["0:105:1", "1:100:5", "6:106:4", "10:200:2"]);
    assert_eq!(
        around(&[], 100, &set(&[(0, 10), (50, 5)])),
        Err(Refusal::Exhausted {
            wanted: 100,
            left: 15
        })
    );
    assert!(matches!(
        around(
            &[Extent::from((0, 1, 1)), Extent::from((0, 5, 1))],
            10,
            &set(&[(100, 100)])
        ),
        Err(Refusal::Wrong(_))
    ));
}

#[test]
fn keep_id_is_the_callers() {
    let auto = initial()
        .auto_of(&keep("keep-id:host-uid=1000,host-gid=100"))
        .unwrap();
    assert_eq!(auto.uids, [Extent::from((1000, 1000, 1))]);
    assert_eq!(auto.gids, [Extent::from((100, 100, 1))]);
    let other = keep("keep-id:host-uid=1000,host-gid=100,uid=5,gid=6");
    assert_eq!(other.user().as_deref(), Some("5:6"));
    assert_eq!(
        initial().auto_of(&other).unwrap().uids,
        [Extent::from((5, 1000, 1))]
    );
    for text in [
        "keep-id",
        "keep-id:host-uid=1000",
        "keep-id:host-uid=0,host-gid=5",
    ] {
        assert!(initial().auto_of(&keep(text)).is_err(), "{text}");
    }
    // Inside a rootless daemon's namespace its user has another number.
    let rootless = Own {
        initial: false,
        uids: kernel_map("0 1000 1\n1 100000 65536\n").unwrap(),
        gids: kernel_map("0 1000 1\n1 100000 65536\n").unwrap(),
    };
    assert_eq!(
        rootless
            .auto_of(&keep("keep-id:host-uid=1000,host-gid=1000"))
            .unwrap()
            .uids,
        [Extent::from((1000, 0, 1))]
    );
    assert_eq!(rootless.pools().unwrap()[0], set(&[(1, 65536)]));
}

#[test]
fn private_mappings_are_given_or_looked_up() {
    let resolve = |text: &str| {
        let Mode::Private(private) = Mode::parse(text).unwrap() else {
            panic!("{text}");
        };
        private
            .resolve(
                &Subordinate::parse("alice:100:10\nbob:500:10\nalice:200:10"),
                &Subordinate::parse("alice:300:10"),
            )
            .map(|maps| (maps.uids.to_wire().join(" "), maps.gids.to_wire().join(" ")))
    };
    let both = |uids: &str, gids: &str| Ok((uids.to_owned(), gids.to_owned()));
    assert_eq!(resolve("private:uidmapping=0:5:5"), both("0:5:5", "0:5:5"));
    assert_eq!(
        resolve("private:gidmapping=0:5:5,uidmapping=0:6:6"),
        both("0:6:6", "0:5:5")
    );
    assert_eq!(
        resolve("private:subuidname=alice"),
        both("0:100:10 10:200:10", "0:300:10")
    );
    assert_eq!(
        resolve("private:subgidname=alice"),
        both("0:100:10 10:200:10", "0:300:10")
    );
    assert_eq!(
        resolve("private:subuidname=bob,subgidname=alice"),
        both("0:500:10", "0:300:10")
    );
    assert_eq!(
        resolve("private:subuidname=bob").unwrap_err(),
        "no subgid ranges found for user \"bob\""
    );
    assert!(resolve("private:uidmapping=0:5:5,uidmapping=3:50:5").is_err());
}

#[test]
fn what_is_held_is_given_to_nobody_else() {
    let all = kernel_map("0 0 4294967295\n").unwrap();
    let namespaces = UserNamespaces {
        remap: None,
        own: Own {
            initial: false,
            uids: kernel_map("0 1000 1\n1 100000 100\n").unwrap(),
            gids: all,
        },
        pending: Arc::default(),
    };
    let mode = Mode::parse("auto:size=40").unwrap();
    let assign = |on_record: Vec<IdMaps>| {
        namespaces
            .assign(&mode, || on_record)
            .map(|reserved| reserved.unwrap())
    };
    let first = assign(Vec::new()).unwrap();
    let second = assign(Vec::new()).unwrap();
    assert_eq!(first.maps.uids.to_wire(), ["0:1:40"]);
    assert_eq!(second.maps.uids.to_wire(), ["0:41:40"]);
    let error = assign(Vec::new()).unwrap_err();
    assert_eq!(error.kind(), wharf_fault::Kind::Conflict);
    assert!(
        error.to_string().starts_with(
            "not enough unused user ids for a user namespace of 40: 20 of 100 are left"
        ),
        "{error}"
    );
    // On record now, no longer held.
    let recorded = IdMaps::clone(&first.maps);
    drop(first);
    assert!(assign(vec![recorded]).is_err());
    assert_eq!(assign(Vec::new()).unwrap().maps.uids.to_wire(), ["0:1:40"]);
}

proptest! {
    #[test]
    fn every_id_of_the_size_is_mapped_and_none_twice(
        fixed in prop::collection::vec((0_u32..200, 0_u32..600, 1_u32..20), 0..4),
        size in 1_u32..300,
        free in prop::collection::vec((0_u32..1000, 0_u32..200), 0..8),
    ) {
        let fixed: Vec<Extent> = fixed.into_iter().map(Extent::from).collect();
        let free: RangeSet = free.iter().map(|(a, n)| IdRange::new(*a, *n)).collect();
        match around(&fixed, size, &free) {
            Ok(map) => {
                for id in 0..size {
                    prop_assert!(map.to_host(id).is_some());
                }
                // Everything that was not given comes from what is free.
                let given: RangeSet = fixed.iter().map(Extent::host_range).collect();
                prop_assert!(map.host_ranges().collect::<RangeSet>().without(&given).without(&free).is_empty());
            }
            Err(Refusal::Exhausted { wanted, left }) => prop_assert!(left < wanted),
            Err(Refusal::Wrong(_)) => prop_assert!(IdMap::new(fixed).is_err()),
        }
    }
}
