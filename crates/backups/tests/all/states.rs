//! States documents: one text for the same states, and none that leads elsewhere.

use rekey_backups::{CheckpointError, KeyRecord, MAX_STATES_LEN, StatesDocument};
use rekey_domain::{KeyId, KeyState};
use uuid::Uuid;

const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A key of each state, in the order of their ids.
pub(crate) fn sample() -> StatesDocument {
    let deployment = "0192f0c1-0000-7000-8000-000000000001";
    let keys = (0x0a1b_2c3d..).zip(KeyState::ALL);
    StatesDocument {
        deployment: deployment.parse().unwrap(),
        deployment_bundle: Some(format!("deployments/{deployment}/{SHA256}.json")),
        keys: keys.map(|(id, state)| record(id, state)).collect(),
    }
}

fn record(id: u32, state: KeyState) -> KeyRecord {
    let key_id = KeyId::new(id);
    let (was_primary, reported) = (state != KeyState::Pending, state == KeyState::Compromised);
    let bundle = (state != KeyState::Destroyed).then(|| format!("bundles/{key_id}/{SHA256}.json"));
    KeyRecord {
        key_id,
        keyring: "0192f0c1-0000-7000-8000-0000000000aa".parse().unwrap(),
        state,
        first_primary_at: was_primary.then(|| "2026-11-30T09:00:00Z".parse().unwrap()),
        reported_at: reported.then(|| "2026-11-30T10:00:00.000001Z".parse().unwrap()),
        bundle,
    }
}

fn read(document: &StatesDocument) -> Result<StatesDocument, CheckpointError> {
    read_text(&document.to_bytes())
}

/// Under a name that fits, as who may write to a destination would store it.
fn read_text(bytes: &[u8]) -> Result<StatesDocument, CheckpointError> {
    StatesDocument::read(&StatesDocument::name_of(sample().deployment, bytes), bytes)
}

#[test]
fn it_is_read_as_it_is_written() {
    assert_eq!(read(&sample()), Ok(sample()));
    let empty = StatesDocument {
        deployment_bundle: None,
        keys: Vec::new(),
        ..sample()
    };
    assert_eq!(read(&empty), Ok(empty));
}

#[test]
fn the_order_of_keys_makes_no_difference() {
    let mut turned = sample();
    turned.keys.reverse();
    assert_eq!(turned.to_bytes(), sample().to_bytes());
}

#[test]
fn whatever_is_known_makes_another_document() {
    let changes: [fn(&mut KeyRecord); 6] = [
        |key| key.key_id = KeyId::new(1),
        |key| key.keyring = Uuid::nil(),
        |key| key.state = KeyState::Destroyed,
        |key| key.first_primary_at = None,
        |key| key.reported_at = key.first_primary_at,
        |key| key.bundle = None,
    ];
    for change in changes {
        let mut changed = sample();
        change(&mut changed.keys[1]);
        assert_ne!(changed.to_bytes(), sample().to_bytes());
    }
}

#[test]
fn no_bit_of_it_can_be_changed() {
    let bytes = sample().to_bytes();
    let name = StatesDocument::name_of(sample().deployment, &bytes);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let refused = StatesDocument::read(&name, &changed).err();
            assert!(matches!(refused, Some(CheckpointError::OtherBytes { .. })));
        }
    }
    for end in 0..bytes.len() {
        assert!(StatesDocument::read(&name, &bytes[..end]).is_err());
        assert!(read_text(&bytes[..end]).is_err());
    }
}

#[test]
fn another_name_is_refused() {
    let bytes = sample().to_bytes();
    let name = StatesDocument::name_of(sample().deployment, &bytes);
    let of_another = StatesDocument::name_of(Uuid::nil(), &bytes);
    let refused = StatesDocument::read(&of_another, &bytes).err();
    let (expected, found) = (of_another, name.clone());
    assert_eq!(
        refused,
        Some(CheckpointError::OtherName { expected, found })
    );
    for bad in [
        "",
        "states/7/a.json",
        &name[1..],
        &name.to_uppercase(),
        &name.replace("0192f0c1", "0192F0C1"),
        &format!("{name}/"),
        &"x".repeat(9000),
    ] {
        let error = StatesDocument::read(bad, &bytes).unwrap_err();
        assert!(error.to_string().len() < 500, "{error}");
    }
}

#[test]
fn a_key_is_there_once() {
    let mut twice = sample();
    twice.keys.push(twice.keys[2].clone());
    let key_id = twice.keys[2].key_id;
    assert_eq!(read(&twice), Err(CheckpointError::KeyTwice { key_id }));
}

#[test]
fn the_same_states_have_one_text() {
    let text = String::from_utf8(sample().to_bytes()).unwrap();
    let first = "{\"key_id\":\"0a1b2c3d\"";
    let moved = text.replacen("0a1b2c3d\",\"keyring", "0a1b2c3f\",\"keyring", 1);
    let bad = [
        text.replacen(first, "{ \"key_id\":\"0a1b2c3d\"", 1),
        text.replacen(first, "{\"name\":\"hiv\",\"key_id\":\"0a1b2c3d\"", 1),
        text.replacen("09:00:00.000000Z", "09:00:00Z", 1),
        text.replacen("PENDING\"", "PENDING\",\"reported_at\":null", 1),
        text.replacen("PENDING", "pending", 1),
        text.replace(":\"rekey.states/v1\"", ":\"rekey.states/v1\",\"x\":1"),
        format!("{text}\n"),
        moved,
    ];
    for changed in bad {
        assert_ne!(changed, text);
        let refused = read_text(changed.as_bytes()).unwrap_err();
        let strict = matches!(
            refused,
            CheckpointError::OtherText | CheckpointError::Form { .. }
        );
        assert!(strict, "{refused}");
    }
    let later = text.replace("rekey.states/v1", "rekey.states/v2");
    let refused = read_text(later.as_bytes()).err();
    assert!(matches!(refused, Some(CheckpointError::Schema { .. })));
}

#[test]
fn it_leads_to_bundles_only() {
    for bad in [
        "",
        "../bundles",
        &format!("bundles/00000001/{SHA256}.json"),
        &format!("bundles/0a1b2c3e/{}.json", SHA256.to_uppercase()),
    ] {
        let mut changed = sample();
        changed.keys[1].bundle = Some(bad.to_owned());
        let refused = read(&changed).err();
        assert!(matches!(refused, Some(CheckpointError::OtherBundle { .. })));
    }
    for bad in [
        "",
        &format!("deployments/{}/{SHA256}.json", Uuid::nil()),
        &format!("deployments/{}/..", sample().deployment),
    ] {
        let mut changed = sample();
        changed.deployment_bundle = Some(bad.to_owned());
        let refused = read(&changed).err();
        assert!(matches!(
            refused,
            Some(CheckpointError::OtherDeploymentBundle { .. })
        ));
    }
}

/// The longest record that there is.
#[test]
fn ten_thousand_keys_stay_below_half_of_what_is_read() {
    let longest = |id| KeyRecord {
        first_primary_at: Some("2026-11-30T09:00:00Z".parse().unwrap()),
        ..record(id, KeyState::Compromised)
    };
    let many = StatesDocument {
        keys: (0..10_000).map(longest).collect(),
        ..sample()
    };
    let length = many.to_bytes().len();
    assert!(length < 4 * 1024 * 1024, "{length}");
    assert_eq!(read(&many), Ok(many));
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let (limit, found) = (MAX_STATES_LEN, MAX_STATES_LEN + 1);
    let refused = read_text(&vec![b' '; found]).err();
    assert_eq!(refused, Some(CheckpointError::TooLong { limit, found }));
}
