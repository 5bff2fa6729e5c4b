//! Shares: any threshold of them make the key, and each that is wrong is named before any are combined.

use proptest::{prelude::*, sample::Index};
use rekey_backups::{CombineError, Problem, RecoveryKey, Share, ShareError, Wrong, combine};

fn again(share: &Share) -> Share {
    Share::parse(share.to_text().as_bytes()).unwrap()
}

fn pick(shares: &[Share], numbers: &[u8]) -> Vec<Share> {
    let share = |number: &u8| again(&shares[usize::from(*number) - 1]);
    numbers.iter().map(share).collect()
}

fn problem(at: usize, index: u8, wrong: Wrong) -> Problem {
    Problem { at, index, wrong }
}

fn problems(shares: &[Share], key: &RecoveryKey) -> Vec<Problem> {
    match combine(shares, key.public_key().fingerprint()) {
        Err(CombineError::Problems(problems)) => problems,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("they were combined"),
    }
}

#[test]
fn any_three_of_five_make_the_key_and_two_do_not() {
    let key = RecoveryKey::generate();
    let fingerprint = key.public_key().fingerprint();
    let shares = key.split(3, 5, 17).unwrap();
    for numbers in [[1, 2, 3], [5, 1, 4], [3, 5, 2], [4, 3, 1]] {
        let combined = combine(&pick(&shares, &numbers), fingerprint).unwrap();
        assert_eq!(combined.public_key().fingerprint(), fingerprint);
    }
    assert!(combine(&shares, fingerprint).is_ok());
    let (expected, found) = (3, 2);
    let refused = combine(&pick(&shares, &[4, 2]), fingerprint).err();
    assert_eq!(refused, Some(CombineError::TooFew { expected, found }));
    let refused = combine(&[], fingerprint).err();
    assert!(matches!(
        refused,
        Some(CombineError::TooFew { found: 0, .. })
    ));
}

#[test]
fn a_share_tells_what_it_is() {
    let key = RecoveryKey::generate();
    let shares = key.split(2, 3, 17).unwrap();
    for (share, number) in shares.iter().zip(1..) {
        let share = again(share);
        assert_eq!(
            (share.index(), share.threshold(), share.shares()),
            (number, 2, 3)
        );
        assert_eq!((share.set(), share.counter()), (shares[0].set(), 17));
        assert_eq!(share.fingerprint(), key.public_key().fingerprint());
        assert_eq!(share.to_text(), shares[usize::from(number) - 1].to_text());
        let shown = format!("{share:?}");
        assert_eq!(shown, format!("Share({number} of set {})", share.set()));
    }
}

#[test]
fn only_a_set_that_can_be_is_made() {
    let key = RecoveryKey::generate();
    for (threshold, shares) in [
        (0, 0),
        (0, 5),
        (1, 1),
        (1, 5),
        (4, 3),
        (2, 33),
        (33, 33),
        (255, 255),
    ] {
        let refused = key.split(threshold, shares, 0).err();
        assert_eq!(refused, Some(ShareError::NoSuchSet { threshold, shares }));
    }
    for (threshold, shares) in [(2, 2), (2, 32), (32, 32)] {
        let split = key.split(threshold, shares, u64::MAX).unwrap();
        assert!(combine(&split, key.public_key().fingerprint()).is_ok());
        assert!(split.iter().all(|share| share.to_text().len() < 4096));
    }
}

#[test]
fn no_bit_of_a_share_can_be_changed() {
    let share = &RecoveryKey::generate().split(2, 3, 17).unwrap()[1];
    let text = share.to_text();
    for bit in 0..text.len() * 8 {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = Share::parse(&bytes)
            .expect_err("it was altered")
            .to_string();
        assert!(!refused.contains('\n'), "{refused}");
    }
    for end in 0..text.trim_end().len() {
        assert!(Share::parse(&text.as_bytes()[..end]).is_err());
    }
    assert!(Share::parse(&vec![b' '; 16 * 1024 + 1]).is_err());
}

/// People copy and print them.
#[test]
fn space_and_ends_of_lines_may_change() {
    let share = &RecoveryKey::generate().split(2, 3, 17).unwrap()[1];
    let text = share.to_text();
    for copied in [
        text.replace('\n', "\r\n"),
        text.replace("  ", "\t"),
        text.replace('\n', ""),
        format!("\n {}\n\n", *text),
    ] {
        let read = Share::parse(copied.as_bytes()).unwrap();
        assert_eq!(read.to_text(), text);
    }
}

#[test]
fn the_same_share_twice_is_named() {
    let key = RecoveryKey::generate();
    let shares = key.split(3, 5, 0).unwrap();
    let found = problems(&pick(&shares, &[4, 2, 4]), &key);
    let (at, index, first) = (2, 4, 0);
    assert_eq!(found, [problem(at, index, Wrong::Twice { first })]);
}

#[test]
fn a_share_of_another_set_is_named() {
    let key = RecoveryKey::generate();
    let [one, other] = [(); 2].map(|()| key.split(3, 5, 0).unwrap());
    let mut mixed = pick(&one, &[1, 3]);
    mixed.insert(1, again(&other[1]));
    let found = problems(&mixed, &key);
    let other = Wrong::OtherSet {
        expected: one[0].set(),
        found: other[0].set(),
    };
    assert_eq!(found, [problem(1, 2, other)]);
}

