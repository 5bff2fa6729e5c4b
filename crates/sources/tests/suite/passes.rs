//! What a census says of a pass: whether values below the target are those that it had to leave.

use std::{collections::HashSet, sync::Arc};

use rekey_domain::{Found, PartId};
use rekey_sources::{CensusColumn, Counted, PassToShow, Source, SourceError, Standing, ValueId};

use super::fixture::{
    Fixture, NEW, OLD, Patient, ReadColumnExt, ciphertext, notes, patient, read_all, ssn, whole,
};

fn columns() -> [CensusColumn; 2] {
    [ssn().to_count(), notes().to_count()]
}

/// A pass that had to leave all that there is now.
pub async fn pass_over(source: &std::sync::Arc<dyn Source>) -> PassToShow {
    let query = whole(source, vec![ssn(), notes()]).await;
    let mut left = vec![HashSet::new(), HashSet::new()];
    for row in read_all(source, &query).await {
        for (at, column) in query.columns.iter().enumerate() {
            if let Some(value) = &row.values[at] {
                left[at].insert(ValueId::of(&query.part, row.key, value, column.encoding));
            }
        }
    }
    PassToShow {
        settled: vec![NEW],
        left,
        fence: None,
        trusts_code: false,
        known: Vec::new(),
        standing: None,
        parts: None,
    }
}

async fn census(fixture: &impl Fixture, pass: &PassToShow) -> Vec<Vec<Counted>> {
    let columns = columns();
    let counted = fixture.source().census("patients", &columns, Some(pass));
    counted.await.unwrap()
}

fn counted_as(key: rekey_domain::KeyId, values: u64) -> Counted {
    counted(Found::Key(key), values, 0)
}

fn counted(found: Found, values: u64, left: u64) -> Counted {
    Counted {
        found,
        values,
        left,
    }
}

pub async fn what_a_pass_left_is_known_by_place_and_nonce(fixture: &impl Fixture) {
    let bad = Patient {
        notes: Some("plain".to_owned()),
        ..patient(3, OLD)
    };
    fixture
        .insert(&[patient(1, NEW), patient(2, OLD), bad])
        .await;
    let pass = pass_over(fixture.source()).await;
    let found = census(fixture, &pass).await;
    let old = Found::Key(OLD);
    assert_eq!(
        found[0],
        [counted(old, 2, 2), counted(Found::Key(NEW), 1, 0)]
    );
    assert_eq!(found[1][0], counted(old, 1, 1));
    assert_eq!(found[1][2], counted(Found::NotCiphertext, 1, 1));

    // As many as before, but others: one is mended, another comes.
    fixture.store_ssn(2, &ciphertext(NEW, 9, 60)).await;
    fixture
        .insert(&[Patient {
            notes: None,
            ..patient(4, OLD)
        }])
        .await;
    let found = census(fixture, &pass).await;
    let below = found[0].iter().find(|one| one.found == old).unwrap();
    assert_eq!(below.values, 2);
    assert!(below.left < 2, "{below:?}");

    // The same place, another nonce.
    fixture.execute("DELETE FROM patients WHERE id = 4").await;
    fixture.store_ssn(3, &ciphertext(OLD, 999, 60)).await;
    let below = census(fixture, &pass).await[0][0];
    assert_eq!((below.found, below.values, below.left), (old, 1, 0));
}

pub async fn more_than_a_pass_left_is_not_looked_at(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, OLD), patient(2, OLD)]).await;
    let mut pass = pass_over(fixture.source()).await;
    pass.left[0].clear();
    let found = census(fixture, &pass).await;
    assert_eq!(found[0], [counted(Found::Key(OLD), 2, 0)]);
    assert_eq!(
        found[1],
        [counted(Found::Key(OLD), 2, 0)],
        "one column's decides"
    );
}

pub async fn a_mark_lets_a_census_count_once_nothing_is_open(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, NEW)]).await;
    let mut pass = pass_over(fixture.source()).await;
    // On a server that others use, theirs have to end too.
    pass.fence = Some(fixture.source().fence().await.unwrap());
    let columns = columns();
    let counted = loop {
        let counted = fixture.source().census("patients", &columns, Some(&pass));
        match counted.await {
            Err(SourceError::OpenTransactions { .. }) => tokio::task::yield_now().await,
            counted => break counted.unwrap(),
        }
    };
    assert_eq!(counted[0], [counted_as(NEW, 1)]);
}

