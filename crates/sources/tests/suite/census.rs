//! The census: what it counts is what a naive count over all values gives.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, test_runner::TestRunner};
use rekey_domain::{Found, KeyId};
use rekey_envelope::{Ciphertext, decode_base64};
use tokio::runtime::Runtime;

use super::fixture::{
    Fixture, NEW, OLD, Patient, base64, census_of, ciphertext, notes, patient, read_all, ssn,
    whole as whole_table,
};

pub fn a_census_equals_a_naive_count<F: Fixture>(runtime: &Runtime, new: impl AsyncFn() -> F) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let rows = vec((option::of(bytes()), option::of(text())), 1..60);
    let fixture = runtime.block_on(new());
    let checked = runner.run(&rows, |rows| {
        runtime.block_on(async {
            fixture.execute("DELETE FROM patients").await;
            check(&fixture, &rows).await;
        });
        Ok(())
    });
    checked.unwrap();
}

/// Few keys, so that groups grow, and everything that is nearly ciphertext.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()];
    prop_oneof![
        6 => (key, any::<u64>(), 5..90usize)
            .prop_map(|(key, seed, len)| ciphertext(KeyId::new(key), seed, len)),
        1 => vec(any::<u8>(), 0..9),
        1 => vec(Just(1u8), 0..7),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => bytes().prop_map(|bytes| rekey_envelope::encode_base64(&bytes)),
        1 => "AQ[A-Za-z0-9+/=_-]{0,9}",
        1 => "\\PC{0,12}",
    ]
}

type Values = (Option<Vec<u8>>, Option<String>);

async fn check(fixture: &impl Fixture, rows: &[Values]) {
    let patient = |(at, (ssn, notes)): (usize, &Values)| Patient {
        ssn: ssn.clone(),
        notes: notes.clone(),
        ..patient(at as i64 * 3 - 50, OLD)
    };
    let patients: Vec<_> = rows.iter().enumerate().map(patient).collect();
    fixture.insert(&patients).await;
    for (column, naive) in [
        (ssn(), naive(rows, |row| Some(what(row.0.as_deref()?)))),
        (
            notes(),
            naive(rows, |row| Some(what_text(row.1.as_deref()?))),
        ),
    ] {
        let census = census_of(fixture.source(), "patients", &column).await;
        assert_eq!(census.unwrap(), naive, "{}", column.name);
    }
}

fn naive(rows: &[Values], found: impl Fn(&Values) -> Option<Found>) -> Vec<(Found, u64)> {
    let mut counts = BTreeMap::new();
    for found in rows.iter().filter_map(found) {
        *counts.entry(found).or_default() += 1;
    }
    counts.into_iter().collect()
}

fn what(value: &[u8]) -> Found {
    match Ciphertext::parse(value) {
        _ if value.is_empty() => Found::Empty,
        Ok(ciphertext) => Found::Key(ciphertext.key_id()),
        Err(_) => Found::NotCiphertext,
    }
}

fn what_text(value: &str) -> Found {
    let blanks = [' ', '\t', '\r', '\n'];
    match decode_base64(value) {
        _ if value.len() <= 255 && value.trim_matches(blanks).is_empty() => Found::Empty,
        Ok(bytes) => what(&bytes),
        Err(_) => Found::NotCiphertext,
    }
}

/// As columns have that are `NOT NULL DEFAULT ''`, or `char(n)`, and forms that people leave with a blank.
pub async fn empty_values_are_counted_apart_and_left_alone(fixture: &impl Fixture) {
    let blank = |id, notes: &str| Patient {
        ssn: Some(Vec::new()),
        notes: Some(notes.to_owned()),
        ..patient(id, OLD)
    };
    let rows = [
        blank(1, ""),
        blank(2, " \t\r\n"),
        blank(3, " - "),
        patient(4, OLD),
    ];
    fixture.insert(&rows).await;
    let source = fixture.source();
    let counted = census_of(source, "patients", &ssn()).await.unwrap();
    assert_eq!(counted, [(Found::Key(OLD), 1), (Found::Empty, 3)]);
    let counted = census_of(source, "patients", &notes()).await.unwrap();
    let expected = [
        (Found::Key(OLD), 1),
        (Found::NotCiphertext, 1),
        (Found::Empty, 2),
    ];
    assert_eq!(counted, expected);
    let query = whole_table(source, vec![ssn(), notes()]).await;
    let read = read_all(source, &query).await;
    let ids: Vec<_> = read.iter().map(super::fixture::id).collect();
    assert_eq!(ids, [3, 4]);
    assert!(
        read[0].values[0].is_none(),
        "of a row, too, it is left alone"
    );
}

pub async fn what_only_begins_as_ciphertext_is_none(fixture: &impl Fixture) {
    let whole = base64(NEW, 1);
    let bad = [
        format!(
            "{} plain text that is longer than any ciphertext",
            &whole[..7]
        ),
        whole[..40].to_owned(),
        format!("{whole}AAA"),
        format!("{whole}\n"),
        format!("{}é", &whole[..whole.len() - 2]),
        whole.replacen('A', "=", 1),
        // Stray bits, as no encoder leaves them.
        format!("{}AAB=", &whole[..76]),
        format!("{}AB==", &whole[..76]),
        format!("{}A===", &whole[..76]),
        whole.replace('A', "-"),
    ];
    let mut patients: Vec<_> = (1..)
        .zip(&bad)
        .map(|(id, bad)| Patient {
            ssn: Some(ciphertext(NEW, id as u64, (id as usize * 3) % 33)),
            notes: Some(bad.clone()),
            ..patient(id, NEW)
        })
        .collect();
    patients.push(patient(100, NEW));
    fixture.insert(&patients).await;
    let bad = bad.len() as u64;
    for column in [ssn(), notes()] {
        let census = census_of(fixture.source(), "patients", &column).await;
        let expected = [(Found::Key(NEW), 1), (Found::NotCiphertext, bad)];
        assert_eq!(census.unwrap(), expected, "{}", column.name);
        let query = whole_table(fixture.source(), vec![column]).await;
        let read = read_all(fixture.source(), &query).await;
        assert_eq!(
            read.len() as u64,
            bad,
            "each is met, though its first bytes are settled"
        );
    }
}
