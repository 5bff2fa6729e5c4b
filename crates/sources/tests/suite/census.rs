//! The census: what it counts is what a naive count over all values gives.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, test_runner::TestRunner};
use rekey_domain::{Found, KeyId};
use tokio::runtime::Runtime;

use super::fixture::{Fixture, OLD, Patient, census_of, ciphertext, notes, patient, ssn};

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
        (ssn(), naive(rows, |row| row.0.clone())),
        (notes(), naive(rows, decoded_notes)),
    ] {
        let census = census_of(fixture.source(), "patients", &column).await;
        assert_eq!(census.unwrap(), naive, "{}", column.name);
    }
}

fn naive(rows: &[Values], value: impl Fn(&Values) -> Option<Vec<u8>>) -> Vec<(Found, u64)> {
    let mut counts = BTreeMap::new();
    for value in rows.iter().filter_map(value) {
        let found = match value[..] {
            [1, a, b, c, d, ..] => Found::Key(KeyId::new(u32::from_be_bytes([a, b, c, d]))),
            _ => Found::NotCiphertext,
        };
        *counts.entry(found).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// The bytes that the first seven characters stand for, bit by bit; none if one is not base64.
fn decoded_notes((_, notes): &Values) -> Option<Vec<u8>> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let start: String = notes.as_ref()?.chars().take(7).collect();
    let digits: Option<Vec<_>> = start.chars().map(|c| DIGITS.find(c)).collect();
    let digits = digits
        .filter(|digits| digits.len() == 7)
        .unwrap_or_default();
    let bits = digits
        .iter()
        .fold(0u64, |bits, digit| bits << 6 | *digit as u64);
    Some((bits >> 2).to_be_bytes()[3..].to_vec())
}
