//! Triggers and rules of the user's that change our updates or keep them from rows: no value is lost to one.

use std::sync::Arc;

use rekey_domain::Triggers;
use rekey_sources::{
    ReadQuery, RowUpdate, Source, SourceError, StoredValue, WriteOutcome, WriteTarget,
};
use sqlx::Connection;

use super::{
    fixture::{
        Fixture, NEW, OLD, base64, id, in_a_minute, notes, patient, read_all, swap, target, whole,
    },
    postgres_census::until_we_wait,
    postgres_fixture::PostgresFixture,
    sqlite_fixture::SqliteFixture,
};

/// Ten patients whose notes, text, are to be moved.
pub async fn ten(fixture: &impl Fixture) -> (ReadQuery, Vec<RowUpdate>) {
    let patients: Vec<_> = (1..=10).map(|id| patient(id, OLD)).collect();
    fixture.insert(&patients).await;
    moves(fixture.source()).await
}

pub async fn moves(source: &Arc<dyn Source>) -> (ReadQuery, Vec<RowUpdate>) {
    let mut query = whole(source, vec![notes()]).await;
    query.trusts_code = true;
    let rows = read_all(source, &query).await;
    let new = |row| StoredValue::Text(base64(NEW, id(row) as u64));
    let updates = rows.iter().map(|row| swap(row, &notes(), new(row)));
    (query, updates.collect())
}

pub async fn write(
    source: &Arc<dyn Source>,
    query: &ReadQuery,
    updates: &[RowUpdate],
    triggers: Triggers,
) -> Result<Vec<WriteOutcome>, SourceError> {
    let mut target = target(query);
    target.triggers = triggers;
    let deadline = in_a_minute(source).await;
    source.write(&target, updates, deadline).await
}

/// Nothing of it stays, and who did it is named.
async fn assert_taken_back(fixture: &impl Fixture, triggers: Triggers, by: &str) {
    let (query, updates) = ten(fixture).await;
    let before = fixture.patients().await;
    let error = write(fixture.source(), &query, &updates, triggers).await;
    let error = error.unwrap_err();
    assert!(
        matches!(&error, SourceError::Rewritten { by: found, .. } if found.contains(by)),
        "{by}: {error}"
    );
    assert_eq!(fixture.patients().await, before, "{by}");
}

const FUNCTIONS: &str = "
    CREATE FUNCTION rewrite() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN new.notes := upper(new.notes); RETURN new; END $$;
    CREATE FUNCTION rewrite_after() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() = 1 THEN
            UPDATE public.patients SET notes = upper(notes) WHERE id = new.id;
        END IF; RETURN NULL; END $$;
    CREATE FUNCTION rewrite_another() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() = 1 AND new.id = 7 THEN
            UPDATE public.patients SET notes = 'gone' WHERE id = 1;
        END IF; RETURN new; END $$;
    CREATE FUNCTION rewrite_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() = 1 THEN UPDATE public.patients SET notes = NULL; END IF; RETURN NULL; END $$;
    CREATE FUNCTION remove() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN DELETE FROM public.patients WHERE id = new.id; RETURN NULL; END $$;
    CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF old.id % 5 = 0 THEN RETURN NULL; END IF; RETURN new; END $$;";

/// Each trigger has the name of its function.
#[tokio::test]
async fn what_a_trigger_of_postgresql_changes_is_taken_back() {
    for (by, trigger) in [
        (
            "rewrite",
            "TRIGGER rewrite BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION rewrite()",
        ),
        (
            "late",
            "TRIGGER late AFTER UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION rewrite_after()",
        ),
        (
            "later",
            "CONSTRAINT TRIGGER later AFTER UPDATE ON patients DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION rewrite_after()",
        ),
        (
            "another",
            "TRIGGER another BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION rewrite_another()",
        ),
        (
            "all_of_it",
            "TRIGGER all_of_it AFTER UPDATE ON patients FOR EACH STATEMENT EXECUTE FUNCTION rewrite_all()",
        ),
        (
            "remove",
            "TRIGGER remove AFTER UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION remove()",
        ),
        (
            "rule blank",
            "RULE blank AS ON UPDATE TO patients DO ALSO \
             DELETE FROM patients WHERE id = old.id AND old.notes IS NOT NULL",
        ),
    ] {
        let fixture = PostgresFixture::new().await;
        fixture
            .execute(&format!("{FUNCTIONS} CREATE {trigger}"))
            .await;
        assert_taken_back(&fixture, Triggers::Fire, by).await;
    }
}