/// A row in quarantine may move to where the pass has been: it is found by its start, under whatever key.
pub async fn a_value_is_found_wherever_it_stands_now(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, NEW), patient(2, OLD)]).await;
    let mut pass = pass_over(fixture.source()).await;
    let starts: HashSet<_> = pass.left[0]
        .iter()
        .map(|id| id.start().unwrap().to_owned())
        .collect();
    let gone = "0".repeat(64);
    let wanted = starts.iter().cloned().chain([gone.clone()]).collect();
    let standing = Arc::new(Standing::new(
        vec![wanted, HashSet::new()],
        vec![HashSet::new(), HashSet::new()],
    ));
    pass.standing = Some(standing.clone());
    // Rewritten, each row is elsewhere.
    fixture.execute("UPDATE patients SET name = 'moved'").await;
    census(fixture, &pass).await;
    assert!(starts.iter().all(|start| standing.times(0, start) == 1));
    assert!(standing.times(0, &gone) == 0 && standing.times(1, &gone) == 0);
}

/// What it opened stands there rightly; what has the same bytes elsewhere does not count for it.
pub async fn a_value_that_the_pass_opened_where_it_stands_is_not_looked_for(
    fixture: &impl Fixture,
) {
    fixture.insert(&[patient(1, OLD), patient(2, OLD)]).await;
    let mut pass = pass_over(fixture.source()).await;
    let mut ids: Vec<_> = pass.left[0].iter().cloned().collect();
    ids.sort();
    let starts: Vec<_> = ids.iter().map(|id| id.start().unwrap()).collect();
    for opened in [0..0, 0..1, 1..2, 0..2] {
        let wanted = starts.iter().map(|start| (*start).to_owned()).collect();
        let there = opened.clone().map(|at| ids[at].clone()).collect();
        let standing = Arc::new(Standing::new(
            vec![wanted, HashSet::new()],
            vec![there, HashSet::new()],
        ));
        pass.standing = Some(standing.clone());
        census(fixture, &pass).await;
        for (at, start) in starts.iter().enumerate() {
            let times = u64::from(!opened.contains(&at));
            assert_eq!(standing.times(0, start), times, "{opened:?} {at}");
        }
    }
}

/// What the pass did not read is not counted for it, and what it read is there.
pub async fn a_census_is_of_just_the_parts_that_the_pass_read(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, NEW)]).await;
    let mut pass = pass_over(fixture.source()).await;
    let parts = fixture.source().parts("patients").await.unwrap();
    let read: Vec<_> = parts.into_iter().map(|part| part.id).collect();
    let columns = columns();
    let counted = async |pass: &PassToShow| {
        let counted = fixture.source().census("patients", &columns, Some(pass));
        counted.await
    };
    pass.parts = Some(read.clone());
    counted(&pass).await.unwrap();
    let other = PartId {
        form: "other".to_owned(),
        ..read[0].clone()
    };
    let gone = PartId {
        name: "gone".to_owned(),
        ..read[0].clone()
    };
    for parts in [vec![], vec![other], vec![read[0].clone(), gone]] {
        pass.parts = Some(parts);
        let refused = counted(&pass).await.unwrap_err();
        assert!(
            matches!(refused, SourceError::PartChanged { .. }),
            "{refused}"
        );
    }
}

/// Another column has the name, or another table.
pub async fn a_census_is_of_the_column_that_was_meant(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, NEW)]).await;
    let mut pass = pass_over(fixture.source()).await;
    let shape = fixture.source().describe("patients").await.unwrap();
    let columns = columns();
    pass.known = columns
        .iter()
        .map(|column| shape.identity(&column.name))
        .collect();
    let counted = async || {
        let counted = fixture.source().census("patients", &columns, Some(&pass));
        counted.await
    };
    counted().await.unwrap();
    // In one session: another may still have the schema of before.
    let kind = &shape.column("ssn").unwrap().declared_type;
    let replace = format!(
        "ALTER TABLE patients RENAME COLUMN ssn TO ssn_old; ALTER TABLE patients ADD COLUMN ssn {kind}"
    );
    fixture.execute(&replace).await;
    let refused = counted().await.unwrap_err();
    assert!(matches!(refused, SourceError::Replaced { .. }), "{refused}");
}
