//! The audit log: whole after a rotation, its own rotation too, and what tells of tampering.

use rekey_domain::{KeyringName, RotationState};
use rekey_operations::verify_audit;

use rekey_tests::support::{Deployment, Engine, operator, phi};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rotation_the_audit_log_is_whole_and_tampering_is_told() {
    let clinic = Deployment::of(60).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    clinic.has_a_new_standby().await;
    engine.stop().await;
    clinic.services.client.flush().await.unwrap();
    let entries = clinic.count("SELECT max(sequence) FROM audit_entry").await;
    assert!(entries > 8);
    assert_eq!(problems(&clinic).await, Vec::<String>::new());

    for (tampering, expected) in [
        (
            "UPDATE audit_entry SET outcome = 'undone' WHERE sequence = 3",
            "entry 3 was changed",
        ),
        (
            "UPDATE audit_entry SET principal = 'os:eve@clinic' WHERE sequence = 3",
            "entry 3 was changed",
        ),
        (
            "UPDATE audit_entry SET previous_hash = randomblob(32) WHERE sequence = 4",
            "entry 4 does not continue",
        ),
        (
            "DELETE FROM audit_entry WHERE sequence = 2",
            "entries are missing",
        ),
        (
            "DELETE FROM audit_entry WHERE sequence = (SELECT max(sequence) FROM audit_entry)",
            "the log ends at",
        ),
        (
            "DELETE FROM audit_detail WHERE sequence = 5",
            "entry 5 has lost its details",
        ),
        (
            "UPDATE audit_detail SET details = (SELECT details FROM audit_detail d WHERE d.sequence = 6) WHERE sequence = 5",
            "the details of entry 5 were changed",
        ),
        (
            "UPDATE audit_detail SET details = x'00' WHERE sequence = 5",
            "entry 5 are not ciphertext",
        ),
    ] {
        let backup = clinic.disks.state("backup.db");
        let keep = format!("VACUUM INTO '{}'", backup.display());
        sqlx::raw_sql(sqlx::AssertSqlSafe(keep))
            .execute(&clinic.store)
            .await
            .unwrap();
        assert_eq!(clinic.in_store(tampering).await, 1, "{tampering}");
        let found = problems(&clinic).await;
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{expected}: {found:?}"
        );
        let restore = format!(
            "ATTACH '{}' AS backup; DELETE FROM audit_entry; DELETE FROM audit_detail;
             INSERT INTO audit_entry SELECT * FROM backup.audit_entry;
             INSERT INTO audit_detail SELECT * FROM backup.audit_detail; DETACH backup",
            backup.display()
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(restore))
            .execute(&clinic.store)
            .await
            .unwrap();
        std::fs::remove_file(backup).unwrap();
        assert_eq!(problems(&clinic).await, Vec::<String>::new());
    }
}

async fn problems(clinic: &Deployment) -> Vec<String> {
    let verdict = verify_audit(&clinic.services, &operator()).await;
    verdict.unwrap().problems
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotating_the_audit_keyring_re_encrypts_details_and_leaves_the_chain_as_it_was() {
    let clinic = Deployment::of(0).await;
    let audit: KeyringName = "audit".parse().unwrap();
    let engine = Engine::start(&clinic.services);
    let hashes = "SELECT hex(hash) FROM audit_entry ORDER BY sequence";
    let before: Vec<String> = sqlx::query_scalar(hashes)
        .fetch_all(&clinic.store)
        .await
        .unwrap();
    clinic.rotate(&audit).await;
    let view = clinic.reaches(&audit, RotationState::Completed).await;
    engine.stop().await;

    let after: Vec<String> = sqlx::query_scalar(hashes)
        .fetch_all(&clinic.store)
        .await
        .unwrap();
    assert_eq!(after[..before.len()], before);
    assert!(after.len() > before.len() && view.moved >= before.len() as u64);
    assert_eq!(problems(&clinic).await, Vec::<String>::new());
    let old = clinic.key_id(&audit, 1).await;
    let left =
        sqlx::query_scalar("SELECT count(*) FROM audit_detail WHERE substr(details, 2, 4) = ?");
    let left: i64 = left
        .bind(old.value().to_be_bytes().to_vec())
        .fetch_one(&clinic.store)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