#[tokio::test]
async fn a_trigger_that_fires_even_when_suppressed_loses_nothing_either() {
    let fixture = PostgresFixture::new().await;
    let trigger = "CREATE TRIGGER loud BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION rewrite(); \
                   ALTER TABLE patients ENABLE ALWAYS TRIGGER loud";
    fixture.execute(&format!("{FUNCTIONS} {trigger}")).await;
    assert_taken_back(&fixture, Triggers::Suppress, "loud").await;
}

/// It commits when we have looked, and before we write.
#[tokio::test]
async fn a_trigger_that_comes_between_looking_and_writing_changes_nothing() {
    let fixture = PostgresFixture::new().await;
    let (query, updates) = ten(&fixture).await;
    fixture.execute(FUNCTIONS).await;
    let before = fixture.patients().await;
    let mut theirs = fixture.application.acquire().await.unwrap();
    let mut theirs = theirs.begin().await.unwrap();
    let trigger =
        "CREATE TRIGGER rewrite BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION rewrite()";
    sqlx::query(trigger).execute(&mut *theirs).await.unwrap();
    let commit = async {
        until_we_wait(&mut theirs).await;
        theirs.commit().await.unwrap();
    };
    let (written, ()) = tokio::join!(
        write(fixture.source(), &query, &updates, Triggers::Fire),
        commit
    );
    // Either our lock was not to be had in time, or the statement saw the trigger.
    if let Ok(outcomes) = &written {
        assert!(!outcomes.contains(&WriteOutcome::Written), "{outcomes:?}");
    }
    assert_eq!(fixture.patients().await, before);
    let again = write(fixture.source(), &query, &updates, Triggers::Fire).await;
    assert!(
        matches!(again, Err(SourceError::Rewritten { .. })),
        "{again:?}"
    );
}

/// Five and ten are kept back; what is kept back is no lost race.
async fn assert_some_withheld(fixture: &impl Fixture) {
    let (query, updates) = moves(fixture.source()).await;
    let outcomes = write(fixture.source(), &query, &updates, Triggers::Fire)
        .await
        .unwrap();
    for (at, outcome) in outcomes.iter().enumerate() {
        let expected = match (at + 1) % 5 {
            0 => WriteOutcome::Withheld,
            _ => WriteOutcome::Written,
        };
        assert_eq!(*outcome, expected, "patient {}", at + 1);
    }
    let patients = fixture.patients().await;
    assert_eq!(patients[4], patient(5, OLD));
    assert_eq!(patients[5].notes, Some(base64(NEW, 6)));
}

#[tokio::test]
async fn rows_that_a_trigger_of_postgresql_keeps_back_are_told_from_lost_ones() {
    let fixture = PostgresFixture::new().await;
    ten(&fixture).await;
    let trigger =
        "CREATE TRIGGER skip BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION skip()";
    fixture.execute(&format!("{FUNCTIONS} {trigger}")).await;
    let (query, updates) = moves(fixture.source()).await;
    fixture
        .execute("UPDATE patients SET notes = 'mine' WHERE id = 2")
        .await;
    let lost = write(fixture.source(), &query, &updates[1..2], Triggers::Fire).await;
    assert_eq!(lost.unwrap(), [WriteOutcome::Lost]);
    fixture
        .execute("ALTER TABLE patients DISABLE TRIGGER skip")
        .await;
    let back = format!(
        "UPDATE patients SET notes = '{}' WHERE id = 2",
        base64(OLD, 2)
    );
    fixture.execute(&back).await;
    fixture
        .execute("ALTER TABLE patients ENABLE TRIGGER skip")
        .await;
    assert_some_withheld_in_order(&fixture).await;
}

/// An update moved patient 2 to the end of the heap.
async fn assert_some_withheld_in_order(fixture: &PostgresFixture) {
    fixture
        .execute("CLUSTER patients USING patients_pkey")
        .await;
    assert_some_withheld(fixture).await;
}

