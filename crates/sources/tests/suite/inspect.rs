//! Looking at a source: figures are near the truth or exact, and ciphertext is found where it stands.

use rekey_domain::{Basis, Found, TextEncoding, Triggers};
use rekey_sources::{
    CandidateTable, CensusColumn, CountedBy, Measure, Sample, SourceError, Spelling, TableMeasure,
    TableRights, TextTable,
};

use super::{
    fixture::{Fixture, NEW, OLD, Patient, ciphertext, found, patient},
    names::NAMES,
};

/// More than any estimate looks at.
const MANY: i64 = 6_000;

fn column(name: &str, encoding: TextEncoding) -> CensusColumn {
    CensusColumn {
        name: name.to_owned(),
        encoding,
        by: CountedBy::Form,
    }
}

fn both() -> [CensusColumn; 2] {
    [
        column("ssn", TextEncoding::Binary),
        column("notes", TextEncoding::Base64),
    ]
}

/// Every third has no notes.
fn patients(ids: impl Iterator<Item = i64>) -> Vec<Patient> {
    let without_notes = |id: i64| Patient {
        notes: patient(id, OLD).notes.filter(|_| id % 3 > 0),
        ..patient(id, OLD)
    };
    ids.map(without_notes).collect()
}

async fn measure(fixture: &impl Fixture, how: Measure) -> TableMeasure {
    let measured = fixture.source().measure("patients", &both(), how).await;
    measured.unwrap()
}

fn assert_near(found: u64, truth: i64, what: &str) {
    let off = (found as f64 - truth as f64).abs() / truth as f64;
    assert!(off < 0.15, "{what}: {found}, in truth {truth}");
}

pub async fn an_empty_table_is_measured_as_empty(fixture: &impl Fixture) {
    for how in [Measure::Estimate, Measure::Count] {
        let measured = measure(fixture, how).await;
        assert_eq!((measured.rows, measured.basis), (0, Basis::Counted));
        assert!(
            measured
                .columns
                .iter()
                .all(|c| (c.values, c.bytes) == (0, 0))
        );
    }
}

/// Nobody ran `ANALYZE`, and the rowids have holes: some rows say about how many there are.
pub async fn a_table_that_was_never_analysed_is_measured_by_some_rows(fixture: &impl Fixture) {
    fixture.insert(&patients((1..=MANY).map(|id| id * 7))).await;
    let measured = measure(fixture, Measure::Estimate).await;
    assert_ne!(measured.basis, Basis::Counted);
    assert_near(measured.rows, MANY, "rows");
    let [ssn, notes] = &measured.columns[..] else {
        panic!()
    };
    assert_near(ssn.values, MANY, "ssn");
    assert_near(ssn.bytes, MANY * 60, "bytes of ssn");
    assert_near(notes.values, MANY * 2 / 3, "notes");
    assert!(
        (120..250).contains(&measured.row_bytes),
        "{}",
        measured.row_bytes
    );
}

pub async fn an_analysed_table_is_measured_by_the_catalogue(fixture: &impl Fixture) {
    fixture.insert(&patients(1..=MANY)).await;
    fixture.execute("ANALYZE").await;
    let measured = measure(fixture, Measure::Estimate).await;
    assert_eq!(measured.basis, Basis::Catalogue);
    assert_near(measured.rows, MANY, "rows");
    assert_near(measured.columns[1].values, MANY * 2 / 3, "notes");
    let row = measured.heap_bytes / MANY as u64;
    assert!((120..250).contains(&row), "{row}");
}

pub async fn counting_counts_every_row(fixture: &impl Fixture) {
    fixture.insert(&patients(1..=MANY)).await;
    fixture.execute("ANALYZE").await;
    // What the catalogue says is out of date.
    fixture
        .execute("DELETE FROM patients WHERE id <= 100")
        .await;
    let measured = measure(fixture, Measure::Count).await;
    assert_eq!((measured.basis, measured.rows), (Basis::Counted, 5_900));
    let [ssn, notes] = &measured.columns[..] else {
        panic!()
    };
    assert_eq!((ssn.values, ssn.bytes), (5_900, 5_900 * 60));
    assert_eq!((notes.values, notes.bytes), (3_933, 3_933 * 80));
}

