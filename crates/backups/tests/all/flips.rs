//! Every byte of a bundle, changed: none is accepted.

use rekey_backups::{Bundle, BundleError, RecoveryKey};

use crate::sample::{WRAPPED, bundles, by, material, renamed, told};

#[test]
fn no_bit_of_a_bundle_can_be_changed() {
    let recovery = RecoveryKey::generate().public_key();
    for bundle in bundles(Some(&recovery)) {
        for changed in with_each_byte_changed(bundle.as_bytes(), (0..8).map(|bit| 1 << bit)) {
            let refused = Bundle::read(&bundle.name(), &changed).err();
            assert!(matches!(refused, Some(BundleError::OtherBytes { .. })));
        }
    }
}

/// Who may write to a destination gives what they alter a name that fits. A drill refuses it all the same.
#[test]
fn no_byte_can_be_changed_and_the_name_with_it() {
    let (recovery, key) = (RecoveryKey::generate().public_key(), material(0xbb));
    for bundle in bundles(Some(&recovery)) {
        for changed in with_each_byte_changed(bundle.as_bytes(), [0x01, 0x20]) {
            let read = renamed(&bundle, &changed);
            let drilled = read.and_then(|bundle| {
                // The KMS refuses a wrapped key that was altered; here that is any but the one.
                let wrapped = bundle
                    .wrapped()
                    .is_none_or(|(_, wrapped)| wrapped == WRAPPED);
                let drilled = bundle.reseal_and_compare(by(&key), Some(&recovery));
                drilled.map(|_| wrapped)
            });
            assert!(
                !drilled.unwrap_or(false),
                "{}",
                String::from_utf8_lossy(&changed)
            );
        }
    }
}

/// Damage to one seal does not keep the other from opening; whatever opens is the key that was sealed.
#[test]
fn what_opens_of_an_altered_bundle_is_the_key_that_was_sealed() {
    let (recovery, key) = (RecoveryKey::generate(), material(0xbb));
    for bundle in bundles(Some(&recovery.public_key())) {
        let sealed = bundle.open(by(&key)).unwrap();
        let mut opened = [0; 2];
        for changed in with_each_byte_changed(bundle.as_bytes(), [1]) {
            let Ok(bundle) = renamed(&bundle, &changed) else {
                continue;
            };
            let keys = [bundle.open(by(&key)), bundle.recover(&recovery)];
            assert!(keys.iter().any(Result::is_err) || bundle.wrapped().is_some());
            for (at, key) in keys.iter().enumerate() {
                let Ok(key) = key else { continue };
                assert_eq!(told(key), told(&sealed));
                opened[at] += 1;
            }
        }
        assert!(opened.iter().all(|count| *count > 100), "{opened:?}");
    }
}

#[test]
fn a_bundle_that_is_cut_or_extended_is_refused() {
    let recovery = RecoveryKey::generate().public_key();
    for bundle in bundles(Some(&recovery)) {
        let bytes = bundle.as_bytes();
        for end in 0..bytes.len() {
            assert!(Bundle::read(&bundle.name(), &bytes[..end]).is_err());
            assert!(renamed(&bundle, &bytes[..end]).is_err(), "{end}");
        }
        for more in [&b" "[..], b"\n", b"\0", b"{}", bytes] {
            assert!(renamed(&bundle, &[bytes, more].concat()).is_err());
        }
    }
}

/// A seal belongs to what stands in clear around it.
#[test]
fn no_seal_opens_in_another_bundle() {
    let (recovery, key) = (RecoveryKey::generate(), material(0xbb));
    let [phi, own] = bundles(Some(&recovery.public_key()));
    for seal in ["backup", "recovery"] {
        let [ours, theirs] = [&phi, &own].map(|bundle| seal_text(bundle, seal));
        let text = text(&phi).replace(&ours, &theirs);
        assert_ne!(text.as_bytes(), phi.as_bytes());
        let mixed = renamed(&phi, text.as_bytes()).unwrap();
        let opened = match seal {
            "backup" => mixed.open(by(&key)),
            _ => mixed.recover(&recovery),
        };
        assert!(
            matches!(opened, Err(BundleError::NotAuthentic { .. })),
            "{seal}"
        );
    }
}

fn text(bundle: &Bundle) -> String {
    String::from_utf8(bundle.as_bytes().to_vec()).unwrap()
}

/// `"backup":{…}` as it stands in the bundle.
fn seal_text(bundle: &Bundle, seal: &str) -> String {
    let text = text(bundle);
    let from = text.find(&format!("\"{seal}\":")).unwrap();
    let to = from + text[from..].find('}').unwrap();
    text[from..to].to_owned()
}

fn with_each_byte_changed(
    bytes: &[u8],
    by: impl IntoIterator<Item = u8> + Clone,
) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).flat_map(move |at| {
        by.clone().into_iter().map(move |change| {
            let mut changed = bytes.to_vec();
            changed[at] ^= change;
            changed
        })
    })
}