#[tokio::test]
async fn what_a_trigger_of_sqlite_changes_is_taken_back() {
    for journal in ["delete", "wal"] {
        for (by, trigger) in [
            (
                "late",
                "late AFTER UPDATE OF notes ON patients BEGIN \
                 UPDATE patients SET notes = upper(notes) WHERE id = new.id; END",
            ),
            (
                "another",
                "another BEFORE UPDATE ON patients WHEN new.id = 7 BEGIN \
                 UPDATE patients SET notes = NULL WHERE id = 1; END",
            ),
            (
                "remove",
                "remove AFTER UPDATE ON patients BEGIN DELETE FROM patients WHERE id = new.id; END",
            ),
        ] {
            let fixture = SqliteFixture::new(journal).await;
            fixture.execute(&format!("CREATE TRIGGER {trigger}")).await;
            assert_taken_back(&fixture, Triggers::Fire, by).await;
        }
    }
}

/// Rows of another batch, and of another protected table: nobody looks at them, so none may be changed.
async fn assert_others_are_left_alone(fixture: &impl Fixture, triggers: &[(&str, &str, bool)]) {
    ten(fixture).await;
    let bytes = fixture.bytes();
    let visits = format!(
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, finding {bytes}); \
        CREATE TABLE journal (id INTEGER PRIMARY KEY, n INT)"
    );
    for sql in visits.split("; ") {
        fixture.execute(sql).await;
    }
    fixture.execute("INSERT INTO visits (id) VALUES (1)").await;
    fixture
        .execute("INSERT INTO journal (id, n) VALUES (1, 0)")
        .await;
    for &(make, drop, is_refused) in triggers {
        for sql in make.split("; --") {
            fixture.execute(sql).await;
        }
        let before = fixture.patients().await;
        let (query, updates) = moves(fixture.source()).await;
        let first = &updates[..3];
        let target = WriteTarget {
            protected_tables: vec!["visits".to_owned(), "patients".to_owned()],
            ..target(&query)
        };
        let deadline = in_a_minute(fixture.source()).await;
        let written = fixture.source().write(&target, first, deadline).await;
        if is_refused {
            let error = written.unwrap_err();
            let named =
                matches!(&error, SourceError::ChangesOthers { by, .. } if by.contains("meddles"));
            assert!(named && error.is_of_every_row(), "{make}: {error}");
            // What nobody counted is not told as a number.
            for (what, said) in [
                ("TRUNCATE", "emptied visits"),
                ("DROP TABLE", "dropped visits"),
            ] {
                assert!(
                    !make.contains(what) || error.to_string().contains(said),
                    "{error}"
                );
            }
            assert_eq!(fixture.patients().await, before, "{make}");
        } else {
            assert_eq!(written.unwrap(), [WriteOutcome::Written; 3], "{make}");
        }
        fixture.execute(drop).await;
    }
}

#[tokio::test]
async fn a_trigger_that_changes_other_rows_of_protected_tables_is_taken_back() {
    let make = |what: &str| {
        format!(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            IF pg_trigger_depth() = 1 THEN {what}; END IF; RETURN NULL; END $$; --\
         CREATE TRIGGER meddles AFTER UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION meddle()"
        )
    };
    let [other_row, other_table, emptied, dropped, elsewhere, journal] = [
        "UPDATE public.patients SET notes = 'gone' WHERE id = 9",
        "DELETE FROM public.visits WHERE id = 1",
        "TRUNCATE public.visits",
        "DROP TABLE IF EXISTS public.visits",
        // Behind it, names are written in another way than before.
        "PERFORM set_config('search_path', 'pg_catalog', true); DELETE FROM public.visits WHERE id = 1",
        "UPDATE public.journal SET n = n + 1",
    ]
    .map(make);
    let drop = "DROP FUNCTION meddle CASCADE";
    let fixture = PostgresFixture::new().await;
    assert_others_are_left_alone(
        &fixture,
        &[
            (&other_row, drop, true),
            (&other_table, drop, true),
            (&emptied, drop, true),
            (&dropped, drop, true),
            (&elsewhere, drop, true),
            (&journal, drop, false),
        ],
    )
    .await;
    for journal_mode in ["wal", "delete"] {
        // Another connection may still know a trigger that this one has dropped.
        let make = |(at, what): (u8, &str)| {
            format!(
                "CREATE TRIGGER meddles{at} AFTER UPDATE ON patients WHEN new.id <> 9 BEGIN {what}; END"
            )
        };
        let refused = [
            "UPDATE patients SET notes = 'gone' WHERE id = 9",
            "UPDATE visits SET finding = x'07' WHERE id = 1",
            // Of these nobody is told.
            "INSERT OR REPLACE INTO visits (id, finding) VALUES (1, x'07')",
            "INSERT OR REPLACE INTO patients (id, name, notes, updated_at) VALUES (9, 'x', 'gone', 0)",
            "DELETE FROM visits",
        ];
        let allowed = [
            "UPDATE journal SET n = n + 1",
            "INSERT OR REPLACE INTO marks VALUES (new.id, 1)",
            "INSERT INTO visits (finding) VALUES (x'07')",
        ];
        let fixture = SqliteFixture::new(journal_mode).await;
        let marks = "CREATE TABLE marks (id INTEGER PRIMARY KEY, n INT) WITHOUT ROWID";
        fixture.execute(marks).await;
        let all = refused.map(|what| (what, true)).into_iter();
        let all = all.chain(allowed.map(|what| (what, false)));
        let all = (0..).zip(all).map(|(at, (what, is_refused))| {
            (
                make((at, what)),
                format!("DROP TRIGGER meddles{at}"),
                is_refused,
            )
        });
        let all: Vec<_> = all.collect();
        let all = all
            .iter()
            .map(|(make, drop, is_refused)| (&**make, &**drop, *is_refused));
        assert_others_are_left_alone(&fixture, &all.collect::<Vec<_>>()).await;
    }
}

