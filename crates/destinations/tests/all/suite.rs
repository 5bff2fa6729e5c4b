//! What every destination must do, whatever keeps the bytes.

use std::{sync::Arc, time::Duration};

use rekey_destinations::{
    Created, Destination, DestinationError, Found, MAX_LEN, ObjectName, PAGE, Page,
};
use tokio::task::JoinSet;

/// All that holds of a destination that is empty.
pub async fn conforms(destination: Arc<dyn Destination>) {
    what_is_not_there_is_missing(&*destination).await;
    what_is_made_is_read_and_listed(&*destination).await;
    made_again_it_is_already_there(&*destination).await;
    other_bytes_are_refused_and_nothing_is_overwritten(&*destination).await;
    no_bytes_and_the_most_bytes_are_kept_and_no_more(&*destination).await;
    of_writers_of_equal_bytes_one_has_made_it(&destination).await;
    of_writers_of_other_bytes_one_wins(&destination).await;
    names_come_in_pages_in_order(&destination).await;
    folders_hold_their_own_names_only(&*destination).await;
}

/// A name.
pub fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
}

async fn what_is_not_there_is_missing(destination: &dyn Destination) {
    // A directory is made with its first object.
    destination
        .create(&name("first/object"), b"1")
        .await
        .unwrap();
    for text in ["first/other", "nowhere/object", "nowhere/at/all"] {
        let missing = DestinationError::Missing {
            place: destination.place(),
            name: name(text),
        };
        assert!(!missing.is_retryable());
        assert_eq!(destination.read(&name(text)).await, Err(missing));
    }
    let nothing = destination.list(&"nowhere".parse().unwrap(), None).await;
    assert_eq!(
        nothing,
        Ok(Page {
            names: Vec::new(),
            more: false
        })
    );
}

async fn what_is_made_is_read_and_listed(destination: &dyn Destination) {
    let text =
        "bundles/0a1b2c3d/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.json";
    let bytes: Vec<u8> = (0..=255).collect();
    let made = destination.create(&name(text), &bytes).await;
    assert_eq!(made, Ok(Created::Created));
    assert_eq!(destination.read(&name(text)).await, Ok(bytes));
    for folder in ["bundles", "bundles/0a1b2c3d"] {
        let page = destination.list(&folder.parse().unwrap(), None).await;
        assert_eq!(
            page,
            Ok(Page {
                names: vec![name(text)],
                more: false
            })
        );
    }
}

async fn made_again_it_is_already_there(destination: &dyn Destination) {
    let name = name("again/object");
    let made = destination.create(&name, b"same").await;
    assert_eq!(made, Ok(Created::Created));
    for _ in 0..2 {
        let again = destination.create(&name, b"same").await;
        assert_eq!(again, Ok(Created::AlreadyThere));
    }
}

async fn other_bytes_are_refused_and_nothing_is_overwritten(destination: &dyn Destination) {
    let name = name("other/object");
    destination.create(&name, b"first").await.unwrap();
    for other in [&b"other"[..], b"firs", b"first ", b""] {
        let refused = destination.create(&name, other).await.unwrap_err();
        assert!(!refused.is_retryable());
        let DestinationError::OtherBytes {
            expected, found, ..
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!((expected.len, found.len), (other.len(), 5));
        let Found { sha256, .. } = *found;
        assert!(sha256.starts_with("a7937b64b8caa58f"), "{sha256}");
        assert_eq!(destination.read(&name).await.unwrap(), b"first");
    }
}

async fn no_bytes_and_the_most_bytes_are_kept_and_no_more(destination: &dyn Destination) {
    for len in [0, MAX_LEN] {
        let (name, bytes) = (name(&format!("lengths/{len}")), vec![7; len]);
        let made = destination.create(&name, &bytes).await;
        assert_eq!(made, Ok(Created::Created));
        assert!(destination.read(&name).await.unwrap() == bytes, "{len}");
    }
    let too_long = name("lengths/too-long");
    let refused = destination.create(&too_long, &vec![7; MAX_LEN + 1]).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, DestinationError::TooLongToWrite { .. }),
        "{refused}"
    );
    let there = destination.read(&too_long).await.unwrap_err();
    assert!(matches!(there, DestinationError::Missing { .. }), "{there}");
}

async fn of_writers_of_equal_bytes_one_has_made_it(destination: &Arc<dyn Destination>) {
    for round in 0..5 {
        let made = at_once(destination, &format!("equal/{round}"), |_| vec![round; 500]).await;
        let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
        let first = made.iter().filter(|made| **made == Created::Created);
        assert_eq!(first.count(), 1, "{made:?}");
    }
}

