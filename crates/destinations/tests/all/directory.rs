//! A directory passes the suite; its files are whole, private, and where their names say.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use rekey_destinations::{
    Created, Destination, DestinationError, Directory, Erasable, MAX_LEN, Page, open,
};
use tempfile::TempDir;

use crate::suite::{self, name};

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let (_above, path) = place();
    suite::conforms(Arc::new(Directory::new(&path))).await;
    assert_eq!(fs::read_dir(path.join(".new")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_person_takes_objects_away() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    suite::prunes(Arc::new(directory.clone()), &directory).await;
}

#[tokio::test]
async fn it_is_opened_by_a_url_and_can_be_erased() {
    let (_above, path) = place();
    let url = format!("file://{}", path.display());
    let destination = open(&url.parse().unwrap()).unwrap();
    assert_eq!(destination.place(), url);
    destination.create(&name("a/b"), b"1").await.unwrap();
    assert_eq!(fs::read(path.join("a/b")).unwrap(), b"1");
    assert_eq!(destination.erasable().await, Ok(Erasable::Yes));
}

#[tokio::test]
async fn files_and_directories_are_their_owners_alone() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    directory.create(&name("a/b/c"), b"1").await.unwrap();
    for (part, expected) in [
        ("", 0o700),
        ("a", 0o700),
        ("a/b", 0o700),
        (".new", 0o700),
        ("a/b/c", 0o600),
    ] {
        let mode = fs::metadata(path.join(part)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, expected, "{part}");
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_no_empty_one() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    let no_place = DestinationError::NoPlace {
        place: directory.place(),
    };
    let read = directory.read(&name("a/b")).await;
    assert_eq!(read, Err(no_place.clone()));
    let listed = directory.list(&"a".parse().unwrap(), None).await;
    assert_eq!(listed, Err(no_place));
    // The disk is not mounted: nothing is made in its stead.
    let deeper = Directory::new(path.join("deeper"));
    let made = deeper.create(&name("a/b"), b"1").await;
    assert_eq!(
        made,
        Err(DestinationError::NoPlace {
            place: deeper.place()
        })
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn no_symbolic_link_is_followed() {
    for part in ["", "a", "a/b", ".new"] {
        let (above, path) = place();
        let elsewhere = above.path().join("elsewhere");
        fs::create_dir_all(elsewhere.join("a")).unwrap();
        fs::write(elsewhere.join("a/b"), "1").unwrap();
        let (link, to) = (
            path.join(part),
            elsewhere.join(part.trim_start_matches(".new")),
        );
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(to, if part.is_empty() { &path } else { &link }).unwrap();
        let directory = Directory::new(&path);
        let made = directory.create(&name("a/b"), b"1").await;
        is_in_the_way(made.unwrap_err(), "a symbolic link");
        if part != ".new" {
            let read = directory.read(&name("a/b")).await;
            is_in_the_way(read.unwrap_err(), "a symbolic link");
        }
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1, "{part}");
    }
}

#[tokio::test]
async fn links_and_what_is_no_name_are_not_listed() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    directory.create(&name("a/b"), b"1").await.unwrap();
    symlink(path.join("a/b"), path.join("a/link")).unwrap();
    symlink(&path, path.join("a/loop")).unwrap();
    for other in [".hidden", "CAPITAL", "a b", "a..b", "ends."] {
        fs::write(path.join("a").join(other), "1").unwrap();
    }
    fs::create_dir_all(path.join("a/2/3/4/5/6")).unwrap();
    fs::write(path.join("a/2/3/4/5/6/7"), "1").unwrap();
    let page = directory.list(&"a".parse().unwrap(), None).await;
    assert_eq!(
        page,
        Ok(Page {
            names: vec![name("a/b")],
            more: false
        })
    );
}

#[tokio::test]
async fn what_is_no_file_is_neither_read_nor_waited_for() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    directory.create(&name("a/b"), b"1").await.unwrap();
    fs::create_dir(path.join("a/directory")).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(path.join("a/pipe"))
        .status();
    assert!(pipe.unwrap().success());
    for (of, found) in [
        ("a/directory", "a directory"),
        ("a/pipe", "a pipe, a socket or a device"),
    ] {
        is_in_the_way(directory.read(&name(of)).await.unwrap_err(), found);
        is_in_the_way(directory.create(&name(of), b"1").await.unwrap_err(), found);
    }
    is_in_the_way(
        directory.create(&name("a/b/c"), b"1").await.unwrap_err(),
        "a file",
    );
}

#[tokio::test]
async fn a_huge_file_is_refused_unread() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    directory.create(&name("a/b"), b"1").await.unwrap();
    fs::File::create(path.join("a/huge"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let too_long = DestinationError::TooLong {
        place: directory.place(),
        limit: MAX_LEN,
    };
    assert_eq!(directory.read(&name("a/huge")).await, Err(too_long.clone()));
    assert_eq!(directory.create(&name("a/huge"), b"1").await, Err(too_long));
}

#[tokio::test]
async fn a_file_that_was_left_on_its_way_never_counts_and_is_removed() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    directory.create(&name("a/b"), b"1").await.unwrap();
    let (left, alive) = (path.join(".new/left"), path.join(".new/alive"));
    fs::write(&left, "ha").unwrap();
    let maker = fs::File::create(&alive).unwrap();
    maker.lock().unwrap();
    let made = directory.create(&name("a/c"), b"half").await;
    assert_eq!(made, Ok(Created::Created));
    assert!(!left.exists(), "nobody makes it any more");
    assert!(alive.exists(), "its maker lives");
    drop(maker);
    directory.create(&name("a/d"), b"half").await.unwrap();
    assert!(!alive.exists());
    let page = directory.list(&"a".parse().unwrap(), None).await.unwrap();
    assert_eq!(page.names, ["a/b", "a/c", "a/d"].map(name));
}

#[tokio::test]
async fn what_was_altered_is_told_and_left_as_it_is() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    directory.create(&name("a/b"), b"whole").await.unwrap();
    for altered in ["whol", "Whole", ""] {
        fs::write(path.join("a/b"), altered).unwrap();
        let told = directory.create(&name("a/b"), b"whole").await.unwrap_err();
        assert!(
            matches!(told, DestinationError::OtherBytes { .. }),
            "{told}"
        );
        assert_eq!(fs::read_to_string(path.join("a/b")).unwrap(), altered);
    }
}

fn is_in_the_way(error: DestinationError, what: &str) {
    let DestinationError::InTheWay { found, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(found, what);
}

/// A directory that is not made yet, in one that is.
pub fn place() -> (TempDir, PathBuf) {
    let above = tempfile::tempdir().unwrap();
    let path = Path::new(&above.path().canonicalize().unwrap()).join("backups");
    (above, path)
}