/// Another column of the same row, under whatever keyring: nobody reads it again in this rotation.
async fn assert_the_row_is_left_alone(fixture: &impl Fixture, make: &str, drop: &str) {
    ten(fixture).await;
    fixture.execute(make).await;
    let before = fixture.patients().await;
    let write = async |protected: &[&str], binds: &[&str]| {
        let (query, updates) = moves(fixture.source()).await;
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let target = WriteTarget {
            protected_columns: named(protected),
            bind_columns: named(binds),
            ..target(&query)
        };
        let deadline = in_a_minute(fixture.source()).await;
        fixture.source().write(&target, &updates, deadline).await
    };
    let all = ["notes", "ssn"];
    // Another protected column, and a column that its values are bound to.
    for (protected, binds) in [(&all[..], &["id"][..]), (&["notes"], &["id", "ssn"])] {
        let written = write(protected, binds).await;
        let by_whom = |by: &str| by.contains("beside");
        assert!(
            matches!(&written, Err(SourceError::Rewritten { by, .. }) if by_whom(by)),
            "{make}: {written:?}"
        );
        assert_eq!(fixture.patients().await, before, "{make}");
    }
    fixture.execute(drop).await;
    let written = write(&all, &["id"]).await;
    assert_eq!(written.unwrap(), [WriteOutcome::Written; 10], "{make}");
}

#[tokio::test]
async fn a_trigger_that_changes_a_protected_column_beside_the_one_that_is_moved_is_taken_back() {
    let function = "CREATE FUNCTION beside() RETURNS trigger LANGUAGE plpgsql AS";
    let trigger = "UPDATE OF notes ON patients FOR EACH ROW EXECUTE FUNCTION beside()";
    let drop = "DROP FUNCTION beside CASCADE";
    for make in [
        format!(
            "{function} $$ BEGIN new.ssn := NULL; RETURN new; END $$; CREATE TRIGGER beside BEFORE {trigger}"
        ),
        format!(
            "{function} $$ BEGIN IF pg_trigger_depth() = 1 THEN UPDATE public.patients SET ssn = NULL WHERE id = new.id; END IF; RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER beside AFTER {}",
            trigger.replace("FOR EACH", "DEFERRABLE INITIALLY DEFERRED FOR EACH")
        ),
    ] {
        let fixture = PostgresFixture::new().await;
        assert_the_row_is_left_alone(&fixture, &make, drop).await;
    }
    for journal in ["delete", "wal"] {
        let fixture = SqliteFixture::new(journal).await;
        let make = "CREATE TRIGGER beside AFTER UPDATE OF notes ON patients BEGIN \
            UPDATE patients SET ssn = NULL WHERE id = new.id; END";
        assert_the_row_is_left_alone(&fixture, make, "DROP TRIGGER beside").await;
    }
}