async fn of_writers_of_other_bytes_one_wins(destination: &Arc<dyn Destination>) {
    for round in 0..5 {
        let name_of = format!("race/{round}");
        let made = at_once(destination, &name_of, |writer| vec![writer; 500]).await;
        let won = made.iter().filter(|made| **made == Ok(Created::Created));
        assert_eq!(won.count(), 1, "{made:?}");
        let lost = made
            .iter()
            .filter(|made| matches!(made, Err(DestinationError::OtherBytes { .. })));
        assert_eq!(lost.count(), made.len() - 1, "{made:?}");
        let there = destination.read(&name(&name_of)).await.unwrap();
        assert_eq!(there, vec![there[0]; 500]);
    }
}

async fn at_once(
    destination: &Arc<dyn Destination>,
    text: &str,
    bytes: impl Fn(u8) -> Vec<u8>,
) -> Vec<Result<Created, DestinationError>> {
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (destination, name, bytes) = (destination.clone(), name(text), bytes(writer));
        writers.spawn(async move { destination.create(&name, &bytes).await });
    }
    writers.join_all().await
}

async fn names_come_in_pages_in_order(destination: &Arc<dyn Destination>) {
    let all: Vec<_> = (0..PAGE + 3)
        .map(|n| name(&format!("checkpoints/{n:020}")))
        .collect();
    for some in all.chunks(16).rev() {
        let mut writers = JoinSet::new();
        for name in some {
            let (destination, name) = (destination.clone(), name.clone());
            writers.spawn(async move { destination.create(&name, b"{}").await.unwrap() });
        }
        writers.join_all().await;
    }
    let folder = "checkpoints".parse().unwrap();
    let first = destination.list(&folder, None).await.unwrap();
    assert!(first.more && first.names == all[..PAGE]);
    let second = destination.list(&folder, first.names.last()).await.unwrap();
    assert_eq!(
        second,
        Page {
            names: all[PAGE..].to_vec(),
            more: false
        }
    );
    let newest = destination
        .list(&folder, Some(&all[PAGE + 1]))
        .await
        .unwrap();
    assert_eq!(
        newest,
        Page {
            names: all[PAGE + 2..].to_vec(),
            more: false
        }
    );
    let behind = destination.list(&folder, all.last()).await.unwrap();
    assert_eq!(
        behind,
        Page {
            names: Vec::new(),
            more: false
        }
    );
    // One that is not there is as good as one that is.
    let after = Some(name("checkpoints/00000000000000000002.json"));
    let rest = destination.list(&folder, after.as_ref()).await.unwrap();
    assert_eq!((rest.names == all[3..], rest.more), (true, false));
}

async fn folders_hold_their_own_names_only(destination: &dyn Destination) {
    let names = ["near/a/1", "near/a.b", "near/a-b/1", "near/b", "nearer/a/1"].map(name);
    for name in &names {
        destination.create(name, b"").await.unwrap();
    }
    for (folder, mut expected) in [
        ("near", names[..4].to_vec()),
        ("near/a", names[..1].to_vec()),
        ("nearer", names[4..].to_vec()),
        ("nea", Vec::new()),
    ] {
        expected.sort();
        let page = destination
            .list(&folder.parse().unwrap(), None)
            .await
            .unwrap();
        assert_eq!(page.names, expected, "{folder}");
    }
}

/// What a person takes away is gone, and nothing beside it.
pub async fn prunes(destination: Arc<dyn Destination>, prune: &dyn rekey_destinations::Prune) {
    for text in ["old/one", "old/two"] {
        destination.create(&name(text), b"1").await.unwrap();
        let made_at = prune.made_at(&name(text)).await.unwrap().unwrap();
        let age = made_at.elapsed();
        // The other's clock may be ahead a little, and may count whole seconds.
        assert!(age.is_err() || age.unwrap() < Duration::from_secs(60));
    }
    assert_eq!(prune.made_at(&name("never/was")).await, Ok(None));
    for _ in 0..2 {
        assert_eq!(prune.remove(&name("old/one")).await, Ok(()));
    }
    assert_eq!(prune.remove(&name("never/was")).await, Ok(()));
    let gone = destination.read(&name("old/one")).await;
    assert!(matches!(gone, Err(DestinationError::Missing { .. })));
    assert_eq!(destination.read(&name("old/two")).await, Ok(b"1".to_vec()));
    let again = destination.create(&name("old/one"), b"2").await;
    assert_eq!(again, Ok(Created::Created));
}