/// Also where a column stands in an index's expression or condition only.
pub async fn indexes_on_the_columns_are_named(fixture: &impl Fixture) {
    for index in [
        "CREATE INDEX by_name ON patients (name)",
        "CREATE INDEX by_ssn ON patients (name, ssn)",
        "CREATE INDEX by_notes ON patients (lower(notes))",
        "CREATE INDEX with_notes ON patients (name) WHERE notes IS NOT NULL",
    ] {
        fixture.execute(index).await;
    }
    let measured = measure(fixture, Measure::Estimate).await;
    let [ssn, notes] = &measured.columns[..] else {
        panic!()
    };
    assert_eq!(ssn.indexes, ["by_ssn"]);
    assert_eq!(notes.indexes, ["by_notes", "with_notes"]);
}

pub async fn what_is_not_there_cannot_be_looked_at(fixture: &impl Fixture) {
    fixture
        .execute("CREATE VIEW adults AS SELECT * FROM patients")
        .await;
    let source = fixture.source();
    let gone = [column("gone", TextEncoding::Binary)];
    let asked = |relation| source.measure(relation, &gone, Measure::Estimate);
    assert!(matches!(
        asked("nobody").await,
        Err(SourceError::NoSuchTable { .. })
    ));
    assert!(matches!(
        asked("adults").await,
        Err(SourceError::NotATable { .. })
    ));
    assert!(matches!(
        asked("patients").await,
        Err(SourceError::NoSuchColumn { .. })
    ));
    let sampled = source.sample("patients", &gone, 10).await;
    assert!(matches!(sampled, Err(SourceError::NoSuchColumn { .. })));
    let rights = TableRights {
        relation: "patients".to_owned(),
        read: vec!["gone".to_owned()],
        written: Vec::new(),
        triggers: Triggers::Fire,
    };
    assert!(matches!(
        source.check_rights(&rights).await,
        Err(SourceError::NoSuchColumn { .. })
    ));
}

pub async fn a_sample_is_bounded_and_reaches_the_latest_rows(fixture: &impl Fixture) {
    let mut all = patients(1..=MANY);
    let first_of_the_last = all.len() - 20;
    for patient in &mut all[first_of_the_last..] {
        patient.ssn = Some(ciphertext(NEW, 5, 60));
    }
    fixture.insert(&all).await;
    let sample = fixture
        .source()
        .sample("patients", &both(), 400)
        .await
        .unwrap();
    assert!(!sample.whole);
    assert!((200..=2_000).contains(&sample.rows), "{}", sample.rows);
    let keys: Vec<_> = sample.counts[0].iter().map(|(found, _)| *found).collect();
    assert_eq!(keys, [Found::Key(OLD), Found::Key(NEW)]);
    let all = fixture
        .source()
        .sample("patients", &both(), 1_000_000)
        .await
        .unwrap();
    assert_eq!((all.rows, all.whole), (MANY as u64, true));
    assert_eq!(
        all.counts[0],
        [(Found::Key(OLD), 5_980), (Found::Key(NEW), 20)]
    );
}

/// Values of any content are told apart; a column that is computed may be a copy.
pub async fn ciphertext_is_found_in_any_column(fixture: &impl Fixture) {
    let (bytes, sealed) = (fixture.bytes(), fixture.literal(&ciphertext(OLD, 1, 60)));
    let create = format!(
        "CREATE TABLE copies (id INTEGER PRIMARY KEY, ssn {bytes}, \
         copy {bytes} GENERATED ALWAYS AS (ssn) STORED, note TEXT)"
    );
    fixture.execute(&create).await;
    let insert = format!("INSERT INTO copies (id, ssn, note) VALUES (1, {sealed}, 'plain')");
    fixture.execute(&insert).await;
    fixture.execute("INSERT INTO copies (id) VALUES (2)").await;
    let (table, sample) = sampled(fixture, "copies").await;
    let of = |name: &str, encoding| {
        let at = table
            .columns
            .iter()
            .position(|c| *c == column(name, encoding));
        sample.counts[at.unwrap()].clone()
    };
    assert_eq!((sample.rows, sample.whole), (2, true));
    for name in ["ssn", "copy"] {
        assert_eq!(
            of(name, TextEncoding::Binary),
            [(Found::Key(OLD), 1)],
            "{name}"
        );
    }
    assert_eq!(
        of("note", TextEncoding::Base64),
        [(Found::NotCiphertext, 1)]
    );
}

