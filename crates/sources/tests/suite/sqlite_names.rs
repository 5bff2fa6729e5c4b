//! The names that lead to a SQLite file: beside another one than the application's, its WAL is not.

use rekey_domain::Found;
use rekey_sources::SourceError;

use super::{
    fixture::{Fixture, OLD, census_of, patient, ssn},
    sqlite_fixture::SqliteFixture,
};

fn url_of(fixture: &SqliteFixture, name: &str) -> String {
    format!("sqlite://{}", fixture.directory.path().join(name).display())
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_with_two_names_is_refused_whichever_names_it() {
    let fixture = SqliteFixture::new("wal").await;
    fixture.insert(&[patient(1, OLD)]).await;
    let link = fixture.directory.path().join("link.db");
    std::fs::hard_link(fixture.path(), &link).unwrap();
    for name in ["link.db", "clinic.db"] {
        let opened = rekey_sources::open(&url_of(&fixture, name)).await;
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(error, SourceError::OtherName { .. }), "{error}");
        assert!(error.to_string().contains("hard link"), "{error}");
        assert!(error.is_of_every_row() && !error.is_retryable());
    }
    // The one that is open already meets it, too, until the other name is gone.
    let error = fixture.source().describe("patients").await.unwrap_err();
    assert!(matches!(error, SourceError::OtherName { .. }), "{error}");
    std::fs::remove_file(&link).unwrap();
    let counted = census_of(fixture.source(), "patients", &ssn()).await;
    assert_eq!(counted.unwrap(), [(Found::Key(OLD), 1)]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_symlink_leads_to_the_wal_beside_the_file_itself() {
    let fixture = SqliteFixture::new("wal").await;
    let elsewhere = tempfile::TempDir::new().unwrap();
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(fixture.path(), &link).unwrap();
    let url = format!("sqlite://{}", link.display());
    let source = rekey_sources::open(&url).await.unwrap();
    fixture.insert(&[patient(1, OLD)]).await;
    let counted = census_of(&source, "patients", &ssn()).await;
    assert_eq!(counted.unwrap(), [(Found::Key(OLD), 1)]);
    let id = source.database_id().await.unwrap();
    assert_eq!(id, fixture.source().database_id().await.unwrap());
    let beside: Vec<_> = std::fs::read_dir(elsewhere.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

/// A restore puts another file in the place; a link that is pointed elsewhere is another database, whose count
/// would be none of this one.
#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_pointed_elsewhere_is_not_followed() {
    let (fixture, other) = (
        SqliteFixture::new("wal").await,
        SqliteFixture::new("wal").await,
    );
    fixture.insert(&[patient(1, OLD)]).await;
    let link = fixture.directory.path().join("link.db");
    std::os::unix::fs::symlink(fixture.path(), &link).unwrap();
    let source = rekey_sources::open(&url_of(&fixture, "link.db"))
        .await
        .unwrap();
    let point = |file: &std::path::Path| {
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(file, &link).unwrap();
    };
    point(&other.path());
    let error = census_of(&source, "patients", &ssn()).await.unwrap_err();
    assert!(error.to_string().contains("its link leads to"), "{error}");
    point(&fixture.path());
    let counted = census_of(&source, "patients", &ssn()).await;
    assert_eq!(counted.unwrap(), [(Found::Key(OLD), 1)]);
}