#[test]
fn a_share_of_another_key_is_named() {
    let [key, other] = [(); 2].map(|()| RecoveryKey::generate());
    let [one, foreign] = [&key, &other].map(|key| key.split(2, 3, 0).unwrap());
    let mixed = [again(&foreign[0]), again(&one[1]), again(&foreign[2])];
    let (expected, found) = (
        key.public_key().fingerprint(),
        other.public_key().fingerprint(),
    );
    let foreign_key = Wrong::Foreign { expected, found };
    let named = [(0, 1), (2, 3)].map(|(at, index)| problem(at, index, foreign_key));
    assert_eq!(problems(&mixed, &key), named);
    let all = problems(&pick(&foreign, &[1, 2]), &key);
    assert_eq!(all.len(), 2);
}

/// A holder who alters a share and knows how a checksum is made.
#[test]
fn a_share_that_is_wrong_under_a_right_checksum_is_named() {
    let key = RecoveryKey::generate();
    let shares = key.split(3, 5, 0).unwrap();
    let lie = |share: &Share, from: &str, to: &str| {
        with_a_right_checksum(&share.to_text().replace(from, to))
    };

    let [mine, theirs] = [1, 2].map(|at: usize| value(&shares[at]));
    let refused = Share::parse(&lie(&shares[1], &mine, &theirs)).err();
    assert_eq!(refused, Some(ShareError::NotCommitted { index: 2 }));

    for (from, to) in [
        ("\"threshold\": 3", "\"threshold\": 2"),
        ("\"shares\": 5", "\"shares\": 6"),
        ("\"index\": 2", "\"index\": 3"),
        ("\"index\": 2", "\"index\": 0"),
        ("\"index\": 2", "\"index\": 6"),
        ("\"counter\": 0", "\"counter\": 9"),
        (&shares[0].fingerprint().to_string()[..4], "0000"),
        (&shares[0].set().to_string()[..4], "0000"),
    ] {
        let Ok(lied) = Share::parse(&lie(&shares[1], from, to)) else {
            continue;
        };
        let mut given = pick(&shares, &[1, 3]);
        given.push(lied);
        let found = problems(&given, &key);
        assert_eq!(found.len(), 1, "{from} {found:?}");
    }
    let lied = || Share::parse(&lie(&shares[1], "\"counter\": 0", "\"counter\": 9")).unwrap();
    let given = [lied(), again(&shares[0]), again(&shares[2])];
    let (at, index) = (0, 2);
    assert_eq!(problems(&given, &key), [problem(at, index, Wrong::Altered)]);
    // Of two that contradict each other, either may be the wrong one.
    let given = [lied(), again(&shares[0])];
    let contradicts = Wrong::Contradicts { other: 0 };
    assert_eq!(problems(&given, &key), [problem(1, 1, contradicts)]);
    // A third tells which.
    let given = [lied(), again(&shares[0]), again(&shares[2])];
    assert_eq!(problems(&given, &key), [problem(0, 2, Wrong::Altered)]);
}

#[test]
fn what_contradicts_itself_or_is_of_another_version_is_no_share() {
    let share = &RecoveryKey::generate().split(2, 3, 0).unwrap()[0];
    let changed = |from: &str, to: &str| {
        let text = with_a_right_checksum(&share.to_text().replace(from, to));
        Share::parse(&text).expect_err(to)
    };
    let numbers = [
        ("\"index\": 1", "\"index\": 9"),
        ("\"threshold\": 2", "\"threshold\": 1"),
        ("\"shares\": 3", "\"shares\": 200"),
    ];
    for (from, to) in numbers {
        assert!(
            matches!(changed(from, to), ShareError::Numbers { .. }),
            "{to}"
        );
    }
    let later = changed("recovery-share/v1", "recovery-share/v2");
    assert!(matches!(later, ShareError::Format { .. }));
    for (from, to) in [
        ("\"index\": 1", "\"index\": 256"),
        ("\"counter\": 0", "\"counter\": -1"),
        ("\"set\"", "\"sets\""),
    ] {
        assert!(matches!(changed(from, to), ShareError::Form { .. }), "{to}");
    }
    assert!(matches!(
        Share::parse("[".repeat(9999).as_bytes()),
        Err(ShareError::Form { .. })
    ));
}

/// The secret of a share, as its text has it.
fn value(share: &Share) -> String {
    let text = share.to_text();
    let (_, rest) = text.split_once("\"share\": \"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

fn with_a_right_checksum(text: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let (before, rest) = text.split_once("\"checksum\": \"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    let text = |checksum: &str| format!("{before}\"checksum\": \"{checksum}\"{after}");
    let checksum = &Sha256::digest(text(""))[..8];
    text(&hex::encode(checksum)).into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_threshold_of_any_set_makes_the_key(
        threshold in 2u8..6,
        more in 0u8..6,
        order in proptest::collection::vec(any::<Index>(), 32),
    ) {
        let key = RecoveryKey::generate();
        let mut left = key.split(threshold, threshold + more, 0).unwrap();
        let take = |at: &Index| left.remove(at.index(left.len()));
        let chosen: Vec<_> = order.iter().take(threshold.into()).map(take).collect();
        let combined = combine(&chosen, key.public_key().fingerprint()).unwrap();
        prop_assert_eq!(combined.public_key(), key.public_key());
    }

    #[test]
    fn no_text_is_too_strange_to_be_no_share(text: String) {
        prop_assert!(Share::parse(text.as_bytes()).is_err());
    }
}