/// In JSON and in hex; what is ciphertext as a whole, or only looks a little like one, is not meant.
pub async fn ciphertext_is_found_within_text(fixture: &impl Fixture) {
    let sealed = ciphertext(OLD, 1, 60);
    let digits = hex::encode(&sealed);
    let base64 = rekey_envelope::encode_base64(&sealed);
    let (bytes, literal) = (fixture.bytes(), fixture.literal(&sealed));
    let create = format!(
        "CREATE TABLE papers (id INTEGER PRIMARY KEY, doc TEXT, digits TEXT, dump TEXT, ascii {bytes}, \
         sealed {bytes}, text TEXT, plain TEXT)"
    );
    fixture.execute(&create).await;
    let ascii = fixture.literal(format!("<{base64}>").as_bytes());
    let upper = digits.to_uppercase();
    let short = &base64[..40];
    for id in 1..=3 {
        let insert = format!(
            "INSERT INTO papers VALUES ({id}, '{{\"a\": 1, \"ssn\": \"{base64}\"}}', '{upper}', '\\x{digits}', \
             {ascii}, {literal}, '{base64}', 'a note {short}')"
        );
        fixture.execute(&insert).await;
    }
    fixture.execute("INSERT INTO papers (id) VALUES (4)").await;
    let found = texts(fixture, "papers").await;
    let base64 = vec![((Spelling::Base64, OLD), 3)];
    let hex = vec![((Spelling::Hex, OLD), 3)];
    let of = |name: &str, counts: &Vec<_>| (name.to_owned(), counts.clone());
    assert_eq!(
        found,
        [
            of("doc", &base64),
            of("digits", &hex),
            of("dump", &hex),
            of("ascii", &base64),
        ]
    );
}

/// Whoever releases a column, or leaves one behind, loses what is in it, in whichever way it is written.
pub async fn ciphertext_that_is_written_in_another_way_is_counted_too(fixture: &impl Fixture) {
    let sealed = ciphertext(OLD, 1, 60);
    let (digits, base64) = (hex::encode(&sealed), rekey_envelope::encode_base64(&sealed));
    let bytes = fixture.bytes();
    let create = format!("CREATE TABLE papers (id INTEGER PRIMARY KEY, sealed {bytes}, text TEXT)");
    fixture.execute(&create).await;
    let upper = digits.to_uppercase();
    let texts = [
        digits.clone(),
        format!("0x{digits}"),
        format!("\\x{digits}"),
        format!(" X''{upper}''"),
        format!("\t{base64}\r\n"),
        format!("\"{base64}\""),
    ];
    let ascii = |text: &str| fixture.literal(text.as_bytes());
    let as_text = texts.iter().map(|text| format!("NULL, '{text}'"));
    let as_bytes = [&digits, &upper, &base64].map(|text| format!("{}, NULL", ascii(text)));
    // Neither is long enough, and the others only look like it.
    let none = [
        &digits[..60],
        &base64[..40],
        "0112345678",
        "Abdominal pain since Monday, no fever so far, to be seen again",
        "AQUARIUM",
    ];
    let none = none.map(|text| format!("{}, ' {text}'", ascii(text)));
    let rows = as_text.chain(as_bytes).chain(none);
    for (id, row) in rows.enumerate() {
        fixture
            .execute(&format!(
                "INSERT INTO papers (id, sealed, text) VALUES ({id}, {row})"
            ))
            .await;
    }
    for by in [CountedBy::Start, CountedBy::AnyForm] {
        for (name, encoding, ours) in [
            ("sealed", TextEncoding::Binary, 3),
            ("text", TextEncoding::Base64, 6),
        ] {
            let column = CensusColumn {
                by,
                ..column(name, encoding)
            };
            let counted = fixture.source().census("papers", &[column], None).await;
            let counted = found(counted.unwrap().remove(0));
            let expected = [(Found::Key(OLD), ours), (Found::NotCiphertext, 5)];
            assert_eq!(counted, expected, "{name} by {by:?}");
        }
    }
    let form = [column("sealed", TextEncoding::Binary)];
    let counted = fixture.source().census("papers", &form, None).await;
    let counted = found(counted.unwrap().remove(0));
    assert_eq!(
        counted,
        [(Found::NotCiphertext, 8)],
        "no rotation opens them"
    );
}

