//! Columns of one table apart from each other, many of them, and tables without a row.

use std::collections::BTreeMap;

use rekey_domain::{Bind, BindValue};
use rekey_operations::ColumnConfig;
use rekey_tests::support::Engine;

use super::clinic::{Clinic, Kind, column, keyring, listed, table};

const PATIENTS: &str = "CREATE TABLE patients (n INT NOT NULL, id INT PRIMARY KEY, uuid TEXT NOT NULL, \
     a BYTEA, b TEXT, c BYTEA, d TEXT, e BYTEA, f TEXT, g BYTEA, h TEXT, i BYTEA NOT NULL, j TEXT NOT NULL, \
     touched TEXT DEFAULT CURRENT_TIMESTAMP);";

/// Ten columns, bound in every way.
fn ten() -> Vec<ColumnConfig> {
    let binds = [
        Bind::Row,
        Bind::Column,
        listed(&["uuid"]),
        listed(&["uuid", "id"]),
    ];
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let columns = names.into_iter().zip(binds.into_iter().cycle());
    columns.map(|(name, bind)| column(name, bind)).collect()
}

async fn of(kind: Kind, columns: Vec<ColumnConfig>, rows: i64) -> Clinic {
    let mut clinic = Clinic::on(kind, PATIENTS).await;
    clinic
        .protect(vec![table("patients", "patients", columns)])
        .await;
    let values = |n: i64| {
        let uuid = format!("00000000-0000-7000-8000-{n:012}");
        vec![
            ("id", BindValue::Integer(-n)),
            ("uuid", uuid.as_str().into()),
        ]
    };
    clinic.fill("patients", 1..=rows, values).await;
    clinic
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_columns_of_a_table_move_together() {
    for kind in Kind::BOTH {
        let clinic = of(kind, ten(), 50).await;
        let view = clinic.rotates().await;
        assert_eq!(view.rows, 50, "each row is written once");
        assert_eq!(view.moved, 50 * 10 - 7 * 8, "each seventh row has NULLs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_of_one_table_move_with_their_own_keyring_alone() {
    for kind in Kind::BOTH {
        let mut columns = ten();
        for column in columns.iter_mut().step_by(3) {
            column.keyring = keyring("other");
        }
        let clinic = of(kind, columns, 40).await;
        // The columns of `other` are compared with the rest of the row.
        let view = clinic.rotates().await;
        assert_eq!(view.moved, 40 * 6 - 5 * 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_keyrings_rotate_one_table_at_once() {
    for kind in Kind::BOTH {
        let mut columns = ten();
        for column in columns.iter_mut().step_by(2) {
            column.keyring = keyring("other");
        }
        let clinic = of(kind, columns, 60).await;
        let before = clinic.dump().await;
        let engine = Engine::start(&clinic.workers);
        for keyring in ["phi", "other"] {
            clinic.ask(keyring).await;
        }
        let views = [
            clinic.completes("phi").await,
            clinic.completes("other").await,
        ];
        engine.stop().await;
        // Each column has the rows that the rotation of the other left alone.
        let after = clinic.dump().await;
        for (view, keyring) in views.iter().zip(["phi", "other"]) {
            let others = clinic.columns_of("patients").await.into_iter();
            let others = others.filter(|column| column.spec.keyring.as_str() != keyring);
            let mut before = before.clone();
            for column in others {
                let name = &column.spec.name.column;
                for (place, row) in &mut before {
                    row.insert(name.clone(), after[place][name].clone());
                }
            }
            clinic.assert_moved(keyring, &before, view).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_table_is_rotated_too() {
    let emptied = "CREATE TABLE emptied (n INT PRIMARY KEY, ssn BYTEA); \
                   INSERT INTO emptied (n) VALUES (1), (2); DELETE FROM emptied;";
    for kind in Kind::BOTH {
        let mut clinic = of(kind, ten(), 0).await;
        clinic.execute(emptied).await;
        clinic
            .protect(vec![
                table("patients", "patients", ten()),
                table("emptied", "emptied", vec![column("ssn", Bind::Row)]),
            ])
            .await;
        let view = clinic.rotates().await;
        assert_eq!((view.rows, view.moved), (0, 0));
        assert_eq!(clinic.dump().await, BTreeMap::new());
    }
}
