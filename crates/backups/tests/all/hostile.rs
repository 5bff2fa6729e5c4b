//! Bundles that nobody made: each is refused with one error that shows nothing of theirs.

use proptest::{collection::vec, prelude::*};
use rekey_backups::{Bundle, BundleError, BundleName, RecoveryKey};
use rekey_domain::KeyId;

use crate::sample::{bundles, renamed};

fn bundle() -> (Bundle, String) {
    let [bundle, _] = bundles(Some(&RecoveryKey::generate().public_key()));
    let text = String::from_utf8(bundle.as_bytes().to_vec()).unwrap();
    (bundle, text)
}

fn refused(like: &Bundle, text: &str) -> BundleError {
    let error = renamed(like, text.as_bytes()).expect_err(text);
    let shown = error.to_string();
    assert!(shown.len() < 400 && !shown.contains('\n'), "{shown}");
    error
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let (like, text) = bundle();
    for found in [16 * 1024 + 1, 1 << 20] {
        let long = format!("{text}{}", " ".repeat(found - text.len()));
        let limit = 16 * 1024;
        assert_eq!(refused(&like, &long), BundleError::TooLong { limit, found });
    }
}

#[test]
fn deep_nesting_is_refused() {
    let like = bundle().0;
    let deep = [
        "[".repeat(16_000),
        "{\"format\":".repeat(1_500),
        format!(
            "{{\"format\":\"rekey.bundle/v1\",\"seals\":{}",
            "[".repeat(16_000)
        ),
        format!("{{\"x\":{}{}}}", "[".repeat(8_000), "]".repeat(8_000)),
    ];
    for text in deep {
        assert!(matches!(refused(&like, &text), BundleError::Form { .. }));
    }
}

#[test]
fn another_version_is_said_to_be_that() {
    let (like, text) = bundle();
    for found in [
        "rekey.bundle/v2",
        "rekey.bundle/v1 ",
        "rekey.recovery-share/v1",
        "",
    ] {
        let other = text.replace("rekey.bundle/v1", found);
        let error = refused(&like, &other);
        let BundleError::Format { found: said, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(said, found);
    }
    let later = format!(
        "{{\"format\":\"rekey.bundle/v2{}\",\"new\":[1]}}",
        "\\n".repeat(900)
    );
    assert!(matches!(refused(&like, &later), BundleError::Format { .. }));
}

#[test]
fn fields_that_come_twice_or_are_not_known_are_refused() {
    let (like, text) = bundle();
    let more = [
        text.replacen('{', "{\"format\":\"rekey.bundle/v1\",", 1),
        text.replacen('{', "{\"key_id\":\"0a1b2c3d\",", 1),
        text.replacen('{', "{\"state\":\"ACTIVE\",", 1),
        text.replace("\"seals\":{", "\"seals\":{\"recovery\":null,"),
        text.replace("\"seals\":{", "\"seals\":{\"master\":null,"),
        text.replace("\"seals\":{", "\"seals\":{\"another\":{},"),
        text.replace(
            "\"backup\":{",
            "\"backup\":{\"nonce\":\"AAAAAAAAAAAAAAAA\",",
        ),
        text.replace("\"key_id\"", "\"Key_id\""),
        text.replace("\"deployment\"", "\"d\""),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        String::new(),
        "\u{feff}{}".to_owned(),
    ];
    for text in more {
        let error = refused(&like, &text);
        assert!(
            matches!(error, BundleError::Form { .. } | BundleError::OtherText),
            "{error:?}"
        );
    }
}

#[test]
fn the_same_in_other_bytes_is_refused() {
    let (like, text) = bundle();
    for other in [
        text.replace("\"seals\":", "\"seals\": "),
        text.replace("0192f0c1", "0192F0C1"),
        text.replace(
            "0192f0c1-0000-7000-8000-000000000001",
            "0192f0c1000070008000000000000001",
        ),
        text.replace("bac00001", "BAC00001"),
        text.replace("rekey.bundle", "rekey\\u002ebundle"),
        format!("{text}\n"),
        format!(" {text}"),
    ] {
        assert_ne!(other, text);
        assert_eq!(refused(&like, &other), BundleError::OtherText);
    }
}

#[test]
fn bytes_of_another_length_or_in_other_base64_are_refused() {
    let (like, text) = bundle();
    let nonce = part(&text, "nonce");
    for other in [
        "",
        "AAAA",
        "AAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAA",
        "AAAA-AAAAAAA_AAA",
        "*",
    ] {
        let error = refused(&like, &text.replace(nonce, other));
        assert!(
            matches!(error, BundleError::Form { .. }),
            "{other} {error:?}"
        );
    }
    let encapsulation = part(&text, "encapsulation");
    for other in [&encapsulation[4..], &format!("AAAA{encapsulation}")] {
        let error = refused(&like, &text.replace(encapsulation, other));
        assert!(matches!(error, BundleError::Form { .. }), "{error:?}");
    }
}

#[test]
fn a_ciphertext_without_room_for_its_tag_opens_nothing() {
    let recovery = RecoveryKey::generate();
    let [like, _] = bundles(Some(&recovery.public_key()));
    let mut text = String::from_utf8(like.as_bytes().to_vec()).unwrap();
    for seal in ["\"backup\"", "\"recovery\""] {
        let from = text.find(seal).unwrap();
        let ciphertext = part(&text[from..], "ciphertext").to_owned();
        text = text.replace(&ciphertext, "AAAA");
    }
    let bundle = renamed(&like, text.as_bytes()).unwrap();
    let key = crate::sample::material(0xbb);
    assert!(matches!(
        bundle.open(crate::sample::by(&key)),
        Err(BundleError::NotAuthentic { .. })
    ));
    assert!(matches!(
        bundle.recover(&recovery),
        Err(BundleError::NotAuthentic { .. })
    ));
}

#[test]
fn another_keys_name_is_refused() {
    let (bundle, _) = bundle();
    let name = BundleName::of(KeyId::new(1), bundle.as_bytes());
    let refused = Bundle::read(&name, bundle.as_bytes()).err();
    let (expected, found) = (name, bundle.name());
    assert_eq!(
        refused,
        Some(BundleError::OtherBytes {
            expected: expected.to_string(),
            found: found.to_string()
        })
    );
}

fn part<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split_once('"').unwrap().0
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange_to_be_refused(bytes in vec(any::<u8>(), 0..2000)) {
        let name = BundleName::of(KeyId::new(1), &bytes);
        prop_assert!(Bundle::read(&name, &bytes).is_err());
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused(text in r#"[{}\[\]",:a-z0-9/.]{0,200}"#) {
        let text = format!("{{\"format\":\"rekey.bundle/v1\",{text}");
        let name = BundleName::of(KeyId::new(1), text.as_bytes());
        prop_assert!(Bundle::read(&name, text.as_bytes()).is_err());
    }
}