/// Of what has another name now nobody knows whether it was changed.
async fn assert_nothing_is_written_beside_what_is_not_found(fixture: &impl Fixture, trigger: &str) {
    ten(fixture).await;
    let write = async |tables: &[&str], columns: &[&str]| {
        let (query, updates) = moves(fixture.source()).await;
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let target = WriteTarget {
            protected_tables: named(tables),
            protected_columns: named(columns),
            other_columns: named(&["elsewhere"]),
            ..target(&query)
        };
        let deadline = in_a_minute(fixture.source()).await;
        fixture
            .source()
            .write(&target, &updates[..1], deadline)
            .await
    };
    for sql in trigger.split("; --") {
        fixture.execute(sql).await;
    }
    let table = write(&["patients", "gone"], &["notes"]).await;
    assert!(
        matches!(table, Err(SourceError::NoSuchTable { .. })),
        "{table:?}"
    );
    let column = write(&["patients"], &["notes", "gone"]).await;
    assert!(
        matches!(column, Err(SourceError::NoSuchColumn { .. })),
        "{column:?}"
    );
    let found = write(&["patients"], &["notes"]).await;
    assert_eq!(found.unwrap(), [WriteOutcome::Written]);
}

#[tokio::test]
async fn where_something_fires_all_that_is_protected_is_found_or_nothing_is_written() {
    let function = "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$; --\
        CREATE TRIGGER quiet BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION quiet()";
    let fixture = PostgresFixture::new().await;
    assert_nothing_is_written_beside_what_is_not_found(&fixture, function).await;
    let fixture = SqliteFixture::new("wal").await;
    let trigger = "CREATE TRIGGER quiet AFTER UPDATE ON patients BEGIN SELECT 1; END";
    assert_nothing_is_written_beside_what_is_not_found(&fixture, trigger).await;
}

/// A column that is dropped and made again counts no row, and keeps the file.
#[tokio::test]
async fn a_trigger_that_drops_a_column_of_a_protected_table_is_taken_back() {
    for what in [
        "ALTER TABLE public.visits DROP COLUMN finding; \
         ALTER TABLE public.visits ADD COLUMN finding bytea",
        "DROP TABLE IF EXISTS public.visits",
    ] {
        // Our role could not, as a rule: the function runs as the owner.
        let make = format!(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN {what}; RETURN NULL; END $$; --\
             CREATE TRIGGER meddles AFTER UPDATE ON patients FOR EACH STATEMENT EXECUTE FUNCTION meddle()"
        );
        let fixture = PostgresFixture::new().await;
        let drop = "DROP FUNCTION meddle CASCADE";
        assert_others_are_left_alone(&fixture, &[(&make, drop, true)]).await;
    }
}

/// The value is what was written, and opens at its place no more.
#[tokio::test]
async fn a_trigger_of_sqlite_that_changes_what_a_value_is_bound_to_is_taken_back() {
    let fixture = SqliteFixture::new("wal").await;
    fixture
        .execute(
            "CREATE TRIGGER renames AFTER UPDATE OF notes ON patients WHEN new.id = 7 BEGIN \
             UPDATE patients SET name = 'another' WHERE id = 7; END",
        )
        .await;
    let (query, updates) = ten(&fixture).await;
    let before = fixture.patients().await;
    let target = WriteTarget {
        bind_columns: vec!["name".to_owned()],
        ..target(&query)
    };
    let deadline = in_a_minute(fixture.source()).await;
    let written = fixture.source().write(&target, &updates, deadline).await;
    assert!(
        matches!(&written, Err(SourceError::Rewritten { by, .. }) if by.contains("renames")),
        "{written:?}"
    );
    assert_eq!(fixture.patients().await, before);
}

/// What its statements say of conflicts is theirs to say.
#[tokio::test]
async fn a_trigger_of_sqlite_that_replaces_rows_of_a_journal_is_left_to_it() {
    for (conflict, column) in [("REPLACE", ""), ("IGNORE", ""), ("REPLACE", "UNIQUE")] {
        let fixture = SqliteFixture::new("wal").await;
        ten(&fixture).await;
        let index = format!("CREATE {column} INDEX by_name ON patients (id, name)");
        let journal = "CREATE TABLE touched (id INTEGER PRIMARY KEY, n INT)";
        let trigger = format!(
            "CREATE TRIGGER touches AFTER UPDATE ON patients BEGIN \
             INSERT OR {conflict} INTO touched (id, n) VALUES (new.id, 1); END"
        );
        let there = "INSERT INTO touched (id, n) SELECT id, 0 FROM patients";
        for sql in [&index, journal, &trigger, there] {
            fixture.execute(sql).await;
        }
        let (query, updates) = moves(fixture.source()).await;
        let written = write(fixture.source(), &query, &updates, Triggers::Fire).await;
        assert_eq!(written.unwrap(), [WriteOutcome::Written; 10], "{conflict}");
    }
}