type InTexts = Vec<(String, Vec<((Spelling, rekey_domain::KeyId), u64)>)>;

/// The columns of a table whose text holds ciphertext, and which.
pub async fn texts(fixture: &impl Fixture, name: &str) -> InTexts {
    let tables = fixture.source().text_tables().await.unwrap();
    let is_it = |table: &TextTable| table.full_name.split_once('.').unwrap().1 == name;
    let table = tables.into_iter().find(is_it).unwrap();
    let texts = fixture
        .source()
        .sample_texts(&table.relation, &table.columns, 1_000);
    let texts = texts.await.unwrap();
    assert!(texts.whole);
    let names = table.columns.into_iter().map(|column| column.name);
    let found = names.zip(texts.counts);
    found.filter(|(_, counts)| !counts.is_empty()).collect()
}

pub async fn hostile_names_are_candidates(fixture: &impl Fixture) {
    let (bytes, sealed) = (fixture.bytes(), fixture.literal(&ciphertext(OLD, 1, 60)));
    for name in NAMES {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let create = format!("CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, {quoted} {bytes})");
        fixture.execute(&create).await;
        let insert = format!("INSERT INTO {quoted} VALUES (5, {sealed})");
        fixture.execute(&insert).await;
    }
    for name in NAMES {
        let (table, sample) = sampled(fixture, name).await;
        let found = table.columns.iter().zip(&sample.counts);
        let found = found.filter(|(_, counts)| counts.contains(&(Found::Key(OLD), 1)));
        let found: Vec<_> = found.map(|(column, _)| column.name.as_str()).collect();
        assert_eq!(found, [name]);
        let measured =
            fixture
                .source()
                .measure(&table.relation, &table.columns[..1], Measure::Count);
        assert_eq!(measured.await.unwrap().rows, 1, "{name}");
    }
}

pub async fn a_view_is_no_candidate(fixture: &impl Fixture) {
    fixture
        .execute("CREATE VIEW adults AS SELECT * FROM patients")
        .await;
    let candidates = fixture.source().candidates().await.unwrap();
    let names: Vec<_> = candidates
        .iter()
        .map(|table| table.full_name.as_str())
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].ends_with(".patients"));
}

pub async fn looking_changes_nothing(fixture: &impl Fixture) {
    let all = patients(1..=50);
    fixture.insert(&all).await;
    for how in [Measure::Estimate, Measure::Count] {
        measure(fixture, how).await;
    }
    sampled(fixture, "patients").await;
    let names = vec!["ssn".to_owned()];
    let rights = TableRights {
        relation: "patients".to_owned(),
        read: names.clone(),
        written: names,
        triggers: Triggers::Fire,
    };
    fixture.source().check_rights(&rights).await.unwrap();
    assert_eq!(fixture.patients().await, all);
}

/// The candidate of this name, and what some of its rows hold.
pub async fn sampled(fixture: &impl Fixture, name: &str) -> (CandidateTable, Sample) {
    let candidates = fixture.source().candidates().await.unwrap();
    let is_it = |table: &CandidateTable| table.full_name.split_once('.').unwrap().1 == name;
    let table = candidates.into_iter().find(is_it);
    let table = table.unwrap_or_else(|| panic!("no candidate {name}"));
    let sample = fixture
        .source()
        .sample(&table.relation, &table.columns, 1_000);
    let sample = sample.await.unwrap();
    (table, sample)
}
