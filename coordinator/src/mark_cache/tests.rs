use proptest::prelude::*;

use super::*;

fn range(after: Option<&str>, to: Option<&str>, keys: u64, cuts: &[(&str, u64)]) -> CachedRange {
    let key = |name: &str| format!("docker/registry/v2/repositories/{name}");
    CachedRange {
        range: KeyRange {
            after: after.map(key),
            to: to.map(key),
        },
        size: RangeSize {
            keys,
            revisions: keys / 10,
        },
        cuts: cuts
            .iter()
            .map(|(to, before)| RangeCut {
                to: key(to),
                before: RangeSize {
                    keys: *before,
                    revisions: before / 10,
                },
            })
            .collect(),
        blocks: Vec::new(),
    }
}

fn index(ranges: Vec<CachedRange>) -> Index {
    Index {
        version: VERSION,
        registry: "r".to_owned(),
        ranges,
        excluded: Vec::new(),
    }
}

#[test]
fn an_index_is_sound_only_if_its_ranges_tile_and_leave_repositories_whole() {
    let good = index(vec![
        range(None, Some("b/_"), 10, &[("a/_", 5)]),
        range(Some("b/_"), None, 10, &[("c/", 5)]),
    ]);
    assert!(good.is_sound("r"));
    assert!(!good.is_sound("other"));
    for bad in [
        vec![],
        vec![range(None, Some("b/_"), 10, &[])],
        vec![range(Some("b/_"), None, 10, &[])],
        vec![range(None, Some("b/_"), 1, &[]), range(Some("c/_"), None, 1, &[])],
        vec![range(None, None, 1, &[]), range(None, None, 1, &[])],
        // A repository taken apart, at the end of a range and within one.
        vec![
            range(None, Some("b/_manifests/tags/v1/current/link"), 1, &[]),
            range(Some("b/_manifests/tags/v1/current/link"), None, 1, &[]),
        ],
        vec![range(None, None, 1, &[("b/_layers/", 1)])],
        vec![range(None, None, 1, &[("b/_", 1), ("a/_", 1)])],
    ] {
        assert!(!index(bad.clone()).is_sound("r"), "{bad:?}");
    }
    let mut other_version = good;
    other_version.version += 1;
    assert!(!other_version.is_sound("r"));
}

#[test]
fn small_ranges_are_brought_together_and_large_ones_cut() {
    let limit = |keys| RangeSize {
        keys,
        revisions: u64::MAX,
    };
    let large = range(None, Some("m/_"), 90, &[("a/_", 30), ("b/_", 60)]);
    let small = [
        range(Some("m/_"), Some("n/_"), 5, &[]),
        range(Some("n/_"), None, 5, &[]),
    ];
    let all: Vec<_> = [large].into_iter().chain(small).collect();
    let ends = |ranges: Vec<KeyRange>| -> Vec<Option<String>> {
        ranges
            .into_iter()
            .map(|range| Some(range.to?.rsplit_once("repositories/")?.1.to_owned()))
            .collect()
    };
    let named = |names: &[&str]| -> Vec<Option<String>> {
        let named = names.iter().map(|name| Some((*name).to_owned()));
        named.chain([None]).collect()
    };
    assert_eq!(ends(group(&all, 3, limit(1_000))), named(&["a/_", "b/_"]));
    assert_eq!(ends(group(&all, 1, limit(1_000))), named(&[]));
    assert_eq!(ends(group(&all, 1, limit(60))), named(&["b/_"]));
    assert_eq!(
        ends(group(&all, 100, limit(1_000))),
        named(&["a/_", "b/_", "m/_", "n/_"])
    );
}

proptest! {
    #[test]
    fn groups_tile_the_key_space(
        sizes in prop::collection::vec((prop_oneof![0..500_u64, Just(u64::MAX)], prop::collection::vec(0..500_u64, 0..4)), 1..20),
        wanted in 0..40_usize,
        limit in 1..2_000_u64,
    ) {
        let mut number = 0;
        let mut next = || { number += 1; format!("docker/registry/v2/repositories/{number:06}/_") };
        let mut ranges = Vec::new();
        let mut after = None;
        let last = sizes.len() - 1;
        for (place, (keys, mut cuts)) in sizes.into_iter().enumerate() {
            cuts.sort_unstable();
            let cuts = cuts.into_iter().map(|before| RangeCut { to: next(), before: RangeSize { keys: before.min(keys), revisions: 0 } });
            let cuts: Vec<_> = cuts.collect();
            let to = (place < last).then(&mut next);
            ranges.push(CachedRange {
                range: KeyRange { after: after.clone(), to: to.clone() },
                size: RangeSize { keys, revisions: 0 },
                cuts,
                blocks: Vec::new(),
            });
            after = to;
        }
        prop_assert!(index(ranges.clone()).is_sound("r"));
        let grouped = group(&ranges, wanted, RangeSize { keys: limit, revisions: u64::MAX });
        let mut end = None;
        for range in &grouped {
            prop_assert_eq!(&range.after, &end);
            end.clone_from(&range.to);
        }
        prop_assert_eq!(end, None);
        prop_assert!(grouped[..grouped.len() - 1].iter().all(|range| range.to.is_some()));
    }
}