/// The server says what failed, and not whose statement it was.
#[tokio::test]
async fn what_fires_is_named_where_an_update_fails_with_it() {
    for (by, code, made) in [
        (
            "trigger empties",
            "55006",
            "CREATE FUNCTION empties() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN TRUNCATE patients; RETURN NULL; END $$; \
             CREATE TRIGGER empties AFTER UPDATE ON patients FOR EACH STATEMENT EXECUTE FUNCTION empties()",
        ),
        (
            "trigger unknown",
            "42883",
            "CREATE FUNCTION unknown() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM there_is_none(new.id); RETURN new; END $$; \
             CREATE TRIGGER unknown BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION unknown()",
        ),
        (
            "rule nothing",
            "0A000",
            "CREATE RULE nothing AS ON UPDATE TO patients DO INSTEAD NOTHING",
        ),
        (
            "rule partly",
            "0A000",
            "CREATE RULE partly AS ON UPDATE TO patients WHERE old.id = 7 DO INSTEAD NOTHING",
        ),
    ] {
        let fixture = PostgresFixture::new().await;
        let (query, updates) = ten(&fixture).await;
        fixture.execute(made).await;
        let before = fixture.patients().await;
        let written = write(fixture.source(), &query, &updates, Triggers::Fire).await;
        let error = written.unwrap_err();
        assert!(
            matches!(&error, SourceError::FailsWith { by: found, reason, .. } if found == by && reason.contains(code)),
            "{by}: {error}"
        );
        assert!(error.is_of_every_row() && !error.to_string().contains("conditional"));
        assert_eq!(fixture.patients().await, before, "{by}");
    }
}

#[tokio::test]
async fn what_fires_is_named_where_an_update_of_sqlite_fails_with_it() {
    for journal in ["delete", "wal"] {
        let fixture = SqliteFixture::new(journal).await;
        ten(&fixture).await;
        let trigger = "CREATE TRIGGER notes_it AFTER UPDATE ON patients BEGIN \
                       INSERT INTO there_is_none VALUES (new.id); END";
        fixture.execute(trigger).await;
        let (query, updates) = moves(fixture.source()).await;
        let before = fixture.patients().await;
        let written = write(fixture.source(), &query, &updates, Triggers::Fire).await;
        let error = written.unwrap_err();
        assert!(
            matches!(&error, SourceError::FailsWith { by, .. } if by == "trigger notes_it"),
            "{error}"
        );
        assert!(error.is_of_every_row() && !error.to_string().contains("suppress"));
        assert_eq!(fixture.patients().await, before);
    }
}

/// It may give codes that the server gives when it is in trouble.
#[tokio::test]
async fn what_a_trigger_raises_is_its_refusal_whatever_code_it_gives() {
    for code in ["58030", "53100", "25006", "42501", "57P01", "XX001"] {
        let fixture = PostgresFixture::new().await;
        let (query, updates) = ten(&fixture).await;
        let make = format!(
            "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$; \
             CREATE TRIGGER refuses BEFORE UPDATE ON patients FOR EACH ROW WHEN (old.id = 7) EXECUTE FUNCTION refuses()"
        );
        fixture.execute(&make).await;
        let written = write(fixture.source(), &query, &updates, Triggers::Fire).await;
        assert!(
            matches!(&written, Err(SourceError::Refused { rule, .. }) if rule.contains("refuses")),
            "{code}: {written:?}"
        );
    }
}

#[tokio::test]
async fn rows_that_a_trigger_of_sqlite_keeps_back_are_told_from_lost_ones() {
    for journal in ["delete", "wal"] {
        let fixture = SqliteFixture::new(journal).await;
        ten(&fixture).await;
        let trigger = "CREATE TRIGGER skip BEFORE UPDATE ON patients WHEN old.id % 5 = 0 BEGIN \
                       SELECT RAISE(IGNORE); END";
        fixture.execute(trigger).await;
        assert_some_withheld(&fixture).await;
    }
}
